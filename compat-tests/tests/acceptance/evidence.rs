//! The sentences about servers that cannot be seen: a pid file whose times are off, backends that outlive
//! their postmaster, a daemon that may open nothing.

use std::path::Path;
use std::time::Duration;

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Result};

use super::state::{Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"line (\d) of (\w+)'s postmaster.pid is changed by (-?\d+)", change_line),
    (r"(\w+)'s postmaster.pid is removed", remove_pid_file),
    (r"the daemon of (\w+) may open (nothing more|files again|up to \d+ files)", descriptors),
    (r"(a client|\d+ clients) of (\w+) that never waits?", never_waits),
    (r"the clients? that never waits? (?:is|are) cut off within (\d+) s", cut_off),
    (r"all that (?:it was|they were) told is on (the leader|\w+)", told),
    (r"a stranger receives WAL from (\w+) under the name (\S+)", poses_as),
    (r"the stranger leaves", leaves),
];

/// A number in the file, moved by so much.
fn change_line(state: &mut State, call: &Call) -> Result<()> {
    let file = state.cluster()?.member(call.arg(1))?.data().join("postmaster.pid");
    let index: usize = call.arg(0).parse()?;
    let by: i64 = call.arg(2).parse()?;
    let text = std::fs::read_to_string(&file)?;
    let changed = text.lines().enumerate().map(|(at, line)| match line.trim().parse::<i64>() {
        Ok(number) if at + 1 == index => (number + by).to_string(),
        _ => line.to_string(),
    });
    let changed: Vec<String> = changed.collect();
    Ok(std::fs::write(&file, changed.join("\n") + "\n")?)
}

fn remove_pid_file(state: &mut State, call: &Call) -> Result<()> {
    Ok(std::fs::remove_file(state.cluster()?.member(call.arg(0))?.data().join("postmaster.pid"))?)
}

/// RLIMIT_NOFILE of the running daemon: what is open stays open.
fn descriptors(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.lab()?;
    let pid = lab.member_mut(call.arg(0))?.daemon().ok_or("the daemon does not run")?;
    let limit = match call.arg(1) {
        "nothing more" => "3",
        "files again" => "1024",
        up_to => up_to.trim_start_matches("up to ").trim_end_matches(" files"),
    };
    // As the user whom the daemon runs as: nobody else may.
    let mut command = process::command(Path::new("/usr/bin/prlimit"), &lab.directory, &lab.bin())?;
    command.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]);
    process::run(command, Duration::from_secs(5))?.ok().map(drop)
}

/// Backends that commit without ever waiting, and tell their clients of each row. One looks for its postmaster's death
/// only when it waits.
fn never_waits(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster.as_mut().ok_or("no cluster")?;
    let member = lab.member(call.arg(1))?;
    let number: usize = call.arg(0).split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(1);
    for client in 0..number {
        member.sql(&format!("CREATE TABLE told_{client} (n bigint)"))?;
        let sql = format!(
            "DO $$ BEGIN FOR i IN 1..2000000000 LOOP INSERT INTO told_{client} VALUES (i); COMMIT; \
             RAISE NOTICE 'row %', i; END LOOP; END $$"
        );
        let mut command = process::command(&lab.bin().join("psql"), &lab.directory, &lab.bin())?;
        command
            .args(["-XAtq", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres"])
            .args(["-p", &member.postgres.to_string(), "-c", &sql])
            .env("PGPASSWORD", "lab-super");
        let log = lab.directory.join(format!("told_{client}.log"));
        state.talkers.push(Some(process::daemon(command, &log)?));
        wait_until("rows are told", Duration::from_secs(10), || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            ensure(text.lines().count() > 1000, || "hardly any".into())
        })?;
    }
    Ok(())
}

fn cut_off(state: &mut State, call: &Call) -> Result<()> {
    let talkers = &mut state.talkers;
    wait_until(&call.text, call.seconds(0), || {
        let served = talkers.iter_mut().filter_map(process::living).count();
        ensure(served == 0, || format!("{served} are served"))
    })
}

fn told(state: &mut State, call: &Call) -> Result<()> {
    let name = state.name(call.arg(0))?;
    for client in 0..state.talkers.len() {
        let text = std::fs::read_to_string(state.cluster()?.directory.join(format!("told_{client}.log")))?;
        let told = text.lines().filter_map(|line| line.rsplit_once("row ")?.1.parse::<u64>().ok()).max();
        let told = told.ok_or("nothing was told")?;
        let sql = format!("SELECT coalesce(max(n), 0) FROM told_{client}");
        let there = state.cluster()?.member(&name)?.sql(&sql)?;
        ensure(there.parse::<u64>()? >= told, || format!("{there} of {told} rows"))?;
    }
    Ok(())
}

/// A receiver of outside, without a slot, that confirms each flush at once.
fn poses_as(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster.as_mut().ok_or("no cluster")?;
    let member = lab.member(call.arg(0))?;
    let directory = lab.directory.join("stranger");
    let mut command = process::command(Path::new("/bin/mkdir"), &lab.directory, &lab.bin())?;
    command.arg("-p").arg(&directory);
    process::run(command, Duration::from_secs(5))?.ok()?;
    let mut command = process::command(&lab.bin().join("pg_receivewal"), &lab.directory, &lab.bin())?;
    let dsn = format!(
        "host=127.0.0.1 port={} user=replicator password=lab-repl application_name={}",
        member.postgres,
        call.arg(1)
    );
    command.args(["--synchronous", "--no-loop", "-d", &dsn, "-D"]).arg(&directory);
    state.stranger = Some(process::daemon(command, &lab.directory.join("stranger.log"))?);
    wait_until("the stranger receives", Duration::from_secs(10), || {
        let found = member.sql(
            "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_replication r USING (pid) \
             WHERE a.backend_type = 'walsender' AND r.state = 'streaming' AND r.reply_time IS NOT NULL \
             AND NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid)",
        )?;
        ensure(found == "1", || found)
    })
}

fn leaves(state: &mut State, _: &Call) -> Result<()> {
    if let Some(mut child) = state.stranger.take() {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
