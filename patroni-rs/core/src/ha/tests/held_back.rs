//! The reason why a node was not promoted (beyond the reference): each has a situation that yields it.

use super::super::*;
use super::world::{js, leader, orphan, replica, Reply, World, NOW};
use crate::model::Lsn;
use pyfmt::json;

const SYNC: &str = r#""synchronous_mode":true"#;
const QUORUM: &str = r#""synchronous_mode":"quorum""#;
const FAILSAFE: &str = r#""failsafe_mode":true"#;

fn switchover(world: World, from: &str, to: &str) -> World {
    world.key("failover", &format!(r#"{{"leader":"{from}","member":"{to}"}}"#))
}

/// What is done, the reason, and the node that is waited for.
fn cases() -> Vec<(World, Reason, Option<&'static str>)> {
    let behind = || orphan().key("history", r#"[[1,900,"x"]]"#);
    vec![
        (orphan().memory(|m| m.backoff.released_at = Some(NOW)), Reason::Backoff, None),
        (behind().primary(), Reason::BehindTimeline, None),
        (behind().config(r#""check_timeline":true"#), Reason::BehindTimeline, None),
        (orphan().job(super::situation::job("reinitialize")), Reason::Busy, None),
        (switchover(orphan(), "b", "c"), Reason::Candidate, Some("c")),
        (switchover(orphan().paused(), "b", "c"), Reason::Candidate, Some("c")),
        (orphan().paused().primary().key("initialize", "7999999999999999999"), Reason::ForeignSystem, None),
        (orphan().key("status", r#"{"optime":9000000}"#), Reason::Lagging, None),
        (
            leader().row(|r| r.is_primary = false).role(Role::Replica).answer(|a| a.update = Reply::No),
            Reason::LockNotRenewed,
            None,
        ),
        (orphan().answer(|a| a.acquire = Reply::No).later("leader", "c"), Reason::LostRace, Some("c")),
        (orphan().tags(r#"{"nofailover":true}"#), Reason::NoFailover, None),
        (
            orphan()
                .config(QUORUM)
                .sync_key("b", "a,c", 1)
                .peer("c", |p| p.reachable = false)
                .peer("b", |p| p.reachable = false),
            Reason::NoQuorum,
            Some("b,c"),
        ),
        (
            orphan()
                .config(FAILSAFE)
                .key("failsafe", r#"{"b":"http://b/"}"#)
                .peer("b", |p| p.reachable = false),
            Reason::NotInFailsafe,
            None,
        ),
        // One of several is silent.
        (
            orphan()
                .config(FAILSAFE)
                .key("failsafe", r#"{"b":"http://b/","c":"http://c/"}"#)
                .peer("b", |p| p.reachable = false),
            Reason::NotInFailsafe,
            None,
        ),
        (orphan().crashed("in production"), Reason::NotRunning, None),
        (orphan().config(SYNC).sync_key("b", "c", 0), Reason::NotSynchronous, None),
        (switchover(orphan().config(SYNC).sync_key("b", "c", 0), "b", "c"), Reason::NotSynchronous, None),
        (switchover(orphan(), "a", "x"), Reason::OthersCanLead, None),
        (orphan().paused(), Reason::Paused, None),
        (orphan().peer("c", |p| p.wal_position = Lsn::new(2000)), Reason::PeerAhead, Some("c")),
        (
            orphan().peer("c", |p| p.tags = crate::tags::Tags::from_value(&js(r#"{"failover_priority":2}"#))),
            Reason::PeerPreferred,
            Some("c"),
        ),
        (
            leader()
                .row(|r| r.is_primary = false)
                .role(Role::Replica)
                .memory(|m| m.backoff.pre_promote_failed = true),
            Reason::PrePromote,
            None,
        ),
        (orphan().peer("b", |p| p.in_recovery = Some(false)), Reason::PrimaryAlive, Some("b")),
        (orphan().state(PgState::Starting), Reason::Starting, None),
        (
            orphan().peer("b", |p| p.reachable = false).memory(|m| m.lock.disowned_at = Some(NOW)),
            Reason::OtherHasLed,
            Some("b"),
        ),
        (
            orphan().config(SYNC).sync_key("b", "a", 0).answer(|a| a.write_sync = false),
            Reason::SyncKeyChanged,
            None,
        ),
        (
            orphan().config(r#""check_timeline":true"#).answer(|a| a.replica_timeline = None),
            Reason::UnknownTimeline,
            None,
        ),
        (
            orphan().config(SYNC).sync_key("b", "a", 0).answer(|a| a.sync_names = SyncNamesSet::NotWritten),
            Reason::SyncNamesNotSet,
            None,
        ),
        (orphan().memory(|m| m.backoff.not_promoted_at = Some(NOW)), Reason::NotPromoted, None),
        (orphan().view(|v| v.watchdog.healthy = false), Reason::Watchdog, None),
        (orphan().answer(|a| a.watchdog = false), Reason::Watchdog, None),
    ]
}

#[test]
fn each_reason_has_a_situation() {
    let mut seen = std::collections::HashSet::new();
    for (world, reason, waits_for) in cases() {
        let outcome = world.run();
        let found = outcome.held_back.unwrap_or_else(|| panic!("{reason:?}: none, {}", outcome.line));
        assert_eq!((found.reason, found.waits_for.as_deref()), (reason, waits_for), "{}", outcome.line);
        assert!(!found.sentence().contains('\n'), "{}", found.sentence());
        assert!(
            reason == Reason::SyncKeyChanged || !outcome.line.starts_with("promoted self"),
            "{reason:?}: {}",
            outcome.line
        );
        seen.insert(reason.as_str());
    }
    // As many as the enumeration has.
    assert_eq!(seen.len(), Reason::Watchdog as usize + 1);
}

#[test]
fn sentences_for_each_reason() {
    let sentence = |reason| HeldBack { reason, waits_for: None, facts: Vec::new() }.sentence();
    assert_eq!(sentence(Reason::NoFailover), "Not promoted: it is tagged nofailover");
    let all: std::collections::HashSet<_> =
        cases().into_iter().map(|(_, reason, _)| sentence(reason)).collect();
    assert_eq!(all.len(), Reason::Watchdog as usize + 1);
}

#[test]
fn nothing_to_say_where_somebody_leads_or_this_node_is_promoted() {
    for world in [leader(), replica(), orphan(), orphan().primary(), leader().paused(), replica().hung()] {
        let outcome = world.run();
        assert_eq!(outcome.held_back, None, "{}", outcome.line);
    }
}

#[test]
fn the_record_tells_what_was_compared() {
    let outcome = orphan().peer("c", |p| p.wal_position = Lsn::new(2000)).run();
    let found = outcome.held_back.unwrap();
    let sentence =
        "Not promoted: another member has received more WAL (waiting for c, position 1000, peer position 2000)";
    assert_eq!(found.sentence(), sentence);
    let record = json::dumps(&found.fields());
    let text = r#"{"event": "not_promoted", "reason": "peer_ahead", "waits_for": "c", "position": 1000, "peer_position": 2000}"#;
    assert_eq!(record, text);
}
