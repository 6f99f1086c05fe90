//! The lease that our leader key and our member key are attached to (surface-dcs 9).

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use tokio::sync::Mutex as AsyncMutex;

use super::failure::Failure;
use super::rpc::{Body, Rpc};
use super::Pool;
use crate::kv::Effort;
use crate::lock::{Granted, LockRenewer, Renewal};
use crate::{DcsError, Timing};

#[derive(Debug, Default)]
struct State {
    id: Option<i64>,
    /// When the newest question was sent that etcd has answered with yes.
    refreshed: Option<Instant>,
    /// A cycle has ended since.
    due: bool,
    /// What etcd has granted.
    granted: Option<Duration>,
    /// What the leader key is attached to, if it is ours, and what was granted for it.
    of_leader: Option<(i64, Granted)>,
}

/// One lease per process.
#[derive(Default)]
pub struct Lease {
    state: Mutex<State>,
    /// Two refreshes at a time would make two leases.
    refreshing: AsyncMutex<()>,
}

impl Lease {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The id, if there is a lease.
    pub fn id(&self) -> Option<i64> {
        self.state().id
    }

    /// What etcd has granted for it.
    pub fn granted(&self) -> Granted {
        Granted { ttl: self.state().granted.unwrap_or_default() }
    }

    /// The lease is gone, or has the wrong TTL: the next refresh gets a new one.
    pub fn forget(&self) {
        self.state().id = None;
    }

    /// What the leader key is known to be attached to, if it is ours.
    pub fn of_leader(&self) -> Option<(i64, Granted)> {
        self.state().of_leader
    }

    /// The leader key is attached to that lease; None: that is not known (it is being
    /// written), or the key is not ours.
    pub fn set_of_leader(&self, lease: Option<(i64, Granted)>) {
        self.state().of_leader = lease;
    }

    /// The leader key is to run out, and is attached to the lease that everything else of ours is attached to: that gets another one.
    pub fn leave_to_leader(&self) {
        let mut state = self.state();
        if state.id.is_some() && state.id == state.of_leader.map(|(id, _)| id) {
            state.id = None;
        }
    }

    /// A cycle has ended: the next refresh renews, unless what etcd has said still stands.
    pub fn expect_refresh(&self) {
        self.state().due = true;
    }

    /// Renews the lease unless that was done in this cycle, or lately ([`is_fresh`]), or always with
    /// `force`; gets a new one where there is none. The id of the lease.
    ///
    /// # Errors
    /// See [`Pool::call`](crate::etcd::pool::Pool::call).
    pub async fn refresh(&self, pool: &Pool, force: bool, effort: Effort) -> Result<i64, Failure> {
        let _one_at_a_time = self.refreshing.lock().await;
        let timing = pool.timing();
        let (id, fresh) = {
            let state = self.state();
            let leads = state.id.is_some() && state.id == state.of_leader.map(|(id, _)| id);
            let age = state.refreshed.map(|at| at.elapsed());
            (state.id, age.is_some_and(|age| is_fresh(age, state.due, leads, &timing)))
        };
        if let Some(id) = id {
            if fresh && !force {
                return Ok(id);
            }
            let sent = Instant::now();
            if keepalive(pool, id, effort).await? {
                self.refreshed(sent);
                return Ok(id);
            }
            self.forget();
        }
        let sent = Instant::now();
        let ttl = timing.ttl.as_secs().try_into().unwrap_or(i64::MAX);
        let reply = pool.call(&Rpc::Grant(ttl), effort).await?;
        let Body::Lease(id, granted) = reply.body else {
            return Err(Failure::Refused("no lease in the answer".into()));
        };
        let mut state = self.state();
        state.id = Some(id);
        state.granted = Some(Duration::from_secs(granted.try_into().unwrap_or(0)));
        drop(state);
        self.refreshed(sent);
        Ok(id)
    }

    fn refreshed(&self, sent: Instant) {
        let mut state = self.state();
        (state.refreshed, state.due) = (Some(sent), false);
    }
}

/// Need the lease of the member key not be renewed, `age` after the last time? `due`: a cycle has ended since. `leads`: the
/// leader key is attached to it too, and whoever wants that renews it by force, or lets it go.
fn is_fresh(age: Duration, due: bool, leads: bool, timing: &Timing) -> bool {
    let same_cycle = !due && age < timing.loop_wait;
    same_cycle || timing.still_stands(age) || (leads && age + timing.loop_wait <= timing.ttl * 2 / 3)
}

