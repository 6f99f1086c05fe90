//! Rows of the leader lock: each would be red if the fence were armed later, or the promise counted otherwise.

use std::sync::Arc;

use pyfmt::Value;

use super::*;
use crate::global_config::GlobalConfig;
use crate::ha::{ask, DcsDown, Memory, Request};
use crate::model::{Cluster, Leader};

const NAME: &str = "n0";

fn s(seconds: u64) -> Mono {
    Mono::seconds(seconds)
}

fn span(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn server(role: Role) -> Server {
    Server { number: 7, role, promoting: false, writes: role == Role::Primary, quiet: false }
}

fn primary() -> Server {
    server(Role::Primary)
}

fn standby() -> Server {
    server(Role::Replica)
}

fn memory(paused: bool, bootstrapping: bool) -> Memory {
    let mut config = Value::map();
    config.set("pause", paused);
    let mut memory = Memory::new(GlobalConfig::new(config));
    memory.bootstrap.running = bootstrapping;
    memory
}

/// A lock in a cycle that has begun, ttl 30.
fn begun(paused: bool, bootstrapping: bool) -> LeaderLock {
    let mut lock = LeaderLock::new(Timing::seconds(30, 10, 10), false);
    lock.cycle_begins(&memory(paused, bootstrapping));
    lock
}

fn update() -> Request {
    Request::from(ask::UpdateLeader { status: None, failsafe: None })
}

fn done(ok: bool) -> Answer {
    Answer::Dcs(Ok(ok))
}

fn down() -> Answer {
    Answer::Dcs(Err(DcsDown("down".into())))
}

fn cluster(leader: Option<&str>) -> Answer {
    let leader = leader.map(|name| Leader {
        version: Default::default(),
        session: None,
        member: crate::model::Member::remote(name, Value::map()),
    });
    Answer::Cluster(Ok(Arc::new(Cluster { leader, ..Cluster::default() })))
}

fn moment(at: u64, server: &Server) -> Now<'static> {
    let timing = Timing::seconds(30, 10, 10);
    Now { at: s(at), name: NAME, paused: false, timing, granted: Duration::MAX, server: *server }
}

/// Asked at `sent`, answered at `now`, while this server runs.
fn ask(lock: &mut LeaderLock, request: &Request, answer: &Answer, (sent, now): (u64, u64), server: &Server) {
    lock.request_sent(request, &moment(sent, server));
    lock.answered((request, answer), s(sent), false, &moment(now, server));
}

fn fence_at(lock: &LeaderLock) -> Option<Mono> {
    lock.promise().0.map(|at| at - crate::ha::keeper::GUARDIAN_GRACE)
}

#[test]
fn a_question_for_the_lock_arms_the_fence_before_it_goes_out() {
    for request in [Request::from(ask::AcquireLeader), Request::from(ask::TakeLeader)] {
        let mut lock = begun(false, false);
        lock.request_sent(&request, &moment(100, &standby()));
        assert_eq!(fence_at(&lock), None, "{request:?}");
        // By the end of the lease that the question may bring, although no answer ever comes.
        lock.request_sent(&request, &moment(100, &primary()));
        assert_eq!(fence_at(&lock), Some(s(127)), "{request:?}");
    }
}

#[test]
fn a_question_for_the_lock_ends_a_pause_that_is_over() {
    for (paused, at) in [(true, None), (false, Some(s(127)))] {
        let mut lock = begun(true, false);
        lock.request_sent(&Request::from(ask::AcquireLeader), &Now { paused, ..moment(100, &primary()) });
        assert_eq!(fence_at(&lock), at);
    }
    // And taking the lock ends a bootstrap.
    let mut made = begun(false, true);
    made.request_sent(&Request::from(ask::AcquireLeader), &moment(100, &primary()));
    assert_eq!(fence_at(&made), None);
    made.request_sent(&Request::from(ask::TakeLeader), &moment(100, &primary()));
    assert_eq!(fence_at(&made), Some(s(127)));
    // What was promised before it is no promise of the new cluster's lock.
    let mut made = begun(false, true);
    ask(&mut made, &update(), &done(true), (90, 90), &standby());
    made.request_sent(&Request::from(ask::TakeLeader), &moment(100, &standby()));
    assert_eq!(made.lease_until(), None);
}

