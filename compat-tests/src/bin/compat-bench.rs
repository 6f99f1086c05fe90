//! `compat-bench [ROUNDS] [--stores etcd3,etcd,consul,zookeeper]`: how long an application cannot write, with us and with
//! the reference, measured in one run on the same machine, and what PostgreSQL itself needs at least. Milliseconds; the
//! median and the worst of the rounds. With stores: the gap of a switchover of ours on each of them, by turns.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use compat_tests::lab::wait::ensure;
use compat_tests::lab::writer::Writer;
use compat_tests::lab::{process, Cluster, Kind, Options, Result};
use compat_tests::program;

/// How long anything here may take.
const LONG: Duration = Duration::from_secs(60);

/// What one round measures.
type Measure = fn(&mut Cluster) -> Result<Duration>;

/// The rows of the table.
const MEASURES: &[(&str, Measure)] = &[
    ("switchover: longest gap between two acknowledged writes", switchover_gap),
    ("switchover: the REST call", switchover_call),
    ("restart in place: longest gap between two acknowledged writes", restart_gap),
    ("restart in place: the REST call", restart_call),
];

/// How long an application cannot write while the cluster switches over or restarts.
#[derive(clap::Parser)]
struct Args {
    /// Rounds of each measurement.
    #[arg(default_value_t = 5)]
    rounds: usize,
    /// These stores instead, all at the same time; the first is what the others are compared with.
    #[arg(long, value_delimiter = ',')]
    stores: Vec<String>,
}

fn main() -> ExitCode {
    let asked = <Args as clap::Parser>::parse();
    program::ended("compat-bench", "", run_asked(&asked).map(|()| 0))
}

fn run_asked(asked: &Args) -> Result<()> {
    if asked.stores.is_empty() {
        return run(asked.rounds);
    }
    compare(&asked.stores, asked.rounds)
}

/// A cluster on each store; one round on each of them by turns, so that what else the machine does hits all alike.
fn compare(stores: &[String], rounds: usize) -> Result<()> {
    let mut labs = Vec::new();
    for store in stores {
        eprintln!("compat-bench: {store}");
        let mut lab = Cluster::new(Options { store: store.clone(), ..Options::default() })?;
        lab.bring_up(&[Kind::Ours, Kind::Ours])?;
        labs.push((lab, Vec::new()));
    }
    for _ in 0..rounds {
        for (lab, times) in &mut labs {
            let gap = switchover_gap(lab).map_err(|error| format!("{error}\n{}", lab.report(40)))?;
            times.push(gap);
        }
    }
    println!("switchover, longest gap between two acknowledged writes: {rounds} rounds by turns, ms");
    println!("| store | median | worst | median, of the first store's |");
    println!("|---|---:|---:|---:|");
    let mut first = None;
    for (store, (_, times)) in stores.iter().zip(&mut labs) {
        times.sort();
        let middle = times.get(times.len() / 2).ok_or("no rounds")?.as_millis();
        let worst = times.last().ok_or("no rounds")?.as_millis();
        let first = *first.get_or_insert(middle);
        println!("| {store} | {middle} | {worst} | {} % |", middle * 100 / first.max(1));
    }
    Ok(())
}

