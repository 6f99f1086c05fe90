//! Long work beside the cycles, one job at a time.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use patroni_core::citus::EventKind;
use patroni_core::ha::{DemoteMode, Job, JobResult, JobView, Memory, Role, Source};
use patroni_core::model::ShutdownCheckpoint;
use patroni_core::node::{Cancel, JobSlot};
use patroni_postgres::process::replica::Created;
use patroni_postgres::process::stop::StopEvent;
use tokio::sync::{mpsc, oneshot, watch};

use super::citus;
use super::shared::Shared;
use crate::instance::{locked, mono_now, Apply, RestartHow, Started, StopHow};

/// How long the end of a cancelled restart is waited for.
const CANCELLED_WITHIN: Duration = Duration::from_secs(1);
/// Between two tries to put a job in the place of another.
const REPLACED_LOOK: Duration = Duration::from_millis(50);
/// The least time between two tries of a job that fails.
const FAILURE_TAKES: Duration = Duration::from_secs(1);

/// The one job ([`JobSlot`]), as tasks of the runtime.
#[derive(Default)]
pub struct Jobs {
    state: Mutex<State>,
    /// Whose turn it is of those that replace the job that runs.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    slot: JobSlot,
    /// Closed when the job's task has ended, however it does.
    ended: Option<watch::Receiver<()>>,
}

impl Jobs {
    fn with<R>(&self, change: impl FnOnce(&mut JobSlot) -> R) -> R {
        change(&mut locked(&self.state).slot)
    }

    /// The job that runs.
    pub fn view(&self) -> Option<JobView> {
        self.with(|slot| slot.running().cloned())
    }

    /// Does this one run?
    pub fn runs(&self, which: impl Fn(&Job) -> bool) -> bool {
        self.with(|slot| slot.runs(which))
    }

    /// See [`JobSlot::take_finished`].
    pub fn take_finished(&self) -> (Vec<(Job, JobResult)>, Option<JobView>) {
        self.with(JobSlot::take_finished)
    }

    /// See [`JobSlot::cancel`].
    pub fn cancel(&self, kill: bool, committed: bool) -> Cancel {
        self.with(|slot| slot.cancel(kill, committed))
    }

    /// The engine is about to stop PostgreSQL ([`JobSlot::hold`]); a restart that has just begun ends here.
    pub async fn hold(&self, shared: &Shared) {
        if self.with(JobSlot::hold) {
            self.cancel_and_wait(shared, CANCELLED_WITHIN).await;
        }
    }

