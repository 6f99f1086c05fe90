//! `compat-record [--pg 15|17|18] [--areas A,B] [--states N]`: drives a cluster of the reference through the states
//! that the differential compares in, and writes its normalised answers to `fixtures/recorded/pg<version>`.
//! `--areas` records these alone (all: REST, patronictl, DCS, files, SQL, log, help), `--states` only the first N.
//! Run it through `fixtures/record`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use compat_tests::diff::states::STATES;
use compat_tests::diff::{cli, probes, recorded, Probe, Side};
use compat_tests::lab::{Kind, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |option: &str| {
        arguments.iter().position(|argument| argument == option).and_then(|at| arguments.get(at + 1))
    };
    let version = value("--pg").and_then(|text| text.parse().ok()).unwrap_or(15);
    let areas: Vec<&str> = value("--areas").map(|text| text.split(',').collect()).unwrap_or_default();
    let count = value("--states").and_then(|text| text.parse().ok()).unwrap_or(STATES.len());
    match run(version, &areas, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compat-record: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(version: u32, areas: &[&str], count: usize) -> Result<()> {
    eprintln!("compat-record: bringing up a cluster of the reference on PostgreSQL {version}");
    let mut side = Side::new(Kind::Reference, version)?;
    let wanted = |probe: &Probe| areas.is_empty() || areas.contains(&probe.area);
    let mut before: BTreeMap<&str, recorded::Answers> = BTreeMap::new();
    for (number, state) in STATES.iter().enumerate().take(count) {
        eprintln!("compat-record: {}", state.name);
        side.enter(state).map_err(|e| format!("{}: {e}\n{}", state.name, side.lab.report(30)))?;
        let mut questions: Vec<Probe> =
            probes::of_a_state(state.asks, true).into_iter().filter(wanted).collect();
        if number == 0 {
            questions.extend(cli::help(true).into_iter().filter(wanted));
        }
        let answers = recorded::settled(&side, &questions)?;
        for area in recorded::areas(&questions) {
            let name = recorded::name(number, state.name, area);
            let now = recorded::of_area(&questions, &answers, area);
            let last = before.entry(area).or_default();
            recorded::write(version, &name, state.name, &now, last)?;
            *last = now;
        }
    }
    Ok(())
}
