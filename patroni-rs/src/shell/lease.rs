//! The lock keeper: a thread of its own that renews the lease while the cycles
//! are alive, and stops PostgreSQL before the lease can end.
//!
//! It shares nothing with the HA loop but this small state; it touches no file
//! of PGDATA, runs no query, and has its own connection to the DCS.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use patroni_core::ha::keeper::{Arm, Keeper, Next};
use patroni_core::ha::Mono;
use patroni_dcs::lock::{LockRenewer, Renewal};
use patroni_dcs::Dcs;
use patroni_postgres::process::fence::Fenced;

use super::alarm::{Alarm, Bell};
use crate::guardian::Guard;
use crate::instance::{locked, mono_now, Instance};
use crate::{process, urgency};

/// The promise of the leader lock, and who keeps it.
pub struct Lease {
    keeper: Mutex<Keeper>,
    /// Knows what it has granted for the lock.
    dcs: OnceLock<Arc<dyn Dcs>>,
    /// Hears of each change of the promise.
    guard: Arc<Guard>,
    changed: Bell,
    wake: Arc<tokio::sync::Notify>,
    /// The HA loop has asked for the lock in the cycle that runs, and holds it.
    asked: AtomicBool,
    /// It has asked, and got no answer.
    unanswered: AtomicBool,
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
            dcs: OnceLock::new(),
            guard,
            changed: Bell::default(),
            wake,
            asked: AtomicBool::new(false),
            unanswered: AtomicBool::new(false),
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
        self.changed.ring();
    }

    /// New durations.
    pub fn set_timing(&self, ttl: Duration, loop_wait: Duration, retry_timeout: Duration) {
        self.with(|k| k.set_timing(ttl, loop_wait, retry_timeout, mono_now()));
    }

    /// The lock is about to be asked for, with the server in this state: the fence is armed for it from now on, since
    /// the loop may never hear the answer.
    pub fn will_ask(&self, sent: Mono, arm: Arm, server: u64) {
        let granted = self.granted();
        self.with(|k| {
            k.store_grants(granted, mono_now());
            k.lease_asked(sent);
            k.arm(arm, server);
        });
    }

    /// The server of that number is about to be told to become a primary. May it? If so, the fence is armed for it.
    pub fn will_promote(&self, arm: Arm, server: u64) -> bool {
        let mut may = false;
        self.with(|k| {
            may = k.may_start_writing(mono_now());
            if may {
                k.arm(arm, server);
            }
        });
        may
    }

    /// The lock was acquired or refreshed by a request sent at `sent`.
    pub fn confirmed(&self, sent: Mono) {
        self.asked.store(true, Ordering::SeqCst);
        let granted = self.granted();
        self.with(|k| {
            k.store_grants(granted, mono_now());
            k.lease_confirmed(sent);
        });
    }

    fn granted(&self) -> Duration {
        self.dcs.get().map_or(Duration::MAX, |dcs| dcs.granted())
    }

    /// The lock was asked for, and nobody knows what came of it.
    pub fn unanswered(&self) {
        self.unanswered.store(true, Ordering::SeqCst);
    }

    /// The loop has read the cluster with a request sent at `sent`.
    pub fn cluster_read(&self, sent: Mono) {
        self.with(|k| k.cluster_read(sent));
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
    /// the cycles end without asking for it (PGDATA unreadable, say), it must run out. Was it asked for?
    pub fn cycle_ended(&self) -> bool {
        let unanswered = self.unanswered.swap(false, Ordering::SeqCst);
        let asked = self.asked.swap(false, Ordering::SeqCst);
        if asked {
            self.with(|k| k.cycle_ended(mono_now()));
        }
        asked || unanswered
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
    pub fn start_keeper(self: &Arc<Self>, instance: Arc<Instance>, dcs: &Arc<dyn Dcs>) -> Result<(), String> {
        let (lease, renewer) = (self.clone(), dcs.renewer());
        let _ = self.dcs.set(dcs.clone());
        let alarm = Alarm::new(&self.changed).map_err(|e| e.to_string())?;
        std::thread::Builder::new()
            .name("LockKeeper".into())
            .spawn(move || lease.keep(&instance, renewer, alarm))
            .map(drop)
            .map_err(|e| e.to_string())
    }

    fn keep(&self, instance: &Instance, mut renewer: Option<Box<dyn LockRenewer>>, mut alarm: Alarm) {
        // Nobody else would fence in its place, but the guardian of a daemon that has ended.
        let _ends = process::EndWithPanic("lock keeper");
        let mut spare = urgency::Spare::default();
        spare.refill();
        let priority = urgency::raise();
        let kept = urgency::keep_in_memory();
        let priority = priority.as_str();
        tracing::debug!(target: "patroni.ha", "lock keeper: priority {priority}, {kept} kB kept in memory");
        let mut trouble = Trouble::default();
        let mut sleep = |until: Option<Mono>| {
            if let Some(ahead) = alarm.wait(until) {
                self.clock_jumped(ahead);
            }
        };
        loop {
            let mut keeper = locked(&self.keeper);
            match keeper.next(mono_now()) {
                Next::Idle => {
                    drop(keeper);
                    sleep(None);
                }
                Next::WaitUntil(at) => {
                    drop(keeper);
                    sleep(Some(at));
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
                    let left = keeper.lease_until().map_or(Duration::from_secs(1), |until| {
                        until.saturating_sub(mono_now() + keeper.fence_margin())
                    });
                    let longest = Duration::from_secs(if keeper.is_in_doubt() { 1 } else { 3 });
                    let limit = left.clamp(Duration::from_millis(200), longest);
                    let loop_wait = keeper.loop_wait();
                    drop(keeper);
                    let error = self.renew(renewer.as_mut(), limit);
                    if error.is_none() {
                        spare.refill();
                    } else {
                        // It may have failed for want of a descriptor.
                        spare.give_up();
                    }
                    trouble.note(error, mono_now(), loop_wait);
                }
            }
        }
    }

    /// The wall clock has jumped ahead: the lock is looked at by both, the keeper and the loop.
    fn clock_jumped(&self, ahead: Duration) {
        let held = locked(&self.keeper).lease_until().is_some();
        self.with(|k| k.clock_jumped(mono_now(), ahead));
        if held {
            tracing::warn!(
                target: "patroni.ha",
                "The wall clock has jumped ahead by {} s: this machine may have stood still, and the leader lock is \
                 confirmed at once",
                ahead.as_secs()
            );
            self.wake.notify_one();
        }
    }

    /// Why it could not be renewed.
    fn renew(&self, renewer: &mut dyn LockRenewer, limit: Duration) -> Option<String> {
        let sent = mono_now();
        match renewer.renew(limit) {
            // The lock may have been given up meanwhile: then there is nothing to prolong.
            Renewal::Until(granted) => self.with(|k| {
                if k.lease_until().is_some() {
                    k.store_grants(granted.ttl, sent);
                    k.lease_renewed(sent);
                }
            }),
            Renewal::Gone => {
                self.with(|k| {
                    k.renewal_failed(mono_now());
                    k.lease_gone(sent, mono_now());
                });
                self.wake.notify_one();
            }
            Renewal::NoAnswer(e) => {
                tracing::debug!(target: "patroni.dcs", "lease renewal failed: {e}");
                self.with(|k| k.renewal_failed(mono_now()));
                return Some(e);
            }
        }
        None
    }
}

/// Failures of the keeper that last. As long as the HA loop renews the lease itself they do no harm, but nobody would
/// know that the keeper could not step in.
#[derive(Debug, Default)]
struct Trouble {
    since: Option<Mono>,
    told: bool,
}

impl Trouble {
    /// What a renewal came to. One line when it has failed for longer than `loop_wait`, and one when that is over.
    fn note(&mut self, error: Option<String>, now: Mono, loop_wait: Duration) {
        let Some(error) = error else {
            if std::mem::take(self).told {
                tracing::info!(target: "patroni.ha", "The lock keeper renews the lease of the leader lock again");
            }
            return;
        };
        let since = *self.since.get_or_insert(now);
        if !self.told && now.saturating_sub(since) > loop_wait {
            self.told = true;
            tracing::warn!(
                target: "patroni.ha",
                "The lock keeper has not been able to renew the lease of the leader lock for {} s: {error}",
                now.saturating_sub(since).as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_lasts_is_told_once() {
        let s = Duration::from_secs;
        let mut trouble = Trouble::default();
        for (at, error, told) in [
            (1, true, false),
            (11, true, false),
            (12, true, true),
            (99, true, true),
            (100, false, false),
            (101, true, false),
        ] {
            trouble.note(error.then(|| "no".to_owned()), s(at), s(10));
            assert_eq!(trouble.told, told, "{at}");
        }
    }

    fn held_for(ttl: u64) -> (Arc<Lease>, u64) {
        let guard = Guard::new(std::path::Path::new("/nonexistent"));
        let (ttl, retry) = (Duration::from_secs(ttl), Duration::from_secs(10));
        (Lease::new(ttl, Duration::from_secs(10), retry, Arc::default(), guard), 7)
    }

    #[test]
    fn a_question_for_the_lock_arms_the_fence_for_the_server_that_writes() {
        let (lease, server) = held_for(30);
        let sent = mono_now();
        lease.will_ask(sent, Arm::Reads, server);
        assert_eq!(locked(&lease.keeper).promise(), None);
        lease.will_ask(sent, Arm::Writes, server);
        let promise = locked(&lease.keeper).promise();
        // By the end of the lease that the question may bring, although no answer ever comes.
        assert!(promise.is_some_and(|at| at > sent && at < sent + Duration::from_secs(30)), "{promise:?}");
    }

    #[test]
    fn a_promotion_arms_the_fence_and_needs_the_lock() {
        let (lease, server) = held_for(30);
        assert!(!lease.will_promote(Arm::Writes, server));
        assert_eq!(locked(&lease.keeper).promise(), None);
        lease.confirmed(mono_now());
        assert_eq!(locked(&lease.keeper).promise(), None);
        assert!(lease.will_promote(Arm::Writes, server));
        assert!(locked(&lease.keeper).promise().is_some());
        // A lease that is about to end.
        let (short, server) = held_for(30);
        short.confirmed(mono_now().saturating_sub(Duration::from_secs(28)));
        assert!(!short.will_promote(Arm::Writes, server));
    }

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
        assert!(asked.cycle_ended());
        assert_eq!(next(&asked), Next::Renew);

        let silent = lease();
        silent.with(|k| k.lease_confirmed(sent));
        assert!(!silent.cycle_ended());
        assert_ne!(next(&silent), Next::Renew);
        // A question without an answer permits nothing, and is one.
        silent.unanswered();
        assert!(silent.cycle_ended() && !silent.cycle_ended());
        assert_ne!(next(&silent), Next::Renew);
    }
}
