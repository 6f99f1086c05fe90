//! Carries out what a cycle asks for. No decisions here: a request becomes one
//! call, and its outcome an answer.
#![allow(clippy::unit_arg)] // Every question is answered alike, also one whose answer says nothing.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{
    ask, Answer, Ask, DcsRequest, Mono, NodeRequest, PeerRequest, Request, ServerRequest, StopMode, Stopping,
    View,
};
use patroni_core::model::{Cluster, Lsn, Status};
use patroni_core::node::{Cancel, Sent};
use patroni_postgres::process::stop::StopEvent;
use patroni_requests::carry_out;
use tokio::sync::mpsc;

use super::citus;
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

/// How long clients may stay connected in a stop, where `primary_stop_timeout` says nothing.
pub const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// For how long the lock is kept while the daemon ends and clients may still write.
pub fn stop_patience(config: &GlobalConfig) -> Duration {
    let seconds = u64::try_from(config.primary_stop_timeout()).unwrap_or(0);
    if seconds > 0 {
        Duration::from_secs(seconds)
    } else {
        STOP_PATIENCE
    }
}

impl Executor {
    /// For one cycle.
    pub fn new(shared: Arc<Shared>) -> Executor {
        let cluster = shared.cluster();
        Executor { shared, cluster, stopping: None }
    }

    /// Carries out one request. `view`: what the cycle decides on, once it has looked. A request without an arm does not
    /// compile, nor does an arm that answers with another type than was asked for.
    pub async fn perform(&mut self, sent: &Sent, view: Option<&View>) -> Answer {
        match sent.request() {
            Request::Dcs(request) => self.dcs(request, sent).await,
            Request::Peers(request) => self.peers(request).await,
            Request::Server(request) => self.server(request, view).await,
            // The promise alone is changed, by the driver.
            Request::Lock(request) => request.noted(),
            Request::Node(request) => self.node(request).await,
        }
    }

    async fn dcs(&mut self, request: &DcsRequest, sent: &Sent) -> Answer {
        let mut status = None;
        if let DcsRequest::UpdateLeader(ask::UpdateLeader { status: Some((lsn, slots)), .. }) = request {
            status = Some(self.status_of(*lsn, slots.clone()));
        }
        let dcs = self.shared.dcs.clone();
        let begun = Instant::now();
        let leader = self.cluster.leader.as_ref();
        let answer = carry_out(&*dcs, request, leader, status.as_ref(), sent.may_spare()).await;
        locked(&self.shared.measured).dcs_requests.observe(begun.elapsed());
        self.heard(request, &answer, sent.at());
        answer
    }

    /// What this node takes note of with an answer of the DCS.
    fn heard(&mut self, request: &DcsRequest, answer: &Answer, sent: Mono) {
        if let Answer::Cluster(Err(error)) | Answer::Dcs(Err(error)) = answer {
            tracing::debug!(target: "patroni.dcs", "{}", error.0);
        }
        if let Answer::Cluster(Ok(cluster)) = answer {
            self.cluster = cluster.clone();
            // What this cycle decides on is what PostgreSQL is asked and told by.
            let instance = &self.shared.instance;
            instance.set_dynamic(instance.dynamic().updated_from(cluster));
        }
        if let (DcsRequest::AcquireLeader(_), Answer::Dcs(Ok(true))) = (request, answer) {
            locked(&self.shared.retention).restart(&self.cluster.status.retain_slots, sent);
        }
        if let DcsRequest::TouchMember(asked) = request {
            if asked.heard(answer) == Some(&true) {
                citus::member_written(&self.shared, &asked.0);
            }
            self.shared.restart_published.send_replace(asked.0.get("scheduled_restart").is_some());
        }
    }

    async fn peers(&mut self, request: &PeerRequest) -> Answer {
        let client = self.shared.peers();
        match request {
            PeerRequest::Peers(asked) => {
                asked.reply(peers::statuses(&client, &asked.members, asked.decisive.as_ref()).await)
            }
            PeerRequest::PingFailsafe(asked) => {
                asked.reply(peers::failsafe(&client, &asked.data, &asked.members).await)
            }
            PeerRequest::ReleaseSync(asked) => asked.reply(self.shared.release_sync_standby().await),
        }
    }

