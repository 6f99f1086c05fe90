//! `ctl-bench [RUNS]`: how long `patronictl --help` and `patronictl list` take, ours and the reference's in turn in
//! one run, and how many times `list` waits for the DCS: with each answer of etcd held back for a while, the time
//! that is added, in answers. Fails when ours is not twenty times as fast.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use compat_tests::lab::etcd::Etcd;
use compat_tests::lab::{host, process, Cluster, Kind, Options, Result};
use compat_tests::program;

/// Times the reference's speed.
const TARGET: f64 = 20.0;
/// How long answers are held back.
const DELAY: Duration = Duration::from_millis(100);

/// How long patronictl takes, ours beside the reference.
#[derive(clap::Parser)]
struct Args {
    /// Runs of each command.
    #[arg(default_value_t = 20)]
    runs: usize,
}

fn main() -> ExitCode {
    let asked = <Args as clap::Parser>::parse();
    program::ended("ctl-bench", "targets missed", run(asked.runs))
}

fn run(runs: usize) -> Result<usize> {
    let lab = Cluster::new(Options::default())?;
    let etcd = Etcd::start(&lab.directory.join("keys"))?;
    let member = r#"{"conn_url": "postgres://127.0.0.1:5432/postgres", "api_url": "http://127.0.0.1:8008/patroni", "state": "running", "role": "primary", "version": "4.1.5", "xlog_location": 67108864, "timeline": 1}"#;
    etcd.put("/service/demo/initialize", "7710517561466687807")?;
    etcd.put("/service/demo/leader", "a")?;
    etcd.put("/service/demo/members/a", member)?;
    etcd.put("/service/demo/members/b", &member.replace("primary", "replica"))?;
    let held = Arc::new(AtomicU64::new(0));
    let proxy = proxy(etcd.port, Arc::clone(&held))?;
    let config = lab.directory.join("ctl.yml");
    std::fs::write(&config, format!("etcd3:\n  host: 127.0.0.1:{proxy}\n"))?;
    host::give_away(&config)?;
    let programs = [host::install("patronictl", &lab.directory)?, host::reference("patronictl")];
    let config = config.display().to_string();
    let time = |kind: Kind, words: &[&str]| -> Result<Duration> {
        let program = &programs[usize::from(kind == Kind::Reference)];
        let mut command = process::command(program, &lab.directory, &lab.bin())?;
        command.args(words);
        let began = Instant::now();
        process::run(command, Duration::from_secs(60))?.ok()?;
        Ok(began.elapsed())
    };
    println!("| command | ms (median of {runs}) | the reference | ratio |");
    println!("|---|---:|---:|---:|");
    let mut missed = 0;
    for words in [vec!["--help"], vec!["-c", config.as_str(), "list", "demo"]] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            ours.push(time(Kind::Ours, &words)?);
            theirs.push(time(Kind::Reference, &words)?);
        }
        let [ours, theirs] = [median(ours), median(theirs)];
        let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
        let verdict = if ratio < TARGET { " (missed)" } else { "" };
        missed += usize::from(ratio < TARGET);
        let name = words.iter().filter(|word| **word != "-c" && **word != config).copied();
        let name = name.collect::<Vec<_>>().join(" ");
        println!("| {name} | {:.1} | {:.1} | {ratio:.0}{verdict} |", millis(ours), millis(theirs));
    }
    let list = ["-c", config.as_str(), "list", "demo"];
    for (who, kind) in [("ours", Kind::Ours), ("the reference", Kind::Reference)] {
        let mut medians = Vec::new();
        for delay in [Duration::ZERO, DELAY] {
            held.store(u64::try_from(delay.as_millis())?, Ordering::Relaxed);
            medians.push(median((0..runs.min(5)).map(|_| time(kind, &list)).collect::<Result<Vec<_>>>()?));
        }
        held.store(0, Ordering::Relaxed);
        let added = medians[1].saturating_sub(medians[0]);
        println!(
            "list with each answer of etcd held back for {} ms, {who}: {:.1} ms more, the time of {:.1} answers",
            DELAY.as_millis(),
            millis(added),
            added.as_secs_f64() / DELAY.as_secs_f64()
        );
    }
    Ok(missed)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A port behind which etcd is; what comes from there is held back for `held` milliseconds.
fn proxy(etcd: u16, held: Arc<AtomicU64>) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(("127.0.0.1", etcd)) else { continue };
            let held = Arc::clone(&held);
            std::thread::spawn(move || {
                let pair = (client.try_clone(), server.try_clone());
                let (Ok(mut from_client), Ok(mut to_server)) = pair else { return };
                let there = std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from_client, &mut to_server);
                    let _ = to_server.shutdown(Shutdown::Write);
                });
                back(server, client, &held);
                let _ = there.join();
            });
        }
    });
    Ok(port)
}

/// Passes the answers on, each as late as it shall be. What comes meanwhile waits as well, but not longer for it.
fn back(mut server: TcpStream, mut client: TcpStream, held: &AtomicU64) {
    let (send, receive) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
    let writer = std::thread::spawn(move || {
        for (due, bytes) in receive {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if client.write_all(&bytes).is_err() {
                return;
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    });
    let mut chunk = [0; 16384];
    while let Ok(count @ 1..) = server.read(&mut chunk) {
        let due = Instant::now() + Duration::from_millis(held.load(Ordering::Relaxed));
        if send.send((due, chunk[..count].to_vec())).is_err() {
            break;
        }
    }
    drop(send);
    let _ = writer.join();
}
