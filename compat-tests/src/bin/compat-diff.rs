//! `compat-diff [--full] [--states] [--from N] [--to N] [--areas A,B] [--answers DIR]
//! [--pg 15|17|18]`: the same probes to a cluster of ours and one of the reference in the same states, and the table of
//! what differs. Exit code 1 on a difference that
//! `allow.tsv` does not name, 2 when a cluster could not be brought into a state. `--states` leaves out what does not
//! depend on a state: help pages and configurations. `--full` visits all states; `--from` goes through those before the
//! N-th (counted from 0) without asking, `--to` ends after it. `--areas` asks these alone. `--answers` writes
//! both answers to each probe that differs into a folder, as a whole.

use std::path::PathBuf;
use std::process::ExitCode;

use compat_tests::diff::allow::AllowList;
use compat_tests::diff::states::STATES;
use compat_tests::diff::table::Table;
use compat_tests::diff::{cli, probes, Pair};
use compat_tests::lab::{host, Result};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    let value = |option: &str| {
        arguments.iter().position(|argument| argument == option).and_then(|at| arguments.get(at + 1))
    };
    let number = |option: &str, usual: usize| value(option).map_or(Ok(usual), |text| text.parse());
    let (Ok(from), Ok(to), Ok(version)) =
        (number("--from", 0), number("--to", STATES.len()), number("--pg", 15))
    else {
        eprintln!("compat-diff: --from, --to and --pg want a number");
        return ExitCode::from(2);
    };
    let asked = Asked {
        full: has("--full"),
        states_only: has("--states"),
        from,
        to,
        areas: value("--areas").map(|text| text.split(',').collect()).unwrap_or_default(),
        answers: value("--answers").map(PathBuf::from),
    };
    match run(&asked, u32::try_from(version).unwrap_or(15)) {
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

/// What a run asks.
struct Asked<'a> {
    full: bool,
    states_only: bool,
    from: usize,
    to: usize,
    /// Empty: all.
    areas: Vec<&'a str>,
    answers: Option<PathBuf>,
}

/// Visits the states; what was found before a state that cannot be reached is printed as well.
fn run(asked: &Asked<'_>, version: u32) -> Result<Table> {
    let Asked { full, states_only, from, to, areas, answers } = asked;
    let allow = AllowList::read(&host::repository().join("compat-tests/allow.tsv"))?;
    eprintln!("compat-diff: bringing up two clusters on PostgreSQL {version}");
    let mut pair = Pair::new(version)?;
    let mut table = Table::default();
    for (number, state) in STATES.iter().enumerate().filter(|(_, state)| *full || state.short) {
        if number > *to {
            break;
        }
        eprintln!("compat-diff: {number}: {}", state.name);
        if let Err(error) = pair.both(|side| side.enter(state)) {
            print!("{table}");
            let reports = pair.sides.iter().map(|side| side.lab.report(30)).collect::<Vec<_>>().join("\n");
            return Err(format!("{}: {error}\n{reports}", state.name).into());
        }
        if number < *from {
            continue;
        }
        let mut questions = probes::of_a_state(state.asks, *full);
        if number == 0 && !states_only {
            questions.extend(cli::probes(*full));
        }
        questions.retain(|probe| areas.is_empty() || areas.contains(&probe.area));
        let before = table.differences().len();
        pair.compare(state.name, &questions, &allow, &mut table);
        for (index, difference) in table.differences().iter().enumerate().skip(before) {
            eprint!("{difference}");
            if let Some(folder) = answers {
                difference.write(folder, index)?;
            }
        }
    }
    Ok(table)
}
