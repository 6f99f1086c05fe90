//! Carries out what a cycle asks for. No decisions here: a request becomes one
//! call, and its outcome an answer.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::{Answer, DcsDown, Mono, Request, StopMode, View};
use patroni_core::model::{failover_value, Cluster, Lsn, Status};
use patroni_core::node::{Cancel, Sent};
use patroni_dcs::DcsError;
use patroni_postgres::process::stop::StopEvent;
use tokio::sync::mpsc;

use super::peers;
use super::shared::Shared;
use crate::instance::{locked, mono_now, Apply, Started, StopHow};
use crate::watchdog::Watchdog;

/// What one cycle has read and written so far.
pub struct Executor {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    /// A stop that goes on after its shutdown checkpoint was reported.
    stopping: Option<tokio::task::JoinHandle<bool>>,
}

fn down(error: DcsError) -> DcsDown {
    tracing::debug!(target: "patroni.dcs", "{error}");
    DcsDown(error.to_string())
}

fn best_effort(outcome: Result<bool, DcsError>) -> Answer {
    Answer::Bool(outcome.unwrap_or(false))
}

impl Executor {
    /// For one cycle.
    pub fn new(shared: Arc<Shared>) -> Executor {
        let cluster = shared.cluster();
        Executor { shared, cluster, stopping: None }
    }

