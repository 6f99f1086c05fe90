//! A [`World`] from a recorded situation (fixtures/ha/generate.py).

use std::collections::BTreeMap;
use std::time::Duration;

use pyfmt::{json, Value};

use super::super::*;
use super::world::{replica, Reply, World, NOW, WALL_US};
use crate::cluster_state::ClusterState;
use crate::global_config::GlobalConfig;
use crate::model::Lsn;
use crate::tags::Tags;
use crate::PgVersion;

fn text<'a>(v: &'a Value, key: &str) -> Option<&'a str> {
    v.get(key).and_then(Value::as_str)
}

fn flag(v: &Value, key: &str) -> bool {
    v.get(key).is_some_and(Value::truthy)
}

fn flag_or(v: &Value, key: &str, default: bool) -> bool {
    v.get(key).and_then(Value::as_bool).unwrap_or(default)
}

fn int(v: &Value, key: &str) -> Option<i64> {
    v.get(key).and_then(Value::as_i64)
}

fn ago(v: &Value, key: &str) -> Option<Mono> {
    int(v, key).map(|s| NOW - Duration::from_secs(s as u64))
}

fn texts(v: &Value) -> Vec<String> {
    v.as_list().unwrap().iter().map(Value::py_str).collect()
}

fn keys(v: &Value) -> BTreeMap<String, String> {
    v.as_map().unwrap().iter().map(|(k, v)| (k.py_str(), v.py_str())).collect()
}

/// The world that a situation describes.
pub fn world(s: &Value) -> World {
    let mut w = replica();
    w.keys = keys(s.get("keys").unwrap());
    if let Some(later) = s.get("later") {
        for (path, value) in keys(later) {
            w = w.later(&path, &value);
        }
    }
    w = w.me(|me| {
        me.tags = Tags::published(s.get("tags").unwrap_or(&Value::map()));
        me.can_bootstrap = flag_or(s, "can_bootstrap", true);
        me.has_no_leader_method = flag(s, "no_leader_method");
        me.no_leader_methods = if me.has_no_leader_method { vec!["m".into()] } else { Vec::new() };
        me.reinit_on_diverged = flag(s, "reinit_on_diverged");
    });
    if let Some(me) = s.get("me") {
        let seconds = |key| Duration::from_secs(int(me, key).unwrap() as u64);
        w = w.me(|m| {
            m.name = text(me, "name").unwrap().into();
            m.conn_url = text(me, "conn_url").unwrap().into();
            m.api_url = text(me, "api_url").unwrap().into();
            (m.timing.ttl, m.timing.loop_wait) = (seconds("ttl"), seconds("loop_wait"));
            m.timing.retry_timeout = seconds("retry_timeout");
        });
    }
    w.view.wall_us = int(s, "wall_us").unwrap_or(WALL_US);
    if flag(s, "lease") {
        w = w.lease();
    }
    w.view.watchdog =
        WatchdogView { running: flag(s, "watchdog"), healthy: flag_or(s, "watchdog_healthy", true) };
    postgres(&mut w.view.pg, s.get("pg").unwrap());
    if let Some(name) = text(s, "job") {
        w = w.job(job(name));
        if name == "switchover: demote" {
            let (mode, action) = (DemoteMode::Graceful, name.to_owned());
            w.memory.demotion = Some(Demotion {
                mode,
                action,
                planned: false,
                released: false,
                stopped: None,
                heirs_asked: None,
            });
        }
    }
    if let Some(at) = ago(s, "ping_age") {
        let usual = super::world::js(
            r#"{"name":"b","conn_url":"postgres://b:5432/postgres","api_url":"http://b:8008/patroni","slots":{}}"#,
        );
        let data = s.get("ping").cloned().unwrap_or(usual);
        w.view.failsafe_ping = Some(FailsafePing { data, at });
    }
    w.view.scheduled_restart = s.get("restart").map(restart);
    memory(&mut w, s);
    if s.get("me").is_some() && s.at(&["ans", "loads"]).and_then(Value::as_i64) == Some(0) {
        // No key was read in this cycle: those recorded are of an earlier one.
        let known = w.cluster(&w.keys);
        w.memory.failsafe.members = known.failsafe.clone();
        w.memory.cluster = Some(known);
    }
    let started = s.get("me").and_then(|_| s.at(&["restart", "started"]));
    if let Some(started) = started.and_then(Value::as_str) {
        w.view.pg.postmaster_start_time = Some(started.into());
    }
    answers(&mut w, s.get("ans").unwrap());
    w
}

