//! The renewal of the leader key from the lock keeper's thread: the same command as the HA loop's, through the member's
//! own thread, which no hung loop holds.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use patroni_raft::kv::{Call, Conditions, Done, Item};
use patroni_raft::node::Asker;

use super::Clocks;
use crate::lock::{Granted, LockRenewer, Renewal};
use crate::skew::Lock;
use crate::Timing;

/// Between two attempts within the limit.
const PAUSE: Duration = Duration::from_millis(50);

/// Writes the key anew.
pub struct Renewer {
    leader: Arc<Mutex<Option<(String, String)>>>,
    clocks: Clocks,
    timing: Arc<Mutex<Timing>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Renewer {
    /// Renews what `leader` says.
    pub fn new(
        leader: Arc<Mutex<Option<(String, String)>>>,
        clocks: Clocks,
        timing: Arc<Mutex<Timing>>,
    ) -> Renewer {
        Renewer { leader, clocks, timing, runtime: None }
    }

    fn try_renew(&mut self, limit: Duration) -> Result<Renewal, String> {
        let leader = locked(&self.leader).clone();
        let Some((key, name)) = leader else { return Err("whether the key is ours is not known".into()) };
        let (until, ttl) = (Instant::now() + limit, locked(&self.timing).ttl);
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            self.runtime = Some(built.map_err(|e| e.to_string())?);
        }
        let Some(runtime) = &self.runtime else { return Err("no runtime".into()) };
        let clocks = self.clocks.clone();
        let renewing = async {
            loop {
                let call = set(
                    &clocks.asker,
                    &key,
                    &name,
                    Some(ttl),
                    Conditions { value: Some(name.as_str().into()), ..Conditions::default() },
                );
                match clocks.asker.call(&call).await {
                    Ok(Ok(Done::Refused)) => return Ok(Renewal::Gone),
                    Ok(Ok(_)) => {
                        return match clocks.lock(ttl) {
                            Lock::Lives(ttl) => Ok(Renewal::Until(Granted { ttl })),
                            // As good as gone: its end has come by the clock that counts.
                            Lock::Ended => Ok(Renewal::Gone),
                            Lock::Unknown => Err("the clock of Raft's leader is not known yet".into()),
                        };
                    }
                    // Nobody leads just now.
                    Ok(Err(_)) if Instant::now() + PAUSE < until => tokio::time::sleep(PAUSE).await,
                    Ok(Err(reason)) => return Err(format!("{reason:?}")),
                    Err(_) => return Err("the member has ended".into()),
                }
            }
        };
        let late = || Err(format!("no answer within {limit:?}"));
        runtime.block_on(async { tokio::time::timeout(limit, renewing).await }).unwrap_or_else(|_| late())
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        self.try_renew(limit).unwrap_or_else(Renewal::NoAnswer)
    }
}

/// The command that writes a key now.
pub fn set(asker: &Asker, key: &str, value: &str, ttl: Option<Duration>, conditions: Conditions) -> Call {
    let updated = patroni_raft::node::wall();
    let created = asker.view(|kv| kv.get(key).map(|item| item.created)).unwrap_or(updated);
    let expire = ttl.map(|ttl| updated + ttl.as_secs_f64());
    Call::Set(key.into(), Item { value: value.into(), updated, created, expire, index: 0 }, conditions)
}
