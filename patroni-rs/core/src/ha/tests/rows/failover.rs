//! 6: manual failover and switchover.

use std::time::Duration;

use super::super::world::{js, leader, orphan, receivers, World, NOW};
use super::{row, Row};
use crate::model::Lsn;
use crate::tags::Tags;

const LEADS: &str = "no action. I am (a), the leader with the lock";
const WINS: &str = "promoted self to leader by acquiring session lock";
const LOSES: &str = "following a different leader because i am not the healthiest node";

fn asked(world: World, key: &str) -> World {
    world.peer("b", |_| ()).peer("c", |_| ()).key("failover", key)
}

fn at(when: &str) -> World {
    asked(leader(), &format!(r#"{{"leader":"a","member":"b","scheduled_at":"{when}"}}"#))
}

pub fn rows() -> Vec<Row> {
    let mut rows = scheduled_rows();
    rows.extend(leader_rows());
    rows.extend(possible_rows());
    rows.extend(fed_rows());
    rows.extend(leaderless_rows());
    rows.extend(pause_rows());
    rows
}

/// Nothing is stopped for a switchover while nobody receives WAL.
fn fed_rows() -> Vec<Row> {
    let order = r#"{"leader":"a"}"#;
    let fed = |rows: &[(&str, u64)]| {
        let rows = receivers(rows);
        asked(leader(), order).answer(|a| a.walsenders = Some(rows))
    };
    let since = |world: World, seconds| {
        world.memory(|m| m.switchover_waits = Some(NOW - Duration::from_secs(seconds)))
    };
    const DEMOTES: &str = "switchover: demoting myself";
    const STOPS: &str = "load update+status feed peers(b,c) job:switchover: demote touch";
    const WAITS: &str = "load update+status feed peers(b,c) ssn:none slots touch";
    const REFUSES: &str = "load update+status feed peers(b,c) failover() ssn:none slots touch";
    let far = |world: World| world.row(|r| r.wal_position = Lsn::new(1000 + (17 << 20)));
    let cascade = |world: World| world.member("c", "replica", r#""tags":{"replicatefrom":"b"}"#);
    vec![
        row("S12", fed(&[("C", 1000)]), DEMOTES, STOPS),
        row("S12", fed(&[]), LEADS, WAITS)
            .says("switchover: waiting for a candidate to receive WAL from this node: b, c"),
        row("S12", fed(&[("outsider", 1000)]), LEADS, WAITS),
        row("S12", since(fed(&[]), 7), LEADS, WAITS),
        row("S12", since(fed(&[]), 8), LEADS, REFUSES)
            .says("switchover: no candidate receives WAL from this node, or is near: b, c")
            .says("switchover: no healthy members found, switchover is not possible")
            .says("Cleaning up failover key"),
        row("S12", far(fed(&[("b", 1000)])), LEADS, WAITS),
        row("S12", far(fed(&[("b", 1000 + (1 << 20))])), DEMOTES, STOPS),
        row("S12", fed(&[]).answer(|a| a.walsenders = None), LEADS, WAITS),
        // Demoted a moment ago, and still the holder of the lock.
        row(
            "S12",
            fed(&[]).role(super::super::super::Role::Replica).row(|r| r.is_primary = false),
            "promoted self to leader because I had the session lock",
            "load update+status feed peers(b,c) ssn:none job:promote slots touch",
        ),
        // By way of another replica, or not by streaming at all.
        row(
            "S12",
            cascade(fed(&[("b", 1000)])).key("failover", r#"{"leader":"a","member":"c"}"#),
            DEMOTES,
            "load update+status feed peers(c) job:switchover: demote touch",
        ),
        row(
            "S12",
            cascade(fed(&[])).key("failover", r#"{"leader":"a","member":"c"}"#),
            LEADS,
            "load update+status feed peers(c) ssn:none slots touch",
        ),
        row("S12", fed(&[]).member("c", "replica", r#""tags":{"nostream":true}"#), DEMOTES, STOPS),
        // A failover may cost commits.
        row(
            "S12",
            fed(&[]).key("failover", r#"{"member":"b"}"#),
            "manual failover: demoting myself",
            "load update+status feed peers(b) job:manual failover: demote touch",
        ),
    ]
}

fn scheduled_rows() -> Vec<Row> {
    vec![
        row("6-03", at("2026-01-01T00:00:11+00:00"), LEADS, "load update+status feed ssn:none slots touch")
            .says("Awaiting switchover at 2026-01-01T00:00:11+00:00 (in 11 seconds)"),
        row("6-03", at("2026-01-01T00:00:05+00:00"), LEADS, "load update+status feed ssn:none slots touch"),
        row(
            "6-03",
            at("2026-01-01T00:00:00+00:00"),
            "switchover: demoting myself",
            "load update+status feed peers(b) job:switchover: demote touch",
        )
        .says("Manual scheduled switchover at 2026-01-01T00:00:00+00:00"),
        row(
            "6-03",
            at("2025-12-31T23:59:45+00:00"),
            "switchover: demoting myself",
            "load update+status feed peers(b) job:switchover: demote touch",
        ),
        row(
            "6-03",
            at("2025-12-31T23:59:44+00:00"),
            LEADS,
            "load update+status feed failover() ssn:none slots touch",
        )
        .says("Found a stale switchover value, cleaning up: 2025-12-31T23:59:44+00:00"),
        row(
            "6-03",
            at("2026-01-01T00:00:00"),
            LEADS,
            "load update+status feed failover() ssn:none slots touch",
        )
        .says("Incorrect value of scheduled_at: 2026-01-01 00:00:00"),
        row("6-03", at("soon"), LEADS, "load update+status feed failover() ssn:none slots touch")
            .says("Incorrect value of scheduled_at: soon"),
        row(
            "6-03",
            asked(leader(), r#"{"member":"b","scheduled_at":"2026-01-01T00:00:00Z"}"#),
            "manual failover: demoting myself",
            "load update+status feed peers(b) job:manual failover: demote touch",
        )
        .says("Manual scheduled failover at 2026-01-01T00:00:00+00:00"),
        row(
            "8-01",
            at("2026-01-01T00:00:00+00:00").paused(),
            "PAUSE: no action. I am (a), the leader with the lock",
            "load unwatch update+status ssn:none slots touch",
        ),
    ]
}

fn leader_rows() -> Vec<Row> {
    vec![
        row(
            "6-05",
            asked(leader(), r#"{"leader":"a"}"#),
            "switchover: demoting myself",
            "load update+status feed peers(b,c) job:switchover: demote touch",
        ),
        row(
            "6-05",
            asked(leader(), r#"{"member":"b"}"#),
            "manual failover: demoting myself",
            "load update+status feed peers(b) job:manual failover: demote touch",
        ),
        row(
            "6-05",
            asked(leader(), "a:b"),
            "switchover: demoting myself",
            "load update+status feed peers(b) job:switchover: demote touch",
        ),
        row(
            "6-05",
            asked(leader().paused(), r#"{"leader":"a","member":"b"}"#),
            "PAUSE: switchover: demoting myself",
            "load unwatch update+status peers(b) job:switchover: demote touch",
        ),
        row(
            "6-05",
            asked(leader().paused(), r#"{"leader":"a"}"#),
            "PAUSE: no action. I am (a), the leader with the lock",
            "load unwatch update+status failover() ssn:none slots touch",
        )
        .says("Switchover is possible only to a specific candidate in a paused state")
        .says("Cleaning up failover key"),
        row(
            "6-05",
            leader().key("failover", r#"{"leader":"a"}"#),
            LEADS,
            "load update+status feed peers(b,c) failover() ssn:none slots touch",
        )
        .says("switchover: no healthy members found, switchover is not possible")
        .says("Member b is not reachable"),
        row(
            "6-06",
            asked(leader(), r#"{"member":"a"}"#),
            LEADS,
            "load update+status feed failover() ssn:none slots touch",
        )
        .says("manual failover: I am already the leader, no need to failover"),
        row(
            "6-06",
            asked(leader(), r#"{"leader":"c","member":"b"}"#),
            LEADS,
            "load update+status feed failover() ssn:none slots touch",
        )
        .says("switchover: leader name does not match: c != a"),
    ]
}

fn possible_rows() -> Vec<Row> {
    let sync = |w: World| {
        w.config(r#""synchronous_mode":true"#).sync_key("a", "b", 0).current_sync(&["b"], 1, &["b"], &["b"])
    };
    let quorum = |w: World| {
        w.config(r#""synchronous_mode":"quorum""#).sync_key("a", "b,c", 1).current_sync(
            &["b", "c"],
            1,
            &["b", "c"],
            &["b", "c"],
        )
    };
    let switchover = |w: World| asked(w, r#"{"leader":"a"}"#);
    vec![
        row(
            "6-07",
            asked(leader(), r#"{"member":"x"}"#),
            LEADS,
            "load update+status feed failover() ssn:none slots touch",
        )
        .says("manual failover: candidates list is empty"),
        row(
            "6-07",
            asked(sync(leader()), r#"{"leader":"a","member":"c"}"#),
            LEADS,
            "load update+status feed failover() slots touch",
        )
        .says("Switchover candidate=c does not match with sync_standbys=b"),
        row(
            "6-07",
            asked(sync(leader()), r#"{"member":"c"}"#),
            "manual failover: demoting myself",
            "load update+status feed peers(c) job:manual failover: demote touch",
        ),
        row(
            "6-07",
            asked(sync(leader()), r#"{"leader":"a","member":"b"}"#),
            "switchover: demoting myself",
            "load update+status feed peers(b) job:switchover: demote touch",
        ),
        row(
            "6-07",
            switchover(leader().member("b", "replica", r#""tags":{"nofailover":true}"#)),
            "switchover: demoting myself",
            "load update+status feed peers(c) job:switchover: demote touch",
        ),
        row(
            "6-08",
            switchover(leader().key("status", r#"{"optime":2000000}"#)),
            LEADS,
            "load update+status feed peers(b,c) failover() ssn:none slots touch",
        )
        .says("Member b exceeds maximum replication lag"),
        row(
            "6-08",
            switchover(
                leader().config(r#""check_timeline":true"#).key("history", r#"[[1,900,"x","t","a"]]"#),
            )
            .row(|r| r.timeline = 2),
            LEADS,
            "load update+status feed peers(b,c) failover() ssn:none slots touch",
        )
        .says("Timeline 1 of member b is behind the cluster timeline 2"),
        row(
            "6-08",
            switchover(quorum(leader())),
            "switchover: demoting myself",
            "load update+status feed peers(b,c) job:switchover: demote touch",
        ),
        row(
            "6-08",
            switchover(quorum(leader())).peer("c", |p| p.reachable = false),
            LEADS,
            "load update+status feed peers(b,c) failover() slots touch",
        )
        .says("Quorum requirement 1 can not be reached"),
        // One who can is enough, whatever the other says or does not say.
        row(
            "6-08",
            switchover(leader()).peer("b", |p| p.reachable = false),
            "switchover: demoting myself",
            "load update+status feed peers(b,c) job:switchover: demote touch",
        )
        .says("Member b is not reachable"),
        row(
            "6-08",
            switchover(leader()).peer("c", |p| p.tags = Tags::from_value(&js(r#"{"nofailover":true}"#))),
            "switchover: demoting myself",
            "load update+status feed peers(b,c) job:switchover: demote touch",
        )
        .says("Member c is not allowed to promote"),
        row(
            "6-08",
            asked(quorum(leader()), r#"{"leader":"a","member":"b"}"#),
            "switchover: demoting myself",
            "load update+status feed peers(b) job:switchover: demote touch",
        ),
    ]
}

const QUORUM: &str = r#""synchronous_mode":"quorum""#;

fn leaderless_rows() -> Vec<Row> {
    let waits = |world: World, name: &str, seconds| {
        let since = (name.to_owned(), NOW - Duration::from_secs(seconds));
        world.memory(|m| m.candidate_waited_for = Some(since))
    };
    let sync = |w: World| w.config(r#""synchronous_mode":true"#).sync_key("b", "a", 0);
    vec![
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"b","member":"a"}"#),
            WINS,
            "load acquire failover() load watch ssn:none job:promote slots touch",
        ),
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"b","member":"c"}"#),
            LOSES,
            "load peers(c) yield load slots touch",
        )
        .says("switchover: to c, i am a"),
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"b","member":"c"}"#).peer("c", |p| p.reachable = false),
            WINS,
            "load peers(c) peers(c) acquire failover() load watch ssn:none job:promote slots touch",
        )
        .says("switchover: member c is not reachable"),
        // Nobody waits for who may not lead.
        row(
            "S16",
            asked(sync(orphan()), r#"{"leader":"b","member":"c"}"#),
            WINS,
            "load acquire failover() load watch ssn:0() sync(a;;0) job:promote slots touch",
        )
        .says("Switchover candidate=c does not match with sync_standbys=a"),
        row(
            "S16",
            asked(orphan().config(QUORUM).sync_key("b", "a,d", 1), r#"{"leader":"b","member":"c"}"#)
                .member("d", "replica", "")
                .peer("d", |_| ()),
            WINS,
            "load peers(d) acquire failover() load watch ssn:1(b,d) sync(a;b,d;1) job:promote slots touch",
        )
        .says("Switchover candidate=c does not match with sync_standbys=a,d"),
        // The former leader, which has come back, takes what nobody else can.
        row(
            "S16",
            asked(sync(orphan()).sync_key("a", "b", 0), r#"{"leader":"a","member":"c"}"#)
                .peer("b", |p| p.reachable = false),
            WINS,
            "load peers(b) acquire failover() load watch ssn:0() sync(a;;0) job:promote slots touch",
        ),
        // It may lead by a failover, which may cost commits; and whoever is in /sync by a switchover.
        row("S16", asked(sync(orphan()), r#"{"member":"c"}"#), LOSES, "load peers(c) yield load slots touch")
            .says("manual failover: to c, i am a"),
        row(
            "S16",
            asked(sync(orphan()).sync_key("b", "a,C", 0), r#"{"leader":"b","member":"c"}"#),
            LOSES,
            "load peers(c) yield load slots touch",
        ),
        // A node that is not in /sync does not lead for want of the candidate.
        row(
            "S16",
            asked(sync(orphan()).sync_key("b", "b", 0), r#"{"leader":"b","member":"c"}"#),
            LOSES,
            "load yield load slots touch",
        ),
        // A candidate that can, and does not.
        row(
            "S16",
            waits(asked(orphan(), r#"{"leader":"b","member":"c"}"#), "c", 29),
            LOSES,
            "load peers(c) yield load slots touch",
        ),
        row(
            "S16",
            waits(asked(orphan(), r#"{"leader":"b","member":"c"}"#), "c", 30),
            WINS,
            "load peers(c) peers(c) acquire failover() load watch ssn:none job:promote slots touch",
        )
        .says("switchover: member c has not taken the leader lock for 30 s"),
        row(
            "S16",
            waits(asked(orphan(), r#"{"member":"c"}"#), "d", 30),
            LOSES,
            "load peers(c) yield load slots touch",
        ),
        // Not in a pause.
        row(
            "S16",
            waits(asked(orphan().paused(), r#"{"leader":"b","member":"c"}"#), "c", 300),
            "PAUSE: no action. I am (a)",
            "load yield load slots touch",
        ),
        row("6-09", asked(orphan(), r#"{"leader":"a"}"#), LOSES, "load peers(b,c) load slots touch"),
        row(
            "6-09",
            orphan()
                .key("failover", r#"{"leader":"a"}"#)
                .peer("b", |p| p.reachable = false)
                .peer("c", |p| p.reachable = false),
            WINS,
            "load peers(b,c) acquire failover() load watch ssn:none job:promote slots touch",
        ),
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"a","member":"c"}"#).peer("c", |p| p.watchdog_failed = true),
            LOSES,
            "load peers(c) peers(b) yield load slots touch",
        )
        .says("switchover: member c is not watchdog capable"),
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"b"}"#).key("status", "99999999"),
            LOSES,
            "load load slots touch",
        )
        .says("My wal position exceeds maximum replication lag"),
        row(
            "6-09",
            asked(orphan(), r#"{"leader":"b"}"#).peer("c", |p| p.wal_position = Lsn::new(1001)),
            LOSES,
            "load peers(c) load slots touch",
        ),
        row(
            "5.1-06",
            asked(sync(orphan()).sync_key("b", "c", 0), r#"{"leader":"b"}"#),
            LOSES,
            "load load slots touch",
        ),
        row(
            "6-09",
            asked(sync(orphan()).sync_key("b", "c", 0), r#"{"member":"x"}"#),
            LOSES,
            "load yield load slots touch",
        ),
        row(
            "6-09",
            asked(sync(orphan()), r#"{"leader":"b"}"#),
            WINS,
            "load acquire failover() load watch ssn:0() sync(a;;0) job:promote slots touch",
        ),
    ]
}

fn pause_rows() -> Vec<Row> {
    let key = r#"{"leader":"b","member":"c"}"#;
    let gone = r#"{"leader":"b","member":"gone"}"#;
    vec![
        row(
            "6-10",
            asked(orphan().paused(), r#"{"member":"a"}"#),
            "PAUSE: promoted self to leader by acquiring session lock",
            "load acquire failover() load ssn:none job:promote slots touch",
        ),
        row(
            "6-10",
            asked(orphan().paused(), key),
            "PAUSE: no action. I am (a)",
            "load yield load slots touch",
        ),
        row(
            "6-10",
            asked(orphan().paused(), gone),
            "PAUSE: no action. I am (a)",
            "load yield load slots touch",
        ),
        row(
            "6-10",
            asked(orphan().primary().paused(), gone),
            "PAUSE: acquired session lock as a leader",
            "load failover() acquire failover(gone) load ssn:none slots touch",
        )
        .says("switchover: removing failover key because failover candidate is not running"),
        row(
            "6-10",
            asked(orphan().paused(), r#"{"leader":"b"}"#),
            "PAUSE: no action. I am (a)",
            "load load slots touch",
        ),
    ]
}
