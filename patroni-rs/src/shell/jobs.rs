//! Long work beside the cycles, one job at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::ha::{DemoteMode, Job, JobResult, JobView, Role, Source};
use patroni_core::model::Lsn;
use patroni_postgres::process::replica::Created;
use patroni_postgres::process::stop::StopEvent;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::shared::Shared;
use crate::instance::{mono_now, Apply, Started, StopHow};

/// How long the end of a cancelled restart is waited for.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);
/// The least time between two tries of a job that fails.
const FAILURE_TAKES: Duration = Duration::from_secs(1);

/// The job that runs, and those that have ended since the last cycle.
#[derive(Default)]
pub struct Jobs {
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    running: Option<JobView>,
    handle: Option<JoinHandle<()>>,
    finished: Vec<(Job, JobResult)>,
    /// What the engine does with PostgreSQL, step by step, whether a job runs or not.
    held: Option<String>,
}

impl Jobs {
    /// The job that runs.
    pub fn view(&self) -> Option<JobView> {
        crate::instance::locked(&self.slot).running.clone()
    }

    /// Takes the results of jobs that have ended.
    pub fn take_finished(&self) -> Vec<(Job, JobResult)> {
        std::mem::take(&mut crate::instance::locked(&self.slot).finished)
    }

    /// PostgreSQL is being stopped by the engine. Until it has decided what follows, an operator's
    /// restart would start the server as the primary that it was, without the lock; one that has just begun ends here.
    pub async fn hold(&self, shared: &Shared) {
        let restarting = {
            let mut slot = crate::instance::locked(&self.slot);
            slot.held.get_or_insert_with(|| "demote".into());
            slot.running.as_ref().is_some_and(|r| matches!(r.job, Job::Restart { .. }))
        };
        if restarting {
            self.cancel_and_wait(shared, CANCELLED_WITHIN).await;
        }
    }

    /// A cycle has ended: unless a demotion came to its end after it had begun, what is to follow has been started.
    pub fn release(&self) {
        let mut slot = crate::instance::locked(&self.slot);
        if !slot.finished.iter().any(|(job, _)| matches!(job, Job::Demote { .. })) {
            slot.held = None;
        }
    }

    /// Starts a job that an operator asks for.
    ///
    /// # Errors
    /// The name of what runs.
    pub fn order(
        self: &Arc<Self>,
        shared: Arc<Shared>,
        job: Job,
    ) -> Result<oneshot::Receiver<JobResult>, String> {
        self.begin(shared, job, true)
    }

    /// Starts a job for the engine.
    ///
    /// # Errors
    /// The name of the one that runs.
    pub fn start(
        self: &Arc<Self>,
        shared: Arc<Shared>,
        job: Job,
    ) -> Result<oneshot::Receiver<JobResult>, String> {
        self.begin(shared, job, false)
    }

    fn begin(
        self: &Arc<Self>,
        shared: Arc<Shared>,
        job: Job,
        ordered: bool,
    ) -> Result<oneshot::Receiver<JobResult>, String> {
        let mut slot = crate::instance::locked(&self.slot);
        if let Some(running) = &slot.running {
            return Err(running.job.name());
        }
        if let Some(held) = slot.held.clone().filter(|_| ordered) {
            return Err(held);
        }
        slot.running = Some(JobView { job: job.clone(), started_at: mono_now(), shutdown_checkpoint: None });
        shared.instance.cancel.reset();
        shared.instance.committed.store(false, Ordering::SeqCst);
        let jobs = self.clone();
        let (tell, told) = oneshot::channel();
        let runtime = shared.runtime.clone();
        slot.handle = Some(runtime.spawn(async move {
            let begun = Instant::now();
            let result = run(&shared, &jobs, &job).await;
            pace(&shared, &job, &result, begun).await;
            // Nobody has to listen.
            let _ = tell.send(result.clone());
            let mut slot = crate::instance::locked(&jobs.slot);
            slot.running = None;
            if matches!(job, Job::Demote { .. }) {
                // The demotion ends with the next cycle.
                slot.held = Some(job.name());
            }
            slot.finished.push((job, result));
            drop(slot);
            shared.wake.notify_one();
        }));
        Ok(told)
    }

    fn shutdown_checkpoint(&self, locations: (Lsn, Lsn)) {
        if let Some(running) = &mut crate::instance::locked(&self.slot).running {
            running.shutdown_checkpoint = Some(locations);
        }
    }

    /// Cancels the job and waits for its end, a while.
    pub async fn cancel_and_wait(&self, shared: &Shared, limit: Duration) {
        let (name, handle) = {
            let mut slot = crate::instance::locked(&self.slot);
            (slot.running.as_ref().map(|r| r.job.name()), slot.handle.take())
        };
        let (Some(name), Some(handle)) = (name, handle) else { return };
        tracing::warn!(target: "patroni.async_executor", "Cancelling long running task {name}");
        shared.instance.cancel.cancel();
        let _ = tokio::time::timeout(limit, handle).await;
    }
}

/// The end of a job wakes the HA loop, and a try that has failed is made again
/// then: one that fails at once (a missing program, a port in use) counts as
/// running for a while.
async fn pace(shared: &Shared, job: &Job, result: &JobResult, begun: Instant) {
    let repeats =
        matches!(job, Job::Clone { .. } | Job::Follow { .. } | Job::Rewind { .. } | Job::Reinitialize { .. });
    if repeats && matches!(result, JobResult::Failed | JobResult::Unknown) {
        shared.instance.cancel.sleep(FAILURE_TAKES.saturating_sub(begun.elapsed())).await;
    }
}

