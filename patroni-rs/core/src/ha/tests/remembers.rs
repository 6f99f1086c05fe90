//! What a cycle leaves in the memory, where no later step of the same cycle shows it.

use std::time::Duration;

use super::super::*;
use super::world::{leader, orphan, replica, World, NOW};

fn ordered(world: World, order: &str) -> World {
    world.peer("b", |_| ()).peer("c", |_| ()).key("failover", order)
}

/// Since when whom the lock is left to.
fn waited_for(world: World) -> Option<(String, Mono)> {
    let before = ("c".to_owned(), NOW - Duration::from_secs(5));
    world.memory(|m| m.candidate_waited_for = Some(before)).run().memory.candidate_waited_for
}

#[test]
fn for_whom_the_lock_is_left() {
    let since = |name: &str, seconds| Some((name.to_owned(), NOW - Duration::from_secs(seconds)));
    let to = |name: &str| format!(r#"{{"leader":"b","member":"{name}"}}"#);
    assert_eq!(waited_for(ordered(orphan(), &to("c"))), since("c", 5));
    // Another order, none any more, a leader.
    assert_eq!(
        waited_for(ordered(orphan().peer("d", |_| ()).member("d", "replica", ""), &to("d"))),
        since("d", 0)
    );
    assert_eq!(waited_for(orphan().peer("b", |p| p.in_recovery = Some(false))), None);
    assert_eq!(waited_for(ordered(replica(), &to("c"))), None);
}

#[test]
fn an_order_that_is_refused_begins_anew() {
    let waits = |seconds: u64| {
        let world = ordered(leader(), r#"{"leader":"a"}"#).answer(|a| a.walsenders = Some(Vec::new()));
        let world = world.memory(|m| m.switchover_waits = Some(NOW - Duration::from_secs(seconds)));
        world.run().memory.switchover_waits
    };
    assert_eq!(waits(7), Some(NOW - Duration::from_secs(7)));
    assert_eq!(waits(8), None);
}

#[test]
fn who_could_not_be_promoted_leaves_the_lock_to_others() {
    let world = leader().row(|r| r.is_primary = false).role(Role::Replica);
    let backoff = world.memory(|m| m.backoff.not_promoted = 2).run().memory.backoff;
    assert_eq!((backoff.not_promoted, backoff.not_promoted_at), (0, Some(NOW)));
}

#[test]
fn a_lock_of_somebody_else_was_not_won() {
    let lock = replica().memory(|m| {
        m.lock.won = true;
        m.lock.inherited_at = Some(NOW);
    });
    let lock = lock.run().memory.lock;
    assert_eq!((lock.won, lock.inherited_at), (false, None));
}

/// In a pause a rewind that nobody has permitted keeps no replica from being one.
#[test]
fn a_rewind_that_is_not_permitted_is_not_waited_for_in_a_pause() {
    for (allowed, set) in [(false, true), (true, false)] {
        let world = replica().paused().role(Role::Demoted).memory(|m| m.rewind.state = Rewind::Need);
        let acts = world.answer(|a| a.can_rewind = allowed).run().acts();
        assert_eq!(acts.iter().any(|act| act == "role(replica)"), set, "{acts:?}");
    }
}
