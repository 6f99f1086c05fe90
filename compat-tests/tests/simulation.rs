//! Seeds of simulated clusters: no invariant may break, and planted defects must be found.
//!
//! One seed, with its timeline and the shortest list of faults that still fails:
//! `SIM_PROFILE=quorum SIM_SEEDS=17..18 cargo test -p compat-tests --test simulation survive -- --nocapture`
//! A nightly run: `SIM_SEEDS=0..20000` (every profile gets them all).
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use compat_tests::sim::{minimise, run, Config, Coverage, Failure, Plan, Planted};

/// Seeds of every profile in CI.
const SEEDS: u64 = 14;
/// Within so many seeds a planted defect must be found.
const PLANTED_SEEDS: u64 = 150;

#[derive(Default)]
struct Sum {
    seeds: u64,
    hours: f64,
    cycles: u64,
    promotions: u64,
    acknowledged: u64,
    namesakes: u64,
    coverage: Coverage,
}

fn report(profile: &str, config: &Config, failure: &Failure) -> String {
    let seed = failure.seed;
    let plan = Plan::of(seed, &config.for_seed(seed));
    let (shortest, shown) = minimise(seed, config, &plan).unwrap_or((plan.clone(), failure.clone()));
    let faults: Vec<String> = shortest
        .faults
        .iter()
        .map(|(at, fault)| format!("  {:>9.3} {fault:?}", *at as f64 / 1000.0))
        .collect();
    format!(
        "profile {profile}, seed {seed} at {:.3} s: invariant {}: {}\nreplay: SIM_PROFILE={profile} \
         SIM_SEEDS={seed}..{} cargo test -p compat-tests --test simulation survive -- --nocapture\n{}\n\
         shortest plan ({} of {} faults), at {:.3} s: {}\n{}",
        failure.at as f64 / 1000.0,
        failure.invariant,
        failure.what,
        seed + 1,
        shown.story.join("\n"),
        shortest.faults.len(),
        plan.faults.len(),
        shown.at as f64 / 1000.0,
        shown.what,
        faults.join("\n")
    )
}

fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("SIM_SEEDS").unwrap_or_else(|_| format!("0..{SEEDS}"));
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Runs `work` for each item on two threads.
fn on_two_threads<T: Sync>(items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

#[test]
fn clusters_survive_everything() {
    let wanted = std::env::var("SIM_PROFILE").ok();
    let mut work = Vec::new();
    for (name, config) in Config::profiles() {
        if wanted.as_deref().is_none_or(|w| w == name) {
            work.extend(seeds().map(|seed| (name, config.clone(), seed)));
        }
    }
    let sum = Mutex::new(Sum::default());
    let failures = Mutex::new(Vec::new());
    on_two_threads(&work, |(name, config, seed)| match run(*seed, config) {
        Ok(world) => {
            let mut sum = sum.lock().unwrap();
            sum.seeds += 1;
            sum.hours += config.faults_for as f64 / 3_600_000.0;
            sum.cycles += world.cycles;
            sum.promotions += world.promotions;
            sum.acknowledged += world.acknowledged();
            sum.namesakes += world.namesakes;
            sum.coverage.add(&world.coverage);
        }
        Err(failure) => {
            let mut failures = failures.lock().unwrap();
            println!("{name} {seed}: invariant {} at {}: {}", failure.invariant, failure.at, failure.what);
            failures.push((*name, config.clone(), failure));
        }
    });
    let sum = sum.into_inner().unwrap();
    println!(
        "{} seeds, {:.1} cluster-hours of faults, {} cycles, {} promotions, {} acknowledgements; known: {} times \
         two timelines of one number",
        sum.seeds, sum.hours, sum.cycles, sum.promotions, sum.acknowledged, sum.namesakes
    );
    for (row, count) in sum.coverage.rows() {
        println!("{count:>9}  {row}");
    }
    println!("lines without a row: {:#?}", sum.coverage.unknown());
    let failures = failures.into_inner().unwrap();
    if let Some((name, config, failure)) = failures.first() {
        panic!("{} failures; the first: {}", failures.len(), report(name, config, failure));
    }
}

#[test]
fn a_run_is_decided_by_its_seed() {
    let story = |seed| run(seed, &Config::default()).unwrap().story().to_vec();
    assert_eq!(story(7), story(7));
}

#[test]
fn planted_defects_are_found() {
    let table = Mutex::new(Vec::new());
    let wanted = std::env::var("SIM_PLANTED").ok();
    let all: Vec<Planted> =
        Planted::ALL.into_iter().filter(|p| wanted.as_ref().is_none_or(|w| *w == format!("{p:?}"))).collect();
    on_two_threads(&all, |planted| {
        let found = (0..PLANTED_SEEDS).find_map(|seed| run(seed, &planted.config()).err());
        if let Some(failure) = &found {
            // It is the defect that was seen: without it the same seed passes.
            let healthy = Config { planted: Planted::Nothing, ..planted.config() };
            let control = run(failure.seed, &healthy).err();
            assert!(control.is_none(), "{planted:?}: seed {} fails without it: {control:?}", failure.seed);
        }
        table.lock().unwrap().push((*planted, found));
    });
    let mut table = table.into_inner().unwrap();
    table.sort_by_key(|(planted, _)| Planted::ALL.iter().position(|p| p == planted));
    let mut missed = Vec::new();
    println!("| defect | invariant | seeds needed | what was seen |\n|---|---|---|---|");
    for (planted, found) in table {
        match found {
            Some(f) => println!("| {planted:?} | {} | {} | {} |", f.invariant, f.seed + 1, f.what),
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found in {PLANTED_SEEDS} seeds: {missed:?}");
}