fn postgres(pg: &mut PgView, v: &Value) {
    pg.state = PgState::ALL.into_iter().find(|x| Some(x.as_str()) == text(v, "state")).unwrap();
    pg.role = Role::ALL.into_iter().find(|x| Some(x.as_str()) == text(v, "role")).unwrap();
    pg.running = flag(v, "running");
    let lsn = |key| int(v, key).map(|n| Lsn::new(n as u64));
    pg.query = match (pg.running, text(v, "query")) {
        (true, Some("row")) => Query::Row(Box::new(PgStatus {
            is_primary: flag(v, "primary"),
            timeline: if flag(v, "primary") { int(v, "timeline").unwrap() as u32 } else { 0 },
            wal_position: lsn("lsn").unwrap(),
            replayed: lsn("replayed"),
            received: lsn("received"),
            replay_paused: flag(v, "replay_paused"),
            received_timeline: int(v, "received_timeline").map(|t| t as u32),
            control_timeline: int(v, "control_timeline").map(|t| t as u32),
            replication_state: text(v, "replication_state").map(Into::into),
            ..PgStatus::default()
        })),
        _ => Query::Unreachable,
    };
    pg.data_dir = match text(v, "data").unwrap() {
        "present" => DataDir::Present,
        "empty" => DataDir::Empty,
        error => DataDir::Inaccessible(error.into()),
    };
    pg.sysid = text(v, "sysid").unwrap().into();
    pg.state_since = ago(v, "in_state").unwrap();
    pg.callback_fired = flag(v, "cb_called");
    pg.major_version = PgVersion::from_num(int(v, "major").unwrap() as u32);
    if let Some(pending) = v.get("pending") {
        pg.pending_restart_reason = pending.clone();
    }
}

/// A job by its name; sources and timeouts do not matter while it runs.
pub fn job(name: &str) -> Job {
    let member = crate::model::Member::remote("b", Value::map());
    let source = Source { member, remote: false };
    match name {
        "restart" => Job::Restart { timeout: Duration::from_secs(300), release_sync: false },
        "promote" => Job::Promote,
        "bootstrap" => Job::Bootstrap,
        "starting primary after failure" => Job::StartPrimary { timeout: Duration::from_secs(300) },
        "doing crash recovery in a single user mode" => Job::CrashRecovery,
        "running pg_rewind from b" => Job::Rewind { source },
        "reinitialize" => {
            Job::Reinitialize { source: Some(source), what: "from leader 'b'".into(), from_leader: false }
        }
        "switchover: demote" => Job::Demote { name: name.into(), mode: DemoteMode::Graceful, timeout: None },
        "copy_logical_slots" => Job::CopySlots { slots: vec!["lg".into()] },
        other => Job::Follow { name: other.into(), source: Some(source), role: Role::Replica, timeout: None },
    }
}

fn restart(v: &Value) -> ScheduledRestart {
    if let (Some(at_us), Some(schedule)) = (int(v, "at_us"), text(v, "schedule")) {
        let mut data = v.get("data").unwrap().clone();
        data.set("schedule", schedule);
        data.set("postmaster_start_time", v.get("started").unwrap().clone());
        return ScheduledRestart { data, at_us, schedule: schedule.into() };
    }
    let seconds = int(v, "in").unwrap();
    let day = if seconds < 0 { "2025-12-31" } else { "2026-01-01" };
    let second = seconds.rem_euclid(86_400);
    let clock = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let schedule = format!("{day}T{clock}+00:00");
    let mut data = v.get("data").unwrap().clone();
    data.set("schedule", schedule.as_str());
    data.set("postmaster_start_time", v.get("started").unwrap().clone());
    ScheduledRestart { data, at_us: WALL_US + seconds * 1_000_000, schedule }
}

fn memory(w: &mut World, s: &Value) {
    let v = s.get("mem").unwrap();
    let config = match s.get("known_config") {
        Some(known) => known.clone(),
        None => json::loads(w.keys.get("config").map_or("{}", String::as_str)).unwrap_or_default(),
    };
    w.memory.config = GlobalConfig::new(config);
    let old = v.get("old").map(|old| w.cluster(&keys(old)));
    let m = &mut w.memory;
    m.old_cluster = old;
    m.rewind.state = match text(v, "rewind").unwrap_or("initial") {
        "checkpoint" => Rewind::Checkpoint,
        "check" => Rewind::Check,
        "need" => Rewind::Need,
        "not needed" => Rewind::NotNeeded,
        "success" => Rewind::Success,
        "failed" => Rewind::Failed,
        _ => Rewind::Initial,
    };
    // What was recorded had won its lock itself.
    m.lock.won = true;
    m.start.recovering = flag(v, "recovering");
    m.was_paused = flag(v, "was_paused");
    m.start.timeout = int(v, "start_timeout").map(|s| Duration::from_secs(s as u64));
    m.own.timeline = int(v, "last_timeline").map(|t| t as u32);
    m.start.crash_recovery_at = ago(v, "crash_age");
    m.backoff.released_at = ago(v, "released_age");
    m.sync.promoted_at = ago(v, "promoted_age");
    m.bootstrap.running = flag(v, "bootstrapping");
    m.bootstrap.result = v.get("bootstrap_result").and_then(Value::as_bool);
    m.backoff.pre_promote_failed = flag(v, "pre_promote_failed");
}

