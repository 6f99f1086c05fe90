//! The lock keeper's side: renews the session of the leader key in its own thread, runtime and connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::api::{Api, Shared};
use super::session::{renew, Sessions};
use crate::kv::{Effort, Failure};
use crate::lock::{LockRenewer, Renewal};

/// See [`LockRenewer`].
pub struct Renewer {
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
    /// Made when they are needed first, in the thread that needs them.
    own: Option<(Runtime, Api)>,
}

impl Renewer {
    /// Of the session that `sessions` say the leader key is locked by.
    pub fn new(shared: &Arc<Shared>, sessions: &Arc<Sessions>) -> Renewer {
        Renewer { shared: Arc::clone(shared), sessions: Arc::clone(sessions), own: None }
    }

    fn own(&mut self) -> Result<&(Runtime, Api), String> {
        if self.own.is_none() {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
            let api = Api::without_connections(Arc::clone(&self.shared)).map_err(|e| e.to_string())?;
            self.own = Some((runtime, api));
        }
        self.own.as_ref().ok_or_else(|| "no client".to_owned())
    }
}

/// A runtime waits for its threads when it is dropped, which nobody may who is in another one.
impl Drop for Renewer {
    fn drop(&mut self) {
        if let Some((runtime, _)) = self.own.take() {
            runtime.shutdown_background();
        }
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        let Some(id) = self.sessions.of_leader() else {
            return Renewal::NoAnswer("the leader key is being written".into());
        };
        let (runtime, api) = match self.own() {
            Ok(own) => own,
            Err(text) => return Renewal::NoAnswer(text),
        };
        let effort = Effort::Hurried(Instant::now() + limit);
        let answer = runtime.block_on(async { tokio::time::timeout(limit, renew(api, &id, effort)).await });
        match answer {
            Ok(Ok(Some(granted))) => Renewal::Until(granted),
            Ok(Ok(None)) => Renewal::Gone,
            Ok(Err(Failure::SessionGone(_))) => Renewal::Gone,
            Ok(Err(failure)) => Renewal::NoAnswer(failure.text().to_owned()),
            Err(_) => Renewal::NoAnswer(format!("no answer within {limit:?}")),
        }
    }
}
