//! `scale-bench [SECONDS] [--members 1,2] [--loop-wait 1] [--ttl 20] [--ours] [--details]`: what a cluster in which nothing
//! happens costs the store (etcd 3) and its machines, ours beside the reference's, in one run. See docs/scale.md.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use compat_tests::lab::{http, Cluster, Kind, Options, Result};
use compat_tests::{program, rest};
use nix::unistd::Pid;

/// After the cluster is there, what its beginning costs is over by then.
const SETTLE: Duration = Duration::from_secs(15);

/// What a cluster in which nothing happens costs.
#[derive(clap::Parser)]
struct Args {
    /// How long each cluster is looked at.
    #[arg(default_value_t = 60)]
    seconds: u64,
    /// Sizes of clusters.
    #[arg(long, value_delimiter = ',', default_value = "2")]
    members: Vec<usize>,
    /// `loop_wait`, seconds.
    #[arg(long, default_value_t = 1)]
    loop_wait: i64,
    /// `ttl`, seconds.
    #[arg(long, default_value_t = 20)]
    ttl: i64,
    /// Only ours.
    #[arg(long)]
    ours: bool,
    /// Which calls, of which thread the wake-ups.
    #[arg(long)]
    details: bool,
}

/// Counters of one moment; what they count, by name.
type Counts = BTreeMap<String, u64>;

/// What was counted between two moments.
struct Cost {
    /// Calls and messages of streams that etcd received, by method.
    calls: Counts,
    /// Bytes to and from its clients.
    bytes: u64,
    /// Of the store's log.
    fsyncs: u64,
    /// Of all daemons.
    cpu: Duration,
    /// Of all daemons, by the name of the thread.
    wakes: Counts,
    /// Largest of the daemons, KiB.
    pss: u64,
    time: Duration,
}

fn main() -> ExitCode {
    let asked = <Args as clap::Parser>::parse();
    program::ended("scale-bench", "", run(&asked).map(|()| 0))
}

fn run(asked: &Args) -> Result<()> {
    println!(
        "An idle cluster on etcd 3, ttl {}, loop_wait {}, {} s, per member",
        asked.ttl, asked.loop_wait, asked.seconds
    );
    println!("| members | program | calls a minute | kB a minute | fsyncs a minute | CPU, ms/s | wake-ups a second | PSS, MB |");
    println!("|---:|---|---:|---:|---:|---:|---:|---:|");
    for members in &asked.members {
        for kind in [Kind::Ours, Kind::Reference].into_iter().take(if asked.ours { 1 } else { 2 }) {
            eprintln!("scale-bench: {members} members, {kind:?}");
            print(*members, kind, &measure(asked, *members, kind)?, asked.details);
        }
    }
    Ok(())
}

fn measure(asked: &Args, members: usize, kind: Kind) -> Result<Cost> {
    let timing = format!(
        "bootstrap:\n  dcs:\n    ttl: {}\n    loop_wait: {}\n    retry_timeout: {}\n",
        asked.ttl,
        asked.loop_wait,
        ((asked.ttl - asked.loop_wait) / 2).min(10)
    );
    let overrides = pyfmt::yaml::load(&timing).map_err(|e| e.to_string())?;
    let mut lab = Cluster::new(Options { store: "etcd3".into(), overrides, ..Options::default() })?;
    lab.bring_up(&vec![kind; members])?;
    std::thread::sleep(SETTLE);
    let pids: Vec<Pid> = lab.members.iter_mut().filter_map(|member| member.daemon()).collect();
    let port = lab.store.port();
    let (before, cpu_before, wakes_before, began) =
        (metrics(port)?, cpu(&pids)?, wakes(&pids), Instant::now());
    std::thread::sleep(Duration::from_secs(asked.seconds));
    let (after, cpu_after, wakes_after, time) = (metrics(port)?, cpu(&pids)?, wakes(&pids), began.elapsed());
    let since = grown(&before, after);
    let sum = |prefix: &str| -> u64 {
        since.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count).sum()
    };
    let mut calls = Counts::new();
    for (name, count) in since.iter().filter(|(_, count)| **count > 0) {
        let labels = name.strip_prefix("grpc_server_msg_received_total{grpc_method=\"");
        if let Some(method) = labels.and_then(|labels| labels.split('"').next()) {
            *calls.entry(method.to_owned()).or_default() += count;
        }
    }
    let pss: Vec<u64> = pids.iter().map(|pid| rest::pss(*pid)).collect::<Result<_>>()?;
    Ok(Cost {
        calls,
        bytes: sum("etcd_network_client_grpc_received_bytes_total")
            + sum("etcd_network_client_grpc_sent_bytes_total"),
        fsyncs: sum("etcd_disk_wal_fsync_duration_seconds_count"),
        cpu: cpu_after.saturating_sub(cpu_before),
        wakes: grown(&wakes_before, wakes_after),
        pss: pss.into_iter().max().unwrap_or(0),
        time,
    })
}

/// By how much each has grown; less, where what was counted has ended and begun again, counts as nothing.
fn grown(before: &Counts, after: Counts) -> Counts {
    let since = |name: &String, count: u64| count.saturating_sub(before.get(name).copied().unwrap_or(0));
    after.into_iter().map(|(name, count)| (name.clone(), since(&name, count))).collect()
}

fn print(members: usize, kind: Kind, cost: &Cost, details: bool) {
    let minutes = members as f64 * cost.time.as_secs_f64() / 60.0;
    let seconds = members as f64 * cost.time.as_secs_f64();
    let (calls, wakes): (u64, u64) = (cost.calls.values().sum(), cost.wakes.values().sum());
    println!(
        "| {members} | {} | {:.1} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} |",
        if kind == Kind::Ours { "patroni-rs" } else { "the reference" },
        calls as f64 / minutes,
        cost.bytes as f64 / 1000.0 / minutes,
        cost.fsyncs as f64 / minutes,
        cost.cpu.as_secs_f64() * 1000.0 / seconds,
        wakes as f64 / seconds,
        cost.pss as f64 / 1024.0,
    );
    if details {
        cost.calls
            .iter()
            .for_each(|(method, count)| eprintln!("  {method}: {:.1} a minute", *count as f64 / minutes));
        let woken = cost.wakes.iter().filter(|(_, count)| **count > 0);
        woken.for_each(|(thread, count)| eprintln!("  {thread}: {:.2} a second", *count as f64 / seconds));
    }
}

/// etcd's own counters, those of watchdogs and of this question among them.
fn metrics(port: u16) -> Result<Counts> {
    let answer = http::raw(port, "GET", "/metrics", "1.0", "", None)?;
    let counter = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse::<f64>().ok()? as u64))
    };
    Ok(answer.body.lines().filter(|line| !line.starts_with('#')).filter_map(counter).collect())
}

fn cpu(pids: &[Pid]) -> Result<Duration> {
    pids.iter().map(|pid| rest::cpu_time(*pid)).sum()
}

/// How often the threads of these processes began to run after they had waited.
fn wakes(pids: &[Pid]) -> Counts {
    let mut counts = Counts::new();
    let threads = pids.iter().flat_map(|pid| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        tasks.map(|task| task.path()).collect::<Vec<PathBuf>>()
    });
    for task in threads {
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default().trim().to_owned();
        let status = std::fs::read_to_string(task.join("status")).unwrap_or_default();
        let waits = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        *counts.entry(name).or_default() += waits.and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    }
    counts
}
