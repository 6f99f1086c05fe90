//! etcd by its v2 API (surface-dcs 11): no sessions, each key has a TTL of its own that a write prolongs.

mod renewer;
mod store;
mod wire;

use std::sync::{Arc, Mutex};

use pyfmt::Value;

use crate::etcd::pool::{self, Asker};
use crate::etcd::wire::Failure;
use crate::etcd::EtcdOptions;
use crate::keys::{Keys, START_PAUSE};
use crate::{DcsError, Settings};
use wire::Wire;

/// Nodes that are spoken to by the v2 API.
type Pool = pool::Pool<Wire>;

/// The store: a pool of nodes.
pub struct Store {
    pool: Arc<Pool>,
    /// The leader key and our name, while it is ours.
    leader: Arc<Mutex<Option<(String, String)>>>,
    /// The index that made `/initialize` as our claim, while it is not known to be there for good; else 0.
    claim: std::sync::atomic::AtomicU64,
}

/// The cluster's keys in etcd 2.
pub type Etcd2 = Keys<Store>;

impl Etcd2 {
    /// Finds the etcd cluster. Waits for it as long as it takes.
    ///
    /// # Errors
    /// The options make no client.
    pub async fn start(settings: Settings, section: &Value) -> Result<Etcd2, DcsError> {
        let options = EtcdOptions::from_section(section)?;
        EtcdOptions::warn_of_unused(section);
        let asker = if settings.ctl { Asker::Person } else { Asker::Daemon };
        let pool = Arc::new(Pool::new(Wire, options, settings.timing, asker));
        while let Err(failure) = pool.discover(settings.timing.retry_timeout).await {
            if let Failure::Refused(text) = failure {
                return Err(DcsError::Config(text));
            }
            tracing::info!(target: "patroni.dcs.etcd", "waiting on etcd");
            tokio::time::sleep(START_PAUSE).await;
        }
        let store = Store { pool, leader: Arc::default(), claim: 0.into() };
        Ok(Keys::over(settings, "etcd", store).await)
    }
}
