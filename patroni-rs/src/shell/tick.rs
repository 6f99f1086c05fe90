//! Drives the engine by the rules of [`patroni_core::node`]: one view, question by question, to the end of the cycle.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use patroni_core::ha::{Finished, HeldBack, JobView, Level, LogLine, Memory, View};
use patroni_core::node::{Cycle, Decided, Kind, Now, Start, Step};
use pyfmt::json;

use super::exec::Executor;
use super::shared::Shared;
use crate::instance::{locked, mono_now};
use crate::releaser;

/// Everything that a cycle decides on. `running`: the job that ran when the results of others were taken. One that ends,
/// or begins, while PostgreSQL is looked at runs as far as this cycle knows: what it has done to the server is not
/// understood without its result.
pub(super) async fn view(shared: &Arc<Shared>, memory: &Memory, running: Option<JobView>) -> View {
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
    let begun = Instant::now();
    let finished = AssertUnwindSafe(cycle(shared, memory)).catch_unwind().await;
    locked(&shared.measured).cycles.observe(begun.elapsed());
    if finished.is_err() {
        let text = "Unexpected exception raised, please report it as a BUG";
        tracing::error!(target: "patroni.__main__", "{text}");
    }
    finished.ok()
}

/// Runs one cycle.
pub async fn cycle(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    let (ended, running) = shared.jobs.take_finished();
    locked(&shared.measured).takeover.ended(&ended, mono_now());
    let restarting = locked(&shared.restarting).take();
    let cluster = shared.cluster();
    let start = Start { ended, restarting, cluster: Some(&cluster), name: &shared.instance.name };
    drive(shared, memory, Kind::Cycle, start, running).await
}

/// Runs the shutdown.
pub async fn shutdown(shared: &Arc<Shared>, memory: &mut Memory) -> Finished {
    drive(shared, memory, Kind::Shutdown, Start::default(), None).await
}

/// The driver of the engine ([`patroni_core::node`]): carries out what it asks for, and tells the time.
async fn drive(
    shared: &Arc<Shared>,
    memory: &mut Memory,
    kind: Kind,
    start: Start<'_>,
    running: Option<JobView>,
) -> Finished {
    shared.instance.set_bootstrapping(memory.bootstrap.running);
    let mut cycle = shared.lease.with(|lock| Cycle::begin(kind, start, memory, lock));
    let mut executor = Executor::new(shared.clone());
    loop {
        let (step, lines) = cycle.step(memory, mono_now());
        lines.iter().for_each(emit);
        match step {
            Step::Look => {
                let view = view(shared, memory, running.clone()).await;
                cycle.looked(view, shared.instance.is_silent());
            }
            Step::Ask(question) => {
                let before = now(shared);
                let sent = shared.lease.with(|lock| cycle.sends(question, &before, lock));
                let answer = executor.perform(&sent, cycle.view()).await;
                let after = now(shared);
                locked(&shared.measured).takeover.answered(sent.request(), &answer, after.name, after.at);
                shared.lease.with(|lock| cycle.answered(sent, answer, &after, lock));
            }
            Step::Skipped(line) => {
                return Finished { line, memory: memory.clone(), exit: None, held_back: None }
            }
            Step::Finished(decided) => return settle(shared, memory, decided),
        }
    }
}

/// What the driver is told about this moment.
fn now(shared: &Shared) -> Now<'_> {
    let me = shared.me();
    Now {
        at: mono_now(),
        name: &shared.instance.name,
        paused: shared.instance.dynamic().is_paused(),
        timing: me.timing,
        granted: shared.dcs.granted(),
        server: shared.server(),
    }
}

/// A cycle has come to its decisions.
fn settle(shared: &Shared, memory: &Memory, decided: Decided) -> Finished {
    shared.instance.set_dynamic(memory.config.clone());
    *locked(&shared.failsafe_since) = memory.failsafe.since;
    *locked(&shared.last_lsn) = memory.own.wal_position;
    // Before the job that makes the cluster begins: it fires no callbacks.
    shared.instance.set_bootstrapping(memory.bootstrap.running);
    shared.jobs.cycle_settled(memory);
    let server = shared.server();
    let finished = shared.lease.with(|lock| decided.settle(memory, lock, &server));
    note_held_back(shared, finished.held_back.as_ref());
    finished
}

/// The reason why this node was not promoted, when it is a new one: a logger of its own keeps it apart from
/// the lines that the reference has as well.
fn note_held_back(shared: &Shared, found: Option<&HeldBack>) {
    let mut known = locked(&shared.held_back);
    if let Some(new) = found.filter(|new| !known.as_ref().is_some_and(|old| old.is_same(new))) {
        let fields = json::dumps(&new.fields());
        tracing::info!(target: "patroni.race", fields = fields.as_str(), "{}", new.sentence());
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

/// After each cycle. A lock that is ours, and that the cycle did not ask for, is to run out: it is attached to the lease of
/// our member key, which each cycle renews. The guardian gets to know how the lock could be given up in our place.
pub fn note_end(shared: &Shared) {
    let asked = shared.lease.with(|lock| lock.cycle_ended(mono_now()));
    if !asked && shared.cluster().leader_name() == Some(shared.instance.name.as_str()) {
        shared.dcs.let_leader_run_out();
    }
    let session = shared.dcs.lock_session();
    let ticket = session.map(|session| shared.with_config(|c| releaser::ticket(c.effective(), &session)));
    shared.instance.guard.set_ticket(ticket);
}
