//! A member: the daemon's memory, its keeper, its server.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::keeper::Keeper;
use patroni_core::ha::{
    DataDir, FailsafePing, Job, JobResult, JobView, Me, Memory, Mono, PgStatus, PgView, Query, Request, Role,
    Transcript, View, WatchdogView,
};
use patroni_core::tags::Tags;
use pyfmt::Value;

use super::pg::Server;

/// A cycle that waits for an answer.
#[derive(Debug)]
pub struct Running {
    /// What it decides on.
    pub view: View,
    /// Answers so far.
    pub transcript: Transcript,
    /// The request that is being carried out.
    pub request: Request,
    /// Tells an answer that comes too late from the one waited for.
    pub ticket: u64,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub me: Arc<Me>,
    /// The engine's memory.
    pub memory: Memory,
    /// The lock keeper.
    pub keeper: Keeper,
    /// PostgreSQL.
    pub pg: Server,
    /// The cycle in progress.
    pub cycle: Option<Running>,
    /// The job in progress, with its ticket.
    pub job: Option<(JobView, u64)>,
    /// Results not seen by a cycle yet.
    pub finished: Vec<(Job, JobResult)>,
    /// Lease in the DCS for the leader and the member key.
    pub lease: Option<u64>,
    /// The daemon lives.
    pub alive: bool,
    /// The whole node does not run until then (SIGSTOP of the machine).
    pub frozen_until: u64,
    /// The daemon's HA loop hangs until then (dead disk); its keeper runs.
    pub hung_until: u64,
    /// Since when.
    pub hung_since: u64,
    /// It cannot reach the DCS.
    pub cut_from_dcs: bool,
    /// It cannot reach its peers.
    pub cut_from_peers: bool,
    /// Last failsafe ping.
    pub failsafe_ping: Option<FailsafePing>,
    /// Counts cycles and jobs, so that late events are told from current ones.
    pub generation: u64,
    /// When the next cycle is due.
    pub due: u64,
    /// When the keeper looks next.
    pub keeper_at: u64,
}

/// Simulated milliseconds as the engine's time.
pub fn mono(ms: u64) -> Mono {
    Duration::from_millis(ms)
}

impl Member {
    /// A fresh member with an empty disk.
    pub fn new(index: usize, ttl: u64, loop_wait: u64, retry_timeout: u64, config: &Value) -> Member {
        let me = Arc::new(Me {
            name: format!("n{index}"),
            conn_url: format!("postgres://n{index}:5432/postgres"),
            api_url: format!("http://n{index}:8008/patroni"),
            proxy_url: None,
            tags: Tags::default(),
            can_bootstrap: true,
            has_no_leader_method: false,
            reinit_on_diverged: false,
            user_sync_names: None,
            dynamic_config: config.clone(),
            ttl: mono(ttl),
            loop_wait: mono(loop_wait),
            retry_timeout: mono(retry_timeout),
        });
        Member {
            memory: Memory::new(GlobalConfig::new(config.clone())),
            keeper: Keeper::new(me.ttl, me.loop_wait, me.retry_timeout),
            me,
            pg: Server::new(),
            cycle: None,
            job: None,
            finished: Vec::new(),
            lease: None,
            alive: true,
            frozen_until: 0,
            hung_until: 0,
            hung_since: 0,
            cut_from_dcs: false,
            cut_from_peers: false,
            failsafe_ping: None,
            generation: 0,
            due: 0,
            keeper_at: 0,
        }
    }

    /// The daemon ends and forgets everything; PostgreSQL's fate is the caller's.
    pub fn forget(&mut self, config: &Value) {
        self.memory = Memory::new(GlobalConfig::new(config.clone()));
        self.keeper = Keeper::new(self.me.ttl, self.me.loop_wait, self.me.retry_timeout);
        self.cycle = None;
        self.job = None;
        self.finished.clear();
        self.lease = None;
        self.failsafe_ping = None;
        self.generation += 1;
        self.pg.cb_called = false;
    }

    /// What a cycle decides on.
    pub fn view(&self, now: u64) -> View {
        View {
            now: mono(now),
            wall_us: now as i64 * 1000,
            me: self.me.clone(),
            pg: self.pg_view(now),
            job: self.job.as_ref().map(|(view, _)| view.clone()),
            lease_until: self.keeper.lease_until().filter(|until| *until > mono(now)),
            watchdog: WatchdogView { running: false, healthy: true },
            failsafe_ping: self.failsafe_ping.clone(),
            disable_sync: false,
            scheduled_restart: None,
        }
    }

    /// PostgreSQL as the monitoring query would show it.
    pub fn pg_view(&self, _now: u64) -> PgView {
        let pg = &self.pg;
        let query = match &pg.data {
            Some(data) if pg.running && !pg.state.is_starting() => Query::Row(Box::new(PgStatus {
                is_primary: !pg.recovery,
                timeline: if pg.recovery { 0 } else { data.timeline },
                wal_position: data.lsn,
                replayed: pg.recovery.then_some(data.lsn.saturating_sub(pg.replay_lag)),
                received: pg.recovery.then_some(data.lsn),
                received_timeline: (pg.recovery && pg.source.is_some()).then_some(data.timeline),
                control_timeline: Some(data.timeline),
                ..PgStatus::default()
            })),
            _ => Query::Unreachable,
        };
        PgView {
            state: pg.state,
            role: pg.role,
            running: pg.running,
            query,
            data_dir: if pg.data.is_some() { DataDir::Present } else { DataDir::Empty },
            sysid: pg.data.as_ref().map(|d| d.sysid.clone()).unwrap_or_default(),
            state_since: mono(pg.state_since),
            cb_called: pg.cb_called,
            server_version: 150_000,
            major_version: 150_000,
            pending_restart_reason: Value::map(),
            postmaster_start_time: None,
        }
    }

    /// The whole node stands still.
    pub fn frozen(&self) -> bool {
        self.frozen_until > 0
    }

    /// May PostgreSQL write under the lease? (what the daemon arms the fence by)
    pub fn armed(&self) -> bool {
        self.pg.running
            && matches!(self.pg.role, Role::Primary | Role::Promoted)
            && !self.memory.config.is_paused()
    }
}
