//! Raft without a store (surface-dcs 15): each node is a member of a PySyncObj cluster, and reads its own copy.
//!
//! The member itself is `patroni-raft`. Here is what the reference's `Raft` class does with it, with two differences that
//! docs/stores/raft.md explains: what is read is confirmed by a majority first, and a deletion is never of what is not
//! there.

mod options;
mod renewer;
mod store;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use patroni_raft::node::{Asker, Node};
use pyfmt::Value;

use crate::keys::{Keys, START_PAUSE};
use crate::{DcsError, Settings, Timing};
pub use options::member_config;

/// A clock that is ahead of ours by less is not counted: that is how long a write takes to come here.
const NEAR: f64 = 0.5;

/// The store: a member, or a reader.
pub struct Store {
    node: Node,
    timing: Arc<Mutex<Timing>>,
    /// The leader key and our name, while it is ours.
    leader: Arc<Mutex<Option<(String, String)>>>,
    /// Ours: keys with it are written by our own clock.
    name: String,
    /// A claim to the bootstrap of which nobody knows what became of it.
    claim: Mutex<store::Claim>,
}

/// The cluster's keys in Raft.
pub type Raft = Keys<Store>;

impl Raft {
    /// Starts the member. Waits until it has what the leader has, or, where there is none, what its own files know; as
    /// long as it takes.
    ///
    /// # Errors
    /// The section makes no member.
    pub async fn start(settings: Settings, section: &Value) -> Result<Raft, DcsError> {
        let config =
            member_config(section, settings.ctl, settings.timing.retry_timeout).map_err(DcsError::Config)?;
        let node = Node::start(config).map_err(DcsError::Config)?;
        let mut standing = node.watch_standing();
        let mut is_ready = settings.ctl;
        // patronictl asks at once.
        while !is_ready {
            let ready = standing.wait_for(|standing| standing.ready);
            let ready = tokio::time::timeout(START_PAUSE, ready).await.is_ok();
            // Without a leader it goes on with what it has: reads fail until a majority is there.
            is_ready = ready || standing.borrow().replayed;
            if !is_ready {
                tracing::info!(target: "patroni.dcs.raft", "waiting on raft");
            }
        }
        let (timing, name) = (Arc::new(Mutex::new(settings.timing)), settings.name.clone());
        let store = Store { node, timing, leader: Arc::default(), name, claim: Mutex::default() };
        Ok(Keys::over(settings, "raft", store).await)
    }
}

/// Seconds since 1970.
fn wall() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// For how long a key of ours lives after a request was sent. A leader of the reference compares the end that we write,
/// by our wall clock, with its own: a clock that is ahead of ours, as far as we can see, takes that from us. (A leader of
/// ours does not.) At most half of the ttl: it may be the clock of a member that does not lead.
fn granted(asker: &Asker, name: &str, ttl: Duration) -> Duration {
    if asker.leader_is_alike() {
        return ttl;
    }
    let member = format!("/members/{name}");
    let now = patroni_raft::node::now();
    let ahead = asker.view(|kv| {
        let ours = |key: &str| {
            key.ends_with(&member)
                || (key.ends_with("/leader") && kv.get(key).is_some_and(|i| *i.value == *name))
        };
        kv.ahead(now, wall(), ours)
    });
    let lost = if ahead > NEAR { Duration::try_from_secs_f64(ahead).unwrap_or(ttl) } else { Duration::ZERO };
    ttl.saturating_sub(lost.min(ttl / 2))
}
