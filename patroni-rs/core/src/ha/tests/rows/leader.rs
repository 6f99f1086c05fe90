//! 4I with the lock, 4J, 7, 8, 11.

use std::time::Duration;

use super::super::super::*;
use super::super::world::{js, leader, replica, Reply, World, NOW, WALL_US};
use super::{row, Row};
use crate::model::Lsn;

const LEADS: &str = "no action. I am (a), the leader with the lock";

fn promotable() -> World {
    leader().role(Role::Replica).row(|r| r.is_primary = false)
}

fn standby(world: World) -> World {
    world.config(r#""standby_cluster":{"host":"remote"}"#)
}

fn standby_leader() -> World {
    standby(leader().role(Role::StandbyLeader).watchdog(false).row(|r| r.is_primary = false))
}

fn failsafe(world: World) -> World {
    let map = |names: &[&str]| {
        let members: Vec<String> =
            names.iter().map(|n| format!(r#""{n}":"http://{n}:8008/patroni""#)).collect();
        format!("{{{}}}", members.join(","))
    };
    world.config(r#""failsafe_mode":true"#).key("failsafe", &map(&["a", "b", "c"]))
}

fn seen(world: World) -> World {
    let cluster = world.cluster(&world.keys);
    world.memory(|m| m.cluster = Some(cluster))
}

fn cut_off(world: World) -> World {
    world.answer(|a| a.update = Reply::Down)
}

fn restart(world: World, seconds: i64, data: &str) -> World {
    world.view(|v| {
        let mut data = js(data);
        data.set("schedule", "2026-01-01T00:00:00+00:00");
        data.set("postmaster_start_time", "2026-01-01 00:00:00+00:00");
        let at_us = WALL_US + seconds * 1_000_000;
        v.scheduled_restart =
            Some(ScheduledRestart { data, at_us, schedule: "2026-01-01T00:00:00+00:00".into() });
    })
}

pub fn rows() -> Vec<Row> {
    let mut rows = lock_rows();
    rows.extend(inherited_rows());
    rows.extend(gate_rows());
    rows.extend(dcs_rows());
    rows.extend(restart_rows());
    rows
}

/// A standby that finds itself the holder of the lock.
fn heir() -> World {
    promotable().memory(|m| m.lock.won = false).peer("b", |_| ()).peer("c", |_| ())
}

/// What another has acknowledged since, with a lock from before it (an old state of the DCS).
fn inherited_rows() -> Vec<Row> {
    const PROMOTES: &str = "promoted self to leader because I had the session lock";
    const DISOWNS: &str = "released leader key because I did not win it and somebody else has led since";
    const ASKS: &str = "load update+status feed peers(b,c) ssn:none job:promote slots touch";
    const GIVES: &str = "load update+status feed peers(b,c) unwatch delete touch slots touch";
    let sync = |leader: &str, standbys: &str| {
        heir().config(r#""synchronous_mode":true"#).sync_key(leader, standbys, 0)
    };
    vec![
        row("S11", heir(), PROMOTES, ASKS),
        row(
            "S11",
            promotable().peer("b", |p| p.wal_position = Lsn::new(2000)),
            PROMOTES,
            "load update+status feed ssn:none job:promote slots touch",
        ),
        row("S11", heir().peer("b", |p| p.in_recovery = Some(false)), DISOWNS, GIVES)
            .says("The leader key names me, and somebody else has led since: b is a primary"),
        row(
            "S11",
            heir().memory(|m| m.lock.disowned_at = Some(NOW)),
            DISOWNS,
            "load update+status feed unwatch delete touch slots touch",
        ),
        // PostgreSQL could not be asked to promote itself: once is tried again, twice is another's chance.
        row(
            "S15",
            promotable().memory(|m| m.backoff.not_promoted = 1),
            PROMOTES,
            "load update+status feed ssn:none job:promote slots touch",
        ),
        row(
            "S15",
            promotable().memory(|m| m.backoff.not_promoted = 2),
            "Promotion cancelled because PostgreSQL could not be asked to promote itself",
            "load update+status feed unwatch delete touch slots touch",
        )
        .says("Releasing the leader key voluntarily because PostgreSQL could not be asked to promote itself"),
        // Given away, and the answer was lost.
        row(
            "S12",
            heir().memory(|m| m.lock.release_unsure = true),
            "released leader key again because nobody has confirmed that it was",
            "load update+status feed unwatch delete touch slots touch",
        ),
        row("S11", heir().peer("c", |p| p.timeline = 2), DISOWNS, GIVES)
            .says("The leader key names me, and somebody else has led since: c is on timeline 2, I am on 1"),
        row("S11", heir().peer("c", |p| p.wal_position = Lsn::new(1001)), DISOWNS, GIVES)
            .says("The leader key names me, and somebody else has led since: the WAL of c is ahead of mine"),
        row("S11", sync("b", "c"), DISOWNS, "load update+status feed unwatch delete touch slots touch")
            .says("The leader key names me, and somebody else has led since: I am not in /sync"),
        row(
            "S11",
            sync("b", "a"),
            PROMOTES,
            "load update+status feed peers(b,c) ssn:0() sync(a;;0) job:promote slots touch",
        ),
        // Who does not answer may be the one, on its way down; for ttl.
        row(
            "S11",
            heir().peer("c", |p| p.reachable = false),
            "not promoting before c answered because I did not win the leader key",
            "load update+status feed peers(b,c) unwatch slots touch",
        ),
        row(
            "S11",
            heir()
                .peer("c", |p| p.reachable = false)
                .memory(|m| m.lock.inherited_at = Some(NOW - Duration::from_secs(30))),
            PROMOTES,
            ASKS,
        ),
        row(
            "S11",
            heir().member("c", "replica", r#""state":"stopped""#).peer("c", |p| p.reachable = false),
            "not promoting before c answered because I did not win the leader key",
            "load update+status feed peers(b,c) unwatch slots touch",
        ),
    ]
}

fn lock_rows() -> Vec<Row> {
    let lost = || leader().answer(|a| a.update = Reply::No);
    let lost_replica = || promotable().answer(|a| a.update = Reply::No);
    vec![
        row(
            "4I-01",
            promotable().paused().key("failover", r#"{"member":"a"}"#),
            "PAUSE: waiting to become primary after promote...",
            "load unwatch slots touch",
        ),
        row(
            "4I-01",
            promotable().paused(),
            "PAUSE: removed leader lock because postgres is not running as primary",
            "load unwatch delete slots touch",
        ),
        row(
            "4I-02",
            standby_leader(),
            "no action. I am (a), the standby leader with the lock",
            "load update+status load slots touch",
        ),
        row(
            "4I-02",
            standby_leader().paused().config(r#""pause":true,"standby_cluster":{"host":"remote"}"#),
            "PAUSE: no action. I am (a), the standby leader with the lock",
            "load update+status load slots touch",
        ),
        row(
            "4I-02",
            standby_leader().role(Role::Replica),
            "promoted self to a standby leader because i had the session lock",
            "load update+status load role(standby_leader) call(on_role_change) slots touch",
        ),
        row("4I-02", standby(leader()), "cannot be a real primary in standby cluster", "load update+status feed load job:demoting to a standby cluster touch"),
        row("4I-03", leader(), LEADS, "load update+status feed ssn:none slots touch"),
        row("4I-03", leader().paused(), "PAUSE: no action. I am (a), the leader with the lock", "load unwatch update+status ssn:none slots touch"),
        row("4I-03", leader().watchdog(false), LEADS, "load update+status watch ssn:none slots touch"),
        row("4I-03", promotable(), "promoted self to leader because I had the session lock", "load update+status feed ssn:none job:promote slots touch"),
        row("10-20", promotable().role(Role::Promoted), LEADS, "load update+status feed ssn:none slots touch"),
        row("10-22", leader().key("history", r#"[[1,900,"x","t","a"]]"#), LEADS, "load update+status feed ssn:none history([]) slots touch"),
        row(
            "10-22",
            leader().row(|r| r.timeline = 2).answer(|a| a.history = vec![js(r#"[1,900,"x","t","a"]"#)]),
            LEADS,
            r#"load update+status feed ssn:none history([[1,900,"x","t","a"]]) slots touch"#,
        ),
        row("4I-04", lost(), "demoted self because failed to update leader lock in DCS", "load update+status stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch")
            .says("failed to update leader lock"),
        row(
            "4I-04",
            lost().paused(),
            "PAUSE: continue to run as primary after failing to update leader lock in DCS",
            "load unwatch update+status slots touch",
        ),
        row("4I-04", lost_replica(), "not promoting because failed to update leader lock in DCS", "load update+status unwatch slots touch"),
        row("4I-11", leader().answer(|a| a.slots = vec!["lg".into()]), "Copying logical slots ['lg'] from the primary", "load update+status feed ssn:none slots job:copy_logical_slots touch"),
        row("8-06", leader().watchdog(false).memory(|m| m.was_paused = true), LEADS, "load after_pause update+status watch ssn:none slots touch"),
        row("3-16", leader().hung(), "Error communicating with PostgreSQL. Will try again later", "load update feed ssn:none touch")
            .says("Exception when called state_handler.last_operation()"),
        row("3-15", leader().view(|v| v.pg.callback_fired = false), LEADS, "load update+status feed ssn:none slots call(on_start) touch"),
    ]
}

fn gate_rows() -> Vec<Row> {
    let no_watchdog = |w: World| w.watchdog(false).answer(|a| a.watchdog = false);
    vec![
        row(
            "4I-10",
            no_watchdog(leader()),
            "Demoting self because watchdog could not be activated",
            "load update+status watch stop(immediate) role(demoted) delete touch yield load job:starting after demotion(nobody,replica) touch",
        )
        .says("Demoting self (immediate)"),
        row(
            "4I-10",
            no_watchdog(promotable()),
            "Not promoting self because watchdog could not be activated",
            "load update+status watch delete touch slots touch",
        )
        .says("Leader key released"),
        row(
            "4I-10",
            promotable().memory(|m| m.backoff.pre_promote_failed = true),
            "Promotion cancelled because the pre-promote script failed",
            "load update+status feed unwatch delete touch slots touch",
        )
        .says("Releasing the leader key voluntarily because the pre-promote script failed"),
        row(
            "4I-10",
            promotable().config(r#""synchronous_mode":true"#).answer(|a| a.write_sync = false),
            "Postponing promotion because synchronous replication state was updated by somebody else",
            "load update+status feed ssn:0() sync(a;;0) unwatch slots touch",
        ),
    ]
}

fn dcs_rows() -> Vec<Row> {
    let runs_on =
        "continue to run as a leader because failsafe mode is enabled and all members are accessible";
    let demoted = "demoted self because DCS is not accessible and I was a leader";
    let agree = |w: World| {
        w.answer(|a| {
            a.failsafe.insert("b".into(), true);
            a.failsafe.insert("c".into(), true);
        })
    };
    let one_silent = |w: World| {
        w.answer(|a| {
            a.failsafe.insert("b".into(), true);
        })
    };
    let ping = |world: World, age: u64| {
        let data = js(r#"{"name":"b","conn_url":"postgres://b/","api_url":"http://b/patroni"}"#);
        world.view(|v| v.failsafe_ping = Some(FailsafePing { data, at: NOW - Duration::from_secs(age) }))
    };
    vec![
        row("7-01", failsafe(leader()), LEADS, "load update+status+failsafe(a,b,c) feed ssn:none slots touch"),
        row("4J-01", agree(failsafe(cut_off(leader()))), runs_on, "load update+status+failsafe(a,b,c) failsafe(b,c) extend feed slots(failsafe)"),
        row("7-03", failsafe(cut_off(leader())).key("failsafe", r#"{"a":"http://a/"}"#), runs_on, "load update+status+failsafe(a,b,c) extend feed slots(failsafe)"),
        row("7-03", agree(failsafe(cut_off(leader()))).key("failsafe", r#"{"b":"http://b/"}"#), demoted, "load update+status+failsafe(a,b,c) stop(fast) role(demoted) job:starting after demotion(nobody,replica)"),
        row("7-03", agree(failsafe(cut_off(leader()))).key("failsafe", "garbage"), demoted, "load update+status+failsafe(a,b,c) stop(fast) role(demoted) job:starting after demotion(nobody,replica)"),
        row("7-08", one_silent(failsafe(cut_off(leader()))), demoted, "load update+status+failsafe(a,b,c) failsafe(b,c) stop(fast) role(demoted) job:starting after demotion(nobody,replica)").says("Demoting self (offline)"),
        row(
            "7-02",
            agree(failsafe(leader())).answer(|a| a.update = Reply::No),
            "demoted self because failed to update leader lock in DCS",
            "load update+status+failsafe(a,b,c) stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch",
        ),
        row("4J-02", cut_off(leader()), demoted, "load update+status stop(fast) role(demoted) job:starting after demotion(nobody,replica)")
            .says("Error communicating with DCS")
            .says("demoting self because DCS is not accessible and I was a leader"),
        row("4J-02", leader().answer(|a| a.loads = 0), demoted, "load stop(fast) role(demoted) job:starting after demotion(nobody,replica)"),
        row("4J-03", replica().answer(|a| a.loads = 0), "DCS is not accessible", "load"),
        row("4J-03", leader().paused().answer(|a| a.loads = 0), "PAUSE: DCS is not accessible", "load"),
        row("4J-03", leader().down().answer(|a| a.loads = 0), "DCS is not accessible", "load"),
        // Slots are kept up by the last known cluster, and left alone where there is none.
        row("4J-03", seen(failsafe(replica())).answer(|a| a.loads = 0), "DCS is not accessible", "load slots(failsafe)"),
        row("4J-03", failsafe(replica()).answer(|a| a.loads = 0), "DCS is not accessible", "load"),
        row("4J-04", leader().hung().answer(|a| a.loads = 0), demoted, "load stop(fast) role(demoted) job:starting after demotion(nobody,replica)"),
        row(
            "7-07",
            ping(failsafe(leader()).without("leader"), 5),
            "acquired session lock as a leader",
            "load acquire load ssn:none slots touch",
        ),
        row(
            "7-06",
            ping(failsafe(replica()).without("leader"), 5),
            "no action. I am (a), a secondary, and following a leader (b)",
            "load slots touch",
        ),
        row(
            "7-06",
            ping(failsafe(replica()).without("leader"), 31).peer("b", |_| ()).peer("c", |_| ()),
            "promoted self to leader by acquiring session lock",
            "load peers(b,c) acquire load watch ssn:none job:promote slots touch",
        ),
    ]
}

fn restart_rows() -> Vec<Row> {
    let in_time = "Manual scheduled restart at 2026-01-01T00:00:00+00:00";
    vec![
        row(
            "4I-11",
            restart(leader(), 0, "{}"),
            "restart initiated",
            "load update+status feed ssn:none drop_restart job:restart touch",
        )
        .says(in_time),
        row(
            "4I-11",
            restart(replica(), -15, "{}"),
            "restart initiated",
            "load drop_restart job:restart touch",
        ),
        row(
            "11-07",
            restart(leader(), -16, "{}"),
            LEADS,
            "load update+status feed ssn:none drop_restart slots touch",
        )
        .says("Found a stale restart value, cleaning up: 2026-01-01T00:00:00+00:00"),
        row("11-07", restart(leader(), 3600, "{}"), LEADS, "load update+status feed ssn:none slots touch")
            .says("Awaiting restart at 2026-01-01T00:00:00+00:00 (in 3600 seconds)"),
        row(
            "11-07",
            restart(leader(), 0, "{}").view(|v| v.pg.postmaster_start_time = Some("later".into())),
            LEADS,
            "load update+status feed ssn:none drop_restart slots touch",
        )
        .says("Cancelling scheduled restart: postgres restart has already happened at later"),
        row(
            "8-01",
            restart(leader(), 0, "{}").paused(),
            "PAUSE: no action. I am (a), the leader with the lock",
            "load unwatch update+status ssn:none slots touch",
        ),
        row(
            "11-01",
            restart(leader(), 0, r#"{"role":"replica"}"#),
            LEADS,
            "load update+status feed ssn:none drop_restart slots touch",
        )
        .says("not proceeding with the restart: host role mismatch"),
        row(
            "11-01",
            restart(leader(), 0, r#"{"postgres_version":"15.18"}"#),
            LEADS,
            "load update+status feed ssn:none drop_restart slots touch",
        )
        .says("not proceeding with the restart: postgres version mismatch"),
        row(
            "11-02",
            restart(leader(), 0, r#"{"restart_pending":false}"#),
            LEADS,
            "load update+status feed ssn:none drop_restart slots touch",
        )
        .says("not proceeding with the restart: pending restart flag is not set")
        .says("Scheduled restart: restart conditions are not satisfied"),
    ]
}