#[test]
fn the_lease_counts_from_the_question() {
    for (request, answer) in [
        (Request::from(ask::AcquireLeader), done(true)),
        (update(), done(true)),
        (Request::from(ask::TakeLeader), Answer::Bool(true)),
    ] {
        let mut lock = begun(false, false);
        ask(&mut lock, &request, &answer, (100, 108), &primary());
        assert_eq!(lock.until(s(108)), Some(s(130)), "{request:?}");
        assert_eq!(lock.until(s(130)), None, "it is over");
        assert_eq!(fence_at(&lock), Some(s(127)), "{request:?}");
    }
    // By consent of all peers: from before the first of them was asked.
    let mut lock = begun(false, false);
    ask(&mut lock, &Request::from(ask::ExtendLease { sent: s(90) }), &Answer::Done, (100, 100), &primary());
    assert_eq!(lock.until(s(100)), Some(s(120)));
}

#[test]
fn answers_that_bring_no_lock() {
    for (request, answer) in [
        (Request::from(ask::AcquireLeader), done(false)),
        (Request::from(ask::AcquireLeader), down()),
        (update(), done(false)),
        (update(), down()),
        (Request::from(ask::TakeLeader), Answer::Bool(false)),
    ] {
        let mut lock = begun(false, false);
        ask(&mut lock, &request, &answer, (100, 101), &primary());
        assert_eq!(lock.until(s(101)), None, "{request:?} {answer:?}");
    }
    // What is lost is fenced by its old end; what is given up is not fenced.
    for (request, answer, at, held) in [
        (update(), done(false), Some(s(127)), false),
        (update(), down(), Some(s(127)), true),
        (Request::from(ask::DropLease), Answer::Done, Some(s(127)), false),
        (Request::from(ask::DeleteLeader { last_lsn: None }), Answer::Bool(false), None, false),
    ] {
        let mut lock = begun(false, false);
        ask(&mut lock, &update(), &done(true), (100, 101), &primary());
        ask(&mut lock, &request, &answer, (110, 111), &primary());
        assert_eq!((fence_at(&lock), lock.until(s(111)).is_some()), (at, held), "{request:?}");
    }
}

#[test]
fn the_fence_is_armed_between_two_questions() {
    let mut lock = begun(false, false);
    ask(&mut lock, &update(), &done(true), (100, 101), &standby());
    assert_eq!(fence_at(&lock), None);
    // Whatever was asked: the server has become a primary meanwhile.
    ask(&mut lock, &Request::from(ask::Probe), &Answer::Done, (102, 103), &primary());
    assert_eq!(fence_at(&lock), Some(s(127)));
}

#[test]
fn a_pause_that_is_over_counts_as_over_for_who_holds_the_lock() {
    for (leader, paused, armed) in [
        (Some(NAME), false, true),
        (Some(NAME), true, false),
        (Some("n1"), false, false),
        (None, false, false),
    ] {
        let mut lock = begun(true, false);
        ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        assert_eq!(fence_at(&lock), None);
        let read = cluster(leader);
        lock.answered(
            (&Request::from(ask::LoadCluster), &read),
            s(101),
            false,
            &Now { paused, ..moment(101, &primary()) },
        );
        assert_eq!(fence_at(&lock).is_some(), armed, "{leader:?} {paused}");
    }
    // A key with our name, and no promise: somebody has to ask for the lock first.
    let mut lock = begun(true, false);
    ask(&mut lock, &Request::from(ask::LoadCluster), &cluster(Some(NAME)), (100, 101), &primary());
    assert_eq!(lock.promise().1, Arm::Off);
}

/// A lease that is said to be gone is fenced for soon, unless the loop has read the keys since and knows better.
#[test]
fn who_reads_the_keys_knows_what_became_of_the_lease() {
    for (sent, at) in [(109, Some(s(113))), (112, Some(s(127)))] {
        let mut lock = begun(false, false);
        ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        lock.renewed(s(110), s(111), Renewed::Gone);
        assert_eq!(fence_at(&lock), Some(s(113)));
        ask(&mut lock, &Request::from(ask::LoadCluster), &cluster(None), (sent, 112), &primary());
        assert_eq!(fence_at(&lock), at, "{sent}");
    }
}

