//! `compat-record [--pg 13|15|17|18|19] [--areas A,B] [--states N]`: drives a cluster of the reference through the states
//! that the differential compares in, and writes its normalised answers to `fixtures/recorded/pg<version>`.
//! `--areas` records these alone (all: REST, patronictl, DCS, files, SQL, log, help), `--states` only the first N.
//! Run it through `fixtures/record`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use compat_tests::diff::states::STATES;
use compat_tests::diff::{cli, probes, recorded, Probe, Side};
use compat_tests::lab::{Kind, Result};
use compat_tests::program;

/// Records what the reference answers in every state.
#[derive(clap::Parser)]
struct Args {
    /// Version of PostgreSQL: 13, 15, 17, 18 or 19.
    #[arg(long, default_value_t = 15)]
    pg: u32,
    /// These areas alone, with commas between them: REST, patronictl, DCS, files, SQL, log, help.
    #[arg(long, value_delimiter = ',')]
    areas: Vec<String>,
    /// The first so many states alone.
    #[arg(long, default_value_t = STATES.len())]
    states: usize,
}

fn main() -> ExitCode {
    program::ended("compat-record", "", run(&clap::Parser::parse()).map(|()| 0))
}

fn run(args: &Args) -> Result<()> {
    let version = args.pg;
    eprintln!("compat-record: bringing up a cluster of the reference on PostgreSQL {version}");
    let mut side = Side::new(Kind::Reference, version)?;
    let wanted = |probe: &Probe| args.areas.is_empty() || args.areas.iter().any(|area| area == probe.area);
    let mut before: BTreeMap<&str, recorded::Answers> = BTreeMap::new();
    for (number, state) in STATES.iter().enumerate().take(args.states) {
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
