//! `compat-diff [--full] [--states] [--from N] [--to N] [--areas A,B] [--answers DIR]
//! [--pg 13|15|17|18|19]`: the same probes to a cluster of ours and one of the reference in the same states, and the table of
//! what differs. Exit code 1 on a difference that
//! `allow.tsv` does not name, 2 when a cluster could not be brought into a state. `--states` leaves out what does not
//! depend on a state: help pages and configurations. `--full` visits all states; `--from` goes through those before the
//! N-th (counted from 0) without asking, `--to` ends after it. `--areas` asks these alone. `--answers` writes
//! both answers to each probe that differs into a directory, as a whole.

use std::path::PathBuf;
use std::process::ExitCode;

use compat_tests::diff::allow::AllowList;
use compat_tests::diff::states::STATES;
use compat_tests::diff::table::Table;
use compat_tests::diff::{cli, probes, Pair};
use compat_tests::lab::Result;
use compat_tests::program;

/// Compares what a cluster of ours and one of the reference answer in the same states.
#[derive(clap::Parser)]
struct Args {
    /// Visit all states, and ask everything.
    #[arg(long)]
    full: bool,
    /// Leave out what does not depend on a state.
    #[arg(long = "states")]
    states_only: bool,
    /// Go through the states before this one (from 0) without asking.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// End after this state.
    #[arg(long, default_value_t = STATES.len())]
    to: usize,
    /// Ask these areas alone, with commas between them.
    #[arg(long, value_delimiter = ',')]
    areas: Vec<String>,
    /// Write both answers to each probe that differs into this directory.
    #[arg(long)]
    answers: Option<PathBuf>,
    /// Version of PostgreSQL: 13, 15, 17, 18 or 19.
    #[arg(long, default_value_t = 15)]
    pg: u32,
}

fn main() -> ExitCode {
    let result = run(&clap::Parser::parse()).map(|table| {
        print!("{table}");
        usize::from(!table.is_clean())
    });
    program::ended("compat-diff", "table with differences", result)
}

/// Visits the states; what was found before a state that cannot be reached is printed as well.
fn run(args: &Args) -> Result<Table> {
    let Args { full, states_only, from, to, areas, answers, pg } = args;
    let allow = AllowList::of_the_tree()?;
    eprintln!("compat-diff: bringing up two clusters on PostgreSQL {pg}");
    let mut pair = Pair::new(*pg)?;
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
        questions.retain(|probe| areas.is_empty() || areas.iter().any(|area| area == probe.area));
        let before = table.differences().len();
        pair.compare(state.name, &questions, &allow, &mut table);
        for (index, difference) in table.differences().iter().enumerate().skip(before) {
            eprint!("{difference}");
            if let Some(directory) = answers {
                difference.write(directory, index)?;
            }
        }
    }
    Ok(table)
}
