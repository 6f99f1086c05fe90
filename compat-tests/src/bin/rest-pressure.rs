//! `rest-pressure [CLIENTS]`: health checks beside thousands of clients that do nothing, and while
//! PostgreSQL or etcd hangs, of ours and of the reference. Fails if one of ours takes more than 50 ms, or
//! our daemon's memory grows beyond 64 MB.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use compat_tests::diff::{Pair, Side};
use compat_tests::lab::{process, Result};
use compat_tests::program;
use compat_tests::rest::crowd::{Crowd, Manner};
use compat_tests::rest::pss;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use nix::sys::signal::Signal;

/// How long a health check may take.
const SOON: Duration = Duration::from_millis(50);
/// How long one is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// KiB.
const MEMORY: u64 = 64 * 1024;
const CHECKS: [&str; 4] = ["/primary", "/health", "/liveness", "/readiness"];

/// Health checks beside thousands of clients that do nothing.
#[derive(clap::Parser)]
struct Args {
    /// How many clients that do nothing.
    #[arg(default_value_t = 3000)]
    clients: usize,
}

fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    program::ended("rest-pressure", "targets missed", run(args.clients))
}

fn run(clients: usize) -> Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let mut pair = Pair::new(15)?;
    println!(
        "| what | whose | connected | checks in {} ms | slowest ms | codes | memory KiB |",
        SOON.as_millis()
    );
    println!("|---|---|---:|---:|---:|---|---:|");
    let mut missed = 0;
    for manner in [Manner::Silent, Manner::HalfHandshake, Manner::Slow, Manner::Deaf] {
        for (index, side) in pair.sides.iter_mut().enumerate() {
            let crowd = Crowd::gather(side.lab.member("node0")?.rest, manner, clients)?;
            let checks = watch(side, Duration::from_secs(6))?;
            missed += row(&format!("{manner:?}"), side, crowd.connected, &checks, index == 0)?;
        }
    }
    for (what, signal) in
        [("PostgreSQL hangs", hang_postgres as fn(&Side, Signal) -> Result<()>), ("etcd hangs", hang_etcd)]
    {
        for (index, side) in pair.sides.iter_mut().enumerate() {
            signal(side, Signal::SIGSTOP)?;
            // The first one to ask finds it out.
            let _ = check(side.lab.member("node0")?.rest, "/health");
            let checks = watch(side, Duration::from_secs(4));
            signal(side, Signal::SIGCONT)?;
            missed += row(what, side, 0, &checks?, index == 0)?;
        }
        std::thread::sleep(Duration::from_secs(8));
    }
    Ok(missed)
}

fn hang_postgres(side: &Side, signal: Signal) -> Result<()> {
    process::signal_under(&side.lab.member("node0")?.data(), signal);
    Ok(())
}

fn hang_etcd(side: &Side, signal: Signal) -> Result<()> {
    if signal == Signal::SIGSTOP {
        side.lab.store.freeze();
    } else {
        side.lab.store.thaw();
    }
    Ok(())
}

/// One check: what was asked, the code (0: no answer), how long it took.
type Check = (&'static str, u16, Duration);

fn watch(side: &Side, period: Duration) -> Result<Vec<Check>> {
    let port = side.lab.member("node0")?.rest;
    let until = Instant::now() + period;
    let mut checks = Vec::new();
    while Instant::now() < until {
        for path in CHECKS {
            let began = Instant::now();
            let code = check(port, path).unwrap_or(0);
            checks.push((path, code, began.elapsed()));
        }
        std::thread::sleep(SOON);
    }
    Ok(checks)
}

fn check(port: u16, path: &str) -> Result<u16> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let code = answer.get(9..12).map(String::from_utf8_lossy).ok_or("no answer")?;
    Ok(code.parse()?)
}

/// Prints a row; gives the number of targets missed, if they are asked for.
fn row(what: &str, side: &mut Side, connected: usize, checks: &[Check], strict: bool) -> Result<usize> {
    let daemon = side.lab.member_mut("node0")?.daemon().ok_or("no daemon")?;
    let memory = pss(daemon)?;
    let soon = checks.iter().filter(|(_, code, took)| *code != 0 && *took <= SOON).count();
    let slowest = checks.iter().map(|(_, _, took)| *took).max().unwrap_or_default();
    let codes: Vec<String> = CHECKS
        .iter()
        .map(|path| {
            let mut codes: Vec<u16> =
                checks.iter().filter(|(p, ..)| p == path).map(|(_, code, _)| *code).collect();
            codes.sort_unstable();
            codes.dedup();
            format!("{path} {codes:?}")
        })
        .collect();
    println!(
        "| {what} | {:?} | {connected} | {soon} of {} | {} | {} | {memory} |",
        side.kind,
        checks.len(),
        slowest.as_millis(),
        codes.join(", "),
    );
    let misses = [soon == checks.len() && !checks.is_empty(), memory < MEMORY];
    Ok(if strict { misses.into_iter().filter(|met| !met).count() } else { 0 })
}
