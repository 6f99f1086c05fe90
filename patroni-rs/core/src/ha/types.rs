//! What the engine sees and says: plain data without behaviour of its own.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use crate::model::{Cluster, Lsn, Member};
use crate::tags::Tags;

/// Time since an arbitrary start, on a clock that never goes back and that
/// counts suspended time (`CLOCK_BOOTTIME`).
pub type Mono = Duration;

/// The state of PostgreSQL as published (surface-ha-pg 1-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PgState {
    InitDb,
    InitDbFailed,
    CustomBootstrap,
    CustomBootstrapFailed,
    CreatingReplica,
    Running,
    Starting,
    BootstrapStarting,
    StartFailed,
    Restarting,
    RestartFailed,
    Stopping,
    Stopped,
    StopFailed,
    Crashed,
}

impl PgState {
    /// The text in member keys and REST answers.
    pub fn as_str(self) -> &'static str {
        match self {
            PgState::InitDb => "initializing new cluster",
            PgState::InitDbFailed => "initdb failed",
            PgState::CustomBootstrap => "running custom bootstrap script",
            PgState::CustomBootstrapFailed => "custom bootstrap failed",
            PgState::CreatingReplica => "creating replica",
            PgState::Running => "running",
            PgState::Starting => "starting",
            PgState::BootstrapStarting => "starting after custom bootstrap",
            PgState::StartFailed => "start failed",
            PgState::Restarting => "restarting",
            PgState::RestartFailed => "restart failed",
            PgState::Stopping => "stopping",
            PgState::Stopped => "stopped",
            PgState::StopFailed => "stop failed",
            PgState::Crashed => "crashed",
        }
    }

    /// Is the server on its way up?
    pub fn is_starting(self) -> bool {
        matches!(self, PgState::Starting | PgState::BootstrapStarting)
    }
}

/// The role of this node as published (surface-ha-pg 1-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Role {
    Primary,
    StandbyLeader,
    Replica,
    Demoted,
    Uninitialized,
    Promoted,
}

impl Role {
    /// The text in member keys and REST answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::StandbyLeader => "standby_leader",
            Role::Replica => "replica",
            Role::Demoted => "demoted",
            Role::Uninitialized => "uninitialized",
            Role::Promoted => "promoted",
        }
    }
}

/// Scripts that the user hangs on events (surface-ha-pg 22-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Callback {
    OnStart,
    OnStop,
    OnRestart,
    OnReload,
    OnRoleChange,
}

impl Callback {
    /// The first argument of the script.
    pub fn as_str(self) -> &'static str {
        match self {
            Callback::OnStart => "on_start",
            Callback::OnStop => "on_stop",
            Callback::OnRestart => "on_restart",
            Callback::OnReload => "on_reload",
            Callback::OnRoleChange => "on_role_change",
        }
    }
}

/// How the postmaster is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StopMode {
    Fast,
    Immediate,
}

/// Ways to stop being a primary (surface-ha-pg 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DemoteMode {
    /// Fast stop behind a checkpoint; the key is released when a candidate has it all.
    Graceful,
    /// Immediate stop; the key is released.
    Immediate,
    /// Immediate stop; the key is not ours to touch.
    ImmediateNolock,
    /// Fast stop; the DCS cannot be reached.
    Offline,
    /// A primary becomes the leader of a standby cluster.
    Cluster,
}

impl DemoteMode {
    /// The word in the log line `Demoting self (%s)`.
    pub fn as_str(self) -> &'static str {
        match self {
            DemoteMode::Graceful => "graceful",
            DemoteMode::Immediate => "immediate",
            DemoteMode::ImmediateNolock => "immediate-nolock",
            DemoteMode::Offline => "offline",
            DemoteMode::Cluster => "demote-cluster",
        }
    }
}

/// Where WAL or a copy of the data comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The member, or what stands for a server outside of the cluster.
    pub member: Member,
    /// Not a member of this cluster: the source of a standby cluster.
    pub remote: bool,
}

