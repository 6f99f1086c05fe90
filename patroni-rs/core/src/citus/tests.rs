#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use std::collections::BTreeMap;
use std::time::Duration;

use pyfmt::{json, Value};

use super::*;
use crate::model::{Cluster, Leader, Member};
use crate::mono::Mono;

/// `p:a=1` is the primary `a` in row 1, `d:` one that is demoted, `s:b` a standby that has no row.
fn group(text: &str) -> Group {
    let mut group = Group::new(1);
    for word in text.split_whitespace() {
        let (role, rest) = word.split_once(':').unwrap();
        let (host, id) = rest.split_once('=').map_or((rest, None), |(host, id)| (host, Some(id)));
        let role = match role {
            "p" => NodeRole::Primary,
            "d" => NodeRole::Demoted,
            "s" => NodeRole::Secondary,
            _ => NodeRole::Other,
        };
        group.add(Node { id: id.map(|id| id.parse().unwrap()), ..Node::new(host, 5432, role) });
    }
    group
}

/// As the statements do it: `1=a-demoted`, `+b secondary`, `-c`.
fn shown(steps: &[Node]) -> String {
    let step = |node: &Node| match (node.role, node.id) {
        (NodeRole::Other, _) => format!("-{}", node.host),
        (NodeRole::Demoted, Some(id)) => format!("{id}={}-demoted", node.host),
        (_, Some(id)) => format!("{id}={}", node.host),
        (role, None) => format!("+{} {}", node.host, role.as_str()),
    };
    steps.iter().map(step).collect::<Vec<_>>().join(", ")
}

fn names(group: &Group) -> String {
    let mut names: Vec<String> = group
        .nodes
        .iter()
        .map(|n| format!("{:?}:{}={}", n.role, n.host, n.id.map_or("?".into(), |id| id.to_string())))
        .collect();
    names.sort();
    names.join(" ")
}

/// What is in the table, what it should say, in a transaction that has changed the primary, and what is done.
#[test]
fn rows_change_in_an_order_that_citus_permits() {
    for (old, new, failover, steps, after) in [
        // Nothing there: the primary alone can be added, with its standbys.
        ("", "p:a", false, "+a primary", "Primary:a=?"),
        ("", "p:a s:b", false, "+a primary, +b secondary", "Primary:a=? Secondary:b=?"),
        // Nothing to be done.
        ("p:a=1 s:b=2", "p:a s:b", false, "", "Primary:a=1 Secondary:b=2"),
        // Standbys come and go; a row that is free is used again.
        ("p:a=1", "p:a s:b", false, "+b secondary", "Primary:a=1 Secondary:b=?"),
        ("p:a=1 s:b=2", "p:a", false, "-b", "Primary:a=1"),
        ("p:a=1 s:b=2", "p:a s:c", false, "2=c", "Primary:a=1 Secondary:c=2"),
        ("p:a=1 s:b=2", "p:a s:c s:d", false, "2=c, +d secondary", "Primary:a=1 Secondary:c=2 Secondary:d=?"),
        ("p:a=1 u:b=2", "p:a s:b", false, "", "Primary:a=1 Secondary:b=2"),
        // A controlled switchover: wait, then the standby's row gets the old primary's address, and the other way round.
        ("p:a=1 s:b=2", "d:a s:b", false, "1=a-demoted", "Demoted:a=1 Secondary:b=2"),
        ("d:a=1 s:b=2", "p:b s:a", true, "2=a, 1=b", "Primary:b=1 Secondary:a=2"),
        ("d:a=1 s:b=2", "p:b", true, "2=a, 1=b", "Primary:b=1 Secondary:a=2"),
        // It came to nothing, or was a restart.
        ("d:a=1 s:b=2", "p:a s:b", true, "1=a", "Primary:a=1 Secondary:b=2"),
        // A failover in one step.
        ("p:a=1 s:b=2", "p:b", false, "1=a-demoted, 2=a, 1=b", "Primary:b=1 Secondary:a=2"),
        ("p:a=1 s:b=2", "p:b s:a", false, "1=a-demoted, 2=a, 1=b", "Primary:b=1 Secondary:a=2"),
        ("p:a=1 s:b=2", "p:b s:c", false, "2=c, 1=b", "Primary:b=1 Secondary:c=2"),
        // The old primary is gone, one standby as well: nothing can be removed now.
        (
            "p:a=1 s:b=2 s:c=3",
            "p:b",
            false,
            "1=a-demoted, 2=a, 1=b",
            "Primary:b=1 Secondary:a=2 Secondary:c=3",
        ),
        ("p:a=1 s:b=2 s:c=3", "p:b s:d", false, "2=d, 1=b", "Primary:b=1 Secondary:c=3 Secondary:d=2"),
        // Somebody leads who was never there.
        ("p:a=1", "p:x", false, "1=x", "Primary:x=1"),
        ("p:a=1 s:b=2", "p:x s:b", false, "1=x", "Primary:x=1 Secondary:b=2"),
        ("p:a=1 s:b=2", "p:x s:a", false, "1=x, 2=a", "Primary:x=1 Secondary:a=2"),
        ("d:a=1 s:b=2", "p:x", true, "1=x, 2=a", "Primary:x=1 Secondary:a=2"),
        ("p:a=1 s:b=2", "p:x", false, "1=x", "Primary:x=1 Secondary:b=2"),
        ("d:a=1 s:b=2", "p:x s:c", true, "1=x, 2=c", "Primary:x=1 Secondary:c=2"),
        // No row is free for the old primary, so it is not in the group: the next cycle adds it.
        ("p:a=1", "p:x s:a", false, "1=x", "Primary:x=1"),
        // Standbys that come in a failover are left for the next cycle.
        ("d:a=1", "p:a s:b", true, "1=a", "Primary:a=1"),
        // Nobody leads: nothing is known.
        ("p:a=1 s:b=2", "s:b", false, "", "Secondary:b=?"),
    ] {
        let old = Group { failover, ..group(old) };
        let (found, now) = transition(&old, group(new));
        assert_eq!(
            (shown(&found).as_str(), names(&now).as_str()),
            (steps, after),
            "{} -> {new}",
            names(&old)
        );
    }
}