#[test]
fn a_cycle_goes_by_the_memory_that_it_begins_and_ends_with() {
    let mut lock = begun(true, false);
    ask(&mut lock, &update(), &done(true), (100, 100), &primary());
    assert_eq!(fence_at(&lock), None);
    lock.cycle_settled(&memory(false, false), &primary());
    assert_eq!(fence_at(&lock), Some(s(127)), "the pause is over");
    lock.cycle_begins(&memory(true, false));
    lock.answered(
        (&Request::from(ask::Probe), &Answer::Done),
        s(101),
        false,
        &Now { paused: true, ..moment(101, &primary()) },
    );
    assert_eq!(fence_at(&lock), None, "a pause has begun");
}

#[test]
fn a_server_is_under_the_fence_from_the_moment_it_is_known() {
    let mut lock = begun(false, false);
    let none = Server { number: 0, writes: false, ..server(Role::Primary) };
    ask(&mut lock, &update(), &done(true), (100, 100), &none);
    lock.server_known(false, &primary());
    assert_eq!(lock.promise(), (Some(s(127) + crate::ha::keeper::GUARDIAN_GRACE), Arm::Writes, 7));
    // Sessions of a server that stops have ended.
    lock.server_known(false, &Server { quiet: true, ..primary() });
    assert_eq!(fence_at(&lock), None);
    // A pause is kept, quiet or not.
    let mut paused = begun(true, false);
    paused.server_known(true, &Server { quiet: true, ..primary() });
    assert_eq!(paused.promise().1, Arm::Off);
    // One of the two knows that it is over.
    paused.server_known(false, &primary());
    assert_eq!(paused.promise().1, Arm::Writes);
    // A configuration that no cycle has seen pauses nothing.
    lock.server_known(true, &primary());
    assert_eq!(lock.promise().1, Arm::Writes);
}

#[test]
fn a_promotion_arms_the_fence_and_needs_the_lock() {
    let mut lock = begun(false, false);
    assert!(lock.will_promote(s(100), false, &standby()).is_none());
    ask(&mut lock, &Request::from(ask::AcquireLeader), &done(true), (100, 100), &standby());
    assert_eq!(fence_at(&lock), None);
    assert!(lock.will_promote(s(101), false, &standby()).is_some());
    assert_eq!(fence_at(&lock), Some(s(127)));
    // A lease that is about to end.
    assert!(lock.will_promote(s(127), false, &standby()).is_none());
    // Nothing but a pause that cycle and configuration know keeps the fence away, nor a bootstrap whose cluster has a lock.
    for (paused, bootstrapping, configured, arm) in [
        (true, false, true, Arm::Off),
        (true, false, false, Arm::Writes),
        (false, false, true, Arm::Writes),
        (false, true, false, Arm::Writes),
    ] {
        let mut lock = begun(paused, bootstrapping);
        ask(&mut lock, &update(), &done(true), (100, 100), &standby());
        assert!(lock.will_promote(s(101), configured, &standby()).is_some());
        assert_eq!(lock.promise().1, arm, "{paused} {bootstrapping} {configured}");
    }
}

#[test]
fn only_a_cycle_that_asked_for_the_lock_permits_its_renewal() {
    let mut asked = begun(false, false);
    ask(&mut asked, &update(), &done(true), (100, 100), &primary());
    assert!(asked.cycle_ended(s(101)));
    assert_eq!(asked.next(s(112)), Next::Renew);
    // The next one does not ask.
    assert!(!asked.cycle_ended(s(112)));
    assert_ne!(asked.next(s(121)), Next::Renew);
    // A question without an answer permits nothing, and is one.
    let mut unheard = begun(false, false);
    ask(&mut unheard, &update(), &done(true), (100, 100), &primary());
    unheard.cycle_ended(s(100));
    ask(&mut unheard, &update(), &down(), (115, 118), &primary());
    assert!(unheard.cycle_ended(s(118)) && !unheard.cycle_ended(s(118)));
    assert_ne!(unheard.next(s(121)), Next::Renew);
    // The daemon's stop keeps a permit.
    for (goes_on, next) in [(true, Next::Renew), (false, Next::WaitUntil(s(142)))] {
        let mut lock = begun(false, false);
        ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        lock.cycle_ended(s(100));
        ask(&mut lock, &update(), &done(true), (115, 115), &primary());
        if goes_on {
            lock.stop_goes_on(s(119));
        }
        assert_eq!(lock.next(s(128)), next);
    }
}

