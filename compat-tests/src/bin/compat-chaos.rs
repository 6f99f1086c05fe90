//! `compat-chaos [--minutes N] [--seed S] [--fleet ours|mixed|reference] [--mode async|sync|quorum]
//! [--pg 15|17|18] [--guardian on|off] [--only KIND,KIND] [--keep] [--may-skip]`: a real cluster of three members, PostgreSQL and three
//! etcd, each with a network and a disk of its own, under faults that the seed decides.
//!
//! Exit code 0: no invariant broken by ours; 1: one was, and the logs were kept; 2: could not run;
//! 0 with `--may-skip` where the machine does not permit namespaces and we are not root.

use std::process::ExitCode;

use compat_tests::chaos::faults::KINDS;
use compat_tests::chaos::run::{permitted, run, FleetKind, Options};
use compat_tests::lab::Result;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let options = match options(&arguments) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("compat-chaos: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = permitted() {
        eprintln!("compat-chaos: {error}");
        let skip = arguments.iter().any(|a| a == "--may-skip") && !nix::unistd::Uid::effective().is_root();
        if skip {
            eprintln!("compat-chaos: SKIPPED, nothing was tested");
        }
        return ExitCode::from(if skip { 0 } else { 2 });
    }
    println!("compat-chaos {}", arguments.join(" "));
    match run(options) {
        Ok(report) => {
            print!("{report}");
            ExitCode::from(u8::from(!report.is_clean()))
        }
        Err(error) => {
            eprintln!("compat-chaos: {error}");
            ExitCode::from(2)
        }
    }
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        minutes: 2.0,
        seed: 1,
        fleet: FleetKind::Ours,
        sync: "false",
        only: Vec::new(),
        keep: false,
        version: 15,
        guardian: true,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--keep" => options.keep = true,
            "--may-skip" => {}
            _ => {
                let value = rest.next().ok_or_else(|| format!("{argument} needs a value"))?;
                set(&mut options, argument, value)?;
            }
        }
    }
    Ok(options)
}

fn set(options: &mut Options, name: &str, value: &str) -> Result<()> {
    match (name, value) {
        ("--minutes", _) => options.minutes = value.parse()?,
        ("--seed", _) => options.seed = value.parse()?,
        ("--pg", _) => options.version = value.parse()?,
        ("--guardian", "on") => options.guardian = true,
        ("--guardian", "off") => options.guardian = false,
        ("--fleet", "ours") => options.fleet = FleetKind::Ours,
        ("--fleet", "mixed") => options.fleet = FleetKind::Mixed,
        ("--fleet", "reference") => options.fleet = FleetKind::Reference,
        ("--mode", "async") => options.sync = "false",
        ("--mode", "sync") => options.sync = "true",
        ("--mode", "quorum") => options.sync = "quorum",
        ("--only", _) => {
            options.only = value.split(',').map(str::to_owned).collect();
            if let Some(unknown) = options.only.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
                return Err(format!("no fault {unknown}; there are {}", KINDS.join(", ")).into());
            }
        }
        _ => return Err(format!("what is {name} {value}?").into()),
    }
    Ok(())
}
