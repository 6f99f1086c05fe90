//! The Patroni layout in objects with annotations: what a node has seen, and what it makes of answers. Over an API server
//! it is [`Kubernetes`](super::Kubernetes); the simulation runs it over objects of its own.

use std::collections::BTreeMap;
use std::future::Future as _;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use tokio::sync::{watch as channel, Notify};
use tokio::task::JoinHandle;

use super::lock::OurLock;
use super::options::GROUP_LABEL;
use super::port::{Failure, ObjectStore, Scope, Which};
use super::subsets;
use super::view::{Names, Observer, Record};
use super::wire::{Object, Subset};
use crate::dcs::Outcome;
use crate::kv::Effort;
use crate::published::Published;
use crate::wake::WakeRules;
use crate::watch::{OnLockGone, Sink};
use crate::{DcsError, Settings, Timing};

pub(super) const LOG: &str = "patroni.dcs.kubernetes";

/// Between attempts while we are not let in.
pub(super) const DENIED_PAUSE: Duration = Duration::from_millis(500);

/// What the last reads and writes have shown, besides the cluster.
#[derive(Default)]
pub(super) struct Seen {
    /// Who holds the lock, and since when.
    pub(super) observer: Observer,
    /// The same of each Citus group's.
    pub(super) groups: BTreeMap<i64, Observer>,
    /// The leader object.
    pub(super) leader: Option<Object>,
    /// Our own Pod.
    pub(super) pod: Option<Object>,
    /// The version of the newest list.
    pub(super) newest: u128,
    /// How often that went back.
    pub(super) setbacks: u64,
}

/// A cluster in annotations of objects. Belongs to the tokio runtime it was made in, if it has watches.
pub struct Layout<O: ObjectStore> {
    pub(super) settings: Settings,
    scope: Arc<Scope>,
    pub(super) objects: Arc<O>,
    pub(super) lock: Arc<OurLock>,
    seen: Mutex<Seen>,
    pub(super) published: Published,
    pub(super) wake: Arc<Notify>,
    pub(super) changes: channel::Sender<u64>,
    pub(super) lock_gone: Arc<OnLockGone>,
    pub(super) at_once: AtomicBool,
    /// The Service of the configuration's Endpoints may have to be made.
    pub(super) service_due: AtomicBool,
    pub(super) watchers: Vec<JoinHandle<()>>,
}

impl<O: ObjectStore> Drop for Layout<O> {
    fn drop(&mut self) {
        self.watchers.iter().for_each(JoinHandle::abort);
    }
}

impl<O: ObjectStore> Layout<O> {
    /// Over these objects, without watches: whoever makes it tells a [`Layout::sink`] what changes.
    pub fn new(settings: Settings, scope: Arc<Scope>, objects: Arc<O>) -> Layout<O> {
        Layout {
            service_due: AtomicBool::new(scope.options.use_endpoints && !settings.ctl),
            lock: Arc::default(),
            seen: Mutex::default(),
            published: Published::default(),
            wake: Arc::new(Notify::new()),
            changes: channel::Sender::new(0),
            lock_gone: Arc::default(),
            at_once: AtomicBool::new(false),
            watchers: Vec::new(),
            settings,
            scope,
            objects,
        }
    }

    /// For a watch, which tells it what it sees.
    pub fn sink(&self) -> Sink {
        let (rules, lock_gone) = (WakeRules::new(&self.settings.name), Arc::clone(&self.lock_gone));
        Sink::new(rules, Arc::clone(&self.wake), self.changes.clone(), lock_gone)
    }

    /// A cycle is over, and the loop is about to wait. True: it is not to.
    pub fn cycle_over(&self) -> bool {
        self.at_once.swap(false, Ordering::Relaxed)
    }

    /// Has something woken the loop since it was asked last? [`Dcs::watch`](crate::Dcs::watch) is the same with a wait.
    pub fn was_woken(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(self.wake.notified()).poll(&mut context).is_ready()
    }

    /// Nothing ends the lock on the server, so nobody is told: who follows wakes when it runs out by his clock. How long
    /// that is, if it is less than `timeout`.
    pub fn lock_ends(&self, following: bool, timeout: Duration) -> Option<Duration> {
        let left = self.seen().observer.wait(self.timing().ttl, self.objects.now());
        left.filter(|left| following && *left < timeout)
    }

    /// He has waited for it.
    pub fn lock_has_ended(&self) {
        self.seen().observer.told();
    }

    /// The objects below.
    pub fn objects(&self) -> &O {
        &self.objects
    }