/// No address is ever in two rows, and the primary keeps its row, whatever comes.
#[test]
fn what_the_statements_leave_is_what_is_believed() {
    let hosts = ["a", "b", "c", "d"];
    let mut seed = 7u64;
    let mut dice = |n: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % n
    };
    let mut table: BTreeMap<i64, (String, &str)> = BTreeMap::new();
    let (mut known, mut next, mut flying) = (Group::new(1), 1, false);
    for round in 0..3000 {
        let leader = hosts[dice(4)];
        let demoted = known.primary().is_some() && dice(3) == 0;
        let leader = if demoted { known.primary().unwrap().host.clone() } else { leader.to_owned() };
        let mut new = group(&format!("{}:{leader}", if demoted { "d" } else { "p" }));
        for host in hosts.iter().filter(|h| **h != leader) {
            if dice(2) == 0 {
                new.add(Node::new(host, 5432, NodeRole::Secondary));
            }
        }
        let (steps, mut after) = transition(&known, new);
        for step in &steps {
            let name = if step.role == NodeRole::Demoted {
                format!("{}-demoted", step.host)
            } else {
                step.host.clone()
            };
            match (step.role, step.id) {
                (NodeRole::Other, _) => {
                    assert!(!flying, "round {round}: removes in a failover");
                    table.retain(|_, (host, _)| *host != name);
                }
                (role, None) => {
                    assert!(!flying || table.is_empty(), "round {round}: adds in a failover");
                    table.insert(next, (name.clone(), role.as_str()));
                    after.set_id(step, Some(next));
                    next += 1;
                }
                (_, Some(id)) => table.get_mut(&id).unwrap().0 = name.clone(),
            }
            let same = table.values().filter(|(host, _)| *host == name).count();
            assert!(same <= 1, "round {round}: {name} is in {same} rows: {table:?}");
        }
        flying = demoted;
        after.failover = after.failover && flying;
        known = after;
        let mut believed: Vec<(i64, String, &str)> = known
            .nodes
            .iter()
            .map(|n| {
                let suffix = if n.role == NodeRole::Demoted { "-demoted" } else { "" };
                (n.id.unwrap(), format!("{}{suffix}", n.host), n.role.as_str())
            })
            .collect();
        believed.sort();
        let there: Vec<_> = table.iter().map(|(id, (host, role))| (*id, host.clone(), *role)).collect();
        assert_eq!(believed, there, "round {round}: {}", shown(&steps));
    }
}

fn task(number: i64, nodes: &str, kind: EventKind, timeout: Option<u64>) -> Task {
    let group = Group { number, ..group(nodes) };
    match timeout {
        None => Task::found(group, kind),
        Some(seconds) => Task::told(group, kind, Duration::from_secs(seconds), None),
    }
}

