//! Drives the engine: one view, question by question, to the end of the cycle.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use patroni_core::ha::{self, Finished, Level, LogLine, Memory, Progress, Role, Transcript, View};

use super::exec::Executor;
use super::shared::Shared;
use crate::instance::{locked, mono_now};

/// More questions than any cycle has: then code and answers do not fit.
const MAX_QUESTIONS: usize = 200;

/// Everything that a cycle decides on.
pub async fn view(shared: &Arc<Shared>, memory: &Memory) -> View {
    let me = shared.me();
    let cluster = memory.cluster.clone();
    let pg = shared.instance.view(cluster.as_deref(), &me.tags).await;
    View {
        now: mono_now(),
        wall_us: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64),
        me,
        pg,
        job: shared.jobs.view(),
        lease_until: shared.lease.until(),
        watchdog: shared.watchdog_view(),
        failsafe_ping: locked(&shared.failsafe_ping).clone(),
        disable_sync: shared.disable_sync.load(Ordering::SeqCst),
        scheduled_restart: locked(&shared.scheduled_restart).clone(),
    }
}

/// Runs one cycle.
pub async fn cycle(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    for (job, result) in shared.jobs.take_finished() {
        memory.job_finished(&job, &result);
    }
    // A restart on request: if it fails, the leader key is given up.
    if let Some(timeout) = locked(&shared.restarting).take() {
        memory.recovering = true;
        memory.start_timeout = Some(timeout);
    }
    drive(shared, memory, ha::run).await
}

/// Runs the shutdown.
pub async fn shutdown(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    drive(shared, memory, ha::run_shutdown).await
}

type Engine = fn(&View, &Memory, &Transcript) -> (Progress, Vec<LogLine>);

async fn drive(shared: &Arc<Shared>, memory: &mut Memory, engine: Engine) -> Finished {
    let view = view(shared, memory).await;
    shared.instance.set_bootstrapping(memory.bootstrapping);
    let mut executor = Executor::new(shared.clone());
    let mut transcript = Transcript::default();
    loop {
        let (progress, lines) = engine(&view, memory, &transcript);
        transcript.fresh(lines).iter().for_each(emit);
        match progress {
            Progress::Ask(request) if transcript.len() < MAX_QUESTIONS => {
                let answer = executor.perform(&request, &view).await;
                transcript.record(*request, answer, mono_now());
                arm_fence(shared, memory);
            }
            Progress::Ask(request) => {
                tracing::error!(target: "patroni.ha", "Unexpected exception: no end of questions: {request:?}");
                return Finished {
                    line: "Unexpected exception raised, please report it as a BUG".into(),
                    memory: memory.clone(),
                    exit: None,
                };
            }
            Progress::Finished(finished) => {
                *memory = finished.memory.clone();
                shared.instance.set_dynamic(memory.config.clone());
                *locked(&shared.failsafe_since) = memory.failsafe_since;
                arm_fence(shared, memory);
                return *finished;
            }
        }
    }
}

/// PostgreSQL is stopped before the lease ends only where it may be writing: not
/// on a standby, and not in pause.
fn arm_fence(shared: &Shared, memory: &Memory) {
    let writes = matches!(shared.instance.role(), Role::Primary | Role::Promoted);
    shared.lease.arm(writes && !memory.config.is_paused() && !memory.bootstrapping);
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
