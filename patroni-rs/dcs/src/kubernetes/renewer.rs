//! The lock is renewed for the lock keeper, in its thread, over connections of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::api::{Api, Shared};
use super::lock::{renew, OurLock};
use super::objects::Objects;
use super::port::Scope;
use crate::lock::{LockRenewer, Renewal};

/// Renews the lock for the lock keeper.
pub struct Renewer {
    shared: Arc<Shared>,
    scope: Arc<Scope>,
    lock: Arc<OurLock>,
    made: Option<(tokio::runtime::Runtime, Objects)>,
}

impl Renewer {
    /// For that lock.
    pub fn new(shared: Arc<Shared>, scope: Arc<Scope>, lock: Arc<OurLock>) -> Renewer {
        Renewer { shared, scope, lock, made: None }
    }

    fn make(&self) -> Result<(tokio::runtime::Runtime, Objects), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let api = Api::without_connections(Arc::clone(&self.shared)).map_err(|e| e.to_string())?;
        Ok((runtime.map_err(|e| e.to_string())?, Objects::new(api, Arc::clone(&self.scope))))
    }

    fn try_renew(&mut self, limit: Duration) -> Result<Renewal, String> {
        if self.made.is_none() {
            self.made = Some(self.make()?);
        }
        let Some((runtime, objects)) = &self.made else { return Err("no runtime".into()) };
        let renewing = renew(objects, &self.scope.names.leader, &self.lock, Instant::now() + limit);
        let answer = runtime.block_on(async { tokio::time::timeout(limit, renewing).await });
        answer.map_err(|_| format!("no answer within {limit:?}"))?
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        // May be dropped in another runtime, which cannot wait for this one.
        if let Some((runtime, _)) = self.made.take() {
            runtime.shutdown_background();
        }
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        self.try_renew(limit).unwrap_or_else(Renewal::NoAnswer)
    }
}
