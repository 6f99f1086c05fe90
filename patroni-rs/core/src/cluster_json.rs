//! The cluster as one document: `GET /cluster` and the tables of `patronictl`
//! (surface-api-ctl G1 to G6).

use pyfmt::{Map, Value};

use crate::global_config::GlobalConfig;
use crate::model::{Cluster, Member};

/// Keys copied from the member key.
const OPTIONAL: [&str; 5] =
    ["timeline", "pending_restart", "pending_restart_reason", "scheduled_restart", "tags"];

/// Members, pause and scheduled switchover; `/cluster` adds `scope` behind them.
pub fn document(cluster: &Cluster, config: &GlobalConfig) -> Value {
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let members = members.into_iter().map(|m| member_document(m, cluster, config)).collect::<Vec<_>>();
    let mut doc = Value::from_iter([("members", Value::List(members))]);
    if config.is_paused() {
        doc.set("pause", true);
    }
    if let Some(switchover) = scheduled_switchover(cluster) {
        doc.set("scheduled_switchover", switchover);
    }
    doc
}

fn member_document(m: &Member, cluster: &Cluster, config: &GlobalConfig) -> Value {
    let is_leader = cluster.leader_name() == Some(m.name.as_str());
    let role = match is_leader {
        true if config.is_standby_cluster() => "standby_leader",
        true => "leader",
        false if config.is_synchronous_mode() && cluster.sync.matches(&m.name, false) => {
            if config.is_quorum_commit_mode() {
                "quorum_standby"
            } else {
                "sync_standby"
            }
        }
        false => "replica",
    };
    let mut doc = Map::new();
    let mut put = |key: &str, value: Value| doc.insert(Value::from(key), value);
    put("name", m.name.as_str().into());
    put("role", role.into());
    put("state", state(m, role));
    put("api_url", m.data.get("api_url").cloned().unwrap_or_default());
    for (key, value) in address(m) {
        put(key, value);
    }
    for key in OPTIONAL {
        if let Some(value) = m.data.get(key) {
            put(key, value.clone());
        }
    }
    if !is_leader {
        put_lags(&mut doc, m, cluster);
    }
    Value::Map(doc)
}

/// A standby shows how it gets its WAL in place of its state (G3).
fn state(m: &Member, role: &str) -> Value {
    let replication = m.data.get("replication_state").filter(|v| role != "leader" && v.truthy());
    replication.or_else(|| m.data.get("state")).cloned().unwrap_or_else(|| Value::from(""))
}

/// Host and port of PostgreSQL, if known.
fn address(m: &Member) -> Vec<(&'static str, Value)> {
    let kwargs = m.conn_kwargs(None);
    let find = |key: &str| kwargs.iter().find(|(k, v)| k == key && v.truthy()).map(|(_, v)| v);
    let Some(host) = find("host") else { return Vec::new() };
    let port = find("port").and_then(|p| p.py_str().trim().parse::<i64>().ok());
    std::iter::once(("host", host.clone())).chain(port.map(|p| ("port", p.into()))).collect()
}

/// G4. TRAP: the order of keys differs where a position is not known.
fn put_lags(doc: &mut Map, m: &Member, cluster: &Cluster) {
    for (prefix, lsn) in [("receive_", m.receive_lsn()), ("replay_", m.replay_lsn()), ("", m.lsn())] {
        let (lsn_key, lag_key) = (Value::from(format!("{prefix}lsn")), Value::from(format!("{prefix}lag")));
        match lsn.filter(|l| l.is_known()) {
            None => {
                doc.insert(lsn_key, "unknown".into());
                doc.insert(lag_key, "unknown".into());
            }
            Some(lsn) => {
                doc.insert(lag_key, cluster.status.last_lsn.ahead_of(lsn).into());
                doc.insert(lsn_key, lsn.text().into());
            }
        }
    }
}

/// The switchover that waits for its time, with what is known of its ends (G6).
fn scheduled_switchover(cluster: &Cluster) -> Option<Value> {
    let failover = cluster.failover.as_ref()?;
    let mut doc = Value::from_iter([("at", Value::from(failover.scheduled_at.as_ref()?.iso_text()))]);
    for (key, name) in [("from", &failover.leader), ("to", &failover.candidate)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            doc.set(key, name);
        }
    }
    Some(doc)
}
