//! Long work beside the cycles, one job at a time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use patroni_core::ha::{DemoteMode, Job, JobResult, JobView, Role, Source};
use patroni_core::model::Lsn;
use patroni_postgres::process::replica::Created;
use patroni_postgres::process::stop::StopEvent;
use tokio::sync::{mpsc, oneshot, watch};

use super::shared::Shared;
use crate::instance::{mono_now, Apply, Started, StopHow};

/// How long the end of a cancelled restart is waited for.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);
/// Between two tries to put a job in the place of another.
const REPLACED_LOOK: Duration = Duration::from_millis(50);
/// The least time between two tries of a job that fails.
const FAILURE_TAKES: Duration = Duration::from_secs(1);

/// The job that runs, and those that have ended since the last cycle.
#[derive(Default)]
pub struct Jobs {
    slot: Mutex<Slot>,
    /// Whose turn it is of those that replace the job that runs.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Slot {
    running: Option<JobView>,
    /// Closed when the job's task has ended, however it does.
    ended: Option<watch::Receiver<()>>,
    finished: Vec<(Job, JobResult)>,
    /// What the engine does with PostgreSQL, step by step, whether a job runs or not.
    held: Option<String>,
}

impl Jobs {
    /// The job that runs.
    pub fn view(&self) -> Option<JobView> {
        crate::instance::locked(&self.slot).running.clone()
    }

    /// Takes the results of jobs that have ended, and tells which one runs, in one look.
    pub fn take_finished(&self) -> (Vec<(Job, JobResult)>, Option<JobView>) {
        let mut slot = crate::instance::locked(&self.slot);
        (std::mem::take(&mut slot.finished), slot.running.clone())
    }

    /// PostgreSQL is being stopped by the engine. Until it has decided what follows, an operator's
    /// restart would start the server as the primary that it was, without the lock; one that has just begun ends here.
    pub async fn hold(&self, shared: &Shared) {
        if self.hold_off() {
            self.cancel_and_wait(shared, CANCELLED_WITHIN).await;
        }
    }

    /// From now on operators' jobs are refused. Does one run that would start the server?
    fn hold_off(&self) -> bool {
        let mut slot = crate::instance::locked(&self.slot);
        slot.held.get_or_insert_with(|| "demote".into());
        slot.running.as_ref().is_some_and(|r| matches!(r.job, Job::Restart { .. }))
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

    /// Cancels whatever runs, and starts this in its place. Of those who ask at the same time each gets what he asks
    /// for, one after the other.
    ///
    /// # Errors
    /// The name of what still runs after `limit`.
    pub async fn order_instead(
        self: &Arc<Self>,
        shared: Arc<Shared>,
        job: Job,
        limit: Duration,
    ) -> Result<oneshot::Receiver<JobResult>, String> {
        let _turn = self.turn.lock().await;
        let until = Instant::now() + limit;
        loop {
            self.cancel_and_wait(&shared, until.saturating_duration_since(Instant::now())).await;
            match self.order(shared.clone(), job.clone()) {
                // A cycle was faster with a job of its own, or somebody else waits for the end of the cancelled one.
                Err(_) if self.view().is_some() && Instant::now() < until => {
                    tokio::time::sleep(REPLACED_LOOK).await;
                }
                other => return other,
            }
        }
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
        let wake = shared.wake.clone();
        let running = self.occupy(&job, ordered, || {
            if matches!(job, Job::Reinitialize { .. }) {
                *crate::instance::locked(&shared.instance.copy_failed) = None;
            }
            shared.instance.cancel.reset();
            shared.instance.committed.store(false, Ordering::SeqCst);
        })?;
        let (tell, told) = oneshot::channel();
        let runtime = shared.runtime.clone();
        let jobs = self.clone();
        runtime.spawn(async move {
            let begun = Instant::now();
            let work = async {
                let result = run(&shared, &jobs, &job).await;
                pace(&shared, &job, &result, begun).await;
                result
            };
            let result = outcome(&job, work).await;
            // Nobody has to listen.
            let _ = tell.send(result.clone());
            jobs.vacate(job, result);
            drop(running);
            wake.notify_one();
        });
        Ok(told)
    }

    /// Takes the slot for a job, if it is free. What is returned is kept until the job's task ends.
    fn occupy(&self, job: &Job, ordered: bool, begins: impl FnOnce()) -> Result<watch::Sender<()>, String> {
        let mut slot = crate::instance::locked(&self.slot);
        if let Some(running) = &slot.running {
            return Err(running.job.name());
        }
        if let Some(held) = slot.held.clone().filter(|_| ordered) {
            return Err(held);
        }
        slot.running = Some(JobView { job: job.clone(), started_at: mono_now(), shutdown_checkpoint: None });
        let (running, ended) = watch::channel(());
        slot.ended = Some(ended);
        begins();
        Ok(running)
    }

    fn vacate(&self, job: Job, result: JobResult) {
        let mut slot = crate::instance::locked(&self.slot);
        slot.running = None;
        if matches!(job, Job::Demote { .. }) {
            // The demotion ends with the next cycle.
            slot.held = Some(job.name());
        }
        slot.finished.push((job, result));
    }

    fn shutdown_checkpoint(&self, locations: (Lsn, Lsn)) {
        if let Some(running) = &mut crate::instance::locked(&self.slot).running {
            running.shutdown_checkpoint = Some(locations);
        }
    }

    /// Cancels the job and waits for its end, a while. The order stands until the next job begins, or until this one has
    /// ended: a job that outlives its limit starts nothing any more.
    pub async fn cancel_and_wait(&self, shared: &Shared, limit: Duration) {
        let Some(name) = self.view().map(|running| running.job.name()) else { return };
        tracing::warn!(target: "patroni.async_executor", "Cancelling long running task {name}");
        shared.instance.cancel.cancel();
        if self.wait(limit).await {
            shared.instance.cancel.reset();
        }
    }

    /// Has the job ended by then? Any number of callers may wait, one after the other or at the same time.
    async fn wait(&self, limit: Duration) -> bool {
        let ended = crate::instance::locked(&self.slot).ended.clone();
        match ended {
            // The sender is dropped, never used.
            Some(mut ended) => tokio::time::timeout(limit, ended.changed()).await.is_ok(),
            None => true,
        }
    }
}

/// The result of a job's work. A panic is a failure as any other: the slot must be free again.
async fn outcome(job: &Job, work: impl Future<Output = JobResult>) -> JobResult {
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| {
        let name = job.name();
        tracing::error!(target: "patroni.async_executor", "Exception during execution of long running task {name}");
        JobResult::Failed
    })
}

