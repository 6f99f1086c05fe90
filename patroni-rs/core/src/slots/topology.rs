//! Who replicates through whom, and what follows from it for slots.

use super::desired::{desired_slots, members_slots, merge_permanent, permanent_for, Node, SlotKind, Subject};
use super::names::member_slot_name;
use super::permanent::is_physical;
use crate::global_config::GlobalConfig;
use crate::ha::Role;
use crate::model::{Cluster, Member};

/// The slot on the primary through which `subject` gets its WAL: that of the
/// member at the top of its chain. `None` if somebody in the chain does not
/// stream, or the chain is a loop. `name` stands for the subject's own name.
pub fn slot_name_on_primary(cluster: &Cluster, name: &str, subject: &Subject) -> Option<String> {
    let mut seen = vec![name.to_owned()];
    let mut current = Subject { name: name.to_owned(), ..subject.clone() };
    loop {
        if current.nostream {
            return None;
        }
        let upstream = current.replicatefrom.as_deref().filter(|r| *r != current.name);
        let Some(upstream) = upstream.and_then(|r| cluster.get_member(r, false)) else {
            return Some(member_slot_name(&current.name));
        };
        if seen.contains(&upstream.name) {
            return None;
        }
        seen.push(upstream.name.clone());
        current = Subject::member(upstream);
    }
}

/// Are slots of this node worth being asked for in each cycle, apart from
/// those of the members? (The retention of member slots is another reason.)
pub fn has_permanent_slots(cluster: &Cluster, config: &GlobalConfig, node: &Node<'_>) -> bool {
    let node = Node { role: Role::Replica, ..node.clone() };
    let subject = node.subject();
    let mut slots = members_slots(cluster, config, &node, &subject, &mut Vec::new());
    let permanent = permanent_for(cluster, config, &node, &subject);
    let members = slots.len();
    merge_permanent(cluster, &mut slots, &permanent, &node, &subject, &mut Vec::new());
    slots.len() > members || permanent.values().any(is_physical)
}

/// Must `hot_standby_feedback` be on? Yes if the node, or one that replicates
/// from it, has logical slots (18-18). Never in a standby cluster or before 11.
pub fn should_enforce_hot_standby_feedback(
    cluster: &Cluster,
    config: &GlobalConfig,
    node: &Node<'_>,
) -> bool {
    !config.is_standby_cluster()
        && node.can_advance_slots()
        && enforce_for(cluster, config, node, &node.subject())
}

fn enforce_for(cluster: &Cluster, config: &GlobalConfig, node: &Node<'_>, subject: &Subject) -> bool {
    let as_replica = Node { role: Role::Replica, ..node.clone() };
    let slots = desired_slots(cluster, config, &as_replica, subject).0;
    if slots.values().any(|s| matches!(s.kind, SlotKind::Logical { .. })) {
        return true;
    }
    // A loop, which has no slot on the primary, ends here too.
    if !config.use_slots() || slot_name_on_primary(cluster, &subject.name, subject).is_none() {
        return false;
    }
    // A member that names itself would be its own cascade without an end.
    let below = |m: &&Member| {
        let upstream = m.replicatefrom() == Some(subject.name.as_str()) && m.name != subject.name;
        upstream && Some(m.name.as_str()) != cluster.leader_name()
    };
    cluster.members.iter().filter(below).any(|m| enforce_for(cluster, config, node, &Subject::member(m)))
}
