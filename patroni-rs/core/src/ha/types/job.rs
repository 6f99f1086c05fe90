//! Long work, as the engine starts it and sees it.

use std::time::Duration;

use super::{DemoteMode, Mono, Role};
use crate::model::{Member, ShutdownCheckpoint};

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
    /// A stop has reached it while the postmaster still lives (surface-ha-pg 9.1-08).
    pub shutdown_checkpoint: Option<ShutdownCheckpoint>,
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
    /// Promotion: the server was not asked, for certain.
    NotPromoted,
    /// Demotion: the postmaster is gone; its shutdown checkpoint, as far as it was found.
    Stopped(Option<ShutdownCheckpoint>),
    /// It was cancelled.
    Cancelled,
}