    async fn server(&mut self, request: &ServerRequest, view: Option<&View>) -> Answer {
        let pg = self.shared.instance.clone();
        match request {
            ServerRequest::Probe(asked) => {
                let me = view.map_or_else(|| self.shared.me(), |view| view.me.clone());
                asked.reply(Box::new(pg.view(Some(&self.cluster), &me.tags).await))
            }
            ServerRequest::SetRole(asked) => asked.reply(pg.set_role(asked.0)),
            ServerRequest::SetState(asked) => asked.reply(pg.set_state(asked.0)),
            ServerRequest::Call(asked) => {
                pg.set_bootstrapping(false);
                pg.call(asked.0);
                asked.reply(())
            }
            ServerRequest::Stop(asked) => {
                self.shared.jobs.hold(&self.shared).await;
                asked.reply(self.stop(asked.mode, asked.timeout).await)
            }
            ServerRequest::StopToCheckpoint(asked) => {
                self.shared.jobs.hold(&self.shared).await;
                asked.reply(self.stop_to_checkpoint(asked.timeout).await)
            }
            ServerRequest::ProveGone(asked) => asked.reply(pg.is_proven_gone().await),
            ServerRequest::AwaitExit(asked) => asked.reply(self.await_exit(asked.0).await),
            ServerRequest::ReadControlData(asked) => asked.reply(pg.control_data().await),
            ServerRequest::CheckRecovery(asked) => asked.reply(pg.check_recovery(asked.0.clone()).await),
            ServerRequest::FollowReload(asked) => {
                let came_to = pg.follow(asked.source.clone(), asked.role, Apply::Reload).await;
                asked.reply(came_to == Started::Running)
            }
            ServerRequest::ResumeReplay(asked) => {
                pg.resume_replay().await;
                asked.reply(())
            }
            ServerRequest::SetSyncNames(asked) => asked.reply(pg.set_sync_names(&asked.0).await),
            ServerRequest::Walsenders(asked) => asked.reply(pg.walsenders().await),
            ServerRequest::CurrentSync(asked) => {
                asked.reply(pg.current_sync(&self.cluster, asked.wait).await.ok().map(Box::new))
            }
            ServerRequest::ReplicaTimeline(asked) => {
                asked.reply(pg.cached_replica_timeline(asked.leader).await)
            }
            ServerRequest::History(asked) => asked.reply(pg.history(asked.0).await),
            ServerRequest::CanRewind(asked) => asked.reply(pg.can_rewind().await),
            ServerRequest::CheckDiverged(asked) => asked.reply(pg.diverged(&asked.0).await),
            ServerRequest::EnsureCheckpoint(asked) => asked.reply(pg.ensure_checkpoint().await),
            ServerRequest::SyncSlots(asked) => match view {
                Some(view) => asked.reply(pg.sync_slots(view, &asked.cluster).await),
                // Nobody has looked at the server.
                None => Answer::PgDown,
            },
            ServerRequest::AfterPause(asked) => {
                pg.forget_sysid();
                pg.schedule_slots(true).await;
                if let Some(citus) = &self.shared.citus {
                    citus.forget();
                }
                asked.reply(())
            }
            ServerRequest::QuarantineDataDir(asked) => asked.reply(pg.quarantine_data_dir().await),
        }
    }

    async fn node(&mut self, request: &NodeRequest) -> Answer {
        match request {
            NodeRequest::StartJob(asked) => {
                asked.reply(self.shared.jobs.start(self.shared.clone(), asked.0.clone()).map(drop))
            }
            NodeRequest::CancelJob(asked) => asked.reply(self.cancel_job(asked.kill).await),
            NodeRequest::WatchdogActivate(asked) => {
                asked.reply(self.shared.with_watchdog(Watchdog::activate).await.unwrap_or(false))
            }
            NodeRequest::WatchdogDisable(asked) => {
                self.shared.disable_watchdog().await;
                asked.reply(!self.shared.watchdog_running())
            }
            NodeRequest::WatchdogKeepalive(asked) => {
                self.shared.feed_watchdog().await;
                asked.reply(())
            }
            NodeRequest::YieldRace(asked) => asked.reply(self.yield_race(asked.0).await),
            NodeRequest::DropScheduledRestart(asked) => {
                *locked(&self.shared.scheduled_restart) = None;
                asked.reply(())
            }
        }
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
    async fn yield_race(&self, limit: Duration) {
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

    async fn stop_to_checkpoint(&mut self, timeout: Option<Duration>) -> Stopping {
        let (events, mut reached) = mpsc::unbounded_channel();
        let shared = self.shared.clone();
        // Half of the time that the lock is kept for, whatever a coordinator that does not answer would take.
        let announce = Some(shared.me().timing.ttl.min(stop_patience(&shared.instance.dynamic()) / 2));
        let safe_point = shared.watchdog_running();
        let how = StopHow { early: true, safe_point, timeout, announce, ..StopHow::default() };
        let stopping = tokio::spawn(async move { shared.instance.stop(&how, &events).await });
        self.stopping = Some(stopping);
        while let Some(event) = reached.recv().await {
            match event {
                StopEvent::SafePoint => self.shared.disable_watchdog().await,
                StopEvent::Quiet => {}
                StopEvent::ShutDown(found) => {
                    let exited = self.shared.instance.postmaster().await.is_none();
                    return Stopping { checkpoint: Some(found), exited };
                }
            }
        }
        Stopping { checkpoint: self.shared.instance.shutdown_checkpoint().await, exited: true }
    }
}

#[cfg(test)]
mod tests;