/// Long work that runs beside the cycles, one at a time.
#[derive(Debug, Clone, PartialEq)]
pub enum Job {
    /// `initdb` or a custom method, start; result true, false.
    Bootstrap,
    /// Copy of the remote server for a new standby cluster.
    BootstrapStandbyLeader {
        /// The remote server.
        source: Source,
    },
    /// Users, `post_bootstrap` script.
    PostBootstrap,
    /// A new replica.
    Clone {
        /// None: with a method that needs no running source.
        source: Option<Source>,
        /// `from leader 'n'`, as in the logs.
        what: String,
        /// Only `basebackup` may be used.
        from_leader: bool,
    },
    /// Stop and copy again.
    Reinitialize {
        /// The source.
        source: Option<Source>,
        /// `from leader 'n'`, as in the logs.
        what: String,
        /// Only `basebackup` may be used.
        from_leader: bool,
    },
    /// Remove the data directory that has diverged, then copy again.
    ReinitializeDiverged {
        /// The source.
        source: Option<Source>,
        /// `from leader 'n'`, as in the logs.
        what: String,
    },
    /// Single-user crash recovery.
    CrashRecovery,
    /// `pg_rewind`.
    Rewind {
        /// The primary to become alike.
        source: Source,
    },
    /// Start after a crash, still the primary.
    StartPrimary {
        /// `primary_start_timeout`.
        timeout: Duration,
    },
    /// Write the recovery configuration and start or restart.
    Follow {
        /// The name of the action in status lines.
        name: String,
        /// Nobody: start read-only without a source.
        source: Option<Source>,
        /// The role to take.
        role: Role,
        /// How long the start may take, while we hold the lock.
        timeout: Option<Duration>,
    },
    /// `pre_promote`, `pg_ctl promote`, wait for `in production`.
    Promote,
    /// The stop of a graceful demotion; what follows it is decided by later cycles.
    Demote {
        /// The name of the action in status lines.
        name: String,
        /// Graceful or Cluster.
        mode: DemoteMode,
        /// `primary_stop_timeout`, when it applies.
        timeout: Option<Duration>,
    },
    /// A restart in place.
    Restart {
        /// How long the start may take.
        timeout: Duration,
        /// Ask the leader first to be released as synchronous standby.
        release_sync: bool,
    },
    /// Copy of logical slots from the primary.
    CopySlots {
        /// Their names.
        slots: Vec<String>,
    },
}

impl Job {
    /// The action's name in status lines (surface-ha-pg 4).
    pub fn name(&self) -> String {
        match self {
            Job::Bootstrap => "bootstrap".into(),
            Job::BootstrapStandbyLeader { .. } => "bootstrap_standby_leader".into(),
            Job::PostBootstrap => "post_bootstrap".into(),
            Job::Clone { what, .. } => format!("bootstrap {what}"),
            Job::Reinitialize { .. } => "reinitialize".into(),
            Job::ReinitializeDiverged { .. } => "reinitializing due to diverged timelines".into(),
            Job::CrashRecovery => "doing crash recovery in a single user mode".into(),
            Job::Rewind { source } => format!("running pg_rewind from {}", source.member.name),
            Job::StartPrimary { .. } => "starting primary after failure".into(),
            Job::Follow { name, .. } => name.clone(),
            Job::Promote => "promote".into(),
            Job::Demote { name, .. } => name.clone(),
            Job::Restart { .. } => "restart".into(),
            Job::CopySlots { .. } => "copy_logical_slots".into(),
        }
    }
}

/// The job that is running, as a cycle sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// What was started.
    pub job: Job,
    /// When.
    pub started_at: Mono,
    /// A stop has reached its shutdown checkpoint while the postmaster still
    /// lives: its location, and that of the record before it when it is to be
    /// published (surface-ha-pg 9.1-08).
    pub shutdown_checkpoint: Option<(Lsn, Lsn)>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum JobResult {
    /// It did what it was to do.
    Done,
    /// It did not.
    Failed,
    /// Nobody knows yet (a start that takes long).
    Unknown,
    /// Promotion: `pre_promote` said no.
    PrePromoteFailed,
    /// Demotion: the postmaster is gone; the locations as in [`JobView`].
    Stopped(Option<(Lsn, Lsn)>),
    /// It was cancelled.
    Cancelled,
}

