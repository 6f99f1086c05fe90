//! The document that tables of members are made of (surface-api-ctl G1 to G6).

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::{Cluster, Lsn, Member};
use pyfmt::{Map, Value};

use crate::store::global_config;

const COPIED: [&str; 5] =
    ["timeline", "pending_restart", "pending_restart_reason", "scheduled_restart", "tags"];

/// Members by name, pause, and a scheduled switchover.
pub fn document(cluster: &Cluster) -> Value {
    let config = global_config(cluster);
    let mut members: Vec<&Member> = cluster.members.iter().collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let members: Vec<Value> = members.into_iter().map(|m| member_document(m, cluster, &config)).collect();
    let mut document: Value = [("members", Value::List(members))].into_iter().collect();
    if config.is_paused() {
        document.set("pause", true);
    }
    if let Some(switchover) = scheduled_switchover(cluster) {
        document.set("scheduled_switchover", switchover);
    }
    document
}

fn role(member: &Member, cluster: &Cluster, config: &GlobalConfig) -> &'static str {
    let leader = cluster.leader.as_ref().is_some_and(|l| l.name() == member.name);
    let synchronous = config.is_synchronous_mode() && cluster.sync.matches(&member.name, false);
    match (leader, synchronous) {
        (true, _) if config.is_standby_cluster() => "standby_leader",
        (true, _) => "leader",
        (false, true) if config.is_quorum_commit_mode() => "quorum_standby",
        (false, true) => "sync_standby",
        (false, false) => "replica",
    }
}

fn member_document(member: &Member, cluster: &Cluster, config: &GlobalConfig) -> Value {
    let role = role(member, cluster, config);
    let mut document = Map::new();
    let mut put = |key: &str, value: Value| document.insert(Value::from(key), value);
    put("name", member.name.as_str().into());
    put("role", role.into());
    put("state", state(member, role));
    put("api_url", member.data.get("api_url").cloned().unwrap_or_default());
    let kwargs = member.conn_kwargs(None);
    let address = |key: &str| kwargs.iter().find(|(k, v)| k == key && v.truthy()).map(|(_, v)| v.clone());
    if let Some(host) = address("host") {
        put("host", host);
        if let Some(port) = address("port").and_then(|p| p.py_str().trim().parse::<i64>().ok()) {
            put("port", Value::Int(port));
        }
    }
    for key in COPIED {
        if let Some(value) = member.data.get(key) {
            put(key, value.clone());
        }
    }
    if !role.ends_with("leader") {
        for (kind, lsn) in
            [("receive_", member.receive_lsn()), ("replay_", member.replay_lsn()), ("", member.lsn())]
        {
            let (lsn, lag) = position(lsn, cluster.status.last_lsn);
            put(&format!("{kind}lsn"), lsn);
            put(&format!("{kind}lag"), lag);
        }
    }
    Value::Map(document)
}

fn state(member: &Member, role: &str) -> Value {
    let replication = member.data.get("replication_state").filter(|v| role != "leader" && v.truthy());
    replication.or_else(|| member.data.get("state")).cloned().unwrap_or_else(|| "".into())
}

/// The LSN as PostgreSQL prints it, and the bytes behind the leader.
fn position(lsn: Option<Lsn>, leader: Lsn) -> (Value, Value) {
    match lsn.filter(|lsn| *lsn != 0) {
        None => ("unknown".into(), "unknown".into()),
        Some(lsn) => {
            let text = format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF);
            (text.into(), leader.saturating_sub(lsn).into())
        }
    }
}

fn scheduled_switchover(cluster: &Cluster) -> Option<Value> {
    let failover = cluster.failover.as_ref()?;
    let at = failover.scheduled_at.as_ref()?;
    let mut document: Value = [("at", at.iso_text())].into_iter().collect();
    for (key, name) in [("from", &failover.leader), ("to", &failover.candidate)] {
        if let Some(name) = name.as_deref().filter(|n| !n.is_empty()) {
            document.set(key, name);
        }
    }
    Some(document)
}
