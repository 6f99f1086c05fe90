//! A daemon of lies: the leader of a cluster of one, in memory.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_api::backend::{Reinitialize, Result};
use patroni_api::{
    Backend, BackendError, FailsafeReply, PostgresState, Queried, Restarted, Snapshot, WalStatus,
};
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{PgState, Role};
use patroni_core::model::{Cluster, ClusterConfig, Failover, Leader, Member};
use patroni_core::tags::Tags;
use pyfmt::datetime::DateTime;
use pyfmt::{json, Value};

pub fn value(text: &str) -> Value {
    json::loads(text).unwrap()
}

pub fn member(name: &str, data: &str) -> Member {
    Member { name: name.into(), data: value(data), ..Member::default() }
}

pub fn cluster(config: &Value, leader: Option<&str>, members: Vec<Member>) -> Cluster {
    let leader = leader.map(|name| Leader {
        member: members.iter().find(|m| m.name == name).cloned().unwrap_or_else(|| member(name, "{}")),
        ..Leader::default()
    });
    let config = ClusterConfig { version: "1".into(), data: config.clone(), modify_version: "1".into() };
    Cluster { initialize: Some("1".into()), config: Some(config), leader, members, ..Cluster::default() }
}

/// A running primary with the lease.
pub fn primary() -> Snapshot {
    let config = value(r#"{"ttl": 30, "loop_wait": 10, "retry_timeout": 10}"#);
    let later = Instant::now() + Duration::from_secs(3600);
    let me = member(
        "pg1",
        r#"{"api_url": "http://127.0.0.1:8008/patroni", "state": "running", "role": "primary"}"#,
    );
    Snapshot {
        name: "pg1".into(),
        scope: "demo".into(),
        lease_until: Some(later),
        cluster: Some(Arc::new(cluster(&config, Some("pg1"), vec![me]))),
        other_groups: std::sync::Arc::default(),
        cluster_valid_until: Some(later),
        config: GlobalConfig::new(config),
        dcs_last_seen: 1795244822,
        failsafe: None,
        failsafe_active: false,
        ttl: Duration::from_secs(30),
        loop_wait: Duration::from_secs(10),
        next_run: Some(later),
        postgres: PostgresState {
            state: PgState::Running,
            role: Role::Primary,
            postmaster_alive: true,
            queried: Some(Queried {
                postmaster_start_time: DateTime::from_unix(1795244767, 469239, Some(0)).unwrap(),
                server_version: patroni_core::PgVersion::from_num(150_018),
                wal: WalStatus::Primary { timeline: 1, location: 67108960 },
                replication: Value::List(vec![]),
            }),
        },
        tags: Tags::default(),
        effective_tags: Value::map(),
        sysid: "7710517561466687807".into(),
        pending_restart_reason: Value::map(),
        scheduled_restart: Value::Null,
        watchdog_failed: false,
        held_back: None,
        measured: Default::default(),
        log_queue_size: 0,
        log_records_lost: 0,
        copy_progress: Value::Null,
        copy_failed: None,
    }
}

/// A running, streaming replica.
pub fn replica() -> Snapshot {
    let mut s = primary();
    s.name = "pg2".into();
    s.lease_until = None;
    s.postgres.role = Role::Replica;
    if let Some(queried) = &mut s.postgres.queried {
        queried.wal = WalStatus::Replica {
            timeline: Some(1),
            received: Some(67108960),
            replayed: Some(67108960),
            replayed_timestamp: None,
            paused: false,
            latest_end_lsn: 67108960,
            replication_state: Some("streaming".into()),
        };
    }
    s
}

pub struct Fake {
    state: Mutex<State>,
    changes: tokio::sync::watch::Sender<u64>,
}

struct State {
    snapshot: Snapshot,
    failover: Option<Value>,
    restart: bool,
    hang: bool,
    views: VecDeque<Cluster>,
    candidates: Vec<String>,
    written: Vec<String>,
}

impl Fake {
    pub fn new(snapshot: Snapshot) -> Arc<Fake> {
        Fake::scripted(snapshot, Vec::new())
    }

    /// Reads of the DCS give these, one after the other, the last one forever.
    pub fn scripted(snapshot: Snapshot, views: Vec<Cluster>) -> Arc<Fake> {
        let state = State {
            snapshot,
            failover: None,
            restart: false,
            hang: false,
            views: views.into(),
            candidates: Vec::new(),
            written: Vec::new(),
        };
        Arc::new(Fake { state: Mutex::new(state), changes: tokio::sync::watch::Sender::new(0) })
    }

    /// These members can be promoted.
    pub fn good(&self, names: &[&str]) {
        self.state.lock().unwrap().candidates = names.iter().map(|n| (*n).to_owned()).collect();
    }

    /// What was written to `/config` and `/failover`.
    pub fn written(&self) -> Vec<String> {
        self.state.lock().unwrap().written.clone()
    }

    /// The keys of the cluster have changed.
    pub fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub fn hang(&self) {
        self.state.lock().unwrap().hang = true;
    }

    fn set(&self, data: Value) {
        let mut state = self.state.lock().unwrap();
        let mut view = (**state.snapshot.cluster.as_ref().unwrap()).clone();
        view.config = view.config.map(|c| ClusterConfig { data: data.clone(), ..c });
        state.snapshot.config = GlobalConfig::new(data);
        state.snapshot.cluster = Some(Arc::new(view));
    }
}

impl Backend for Fake {
    fn last_snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.state.lock().unwrap().snapshot.clone())
    }

    async fn snapshot(&self, _retry: bool) -> Arc<Snapshot> {
        if self.state.lock().unwrap().hang {
            std::future::pending::<()>().await;
        }
        self.last_snapshot()
    }

    async fn cluster(&self) -> Result<Arc<Cluster>> {
        let mut state = self.state.lock().unwrap();
        if state.views.len() > 1 {
            return Ok(Arc::new(state.views.pop_front().unwrap()));
        }
        if let Some(last) = state.views.front() {
            return Ok(Arc::new(last.clone()));
        }
        if state.hang {
            return Err(BackendError("DCSError: Etcd is not responding properly".into()));
        }
        let mut view = (**state.snapshot.cluster.as_ref().unwrap()).clone();
        view.failover = state.failover.as_ref().map(|f| Failover::from_node("1", &json::dumps_compact(f)));
        view.failover = view.failover.filter(|f| !f.is_empty());
        Ok(Arc::new(view))
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn set_config(&self, text: String, version: Option<String>) -> Result<bool> {
        assert!(version.is_none_or(|v| v == "1"));
        self.set(value(&text));
        self.state.lock().unwrap().written.push(text);
        Ok(true)
    }

    async fn set_failover(&self, text: String, _version: Option<String>) -> Result<bool> {
        let mut state = self.state.lock().unwrap();
        state.failover = Some(value(&text));
        state.written.push(text);
        Ok(true)
    }

    fn wakeup(&self) {}

    fn reload(&self) {}

    async fn restart(&self, filter: Value) -> Result<Restarted> {
        if !filter.truthy() {
            return Ok(Restarted { done: true, message: "restarted successfully".into() });
        }
        Ok(Restarted { done: false, message: "restart conditions are not satisfied".into() })
    }

    async fn schedule_restart(&self, filter: Value, _at_us: i64) -> Result<bool> {
        assert!(filter.get("schedule").is_some());
        Ok(!std::mem::replace(&mut self.state.lock().unwrap().restart, true))
    }

    async fn delete_restart(&self) -> Result<bool> {
        Ok(std::mem::take(&mut self.state.lock().unwrap().restart))
    }

    async fn reinitialize(&self, _how: Reinitialize) -> Result<Option<String>> {
        Ok(Some("I am the leader, can not reinitialize".into()))
    }

    async fn any_can_promote(&self, members: Vec<Member>) -> bool {
        let state = self.state.lock().unwrap();
        members.iter().any(|m| state.candidates.contains(&m.name))
    }

    async fn failsafe(&self, _leader: Value) -> Result<FailsafeReply> {
        Ok(FailsafeReply::Accepted(Some(42)))
    }

    async fn mpp_event(&self, _event: Value) -> Result<()> {
        Ok(())
    }
}

/// Sends, and reads to the end.
pub fn talk(address: SocketAddr, data: &[u8], half_close: bool) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The server may close early; what it answered still counts.
    let _ = stream.write_all(data);
    if half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut reply = Vec::new();
    if let Err(error) = stream.read_to_end(&mut reply) {
        assert!(!reply.is_empty(), "{error}");
    }
    reply
}
