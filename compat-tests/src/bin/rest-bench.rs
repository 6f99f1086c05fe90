//! `rest-bench [SECONDS]`: requests per second of the REST API and how long they take, ours and the
//! reference's in one run on the same machine, with the processor's time that a request costs the daemon, and
//! its memory. The clients share the machine with both; what they leave to a server that does nothing is
//! measured too, for with one connection nobody can be faster. Fails when a target is missed: twenty times the
//! requests, a tenth of the p99, 6 MB of memory.

use std::process::ExitCode;
use std::time::Duration;

use compat_tests::diff::{Pair, Side};
use compat_tests::lab::Result;
use compat_tests::program;
use compat_tests::rest::load::{self, Measured};
use compat_tests::rest::{cpu_time, pss};

const PATHS: [&str; 5] = ["/primary", "/patroni", "/liveness", "/metrics", "/cluster"];
const CONNECTIONS: [usize; 3] = [1, 32, 256];
/// Times the reference's requests per second.
const THROUGHPUT: f64 = 20.0;
/// Share of the reference's p99.
const P99: f64 = 0.1;
/// An answer of the usual length.
const SIMPLEST: &[u8] = &{
    let mut answer = [b'x'; 600];
    let head = b"HTTP/1.0 200 OK\r\n\r\n";
    let mut at = 0;
    while at < head.len() {
        answer[at] = head[at];
        at += 1;
    }
    answer
};
/// KiB.
const MEMORY: u64 = 6 * 1024;

/// Requests per second of the REST API, ours beside the reference.
#[derive(clap::Parser)]
struct Asked {
    /// Length of each measurement, seconds.
    #[arg(default_value_t = 3.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let asked = <Asked as clap::Parser>::parse();
    program::ended("rest-bench", "targets missed", run(Duration::from_secs_f64(asked.seconds)))
}

fn run(period: Duration) -> Result<usize> {
    let mut pair = Pair::new(15)?;
    let mut missed = 0;
    println!("idle: {}", memory(&mut pair)?.map(|kib| format!("{kib} KiB")).join(", the reference "));
    let simplest = load::simplest_server(SIMPLEST)?;
    for connections in CONNECTIONS {
        let most = load::run(simplest, "/", connections, period / 3)?;
        println!(
            "a server that only reads and writes, {connections} connections: {:.0} requests/s, p50 {} µs",
            most.rate,
            most.median.as_micros()
        );
    }
    println!(
        "| path | connections | requests/s | the reference | ratio | p50 µs | the reference | p99 µs | \
         the reference | ratio | CPU µs a request | the reference | ratio | failed |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for path in PATHS {
        for connections in CONNECTIONS {
            let mut measure = |index: usize| measure(&mut pair.sides[index], path, connections, period);
            let (ours, theirs) = (measure(0)?, measure(1)?);
            missed += row(path, connections, &ours, &theirs);
        }
    }
    let [ours, theirs] = memory(&mut pair)?;
    let verdict = if ours < MEMORY { "" } else { " (missed)" };
    missed += usize::from(ours >= MEMORY);
    println!("memory after the load (PSS): {ours} KiB{verdict}, the reference {theirs} KiB");
    Ok(missed)
}

/// A run, and the processor's time that each of its answers cost the daemon, in µs.
fn measure(side: &mut Side, path: &str, connections: usize, period: Duration) -> Result<(Measured, f64)> {
    let member = side.lab.member_mut("node0")?;
    let daemon = member.daemon().ok_or("no daemon")?;
    load::run(member.rest, path, connections, period / 10)?;
    let before = cpu_time(daemon)?;
    let run = load::run(member.rest, path, connections, period)?;
    let cost = (cpu_time(daemon)? - before).as_secs_f64() * 1e6 / run.answers as f64;
    Ok((run, cost))
}

/// Prints a row; gives the number of targets missed.
fn row(path: &str, connections: usize, ours: &(Measured, f64), theirs: &(Measured, f64)) -> usize {
    let ((ours, our_cost), (theirs, their_cost)) = (ours, theirs);
    let rate = ours.rate / theirs.rate;
    let p99 = ours.p99.as_secs_f64() / theirs.p99.as_secs_f64();
    let mark = |met: bool| if met { "" } else { " (missed)" };
    let (fast, quick, whole) = (rate >= THROUGHPUT, p99 <= P99, ours.failed == 0);
    println!(
        "| {path} | {connections} | {:.0} | {:.0} | {rate:.1}{} | {} | {} | {} | {} | {p99:.3}{} | \
         {our_cost:.1} | {their_cost:.0} | {:.1} | {}, the reference {} |",
        ours.rate,
        theirs.rate,
        mark(fast),
        ours.median.as_micros(),
        theirs.median.as_micros(),
        ours.p99.as_micros(),
        theirs.p99.as_micros(),
        mark(quick),
        their_cost / our_cost,
        ours.failed,
        theirs.failed,
    );
    [fast, quick, whole].into_iter().filter(|met| !met).count()
}

/// PSS of the leaders' daemons in KiB.
fn memory(pair: &mut Pair) -> Result<[u64; 2]> {
    let mut found = [0; 2];
    for (side, kib) in pair.sides.iter_mut().zip(&mut found) {
        *kib = pss(side.lab.member_mut("node0")?.daemon().ok_or("no daemon")?)?;
    }
    Ok(found)
}
