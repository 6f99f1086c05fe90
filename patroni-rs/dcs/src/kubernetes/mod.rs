//! Kubernetes (surface-dcs 14): the cluster in annotations of Endpoints or ConfigMaps, the members in those of Pods.
//!
//! The lock is an annotation among others, and nothing ends it on the server: everybody judges by his own clock since he
//! saw its last change. So this implements the upper floor itself, docs/decisions/0012 and 0016.
//!
//! Differences from the reference: each view is read from the API server's quorum, not from a cache; the watch only
//! wakes; what is decided on a view is compared with that view's version; an answer that tells nothing of the lock (401,
//! 403, a refused address) is no loss of it.

mod access;
mod api;
mod lock;
mod member;
mod objects;
mod options;
mod servers;
mod subsets;
mod view;
mod watch;
mod wire;
mod write;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use patroni_core::model::{Cluster, Leader, Lsn, Status, SyncState};
use patroni_core::mutex::locked;
use pyfmt::Value;
use tokio::sync::{watch as channel, Notify};
use tokio::task::JoinHandle;

use self::access::Access;
use self::api::{Api, Failure, Shared};
use self::lock::{OurLock, Renewer};
use self::objects::{Objects, Scope};
use self::options::{Options, GROUP_LABEL};
use self::view::{Names, Observer, Record};
use self::wire::{Object, Subset};
use crate::dcs::{round, Outcome};
use crate::kv::Effort;
use crate::lock::LockRenewer;
use crate::published::Published;
use crate::wake::WakeRules;
use crate::watch::Sink;
use crate::{Dcs, DcsError, Settings, Timing};

/// Between attempts while we are not let in.
const DENIED_PAUSE: Duration = Duration::from_millis(500);

/// What the last reads and writes have shown, besides the cluster.
#[derive(Default)]
struct Seen {
    /// Who holds the lock, and since when.
    observer: Observer,
    /// The leader object.
    leader: Option<Object>,
    /// Our own Pod.
    pod: Option<Object>,
    /// The version of the newest list.
    newest: u128,
    /// How often that went back.
    setbacks: u64,
}

/// The store. Belongs to the tokio runtime it was made in.
pub struct Kubernetes {
    settings: Settings,
    objects: Arc<Objects>,
    lock: Arc<OurLock>,
    seen: Mutex<Seen>,
    published: Published,
    wake: Arc<Notify>,
    changes: channel::Sender<u64>,
    at_once: AtomicBool,
    /// The Service of the configuration's Endpoints may have to be made.
    service_due: AtomicBool,
    watchers: Vec<JoinHandle<()>>,
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.watchers.iter().for_each(JoinHandle::abort);
    }
}