/// One row of the monitoring statement, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The statement answered.
    Row(Box<PgStatus>),
    /// No connection, or it broke.
    Unreachable,
    /// The statement ran into its timeout.
    TimedOut,
}

/// What the monitoring statement says (surface-ha-pg 24-02).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PgStatus {
    /// Not in recovery.
    pub is_primary: bool,
    /// The timeline of a primary, 0 on a standby.
    pub timeline: u32,
    /// Flush location of a primary; on a standby the further of received and replayed.
    pub wal_position: Lsn,
    /// Standby: replayed.
    pub replayed: Option<Lsn>,
    /// Standby: received.
    pub received: Option<Lsn>,
    /// Standby: replay is paused.
    pub replay_paused: bool,
    /// Timeline in the control file, where asked.
    pub control_timeline: Option<u32>,
    /// Timeline of the WAL receiver.
    pub received_timeline: Option<u32>,
    /// `streaming`, `in archive recovery`, or nothing.
    pub replication_state: Option<String>,
    /// Slots with their location, for publication.
    pub slots: IndexMap<String, Lsn>,
}

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// It holds a cluster.
    Present,
    /// Missing or empty.
    Empty,
    /// The error.
    Inaccessible(String),
}

/// PostgreSQL as one cycle sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PgView {
    /// The state we last set.
    pub state: PgState,
    /// The role we last set.
    pub role: Role,
    /// A postmaster lives.
    pub running: bool,
    /// The monitoring statement's answer.
    pub query: Query,
    /// The data directory.
    pub data_dir: DataDir,
    /// System identifier from the control file, empty when unreadable.
    pub sysid: String,
    /// Since when the state is what it is.
    pub state_since: Mono,
    /// Some callback has been fired since the daemon started.
    pub cb_called: bool,
    /// `150018`; 0 when unknown.
    pub server_version: u32,
    /// The major version of the binaries or data, `150000`.
    pub major_version: u32,
    /// Parameters that wait for a restart, as published.
    pub pending_restart_reason: Value,
    /// As Python prints it: `2026-11-21 10:00:00.120000+00:00`.
    pub postmaster_start_time: Option<String>,
}

impl PgView {
    /// Is this a primary? When it cannot be asked, the last known role counts as
    /// long as a postmaster lives (surface-ha-pg 4J-04): a hung primary must not
    /// look like a replica.
    pub fn is_primary(&self) -> bool {
        match &self.query {
            Query::Row(row) => row.is_primary,
            _ => self.running && self.role == Role::Primary,
        }
    }

    /// The monitoring row.
    pub fn row(&self) -> Option<&PgStatus> {
        match &self.query {
            Query::Row(row) => Some(row),
            _ => None,
        }
    }
}

/// `pg_controldata`, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ControlData {
    /// All lines, for the log, in order.
    pub lines: Vec<(String, String)>,
    /// `Database cluster state`.
    pub state: String,
    /// recovery.conf, standby.signal or recovery.signal is there.
    pub recovery_conf_exists: bool,
    /// A backup_label is there on 15 or newer: only a normal start may recover it.
    pub restored_from_backup: bool,
}

/// A peer's answer to `GET /patroni` (surface-ha-pg 5.2).
#[derive(Debug, Clone, PartialEq)]
pub struct PeerStatus {
    /// Who was asked.
    pub name: String,
    /// The answer was JSON with a WAL position in it.
    pub reachable: bool,
    /// None when unreachable.
    pub in_recovery: Option<bool>,
    /// The further of received and replayed; 0 when unknown.
    pub wal_position: Lsn,
    /// 0 when unknown.
    pub timeline: u32,
    /// `watchdog_failed`.
    pub watchdog_failed: bool,
    /// Effective tags.
    pub tags: Tags,
}