fn reply(v: &Value, key: &str) -> Reply {
    match text(v, key) {
        None | Some("yes") => Reply::Yes,
        Some("no") => Reply::No,
        _ => Reply::Down,
    }
}

fn answers(w: &mut World, v: &Value) {
    // All of them stream, and have everything.
    let members = w.keys.keys().filter_map(|k| k.strip_prefix("members/"));
    let all: Vec<_> = members.map(|name| (name, u64::MAX)).collect();
    w.answers.walsenders = Some(super::world::receivers(&all));
    let a = &mut w.answers;
    a.loads = int(v, "loads").map_or(usize::MAX, |n| n as usize);
    a.update = reply(v, "update");
    a.acquire = reply(v, "acquire");
    a.initialize = flag_or(v, "initialize", true);
    a.write_sync = flag_or(v, "write_sync", true);
    a.watchdog = flag_or(v, "watchdog", true);
    a.cancel = flag_or(v, "cancel", true);
    a.checkpoint = flag_or(v, "checkpoint", true);
    a.can_rewind = flag_or(v, "can_rewind", true);
    a.diverged = v.get("diverged").and_then(Value::as_bool);
    a.recovery = Some(RecoveryChange { change: flag(v, "change"), restart: flag(v, "restart") });
    let state = text(v, "control").unwrap_or("shut down in recovery");
    a.control.state = ClusterState::parse(state);
    a.control.lines = vec![(ClusterState::LINE.into(), state.into())];
    if let Some(timeline) = int(v, "control_timeline") {
        a.control.lines.push(("Latest checkpoint's TimeLineID".into(), timeline.to_string()));
    }
    a.control.recovery_conf_exists = flag(v, "recovery_conf");
    a.control.restored_from_backup = flag(v, "backup");
    a.replica_timeline = v.get("replica_timeline").map_or(Some(1), |t| t.as_i64().map(|t| t as u32));
    a.history = v.get("history").and_then(Value::as_list).unwrap_or_default().to_vec();
    a.slots = v.get("slots").map(texts).unwrap_or_default();
    for (name, answer) in v.get("peers").and_then(Value::as_map).into_iter().flatten() {
        if let Some(peer) = answer.as_str().and_then(|text| peer(&name.py_str(), text)) {
            a.peers.insert(name.py_str(), peer);
        }
    }
    for (name, accepted) in v.get("failsafe").and_then(Value::as_map).into_iter().flatten() {
        a.failsafe.insert(name.py_str(), accepted.truthy());
    }
    for state in v.get("sync").and_then(Value::as_list).into_iter().flatten() {
        let row = state.as_list().unwrap();
        let names = |i: usize| texts(&row[i]);
        let (guc, confirmed, active) = (names(0), names(2), names(3));
        let refs = |v: &Vec<String>| v.iter().map(String::as_str).collect::<crate::sync::NameSet>();
        a.sync.push(crate::sync::CurrentState {
            numsync: row[1].as_i64().unwrap(),
            numsync_confirmed: confirmed.len() as i64,
            sync: refs(&guc),
            sync_confirmed: refs(&confirmed),
            active: refs(&active),
            ..Default::default()
        });
    }
}

/// What the HTTP client makes of a peer's answer (surface-ha-pg 5.2-07, 5.2-08).
fn peer(name: &str, text: &str) -> Option<PeerStatus> {
    let data = json::loads(text).ok()?;
    let wal = data.get("wal").or_else(|| data.get("xlog"))?;
    let lsn = |key: &str| Lsn::new(int(wal, key).unwrap_or(0) as u64);
    let primary =
        lsn("location").is_known() || matches!(self::text(&data, "role"), Some("primary" | "master"));
    Some(PeerStatus {
        name: name.into(),
        reachable: true,
        in_recovery: Some(!primary),
        wal_position: if primary {
            Lsn::ZERO
        } else {
            lsn("received_location").max(lsn("replayed_location"))
        },
        timeline: int(&data, "timeline").unwrap_or(0) as u32,
        watchdog_failed: flag(&data, "watchdog_failed"),
        tags: Tags::from_value(data.get("tags").unwrap_or(&Value::Null)),
    })
}
