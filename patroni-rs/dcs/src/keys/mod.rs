//! The upper floor: the Patroni layout, written once over any [`KvStore`] (surface-dcs 2, 6).
//!
//! What is in which key, what is attached to the session, what is conditional and on what, which failure means what: here. How
//! a store says it: below.

mod known;
mod leader;
mod member;
mod values;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use patroni_core::model::{Cluster, Leader, Lsn, Nodes, Status, SyncState};
use patroni_core::mutex::locked;
use pyfmt::Value;
use tokio::sync::{watch, Notify};
use tokio::task::JoinHandle;

use crate::dcs::{round, Outcome};
use crate::kv::{Effort, Failure, Held, If, KvStore, Level, Put, Session};
use crate::lock::LockRenewer;
use crate::published::Published;
use crate::wake::WakeRules;
use crate::watch::{OnLockGone, Sink};
use crate::{Dcs, DcsError, Settings, Timing};
use known::{Known, Reading};

/// A lock operation that has less time than this left is not begun.
pub(crate) const LEAST_TIME: Duration = Duration::from_secs(1);

/// Pause between attempts to reach a store at the start, and to get the first session.
pub(crate) const START_PAUSE: Duration = Duration::from_secs(5);

/// The keys of a cluster in a store. Belongs to the tokio runtime it was made in.
pub struct Keys<S: KvStore> {
    settings: Settings,
    /// The store's section in the configuration.
    section: &'static str,
    store: Arc<S>,
    published: Published,
    wake: Arc<Notify>,
    changes: watch::Sender<u64>,
    lock_gone: Arc<OnLockGone>,
    /// The next wait ends at once.
    at_once: AtomicBool,
    /// What the store has granted last.
    granted: Mutex<Option<Duration>>,
    watcher: Option<JoinHandle<()>>,
    known: Known,
}

impl<S: KvStore> Drop for Keys<S> {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl<S: KvStore> Keys<S> {
    /// The keys in a store that is connected. Unless it is for patronictl, starts the watch and gets a session, for
    /// which it waits as long as it takes. `section` is the store's in the configuration.
    pub async fn over(settings: Settings, section: &'static str, store: S) -> Keys<S> {
        let mut keys = Keys::new(settings, section, store);
        if !keys.settings.ctl {
            let sink = keys.sink();
            keys.watcher = Some(tokio::spawn(Arc::clone(&keys.store).watch(keys.settings.prefix(), sink)));
            while let Err(failure) = keys.session(false, keys.effort()).await {
                let words = keys.store.words();
                keys.store.say(Level::Error, &format!("refresh_{}: {}", words.session, failure.text()));
                keys.store.say(Level::Info, &format!("waiting on {}", words.store.to_lowercase()));
                tokio::time::sleep(START_PAUSE).await;
            }
        }
        keys
    }

    /// The same without a watch and without a session, which needs no runtime: whoever makes it (the simulation) tells a
    /// [`Keys::sink`] what changes.
    pub fn new(settings: Settings, section: &'static str, store: S) -> Keys<S> {
        Keys {
            section,
            store: Arc::new(store),
            published: Published::default(),
            wake: Arc::new(Notify::new()),
            changes: watch::Sender::new(0),
            lock_gone: Arc::default(),
            at_once: AtomicBool::new(false),
            granted: Mutex::new(None),
            watcher: None,
            known: Known::default(),
            settings,
        }
    }

    /// For a watch, which tells it what it sees.
    pub fn sink(&self) -> Sink {
        let rules = WakeRules::new(&self.settings.name);
        let lock_gone = Arc::clone(&self.lock_gone);
        let sink = Sink::new(rules, Arc::clone(&self.wake), self.changes.clone(), lock_gone);
        self.known.watched_by(sink.is_open());
        sink
    }

    /// A cycle is over, and the loop is about to wait. True: it is not to.
    pub fn cycle_over(&self) -> bool {
        // The next round is to renew the session whatever has happened in this one.
        self.store.expect_refresh();
        self.at_once.swap(false, Ordering::Relaxed)
    }

    /// Has something woken the loop since it was asked last? [`Dcs::watch`] is the same with a wait.
    pub fn was_woken(&self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(self.wake.notified()).poll(&mut context).is_ready()
    }

    /// The store below.
    pub fn store(&self) -> &S {
        &self.store
    }

    fn key(&self, name: &str) -> String {
        self.settings.key(name)
    }

    /// For an operation that is repeated until `retry_timeout` is over.
    fn effort(&self) -> Effort {
        Effort::Until(self.store.now() + self.store.timing().retry_timeout)
    }