async fn keepalive(pool: &Pool, id: i64, effort: Effort) -> Result<bool, Failure> {
    match pool.call(&Rpc::KeepAlive(id), effort).await {
        Ok(reply) => Ok(matches!(reply.body, Body::Alive(true))),
        Err(Failure::LeaseNotFound) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Renews a lease over connections of its own, for the lock keeper: it may live in
/// another thread and another tokio runtime than the [`Etcd3`](super::Etcd3) it comes
/// from, but all its calls have to be made in one runtime.
pub struct LeaseKeeper {
    pool: Pool,
}

impl LeaseKeeper {
    /// Knows the nodes that `pool` knows (those of the configuration may be down by the
    /// time it is needed first), and hears of new options and durations as that one does.
    pub(super) fn new(pool: &Pool) -> LeaseKeeper {
        LeaseKeeper { pool: pool.separate() }
    }

    /// Renews the lease within `limit`. `Ok(false)`: it does not exist any more. A node that has been silent is
    /// left: the next call begins with another one.
    ///
    /// # Errors
    /// No answer, or a refusal; the lease may still live.
    pub async fn keepalive(&self, lease: i64, limit: Duration) -> Result<bool, DcsError> {
        let asking = keepalive(&self.pool, lease, Effort::Hurried(Instant::now() + limit));
        let answer = tokio::time::timeout(limit, asking).await;
        answer.unwrap_or_else(|_| Err(Failure::Node(format!("no answer within {limit:?}")))).map_err(
            |failure| match failure {
                Failure::Node(text) | Failure::Busy(text) => {
                    self.pool.leave_selected();
                    DcsError::Unreachable(text)
                }
                other => DcsError::Refused(other.text().to_owned()),
            },
        )
    }
}

/// Renews the lease that the leader key is attached to, on the lock keeper's thread.
pub struct Renewer {
    lease: Arc<Lease>,
    keeper: LeaseKeeper,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Renewer {
    /// Renews what `lease` says.
    pub fn new(lease: Arc<Lease>, keeper: LeaseKeeper) -> Renewer {
        Renewer { lease, keeper, runtime: None }
    }

    fn try_renew(&mut self, limit: Duration) -> Result<Renewal, String> {
        // The loop is moving the key to another one.
        let Some((lease, granted)) = self.lease.of_leader() else {
            return Err("which lease it is is not known".into());
        };
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            self.runtime = Some(built.map_err(|e| e.to_string())?);
        }
        let Some(runtime) = &self.runtime else { return Err("no runtime".into()) };
        match runtime.block_on(self.keeper.keepalive(lease, limit)) {
            Ok(true) => Ok(Renewal::Until(granted)),
            Ok(false) => Ok(Renewal::Gone),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        self.try_renew(limit).unwrap_or_else(Renewal::NoAnswer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_the_lease_is_renewed() {
        let (slow, quick) = (Timing::seconds(30, 10, 10), Timing::seconds(30, 1, 10));
        for (age, due, leads, timing, fresh) in [
            // Twice in one cycle; in the next one.
            (1, false, false, slow, true),
            (10, true, false, slow, false),
            // A leader's update_leader has done it.
            (10, true, true, slow, true),
            (11, true, true, slow, false),
            // Short cycles.
            (4, true, false, quick, true),
            (5, true, false, quick, false),
            (19, true, true, quick, true),
            (20, true, true, quick, false),
        ] {
            let age = Duration::from_secs(age);
            assert_eq!(is_fresh(age, due, leads, &timing), fresh, "{age:?} {due} {leads} {timing:?}");
        }
    }

    /// Only a lease that the leader key shares is left to it.
    #[test]
    fn whose_lease_is_left_to_the_leader_key() {
        let granted = Granted { ttl: Duration::from_secs(30) };
        for (ours, of_leader, stays) in [
            (Some(1), Some(1), None),
            (Some(1), Some(2), Some(1)),
            (Some(1), None, Some(1)),
            (None, Some(1), None),
        ] {
            let lease = Lease::default();
            lease.state().id = ours;
            lease.set_of_leader(of_leader.map(|id| (id, granted)));
            lease.leave_to_leader();
            assert_eq!(lease.id(), stays, "{ours:?} {of_leader:?}");
            assert_eq!(lease.of_leader().map(|(id, _)| id), of_leader);
        }
    }

    #[test]
    fn a_cycle_that_has_ended_makes_a_renewal_due() {
        let lease = Lease::default();
        lease.refreshed(Instant::now());
        assert!(!lease.state().due);
        lease.expect_refresh();
        assert!(lease.state().due);
        lease.refreshed(Instant::now());
        assert!(!lease.state().due && lease.state().refreshed.is_some());
    }
}
