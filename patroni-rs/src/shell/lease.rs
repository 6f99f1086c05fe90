//! The lock keeper: a thread of its own that renews the lease while the cycles
//! are alive, and stops PostgreSQL before the lease can end.
//!
//! It shares nothing with the HA loop but this small state; it touches no file
//! of PGDATA, runs no query, and has its own connection to the DCS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use patroni_core::ha::keeper::Next;
use patroni_core::ha::{Mono, PgState, Role};
use patroni_core::node::{failsafe, LeaderLock, Renewed};
use patroni_dcs::lock::{LockRenewer, Renewal};
use patroni_postgres::process::fence::Fenced;

use super::alarm::{Alarm, Bell};
use crate::guardian::Guard;
use crate::instance::{locked, mono_now, Instance};
use crate::{process, urgency};

/// The promise of the leader lock ([`LeaderLock`]), and the thread that keeps it.
pub struct Lease {
    lock: Mutex<LeaderLock>,
    /// Hears of each change of the promise.
    guard: Arc<Guard>,
    changed: Bell,
    wake: Arc<tokio::sync::Notify>,
}

impl Lease {
    /// Nothing held.
    pub fn new(lock: LeaderLock, wake: Arc<tokio::sync::Notify>, guard: Arc<Guard>) -> Arc<Lease> {
        Arc::new(Lease { lock: Mutex::new(lock), guard, changed: Bell::default(), wake })
    }

    /// Changes the lock; the guardian and the keeper hear of it. The keeper's thread waits meanwhile: nothing that takes
    /// its time belongs into `change`.
    pub fn with<R>(&self, change: impl FnOnce(&mut LeaderLock) -> R) -> R {
        let mut lock = locked(&self.lock);
        let now = mono_now();
        let before = lock.acts_at(now);
        let result = change(&mut lock);
        let sooner = lock.acts_at(now) < before;
        // Under the lock, so that the guardian hears of changes in their order.
        let (promise, arm, server) = lock.promise();
        self.guard.promise(promise, arm, server, lock.held());
        drop(lock);
        // The keeper sleeps until then at most: what comes later it finds when it looks.
        if sooner {
            self.changed.ring();
        }
        result
    }

    /// Until when the lock is promised; None when it is not, or no longer.
    pub fn until(&self) -> Option<Mono> {
        locked(&self.lock).until(mono_now())
    }

    /// Must this node refuse a primary without a DCS that asks whether it may go on?
    pub fn refuses_failsafe(&self, state: PgState, role: Role) -> bool {
        failsafe::leads(state, role, self.until())
    }

    /// May a restart bring a primary up again?
    pub fn may_restart_primary(&self, paused: bool, bootstrapping: bool) -> bool {
        locked(&self.lock).may_restart_primary(mono_now(), paused, bootstrapping)
    }

