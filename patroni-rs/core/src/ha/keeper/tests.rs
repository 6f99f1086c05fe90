use super::*;

fn s(seconds: u64) -> Mono {
    Mono::seconds(seconds)
}

fn span(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn keeper() -> Keeper {
    let mut k = Keeper::new(Timing::seconds(30, 10, 10));
    k.lease_confirmed(s(0));
    k.arm(Arm::Writes, 1);
    k
}

#[test]
fn what_the_store_grants_counts() {
    let mut k = Keeper::new(Timing::seconds(60, 10, 10));
    k.store_grants(span(40), s(0));
    k.arm(Arm::Writes, 1);
    // A question that nobody answers, and one that is.
    k.lease_asked(s(0));
    assert_eq!(k.end, Some(s(40)));
    k.lease_confirmed(s(1));
    assert_eq!(k.lease_until(), Some(s(41)));
    assert_eq!(k.fence_margin(), span(4));
    // The session is shortened under us: what is out goes by that.
    k.store_grants(span(20), s(5));
    assert_eq!((k.lease_until(), k.end), (Some(s(25)), Some(s(25))));
    k.lease_renewed(s(6));
    assert_eq!(k.lease_until(), Some(s(26)));
    // A longer one counts when the lock is confirmed, and never beyond the ttl.
    k.store_grants(span(100), s(7));
    k.lease_renewed(s(7));
    assert_eq!(k.lease_until(), Some(s(27)));
    k.lease_confirmed(s(8));
    assert_eq!(k.lease_until(), Some(s(68)));
}

#[test]
fn renews_while_permitted() {
    let mut k = keeper();
    k.cycle_ended(s(1));
    // A little later than the loop would.
    assert_eq!(k.next(s(1)), Next::WaitUntil(s(12)));
    assert_eq!(k.next(s(12)), Next::Renew);
    k.lease_confirmed(s(10));
    assert_eq!(k.lease_until(), Some(s(40)));
    // An answer that comes late is to an older request.
    k.lease_renewed(s(8));
    assert_eq!(k.lease_until(), Some(s(40)));
    // What is over is not renewed, whatever is permitted.
    k.arm(Arm::Reads, 1);
    k.cycle_ended(s(39));
    assert_eq!(k.next(s(39)), Next::Renew);
    assert_eq!(k.next(s(40)), Next::Idle);
}

#[test]
fn a_much_longer_ttl_does_not_fence() {
    let mut k = keeper();
    k.cycle_ended(s(1));
    k.set_timing(Timing::seconds(600, 10, 10), s(2));
    assert_eq!(k.next(s(2)), Next::WaitUntil(s(12)));
    assert_eq!(k.next(s(12)), Next::Renew);
    k.lease_renewed(s(10));
    assert_eq!(k.lease_until(), Some(s(40)));
    // The loop has moved the key to a new lease.
    k.lease_confirmed(s(12));
    k.cycle_ended(s(600));
    assert_eq!(k.lease_until(), Some(s(612)));
    assert_eq!(k.next(s(551)), Next::Renew);
    assert_eq!(k.next(s(552)), Next::Fence);
}

#[test]
fn a_question_for_the_lock_is_a_promise_until_it_is_answered() {
    // A primary without a lock asks for it, and its loop hangs.
    let mut k = Keeper::new(Timing::seconds(30, 10, 10));
    k.arm(Arm::Writes, 1);
    k.lease_asked(s(100));
    assert_eq!(k.next(s(100)), Next::WaitUntil(s(127)));
    assert_eq!(k.next(s(127)), Next::Fence);
    // What was promised before ends no later by another question; what ended in a pause does not count.
    let mut k = keeper();
    k.lease_dropped();
    k.lease_asked(s(20));
    assert_eq!(k.next(s(27)), Next::Fence);
    let mut k = keeper();
    k.lease_dropped();
    k.lease_asked(s(60));
    assert_eq!(k.next(s(61)), Next::WaitUntil(s(87)));
}

#[test]
fn no_server_is_started_to_be_stopped_at_once() {
    let mut k = keeper();
    assert!(k.may_start_writing(s(26)));
    assert!(!k.may_start_writing(s(27)));
    assert_eq!(k.next(s(27)), Next::Fence);
    k.lease_dropped();
    assert!(!k.may_start_writing(s(1)));
}

#[test]
fn a_hung_loop_lets_the_lease_go_and_fences_before_its_end() {
    let mut k = keeper();
    k.cycle_ended(s(0));
    k.lease_confirmed(s(19));
    // The permit ended at 20; no renewal any more.
    assert_eq!(k.next(s(29)), Next::WaitUntil(s(46)));
    assert_eq!(k.next(s(46)), Next::Fence);
    assert_eq!(k.next(s(46)), Next::WaitUntil(s(49)));
}

#[test]
fn an_orderly_stop_keeps_its_permit_and_gets_no_new_one() {
    let mut k = keeper();
    k.cycle_ended(s(0));
    (1..=25).for_each(|at| k.stop_goes_on(s(at)));
    k.lease_confirmed(s(25));
    assert_eq!(k.next(s(37)), Next::Renew);
    k.lease_confirmed(s(36));
    assert_eq!(k.next(s(46)), Next::WaitUntil(s(63)));
    k.stop_goes_on(s(46));
    assert_eq!(k.next(s(47)), Next::WaitUntil(s(63)));
    // No client is left: nothing is fenced, and the lease may end.
    k.arm(Arm::Reads, 1);
    assert_eq!((k.next(s(63)), k.promise()), (Next::WaitUntil(s(66)), None));
}

#[test]
fn a_dcs_that_does_not_answer_fences() {
    let mut k = keeper();
    k.cycle_ended(s(9));
    assert_eq!(k.next(s(12)), Next::Renew);
    k.renewal_failed(s(13));
    assert_eq!(k.next(s(13)), Next::WaitUntil(s(14)));
    assert_eq!(k.next(s(27)), Next::Fence);
}

#[test]
fn a_lease_that_is_gone_is_fenced_for_soon() {
    let mut k = keeper();
    k.cycle_ended(s(9));
    assert_eq!(k.next(s(12)), Next::Renew);
    k.lease_gone(s(10), s(10));
    assert_eq!((k.lease_until(), k.promise()), (None, Some(s(12) + GUARDIAN_GRACE)));
    assert_eq!(k.next(s(10)), Next::WaitUntil(s(12)));
    let hung = k.clone();
    // What the loop read before says nothing; what it reads after makes it its business.
    k.cluster_read(s(9));
    assert_eq!(k.next(s(11)), Next::WaitUntil(s(12)));
    k.cluster_read(s(11));
    assert_eq!((k.next(s(12)), k.lease_until()), (Next::WaitUntil(s(27)), None));
    k.lease_confirmed(s(12));
    assert_eq!(k.lease_until(), Some(s(42)));
    let mut k = hung;
    // Said again, it does not take longer.
    k.lease_gone(s(11), s(11));
    assert_eq!(k.next(s(12)), Next::Fence);
    // What was asked before the loop moved the key to another lease.
    let mut k = keeper();
    k.lease_confirmed(s(10));
    k.lease_gone(s(9), s(11));
    assert_eq!(k.lease_until(), Some(s(40)));
    // It never prolongs a promise, and a later server has none.
    let mut k = keeper();
    k.lease_gone(s(26), s(26));
    assert_eq!(k.next(s(26)), Next::WaitUntil(s(27)));
    k.arm(Arm::Writes, 2);
    k.cluster_read(s(26));
    assert_eq!((k.next(s(27)), k.promise()), (Next::Idle, None));
}

#[test]
fn a_key_that_is_seen_gone_is_asked_for_at_once() {
    // Cycles that are short enough for the lock to stand without being asked for.
    let mut k = Keeper::new(Timing::seconds(30, 1, 10));
    k.lease_confirmed(s(0));
    k.arm(Arm::Writes, 1);
    k.cycle_ended(s(1));
    assert_eq!((k.next(s(2)), k.still_stands(s(2))), (Next::WaitUntil(s(6)), true));
    k.key_seen_gone(s(2));
    assert!(!k.still_stands(s(2)));
    assert_eq!(k.next(s(2)), Next::Renew);
    // What was asked before says nothing of it.
    k.lease_renewed(s(1));
    assert_eq!((k.next(s(2)), k.still_stands(s(2)), k.lease_until()), (Next::Renew, false, Some(s(31))));
    // It is there: the watch had told of the past.
    let mut there = k.clone();
    there.lease_renewed(s(2));
    assert_eq!((there.next(s(2)), there.still_stands(s(2))), (Next::WaitUntil(s(8)), true));
    // No answer: soon again, and in the end the fence.
    let mut silent = k.clone();
    silent.renewal_failed(s(3));
    assert_eq!(silent.next(s(3)), Next::WaitUntil(s(4)));
    assert_eq!(silent.next(s(28)), Next::Fence);
    // It is gone, and the loop does not look.
    k.lease_gone(s(2), s(3));
    assert_eq!(k.next(s(3)), Next::WaitUntil(s(5)));
    assert_eq!(k.next(s(5)), Next::Fence);
    // A loop that hangs for long: nothing is prolonged.
    let mut hung = keeper();
    hung.key_seen_gone(s(21));
    assert_eq!(hung.next(s(21)), Next::WaitUntil(s(27)));
    // Who holds nothing has nothing to ask.
    let mut none = keeper();
    none.lease_released();
    none.cycle_ended(s(1));
    none.key_seen_gone(s(2));
    assert_eq!(none.next(s(2)), Next::Idle);
}

#[test]
fn a_clock_that_jumps_ahead() {
    let jumped = |ahead| {
        let mut k = keeper();
        k.cycle_ended(s(9));
        k.lease_confirmed(s(9));
        k.clock_jumped(s(10), span(ahead));
        k
    };
    // Confirmed: as before, and so the more.
    let mut k = jumped(60);
    assert_eq!(k.next(s(10)), Next::Renew);
    k.lease_renewed(s(10));
    assert_eq!((k.lease_until(), k.is_in_doubt()), (Some(s(40)), false));
    // An answer to a question from before the jump confirms nothing.
    let mut k = jumped(60);
    k.lease_confirmed(s(9));
    assert!(k.is_in_doubt() && k.lease_until() < Some(s(39)));
    // Refused: fenced for at once, and the loop's look is no help.
    let mut k = jumped(60);
    k.lease_gone(s(10), s(10));
    k.cluster_read(s(10));
    assert_eq!(k.next(s(10)), Next::Fence);
    // No answer, from anybody: what was missed counts, after the time that the loop has.
    let mut k = jumped(60);
    k.renewal_failed(s(11));
    assert_eq!(k.next(s(12)), Next::Renew);
    k.renewal_failed(s(13));
    assert_eq!(k.next(s(22)), Next::Fence);
    // So much only as was missed.
    assert_eq!(jumped(1).lease_until(), Some(s(38)));
    assert_eq!(jumped(0).lease_until(), Some(s(39)));
    // Nothing is held, nothing happens.
    let mut k = Keeper::new(Timing::seconds(30, 10, 10));
    k.arm(Arm::Reads, 1);
    k.clock_jumped(s(10), span(60));
    assert_eq!((k.next(s(10)), k.promise()), (Next::Idle, None));
}

#[test]
fn nothing_is_fenced_in_pause_on_a_standby_or_after_a_release() {
    for arm in [Arm::Off, Arm::Reads] {
        let mut k = keeper();
        k.arm(arm, 1);
        assert_ne!(k.next(s(29)), Next::Fence, "{arm:?}");
        assert_eq!(k.promise(), None, "{arm:?}");
    }
    let mut k = keeper();
    k.lease_released();
    assert_eq!((k.next(s(100)), k.promise()), (Next::Idle, None));
}

#[test]
fn a_new_ttl_shortens_the_promise_at_once_and_lengthens_it_with_the_loops_next_request() {
    let mut k = keeper();
    k.lease_confirmed(s(5));
    k.set_timing(Timing::seconds(20, 10, 5), s(7));
    assert_eq!(k.lease_until(), Some(s(27)));
    assert_eq!(k.promise(), Some(s(25) + GUARDIAN_GRACE));
    k.lease_confirmed(s(8));
    assert_eq!(k.lease_until(), Some(s(28)));
    k.set_timing(Timing::seconds(60, 10, 10), s(9));
    k.lease_renewed(s(10));
    assert_eq!(k.lease_until(), Some(s(30)));
    k.lease_confirmed(s(11));
    k.lease_renewed(s(12));
    assert_eq!(k.lease_until(), Some(s(72)));
    // A lock that is lost keeps its end, and a shorter one.
    k.lease_dropped();
    k.set_timing(Timing::seconds(20, 10, 5), s(13));
    assert_eq!((k.lease_until(), k.promise()), (None, Some(s(31) + GUARDIAN_GRACE)));
}

#[test]
fn a_primary_whose_lock_was_lost_is_gone_by_the_end_of_its_lease() {
    let mut k = keeper();
    k.lease_dropped();
    k.arm(Arm::Unknown, 1);
    assert_eq!(k.next(s(5)), Next::WaitUntil(s(27)));
    assert_eq!(k.promise(), Some(s(27) + GUARDIAN_GRACE));
    assert_eq!(k.next(s(27)), Next::Fence);
}

#[test]
fn a_primary_that_is_started_again_after_the_fence_is_stopped_too() {
    let mut k = keeper();
    assert_eq!(k.next(s(27)), Next::Fence);
    // The postmaster is gone, and the fence still has to be dealt with.
    k.arm(Arm::Unknown, 0);
    assert_ne!(k.next(s(28)), Next::Fence);
    k.arm(Arm::Reads, 2);
    assert_ne!(k.next(s(28)), Next::Fence);
    k.arm(Arm::Writes, 3);
    assert_eq!(k.next(s(28)), Next::Fence);
}

#[test]
fn an_old_promise_concerns_no_later_server() {
    let mut k = keeper();
    k.lease_dropped();
    let mut other = k.clone();
    other.arm(Arm::Writes, 2);
    assert_eq!((other.next(s(100)), other.promise()), (Next::Idle, None));
    // Nor one that runs since a pause.
    k.arm(Arm::Off, 1);
    k.arm(Arm::Writes, 1);
    assert_eq!((k.next(s(100)), k.promise()), (Next::Idle, None));
    k.lease_confirmed(s(100));
    assert_eq!(k.promise(), Some(s(127) + GUARDIAN_GRACE));
}

#[test]
fn what_arms() {
    use Role::{Demoted, Primary, Promoted, Replica, StandbyLeader};
    for (role, promoting, paused, expected) in [
        (Primary, false, false, Arm::Writes),
        (Promoted, false, false, Arm::Writes),
        (Replica, true, false, Arm::Writes),
        (Replica, false, false, Arm::Reads),
        (StandbyLeader, false, false, Arm::Reads),
        (Demoted, false, false, Arm::Unknown),
        (Primary, false, true, Arm::Off),
        (Replica, true, true, Arm::Off),
    ] {
        let arm = |says_primary, exempt| Arm::of(Writer { role, promoting, says_primary }, exempt);
        assert_eq!(arm(false, paused), expected, "{role:?} {promoting} {paused}");
        assert_eq!(arm(true, true), Arm::Off);
    }
    // What it says itself counts where nothing is believed, and there alone.
    let says_primary = |role| Writer { role, promoting: false, says_primary: true };
    assert_eq!(Arm::of(says_primary(Demoted), false), Arm::Writes);
    assert_eq!(Arm::of(says_primary(Replica), false), Arm::Reads);
    assert_eq!(Arm::of(says_primary(Demoted), true), Arm::Off);
}

#[test]
fn the_keeper_asks_after_the_loop() {
    for (timing, granted, after) in [
        (Timing::seconds(30, 10, 10), 30, 12_000),
        (Timing::seconds(30, 1, 10), 30, 6000),
        (Timing::seconds(24, 2, 5), 24, 4800),
        // A loop that is slow for this lease; one that the store has made short.
        (Timing::seconds(20, 10, 5), 20, 8000),
        (Timing::seconds(30, 10, 10), 15, 6000),
    ] {
        let mut k = Keeper::new(timing);
        k.store_grants(span(granted), s(0));
        k.lease_confirmed(s(0));
        k.cycle_ended(s(0));
        assert_eq!(k.next(s(0)), Next::WaitUntil(Mono::at(Duration::from_millis(after))), "{timing:?}");
    }
}

#[test]
fn what_may_be_given_up_in_its_place() {
    let mut k = keeper();
    let held = k.held().map(|held| (held.until, held.grace));
    assert_eq!(held, Some((s(30), span(10))));
    k.arm(Arm::Off, 1);
    assert_eq!(k.held(), None);
    k.arm(Arm::Reads, 1);
    assert!(k.held().is_some());
    k.lease_dropped();
    assert_eq!(k.held(), None);
}