impl Kubernetes {
    /// Makes a client, and, unless it is for patronictl, starts the watches. Asks nobody.
    ///
    /// # Errors
    /// The options make no client.
    pub fn start(settings: Settings, config: &Value, section: &Value) -> Result<Kubernetes, DcsError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let options = Options::from_section(&settings, config, section, &variable)?;
        let access = Access::find(&options, &variable)?;
        let shared = Arc::new(Shared::new(access, &options, settings.timing));
        let scope = Arc::new(Scope {
            names: Names::of(&settings.scope, settings.group(), options.use_endpoints),
            name: settings.name.clone(),
            options,
        });
        let objects = Arc::new(Objects::new(Api::new(shared)?, Arc::clone(&scope)));
        let (wake, changes) = (Arc::new(Notify::new()), channel::Sender::new(0));
        let mut watchers = Vec::new();
        if !settings.ctl {
            let sink = Sink::new(WakeRules::new(&settings.name), Arc::clone(&wake), changes.clone());
            watchers = watch::start(&objects, sink);
        }
        Ok(Kubernetes {
            lock: Arc::default(),
            seen: Mutex::default(),
            published: Published::default(),
            at_once: AtomicBool::new(false),
            service_due: AtomicBool::new(scope.options.use_endpoints && !settings.ctl),
            settings,
            objects,
            wake,
            changes,
            watchers,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        locked(&self.seen)
    }

    fn scope(&self) -> &Scope {
        self.objects.scope()
    }

    fn names(&self) -> &Names {
        &self.scope().names
    }

    fn shared(&self) -> &Arc<Shared> {
        self.objects.api().shared()
    }

    fn timing(&self) -> Timing {
        self.shared().timing()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timing().retry_timeout
    }

    /// For an operation that is repeated until `retry_timeout` is over.
    fn effort(&self) -> Effort {
        Effort::Until(self.deadline())
    }

    /// All objects and Pods of the cluster as they are now, with those of all groups.
    async fn load(&self) -> Result<(Vec<Object>, Vec<Object>), DcsError> {
        self.objects.api().refresh_servers().await;
        let before = self.seen().newest;
        let deadline = self.deadline();
        let (kinds, pods) = loop {
            let kinds = self.objects.list(self.scope().kind(), Effort::Until(deadline));
            let pods = self.objects.list("pods", Effort::Until(deadline));
            let left = || deadline.saturating_duration_since(Instant::now());
            match tokio::try_join!(kinds, pods) {
                Ok(lists) => break lists,
                // A right or a token that is being replaced: nobody gives up a lock for it. A person hears of it at once.
                Err(Failure::Denied(_)) if !self.settings.ctl && left() > 2 * DENIED_PAUSE => {
                    tokio::time::sleep(DENIED_PAUSE).await;
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
    fn own(&self, objects: Vec<Object>) -> Vec<Object> {
        let Some(group) = self.settings.group() else { return objects };
        objects.into_iter().filter(|object| object.label(GROUP_LABEL) == Some(group)).collect()
    }

    /// The leader object was there as that. Who holds the lock.
    fn saw_leader(&self, leader: Option<&Object>) -> Option<String> {
        let (now, ttl) = (Instant::now(), self.timing().ttl);
        if let Some(object) = leader {
            self.lock.seen(object);
        }
        let mut seen = self.seen();
        seen.observer.saw(&Record::of(leader), now);
        seen.leader = leader.cloned();
        seen.observer.holder(ttl, now).map(str::to_owned)
    }

    /// What has to be written to the leader's Endpoints so that clients find us.
    fn subsets(&self) -> Option<Vec<Subset>> {
        let seen = self.seen();
        subsets::of_leader(self.scope(), seen.leader.as_ref(), seen.pod.as_ref())
    }

    fn error(&self, text: &str) {
        tracing::error!(target: LOG, "{text}");
    }

    fn complain(&self, failure: &Failure) {
        match failure {
            // Somebody was first.
            Failure::Conflict => {}
            Failure::Denied(text) => self.error(&format!("Permission denied: {text}")),
            Failure::Unknown(text) => self.error(text),
            other => self.error(&format!("Unexpected error from Kubernetes API: {}", other.text())),
        }
    }

    /// The best-effort operations make no difference between the failures.
    fn best_effort<T>(&self, result: Result<T, Failure>) -> Outcome {
        Ok(result.map_err(|failure| self.complain(&failure)).is_ok())
    }

    /// The lock operations do: who is not let in has learnt nothing of the lock.
    fn lock_outcome(&self, result: Result<bool, Failure>) -> Outcome {
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

const LOG: &str = "patroni.dcs.kubernetes";

#[async_trait]
impl Dcs for Kubernetes {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        let (kinds, pods) = match self.load().await {
            Ok(loaded) => loaded,
            Err(error) => {
                self.published.forget_cluster();
                return Err(error);
            }
        };
        let (kinds, pods) = (self.own(kinds), self.own(pods));
        let holder = self.saw_leader(kinds.iter().find(|object| object.name() == self.names().leader));
        let setbacks = {
            let mut seen = self.seen();
            seen.pod = pods.iter().find(|pod| pod.name() == self.settings.name).cloned();
            seen.setbacks
        };
        let cluster = view::cluster(self.names(), &kinds, &pods, holder.as_deref());
        let cluster = Arc::new(Cluster { setbacks, ..cluster });
        self.published.loaded(&cluster, Instant::now() + self.timing().ttl);
        Ok(cluster)
    }

    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        let (kinds, pods) = self.load().await?;
        let mut groups: BTreeMap<i64, (Vec<Object>, Vec<Object>)> = BTreeMap::new();
        let group = |object: &Object| {
            let text = object.label(GROUP_LABEL)?;
            text.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == text)
        };
        for object in kinds {
            if let Some(group) = group(&object) {
                groups.entry(group).or_default().0.push(object);
            }
        }
        for pod in pods {
            if let Some(group) = group(&pod) {
                groups.entry(group).or_default().1.push(pod);
            }
        }
        let clusters = groups.into_iter().map(|(group, (kinds, pods))| {
            let names =
                Names::of(&self.settings.scope, Some(&group.to_string()), self.scope().options.use_endpoints);
            let lock = kinds.iter().find(|object| object.name() == names.leader);
            let holder = Record::of(lock).leader;
            (group, view::cluster(&names, &kinds, &pods, holder.as_deref()))
        });
        Ok(clusters.collect())
    }

    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        self.published.cluster(Instant::now())
    }

    fn last_seen(&self) -> u64 {
        self.published.last_seen()
    }

    fn failsafe(&self) -> Option<Value> {
        self.published.failsafe()
    }

    fn changes(&self) -> channel::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Nothing ends the lock on the server, so nobody is told: who follows wakes when it runs out by his clock.
    async fn watch(&self, following: bool, timeout: Duration) -> bool {
        if self.at_once.swap(false, Ordering::Relaxed) {
            return true;
        }
        let timeout = round(following, timeout);
        let left = self.seen().observer.wait(self.timing().ttl, Instant::now());
        let ends = left.filter(|left| following && *left < timeout);
        let woken = tokio::time::timeout(ends.unwrap_or(timeout), self.wake.notified()).await.is_ok();
        if !woken && ends.is_some() {
            self.seen().observer.told();
        }
        woken || ends.is_some()
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    async fn acquire_leader(&self, seen: Option<&Leader>) -> Outcome {
        let result = self.lock_outcome(self.try_acquire(seen).await);
        if result == Ok(false) {
            tracing::info!(target: LOG, "Could not take out TTL lock");
        }
        result
    }

    async fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        let renewed = self.lock_outcome(self.try_update(leader, status, failsafe).await)?;
        if renewed {
            if let Some(status) = status.filter(|s| s.last_lsn != 0) {
                self.published.status_written(status);
            }
            if let Some(failsafe) = failsafe {
                self.published.failsafe_written(failsafe);
            }
        }
        Ok(renewed)
    }

    async fn take_leader(&self) -> Outcome {
        let result = self.try_take().await;
        Ok(self.lock_outcome(result).unwrap_or_else(|error| {
            self.error(&error.to_string());
            false
        }))
    }

    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome {
        let held = self.lock.dropped();
        let Some(leader) = leader else { return Ok(false) };
        let released = self.try_release(leader, held, last_lsn.filter(|lsn| *lsn != 0)).await;
        self.published.forget_cluster();
        let released = released.unwrap_or_else(|failure| {
            self.complain(&failure);
            false
        });
        Ok(released)
    }

    async fn touch_member(&self, data: &Value) -> Outcome {
        let touched = self.try_touch(data).await;
        self.make_service().await;
        self.best_effort(touched)
    }

    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome {
        let text = pyfmt::json::dumps_compact(value);
        self.put_config(vec![("config", Some(text))], version).await
    }

    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome {
        let failover = patroni_core::model::Failover::from_node("", value);
        let scheduled_at = failover.scheduled_at.as_ref().map(|at| at.iso_text());
        let (leader, candidate) = (failover.leader.as_deref(), failover.candidate.as_deref());
        self.manual_failover(leader, candidate, scheduled_at.as_deref(), version).await
    }

    async fn manual_failover(
        &self,
        leader: Option<&str>,
        candidate: Option<&str>,
        scheduled_at: Option<&str>,
        version: Option<&str>,
    ) -> Outcome {
        let text = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        let annotations =
            vec![("leader", text(leader)), ("member", text(candidate)), ("scheduled_at", text(scheduled_at))];
        let name = &self.names().failover;
        let version = version.filter(|v| !v.is_empty());
        let written = self.write(name, annotations, version, Effort::Once).await;
        self.best_effort(written)
    }

    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        let state =
            SyncState::from_node(None, &patroni_core::model::sync_state_value(leader, standbys, quorum));
        let annotations = vec![
            ("leader", state.leader.clone()),
            ("quorum", Some(quorum.to_string())),
            ("sync_standby", state.sync_standby.clone()),
        ];
        match self.put_sync(annotations, version).await {
            Ok(version) => Ok(Some(SyncState { version: Some(version), ..state })),
            Err(failure) => {
                self.complain(&failure);
                Ok(None)
            }
        }
    }

    async fn delete_sync(&self, version: Option<&str>) -> Outcome {
        let nothing = vec![("leader", None), ("quorum", None), ("sync_standby", None)];
        let deleted = match version {
            Some(_) => self.put_sync(nothing, version).await.map(drop),
            None => self.clear(&self.names().sync, nothing).await,
        };
        self.best_effort(deleted)
    }

    async fn set_history(&self, value: &str) -> Outcome {
        self.put_config(vec![("history", Some(value.to_owned()))], None).await
    }

    async fn write_status(&self, last_lsn: Lsn) -> Outcome {
        let annotations = vec![("optime", Some(last_lsn.to_string()))];
        let written = self.write_beside_lock(annotations).await;
        self.best_effort(written)
    }

    async fn write_failsafe(&self, value: &Value) -> Outcome {
        let written = self.write_beside_lock(vec![("failsafe", write::failsafe_text(value))]).await;
        if written.is_ok() {
            self.published.failsafe_written(value);
        }
        self.best_effort(written)
    }

    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome {
        let won = self.try_initialize(create_new, sysid).await;
        Ok(won.unwrap_or_else(|failure| {
            self.complain(&failure);
            false
        }))
    }

    async fn cancel_initialization(&self) -> Outcome {
        let cleared = self.clear(&self.names().config, vec![("initialize", None)]).await;
        self.best_effort(cleared)
    }

    async fn delete_cluster(&self) -> Outcome {
        let deleted = self.objects.delete_all(self.settings.group(), self.effort()).await;
        self.best_effort(deleted)
    }

    fn set_timing(&self, timing: Timing) {
        if self.shared().set_timing(timing).ttl != timing.ttl {
            self.at_once.store(true, Ordering::Relaxed);
        }
    }

    /// Labels, names and servers stay: others would be another cluster.
    fn reload(&self, config: &Value) -> Result<(), DcsError> {
        if let Some(section) = config.get("kubernetes") {
            self.shared().set_retriable(options::retriable(section));
        }
        Ok(())
    }

    /// What is written with each renewal; nothing shortens it.
    fn granted(&self) -> Duration {
        lock::whole(self.timing().ttl)
    }

    fn renewer(&self) -> Option<Box<dyn LockRenewer>> {
        let (shared, scope) = (Arc::clone(self.shared()), Arc::clone(self.objects.scope()));
        Some(Box::new(Renewer::new(shared, scope, Arc::clone(&self.lock))))
    }

    fn let_leader_run_out(&self) {
        self.lock.dropped();
    }

    fn setbacks(&self) -> u64 {
        self.seen().setbacks
    }
}
