//! Drives the engine: one view, question by question, to the end of the cycle.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use patroni_core::ha::keeper::Arm;
use patroni_core::ha::{self, Finished, HeldBack, Level, LogLine, Memory, Progress, Role, Transcript, View};

use super::exec::Executor;
use super::shared::Shared;
use crate::guardian;
use crate::instance::{locked, mono_now};

/// Time between two looks at a server that does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// More questions than any cycle has: then code and answers do not fit.
const MAX_QUESTIONS: usize = 200;

/// Everything that a cycle decides on. `running`: the job that ran when the results of others were taken. One that ends,
/// or begins, while PostgreSQL is looked at runs as far as this cycle knows: what it has done to the server is not
/// understood without its result.
async fn view(shared: &Arc<Shared>, memory: &Memory, running: Option<ha::JobView>) -> View {
    let me = shared.me_now();
    let cluster = memory.cluster.clone();
    let pg = shared.instance.view(cluster.as_deref(), &me.tags).await;
    View {
        now: mono_now(),
        wall_us: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64),
        me,
        pg,
        job: shared.jobs.view().or(running),
        lease_until: shared.lease.until(),
        watchdog: shared.fresh_watchdog_view().await,
        failsafe_ping: locked(&shared.failsafe_ping).clone(),
        disable_sync: shared.disable_sync.load(Ordering::SeqCst),
        scheduled_restart: locked(&shared.scheduled_restart).clone(),
    }
}

/// Runs one cycle. `None`: it panicked. It then counts as none: it permits no renewal of the lock to the keeper, and the
/// next one begins with the memory that it began with.
pub async fn guarded_cycle(shared: &Arc<Shared>, memory: &mut Memory) -> Option<Finished> {
    let finished = AssertUnwindSafe(cycle(shared, memory)).catch_unwind().await;
    if finished.is_err() {
        let text = "Unexpected exception raised, please report it as a BUG";
        tracing::error!(target: "patroni.__main__", "{text}");
    }
    finished.ok()
}

/// Runs one cycle.
pub async fn cycle(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    let (ended, running) = shared.jobs.take_finished();
    for (job, result) in ended {
        memory.job_finished(&job, &result);
    }
    // A restart on request: if it fails, the leader key is given up.
    if let Some(timeout) = locked(&shared.restarting).take() {
        memory.recovering = true;
        memory.start_timeout = Some(timeout);
    }
    if shared.lease.is_fenced() && !give_up_lock(shared).await {
        return skipped(memory);
    }
    let view = view(shared, memory, running).await;
    if leads_a_hung_server(shared, &view) {
        tracing::error!(target: "patroni.ha", "PostgreSQL does not answer, the leader lock is not renewed");
        return skipped(memory);
    }
    drive(shared, memory, view, ha::run).await
}

/// The keeper has stopped PostgreSQL, because the DCS or something on this node
/// hung. Another node shall take over at once, if the DCS still listens. False:
/// the server is not gone yet, or nobody can prove it.
async fn give_up_lock(shared: &Shared) -> bool {
    if !shared.instance.is_proven_gone().await {
        return false;
    }
    let cluster = shared.cluster();
    if cluster.leader_name() == Some(shared.instance.name.as_str()) {
        // A DCS that does not listen lets the key expire.
        let _ = shared.dcs.delete_leader(cluster.leader.as_ref(), None).await;
    }
    // Nor does it come back as a primary without having won the lock again.
    shared.instance.set_role(Role::Demoted);
    shared.lease.fence_handled();
    true
}

/// Where the reference's loop blocks in a statement that is never answered, its
/// lock runs out and another node takes over. We go on looking, but do not ask
/// for the lock before the server speaks again.
fn leads_a_hung_server(shared: &Shared, view: &View) -> bool {
    shared.instance.is_silent() && view.lease_until.is_some() && view.job.is_none()
}

