//! All that an answer to `GET` needs, as plain data.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{HeldBack, PgState, Role};
use patroni_core::model::Cluster;
use patroni_core::tags::Tags;
use patroni_core::PgVersion;
use pyfmt::datetime::DateTime;
use pyfmt::Value;

use crate::measured::Measured;

/// State of this node at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Name of this node.
    pub name: String,
    /// Name of the cluster.
    pub scope: String,
    /// The lease: this node may call itself the leader until then (surface-api-ctl D1).
    pub lease_until: Option<Instant>,
    /// The cached view of the cluster; None after a failed read of the DCS.
    pub cluster: Option<Arc<Cluster>>,
    /// URLs of the REST APIs of other groups' members, on the leader of a Citus coordinator.
    pub other_groups: Arc<Vec<String>>,
    /// Until when the view counts: a `ttl` after it was read.
    pub cluster_valid_until: Option<Instant>,
    /// The dynamic configuration: of the view, or the last one known.
    pub config: GlobalConfig,
    /// Whole seconds of the epoch at the last success with the DCS; 0: never.
    pub dcs_last_seen: i64,
    /// Last known `/failsafe` key, if it is there and a mapping.
    pub failsafe: Option<Value>,
    /// Failsafe mode keeps the leader at this moment.
    pub failsafe_active: bool,
    /// `ttl`.
    pub ttl: Duration,
    /// `loop_wait`.
    pub loop_wait: Duration,
    /// When the next cycle was due, as last planned (G10).
    pub next_run: Option<Instant>,
    /// PostgreSQL.
    pub postgres: PostgresState,
    /// Tags of the configuration, without the false ones (D12).
    pub tags: Tags,
    /// Tags as published: with those of leaving the synchronous set (J11).
    pub effective_tags: Value,
    /// `database_system_identifier`; empty before bootstrap.
    pub sysid: String,
    /// Parameters that wait for a restart; a mapping.
    pub pending_restart_reason: Value,
    /// The scheduled restart: a mapping with the keys of the request, `schedule`
    /// as ISO 8601 text, and `postmaster_start_time`; Null or empty: none.
    pub scheduled_restart: Value,
    /// How far a copy with pg_basebackup has come: a mapping of `bytes_done`, `bytes_total` and
    /// `bytes_per_second`; Null: none runs. An addition to the reference.
    pub copy_progress: Value,
    /// Why the last copy came to nothing; None: it did not, or a new one was ordered since. An addition to the reference.
    pub copy_failed: Option<String>,
    /// The watchdog is wanted and does not work.
    pub watchdog_failed: bool,
    /// Why this node was not promoted, while nobody leads.
    pub held_back: Option<HeldBack>,
    /// What only this implementation measures.
    pub measured: Measured,
    /// Records in the queue of the logger.
    pub log_queue_size: i64,
    /// Records it lost.
    pub log_records_lost: i64,
}

/// What is known of PostgreSQL.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresState {
    /// State in memory.
    pub state: PgState,
    /// Role in memory.
    pub role: Role,
    /// Is the postmaster running?
    pub postmaster_alive: bool,
    /// Answer of the status query; None: not asked in this state, or it failed.
    pub queried: Option<Queried>,
}

/// The row of the status query (J3 to J9).
#[derive(Debug, Clone, PartialEq)]
pub struct Queried {
    /// `pg_postmaster_start_time()`, with the offset of the session's time zone (J3).
    pub postmaster_start_time: DateTime,
    /// Version of the server, as 150018.
    pub server_version: PgVersion,
    /// Primary or in recovery.
    pub wal: WalStatus,
    /// Rows of `pg_stat_replication`, as the server's JSON; an empty list: none.
    pub replication: Value,
}

/// WAL positions in bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum WalStatus {
    /// Not in recovery.
    Primary {
        /// Timeline from the WAL file name.
        timeline: i64,
        /// Flushed position.
        location: i64,
    },
    /// In recovery.
    Replica {
        /// Timeline from the replication connection; None: not known (J7).
        timeline: Option<i64>,
        /// Position written by the WAL receiver, or received, or replayed (J5).
        received: Option<i64>,
        /// Position replayed.
        replayed: Option<i64>,
        /// Commit time of the last replayed transaction.
        replayed_timestamp: Option<DateTime>,
        /// Replay is paused.
        paused: bool,
        /// The leader's position as the WAL receiver last heard; 0: not known.
        latest_end_lsn: i64,
        /// `streaming` or `in archive recovery` (J8).
        replication_state: Option<String>,
    },
}

