//! The store that a configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::model::{Cluster, Leader, Lsn, Status, SyncState};
use pyfmt::Value;

use crate::dcs::Outcome;
use crate::{Dcs, DcsError, Etcd3, LeaseKeeper, Settings, Timing};

/// The stores of this build, in alphabetical order.
pub const AVAILABLE: [&str; 1] = ["etcd3"];

/// The stores of the reference, in the order in which it looks for their sections.
const KNOWN: [&str; 7] = ["consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"];

/// One of the stores.
pub enum AnyDcs {
    /// etcd 3.
    Etcd3(Etcd3),
}

/// Does the same with whatever store it is.
macro_rules! each {
    ($dcs:expr, $inner:ident => $call:expr) => {
        match $dcs {
            AnyDcs::Etcd3($inner) => $call,
        }
    };
}

impl AnyDcs {
    /// Connects to the store whose section is in the effective configuration; with
    /// several, to the first in alphabetical order. Waits for it as long as it takes.
    ///
    /// # Errors
    /// No section, or one that makes no client. Also a section that would come first
    /// but is of no store of this build: other nodes may use that one, and two stores
    /// make two leaders.
    pub async fn from_config(config: &Value) -> Result<AnyDcs, DcsError> {
        let section = KNOWN.iter().find_map(|name| config.get(name).map(|section| (*name, section)));
        match section {
            Some(("etcd3", section)) => {
                let settings = Settings::from_config(config, section)?;
                Ok(AnyDcs::Etcd3(Etcd3::start(settings, section).await?))
            }
            _ => Err(DcsError::Config(format!(
                "Can not find suitable configuration of distributed configuration store\n\
                 Available implementations: {}",
                AVAILABLE.join(", ")
            ))),
        }
    }

    /// A new local configuration.
    ///
    /// # Errors
    /// The section makes no client; the old options stay.
    pub fn reload(&self, config: &Value) -> Result<(), DcsError> {
        match (self, config.get("etcd3")) {
            (AnyDcs::Etcd3(etcd), Some(section)) => etcd.reload(section),
            (AnyDcs::Etcd3(_), None) => Ok(()),
        }
    }

    /// The id of the lease that our keys hang on, for stores with leases.
    pub fn lease_id(&self) -> Option<i64> {
        each!(self, dcs => dcs.lease_id())
    }

    /// The id of the lease that the leader key is known to hang on, if it is ours.
    pub fn leader_lease_id(&self) -> Option<i64> {
        each!(self, dcs => dcs.leader_lease_id())
    }

    /// The leader key is to run out, although our member key lives on.
    pub fn let_leader_run_out(&self) {
        each!(self, dcs => dcs.let_leader_run_out());
    }

    /// How often, since the start, the store was seen to have become another one or an earlier one: restored from a
    /// backup, or forced into a new cluster. What was read before proves nothing after.
    pub fn setbacks(&self) -> u64 {
        each!(self, dcs => dcs.setbacks())
    }

    /// A handle for the lock keeper, for stores with leases.
    pub fn lease_keeper(&self) -> Option<LeaseKeeper> {
        each!(self, dcs => Some(dcs.lease_keeper()))
    }
}

impl Dcs for AnyDcs {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        each!(self, dcs => dcs.get_cluster().await)
    }
    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        each!(self, dcs => dcs.get_groups().await)
    }
    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        each!(self, dcs => dcs.cached_cluster())
    }
    fn last_seen(&self) -> u64 {
        each!(self, dcs => dcs.last_seen())
    }
    fn failsafe(&self) -> Option<Value> {
        each!(self, dcs => dcs.failsafe())
    }
    async fn watch(&self, following: bool, timeout: Duration) -> bool {
        each!(self, dcs => dcs.watch(following, timeout).await)
    }
    fn wake(&self) {
        each!(self, dcs => dcs.wake());
    }
    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        each!(self, dcs => dcs.changes())
    }
    async fn acquire_leader(&self) -> Outcome {
        each!(self, dcs => dcs.acquire_leader().await)
    }
    async fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        each!(self, dcs => dcs.update_leader(leader, status, failsafe).await)
    }
    async fn take_leader(&self) -> Outcome {
        each!(self, dcs => dcs.take_leader().await)
    }
    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome {
        each!(self, dcs => dcs.delete_leader(leader, last_lsn).await)
    }
    async fn touch_member(&self, data: &Value) -> Outcome {
        each!(self, dcs => dcs.touch_member(data).await)
    }
    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome {
        each!(self, dcs => dcs.set_config(value, version).await)
    }
    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome {
        each!(self, dcs => dcs.set_failover(value, version).await)
    }
    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        each!(self, dcs => dcs.write_sync(leader, standbys, quorum, version).await)
    }
    async fn delete_sync(&self, version: Option<&str>) -> Outcome {
        each!(self, dcs => dcs.delete_sync(version).await)
    }
    async fn set_history(&self, value: &str) -> Outcome {
        each!(self, dcs => dcs.set_history(value).await)
    }
    async fn write_status(&self, last_lsn: Lsn) -> Outcome {
        each!(self, dcs => dcs.write_status(last_lsn).await)
    }
    async fn write_failsafe(&self, value: &Value) -> Outcome {
        each!(self, dcs => dcs.write_failsafe(value).await)
    }
    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome {
        each!(self, dcs => dcs.initialize(create_new, sysid).await)
    }
    async fn cancel_initialization(&self) -> Outcome {
        each!(self, dcs => dcs.cancel_initialization().await)
    }
    async fn delete_cluster(&self) -> Outcome {
        each!(self, dcs => dcs.delete_cluster().await)
    }
    fn set_timing(&self, timing: Timing) {
        each!(self, dcs => dcs.set_timing(timing));
    }
}
