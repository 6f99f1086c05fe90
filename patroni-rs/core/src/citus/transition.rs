//! From the rows of a group to those that it should have.

use std::collections::VecDeque;

use super::{Group, Node, NodeRole};

/// The changes of rows that make `new` of `old`, in their order, and the group as it is then.
///
/// What Citus wants: a primary keeps its row forever, and another address is written to it; no address is in two rows,
/// so before a standby's address can go to the primary's row, its own row gets another one; rows are added and removed
/// only where all primaries answer, which in a failover they do not. So in a failover rows are not added and removed but
/// used again, and what does not fit is left for the next cycle.
///
/// A node without an `id` in the list is to be added, one whose role is [`NodeRole::Other`] removed, all others updated.
/// The task that adds one notes its number in the group.
pub fn transition(old: &Group, mut new: Group) -> (Vec<Node>, Group) {
    new.failover = old.failover;
    // Where nobody is known to lead, nothing is known of the group.
    let Some(mut primary) = new.primary().cloned() else { return (Vec::new(), new) };
    let was_primary = old.primary().cloned();
    let is_old_primary = |node: &Node| was_primary.as_ref().is_some_and(|old| old.is_at(node));
    let of_old = old.nodes.iter().filter(|node| new.at(node).is_none() && !is_old_primary(node));
    let mut gone: VecDeque<Node> = of_old.cloned().collect();
    let of_new = new.nodes.iter().filter(|node| old.at(node).is_none() && !node.is_at(&primary));
    let mut added: VecDeque<Node> = of_new.cloned().collect();
    let mut steps = Vec::new();

    match &was_primary {
        None => steps.push(primary),
        Some(same) if same.is_at(&primary) => {
            primary.id = same.id;
            new.set_id(&primary, same.id);
            // Its clients are to wait, or need to no more.
            if same.role != primary.role {
                new.failover = true;
                steps.push(primary);
            }
        }
        Some(before) => {
            new.failover = true;
            change_primary(old, &mut new, before, primary, (&mut gone, &mut added), &mut steps);
        }
    }

    for node in new.nodes.iter_mut().filter(|node| !node.is_primary() && node.id.is_none()) {
        node.id = old.at(node).filter(|own| !own.is_primary()).and_then(|own| own.id);
    }
    while let (false, false) = (gone.is_empty(), added.is_empty()) {
        let (Some(row), Some(node)) = (gone.pop_front(), added.pop_front()) else { break };
        put(&mut new, node, row.id, &mut steps);
    }
    if new.failover {
        gone.into_iter().for_each(|node| new.add(node));
        // Nobody is in the rows who is not: also a primary that went over to the standbys where no row was free.
        new.nodes.retain(|node| node.id.is_some() || node.is_primary());
    } else {
        steps.extend(gone.into_iter().map(|node| Node { role: NodeRole::Other, id: None, ..node }));
        steps.extend(added);
    }
    (steps, new)
}

/// Another node leads than the row says.
fn change_primary(
    old: &Group,
    new: &mut Group,
    before: &Node,
    primary: Node,
    (gone, added): (&mut VecDeque<Node>, &mut VecDeque<Node>),
    steps: &mut Vec<Node>,
) {
    let row_of_promoted = old.at(&primary).cloned();
    let mut returns = new.at(before).cloned();
    if let Some(row) = &row_of_promoted {
        let newcomer = if returns.is_none() { added.pop_front() } else { None };
        if let Some(newcomer) = newcomer {
            // The old primary is gone: a new standby takes the row of the one that was promoted.
            put(new, newcomer, row.id, steps);
        } else {
            if before.role == NodeRole::Primary {
                steps.push(Node { role: NodeRole::Demoted, ..before.clone() });
            }
            // One that is gone stays in the rows for now: no row can be removed.
            let back = returns.take().unwrap_or_else(|| {
                let back = Node::new(&before.host, before.port, row.role);
                new.add(back.clone());
                back
            });
            put(new, back, row.id, steps);
        }
    }
    put(new, primary, before.id, steps);
    if row_of_promoted.is_none() && !gone.is_empty() {
        // In the middle of a switchover somebody took over who had no row: one that is free becomes the old primary's.
        if returns.is_none() && before.role == NodeRole::Demoted && gone.len() > added.len() {
            let back = Node::new(&before.host, before.port, NodeRole::Secondary);
            new.add(back.clone());
            returns = Some(back);
        }
        if let Some(back) = returns {
            let row = gone.pop_front();
            put(new, back, row.and_then(|row| row.id), steps);
        }
    }
}

/// That node into that row.
fn put(new: &mut Group, node: Node, row: Option<i64>, steps: &mut Vec<Node>) {
    new.set_id(&node, row);
    steps.push(Node { id: row, ..node });
}