#[test]
fn a_renewal_that_failed_is_tried_again_later() {
    for (came_to, next) in [
        (Some(Renewed::Unanswered), Next::WaitUntil(s(115))),
        // An answer to what was asked before the loop moved the key to another lease.
        (Some(Renewed::Gone), Next::WaitUntil(s(115))),
        // Nothing can renew it.
        (None, Next::WaitUntil(s(128))),
    ] {
        let mut lock = begun(false, false);
        ask(&mut lock, &update(), &done(true), (101, 101), &primary());
        lock.cycle_ended(s(105));
        assert_eq!(lock.next(s(113)), Next::Renew);
        match came_to {
            Some(came_to) => lock.renewed(s(100), s(114), came_to),
            None => lock.nobody_renews(s(114)),
        }
        assert_eq!(lock.next(s(114)), next, "{came_to:?}");
    }
}

#[test]
fn a_fence_is_over_when_another_server_is_there_that_does_not_write() {
    for (now_known, replaced) in [
        (Server { number: 8, ..standby() }, true),
        (Server { number: 8, ..primary() }, false),
        // The fenced one, whatever is believed of it; and none.
        (standby(), false),
        (Server { number: 0, ..standby() }, false),
    ] {
        let mut lock = begun(false, false);
        ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        assert_eq!(lock.next(s(127)), Next::Fence);
        lock.server_known(false, &now_known);
        assert_eq!(lock.fenced_server_is_replaced(), replaced, "{now_known:?}");
    }
}

#[test]
fn a_fence_is_known_until_it_is_handled() {
    let mut lock = begun(false, false);
    ask(&mut lock, &update(), &done(true), (100, 100), &primary());
    assert!(!lock.is_fenced());
    assert_eq!(lock.next(s(127)), Next::Fence);
    assert!(lock.is_fenced());
    lock.fence_handled();
    assert!(!lock.is_fenced());
    assert_eq!((lock.until(s(127)), fence_at(&lock)), (None, None));
}

#[test]
fn a_renewal_has_less_time_the_nearer_the_fence_is() {
    let mut lock = begun(false, false);
    ask(&mut lock, &update(), &done(true), (100, 100), &primary());
    let ms = Duration::from_millis;
    for (at, limit) in [(s(110), span(3)), (s(125), span(2)), (s(127), ms(200)), (s(140), ms(200))] {
        assert_eq!(lock.renewal_limit(at), limit, "{at:?}");
    }
    lock.clock_jumped(s(110), span(3));
    assert_eq!(lock.renewal_limit(s(110)), span(1));
    assert!(lock.is_in_doubt());
    // Nothing is held.
    assert_eq!(begun(false, false).renewal_limit(s(110)), span(1));
}

#[test]
fn a_renewal_prolongs_what_is_held() {
    for (held, came_to, until) in [
        (true, Renewed::Until(span(30)), Some(s(140))),
        (true, Renewed::Gone, None),
        (true, Renewed::Unanswered, Some(s(130))),
        (false, Renewed::Until(span(30)), None),
    ] {
        let mut lock = begun(false, false);
        if held {
            ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        }
        lock.renewed(s(110), s(112), came_to);
        assert_eq!(lock.until(s(112)), until, "{held} {came_to:?}");
    }
    // A shorter ttl holds at once, also for the promise that is out.
    let mut lock = begun(false, false);
    ask(&mut lock, &update(), &done(true), (100, 100), &primary());
    lock.request_sent(
        &Request::from(ask::Probe),
        &Now { timing: Timing::seconds(20, 5, 5), ..moment(101, &primary()) },
    );
    assert_eq!(lock.until(s(101)), Some(s(121)));
}

#[test]
fn who_may_restart_a_primary() {
    let mut held = begun(false, false);
    ask(&mut held, &update(), &done(true), (100, 100), &primary());
    let free = begun(false, false);
    for (lock, now, paused, bootstrapping, may) in [
        (&held, 101, false, false, true),
        // The stop has outlived the lease.
        (&held, 128, false, false, false),
        (&free, 101, false, false, false),
        (&free, 101, true, false, true),
        (&free, 101, false, true, true),
    ] {
        assert_eq!(
            lock.may_restart_primary(s(now), paused, bootstrapping),
            may,
            "{now} {paused} {bootstrapping}"
        );
    }
}

#[test]
fn the_lock_counts_by_what_the_store_grants() {
    let mut lock = begun(false, false);
    let short = Now { granted: span(20), ..moment(100, &primary()) };
    lock.request_sent(&Request::from(ask::AcquireLeader), &short);
    assert_eq!(fence_at(&lock), Some(s(118)));
    lock.answered(
        (&Request::from(ask::AcquireLeader), &done(true)),
        s(100),
        false,
        &Now { at: s(101), ..short },
    );
    assert_eq!(lock.until(s(101)), Some(s(120)));
    lock.renewed(s(110), s(111), Renewed::Until(span(15)));
    assert_eq!(lock.until(s(111)), Some(s(125)));
}