fn said(next: &Next) -> String {
    match next {
        Next::Wait(None) => "wait".into(),
        Next::Wait(Some(at)) => format!("wait until {}", at.since_start().as_secs()),
        Next::Load => "load".into(),
        Next::RollBack => "rollback".into(),
        Next::Work(work) => {
            let (begin, commit) =
                (if work.begin { "BEGIN " } else { "" }, if work.commit { " COMMIT" } else { "" });
            format!("{}: {begin}[{}]{commit}", work.after.number, shown(&work.steps))
        }
    }
}

/// A leader that has read a table with three groups.
fn leading() -> Coordinator {
    let mut coordinator = Coordinator::default();
    coordinator.sync(Vec::new(), Mono::ZERO);
    let rows = [(0, "p:c=1"), (1, "p:a=2 s:b=3"), (2, "p:x=4 s:y=5")];
    coordinator.loaded(rows.map(|(number, rows)| (number, Group { number, ..group(rows) })).into());
    coordinator
}

fn done(coordinator: &mut Coordinator, now: u64) -> String {
    let next = coordinator.next(Mono::seconds(now));
    let text = said(&next);
    match next {
        Next::Work(work) => assert!(coordinator.worked(work)),
        Next::RollBack => coordinator.rolled_back(),
        Next::Load | Next::Wait(_) => {}
    }
    text
}

use EventKind::{AfterPromote, BeforeDemote, BeforePromote};

#[test]
fn nothing_is_done_before_a_cycle_of_the_leader() {
    let mut coordinator = Coordinator::default();
    assert_eq!(said(&coordinator.next(Mono::ZERO)), "wait");
    coordinator.sync(vec![task(0, "p:c", AfterPromote, None)], Mono::ZERO);
    assert_eq!(said(&coordinator.next(Mono::ZERO)), "load");
    coordinator.failed(None, Mono::seconds(5));
    assert_eq!(said(&coordinator.next(Mono::seconds(5))), "wait until 6");
    assert_eq!(said(&coordinator.next(Mono::seconds(6))), "load");
    coordinator.loaded(BTreeMap::new());
    assert_eq!(done(&mut coordinator, 6), "0: [+c primary]");
}

/// A switchover of a worker, as the reference's coordinator was recorded.
#[test]
fn a_switchover_is_one_transaction() {
    let mut c = leading();
    let ticket = c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::seconds(0)).unwrap();
    assert_eq!(done(&mut c, 0), "1: BEGIN [2=a-demoted]");
    assert_eq!(c.take_served(), [ticket]);
    // The keys still say what was before: a cycle does not end the transaction.
    assert_eq!(c.add(task(1, "p:a s:b", AfterPromote, None), Mono::seconds(1)), None);
    assert_eq!(done(&mut c, 1), "wait");
    c.add(task(1, "p:b", BeforePromote, Some(30)), Mono::seconds(2));
    assert_eq!(done(&mut c, 2), "1: [3=a, 2=b]");
    c.add(task(1, "p:b", AfterPromote, Some(30)), Mono::seconds(3));
    assert_eq!(done(&mut c, 3), "1: [] COMMIT");
    assert_eq!(done(&mut c, 3), "wait");
    c.add(task(1, "p:b s:a", AfterPromote, None), Mono::seconds(4));
    assert_eq!(done(&mut c, 4), "wait");
}

#[test]
fn the_group_in_flight_goes_first_then_the_coordinator_then_the_oldest() {
    let mut c = leading();
    c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    assert_eq!(done(&mut c, 0), "1: BEGIN [2=a-demoted]");
    c.add(task(2, "p:y s:x", AfterPromote, None), Mono::seconds(1));
    c.add(task(0, "p:d", AfterPromote, None), Mono::seconds(1));
    assert_eq!(done(&mut c, 1), "wait until 30");
    c.add(task(1, "p:a s:b", AfterPromote, Some(30)), Mono::seconds(2));
    assert_eq!(done(&mut c, 2), "1: [2=a] COMMIT");
    assert_eq!(done(&mut c, 2), "0: [1=d]");
    assert_eq!(done(&mut c, 2), "2: BEGIN [4=x-demoted, 5=x, 4=y] COMMIT");
    assert_eq!(done(&mut c, 2), "wait");
}