    /// Carries out one request. `view`: what the cycle decides on, once it has looked. A request without an arm does not
    /// compile.
    pub async fn perform(&mut self, sent: &Sent, view: Option<&View>) -> Answer {
        let pg = self.shared.instance.clone();
        match sent.request() {
            Request::LoadCluster => self.load_cluster().await,
            Request::AcquireLeader => self.acquire_leader(sent.at()).await,
            Request::UpdateLeader { status, failsafe } => {
                let status = status.as_ref().map(|(lsn, slots)| self.status_of(*lsn, slots.clone()));
                let Some(leader) = self.cluster.leader.clone() else { return Answer::Dcs(Ok(false)) };
                let outcome =
                    self.shared.dcs.update_leader(&leader, status.as_ref(), failsafe.as_ref()).await;
                Answer::Dcs(outcome.map_err(down))
            }
            Request::TakeLeader => best_effort(self.shared.dcs.take_leader().await),
            Request::DeleteLeader { last_lsn } => {
                best_effort(self.shared.dcs.delete_leader(self.cluster.leader.as_ref(), *last_lsn).await)
            }
            // The promise alone is changed, by the driver.
            Request::DropLease | Request::ExtendLease { .. } => Answer::Done,
            Request::WriteStatus(lsn) => {
                let _ = self.shared.dcs.write_status(*lsn).await;
                Answer::Done
            }
            Request::TouchMember(data) => {
                *locked(&self.shared.last_lsn) =
                    data.get("xlog_location").and_then(|v| v.as_i64()).map(|l| l as u64);
                let told = best_effort(self.shared.dcs.touch_member(data).await);
                self.shared.restart_published.send_replace(data.get("scheduled_restart").is_some());
                told
            }
            Request::Initialize { create_new, sysid } => {
                best_effort(self.shared.dcs.initialize(*create_new, sysid).await)
            }
            Request::CancelInitialization => best_effort(self.shared.dcs.cancel_initialization().await),
            Request::SetConfig(config) => best_effort(self.shared.dcs.set_config(config, None).await),
            Request::WriteFailover { candidate, scheduled_at, version } => {
                let text = failover_value(None, candidate.as_deref(), scheduled_at.as_deref());
                best_effort(self.shared.dcs.set_failover(&text, version.as_deref()).await)
            }
            Request::WriteSync { leader, standbys, quorum, version } => {
                let written = self.shared.dcs.write_sync(leader, standbys, *quorum, version.as_deref()).await;
                Answer::Version(written.ok().flatten().and_then(|s| s.version))
            }
            Request::DeleteSync { version } => {
                best_effort(self.shared.dcs.delete_sync(version.as_deref()).await)
            }
            Request::WriteHistory(text) => best_effort(self.shared.dcs.set_history(text).await),
            Request::Peers { members, decisive } => {
                Answer::Peers(peers::statuses(&self.shared.peers(), members, decisive.as_ref()).await)
            }
            Request::FailsafePing { data, members } => {
                Answer::Failsafe(peers::failsafe(&self.shared.peers(), data, members).await)
            }
            Request::WatchdogActivate => {
                Answer::Bool(self.shared.with_watchdog(Watchdog::activate).await.unwrap_or(false))
            }
            Request::WatchdogDisable => {
                self.shared.disable_watchdog().await;
                Answer::Bool(!self.shared.watchdog_running())
            }
            Request::WatchdogKeepalive => {
                self.shared.with_watchdog(Watchdog::keepalive).await;
                Answer::Done
            }
            Request::Courtesy(limit) => {
                self.courtesy(*limit).await;
                Answer::Done
            }
            Request::DropScheduledRestart => {
                *locked(&self.shared.scheduled_restart) = None;
                Answer::Done
            }
            Request::ReleaseSync => {
                self.shared.release_sync_standby().await;
                Answer::Done
            }
            Request::StartJob(job) => {
                Answer::Started(self.shared.jobs.start(self.shared.clone(), job.clone()).map(drop))
            }
            Request::CancelJob { kill } => Answer::Bool(self.cancel_job(*kill).await),
            Request::Probe => {
                let me = view.map_or_else(|| self.shared.me(), |view| view.me.clone());
                Answer::Pg(Box::new(pg.view(Some(&self.cluster), &me.tags).await))
            }
            Request::SetRole(role) => {
                pg.set_role(*role);
                Answer::Done
            }
            Request::SetState(state) => {
                pg.set_state(*state);
                Answer::Done
            }
            Request::Call(callback) => {
                pg.set_bootstrapping(false);
                pg.call(*callback);
                Answer::Done
            }
            Request::Stop { mode, timeout } => {
                self.shared.jobs.hold(&self.shared).await;
                Answer::Bool(self.stop(*mode, *timeout).await)
            }
            Request::StopToCheckpoint { timeout } => {
                self.shared.jobs.hold(&self.shared).await;
                self.stop_to_checkpoint(*timeout).await
            }
            Request::ProveGone => Answer::Bool(pg.is_proven_gone().await),
            Request::AwaitExit(limit) => Answer::Bool(self.await_exit(*limit).await),
            Request::ControlData => Answer::Control(pg.control_data().await),
            Request::CheckRecovery(source) => Answer::Recovery(pg.check_recovery(source.clone()).await),
            Request::FollowReload { source, role } => {
                Answer::Bool(pg.follow(source.clone(), *role, Apply::Reload).await == Started::Running)
            }
            Request::ResumeReplay => {
                pg.resume_replay().await;
                Answer::Done
            }
            Request::SetSyncNames(names) => Answer::SyncNames(pg.set_sync_names(names).await),
            Request::Walsenders => Answer::Walsenders(pg.walsenders().await),
            Request::CurrentSync { wait } => {
                Answer::Sync(pg.current_sync(&self.cluster, *wait).await.ok().map(Box::new))
            }
            Request::ReplicaTimeline { leader } => {
                Answer::Timeline(pg.cached_replica_timeline(*leader).await)
            }
            Request::History(timeline) => Answer::History(pg.history(*timeline).await),
            Request::CanRewind => Answer::Bool(pg.can_rewind().await),
            Request::CheckDiverged(source) => Answer::Diverged(pg.diverged(source).await),
            Request::EnsureCheckpoint => Answer::Bool(pg.ensure_checkpoint().await),
            Request::SyncSlots { cluster, .. } => match view {
                Some(view) => Answer::Names(pg.sync_slots(view, cluster).await),
                // Nobody has looked at the server.
                None => Answer::PgDown,
            },
            Request::AfterPause => {
                pg.forget_sysid();
                pg.schedule_slots(true).await;
                Answer::Done
            }
            Request::MoveDataDirectory => Answer::Bool(pg.set_data_directory_aside().await),
        }
    }

