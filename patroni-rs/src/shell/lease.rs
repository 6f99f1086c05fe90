//! The lock keeper: a thread of its own that renews the lease while the cycles
//! are alive, and stops PostgreSQL before the lease can end.
//!
//! It shares nothing with the HA loop but this small state; it touches no file
//! of PGDATA, runs no query, and has its own connection to the DCS.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use patroni_core::ha::keeper::{Arm, Keeper, Next};
use patroni_core::ha::Mono;
use patroni_postgres::process::fence::Fenced;

use crate::guardian::Guard;
use crate::instance::{locked, mono_now, Instance};
use crate::{process, urgency};

/// What renews the lease; a DCS without leases of its own has none.
pub trait Renewer: Send {
    /// Renews whatever keeps the leader key alive. `Ok(false)`: it is gone.
    ///
    /// # Errors
    /// The DCS did not answer within `limit`.
    fn renew(&mut self, limit: Duration) -> Result<bool, String>;
}

/// The promise of the leader lock, and who keeps it.
pub struct Lease {
    keeper: Mutex<Keeper>,
    /// Hears of each change of the promise.
    guard: Arc<Guard>,
    changed: Condvar,
    wake: Arc<tokio::sync::Notify>,
    /// The HA loop has asked for the lock in the cycle that runs, and holds it.
    asked: AtomicBool,
    /// PostgreSQL was stopped because the lease was about to end.
    fenced: AtomicBool,
}

impl Lease {
    /// Nothing held. Durations as in the DCS client.
    pub fn new(
        ttl: Duration,
        loop_wait: Duration,
        retry_timeout: Duration,
        wake: Arc<tokio::sync::Notify>,
        guard: Arc<Guard>,
    ) -> Arc<Lease> {
        Arc::new(Lease {
            keeper: Mutex::new(Keeper::new(ttl, loop_wait, retry_timeout)),
            guard,
            changed: Condvar::new(),
            wake,
            asked: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
        })
    }

    fn with(&self, change: impl FnOnce(&mut Keeper)) {
        let mut keeper = locked(&self.keeper);
        change(&mut keeper);
        // Under the lock, so that the guardian hears of changes in their order.
        let (arm, server) = keeper.last_armed();
        self.guard.promise(keeper.promise(), arm, server);
        drop(keeper);
        self.changed.notify_all();
    }

    /// New durations.
    pub fn set_timing(&self, ttl: Duration, loop_wait: Duration, retry_timeout: Duration) {
        self.with(|k| k.set_timing(ttl, loop_wait, retry_timeout, mono_now()));
    }

    /// The lock is about to be asked for.
    pub fn will_ask(&self, sent: Mono) {
        self.with(|k| k.lease_asked(sent));
    }

    /// The lock was acquired or refreshed by a request sent at `sent`.
    pub fn confirmed(&self, sent: Mono) {
        self.asked.store(true, Ordering::SeqCst);
        self.with(|k| k.lease_confirmed(sent));
    }

    /// The lock is lost.
    pub fn dropped(&self) {
        self.with(Keeper::lease_dropped);
    }

    /// The lock is given up, by one that does not write any more.
    pub fn released(&self) {
        self.with(Keeper::lease_released);
    }

    /// A cycle has ended. Only one that wanted the lock permits its renewal: where
    /// the cycles end without asking for it (PGDATA unreadable, say), it must run out.
    pub fn cycle_ended(&self) {
        if self.asked.swap(false, Ordering::SeqCst) {
            self.with(|k| k.cycle_ended(mono_now()));
        }
    }

    /// The daemon ends: no cycle does, and its stop makes progress.
    pub fn stop_goes_on(&self) {
        self.with(|k| k.stop_goes_on(mono_now()));
    }

    /// Whether PostgreSQL, the postmaster of that number, may be writing under the lease.
    pub fn arm(&self, arm: Arm, server: u64) {
        self.with(|k| k.arm(arm, server));
    }

    /// Until when the lock is promised; None when it is not, or no longer.
    pub fn until(&self) -> Option<Mono> {
        locked(&self.keeper).lease_until().filter(|until| *until > mono_now())
    }

    /// May a server be started that will write under the lock?
    pub fn may_start_writing(&self) -> bool {
        locked(&self.keeper).may_start_writing(mono_now())
    }

