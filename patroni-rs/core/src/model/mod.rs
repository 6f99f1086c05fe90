//! The cluster as read from the DCS (surface-dcs 2 to 4): plain values, and the
//! texts that are written back.

mod cluster;
mod keys;
mod member;

pub use cluster::{Cluster, Node};
pub use keys::{
    failover_value, sync_state_value, ClusterConfig, Failover, Leader, ScheduledAt, Status, SyncState,
    TimelineHistory,
};
pub use member::Member;

/// A WAL position in bytes.
pub type Lsn = u64;
/// A compare-and-set token; its meaning is the adapter's.
pub type Version = String;
