//! Seeds of simulated clusters: no invariant may break, and planted defects must be found.
//!
//! One seed, with its timeline and the shortest list of faults that still fails:
//! `SIM_PROFILE=quorum SIM_SEEDS=17..18 cargo test -p compat-tests --test simulation survive -- --nocapture`
//! A nightly run: `SIM_SEEDS=0..20000` (every profile gets them all).
//! A change that is meant to change no decision: `SIM_STORIES=check SIM_SEEDS=0..24`, which compares every run with
//! its recorded fingerprint; `SIM_STORIES=write` records them anew.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use compat_tests::sim::{minimise, run, Config, Coverage, Failure, Plan, Planted};

/// Seeds of every profile in CI.
const SEEDS: u64 = 14;
/// And of those in which defects were seeded that it took more to find.
const MANY: u64 = 200;
const MANY_PROFILES: [&str; 3] = ["failsafe", "quorum", "sync-two"];
/// Within so many seeds a planted defect must be found.
const PLANTED_SEEDS: u64 = 150;

/// Fingerprints of the stories, a line a profile: seeds 0, 1, ...
const STORIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories.txt");

/// Fingerprints by profile and seed.
type Stories = BTreeMap<(String, u64), String>;

fn recorded_stories() -> Stories {
    let text = std::fs::read_to_string(STORIES).unwrap_or_default();
    let rows = text.lines().filter_map(|line| line.split_once(": "));
    rows.flat_map(|(profile, hashes)| {
        hashes.split(' ').zip(0..).map(move |(hash, seed)| ((profile.to_owned(), seed), hash.to_owned()))
    })
    .collect()
}

/// Compares the stories of this run with the recorded ones; with `SIM_STORIES=write` they are the recorded ones.
fn check_stories(told: &Stories) {
    let asked = std::env::var("SIM_STORIES").unwrap_or_default();
    let recorded = recorded_stories();
    if asked == "write" {
        let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for ((profile, _), hash) in recorded.into_iter().chain(told.clone()).collect::<Stories>() {
            rows.entry(profile).or_default().push(hash);
        }
        let text: String =
            rows.iter().map(|(profile, row)| format!("{profile}: {}\n", row.join(" "))).collect();
        return std::fs::write(STORIES, text).unwrap();
    }
    let changed: Vec<String> = told
        .iter()
        .filter(|(run, hash)| recorded.get(run).is_some_and(|known| known != *hash))
        .map(|((profile, seed), _)| format!("{profile} {seed}"))
        .collect();
    println!("{} stories, {} of them not as recorded", told.len(), changed.len());
    assert!(asked != "check" || !recorded.is_empty(), "none is recorded: SIM_STORIES=write SIM_SEEDS=0..24");
    assert!(asked != "check" || changed.is_empty(), "these stories are others: {changed:?}");
}

#[derive(Default)]
struct Sum {
    stories: Stories,
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
    // The story of the run itself, where the shortest one may be another.
    let shorten = std::env::var("SIM_WHOLE").is_err();
    let shorter = shorten.then(|| minimise(seed, config, &plan)).flatten();
    let (shortest, shown) = shorter.unwrap_or((plan.clone(), failure.clone()));
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

fn seeds(profile: &str) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("SIM_SEEDS") else {
        return 0..if MANY_PROFILES.contains(&profile) { MANY } else { SEEDS };
    };
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
            work.extend(seeds(name).map(|seed| (name, config.clone(), seed)));
        }
    }
    let sum = Mutex::new(Sum::default());
    let failures = Mutex::new(Vec::new());
    on_two_threads(&work, |(name, config, seed)| match run(*seed, config) {
        Ok(world) => {
            let mut sum = sum.lock().unwrap();
            sum.stories.insert(((*name).to_owned(), *seed), format!("{:016x}", world.fingerprint()));
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
    check_stories(&sum.stories);
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
