//! `compat-diff [--full] [--states] [--pg 15|17|18]`: the same probes to a cluster of ours and one of the reference
//! in the same states, and the table of what differs. Exit code 1 on a difference that `allow.tsv` does
//! not name, 2 when a cluster could not be brought into a state. `--states` leaves out what does not depend on a
//! state: help pages and configurations.

use std::process::ExitCode;

use compat_tests::diff::allow::AllowList;
use compat_tests::diff::states::STATES;
use compat_tests::diff::table::Table;
use compat_tests::diff::{cli, probes, Pair};
use compat_tests::lab::{host, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let (full, states) = (has("--full"), has("--states"));
    let version =
        arguments.iter().position(|argument| argument == "--pg").and_then(|at| arguments.get(at + 1));
    let version = version.and_then(|version| version.parse().ok()).unwrap_or(15);
    match run(full, states, version) {
        Ok(table) => {
            print!("{table}");
            ExitCode::from(u8::from(!table.is_clean()))
        }
        Err(error) => {
            eprintln!("compat-diff: {error}");
            ExitCode::from(2)
        }
    }
}

/// Visits the states; what was found before a state that cannot be reached is printed as well.
fn run(full: bool, states_only: bool, version: u32) -> Result<Table> {
    let allow = AllowList::read(&host::repository().join("compat-tests/allow.tsv"))?;
    eprintln!("compat-diff: bringing up two clusters on PostgreSQL {version}");
    let mut pair = Pair::new(version)?;
    let mut table = Table::default();
    for state in STATES.iter().filter(|state| full || state.short) {
        eprintln!("compat-diff: {}", state.name);
        if let Err(error) = pair.both(|side| side.enter(state)) {
            print!("{table}");
            let reports = pair.sides.iter().map(|side| side.lab.report(30)).collect::<Vec<_>>().join("\n");
            return Err(format!("{}: {error}\n{reports}", state.name).into());
        }
        pair.compare(state.name, &probes::of_a_state(state.asks, full), &allow, &mut table);
        if state.name == STATES[0].name && !states_only {
            pair.compare(state.name, &cli::probes(full), &allow, &mut table);
        }
    }
    Ok(table)
}