async fn run(shared: &Arc<Shared>, jobs: &Jobs, job: &Job) -> JobResult {
    let pg = &shared.instance;
    match job {
        Job::Bootstrap => done(pg.bootstrap(&shared.bootstrap_section()).await),
        Job::PostBootstrap => done(pg.post_bootstrap(&shared.bootstrap_section()).await),
        Job::BootstrapStandbyLeader { source } => {
            let what = format!("clone from remote member {}", source.member.conn_url().unwrap_or_default());
            let result = clone(shared, Some(source.clone()), &what, false).await;
            if result == JobResult::Done {
                pg.set_role(Role::StandbyLeader);
            }
            result
        }
        Job::Clone { source, what, from_leader } => clone(shared, source.clone(), what, *from_leader).await,
        Job::Reinitialize { source, what, from_leader } => {
            let timeout = Some(shared.me().retry_timeout);
            pg.stop_plain(StopHow { immediate: true, timeout, ..StopHow::default() }).await;
            clone(shared, source.clone(), what, *from_leader).await
        }
        Job::ReinitializeDiverged { source, what } => {
            let timeout = Some(shared.me().retry_timeout);
            pg.stop_plain(StopHow { immediate: true, timeout, ..StopHow::default() }).await;
            clone(shared, source.clone(), what, false).await
        }
        Job::CrashRecovery => {
            pg.crash_recovery().await;
            JobResult::Done
        }
        Job::Rewind { source } => pg.rewind(source).await,
        Job::StartPrimary { timeout } => started(pg.start(Some(*timeout), false, Some(Role::Primary)).await),
        Job::Follow { source, role, timeout, .. } => {
            started(pg.follow(source.clone(), *role, Apply::Restart(*timeout)).await)
        }
        Job::Promote => {
            let may_write = || {
                let may = shared.lease.may_start_writing();
                if may {
                    super::tick::arm(shared, pg.dynamic().is_paused(), false);
                }
                may
            };
            pg.promote(shared.me().loop_wait, may_write).await
        }
        Job::Demote { mode, timeout, .. } => demote(shared, jobs, *mode, *timeout).await,
        Job::Restart { timeout, release_sync } => {
            if *release_sync {
                shared.release_sync_standby().await;
            }
            // Asked again when the server has stopped: a stop may take longer than the lease.
            // Who makes a cluster has no lock yet.
            let may_write =
                || shared.lease.may_start_writing() || pg.dynamic().is_paused() || pg.is_bootstrapping();
            let result = started(pg.restart(Some(*timeout), false, None, may_write).await);
            shared.disable_sync.store(false, Ordering::SeqCst);
            result
        }
        Job::CopySlots { slots } => {
            pg.copy_logical_slots(&shared.cluster(), slots).await;
            JobResult::Done
        }
    }
}

fn done(ok: bool) -> JobResult {
    if ok {
        JobResult::Done
    } else {
        JobResult::Failed
    }
}

fn started(started: Started) -> JobResult {
    match started {
        Started::Running => JobResult::Done,
        Started::Failed => JobResult::Failed,
        Started::Unknown => JobResult::Unknown,
    }
}

/// Copies, then follows whoever leads by then.
async fn clone(shared: &Arc<Shared>, source: Option<Source>, what: &str, from_leader: bool) -> JobResult {
    let pg = &shared.instance;
    let created = pg.create_replica(source.as_ref(), from_leader).await;
    if created != Created::Done {
        tracing::error!(target: "patroni.ha", "failed to bootstrap {what}");
        // Only what this copy made is removed.
        if created == Created::Failed {
            pg.remove_data_directory().await;
        }
        return JobResult::Failed;
    }
    tracing::info!(target: "patroni.ha", "bootstrapped {what}");
    let follow = shared.node_to_follow(source).await;
    match pg.follow(follow, Role::Replica, Apply::Restart(None)).await {
        Started::Failed => JobResult::Failed,
        _ => JobResult::Done,
    }
}

/// The stop of a demotion. When the shutdown checkpoint is written the cycles are
/// told, so that the key can be released before the postmaster's exit.
async fn demote(shared: &Arc<Shared>, jobs: &Jobs, mode: DemoteMode, timeout: Option<Duration>) -> JobResult {
    let pg = &shared.instance;
    // A demotion to a standby cluster first brings its last WAL to the archive.
    let archive = if mode == DemoteMode::Cluster { pg.archive_command().await } else { None };
    let how = StopHow {
        checkpoint: mode == DemoteMode::Graceful,
        early: archive.is_none(),
        no_callback: true,
        safe_point: shared.watchdog_running(),
        timeout: timeout.filter(|_| archive.is_none()),
        ..StopHow::default()
    };
    let (events, mut reached) = mpsc::unbounded_channel();
    let mut locations = None;
    let stop = pg.stop(&how, &events);
    tokio::pin!(stop);
    let stopped = loop {
        tokio::select! {
            biased;
            Some(event) = reached.recv() => match event {
                StopEvent::SafePoint => shared.disable_watchdog().await,
                StopEvent::Quiet => {}
                StopEvent::ShutDown(found) => {
                    locations = Some((found.checkpoint, found.last));
                    jobs.shutdown_checkpoint((found.checkpoint, found.last));
                    shared.wake.notify_one();
                }
            },
            stopped = &mut stop => break stopped,
        }
    };
    if !stopped {
        return JobResult::Failed;
    }
    shared.disable_watchdog().await;
    if mode == DemoteMode::Cluster {
        match archive {
            Some(command) => pg.archive_last_wal(&command).await,
            None => tracing::info!(
                target: "patroni.ha",
                "Not archiving latest checkpoint WAL file. Archiving is not configured."
            ),
        }
    }
    if locations.is_none() {
        locations = pg.shutdown_checkpoint().await;
    }
    JobResult::Stopped(locations)
}