/// A cycle every second: what the store has said may stand for some of them, and the promise counts from that answer.
#[test]
fn a_renewal_that_is_spared_prolongs_nothing() {
    let quick = |at: u64| Now { timing: Timing::seconds(30, 1, 10), ..moment(at, &primary()) };
    let begun = || {
        let mut lock = LeaderLock::new(Timing::seconds(30, 1, 10), false);
        lock.cycle_begins(&memory(false, false));
        lock.request_sent(&update(), &quick(100));
        lock.answered((&update(), &done(true)), s(100), false, &quick(100));
        lock.cycle_ended(s(100));
        lock
    };
    let spared = |lock: &mut LeaderLock, at: u64| {
        lock.request_sent(&update(), &quick(at));
        lock.may_spare(&update(), s(at))
    };
    let load = Request::from(ask::LoadCluster);
    // For as long as the next cycle is in time; a question for the lock never.
    for (at, may) in [(101, true), (104, true), (105, false), (131, false)] {
        assert_eq!(spared(&mut begun(), at), may, "{at}");
    }
    let mut lock = begun();
    assert!(!lock.may_spare(&Request::from(ask::AcquireLeader), s(101)) && lock.may_spare(&load, s(101)));
    // It is a cycle that wants the lock, and its end permits a renewal. The promise is that of before.
    assert!(spared(&mut lock, 104));
    lock.answered((&update(), &done(true)), s(104), true, &quick(104));
    assert!(lock.cycle_ended(s(104)));
    assert_eq!((lock.lease_until(), fence_at(&lock)), (Some(s(130)), Some(s(127))));
    // Consent of all peers is no word of the store.
    let mut lock = begun();
    lock.request_sent(&Request::from(ask::ExtendLease { sent: s(102) }), &quick(102));
    assert!(!spared(&mut lock, 103) && lock.until(s(131)).is_some());
    // Nor is a lock that was lost, given up, or made doubtful by the clock.
    let lost: [fn(&mut LeaderLock); 4] = [
        |lock| lock.renewed(s(102), s(102), Renewed::Gone),
        |lock| lock.clock_jumped(s(102), span(60)),
        |lock| lock.fence_handled(),
        |lock| lock.keeper.lease_dropped(),
    ];
    for (number, lose) in lost.iter().enumerate() {
        let mut lock = begun();
        lose(&mut lock);
        assert!(!spared(&mut lock, 103), "{number}");
        // Where it is doubtful the cluster is read as it is.
        assert_eq!(lock.may_spare(&load, s(103)), number > 1, "{number}");
        let read = cluster(Some("n1"));
        lock.answered((&load, &read), s(103), false, &quick(103));
        assert!(lock.may_spare(&load, s(104)) && !spared(&mut lock, 104), "{number}");
    }
    // The keeper sleeps until it has something to do, and is woken only where that comes sooner.
    let mut lock = begun();
    let renews = lock.acts_at(s(101));
    assert_eq!(renews, s(106));
    lock.answered((&update(), &done(true)), s(102), true, &quick(102));
    assert_eq!(lock.acts_at(s(102)), renews);
    lock.clock_jumped(s(102), span(60));
    assert!(lock.acts_at(s(102)) < renews);
    // The keeper has heard in the middle of the cycle that the lease is gone.
    let mut lock = begun();
    assert!(spared(&mut lock, 102));
    lock.renewed(s(102), s(102), Renewed::Gone);
    lock.answered((&update(), &done(true)), s(102), true, &quick(102));
    assert_eq!((lock.until(s(103)), fence_at(&lock)), (None, Some(s(104))));
}

/// What the guardian gives up once daemon and server have ended.
#[test]
fn a_lock_is_not_given_up_in_a_pause() {
    for (paused, bootstrapping, held) in [(false, false, true), (true, false, false), (false, true, false)] {
        let mut lock = begun(paused, bootstrapping);
        assert_eq!(lock.held(), None);
        ask(&mut lock, &update(), &done(true), (100, 100), &primary());
        assert_eq!(lock.held().is_some(), held, "{paused} {bootstrapping}");
    }
}
