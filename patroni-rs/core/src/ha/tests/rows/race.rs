//! 5: who may take the lock.

use std::time::Duration;

use super::super::super::*;
use super::super::world::{js, orphan, World, NOW};
use super::{row, Row};
use crate::model::{Lsn, SyncState};
use crate::tags::Tags;

const WINS: &str = "promoted self to leader by acquiring session lock";
const LOSES: &str = "following a different leader because i am not the healthiest node";

fn tagged(peer: &mut PeerStatus, tags: &str) {
    peer.tags = Tags::from_value(&js(tags));
}

/// The DCS went back a while ago, and told more before.
fn high_water(world: World) -> World {
    let told = world.cluster(&world.keys);
    let sync = SyncState::default();
    let mark = HighWater { timeline: 1, position: Lsn::new(1_049_577), heard: None, sync, told };
    world.memory(|m| m.high_water = Some(mark))
}

fn timeline(world: World, mine: Option<u32>) -> World {
    world
        .config(r#""check_timeline":true"#)
        .key("history", r#"[[1,900,"x"]]"#)
        .answer(|a| a.replica_timeline = mine)
}

/// In a pause: the primary that led when it last looked.
fn superseded_by() -> World {
    let mut world = orphan().primary().leads("a");
    world.memory.cluster = Some(world.cluster(&world.keys));
    world.without("leader").paused().key("history", r#"[[1,900,"x"]]"#)
}

fn priority_sync(names: &str) -> World {
    orphan().config(r#""synchronous_mode":true"#).sync_key("b", names, 0)
}

fn quorum(names: &str, quorum: u32) -> World {
    orphan().config(r#""synchronous_mode":"quorum""#).sync_key("b", names, quorum)
}

pub fn rows() -> Vec<Row> {
    let mut rows = eligible_rows();
    rows.extend(poll_rows());
    rows.extend(sync_rows());
    rows
}

fn eligible_rows() -> Vec<Row> {
    let failsafe = r#""failsafe_mode":true"#;
    vec![
        row(
            "5.1-01",
            orphan().memory(|m| m.backoff.released_at = Some(NOW - Duration::from_secs(29))),
            LOSES,
            "load load slots touch",
        )
        .says(
            "backoff: skip leader race after pre_promote script failure and releasing the lock voluntarily",
        ),
        row(
            "5.1-01",
            orphan().memory(|m| m.backoff.released_at = Some(NOW - Duration::from_secs(30))),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row("5.1-03", orphan().state(PgState::Starting), LOSES, "load load touch"),
        row(
            "5.1-04",
            orphan().primary().paused().key("initialize", ""),
            "PAUSE: acquired session lock as a leader",
            "load acquire load ssn:none slots touch",
        ),
        // Another has led, on the timeline after ours, since we saw ourselves lead (docs/safety.md, `hazards-quorum` 1085);
        // a primary that people have started meanwhile, or that is not behind, is taken.
        row("5.1-04", superseded_by(), "PAUSE: continue to run as primary without lock", "load load slots touch")
            .says("My timeline 1 is behind last known cluster timeline 2"),
        row(
            "5.1-04",
            superseded_by().row(|r| r.timeline = 2),
            "PAUSE: acquired session lock as a leader",
            "load acquire load ssn:none slots touch",
        ),
        row(
            "5.1-04",
            orphan().primary().paused().key("history", r#"[[1,900,"x"]]"#),
            "PAUSE: acquired session lock as a leader",
            "load acquire load ssn:none history([]) slots touch",
        ),
        row(
            "5.1-04",
            orphan().primary().paused().key("initialize", "7000000000000000009"),
            "PAUSE: continue to run as primary without lock",
            "load load slots touch",
        ),
        row(
            "5.1-04",
            orphan().primary().tags(r#"{"nofailover":true}"#).key("status", "9999999999"),
            "acquired session lock as a leader",
            "load acquire load watch ssn:none slots touch",
        ),
        row(
            "5.1-05",
            orphan().tags(r#"{"failover_priority":0}"#),
            "following a different leader because I am not allowed to promote",
            "load yield load slots touch",
        ),
        row(
            "5.1-07",
            orphan()
                .key("failover", r#"{"leader":"b","member":"a","scheduled_at":"2036-01-01T00:00:00+00:00"}"#),
            WINS,
            "load acquire failover() load watch ssn:none job:promote slots touch",
        ),
        row("5.1-08", orphan().view(|v| v.watchdog.healthy = false), LOSES, "load load slots touch")
            .says("Watchdog device is not usable"),
        // Nor for a switchover.
        row(
            "5.1-09",
            orphan()
                .config(failsafe)
                .key("failsafe", r#"{"b":"http://b/"}"#)
                .key("failover", r#"{"leader":"b"}"#)
                .peer("b", |p| p.reachable = false),
            LOSES,
            "load peers(b) load slots touch",
        ),
        row(
            "5.1-09",
            orphan()
                .config(failsafe)
                .key("failsafe", r#"{"b":"http://b/"}"#)
                .peer("b", |p| p.reachable = false),
            LOSES,
            "load peers(b) load slots touch",
        ),
        row(
            "5.1-09",
            orphan()
                .config(failsafe)
                .key("failsafe", r#"{"b":"http://b/"}"#)
                .peer("b", |p| p.in_recovery = Some(false)),
            LOSES,
            "load peers(b) load slots touch",
        ),
        // Nobody goes on by failsafe when all who could are standbys.
        row(
            "5.1-09",
            orphan().config(failsafe).key("failsafe", r#"{"b":"http://b/"}"#),
            WINS,
            "load peers(b) peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.1-09",
            orphan().config(failsafe).key("failsafe", "{}"),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.1-09",
            orphan().config(failsafe).key("failsafe", "[5]"),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.2-01",
            orphan().config(failsafe).key("failsafe", r#"{"a":"http://a/","d":"http://d/"}"#),
            WINS,
            "load peers(b,c,d) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.2-01",
            orphan().member("c", "replica", r#""tags":{"nofailover":true}"#),
            WINS,
            "load peers(b) acquire load watch ssn:none job:promote slots touch",
        ),
        row("5.2-04", orphan().key("status", r#"{"optime":1049577}"#), LOSES, "load load slots touch")
            .says("My wal position exceeds maximum replication lag"),
        row(
            "5.2-04",
            orphan().key("status", r#"{"optime":1049576}"#),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        // The newer of what the DCS tells, and told before it went back.
        row("S14", orphan().went_back(1_049_577, 1), LOSES, "load load slots touch")
            .says(
                "The DCS went back to an earlier state: it tells WAL position 1000 on timeline 0, and 1049577 on \
                 timeline 1 was seen before. The leader race goes by the latter",
            )
            .says("My wal position exceeds maximum replication lag"),
        row(
            "S14",
            orphan().went_back(1_049_576, 1),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row("S14", high_water(orphan()), LOSES, "load load slots touch"),
        row(
            "S14",
            orphan().config(r#""check_timeline":true"#).went_back(1000, 2),
            LOSES,
            "load load slots touch",
        )
        .says("My timeline 1 is behind last known cluster timeline 2"),
        row("5.2-05", timeline(orphan(), None), LOSES, "load load slots touch")
            .says("Can not figure out my timeline"),
        row("5.2-05", timeline(orphan(), Some(1)), LOSES, "load load slots touch")
            .says("My timeline 1 is behind last known cluster timeline 2"),
        // Who is behind on timelines refuses to lead, however far its WAL goes, and so holds nobody up.
        row(
            "5.2-05",
            timeline(orphan(), Some(2)).peer("c", |p| (p.timeline, p.wal_position) = (1, Lsn::new(2000))),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.2-05",
            timeline(orphan(), Some(2)).peer("c", |p| (p.timeline, p.wal_position) = (0, Lsn::new(2000))),
            LOSES,
            "load peers(b,c) load slots touch",
        )
        .says("Wal position of c is ahead of my wal position"),
        row(
            "5.2-05",
            timeline(orphan(), Some(2)),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
    ]
}

fn poll_rows() -> Vec<Row> {
    vec![
        row(
            "5.2-09",
            orphan().peer("c", |p| (p.reachable, p.wal_position) = (false, Lsn::new(2000))),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.2-09",
            orphan().peer("c", |p| {
                p.wal_position = Lsn::new(2000);
                tagged(p, r#"{"nofailover":true}"#);
            }),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        row(
            "5.2-09",
            orphan().peer("c", |p| (p.watchdog_failed, p.wal_position) = (true, Lsn::new(2000))),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
        // The loser stops streaming, even from a primary that lives on.
        row(
            "5.2-18",
            orphan()
                .peer("c", |p| p.wal_position = Lsn::new(1001))
                .answer(|a| a.recovery = Some(RecoveryChange { change: true, restart: false })),
            LOSES,
            "load peers(b,c) load follow(nobody,replica) slots touch",
        ),
        row(
            "5.2-10",
            orphan().peer("c", |p| p.in_recovery = Some(false)),
            LOSES,
            "load peers(b,c) load slots touch",
        )
        .says("Primary (c) is still alive"),
        row(
            "5.2-11",
            orphan().peer("c", |p| p.wal_position = Lsn::new(1001)),
            LOSES,
            "load peers(b,c) load slots touch",
        )
        .says("Wal position of c is ahead of my wal position"),
        row(
            "5.2-12",
            orphan().peer("c", |p| tagged(p, r#"{"failover_priority":2}"#)),
            LOSES,
            "load peers(b,c) load slots touch",
        )
        .says("c has equally tolerable WAL position and priority 2, while this node has priority 1"),
        row(
            "5.2-12",
            orphan().peer("b", |p| tagged(p, r#"{"failover_priority":2}"#)),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        )
        .says("Ignoring former leader b having priority 2 higher than this nodes 1 priority"),
        row(
            "5.2-12",
            orphan()
                .tags(r#"{"failover_priority":2}"#)
                .peer("c", |p| tagged(p, r#"{"failover_priority":2}"#)),
            WINS,
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
    ]
}

fn sync_rows() -> Vec<Row> {
    vec![
        // Where votes count, a timeline counts more than a position.
        row(
            "5.2-11",
            quorum("a,c", 1).answer(|a| a.replica_timeline = Some(2)).peer("c", |p| {
                (p.timeline, p.wal_position) = (1, Lsn::new(2000));
            }),
            WINS,
            "load peers(b,c) acquire load watch ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        )
        .says("Got quorum vote from c"),
        row(
            "5.2-11",
            quorum("a,c", 1).peer("c", |p| (p.timeline, p.wal_position) = (2, Lsn::new(500))),
            LOSES,
            "load peers(b,c) load slots touch",
        )
        .says("Timeline 2 of c is ahead of my timeline 1"),
        row("5.1-10", priority_sync("c"), LOSES, "load load slots touch"),
        row(
            "5.1-10",
            priority_sync("A"),
            WINS,
            "load peers(b) acquire load watch ssn:0() sync(a;;0) job:promote slots touch",
        ),
        row(
            "5.1-11",
            orphan().config(r#""synchronous_mode":true"#),
            WINS,
            "load peers(b,c) acquire load watch ssn:0() sync(a;;0) job:promote slots touch",
        ),
        row(
            "5.2-01",
            priority_sync("a"),
            WINS,
            "load peers(b) acquire load watch ssn:0() sync(a;;0) job:promote slots touch",
        ),
        row(
            "5.2-11",
            priority_sync("a").peer("b", |p| p.wal_position = Lsn::new(2000)),
            WINS,
            "load peers(b) acquire load watch ssn:0() sync(a;;0) job:promote slots touch",
        )
        .says("Ignoring the former leader being ahead of us"),
        row(
            "5.2-14",
            quorum("a,c", 1),
            WINS,
            "load peers(b,c) acquire load watch ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        )
        .says("Got quorum vote from c"),
        row(
            "5.2-14",
            quorum("a,c", 2).peer("b", |p| p.reachable = false),
            LOSES,
            "load peers(b,c) load slots touch",
        ),
        row(
            "5.2-14",
            quorum("a,c", 1)
                .peer("c", |p| p.wal_position = Lsn::new(0))
                .peer("b", |p| p.wal_position = Lsn::new(0)),
            LOSES,
            "load peers(b,c) load slots touch",
        ),
        row(
            "5.2-14",
            quorum("c", 1),
            WINS,
            "load peers(b,c) acquire load watch ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        )
        .says("Got quorum vote from b"),
        // Without a vote, and not compared with the leader that it missed (docs/safety.md, `hazards-quorum` 2385).
        row(
            "5.2-14",
            quorum("c", 1).memory(|m| m.rewind.state = Rewind::Check),
            LOSES,
            "load load slots touch",
        ),
        row(
            "5.2-14",
            quorum("a,c", 1).memory(|m| m.rewind.state = Rewind::Check),
            WINS,
            "load peers(b,c) acquire load watch ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        ),
        row(
            "5.2-14",
            quorum("c", 1).peer("b", |p| p.reachable = false),
            LOSES,
            "load peers(b,c) load slots touch",
        ),
        row(
            "5.2-14",
            quorum("c", 1)
                .sync_key("a", "c", 1)
                .peer("b", |p| p.reachable = false)
                .peer("c", |p| p.reachable = false),
            WINS,
            "load peers(c) acquire load watch ssn:0(c) sync(a;c;1) job:promote slots touch",
        ),
        row(
            "5.2-01",
            quorum("a,c", 1)
                .member("c", "replica", r#""tags":{"nofailover":true}"#)
                .peer("b", |p| p.reachable = false),
            WINS,
            "load peers(b,c) acquire load watch ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        ),
        row(
            "5.2-12",
            quorum("a,c", 1).peer("c", |p| tagged(p, r#"{"failover_priority":2}"#)),
            LOSES,
            "load peers(b,c) load slots touch",
        ),
    ]
}
