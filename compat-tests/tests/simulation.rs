//! Seeds of simulated clusters: no invariant may break, and planted defects must be found.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use compat_tests::sim::{run, Config, Planted};

/// `SIM_SEEDS=FROM..TO` runs other seeds than CI's.
fn seeds() -> std::ops::Range<u64> {
    let text = std::env::var("SIM_SEEDS").unwrap_or_else(|_| "0..400".into());
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

fn seeds_or(default: std::ops::Range<u64>) -> std::ops::Range<u64> {
    if std::env::var("SIM_SEEDS").is_ok() {
        seeds()
    } else {
        default
    }
}

fn check(config: &Config, seeds: std::ops::Range<u64>) {
    let mut hours = 0.0;
    let (mut cycles, mut promotions) = (0, 0);
    for seed in seeds.clone() {
        match run(seed, config) {
            Ok(world) => {
                hours += (config.faults_for as f64) / 3_600_000.0;
                cycles += world.cycles;
                promotions += world.promotions;
            }
            Err(failure) => panic!(
                "seed {seed} at {:.3} s: {}\nreplay: SIM_SEEDS={seed}..{} cargo test -p compat-tests --test \
                 simulation\n{}",
                failure.at as f64 / 1000.0,
                failure.what,
                seed + 1,
                failure.story.join("\n")
            ),
        }
    }
    println!(
        "{} seeds, {hours:.1} cluster-hours of faults, {cycles} cycles, {promotions} promotions",
        seeds.count()
    );
}

#[test]
fn three_members_survive_everything() {
    check(&Config::default(), seeds());
}

#[test]
fn five_members_with_short_timeouts() {
    let config =
        Config { members: 5, ttl: 20_000, loop_wait: 3_000, retry_timeout: 4_000, ..Config::default() };
    check(&config, seeds_or(0..100));
}

#[test]
fn one_member_alone() {
    check(&Config { members: 1, ..Config::default() }, 0..50);
}

#[test]
fn a_run_is_decided_by_its_seed() {
    let story = |seed| run(seed, &Config::default()).unwrap().story().to_vec();
    assert_eq!(story(7), story(7));
}

#[test]
fn planted_defects_are_found() {
    for planted in [Planted::NoDemotion, Planted::TakesLockBlindly, Planted::RenewsForever] {
        let config = Config { planted, ..Config::default() };
        let found = (0..200).find_map(|seed| run(seed, &config).err());
        let failure = found.unwrap_or_else(|| panic!("{planted:?} was not found in 200 seeds"));
        println!("{planted:?}: seed {}: {}", failure.seed, failure.what);
    }
}