/// A cycle without decisions. The next look comes soon: what was only slow must
/// not cost the lock.
fn skipped(memory: &mut Memory) -> Finished {
    memory.wake_at = Some(mono_now() + LOOK_AGAIN);
    let pause = if memory.config.is_paused() { "PAUSE: " } else { "" };
    let line = format!("{pause}Error communicating with PostgreSQL. Will try again later");
    Finished { line, memory: memory.clone(), exit: None, held_back: None }
}

/// Runs the shutdown.
pub async fn shutdown(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    let view = view(shared, memory, None).await;
    drive(shared, memory, view, ha::run_shutdown).await
}

type Engine = fn(&View, &Memory, &Transcript) -> (Progress, Vec<LogLine>);

async fn drive(shared: &Arc<Shared>, memory: &mut Memory, view: View, engine: Engine) -> Finished {
    shared.instance.set_bootstrapping(memory.bootstrapping);
    let mut executor = Executor::new(shared.clone(), memory);
    let mut transcript = Transcript::default();
    loop {
        let (progress, lines) = engine(&view, memory, &transcript);
        transcript.fresh(lines).iter().for_each(emit);
        match progress {
            Progress::Ask(request) if transcript.len() < MAX_QUESTIONS => {
                let answer = executor.perform(&request, &view).await;
                transcript.record(*request, answer, mono_now());
                executor.arm();
            }
            Progress::Ask(request) => {
                tracing::error!(target: "patroni.ha", "Unexpected exception: no end of questions: {request:?}");
                return Finished {
                    line: "Unexpected exception raised, please report it as a BUG".into(),
                    memory: memory.clone(),
                    exit: None,
                    held_back: None,
                };
            }
            Progress::Finished(finished) => {
                *memory = finished.memory.clone();
                shared.instance.set_dynamic(memory.config.clone());
                *locked(&shared.failsafe_since) = memory.failsafe_since;
                note_held_back(shared, finished.held_back.as_ref());
                // Before the job that makes the cluster begins: it fires no callbacks.
                shared.instance.set_bootstrapping(memory.bootstrapping);
                // Nor is a demotion over whose heirs are still being asked.
                if memory.demotion.is_none() {
                    shared.jobs.release();
                }
                arm(shared, memory.config.is_paused(), memory.bootstrapping);
                return *finished;
            }
        }
    }
}

/// PostgreSQL is stopped before the lease ends only where it may be writing: not
/// on a standby, and not in pause.
pub fn arm(shared: &Shared, paused: bool, bootstrapping: bool) {
    let (arm, server) = armed(shared, paused, bootstrapping);
    shared.lease.arm(arm, server);
}

/// How the fence is to be armed, for which server.
pub fn armed(shared: &Shared, paused: bool, bootstrapping: bool) -> (Arm, u64) {
    let instance = &shared.instance;
    let promoting = instance.committed.load(Ordering::SeqCst)
        && shared.jobs.view().is_some_and(|running| running.job == ha::Job::Promote);
    let server = instance.known_postmaster().map_or(0, |p| guardian::number(&p.process));
    let mut arm = Arm::of(instance.role(), promoting, instance.says_it_writes(), paused, bootstrapping);
    if arm != Arm::Off && instance.is_quiet() {
        arm = Arm::Reads;
    }
    (arm, server)
}

/// The reason why this node was not promoted, when it is a new one: a logger of its own keeps it apart from
/// the lines that the reference has as well.
fn note_held_back(shared: &Shared, found: Option<&HeldBack>) {
    let mut known = locked(&shared.held_back);
    if let Some(new) = found.filter(|new| !known.as_ref().is_some_and(|old| old.is_same(new))) {
        tracing::info!(target: "patroni.race", "{}", new.record());
    }
    *known = found.cloned();
}

fn emit(line: &LogLine) {
    let text = &line.text;
    match line.level {
        Level::Debug => tracing::debug!(target: "patroni.ha", "{text}"),
        Level::Info => tracing::info!(target: "patroni.ha", "{text}"),
        Level::Warning => tracing::warn!(target: "patroni.ha", "{text}"),
        Level::Error => tracing::error!(target: "patroni.ha", "{text}"),
        Level::Critical => tracing::error!(target: "patroni.ha", critical = true, "{text}"),
    }
}
