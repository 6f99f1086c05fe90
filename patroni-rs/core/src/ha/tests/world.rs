//! A scripted world around one cycle: what the engine sees, and what it is told when it asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pyfmt::{json, Value};

use super::super::*;
use crate::cluster_state::ClusterState;
use crate::global_config::GlobalConfig;
use crate::model::{Cluster, Lsn, Node, ShutdownCheckpoint};
use crate::sync::{CurrentState, NameSet};
use crate::tags::Tags;
use crate::timing::Timing;
use crate::PgVersion;

/// The node that the tests are about.
pub const ME: &str = "a";
/// Our system identifier.
pub const SYSID: &str = "7000000000000000001";
/// The monotonic clock.
pub const NOW: Mono = Mono::seconds(1000);
/// 2026-01-01 00:00:00 UTC.
pub const WALL_US: i64 = 1_767_225_600_000_000;

/// What a DCS call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    Yes,
    No,
    Down,
}

/// The answers of the world where they are not derived from its state.
#[derive(Debug, Clone)]
pub struct Answers {
    /// So many reads of the cluster succeed.
    pub loads: usize,
    pub update: Reply,
    pub acquire: Reply,
    pub initialize: bool,
    pub take_leader: bool,
    pub write_sync: bool,
    pub watchdog: bool,
    pub stop: bool,
    /// Nothing is left of the server that ran here.
    pub proven: bool,
    pub cancel: bool,
    pub checkpoint: bool,
    pub can_rewind: bool,
    pub diverged: Option<bool>,
    pub recovery: Option<RecoveryChange>,
    pub sync_names: SyncNamesSet,
    pub walsenders: Option<Vec<Walsender>>,
    pub reload: bool,
    pub unwatch: bool,
    pub control: ControlData,
    pub replica_timeline: Option<u32>,
    pub history: Vec<Value>,
    pub slots: Vec<String>,
    pub peers: BTreeMap<String, PeerStatus>,
    /// Peers answer from the last to the first, and those who are not needed are too late.
    pub hurried: bool,
    pub failsafe: BTreeMap<String, bool>,
    /// Answers to `CurrentSync`; the last one stays.
    pub sync: Vec<CurrentState>,
    pub stopping: Stopping,
    /// Somebody promotes PostgreSQL manually after the first look at it.
    pub promoted_by_hand: bool,
    /// The stop ends while candidates are asked again.
    pub exits: bool,
    /// A job that began after the view was taken.
    pub running: Option<String>,
    /// An answer of the wrong kind comes.
    pub confused: bool,
    /// How much later each answer comes.
    pub latency: Duration,
    /// How much later that to the question for the lock comes.
    pub acquire_takes: Duration,
}

/// The world: keys of the DCS, this node, and its memory.
#[derive(Debug, Clone)]
pub struct World {
    pub keys: BTreeMap<String, String>,
    /// What has changed by the second read; an empty text deletes.
    pub later: BTreeMap<String, Option<String>>,
    pub view: View,
    pub memory: Memory,
    pub answers: Answers,
}

/// A shutdown checkpoint there, with a WAL switch before it.
pub fn stopped_at(location: u64) -> ShutdownCheckpoint {
    ShutdownCheckpoint { location: Lsn::new(location), publish: Lsn::new(location - 10) }
}

/// A peer that answers as a healthy replica at our position, unless changed.
pub fn peer(name: &str, change: impl FnOnce(&mut PeerStatus)) -> PeerStatus {
    let mut peer = PeerStatus {
        name: name.into(),
        reachable: true,
        in_recovery: Some(true),
        wal_position: Lsn::new(1000),
        timeline: 1,
        watchdog_failed: false,
        tags: Tags::default(),
    };
    change(&mut peer);
    peer
}