/// It is kept forever while nobody else waits, and given up at its deadline where somebody does.
#[test]
fn a_transaction_is_rolled_back_only_for_others() {
    let mut c = leading();
    c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    done(&mut c, 0);
    assert_eq!(done(&mut c, 100), "wait");
    c.add(task(2, "d:x s:y", BeforeDemote, Some(30)), Mono::seconds(100));
    assert_eq!(done(&mut c, 100), "rollback");
    assert_eq!(done(&mut c, 100), "2: BEGIN [4=x-demoted]");
    // What was rolled back is known as it was.
    c.add(task(2, "p:x s:y", AfterPromote, Some(30)), Mono::seconds(101));
    done(&mut c, 101);
    c.add(task(1, "p:a s:b", AfterPromote, None), Mono::seconds(102));
    assert_eq!(done(&mut c, 102), "wait");
}

/// A cycle that finds the group running again after the deadline ends the transaction, although nobody told.
#[test]
fn a_cycle_may_end_it_after_its_deadline() {
    let mut c = leading();
    c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    done(&mut c, 0);
    assert_eq!(c.add(task(1, "p:a s:b", AfterPromote, None), Mono::seconds(29)), None);
    assert!(c.add(task(1, "p:a s:b", AfterPromote, None), Mono::seconds(30)).is_some());
    assert_eq!(done(&mut c, 30), "1: [2=a] COMMIT");
}

#[test]
fn what_a_worker_told_is_not_replaced_by_what_a_cycle_finds() {
    let mut c = leading();
    let told = c.add(task(1, "p:b", BeforePromote, Some(30)), Mono::ZERO).unwrap();
    assert_eq!(c.add(task(1, "p:a s:b", AfterPromote, None), Mono::ZERO), None);
    // The same once more is the same; another one takes its place, and whoever waits for the first hears of it.
    assert_eq!(c.add(task(1, "p:b", BeforePromote, Some(30)), Mono::ZERO), Some(told));
    let newer = c.add(task(1, "p:b", AfterPromote, Some(30)), Mono::ZERO).unwrap();
    assert_eq!((c.take_served(), newer != told), (vec![told], true));
    assert_eq!(done(&mut c, 0), "1: BEGIN [2=a-demoted, 3=a, 2=b] COMMIT");
}

#[test]
fn after_a_failure_the_table_is_read_again() {
    let mut c = leading();
    let ticket = c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO).unwrap();
    let Next::Work(work) = c.next(Mono::ZERO) else { unreachable!() };
    c.failed(Some(&work), Mono::ZERO);
    assert_eq!(c.take_served(), [ticket]);
    assert_eq!(done(&mut c, 0), "load");
}

#[test]
fn who_stands_down_forgets_all() {
    let mut c = leading();
    c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    done(&mut c, 0);
    let waiting = c.add(task(2, "d:x s:y", BeforeDemote, Some(30)), Mono::ZERO).unwrap();
    c.take_served();
    assert!(c.stand_down());
    assert_eq!(c.take_served(), [waiting]);
    assert_eq!(done(&mut c, 1), "wait");
    // Statements that were under way then are nobody's.
    let mut late = leading();
    late.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    let Next::Work(work) = late.next(Mono::ZERO) else { unreachable!() };
    assert!(!late.stand_down());
    assert!(!late.worked(work));
    // A promotion elsewhere in between: what is in the table now is not known.
    let mut c = leading();
    c.add(task(1, "d:a s:b", BeforeDemote, Some(30)), Mono::ZERO);
    done(&mut c, 0);
    c.forget();
    assert_eq!(done(&mut c, 1), "rollback");
    assert_eq!(done(&mut c, 1), "load");
}

fn member(name: &str, role: &str, state: &str, tags: &str) -> Member {
    let port = 5000 + u32::from(name.as_bytes()[0]);
    let text = format!(
        r#"{{"conn_url":"postgres://H{name}:{port}/postgres","role":"{role}","state":"{state}","tags":{tags}}}"#
    );
    Member { name: name.into(), data: json::loads(&text).unwrap(), ..Member::default() }
}

fn cluster(leader: &str, members: Vec<Member>) -> Cluster {
    let found = members.iter().find(|m| m.name == leader).cloned();
    let leader = found.map(|member| Leader { member, ..Leader::default() });
    Cluster { leader, members, ..Cluster::default() }
}

