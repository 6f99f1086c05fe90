//! The acceptance scenarios of `features/`, against real PostgreSQL and a real DCS.
//!
//! `STORE=etcd3|etcd3http|etcd` and others (`lab::store`) names the DCS; scenarios tagged `@store` are for all of them.
//! `FLEET=ours|reference|alternating|alternating2 cargo test -p compat-tests --test acceptance [-- --tags EXPR]`
//! Without `--tags` or `--name`, the scenarios tagged `@ci` run; `--tags 'not @none'` is all of them.
//! (`alternating`: even members ours, odd ones the reference's; `alternating2` the other way round.)
//! Two scenarios at a time, or `--concurrency N`. `LAB_KEEP=1` keeps the directories of all scenarios; that of a
//! failed one is always kept. fixtures/README.md says more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod ask;
mod citus;
mod clients;
mod container;
mod disk;
mod evidence;
mod fault;
mod pages;
mod policy;
mod state;
mod steps;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cucumber::gherkin::Step;
use cucumber::{given, then, when, writer::Stats, World};

use state::{Call, State};

/// Longer than any scenario may take; what the deadlines of the steps cannot see ends here.
const SCENARIO: Duration = Duration::from_secs(300);
/// Longer than any run may take. The janitors clean up after the exit.
const RUN: Duration = Duration::from_secs(3600);

/// What failed, told once more at the end: of a long run one often has only the last lines.
static FAILED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A scenario's world, shared with the blocking thread that runs its step.
#[derive(Debug, World)]
#[world(init = Self::new)]
struct Lab {
    state: Arc<Mutex<State>>,
    started: Instant,
}

impl Lab {
    fn new() -> Lab {
        Lab { state: Arc::default(), started: Instant::now() }
    }

    /// Finds the step in the table and runs it; a failure carries the ends of all logs.
    async fn perform(&mut self, step: &Step) {
        let call = Call::new(step);
        let state = self.state.clone();
        let late = self.started.elapsed() > SCENARIO;
        let done = tokio::task::spawn_blocking(move || {
            let mut state = state.lock().map_err(|e| e.to_string())?;
            let result =
                if late { Err("the scenario takes too long".into()) } else { steps::run(&mut state, &call) };
            result.map_err(|error| {
                if let Some(cluster) = &mut state.cluster {
                    cluster.keep = true;
                }
                let report = state.cluster.as_ref().map(|cluster| cluster.report(40)).unwrap_or_default();
                format!("{error}\n{}\n{report}", state.seen())
            })
        });
        if let Err(text) = done.await.unwrap_or_else(|e| Err(e.to_string())) {
            if let Ok(mut failed) = FAILED.lock() {
                let beginning: String = text.chars().take(1500).collect();
                failed.push(format!("{}{}\n{beginning}", step.keyword, step.value));
            }
            panic!("{text}");
        }
    }
}

#[given(regex = "^.*$")]
#[when(regex = "^.*$")]
#[then(regex = "^.*$")]
async fn any(lab: &mut Lab, step: &Step) {
    lab.perform(step).await;
}

#[tokio::main]
async fn main() {
    std::thread::spawn(|| {
        std::thread::sleep(RUN);
        eprintln!("the run takes too long");
        std::process::exit(3);
    });
    let features = concat!(env!("CARGO_MANIFEST_DIR"), "/features");
    if let Err(error) = steps::check_features(features) {
        eprintln!("{error}");
        std::process::exit(2);
    }
    let writer = Lab::cucumber()
        .max_concurrent_scenarios(2)
        .after(|_, _, scenario, _, lab| {
            let name = scenario.name.clone();
            Box::pin(async move {
                let Some(lab) = lab else { return };
                let (state, took) = (std::mem::take(&mut lab.state), lab.started.elapsed());
                // The last reference goes in a thread that may block: ending a cluster takes a moment.
                let _ = tokio::task::spawn_blocking(move || drop(state)).await;
                println!("  ({:.1} s: {name})", took.as_secs_f32());
            })
        })
        .fail_on_skipped()
        // Taken unless the command line has --tags or --name.
        .filter_run(features, |_, _, scenario| {
            let has = |wanted: &str| scenario.tags.iter().any(|tag| tag == wanted);
            has("ci") && (state::fleet() == "ours" || !has("ours")) && steps::has_programs(scenario)
        })
        .await;
    if writer.execution_has_failed() {
        let failed = FAILED.lock().map(|failed| failed.join("\n\n")).unwrap_or_default();
        eprintln!("what failed:\n{failed}");
        std::process::exit(101);
    }
}