    /// Has the keeper begun to stop PostgreSQL, and nobody acted upon it yet?
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// The consequences of the keeper's stop have been drawn.
    pub fn fence_handled(&self) {
        self.released();
        self.fenced.store(false, Ordering::SeqCst);
    }

    /// Starts the thread; it ends with the process.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start_keeper(
        self: &Arc<Self>,
        instance: Arc<Instance>,
        renewer: Option<Box<dyn Renewer>>,
    ) -> Result<(), String> {
        let lease = self.clone();
        std::thread::Builder::new()
            .name("LockKeeper".into())
            .spawn(move || lease.keep(&instance, renewer))
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn keep(&self, instance: &Instance, mut renewer: Option<Box<dyn Renewer>>) {
        // Nobody else would fence in its place, but the guardian of a daemon that has ended.
        let _ends = process::EndWithPanic("lock keeper");
        let mut spare = urgency::Spare::default();
        spare.refill();
        let priority = urgency::raise();
        let kept = urgency::keep_in_memory();
        let priority = priority.as_str();
        tracing::debug!(target: "patroni.ha", "lock keeper: priority {priority}, {kept} kB kept in memory");
        loop {
            let mut keeper = locked(&self.keeper);
            match keeper.next(mono_now()) {
                Next::Idle => drop(self.changed.wait(keeper)),
                Next::WaitUntil(at) => {
                    let wait = at.saturating_sub(mono_now());
                    drop(self.changed.wait_timeout(keeper, wait));
                }
                Next::Fence => {
                    drop(keeper);
                    tracing::error!(
                        target: "patroni.ha",
                        "Leader lock runs out and could not be renewed, stopping PostgreSQL immediately"
                    );
                    self.fenced.store(true, Ordering::SeqCst);
                    if instance.fence() == Fenced::Failed {
                        tracing::error!(target: "patroni.ha", "PostgreSQL could not be stopped, or nobody can tell");
                    }
                    self.wake.notify_one();
                }
                Next::Renew => {
                    let Some(renewer) = &mut renewer else {
                        keeper.renewal_failed(mono_now() + Duration::from_secs(3600));
                        continue;
                    };
                    let limit = keeper
                        .lease_until()
                        .map_or(Duration::from_secs(1), |until| {
                            until.saturating_sub(mono_now() + keeper.fence_margin())
                        })
                        .clamp(Duration::from_millis(200), Duration::from_secs(3));
                    drop(keeper);
                    if self.renew(renewer.as_mut(), limit) {
                        spare.refill();
                    } else {
                        // It may have failed for want of a descriptor.
                        spare.give_up();
                    }
                }
            }
        }
    }

    /// True: the DCS has answered.
    fn renew(&self, renewer: &mut dyn Renewer, limit: Duration) -> bool {
        let sent = mono_now();
        let answer = renewer.renew(limit);
        let answered = answer.is_ok();
        match answer {
            // The lock may have been given up meanwhile: then there is nothing to prolong.
            Ok(true) => self.with(|k| {
                if k.lease_until().is_some() {
                    k.lease_renewed(sent);
                }
            }),
            Ok(false) => {
                self.with(|k| k.renewal_failed(mono_now()));
                self.wake.notify_one();
            }
            Err(e) => {
                tracing::debug!(target: "patroni.dcs", "lease renewal failed: {e}");
                self.with(|k| k.renewal_failed(mono_now()));
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cycle_that_asked_for_the_lock_permits_its_renewal() {
        let lease = || {
            let (ttl, retry) = (Duration::from_secs(60), Duration::from_secs(600));
            let guard = Guard::new(std::path::Path::new("/nonexistent"));
            Lease::new(ttl, Duration::from_secs(1), retry, Arc::default(), guard)
        };
        let sent = mono_now().saturating_sub(Duration::from_secs(5));
        let next = |lease: &Lease| locked(&lease.keeper).next(mono_now());

        let asked = lease();
        asked.confirmed(sent);
        asked.cycle_ended();
        assert_eq!(next(&asked), Next::Renew);

        let silent = lease();
        silent.with(|k| k.lease_confirmed(sent));
        silent.cycle_ended();
        assert_ne!(next(&silent), Next::Renew);
    }
}
