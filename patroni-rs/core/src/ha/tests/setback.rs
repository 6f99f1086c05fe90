//! A DCS that went back to an earlier state.

use std::sync::Arc;

use super::super::*;
use super::world::{leader, orphan, replica, World};
use crate::model::{Cluster, Lsn, SyncState};

/// What the node remembers after the cycle.
fn remembered(world: World) -> Option<(u32, u64)> {
    world.run().memory.high_water.map(|mark| (mark.timeline, mark.position.bytes()))
}

#[test]
fn what_was_read_before_is_remembered() {
    assert_eq!(remembered(replica()), None);
    assert_eq!(remembered(replica().went_back(2000, 2)), Some((2, 2000)));
    // Once more: what was known then counts as well.
    let told = Arc::new(Cluster::default());
    let mark =
        HighWater { timeline: 3, position: Lsn::new(3000), heard: None, sync: SyncState::default(), told };
    let twice = replica().went_back(2000, 1).memory(|m| m.high_water = Some(mark));
    assert_eq!(remembered(twice), Some((3, 3000)));
    // The first look of a daemon has nothing to compare with.
    assert_eq!(remembered(replica().went_back(2000, 1).memory(|m| m.cluster = None)), None);
}

/// Stores that cannot show it themselves: Consul, Raft, a ZooKeeper whose next election counts on.
#[test]
fn keys_that_tell_less_than_before_show_it_too() {
    const FAR: u64 = 64 << 20;
    let seen = |position: u64, timeline: u32, change: fn(&mut Cluster)| {
        let world = replica().key("history", r#"[[1,1,"r"]]"#);
        let world = world.went_back(position, timeline);
        let world = world.memory(|m| {
            let mut before = m.cluster.as_deref().cloned().unwrap_or_default();
            before.setbacks = 0;
            change(&mut before);
            m.cluster = Some(Arc::new(before));
        });
        remembered(world).is_some()
    };
    assert!(!seen(1000, 2, |_| {}));
    // A timeline is missing; what was read before had fewer.
    assert!(seen(1000, 3, |_| {}));
    assert!(remembered(replica().went_back(1000, 2).memory(|m| {
        let mut before = m.cluster.as_deref().cloned().unwrap_or_default();
        before.setbacks = 0;
        m.cluster = Some(Arc::new(before));
    }))
    .is_some());
    assert!(!seen(1000, 1, |_| {}));
    // A position is earlier than that of the same leader on the same timeline: by more than a record or two.
    assert!(seen(FAR, 2, |_| {}));
    assert!(!seen(2000, 2, |_| {}));
    // Another leader may have been behind, asynchronously; a standby leader rewinds; another cluster is another cluster.
    let other: fn(&mut Cluster) = |c| c.leader.iter_mut().for_each(|l| l.member.name = "c".into());
    assert!(!seen(FAR, 2, other));
    assert!(!seen(FAR, 2, |c| c.leader = None));
    let world = replica().without("leader").went_back(FAR, 1).memory(|m| {
        let mut before = m.cluster.as_deref().cloned().unwrap_or_default();
        (before.setbacks, before.leader) = (0, replica().cluster(&replica().keys).leader.clone());
        m.cluster = Some(Arc::new(before));
    });
    assert!(remembered(world.key("history", "[]")).is_some());
    assert!(!seen(FAR, 2, |c| c.leader.iter_mut().for_each(|l| l.member.data.set("role", "standby_leader"))));
    assert!(!seen(FAR, 3, |c| c.initialize = Some("another".into())));
    assert!(!seen(FAR, 3, |c| c.history = None));
}

#[test]
fn a_store_that_has_lost_nothing_is_not_worth_a_line() {
    let says = |world: World| {
        world.run().log.iter().any(|l| l.text.starts_with("The DCS went back to an earlier state: it tells"))
    };
    assert!(says(replica().went_back(1001, 1)));
    assert!(says(replica().went_back(1000, 2)));
    assert!(!says(replica().went_back(1000, 1).key("history", "[]")));
}

/// Not the leader that came back with the old state, who may be dead, but one that has said since that it runs.
#[test]
fn a_new_leader_ends_it() {
    // The member key of `b` as it came back, and the world now, where all keys have version 7.
    let known = |came_back: Option<&str>, now: World| {
        let mut told = (*replica().cluster(&replica().keys)).clone();
        told.members.retain(|m| m.name != "b" || came_back.is_some());
        let b = told.members.iter_mut().filter(|m| m.name == "b");
        b.for_each(|b| b.version = came_back.unwrap_or_default().into());
        let told = Arc::new(told);
        let before = Some(told.clone());
        let mark = HighWater {
            timeline: 1,
            position: Lsn::new(2000),
            heard: None,
            sync: SyncState::default(),
            told,
        };
        remembered(now.memory(|m| (m.cluster, m.high_water) = (before, Some(mark)))).is_some()
    };
    assert!(known(Some("7"), replica()));
    assert!(!known(Some("6"), replica()));
    assert!(!known(None, replica()));
    assert!(!known(Some("6"), replica().member("b", "master", "")));
    // Nor one that is on its way.
    for (role, state) in [("primary", "stopping"), ("replica", "running"), ("primary", "starting")] {
        let now = replica().member("b", role, &format!(r#""state":"{state}""#));
        assert!(known(Some("6"), now), "{role} {state}");
    }
    assert!(known(Some("6"), replica().without("leader")));
}

/// A lock from before is no lock that was won.
#[test]
fn a_lock_that_came_back_was_not_won() {
    let standby = || leader().role(Role::Replica).row(|r| r.is_primary = false);
    assert!(standby().run().memory.lock.won);
    let outcome = standby().went_back(1000, 1).peer("b", |p| p.in_recovery = Some(false)).run();
    assert!(!outcome.memory.lock.won, "{}", outcome.line);
    assert!(outcome.logged("The leader key names me, and somebody else has led since: b is a primary"));
    // A primary that runs under it goes on.
    assert!(leader().went_back(1000, 1).run().memory.lock.won);
}

/// A member that was ahead since then is waited for, silent or not: the restored `/sync` may name this node as a leader
/// that needs nobody's vote. (Chaos, quorum, mixed, seed 6101: both daemons of the reference were restarted just then.)
#[test]
fn a_member_that_was_ahead_is_waited_for_when_it_is_silent() {
    let promoted = |mode: &str, heard: Option<u64>| {
        let mark = HighWater {
            timeline: 1,
            position: Lsn::new(1),
            heard: heard.map(|position| (Lsn::new(position), "b".into())),
            sync: SyncState::default(),
            told: Arc::new(Cluster::default()),
        };
        let world = orphan().config(mode).sync_key("a", "b,c", 1).memory(|m| m.high_water = Some(mark));
        let outcome = world.peer("b", |p| p.reachable = false).peer("c", |p| p.reachable = false).run();
        let waits = outcome.logged("Wal position of b was ahead of my wal position since the DCS went back");
        let promoted = outcome.line == "promoted self to leader by acquiring session lock";
        assert_ne!(waits, promoted, "{}", outcome.line);
        promoted
    };
    let quorum = r#""synchronous_mode":"quorum""#;
    assert!(promoted(quorum, None));
    assert!(promoted(quorum, Some(1)));
    assert!(!promoted(quorum, Some(1 << 40)));
    assert!(!promoted(r#""synchronous_mode":"on""#, Some(1 << 40)));
    assert!(promoted(r#""loop_wait":10"#, Some(1 << 40)));
}

#[test]
fn who_is_ahead_is_remembered_after_the_store_went_back() {
    let heard = |world: World| {
        let world = world.config(r#""synchronous_mode":"quorum""#).sync_key("a", "b,c", 1);
        world
            .peer("b", |p| p.wal_position = Lsn::new(1 << 40))
            .run()
            .memory
            .high_water
            .map(|mark| mark.heard.map(|(at, name)| (at.bytes(), name)))
    };
    assert_eq!(heard(orphan()), None);
    assert_eq!(heard(orphan().went_back(1000, 1)), Some(Some((1 << 40, "b".to_owned()))));
}

/// The `/sync` that came back names this node; that of before did not, or wanted more votes.
#[test]
fn who_was_in_sync_before_has_a_say() {
    let promoted = |mode: &str, before: &str, silent: &[&str]| {
        let mark = HighWater {
            timeline: 1,
            position: Lsn::new(1),
            heard: None,
            sync: SyncState::from_node(None, before),
            told: Arc::new(Cluster::default()),
        };
        let world = orphan().config(mode).sync_key("a", "b,c", 1).memory(|m| m.high_water = Some(mark));
        let world = silent.iter().fold(world, |world, name| world.peer(name, |p| p.reachable = false));
        let outcome = world.run();
        let waits = outcome.log.iter().any(|l| l.text.starts_with("Before the DCS went back /sync named"));
        let promoted = outcome.line == "promoted self to leader by acquiring session lock";
        assert_ne!(waits, promoted, "{before} {silent:?}: {}", outcome.line);
        promoted
    };
    let on = r#""synchronous_mode":"on""#;
    let others = r#"{"leader":"b","sync_standby":"c","quorum":0}"#;
    assert!(!promoted(on, others, &["b", "c"]));
    // One of them that has no more is enough: each has all that was acknowledged.
    assert!(promoted(on, others, &["b"]));
    assert!(promoted(on, others, &["c"]));
    assert!(promoted(on, r#"{"leader":"b","sync_standby":"a","quorum":0}"#, &["b", "c"]));
    assert!(promoted(on, "", &["b", "c"]));
    let quorum = r#""synchronous_mode":"quorum""#;
    let voters = r#"{"leader":"b","sync_standby":"a,c","quorum":1}"#;
    assert!(!promoted(quorum, voters, &["b", "c"]));
    assert!(promoted(quorum, voters, &["b"]));
    assert!(promoted(quorum, r#"{"leader":"b","sync_standby":"a","quorum":0}"#, &["b", "c"]));
    assert!(!promoted(quorum, others, &["b", "c"]));
    // Nothing is promised.
    assert!(promoted(r#""loop_wait":10"#, others, &["b", "c"]));
}