    /// What the cluster's state goes by, now.
    fn reading(&self) -> Reading {
        Reading {
            at: self.store.now(),
            changes: *self.changes.borrow(),
            setbacks: self.store.setbacks(),
            writes: self.known.written(),
        }
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, Failure> {
        let session = self.store.session(force, effort).await?;
        *locked(&self.granted) = Some(session.granted.ttl);
        Ok(session)
    }

    async fn nodes(&self, prefix: &str) -> Result<Nodes, DcsError> {
        self.store.list(prefix, self.effort()).await.map_err(|failure| {
            self.error(&format!("get_cluster: {}", failure.text()));
            DcsError::Unreachable(self.store.words().not_responding.into())
        })
    }

    /// What the leader key is attached to is not ours although the key says we are the leader.
    fn warn_of_foreign_owner(&self, nodes: &Nodes) {
        let Some(text) = self.store.words().foreign_owner.filter(|_| !self.settings.ctl) else { return };
        let own = self.store.session_id();
        if nodes.get("leader").is_some_and(|n| n.value == self.settings.name && n.session != own) {
            self.store.say(Level::Warning, text);
        }
    }

    fn error(&self, text: &str) {
        self.store.say(Level::Error, text);
    }

    /// The best-effort operations make no difference between the failures.
    fn best_effort(&self, result: Result<bool, Failure>) -> Outcome {
        Ok(result.unwrap_or_else(|failure| {
            self.error(failure.text());
            false
        }))
    }

    /// The lock operations do: no answer is an error, an answer is a refusal. Who is not let in for want of
    /// authentication or rights has learnt nothing of the lock.
    fn lock_outcome(&self, result: Result<bool, Failure>) -> Outcome {
        match result {
            Err(Failure::Unknown(text)) => Err(DcsError::Unreachable(text)),
            Err(Failure::Denied(text)) => {
                self.error(&text);
                Err(DcsError::Unreachable(text))
            }
            other => self.best_effort(other),
        }
    }
}

/// The keys of each Citus group, by the number that their directory is called.
fn groups_of(nodes: Nodes) -> BTreeMap<i64, Nodes> {
    let mut groups: BTreeMap<i64, Nodes> = BTreeMap::new();
    for (path, node) in nodes {
        let Some((directory, rest)) = path.split_once('/') else { continue };
        let group = directory.parse::<i64>().ok().filter(|n| *n >= 0 && n.to_string() == directory);
        if let Some(group) = group {
            groups.entry(group).or_default().insert(rest.to_owned(), node);
        }
    }
    groups
}

#[async_trait]
impl<S: KvStore> Dcs for Keys<S> {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        let reading = self.reading();
        match self.nodes(&self.settings.prefix()).await {
            Ok(nodes) => {
                self.warn_of_foreign_owner(&nodes);
                let setbacks = self.store.setbacks();
                let cluster = Arc::new(Cluster { setbacks, ..Cluster::from_nodes(&nodes) });
                self.published.loaded(&cluster, self.store.now() + self.store.timing().ttl);
                self.known.read(&cluster, reading);
                Ok(cluster)
            }
            Err(error) => {
                self.known.forget();
                self.published.forget_cluster();
                Err(error)
            }
        }
    }

    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        let nodes = self.nodes(&format!("{}/", self.settings.root_path)).await?;
        Ok(groups_of(nodes).iter().map(|(group, nodes)| (*group, Cluster::from_nodes(nodes))).collect())
    }