fn run(rounds: usize) -> Result<()> {
    let mut columns = Vec::new();
    for kind in [Kind::Ours, Kind::Reference] {
        eprintln!("compat-bench: {kind:?}");
        let mut lab = Cluster::new(Options::default())?;
        lab.bring_up(&[kind, kind])?;
        let column = measure_all(&mut lab, rounds).map_err(|error| format!("{error}\n{}", lab.report(40)))?;
        columns.push(column);
        if kind == Kind::Reference {
            columns.push(floor(&mut lab, rounds)?);
        }
    }
    println!("{rounds} rounds, median / worst in ms");
    println!("| what | patroni-rs | the reference | PostgreSQL itself |");
    println!("|---|---:|---:|---:|");
    for (index, (name, _)) in MEASURES.iter().enumerate() {
        let cells: Vec<&str> =
            columns.iter().map(|column| column.get(index).map_or("", String::as_str)).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    Ok(())
}

/// A column of the table: each measure's rounds.
fn measure_all(lab: &mut Cluster, rounds: usize) -> Result<Vec<String>> {
    MEASURES.iter().map(|(_, measure)| summary((0..rounds).map(|_| measure(lab)))).collect()
}

/// Median and worst.
fn summary(rounds: impl Iterator<Item = Result<Duration>>) -> Result<String> {
    let mut times = rounds.collect::<Result<Vec<Duration>>>()?;
    times.sort();
    let middle = times.get(times.len() / 2).ok_or("no rounds")?;
    let worst = times.last().ok_or("no rounds")?;
    Ok(format!("{} / {}", middle.as_millis(), worst.as_millis()))
}

/// The leader's name and the other's.
fn names(lab: &Cluster) -> Result<(String, String)> {
    let leader = lab.leader()?.ok_or("no leader")?;
    let other = lab.members.iter().find(|member| member.name != leader).ok_or("one member")?;
    Ok((leader, other.name.clone()))
}

/// Calls the leader's API and waits until the cluster is whole again.
fn call(lab: &Cluster, path: &str, body: &str, leads_then: &str, follows_then: &str) -> Result<Duration> {
    let (leader, _) = names(lab)?;
    let began = Instant::now();
    let answer = lab.member(&leader)?.call("POST", path, Some(body))?;
    let took = began.elapsed();
    ensure(answer.status == 200, || format!("{path}: {} {}", answer.status, answer.body))?;
    lab.wait_leader(leads_then, LONG)?;
    lab.wait_follows(follows_then, leads_then, LONG)?;
    Ok(took)
}

/// Does `act` under a writer; gives the longest gap.
fn gap(lab: &mut Cluster, act: Measure) -> Result<Duration> {
    let (leader, _) = names(lab)?;
    lab.member(&leader)?.sql("DROP TABLE IF EXISTS journal")?;
    let mut writer = Writer::start(lab, &leader)?;
    writer.wait_rows(50, LONG)?;
    act(lab)?;
    writer.wait_rows(50, LONG)?;
    Ok(writer.finish().longest_gap())
}

fn switchover_call(lab: &mut Cluster) -> Result<Duration> {
    let (leader, other) = names(lab)?;
    let body = format!(r#"{{"leader":"{leader}","candidate":"{other}"}}"#);
    call(lab, "/switchover", &body, &other, &leader)
}

fn switchover_gap(lab: &mut Cluster) -> Result<Duration> {
    gap(lab, switchover_call)
}

fn restart_call(lab: &mut Cluster) -> Result<Duration> {
    let (leader, other) = names(lab)?;
    call(lab, "/restart", "{}", &leader, &other)
}

fn restart_gap(lab: &mut Cluster) -> Result<Duration> {
    gap(lab, restart_call)
}

/// What PostgreSQL needs, without anybody: a fast shutdown, then a promotion of the other (a switchover),
/// and a restart. Ends the cluster.
fn floor(lab: &mut Cluster, rounds: usize) -> Result<Vec<String>> {
    let (leader, other) = names(lab)?;
    lab.ctl(Kind::Reference, &["pause", "batman", "--wait"])?.ok()?;
    for member in &mut lab.members {
        member.kill_daemon()?;
    }
    let restart =
        summary((0..rounds).map(|_| pg_ctl(lab, &leader, &["restart", "-m", "fast", "-l", "floor.log"])))?;
    let stop = pg_ctl(lab, &leader, &["stop", "-m", "fast"])?;
    let promote = pg_ctl(lab, &other, &["promote"])?;
    let switchover = summary(std::iter::once(Ok(stop + promote)))?;
    Ok(vec![switchover.clone(), switchover, restart.clone(), restart])
}

fn pg_ctl(lab: &Cluster, name: &str, arguments: &[&str]) -> Result<Duration> {
    let member = lab.member(name)?;
    let mut command = process::command(&lab.bin().join("pg_ctl"), &member.directory, &lab.bin())?;
    command.arg("-D").arg(member.data()).arg("-w").args(arguments);
    let began = Instant::now();
    // The new postmaster must not hold our pipes.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = command.status()?;
    ensure(status.success(), || format!("pg_ctl {arguments:?}: {status}"))?;
    Ok(began.elapsed())
}