    /// The lock as it is held here.
    pub fn our_lock(&self) -> &Arc<OurLock> {
        &self.lock
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    pub(super) fn names(&self) -> &Names {
        &self.scope().names
    }

    pub(super) fn timing(&self) -> Timing {
        self.objects.timing()
    }

    pub(super) fn deadline(&self) -> Instant {
        self.objects.now() + self.timing().retry_timeout
    }

    /// For an operation that is repeated until `retry_timeout` is over.
    pub(super) fn effort(&self) -> Effort {
        Effort::Until(self.deadline())
    }

    /// All objects and Pods of the cluster as they are now, with those of all groups.
    pub(super) async fn load(&self) -> Result<(Vec<Object>, Vec<Object>), DcsError> {
        self.objects.prepare().await;
        let before = self.seen().newest;
        let deadline = self.deadline();
        let (kinds, pods) = loop {
            let kinds = self.objects.list(Which::State, Effort::Until(deadline));
            let pods = self.objects.list(Which::Pods, Effort::Until(deadline));
            let left = || deadline.saturating_duration_since(self.objects.now());
            match tokio::try_join!(kinds, pods) {
                Ok(lists) => break lists,
                // A right or a token that is being replaced: nobody gives up a lock for it. A person hears of it at once.
                Err(Failure::Denied(_)) if !self.settings.ctl && left() > 2 * DENIED_PAUSE => {
                    self.objects.pause(DENIED_PAUSE).await;
                }
                Err(failure) => {
                    self.error(&format!("get_cluster: {}", failure.text()));
                    let text = "Kubernetes API is not responding properly";
                    return Err(DcsError::Unreachable(text.into()));
                }
            }
        };
        self.note_version(&kinds.metadata.resource_version, before);
        Ok((kinds.items.unwrap_or_default(), pods.items.unwrap_or_default()))
    }

    /// The versions of lists from the quorum rise; one that was asked for after a later one had been seen, and is
    /// earlier, is of another past.
    fn note_version(&self, version: &str, before: u128) {
        let Ok(version) = version.parse::<u128>() else { return };
        let mut seen = self.seen();
        if version >= before {
            seen.newest = seen.newest.max(version);
            return;
        }
        tracing::error!(
            target: LOG,
            "The Kubernetes API has gone back from version {before} to {version}: its etcd was restored from a backup. \
             What was written to it since then is lost."
        );
        seen.newest = version;
        seen.setbacks += 1;
        // What it was at there is no such version any more.
        self.lock.dropped();
    }

    /// Of our own group, where there is one.
    pub(super) fn own(&self, objects: Vec<Object>) -> Vec<Object> {
        let Some(group) = self.settings.group() else { return objects };
        objects.into_iter().filter(|object| object.label(GROUP_LABEL) == Some(group)).collect()
    }

    /// The leader object was there as that. Who holds the lock.
    pub(super) fn saw_leader(&self, leader: Option<&Object>) -> Option<String> {
        let (now, ttl) = (self.objects.now(), self.timing().ttl);
        if let Some(object) = leader {
            self.lock.seen(object);
        }
        let mut seen = self.seen();
        seen.leader = leader.cloned();
        seen.observer.holder_of(&Record::of(leader), ttl, now)
    }

    /// The leader object of a Citus group was there as that. Who holds its lock: like our own it ends by our clock, or a
    /// leader that is dead would be one forever. Who looks for the first time believes it for a ttl.
    pub(super) fn saw_leader_of(&self, group: i64, leader: Option<&Object>) -> Option<String> {
        let (now, ttl) = (self.objects.now(), self.timing().ttl);
        self.seen().groups.entry(group).or_default().holder_of(&Record::of(leader), ttl, now)
    }

    /// What has to be written to the leader's Endpoints so that clients find us.
    pub(super) fn subsets(&self) -> Option<Vec<Subset>> {
        let seen = self.seen();
        subsets::of_leader(self.scope(), seen.leader.as_ref(), seen.pod.as_ref())
    }

    pub(super) fn error(&self, text: &str) {
        tracing::error!(target: LOG, "{text}");
    }

    pub(super) fn complain(&self, failure: &Failure) {
        match failure {
            // Somebody was first.
            Failure::Conflict => {}
            Failure::Denied(text) => self.error(&format!("Permission denied: {text}")),
            Failure::Unknown(text) => self.error(text),
            other => self.error(&format!("Unexpected error from Kubernetes API: {}", other.text())),
        }
    }

    /// The best-effort operations make no difference between the failures.
    pub(super) fn best_effort<T>(&self, result: Result<T, Failure>) -> Outcome {
        Ok(result.map_err(|failure| self.complain(&failure)).is_ok())
    }

    /// The lock operations do: who is not let in has learnt nothing of the lock.
    pub(super) fn lock_outcome(&self, result: Result<bool, Failure>) -> Outcome {
        match result {
            Ok(outcome) => Ok(outcome),
            Err(Failure::Unknown(text)) => Err(DcsError::Unreachable(text)),
            Err(failure @ Failure::Denied(_)) => {
                self.complain(&failure);
                Err(DcsError::Unreachable(failure.text()))
            }
            Err(failure) => {
                self.complain(&failure);
                Ok(false)
            }
        }
    }
}