/// The end of a job wakes the HA loop, and a try that has failed is made again
/// then: one that fails at once (a missing program, a port in use) counts as
/// running for a while.
async fn pace(shared: &Shared, job: &Job, result: &JobResult, begun: Instant) {
    let repeats = matches!(
        job,
        Job::Clone { .. } | Job::Follow { .. } | Job::Rewind { .. } | Job::Reinitialize { .. } | Job::Promote
    );
    if repeats && matches!(result, JobResult::Failed | JobResult::Unknown | JobResult::NotPromoted) {
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
            let result = started(pg.follow(source.clone(), *role, Apply::Restart(*timeout)).await);
            if result == JobResult::Done {
                // Armed still where the stop of a demotion failed at first; the next cycle may wait long for the DCS.
                shared.disable_watchdog().await;
            }
            result
        }
        Job::Promote => {
            let may_write = || {
                let (arm, server) = super::tick::armed(shared, pg.dynamic().is_paused(), false);
                shared.lease.will_promote(arm, server)
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
        if !pg.cancel.is_cancelled() {
            *crate::instance::locked(&pg.copy_failed) = Some(format!("failed to bootstrap {what}"));
        }
        // Only what this copy made is removed.
        if created == Created::Failed {
            pg.remove_data_directory().await;
        }
        return JobResult::Failed;
    }
    tracing::info!(target: "patroni.ha", "bootstrapped {what}");
    *crate::instance::locked(&pg.copy_failed) = None;
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

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn restart() -> Job {
        Job::Restart { timeout: Duration::from_secs(1), release_sync: false }
    }

    #[tokio::test]
    async fn a_job_that_panics_has_failed_and_frees_the_slot() {
        let jobs = Jobs::default();
        let running = jobs.occupy(&restart(), true, || ()).unwrap();
        assert!(jobs.occupy(&restart(), true, || ()).is_err());
        // What has no result yet runs, by the same look.
        let (ended, seen) = jobs.take_finished();
        assert_eq!((ended, seen.map(|r| r.job)), (Vec::new(), Some(restart())));
        let result = outcome(&restart(), async { panic!("a job that panics") }).await;
        jobs.vacate(restart(), result);
        drop(running);
        assert!(jobs.view().is_none());
        assert_eq!(jobs.take_finished(), (vec![(restart(), JobResult::Failed)], None));
        assert!(jobs.occupy(&Job::Promote, false, || ()).is_ok());
    }

    #[tokio::test]
    async fn everybody_who_waits_for_a_job_waits_for_its_end() {
        let jobs = Jobs::default();
        let begun = AtomicU32::new(0);
        let running = jobs.occupy(&restart(), true, || begun.store(1, Ordering::SeqCst)).unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        let short = Duration::from_millis(20);
        for _ in 0..2 {
            assert!(!jobs.wait(short).await);
        }
        jobs.vacate(restart(), JobResult::Done);
        drop(running);
        assert!(jobs.wait(short).await && jobs.wait(short).await);
    }

    /// While the engine stops PostgreSQL, and until it has decided what follows, an operator's job is refused; the
    /// engine's own is not.
    #[test]
    fn an_operators_job_waits_for_the_end_of_a_demotion() {
        let jobs = Jobs::default();
        let demote = Job::Demote { name: "switchover".into(), mode: DemoteMode::Graceful, timeout: None };
        drop(jobs.occupy(&demote, false, || ()).unwrap());
        jobs.vacate(demote, JobResult::Stopped(None));
        assert_eq!(jobs.occupy(&restart(), true, || ()).err().as_deref(), Some("switchover"));
        // A cycle that had begun before does not release it, the next one does.
        jobs.release();
        assert!(jobs.occupy(&restart(), true, || ()).is_err());
        jobs.take_finished();
        jobs.release();
        assert!(jobs.occupy(&restart(), true, || ()).is_ok());
    }

    #[test]
    fn the_engine_may_go_on_while_operators_are_held_off() {
        let jobs = Jobs::default();
        assert!(!jobs.hold_off());
        assert!(jobs.occupy(&restart(), true, || ()).is_err());
        let running = jobs.occupy(&restart(), false, || ()).unwrap();
        // One that has just begun is to end.
        assert!(jobs.hold_off());
        drop(running);
    }
}