fn groups() -> BTreeMap<i64, Cluster> {
    let m = member;
    BTreeMap::from([
        (0, cluster("c", vec![m("c", "primary", "running", "{}"), m("d", "replica", "running", "{}")])),
        (1, cluster("a", vec![m("a", "primary", "running", "{}"), m("b", "replica", "starting", "{}")])),
        (
            2,
            cluster(
                "x",
                vec![
                    m("x", "master", "running", "{}"),
                    m("y", "replica", "running", r#"{"noloadbalance":true}"#),
                ],
            ),
        ),
        (3, cluster("s", vec![m("s", "standby_leader", "running", "{}")])),
        (4, cluster("t", vec![m("t", "primary", "stopped", "{}")])),
        (5, cluster("", vec![m("u", "replica", "running", "{}")])),
    ])
}

#[test]
fn cycles_want_what_runs() {
    let all = wanted(&groups(), "c", "postgres://me:1/x");
    let shown: Vec<String> =
        all.iter().map(|t| format!("{} {}", t.group.number, names(&t.group).replace("=?", ""))).collect();
    assert_eq!(shown, ["0 Primary:me Secondary:hd", "1 Primary:ha", "2 Primary:hx"]);
    assert!(wanted(&BTreeMap::new(), "c", "postgres://me:1/x").is_empty());
}

#[test]
fn events_are_believed_where_the_dcs_agrees() {
    let body = |kind: &str, group: &str, leader: &str| {
        let text =
            format!(r#"{{"type":"{kind}","group":{group},"leader":"{leader}","timeout":30,"cooldown":10}}"#);
        Event::of(&json::loads(&text).unwrap()).unwrap()
    };
    for (kind, group, leader, expected) in [
        ("before_demote", "1", "a", Some("Demoted:ha")),
        ("after_promote", "1", "a", Some("Primary:ha")),
        ("before_promote", "1", "b", None),
        ("after_promote", "0", "c", None),
        ("after_promote", "9", "a", None),
        ("anything", "1", "a", None),
        ("after_promote", "\"1\"", "a", None),
    ] {
        let task = body(kind, group, leader).and_then(|event| event.task(&groups()));
        let found = task.as_ref().map(|t| names(&t.group).replace("=?", ""));
        assert_eq!(found.as_deref(), expected, "{kind} {group} {leader}");
        if let Some(task) = task {
            assert_eq!(
                (task.timeout, task.cooldown),
                (Some(Duration::from_secs(30)), Duration::from_secs(10))
            );
        }
    }
    assert_eq!(Event::of(&Value::map()), Err("KeyError: 'group'".into()));
    let event = body("before_demote", "1", "a").unwrap();
    assert_eq!(
        json::dumps(&event.body()),
        r#"{"type": "before_demote", "group": 1, "leader": "a", "timeout": 30, "cooldown": 10}"#
    );
}

#[test]
fn sections() {
    let of = |text: &str| Section::of(&json::loads(text).unwrap()).map(|s| (s.group, s.is_coordinator()));
    for (text, expected) in [
        (r#"{"citus":{"database":"d","group":0}}"#, Some((0, true))),
        (r#"{"citus":{"database":"d","group":2}}"#, Some((2, false))),
        (r#"{"citus":{"database":"d","group":true}}"#, Some((1, false))),
        (r#"{"citus":{"database":1,"group":2}}"#, None),
        (r#"{"citus":{"group":2}}"#, None),
        (r#"{"citus":{"database":"d"}}"#, None),
        (r#"{"citus":null}"#, None),
        ("{}", None),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn slots_of_citus() {
    for (name, database, plugin, expected) in [
        ("citus_shard_move_slot_1_20", Some("db"), "pgoutput", true),
        ("citus_shard_move_slot_1_20_3", Some("db"), "pgoutput", true),
        ("citus_shard_split_slot_1_20_3", Some("db"), "citus", true),
        ("citus_shard_split_slot_1_20_3", Some("db"), "pgoutput", false),
        ("citus_shard_move_slot_1_20", Some("other"), "pgoutput", false),
        ("citus_shard_move_slot_1_20", None, "pgoutput", false),
        ("citus_shard_move_slot_1", Some("db"), "pgoutput", false),
        ("citus_shard_move_slot_1_2_3_4", Some("db"), "pgoutput", false),
        ("citus_shard_move_slot_01_2", Some("db"), "pgoutput", false),
        ("citus_shard_move_slot_1_2_", Some("db"), "pgoutput", false),
        ("citus_shard_move_slot1_2", Some("db"), "pgoutput", false),
        ("other", Some("db"), "pgoutput", false),
    ] {
        assert_eq!(owns_slot("db", name, database, plugin), expected, "{name}");
    }
}
