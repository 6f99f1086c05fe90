//! `compat-orphan`: the leader's daemon is killed (SIGKILL) or stopped (SIGSTOP), and nothing else of its
//! node, with us and with the reference, in one run, ttl 20. A client of each PostgreSQL writes all the time:
//! for how long do two accept commits? Also what a guardian costs in memory. Seconds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use compat_tests::lab::writer::Writer;
use compat_tests::lab::{wait_until, Cluster, Kind, Options, Result};
use compat_tests::program;
use nix::sys::signal::Signal;

/// How long anything here may take.
const LONG: Duration = Duration::from_secs(60);
/// So long after the other node has been promoted we go on looking.
const AFTER: Duration = Duration::from_secs(30);

/// What a run showed, from the blow on.
struct Seen {
    /// The first commit of the new primary.
    new_from: Duration,
    /// The last commit of the old one.
    old_until: Duration,
    /// The end of the observation.
    end: Duration,
}

/// Two writable primaries after the death of a daemon: for how long?
#[derive(clap::Parser)]
struct Args {}

fn main() -> ExitCode {
    let Args {} = clap::Parser::parse();
    program::ended("compat-orphan", "", run().map(|()| 0))
}

fn run() -> Result<()> {
    println!("| what | old primary accepts commits until | another one does from | two writable primaries |");
    println!("|---|---:|---:|---:|");
    let mut memory = String::new();
    for kind in [Kind::Ours, Kind::Reference] {
        for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
            let mut lab = Cluster::new(Options::default())?;
            lab.bring_up(&[kind, kind])?;
            if memory.is_empty() {
                memory = cost(&lab, "node0")?;
            }
            let seen = strike(&mut lab, signal).map_err(|error| format!("{error}\n{}", lab.report(40)))?;
            let both = match seen.old_until.saturating_sub(seen.new_from) {
                Duration::ZERO => "0".to_owned(),
                _ if seen.old_until + Duration::from_secs(2) > seen.end => {
                    format!("{:.1}, to the end of the observation", (seen.end - seen.new_from).as_secs_f32())
                }
                both => format!("{:.1}", both.as_secs_f32()),
            };
            println!(
                "| {kind:?}, {signal} | {:.1} | {:.1} | {both} |",
                seen.old_until.as_secs_f32(),
                seen.new_from.as_secs_f32()
            );
        }
    }
    println!("\n{memory}");
    Ok(())
}

/// Strikes the leader's daemon under two writers.
fn strike(lab: &mut Cluster, signal: Signal) -> Result<Seen> {
    let since = Instant::now();
    lab.member("node0")?.sql("CREATE TABLE IF NOT EXISTS journal (n bigint PRIMARY KEY)")?;
    let mut old = Writer::start_on(lab, &["node0"], 1, since)?;
    let mut new = Writer::start_on(lab, &["node1"], 1_000_000_000, since)?;
    old.wait_rows(50, LONG)?;
    let blow = since.elapsed();
    lab.member_mut("node0")?.signal_daemon(signal)?;
    new.wait_rows(1, LONG)?;
    std::thread::sleep(AFTER);
    let end = since.elapsed() - blow;
    let from_blow = |at: Option<&Duration>| at.map(|at| at.saturating_sub(blow)).ok_or("no commits");
    let (old, new) = (old.finish(), new.finish());
    Ok(Seen { new_from: from_blow(new.times.first())?, old_until: from_blow(old.times.last())?, end })
}

/// What the kernel says about the guardian of a node.
fn cost(lab: &Cluster, name: &str) -> Result<String> {
    let guardian = wait_until("a guardian", LONG, || {
        lab.member(name)?.guardians().first().copied().ok_or_else(|| "none".into())
    })?;
    let text = std::fs::read_to_string(format!("/proc/{guardian}/smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default()
    };
    let private = field("Private_Clean:") + field("Private_Dirty:");
    Ok(format!(
        "guardian: private {private} kB, of it its own (anonymous) {} kB; PSS {} kB (text shared with the daemons)",
        field("Anonymous:"),
        field("Pss:")
    ))
}