    fn unchanged_cluster(&self) -> Option<Arc<Cluster>> {
        if !self.store.tells_all() || self.settings.ctl {
            return None;
        }
        let timing = self.store.timing();
        let stands = |age| timing.still_stands(age);
        self.known.unchanged(self.reading(), stands)
    }

    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        self.published.cluster(self.store.now())
    }

    fn last_seen(&self) -> u64 {
        self.published.last_seen()
    }

    fn failsafe(&self) -> Option<Value> {
        self.published.failsafe()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn watch(&self, following: bool, timeout: Duration) -> bool {
        if self.cycle_over() {
            return true;
        }
        let timeout = round(following, timeout);
        tokio::time::timeout(timeout, self.wake.notified()).await.is_ok()
    }

    fn wake(&self) {
        self.wake.notify_one();
    }

    async fn acquire_leader(&self, _: Option<&Leader>) -> Outcome {
        let result = self.lock_outcome(self.try_acquire().await);
        if result == Ok(false) {
            self.store.say(Level::Info, "Could not take out TTL lock");
        }
        result
    }

    async fn update_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        let renewed = self.lock_outcome(self.try_update(leader).await)?;
        if renewed {
            self.publish(status, failsafe).await;
        }
        Ok(renewed)
    }

    async fn keep_leader(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Outcome {
        if !self.is_attached(leader) {
            return self.update_leader(leader, status, failsafe).await;
        }
        self.publish(status, failsafe).await;
        Ok(true)
    }

    fn lock_session(&self) -> Option<String> {
        self.store.lock_session()
    }

    async fn end_session(&self, session: &str) -> Outcome {
        self.lock_outcome(self.store.end_session(session, self.effort()).await)
    }

    async fn take_leader(&self) -> Outcome {
        self.best_effort(self.try_take().await)
    }

    async fn delete_leader(&self, leader: Option<&Leader>, last_lsn: Option<Lsn>) -> Outcome {
        if let Some(last_lsn) = last_lsn.filter(|lsn| lsn.is_known()) {
            self.publish_status(&self.published.status_at(last_lsn)).await;
        }
        let Some(leader) = leader else { return Ok(false) };
        let outcome = self.best_effort(self.try_release(leader).await);
        self.known.forget();
        self.published.forget_cluster();
        outcome
    }

    async fn touch_member(&self, data: &Value) -> Outcome {
        self.best_effort(self.try_touch(data).await)
    }

    async fn set_config(&self, value: &Value, version: Option<&str>) -> Outcome {
        let text = pyfmt::json::dumps_compact(value);
        self.best_effort(self.put_version("config", &text, version).await)
    }

    async fn set_failover(&self, value: &str, version: Option<&str>) -> Outcome {
        self.best_effort(self.put_version("failover", value, version).await)
    }

    async fn write_sync(
        &self,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        let text = patroni_core::model::sync_state_value(leader, standbys, quorum);
        match self.put_sync(&text, version).await {
            Ok(version) => Ok(version.map(|version| SyncState::from_node(Some(&version), &text))),
            Err(failure) => {
                self.error(failure.text());
                Ok(None)
            }
        }
    }

    async fn delete_sync(&self, version: Option<&str>) -> Outcome {
        let condition = version.map_or(If::Always, If::Version);
        let _writes = self.known.writes();
        let cleared = self.store.clear(&self.key("sync"), condition, self.effort()).await;
        self.best_effort(cleared.map(|written| written.is_done()))
    }

    async fn set_history(&self, value: &str) -> Outcome {
        self.best_effort(self.put("history", value, Effort::Once).await)
    }

    async fn write_status(&self, last_lsn: Lsn) -> Outcome {
        Ok(self.publish_status(&self.published.status_at(last_lsn)).await)
    }

    async fn write_failsafe(&self, value: &Value) -> Outcome {
        Ok(self.publish_failsafe(value).await)
    }

    async fn initialize(&self, create_new: bool, sysid: &str) -> Outcome {
        self.best_effort(self.try_initialize(create_new, sysid).await)
    }

    async fn cancel_initialization(&self) -> Outcome {
        let _writes = self.known.writes();
        let deleted = self.store.delete(&self.key("initialize"), If::Always, self.effort()).await;
        self.best_effort(deleted.map(|written| written.is_done()))
    }

    async fn delete_cluster(&self) -> Outcome {
        let _writes = self.known.writes();
        let deleted = self.store.delete_all(&self.settings.prefix(), self.effort()).await;
        self.best_effort(deleted.map(|written| written.is_done()))
    }

    fn set_timing(&self, timing: Timing) {
        if self.store.set_timing(timing) {
            self.at_once.store(true, Ordering::Relaxed);
        }
    }

    fn reload(&self, config: &Value) -> Result<(), DcsError> {
        // It may be another store.
        self.known.forget();
        config.get(self.section).map_or(Ok(()), |section| self.store.reload(section))
    }

    fn granted(&self) -> Duration {
        let ttl = self.store.timing().ttl;
        let granted = self.store.grants().or(*locked(&self.granted));
        granted.map_or(ttl, |granted| granted.min(ttl))
    }

    fn renewer(&self) -> Option<Box<dyn LockRenewer>> {
        Some(self.store.renewer())
    }

    fn on_lock_gone(&self, tell: Box<dyn Fn() + Send + Sync>) {
        self.lock_gone.call(tell);
    }

    fn let_leader_run_out(&self) {
        self.store.let_leader_run_out();
    }

    fn setbacks(&self) -> u64 {
        self.store.setbacks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patroni_core::model::Node;

    #[test]
    fn groups_by_their_directories() {
        let node = || Node { value: "x".into(), ..Node::default() };
        let paths = ["0/leader", "12/members/a", "01/leader", "-1/leader", "leader", "x/leader"];
        let nodes: Nodes = paths.iter().map(|path| ((*path).to_owned(), node())).collect();
        let groups = groups_of(nodes);
        let found: Vec<(i64, Vec<&str>)> =
            groups.iter().map(|(group, keys)| (*group, keys.keys().map(String::as_str).collect())).collect();
        assert_eq!(found, [(0, vec!["leader"]), (12, vec!["members/a"])]);
    }
}
