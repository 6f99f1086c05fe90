//! etcd 3 (surface-dcs 8 to 10): over gRPC, or over its JSON gateway where the configuration says that there is a proxy
//! in between, or a node answers HTTP and no gRPC.
//!
//! Differences from the reference, which speaks to etcd's JSON gateway and keeps a
//! copy of all keys up to date by a watch: a read of the cluster is one linearizable
//! range request, which always has our own writes. The watch wakes the loop, and lets a
//! cycle go by what was read before as long as it has told of no change, for a few
//! seconds (`keys/known.rs`).

mod failure;
mod gateway;
mod grpc;
mod lease;
mod resolver;
mod rpc;
mod store;
mod watcher;
mod wire;

use std::sync::atomic::AtomicI64;
use std::sync::Arc;

use patroni_core::model::{Node, Nodes};
use pyfmt::Value;

pub use lease::LeaseKeeper;

use crate::etcd::pool::{self, Asker};
use crate::etcd::EtcdOptions;
use crate::keys::{Keys, START_PAUSE};
use crate::kv::Effort;
use crate::watch::Sink;
use crate::{DcsError, Settings};
use failure::Failure;
use lease::Lease;
use rpc::{Body, Reply, Rpc};
use wire::Wire;

/// Nodes that are spoken to as etcd 3.
type Pool = pool::Pool<Wire>;

const LOG: &str = "patroni.dcs.etcd3";

/// The store: a pool of nodes and a lease.
pub struct Store {
    pool: Arc<Pool>,
    lease: Arc<Lease>,
    /// The revision that made `/initialize` as our claim, while its lease is not known to be gone; else 0.
    claim: AtomicI64,
}

/// The cluster's keys in etcd 3.
pub type Etcd3 = Keys<Store>;

impl Etcd3 {
    /// Finds the etcd cluster, and, unless it is for patronictl, starts the watch and
    /// gets a lease. Waits for etcd as long as it takes.
    ///
    /// # Errors
    /// The options make no client, or user and password are refused.
    pub async fn start(settings: Settings, section: &Value) -> Result<Etcd3, DcsError> {
        let options = EtcdOptions::from_section(section)?;
        EtcdOptions::warn_of_unused(section);
        let asker = if settings.ctl { Asker::Person } else { Asker::Daemon };
        let pool = Arc::new(Pool::new(Wire::default(), options, settings.timing, asker));
        while let Err(failure) = pool.discover(settings.timing.retry_timeout).await {
            match failure {
                Failure::Password(text) => {
                    let text = format!("Etcd3 authentication failed: {text}");
                    tracing::error!(target: LOG, "{text}");
                    return Err(DcsError::Auth(text));
                }
                _ => wait_for_etcd().await,
            }
        }
        let store = Store { pool, lease: Arc::default(), claim: AtomicI64::new(0) };
        Ok(Keys::over(settings, "etcd3", store).await)
    }

    /// The id of the lease that our keys are attached to.
    pub fn lease_id(&self) -> Option<i64> {
        self.store().lease.id()
    }

    /// The id of the lease that the leader key is known to be attached to, if it is ours: after
    /// a change of the ttl not the one that new keys get.
    pub fn leader_lease_id(&self) -> Option<i64> {
        self.store().lease.of_leader().map(|(lease, _)| lease)
    }

    /// A handle that renews leases over connections of its own.
    pub fn lease_keeper(&self) -> LeaseKeeper {
        LeaseKeeper::new(&self.store().pool)
    }
}

async fn wait_for_etcd() {
    tracing::info!(target: LOG, "waiting on etcd");
    tokio::time::sleep(START_PAUSE).await;
}

/// All keys with a prefix, without it.
fn nodes_of(reply: Reply, prefix: &str) -> Nodes {
    let node = |kv: rpc::Kv| {
        let key = kv.key.strip_prefix(prefix)?.to_owned();
        let session = (kv.lease != 0).then(|| kv.lease.to_string());
        let version = kv.mod_revision.to_string();
        Some((key, Node { value: kv.value, version, modify_version: None, session }))
    };
    reply.keys().into_iter().filter_map(node).collect()
}
