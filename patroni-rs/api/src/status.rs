//! The status document of `/patroni` and of the health checks (surface-api-ctl 5).

use std::time::Instant;

use pyfmt::{Map, Value};

use crate::snapshot::{Queried, Snapshot, WalStatus};
use patroni_core::ha::VERSION;

/// The logger's queue is only mentioned beyond this length.
const NORMAL_LOG_QUEUE_SIZE: i64 = 2;

/// The document; the order of keys is part of the interface (J1).
pub fn document(s: &Snapshot, now: Instant) -> Value {
    let mut doc = Map::new();
    put(&mut doc, "state", s.state_text());
    let shown = s.shown(now);
    match &s.postgres.queried {
        None => put(&mut doc, "role", shown.role.as_str()),
        Some(q) => {
            put(&mut doc, "postmaster_start_time", q.postmaster_start_time.to_string());
            put(&mut doc, "role", shown.role.as_str());
            put(&mut doc, "server_version", i64::from(q.server_version.num()));
            put(&mut doc, "xlog", xlog(&q.wal));
            put_if(&mut doc, "quorum_standby", shown.quorum.then_some(true));
            put_if(&mut doc, "sync_standby", shown.sync.then_some(true));
            put_replication(&mut doc, q);
        }
    }
    put_if(&mut doc, "copy_failed", s.copy_failed.as_deref().map(Value::from));
    put_if(&mut doc, "copy_progress", Some(&s.copy_progress).filter(|p| p.truthy()).cloned());
    put_if(&mut doc, "pause", s.config.is_paused().then_some(true));
    put_if(&mut doc, "cluster_unlocked", s.is_unlocked(now).then_some(true));
    put_if(&mut doc, "failsafe_mode_is_active", s.failsafe_active.then_some(true));
    put(&mut doc, "dcs_last_seen", s.dcs_last_seen);
    put_node(&mut doc, s);
    Value::Map(doc)
}

fn put(doc: &mut Map, key: &str, value: impl Into<Value>) {
    doc.insert(Value::from(key), value.into());
}

fn put_if(doc: &mut Map, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        put(doc, key, value);
    }
}

/// Where a primary writes, or how far a standby has received and replayed, in bytes (J5).
fn xlog(wal: &WalStatus) -> Value {
    match wal {
        WalStatus::Primary { location, .. } => Value::from_iter([("location", *location)]),
        WalStatus::Replica { received, replayed, replayed_timestamp, paused, .. } => Value::from_iter([
            ("received_location", Value::from(*received)),
            ("replayed_location", Value::from(*replayed)),
            ("replayed_timestamp", Value::from(replayed_timestamp.map(|t| t.to_string()))),
            ("paused", Value::from(*paused)),
        ]),
    }
}

/// Timeline, how a standby gets its WAL, and the WAL senders (J7 to J9).
fn put_replication(doc: &mut Map, q: &Queried) {
    match &q.wal {
        WalStatus::Primary { timeline, .. } => put(doc, "timeline", *timeline),
        WalStatus::Replica { timeline, replication_state, .. } => {
            put(doc, "timeline", Value::from(*timeline));
            put_if(doc, "replication_state", replication_state.as_deref());
        }
    }
    put_if(doc, "replication", Some(&q.replication).filter(|r| r.truthy()).cloned());
}

/// What is known without a query: tags, identifiers, what waits for a restart, the log's queue (J11).
fn put_node(doc: &mut Map, s: &Snapshot) {
    put_if(doc, "tags", Some(&s.effective_tags).filter(|t| t.truthy()).cloned());
    put_if(doc, "database_system_identifier", Some(s.sysid.as_str()).filter(|id| !id.is_empty()));
    if s.pending_restart_reason.truthy() {
        put(doc, "pending_restart", true);
        put(doc, "pending_restart_reason", s.pending_restart_reason.clone());
    }
    let patroni = [("version", VERSION), ("scope", &s.scope), ("name", &s.name)];
    put(doc, "patroni", Value::from_iter(patroni));
    if s.scheduled_restart.truthy() {
        let mut restart = s.scheduled_restart.clone();
        restart.remove("postmaster_start_time");
        put(doc, "scheduled_restart", restart);
    }
    put_if(doc, "watchdog_failed", s.watchdog_failed.then_some(true));
    if s.log_queue_size > NORMAL_LOG_QUEUE_SIZE {
        put(doc, "logger_queue_size", s.log_queue_size);
        put_if(doc, "logger_records_lost", Some(s.log_records_lost).filter(|&n| n != 0));
    }
}