/// Role shown in an answer and the flags that come with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Role (J4).
    pub role: Role,
    /// Listed in `/sync` (J6).
    pub sync: bool,
    /// In quorum mode.
    pub quorum: bool,
}

impl Snapshot {
    /// The view of the cluster, as long as it counts.
    pub fn view(&self, now: Instant) -> Option<&Cluster> {
        let valid = self.cluster_valid_until.is_some_and(|until| now < until);
        self.cluster.as_deref().filter(|c| valid && !c.is_empty())
    }

    /// Does this node hold the lease?
    pub fn is_leader(&self, now: Instant) -> bool {
        self.lease_until.is_some_and(|until| now < until)
    }

    /// Is there no view, or no leader in it (J10)?
    pub fn is_unlocked(&self, now: Instant) -> bool {
        self.view(now).is_none_or(Cluster::is_unlocked)
    }

    /// The dynamic configuration of a view that was just read; without a valid one, the
    /// last known.
    pub fn config_of(&self, cluster: &Cluster) -> GlobalConfig {
        self.config.updated(cluster.config.as_ref().filter(|c| c.is_valid()).map(|c| &c.data))
    }

    /// Role and flags as shown (J4, J6).
    pub fn shown(&self, now: Instant) -> Shown {
        let internal = self.postgres.role;
        let role = match self.postgres.queried.as_ref().map(|q| &q.wal) {
            None => internal,
            Some(WalStatus::Primary { .. }) => Role::Primary,
            Some(WalStatus::Replica { .. }) if self.config.is_standby_cluster() => internal,
            Some(WalStatus::Replica { .. }) => Role::Replica,
        };
        let listed = self.postgres.queried.is_some()
            && role == Role::Replica
            && self.config.is_synchronous_mode()
            && self.view(now).is_some_and(|c| c.sync.matches(&self.name, false));
        let quorum = self.config.is_quorum_commit_mode();
        Shown { role, sync: listed && !quorum, quorum: listed && quorum }
    }

    /// The state as shown: `unknown` if it should run but could not be asked.
    pub fn state_text(&self) -> &'static str {
        match (self.postgres.state, &self.postgres.queried) {
            (PgState::Running, None) => "unknown",
            (state, _) => state.as_str(),
        }
    }

    /// Running, and it answered.
    pub fn is_running(&self) -> bool {
        self.postgres.state == PgState::Running && self.postgres.queried.is_some()
    }

    /// Position of the leader in bytes, from the DCS and from the WAL receiver; 0: not known (D3).
    pub fn leader_lsn(&self, now: Instant) -> i64 {
        let published =
            self.view(now).map_or(0, |c| i64::try_from(c.status.last_lsn.bytes()).unwrap_or(i64::MAX));
        published.max(self.postgres.latest_end_lsn())
    }
}

impl PostgresState {
    /// The replica's side of the query.
    fn replica(&self) -> Option<&WalStatus> {
        self.queried.as_ref().map(|q| &q.wal).filter(|w| matches!(w, WalStatus::Replica { .. }))
    }

    /// See [`WalStatus::Replica`]; 0: not known.
    pub fn latest_end_lsn(&self) -> i64 {
        match self.replica() {
            Some(WalStatus::Replica { latest_end_lsn, .. }) => *latest_end_lsn,
            _ => 0,
        }
    }

    /// Replayed position; 0: not known.
    pub fn replayed(&self) -> i64 {
        match self.replica() {
            Some(WalStatus::Replica { replayed, .. }) => replayed.unwrap_or(0),
            _ => 0,
        }
    }

    /// Received position; 0: not known.
    pub fn received(&self) -> i64 {
        match self.replica() {
            Some(WalStatus::Replica { received, .. }) => received.unwrap_or(0),
            _ => 0,
        }
    }

    /// `streaming`, `in archive recovery` or None.
    pub fn replication_state(&self) -> Option<&str> {
        match self.replica() {
            Some(WalStatus::Replica { replication_state, .. }) => replication_state.as_deref(),
            _ => None,
        }
    }
}
