//! The cluster as read from the DCS, and the texts that are written back
//! (surface-dcs 2 to 4). Plain values: nothing here talks to a DCS.
//!
//! Reading is lenient: a key with a text that makes no sense reads as empty and
//! never makes the rest of the cluster unreadable.

mod cluster;
mod config;
mod failover;
mod history;
mod leader;
mod member;
mod status;
mod sync;
pub mod url;

pub use cluster::{Cluster, Node, Nodes};
pub use config::ClusterConfig;
pub use failover::{failover_value, Failover, FailoverOrder, ScheduledAt};
pub use history::{history_value, TimelineHistory};
pub use leader::Leader;
pub use member::{Member, NO_REPLICATION_SLOT, STANDBY_SOURCE_KEYS};
pub use status::{status_value, Status};
pub use sync::{sync_state_value, SyncState};

pub use crate::lsn::Lsn;

/// The end of a cleanly stopped primary's WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownCheckpoint {
    /// Where the shutdown checkpoint starts: who is to take over needs it.
    pub location: Lsn,
    /// The position to publish as the last one: the WAL switch before the checkpoint when there is one (archive_mode),
    /// else the checkpoint.
    pub publish: Lsn,
}

/// A compare-and-set token; its meaning is the adapter's. Empty: the key is not
/// in the DCS (a placeholder).
pub type Version = String;