impl PeerStatus {
    /// A peer that gave no usable answer.
    pub fn unreachable(name: &str) -> PeerStatus {
        PeerStatus {
            name: name.to_owned(),
            reachable: false,
            in_recovery: None,
            wal_position: 0,
            timeline: 0,
            watchdog_failed: false,
            tags: Tags::default(),
        }
    }

    /// Why this peer cannot be promoted.
    pub fn limitation(&self) -> Option<&'static str> {
        if !self.reachable {
            Some("not reachable")
        } else if self.tags.nofailover() {
            Some("not allowed to promote")
        } else if self.watchdog_failed {
            Some("not watchdog capable")
        } else {
            None
        }
    }
}

/// A peer's answer to `POST /failsafe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailsafeAnswer {
    /// Who was asked.
    pub name: String,
    /// It lets us go on.
    pub accepted: bool,
    /// Its WAL position.
    pub lsn: Option<Lsn>,
}

/// The last `POST /failsafe` of a primary to this node.
#[derive(Debug, Clone, PartialEq)]
pub struct FailsafePing {
    /// `{"name","conn_url","api_url","slots"}`.
    pub data: Value,
    /// When it came.
    pub at: Mono,
}

/// The watchdog device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchdogView {
    /// It is armed.
    pub running: bool,
    /// It works, or nobody requires it.
    pub healthy: bool,
}

/// Who we are; it changes only with the local configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Me {
    /// Member name.
    pub name: String,
    /// `postgres://host:port/db`.
    pub conn_url: String,
    /// `http://host:port/patroni`.
    pub api_url: String,
    /// `postgresql.proxy_address` as a URL.
    pub proxy_url: Option<String>,
    /// Configured tags.
    pub tags: Tags,
    /// The local configuration has a `bootstrap` section.
    pub can_bootstrap: bool,
    /// Some replica method needs no running source.
    pub has_no_leader_method: bool,
    /// `postgresql.remove_data_directory_on_diverged_timelines`.
    pub reinit_on_diverged: bool,
    /// `synchronous_standby_names` of the user's parameters.
    pub user_sync_names: Option<String>,
    /// The local dynamic configuration, for a DCS that has lost its own.
    pub dynamic_config: Value,
    /// Seconds; the ttl that is in force in the DCS client.
    pub ttl: Duration,
    /// The loop_wait in force.
    pub loop_wait: Duration,
    /// The retry_timeout in force.
    pub retry_timeout: Duration,
}

/// A restart that waits for its time (surface-ha-pg 11-07).
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduledRestart {
    /// Request keys in their order with `schedule` as ISO text, then
    /// `postmaster_start_time`: what the member key publishes.
    pub data: Value,
    /// Microseconds since the epoch.
    pub at_us: i64,
    /// `schedule` as `isoformat()` gives it.
    pub schedule: String,
}

/// Everything that one cycle decides on; it never changes under its feet.
#[derive(Debug, Clone)]
pub struct View {
    /// Now.
    pub now: Mono,
    /// Microseconds since the epoch, for schedules only.
    pub wall_us: i64,
    /// Who we are.
    pub me: Arc<Me>,
    /// PostgreSQL.
    pub pg: PgView,
    /// The job that runs.
    pub job: Option<JobView>,
    /// Until when the leader lock is promised to us.
    pub lease_until: Option<Mono>,
    /// The watchdog.
    pub watchdog: WatchdogView,
    /// A primary's ping while it has no DCS.
    pub failsafe_ping: Option<FailsafePing>,
    /// Requests of our own to be left alone as synchronous standby.
    pub disable_sync: bool,
    /// The restart that waits for its time.
    pub scheduled_restart: Option<ScheduledRestart>,
}

/// The cluster, shared because cycles keep more than one.
pub type ClusterRef = Arc<Cluster>;
