//! `rest-bench [SECONDS]`: requests per second of the REST API and how long they take, ours and the
//! reference's in one run on the same machine, with the processor's time that a request costs the daemon, and
//! its memory; for clients that want their connections kept open, and for those that make a new one for each request.
//! The clients share the machine with both; what they leave to a server that does nothing but read and write is
//! measured too, for nobody can be much faster. Fails when a target is missed: twenty times the requests, a tenth of the
//! p99, 6 MB of memory. One that the server that does nothing misses as well is shown and not counted.

use std::process::ExitCode;
use std::time::Duration;

use compat_tests::diff::{Pair, Side};
use compat_tests::lab::Result;
use compat_tests::program;
use compat_tests::rest::load::{self, Clients, Measured};
use compat_tests::rest::{cpu_time, pss};

const PATHS: [&str; 5] = ["/primary", "/patroni", "/liveness", "/metrics", "/cluster"];
const CONNECTIONS: [usize; 3] = [1, 32, 256];
const CLIENTS: [Clients; 2] = [Clients::Kept, Clients::New];
/// Times the reference's requests per second.
const THROUGHPUT: f64 = 20.0;
/// Share of the reference's p99.
const P99: f64 = 0.1;
/// KiB.
const MEMORY: u64 = 6 * 1024;

/// Requests per second of the REST API, ours beside the reference.
#[derive(clap::Parser)]
struct Args {
    /// Length of each measurement, seconds.
    #[arg(default_value_t = 3.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    program::ended("rest-bench", "targets missed", run(Duration::from_secs_f64(args.seconds)))
}

fn run(period: Duration) -> Result<usize> {
    let mut pair = Pair::new(15)?;
    let mut missed = 0;
    println!("idle: {}", memory(&mut pair)?.map(|kib| format!("{kib} KiB")).join(", the reference "));
    let mut simple = Vec::new();
    for clients in CLIENTS {
        let simplest = load::simplest_server(simplest_answer(clients))?;
        for connections in CONNECTIONS {
            let most = load::run(clients, simplest, "/", connections, period / 3)?;
            println!(
                "a server that only reads and writes, {connections} connections, {}: {:.0} requests/s, p50 {} µs",
                name(clients),
                most.rate,
                most.median.as_micros()
            );
            simple.push(((clients, connections), most));
        }
    }
    println!(
        "| path | connections | | requests/s | the reference | ratio | p50 µs | the reference | p99 µs | \
         the reference | ratio | CPU µs a request | the reference | ratio | failed |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|");
    for (clients, path) in CLIENTS.iter().flat_map(|clients| PATHS.map(|path| (*clients, path))) {
        for connections in CONNECTIONS {
            let load = (clients, path, connections);
            let mut measure = |index: usize| measure(&mut pair.sides[index], load, period);
            let (ours, theirs) = (measure(0)?, measure(1)?);
            let most = simple.iter().find(|(of, _)| *of == (clients, connections)).map(|(_, most)| most);
            missed += row(load, &ours, &theirs, most.ok_or("not measured")?);
        }
    }
    let [ours, theirs] = memory(&mut pair)?;
    let verdict = if ours < MEMORY { "" } else { " (missed)" };
    missed += usize::from(ours >= MEMORY);
    println!("memory after the load (PSS): {ours} KiB{verdict}, the reference {theirs} KiB");
    Ok(missed)
}

/// Who asks for what, how many of them.
type Load = (Clients, &'static str, usize);

fn name(clients: Clients) -> &'static str {
    match clients {
        Clients::New => "new each time",
        Clients::Kept => "kept open",
    }
}

/// An answer of the usual length.
fn simplest_answer(clients: Clients) -> Vec<u8> {
    let body = "x".repeat(500);
    let kept = format!("Content-Length: {}\r\nConnection: keep-alive\r\n", body.len());
    let headers = if clients == Clients::Kept { kept.as_str() } else { "" };
    format!("HTTP/1.0 200 OK\r\n{headers}\r\n{body}").into_bytes()
}

/// A run, and the processor's time that each of its answers cost the daemon, in µs.
fn measure(side: &mut Side, load: Load, period: Duration) -> Result<(Measured, f64)> {
    let (clients, path, connections) = load;
    let member = side.lab.member_mut("node0")?;
    let daemon = member.daemon().ok_or("no daemon")?;
    load::run(clients, member.rest, path, connections, period / 10)?;
    let before = cpu_time(daemon)?;
    let run = load::run(clients, member.rest, path, connections, period)?;
    let cost = (cpu_time(daemon)? - before).as_secs_f64() * 1e6 / run.answers as f64;
    Ok((run, cost))
}

/// Prints a row; gives the number of targets missed. `most`: a server that does nothing.
fn row(load: Load, ours: &(Measured, f64), theirs: &(Measured, f64), most: &Measured) -> usize {
    let (clients, path, connections) = load;
    let ((ours, our_cost), (theirs, their_cost)) = (ours, theirs);
    let rate = ours.rate / theirs.rate;
    let p99 = ours.p99.as_secs_f64() / theirs.p99.as_secs_f64();
    let can_be_fast = most.rate >= THROUGHPUT * theirs.rate;
    let can_be_quick = most.p99.as_secs_f64() <= P99 * theirs.p99.as_secs_f64();
    let mark = |met: bool, counts: bool| match (met, counts) {
        (true, _) => "",
        (false, true) => " (missed)",
        (false, false) => " (not counted)",
    };
    let (fast, quick, whole) = (rate >= THROUGHPUT, p99 <= P99, ours.failed == 0);
    println!(
        "| {path} | {connections} | {} | {:.0} | {:.0} | {rate:.1}{} | {} | {} | {} | {} | {p99:.3}{} | \
         {our_cost:.1} | {their_cost:.0} | {:.1} | {}, the reference {} |",
        name(clients),
        ours.rate,
        theirs.rate,
        mark(fast, can_be_fast),
        ours.median.as_micros(),
        theirs.median.as_micros(),
        ours.p99.as_micros(),
        theirs.p99.as_micros(),
        mark(quick, can_be_quick),
        their_cost / our_cost,
        ours.failed,
        theirs.failed,
    );
    [fast || !can_be_fast, quick || !can_be_quick, whole].into_iter().filter(|met| !met).count()
}

/// PSS of the leaders' daemons in KiB.
fn memory(pair: &mut Pair) -> Result<[u64; 2]> {
    let mut found = [0; 2];
    for (side, kib) in pair.sides.iter_mut().zip(&mut found) {
        *kib = pss(side.lab.member_mut("node0")?.daemon().ok_or("no daemon")?)?;
    }
    Ok(found)
}