    /// Starts the thread; it ends with the process.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start_keeper(
        self: &Arc<Self>,
        instance: Arc<Instance>,
        renewer: Option<Box<dyn LockRenewer>>,
    ) -> Result<(), String> {
        let lease = self.clone();
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
            let mut lock = locked(&self.lock);
            let now = mono_now();
            match lock.next(now) {
                Next::Idle => {
                    drop(lock);
                    sleep(None);
                }
                Next::WaitUntil(at) => {
                    drop(lock);
                    sleep(Some(at));
                }
                Next::Fence => {
                    drop(lock);
                    tracing::error!(
                        target: "patroni.ha",
                        "Leader lock runs out and could not be renewed, stopping PostgreSQL immediately"
                    );
                    if instance.fence() == Fenced::Failed {
                        tracing::error!(target: "patroni.ha", "PostgreSQL could not be stopped, or nobody can tell");
                    }
                    self.wake.notify_one();
                }
                Next::Renew => {
                    let Some(renewer) = &mut renewer else {
                        lock.nobody_renews(now);
                        continue;
                    };
                    let (limit, loop_wait) = (lock.renewal_limit(now), lock.loop_wait());
                    drop(lock);
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

    /// The watch shows that the leader key is ours no more: the keeper asks now what became of it.
    pub fn key_seen_gone(&self) {
        self.with(|lock| lock.key_seen_gone(mono_now()));
    }

    /// The wall clock has jumped ahead: the lock is looked at by both, the keeper and the loop.
    fn clock_jumped(&self, ahead: Duration) {
        let held = self.with(|lock| {
            let held = lock.lease_until().is_some();
            lock.clock_jumped(mono_now(), ahead);
            held
        });
        self.guard.clock_jumped();
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
        let (came_to, error) = match renewer.renew(limit) {
            Renewal::Until(granted) => (Renewed::Until(granted.ttl), None),
            Renewal::Gone => (Renewed::Gone, None),
            Renewal::NoAnswer(e) => {
                tracing::debug!(target: "patroni.dcs", "lease renewal failed: {e}");
                (Renewed::Unanswered, Some(e))
            }
        };
        self.with(|lock| lock.renewed(sent, mono_now(), came_to));
        if came_to == Renewed::Gone {
            self.wake.notify_one();
        }
        error
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
        if !self.told && now.since(since) > loop_wait {
            self.told = true;
            tracing::warn!(
                target: "patroni.ha",
                "The lock keeper has not been able to renew the lease of the leader lock for {} s: {error}",
                now.since(since).as_secs()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patroni_core::ha::keeper::Arm;
    use patroni_core::ha::{ask, Answer, Request};
    use patroni_core::node::{Now, Server};
    use patroni_core::timing::Timing;

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
            trouble.note(error.then(|| "no".to_owned()), Mono::seconds(at), s(10));
            assert_eq!(trouble.told, told, "{at}");
        }
    }

    fn now(server: Server) -> Now<'static> {
        Now {
            at: mono_now(),
            name: "n0",
            paused: false,
            timing: Timing::default(),
            granted: Duration::MAX,
            server,
        }
    }

    /// A change of the lock reaches the guardian before anybody else can change it again, and the keeper at once.
    #[test]
    fn what_changes_the_lock_is_told_to_the_guardian() {
        let guard = Guard::new(std::path::Path::new("/nonexistent"));
        let lease = Lease::new(LeaderLock::new(Timing::default(), false), Arc::default(), guard.clone());
        let server = Server { number: 7, role: Role::Primary, promoting: false, writes: true, quiet: false };
        let now = now(server);
        lease.with(|lock| lock.request_sent(&Request::from(ask::AcquireLeader), &now));
        let promise = locked(&lease.lock).promise();
        assert!(promise.0.is_some_and(|at| at > now.at) && promise.1 == Arm::Writes);
        assert_eq!(guard.told(), promise);
        assert!(!lease.may_restart_primary(false, false) && lease.until().is_none());
    }

    #[test]
    fn who_holds_the_lock_consents_to_no_other_primary() {
        let guard = Guard::new(std::path::Path::new("/nonexistent"));
        let lease = Lease::new(LeaderLock::new(Timing::default(), false), Arc::default(), guard);
        let server = Server { number: 7, role: Role::Replica, promoting: false, writes: false, quiet: false };
        assert!(!lease.refuses_failsafe(PgState::Running, Role::Replica));
        assert!(lease.refuses_failsafe(PgState::Running, Role::Primary));
        let won = (&Request::from(ask::AcquireLeader), &Answer::Dcs(Ok(true)));
        let now = now(server);
        lease.with(|lock| lock.answered(won, now.at, false, &now));
        assert!(lease.refuses_failsafe(PgState::Running, Role::Replica));
    }

    /// What a jump of the wall clock makes doubtful is the loop's business, and the guardian's, who would doubt it too.
    #[tokio::test]
    async fn a_jump_of_the_clock_is_told() {
        for held in [false, true] {
            let (guard, wake) = (Guard::new(std::path::Path::new("/nonexistent")), Arc::default());
            let mut heard = guard.pretend_child();
            let lease = Lease::new(LeaderLock::new(Timing::default(), false), Arc::clone(&wake), guard);
            let server =
                Server { number: 0, role: Role::Replica, promoting: false, writes: false, quiet: false };
            let won = (&Request::from(ask::AcquireLeader), &Answer::Dcs(Ok(held)));
            let now = now(server);
            lease.with(|lock| lock.answered(won, now.at, false, &now));
            heard.words();
            lease.clock_jumped(Duration::from_secs(60));
            assert!(locked(&lease.lock).is_in_doubt());
            assert!(heard.words() > 0, "the guardian is told");
            let woken = tokio::time::timeout(Duration::from_millis(50), wake.notified()).await;
            assert_eq!(woken.is_ok(), held);
        }
    }
}
