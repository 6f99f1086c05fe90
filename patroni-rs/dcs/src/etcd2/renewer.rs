//! The renewal of the leader key from the lock keeper's thread: a compare-and-set of the key itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;

use super::wire::{Body, Cond, Rpc};
use super::Pool;
use crate::etcd::wire::Failure;
use crate::kv::Effort;
use crate::lock::{Granted, LockRenewer, Renewal};

/// Writes the key anew, over connections of its own.
pub struct Renewer {
    leader: Arc<Mutex<Option<(String, String)>>>,
    pool: Pool,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Renewer {
    /// Renews what `leader` says.
    pub fn new(leader: Arc<Mutex<Option<(String, String)>>>, pool: Pool) -> Renewer {
        Renewer { leader, pool, runtime: None }
    }

    fn try_renew(&mut self, limit: Duration) -> Result<Renewal, String> {
        let leader = locked(&self.leader).clone();
        let Some((key, name)) = leader else { return Err("whether the key is ours is not known".into()) };
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            self.runtime = Some(built.map_err(|e| e.to_string())?);
        }
        let Some(runtime) = &self.runtime else { return Err("no runtime".into()) };
        let ttl = self.pool.timing().ttl;
        let when = Some(Cond::Value(name.clone()));
        let put = Rpc::Put { key, value: name, ttl: Some(ttl.as_secs()), when };
        let asking = self.pool.call(&put, Effort::Hurried(Instant::now() + limit));
        let answer = runtime.block_on(async { tokio::time::timeout(limit, asking).await });
        match answer {
            Ok(Ok(reply)) if matches!(reply.body, Body::Refused) => Ok(Renewal::Gone),
            Ok(Ok(_)) => Ok(Renewal::Until(Granted { ttl: Duration::from_secs(ttl.as_secs()) })),
            Ok(Err(Failure::Node(text) | Failure::Busy(text))) => {
                self.pool.leave_selected();
                Err(text)
            }
            Ok(Err(failure)) => Err(failure.text().to_owned()),
            Err(_) => {
                self.pool.leave_selected();
                Err(format!("no answer within {limit:?}"))
            }
        }
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        self.try_renew(limit).unwrap_or_else(Renewal::NoAnswer)
    }
}