/// A value from JSON text.
pub fn js(text: &str) -> Value {
    json::loads(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn me() -> LocalMember {
    LocalMember {
        name: ME.into(),
        conn_url: "postgres://127.0.0.1:5432/postgres".into(),
        api_url: "http://a:8008/patroni".into(),
        proxy_url: None,
        tags: Tags::default(),
        can_bootstrap: true,
        has_no_leader_method: false,
        no_leader_methods: Vec::new(),
        reinit_on_diverged: false,
        reinit_on_failed_rewind: false,
        user_sync_names: None,
        dynamic_config: js(r#"{"ttl":30}"#),
        timing: Timing::default(),
    }
}

/// A running replica of a three-node cluster `a`, `b`, `c` that `b` leads, one minute old.
pub fn replica() -> World {
    let view = View {
        now: NOW,
        wall_us: WALL_US,
        me: Arc::new(me()),
        pg: PgView {
            state: PgState::Running,
            role: Role::Replica,
            running: true,
            query: Query::Row(Box::new(PgStatus {
                wal_position: Lsn::new(1000),
                received: Some(Lsn::new(1000)),
                replayed: Some(Lsn::new(1000)),
                received_timeline: Some(1),
                ..PgStatus::default()
            })),
            data_dir: DataDir::Present,
            sysid: SYSID.into(),
            sysid_problem: String::new(),
            state_since: NOW - Duration::from_secs(60),
            callback_fired: true,
            server_version: PgVersion::from_num(150_018),
            major_version: PgVersion::V15,
            pending_restart_reason: Value::map(),
            postmaster_start_time: Some("2026-01-01 00:00:00+00:00".into()),
        },
        job: None,
        lease_until: None,
        watchdog: WatchdogView { running: false, healthy: true },
        failsafe_ping: None,
        disable_sync: false,
        scheduled_restart: None,
    };
    let mut world = World {
        keys: BTreeMap::new(),
        later: BTreeMap::new(),
        view,
        memory: Memory::new(GlobalConfig::default()),
        answers: answers(),
    };
    for name in ["a", "b", "c"] {
        world = world.member(name, "replica", "");
    }
    world
        .member("b", "primary", "")
        .key("initialize", SYSID)
        .key("config", r#"{"ttl":30}"#)
        .key("leader", "b")
        .key("status", r#"{"optime":1000}"#)
}

/// Standbys that stream, with what they have flushed.
pub fn receivers(rows: &[(&str, u64)]) -> Vec<Walsender> {
    rows.iter()
        .map(|(name, flushed)| Walsender { name: (*name).into(), flushed: Lsn::new(*flushed) })
        .collect()
}

fn answers() -> Answers {
    Answers {
        loads: usize::MAX,
        update: Reply::Yes,
        acquire: Reply::Yes,
        initialize: true,
        take_leader: true,
        write_sync: true,
        watchdog: true,
        proven: true,
        stop: true,
        cancel: true,
        checkpoint: true,
        can_rewind: true,
        diverged: None,
        recovery: Some(RecoveryChange::default()),
        sync_names: SyncNamesSet::InForce,
        walsenders: Some(receivers(&[("b", 1000), ("c", 1000)])),
        reload: true,
        unwatch: true,
        control: ControlData { state: ClusterState::ShutDownInRecovery, ..ControlData::default() },
        replica_timeline: Some(1),
        history: Vec::new(),
        slots: Vec::new(),
        peers: BTreeMap::new(),
        hurried: false,
        failsafe: BTreeMap::new(),
        sync: Vec::new(),
        stopping: Stopping { checkpoint: None, exited: true },
        promoted_by_hand: false,
        exits: false,
        running: None,
        confused: false,
        latency: Duration::ZERO,
        acquire_takes: Duration::ZERO,
    }
}

/// The primary that holds the lock.
pub fn leader() -> World {
    let world = replica().primary().leads("a").lease().member("b", "replica", "").watchdog(true);
    world.memory(|m| m.lock.won = true)
}

/// A replica in a cluster whose leader has gone; both peers answer, and neither is ahead.
pub fn orphan() -> World {
    let mut world = replica().member("b", "replica", "");
    world.memory.old_cluster = Some(world.cluster(&world.keys));
    world.memory.cluster = world.memory.old_cluster.clone();
    world.without("leader").peer("b", |_| ()).peer("c", |_| ())
}

/// A freshly started node with an empty data directory.
pub fn newcomer() -> World {
    let mut world = replica().without("members/a").role(Role::Uninitialized).down();
    world.view.pg.data_dir = DataDir::Empty;
    world.view.pg.sysid = String::new();
    world.view.pg.callback_fired = false;
    world
}

impl World {
    pub fn cluster(&self, keys: &BTreeMap<String, String>) -> ClusterRef {
        let node = |value: &String| Node {
            value: value.clone(),
            version: "7".into(),
            modify_version: None,
            session: Some("s".into()),
        };
        Arc::new(Cluster::from_nodes(&keys.iter().map(|(k, v)| (k.clone(), node(v))).collect()))
    }

    /// The DCS has gone back to an earlier state since the last cycle, which read this position, and this timeline.
    pub fn went_back(mut self, position: u64, timeline: u32) -> World {
        let lines = (1..timeline).map(|t| format!("[{t},1,\"r\"]")).collect::<Vec<_>>().join(",");
        let mut keys = self.keys.clone();
        keys.insert("status".into(), format!(r#"{{"optime":{position}}}"#));
        keys.insert("history".into(), format!("[{lines}]"));
        let mut before = (*self.cluster(&keys)).clone();
        before.setbacks = 1;
        self.memory.cluster = Some(Arc::new(before));
        self
    }

    pub fn key(mut self, path: &str, value: &str) -> World {
        self.keys.insert(path.into(), value.into());
        self
    }

    pub fn without(mut self, path: &str) -> World {
        self.keys.remove(path);
        self
    }

    pub fn leads(self, name: &str) -> World {
        self.key("leader", name)
    }

    /// Seen from the second read on.
    pub fn later(mut self, path: &str, value: &str) -> World {
        self.later.insert(path.into(), Some(value).filter(|v| !v.is_empty()).map(Into::into));
        self
    }

    /// A member key; `extra` is more JSON members.
    pub fn member(self, name: &str, role: &str, extra: &str) -> World {
        let comma = if extra.is_empty() { "" } else { "," };
        let text = format!(
            r#"{{"conn_url":"postgres://{name}:5432/postgres","api_url":"http://{name}:8008/patroni","state":"running","role":"{role}","version":"4.1.5","timeline":1{comma}{extra}}}"#
        );
        self.key(&format!("members/{name}"), &text)
    }

    /// Members of the dynamic configuration, as JSON.
    pub fn config(mut self, members: &str) -> World {
        let text = format!(r#"{{"ttl":30,{members}}}"#);
        self.memory.config = GlobalConfig::new(js(&text));
        self.key("config", &text)
    }

    pub fn paused(self) -> World {
        self.config(r#""pause":true"#)
    }

    pub fn me(mut self, change: impl FnOnce(&mut LocalMember)) -> World {
        change(Arc::make_mut(&mut self.view.me));
        self
    }

    pub fn tags(self, text: &str) -> World {
        self.me(|me| me.tags = Tags::from_value(&js(text)))
    }

    pub fn role(mut self, role: Role) -> World {
        self.view.pg.role = role;
        self
    }

    pub fn state(mut self, state: PgState) -> World {
        self.view.pg.state = state;
        self
    }

    pub fn row(mut self, change: impl FnOnce(&mut PgStatus)) -> World {
        if let Query::Row(row) = &mut self.view.pg.query {
            change(row);
        }
        self
    }

    /// A running primary.
    pub fn primary(self) -> World {
        self.role(Role::Primary).row(|row| {
            *row = PgStatus {
                is_primary: true,
                timeline: 1,
                wal_position: Lsn::new(1000),
                ..PgStatus::default()
            };
        })
    }

    /// No postmaster.
    pub fn down(mut self) -> World {
        self.view.pg.running = false;
        self.view.pg.state = PgState::Stopped;
        self.view.pg.query = Query::Unreachable;
        self
    }

    /// The postmaster died a moment ago.
    pub fn crashed(mut self, control_state: &str) -> World {
        self = self.down().state(PgState::Running);
        self.answers.control.state = ClusterState::parse(control_state);
        self
    }

    pub fn hung(mut self) -> World {
        self.view.pg.query = Query::Unreachable;
        self
    }

    pub fn lease(mut self) -> World {
        self.view.lease_until = Some(NOW + Duration::from_secs(20));
        self
    }

    pub fn watchdog(mut self, running: bool) -> World {
        self.view.watchdog.running = running;
        self
    }

    pub fn job(mut self, job: Job) -> World {
        self.view.job =
            Some(JobView { job, started_at: NOW - Duration::from_secs(5), shutdown_checkpoint: None });
        self
    }

    pub fn memory(mut self, change: impl FnOnce(&mut Memory)) -> World {
        change(&mut self.memory);
        self
    }

    pub fn view(mut self, change: impl FnOnce(&mut View)) -> World {
        change(&mut self.view);
        self
    }

    pub fn answer(mut self, change: impl FnOnce(&mut Answers)) -> World {
        change(&mut self.answers);
        self
    }

    /// A peer that answers as a healthy replica at our position, unless changed.
    pub fn peer(mut self, name: &str, change: impl FnOnce(&mut PeerStatus)) -> World {
        self.answers.peers.insert(name.into(), peer(name, change));
        self
    }

    pub fn sync_key(self, leader: &str, standbys: &str, quorum: u32) -> World {
        let text = format!(r#"{{"leader":"{leader}","quorum":{quorum},"sync_standby":"{standbys}"}}"#);
        self.key("sync", &text)
    }

    /// An answer to `CurrentSync`.
    pub fn current_sync(mut self, in_guc: &[&str], num: i64, confirmed: &[&str], active: &[&str]) -> World {
        let confirmed: NameSet = confirmed.iter().collect();
        self.answers.sync.push(CurrentState {
            numsync: num,
            numsync_confirmed: confirmed.len() as i64,
            sync: in_guc.iter().collect(),
            sync_confirmed: confirmed,
            active: active.iter().collect(),
            ..CurrentState::default()
        });
        self
    }
}
