//! What the engine sees and says: plain data without behaviour of its own.

use std::sync::Arc;

mod job;
mod peer;
mod postgres;
mod states;

pub use job::*;
pub use peer::*;
pub use postgres::*;
pub use states::*;

use pyfmt::Value;

use crate::model::Cluster;
use crate::tags::Tags;
use crate::timing::Timing;

pub use crate::mono::Mono;

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
pub struct LocalMember {
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
    /// Some replica method of `postgresql.create_replica_methods` needs no running source.
    pub has_no_leader_method: bool,
    /// All methods with a section in `postgresql` that need none: a standby cluster has a list of its own.
    pub no_leader_methods: Vec<String>,
    /// `postgresql.remove_data_directory_on_diverged_timelines`.
    pub reinit_on_diverged: bool,
    /// `postgresql.remove_data_directory_on_rewind_failure`.
    pub reinit_on_failed_rewind: bool,
    /// `synchronous_standby_names` of the user's parameters.
    pub user_sync_names: Option<String>,
    /// The local dynamic configuration, for a DCS that has lost its own.
    pub dynamic_config: Value,
    /// The durations in force.
    pub timing: Timing,
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
    pub me: Arc<LocalMember>,
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
