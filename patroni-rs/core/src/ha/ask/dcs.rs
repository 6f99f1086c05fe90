//! Questions to the DCS.

use indexmap::IndexMap;
use pyfmt::Value;

use crate::model::{Lsn, Version};

/// Read the whole cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadCluster;

/// Create the leader key: is it ours?
#[derive(Debug, Clone, PartialEq)]
pub struct AcquireLeader;

/// Refresh the leader key, then publish. Is it still ours?
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateLeader {
    /// Position and slots for `/status`.
    pub status: Option<(Lsn, Option<IndexMap<String, Lsn>>)>,
    /// Members and their URLs for `/failsafe`.
    pub failsafe: Option<Value>,
}

/// Put the leader key without a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct TakeLeader;

/// Publish the position, delete our leader key, forget the promise.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteLeader {
    /// Position to leave behind.
    pub last_lsn: Option<Lsn>,
}

/// Publish the position alone.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteStatus(pub Lsn);

/// Write the own member key.
#[derive(Debug, Clone, PartialEq)]
pub struct TouchMember(pub Value);

/// Write the initialize key.
#[derive(Debug, Clone, PartialEq)]
pub struct Initialize {
    /// Only if it is not there.
    pub create_new: bool,
    /// Empty while bootstrapping.
    pub sysid: String,
}

/// Delete the initialize key.
#[derive(Debug, Clone, PartialEq)]
pub struct CancelInitialization;

/// Write `/config`.
#[derive(Debug, Clone, PartialEq)]
pub struct SetConfig(pub Value);

/// Write `/failover`.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteFailover {
    /// Who is to stay the candidate; None: clear the key.
    pub candidate: Option<String>,
    /// Text of the schedule to keep.
    pub scheduled_at: Option<String>,
    /// Compare with this version.
    pub version: Option<Version>,
}

/// Write `/sync`: its new version, None when somebody else was first.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteSync {
    /// The leader.
    pub leader: String,
    /// The standbys, in any order.
    pub standbys: Vec<String>,
    /// The quorum.
    pub quorum: i64,
    /// Compare with this version.
    pub version: Option<Version>,
}

/// Delete `/sync`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteSync {
    /// Compare with this version.
    pub version: Option<Version>,
}

/// Write `/history`.
#[derive(Debug, Clone, PartialEq)]
pub struct WriteHistory(pub String);
