//! What the REST API asks of the daemon.

use std::sync::Arc;

use patroni_core::model::{Cluster, Member};
use pyfmt::Value;

use crate::snapshot::Snapshot;

/// It could not be done: the DCS does not answer, or an error nobody expected.
/// The connection is closed without an answer (surface-api-ctl H17), and the text
/// goes to the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BackendError(pub String);

/// Result of a call into the daemon.
pub type Result<T> = std::result::Result<T, BackendError>;

/// End of an immediate restart: the text to answer, and whether it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restarted {
    /// 200 or 503.
    pub done: bool,
    /// `restarted successfully`, `restart conditions are not satisfied`, `... already in progress`, ...
    pub message: String,
}

/// How a member is to be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reinitialize {
    /// Also while something else runs there, which is ended.
    pub force: bool,
    /// Copied from the leader, whatever replicas there are.
    pub from_leader: bool,
}

/// What a node says to a leader in failsafe mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailsafeReply {
    /// This node is a running primary itself.
    RunningAsLeader,
    /// Accepted, with the last known received or replayed position in bytes.
    Accepted(Option<u64>),
}

/// The daemon behind the API. All futures run on the API's own thread: they must
/// not block it, and each must end within its own time limit.
#[allow(async_fn_in_trait)]
pub trait Backend: Send + Sync + 'static {
    /// The state as last known, at once and without a query. `/liveness` is answered
    /// from it, and everything else when [`Backend::snapshot`] takes too long; then
    /// its `queried` should be None unless it is still fresh.
    fn last_snapshot(&self) -> Arc<Snapshot>;

    /// The state with a fresh status query. Callers at the same time should share one
    /// query. `retry`: repeat once after a lost connection (surface-api-ctl J13).
    async fn snapshot(&self, retry: bool) -> Arc<Snapshot>;

    /// Reads the cluster from the DCS and refreshes the cached view.
    async fn cluster(&self) -> Result<Arc<Cluster>>;

    /// Counts the changes of the cluster's keys that have been heard of. It may miss some:
    /// who waits for one looks once in a while by himself.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Writes `/config`, compared with `version` if one is given. False: refused.
    async fn set_config(&self, text: String, version: Option<String>) -> Result<bool>;

    /// Writes `/failover`, compared with `version` if one is given. False: refused.
    async fn set_failover(&self, text: String, version: Option<String>) -> Result<bool>;

    /// Wakes the HA loop.
    fn wakeup(&self);

    /// Schedules a reload of the configuration, like SIGHUP.
    fn reload(&self);

    /// Restarts PostgreSQL if `role`, `postgres_version` and `restart_pending` (by its
    /// presence) of `filter` allow it, within its `timeout` (s), and waits for the end.
    ///
    /// # Errors
    /// An exception: answered with 400.
    async fn restart(&self, filter: Value) -> Result<Restarted>;

    /// Schedules a restart at `at_us` (microseconds of the epoch). `filter` has the
    /// keys of the request in their order, `schedule` as ISO 8601 text and `timeout` in
    /// whole seconds. False: one is already scheduled.
    async fn schedule_restart(&self, filter: Value, at_us: i64) -> Result<bool>;

    /// Forgets the scheduled restart. False: there was none.
    async fn delete_restart(&self) -> Result<bool>;

    /// Starts to rebuild this node. A text: the refusal.
    async fn reinitialize(&self, how: Reinitialize) -> Result<Option<String>>;

    /// `GET /patroni` of each at the same time, 2 s each: can one of them take over
    /// (reachable, not `nofailover`, watchdog not failed)?
    async fn any_can_promote(&self, members: Vec<Member>) -> bool;

    /// Stores what the leader says (`name`, `conn_url`, `api_url`, `slots`).
    async fn failsafe(&self, leader: Value) -> Result<FailsafeReply>;

    /// An event of an MPP worker, if this node is the coordinator's leader.
    async fn mpp_event(&self, event: Value) -> Result<()>;
}