    /// See [`JobSlot::cycle_settled`].
    pub fn cycle_settled(&self, memory: &Memory) {
        self.with(|slot| slot.cycle_settled(memory));
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
                *locked(&shared.instance.copy_failed) = None;
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
            jobs.with(|slot| slot.finish(result));
            drop(running);
            wake.notify_one();
        });
        Ok(told)
    }

    /// Takes the slot for a job, if it may begin. What is returned is kept until the job's task ends.
    fn occupy(&self, job: &Job, ordered: bool, begins: impl FnOnce()) -> Result<watch::Sender<()>, String> {
        let mut state = locked(&self.state);
        match ordered {
            true => state.slot.order(job, mono_now())?,
            false => state.slot.start(job, mono_now())?,
        }
        let (running, ended) = watch::channel(());
        state.ended = Some(ended);
        begins();
        Ok(running)
    }

    /// As if that job ran. What is returned goes to [`Jobs::pretend_end`].
    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub fn pretend(&self, job: &Job) -> watch::Sender<()> {
        self.occupy(job, true, || ()).expect("nothing runs")
    }

    /// The end of that job.
    #[cfg(test)]
    pub fn pretend_end(&self, result: JobResult, running: watch::Sender<()>) {
        self.with(|slot| slot.finish(result));
        drop(running);
    }

    fn shutdown_checkpoint(&self, found: ShutdownCheckpoint) {
        self.with(|slot| slot.shutdown_checkpoint(found));
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
        let ended = locked(&self.state).ended.clone();
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
pub(super) async fn pace(shared: &Shared, job: &Job, result: &JobResult, begun: Instant) {
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
            let timeout = Some(shared.me().timing.retry_timeout);
            pg.stop_plain(StopHow { immediate: true, timeout, ..StopHow::default() }).await;
            clone(shared, source.clone(), what, *from_leader).await
        }
        Job::ReinitializeDiverged { source, what } => {
            let timeout = Some(shared.me().timing.retry_timeout);
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
                let (paused, server) = (pg.dynamic().is_paused(), shared.server());
                shared.lease.with(|lock| lock.will_promote(mono_now(), paused, &server))
            };
            pg.promote(shared.me().timing.loop_wait, citus::promoting(shared), may_write).await
        }
        Job::Demote { mode, timeout, .. } => demote(shared, jobs, *mode, *timeout).await,
        Job::Restart { timeout, release_sync } => {
            if *release_sync {
                shared.release_sync_standby().await;
            }
            // Asked when the server has stopped.
            let may_write =
                || shared.lease.may_restart_primary(pg.dynamic().is_paused(), pg.is_bootstrapping());
            let leads = shared.lease.until().is_some_and(|until| until > mono_now());
            let announce = leads.then(|| shared.me().timing.ttl);
            let how = RestartHow { timeout: Some(*timeout), announce, ..RestartHow::default() };
            let result = started(pg.restart(how, may_write).await);
            if leads && result == JobResult::Done {
                citus::tell(shared, EventKind::AfterPromote, announce.unwrap_or_default()).await;
            }
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

/// Copies, then follows the node that leads by then.
async fn clone(shared: &Arc<Shared>, source: Option<Source>, what: &str, from_leader: bool) -> JobResult {
    let pg = &shared.instance;
    let created = pg.create_replica(source.as_ref(), from_leader).await;
    if created != Created::Done {
        tracing::error!(target: "patroni.ha", "failed to bootstrap {what}");
        if !pg.cancel.is_cancelled() {
            *locked(&pg.copy_failed) = Some(format!("failed to bootstrap {what}"));
        }
        // Only what this copy made is removed.
        if created == Created::Failed {
            pg.remove_data_directory().await;
        }
        return JobResult::Failed;
    }
    tracing::info!(target: "patroni.ha", "bootstrapped {what}");
    *locked(&pg.copy_failed) = None;
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
        announce: (mode == DemoteMode::Graceful).then(|| shared.me().timing.ttl),
        safe_point: shared.watchdog_running(),
        timeout: timeout.filter(|_| archive.is_none()),
        ..StopHow::default()
    };
    let (events, mut reached) = mpsc::unbounded_channel();
    let mut checkpoint = None;
    let stop = pg.stop(&how, &events);
    tokio::pin!(stop);
    let stopped = loop {
        tokio::select! {
            biased;
            Some(event) = reached.recv() => match event {
                StopEvent::SafePoint => shared.disable_watchdog().await,
                StopEvent::Quiet => {}
                StopEvent::ShutDown(found) => {
                    checkpoint = Some(found);
                    jobs.shutdown_checkpoint(found);
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
    if checkpoint.is_none() {
        checkpoint = pg.shutdown_checkpoint().await;
    }
    JobResult::Stopped(checkpoint)
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
        let result = outcome(&restart(), async { panic!("a job that panics") }).await;
        jobs.with(|slot| slot.finish(result));
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
        jobs.with(|slot| slot.finish(JobResult::Done));
        drop(running);
        assert!(jobs.wait(short).await && jobs.wait(short).await);
    }

    /// Who orders is an operator, and who starts is the engine.
    #[test]
    fn an_operators_job_is_refused_while_the_engine_stops_the_server() {
        let jobs = Jobs::default();
        assert!(!jobs.with(JobSlot::hold));
        assert!(jobs.occupy(&restart(), true, || ()).is_err());
        assert!(jobs.occupy(&restart(), false, || ()).is_ok());
    }
}
