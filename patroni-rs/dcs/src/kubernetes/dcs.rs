//! What the HA loop asks of a store, over the objects.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patroni_core::model::{Cluster, FailoverOrder, Leader, Lsn, Status, SyncState};
use pyfmt::Value;
use tokio::sync::watch as channel;

use super::layout::{Layout, LOG};
use super::options::GROUP_LABEL;
use super::port::ObjectStore;
use super::view::{self, Names};
use super::wire::Object;
use super::{lock, write};
use crate::dcs::{round, Outcome};
use crate::kv::Effort;
use crate::lock::LockRenewer;
use crate::{Dcs, DcsError, Timing};

#[async_trait]
impl<O: ObjectStore> Dcs for Layout<O> {
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
        self.published.loaded(&cluster, self.objects.now() + self.timing().ttl);
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
            let holder = self.saw_leader_of(group, lock);
            (group, view::cluster(&names, &kinds, &pods, holder.as_deref()))
        });
        Ok(clusters.collect())
    }

    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        self.published.cluster(self.objects.now())
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

    async fn watch(&self, following: bool, timeout: Duration) -> bool {
        if self.cycle_over() {
            return true;
        }
        let timeout = round(following, timeout);
        let ends = self.lock_ends(following, timeout);
        let woken = tokio::time::timeout(ends.unwrap_or(timeout), self.wake.notified()).await.is_ok();
        if !woken && ends.is_some() {
            self.lock_has_ended();
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
            if let Some(status) = status.filter(|s| s.last_lsn.is_known()) {
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
        let released = self.try_release(leader, held, last_lsn.filter(|lsn| lsn.is_known())).await;
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
        let order = FailoverOrder {
            leader: failover.leader.as_deref(),
            candidate: failover.candidate.as_deref(),
            scheduled_at: scheduled_at.as_deref(),
        };
        self.manual_failover(order, version).await
    }

    async fn manual_failover(&self, order: FailoverOrder<'_>, version: Option<&str>) -> Outcome {
        let FailoverOrder { leader, candidate, scheduled_at } = order;
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
        let annotations = vec![("optime", Some(last_lsn.bytes().to_string()))];
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
        if self.objects.set_timing(timing).ttl != timing.ttl {
            self.at_once.store(true, Ordering::Relaxed);
        }
    }

    fn reload(&self, config: &Value) -> Result<(), DcsError> {
        if let Some(section) = config.get("kubernetes") {
            self.objects.reload(section);
        }
        Ok(())
    }

    /// What is written with each renewal; nothing shortens it.
    fn granted(&self) -> Duration {
        lock::whole(self.timing().ttl)
    }

    fn on_lock_gone(&self, tell: Box<dyn Fn() + Send + Sync>) {
        self.lock_gone.call(tell);
    }

    fn renewer(&self) -> Option<Box<dyn LockRenewer>> {
        self.objects.renewer(Arc::clone(&self.lock))
    }

    fn let_leader_run_out(&self) {
        self.lock.dropped();
    }

    fn setbacks(&self) -> u64 {
        self.seen().setbacks
    }
}
