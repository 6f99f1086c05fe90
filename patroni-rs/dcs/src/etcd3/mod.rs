//! etcd 3 over gRPC (surface-dcs 8 to 10).
//!
//! Differences from the reference, which speaks to etcd's JSON gateway and keeps a
//! copy of all keys up to date by a watch: a read of the cluster is one linearizable
//! range request, so it is never old and always has our own writes; the watch only
//! wakes the loop.

mod connect;
mod failure;
mod lease;
mod ops;
mod pool;
mod resolver;
mod rpc;
mod seen;
mod watcher;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use patroni_core::model::{Node, Nodes};
use pyfmt::Value;
use tokio::sync::{watch, Notify};
use tokio::task::JoinHandle;

pub use lease::LeaseKeeper;

use crate::etcd::EtcdOptions;
use crate::published::Published;
use crate::wake::WakeRules;
use crate::watch::Sink;
use crate::{DcsError, Settings};
use failure::Failure;
use lease::Lease;
use pool::{Asker, Effort, Pool};
use rpc::{Reply, Rpc};

const LOG: &str = "patroni.dcs.etcd3";

/// Pause between attempts to reach etcd at the start.
const START_PAUSE: Duration = Duration::from_secs(5);

/// The adapter. Belongs to the tokio runtime it was made in.
pub struct Etcd3 {
    settings: Settings,
    pool: Arc<Pool>,
    lease: Lease,
    published: Published,
    wake: Arc<Notify>,
    changes: watch::Sender<u64>,
    ttl_changed: AtomicBool,
    /// The revision that made `/initialize` as our claim, while its lease is not known to be gone; else 0.
    claim: AtomicI64,
    watcher: Option<JoinHandle<()>>,
}

impl Drop for Etcd3 {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl Etcd3 {
    /// Finds the etcd cluster, and, unless it is for patronictl, starts the watch and
    /// gets a lease. Waits for etcd as long as it takes.
    ///
    /// # Errors
    /// The options make no client, or user and password are refused.
    pub async fn start(settings: Settings, section: &Value) -> Result<Etcd3, DcsError> {
        let options = options(section)?;
        let asker = if settings.ctl { Asker::Person } else { Asker::Daemon };
        let pool = Arc::new(Pool::new(options, settings.timing, asker));
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
        let mut etcd = Etcd3 {
            pool,
            lease: Lease::default(),
            published: Published::default(),
            wake: Arc::new(Notify::new()),
            changes: watch::Sender::new(0),
            ttl_changed: AtomicBool::new(false),
            claim: AtomicI64::new(0),
            watcher: None,
            settings,
        };
        if !etcd.settings.ctl {
            let rules = WakeRules::new(&etcd.settings.name);
            let sink = Sink::new(rules, Arc::clone(&etcd.wake), etcd.changes.clone());
            let watch = watcher::run(Arc::clone(&etcd.pool), etcd.settings.prefix(), sink);
            etcd.watcher = Some(tokio::spawn(watch));
            while let Err(failure) = etcd.lease.refresh(&etcd.pool, false, etcd.pool.deadline()).await {
                tracing::error!(target: LOG, "refresh_lease: {}", failure.text());
                wait_for_etcd().await;
            }
        }
        Ok(etcd)
    }

    /// New options of the section: other nodes, credentials, certificates.
    ///
    /// # Errors
    /// The options make no client; the old ones stay.
    pub fn reload(&self, section: &Value) -> Result<(), DcsError> {
        self.pool.set_options(options(section)?);
        Ok(())
    }

    /// The id of the lease that our keys hang on.
    pub fn lease_id(&self) -> Option<i64> {
        self.lease.id()
    }

    /// The id of the lease that the leader key is known to hang on, if it is ours: after
    /// a change of the ttl not the one that new keys get.
    pub fn leader_lease_id(&self) -> Option<i64> {
        self.lease.of_leader()
    }

    /// The leader key is to run out with its lease, although our member key lives on: the cycles end without asking for
    /// the lock. Who asks again moves the key to the new lease, if it is still there.
    pub fn let_leader_run_out(&self) {
        self.lease.leave_to_leader();
    }

    /// How often, since the start, the store was seen to have become another one or an earlier one (restored from a
    /// backup, forced into a new cluster): what was read before proves nothing after.
    pub fn setbacks(&self) -> u64 {
        self.pool.setbacks()
    }

    /// A handle that renews leases over connections of its own.
    pub fn lease_keeper(&self) -> LeaseKeeper {
        LeaseKeeper::new(&self.pool)
    }

    fn key(&self, name: &str) -> String {
        self.settings.key(name)
    }

    /// All keys with a prefix, without it.
    async fn nodes(&self, prefix: String) -> Result<Nodes, Failure> {
        let reply = self.pool.call(&Rpc::List(prefix.clone()), self.pool.deadline()).await?;
        Ok(nodes_of(reply, prefix.len()))
    }

    /// The lease a key hangs on is not ours although the key says we are the leader.
    fn warn_of_foreign_lease(&self, nodes: &Nodes) {
        let own = self.lease.session();
        let foreign = nodes.get("leader").is_some_and(|n| n.value == self.settings.name && n.session != own);
        if foreign && !self.settings.ctl {
            tracing::warn!(target: LOG, "I am the leader but not owner of the lease");
        }
    }

    fn effort(&self, retry: bool) -> Effort {
        if retry {
            self.pool.deadline()
        } else {
            Effort::Once
        }
    }

    fn take_ttl_change(&self) -> bool {
        self.ttl_changed.swap(false, Ordering::Relaxed)
    }
}

async fn wait_for_etcd() {
    tracing::info!(target: LOG, "waiting on etcd");
    tokio::time::sleep(START_PAUSE).await;
}

fn options(section: &Value) -> Result<EtcdOptions, DcsError> {
    let options = EtcdOptions::from_section(section)?;
    if options.use_proxies {
        let text = "'proxy' and 'use_proxies' of the etcd3 section are not supported yet: \
                    they need etcd's HTTP gateway, and this version speaks gRPC only";
        return Err(DcsError::Config(text.into()));
    }
    Ok(options)
}

/// The keys of each Citus group, by the number that their folder is called.
fn groups_of(nodes: Nodes) -> BTreeMap<i64, Nodes> {
    let mut groups: BTreeMap<i64, Nodes> = BTreeMap::new();
    for (path, node) in nodes {
        let Some((folder, rest)) = path.split_once('/') else { continue };
        let group = folder.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == folder);
        if let Some(group) = group {
            groups.entry(group).or_default().insert(rest.to_owned(), node);
        }
    }
    groups
}

fn nodes_of(reply: Reply, prefix: usize) -> Nodes {
    let node = |kv: etcd_client::KeyValue| {
        let key = String::from_utf8_lossy(kv.key()).get(prefix..)?.to_owned();
        let value = String::from_utf8_lossy(kv.value()).into_owned();
        let session = (kv.lease() != 0).then(|| kv.lease().to_string());
        Some((key, Node { value, version: kv.mod_revision().to_string(), modify_version: None, session }))
    };
    reply.keys().into_iter().filter_map(node).collect()
}