    async fn load_cluster(&mut self) -> Answer {
        match self.shared.dcs.get_cluster().await {
            Ok(cluster) => {
                self.cluster = cluster.clone();
                // What this cycle decides on is what PostgreSQL is asked and told by.
                let instance = &self.shared.instance;
                instance.set_dynamic(instance.dynamic().updated_from(&cluster));
                Answer::Cluster(Ok(cluster))
            }
            Err(e) => Answer::Cluster(Err(down(e))),
        }
    }

    async fn acquire_leader(&self, sent: Mono) -> Answer {
        let outcome = self.shared.dcs.acquire_leader().await;
        if let Ok(true) = outcome {
            locked(&self.shared.retention).restart(&self.cluster.status.retain_slots, sent);
        }
        Answer::Dcs(outcome.map_err(down))
    }

    fn status_of(&self, last_lsn: Lsn, slots: Option<indexmap::IndexMap<String, Lsn>>) -> Status {
        let config = self.shared.instance.dynamic();
        let slots = slots.filter(|s| !s.is_empty());
        let (retain, log) = locked(&self.shared.retention).build(
            &self.cluster,
            &config,
            &self.shared.instance.name,
            &slots.clone().unwrap_or_default(),
            mono_now(),
        );
        for line in log {
            tracing::info!(target: "patroni.dcs", "{}", line.text);
        }
        Status { last_lsn, slots, retain_slots: retain.unwrap_or_default() }
    }

    /// Somebody else may take the lock; over as soon as there is a leader.
    async fn courtesy(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return;
            }
            match self.shared.dcs.get_cluster().await {
                Ok(cluster) if !cluster.is_unlocked() => return,
                Ok(_) => {}
                Err(_) => return,
            }
            self.shared.dcs.watch(false, left.min(Duration::from_millis(200))).await;
        }
    }

    async fn cancel_job(&self, kill: bool) -> bool {
        let instance = &self.shared.instance;
        match self.shared.jobs.cancel(kill, instance.committed.load(Ordering::SeqCst)) {
            Cancel::No => false,
            Cancel::Tell => {
                instance.cancel.cancel();
                // Unless the order went out at the same moment.
                !instance.committed.load(Ordering::SeqCst)
            }
            Cancel::End => {
                self.shared.jobs.cancel_and_wait(&self.shared, Duration::from_secs(1)).await;
                true
            }
        }
    }

    async fn stop(&mut self, mode: StopMode, timeout: Option<Duration>) -> bool {
        if let Some(stopping) = self.stopping.take() {
            return stopping.await.unwrap_or(false);
        }
        let how = StopHow {
            immediate: mode == StopMode::Immediate,
            safe_point: self.shared.watchdog_running(),
            timeout,
            ..StopHow::default()
        };
        let (events, _) = mpsc::unbounded_channel();
        let stopped = self.shared.instance.stop(&how, &events).await;
        if stopped {
            self.shared.disable_watchdog().await;
        }
        stopped
    }

    /// Has the stop that goes on ended? It stays to be taken up by [`Executor::stop`].
    async fn await_exit(&mut self, limit: Duration) -> bool {
        let Some(stopping) = &self.stopping else { return true };
        let deadline = tokio::time::Instant::now() + limit;
        while !stopping.is_finished() {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    async fn stop_to_checkpoint(&mut self, timeout: Option<Duration>) -> Answer {
        let (events, mut reached) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        let how =
            StopHow { early: true, safe_point: shared.watchdog_running(), timeout, ..StopHow::default() };
        let stopping = tokio::spawn(async move { shared.instance.stop(&how, &events).await });
        self.stopping = Some(stopping);
        while let Some(event) = reached.recv().await {
            match event {
                StopEvent::SafePoint => self.shared.disable_watchdog().await,
                StopEvent::Quiet => {}
                StopEvent::ShutDown(found) => {
                    let exited = self.shared.instance.postmaster().await.is_none();
                    return Answer::Stopping { locations: Some((found.checkpoint, found.last)), exited };
                }
            }
        }
        let locations = self.shared.instance.shutdown_checkpoint().await;
        Answer::Stopping { locations, exited: true }
    }
}
