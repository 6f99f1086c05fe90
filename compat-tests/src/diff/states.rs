//! The states that both clusters are brought into, one after the other, and that the recordings name.

use std::time::Duration;

use pyfmt::{yaml, Value};

use crate::lab::wait::ensure;
use crate::lab::{config, process, wait_until, Kind, Result};

use super::probes::shown;
use super::Side;

/// Whom a state's probes ask, and which of them.
#[derive(Debug, Clone, Copy)]
pub struct Asks {
    /// The cluster's name.
    pub scope: &'static str,
    /// Its members.
    pub members: [&'static str; 2],
    /// Whether the DCS lives: without it patronictl waits forever, and a request that writes for long.
    pub dcs: bool,
    /// Whether patronictl's refused commands are worth their time here.
    pub refused: bool,
}

/// What brings a side into a state; each starts from the one before.
pub struct State {
    /// For a person.
    pub name: &'static str,
    /// Whether a short run visits it as well. A skipped state's act is not done.
    pub short: bool,
    /// Who is asked there.
    pub asks: Asks,
    /// Does it, and waits until it is so.
    pub enter: fn(&mut Side) -> Result<()>,
}

/// Long enough for some cycles of a busy machine.
const SOON: Duration = Duration::from_secs(60);

const USUAL: Asks = Asks { scope: "batman", members: ["node0", "node1"], dcs: true, refused: false };
const REFUSED: Asks = Asks { refused: true, ..USUAL };
const ALONE: Asks = Asks { dcs: false, ..USUAL };
const STANDBY: Asks = Asks { scope: "batman1", members: ["robin0", "robin1"], ..USUAL };

const fn state(name: &'static str, short: bool, asks: Asks, enter: fn(&mut Side) -> Result<()>) -> State {
    State { name, short, asks, enter }
}

/// All states in their order.
pub const STATES: &[State] = &[
    state("a leader and a replica", true, REFUSED, settled),
    state("pending restart", true, USUAL, pending_restart),
    state("restarted", false, USUAL, restarted),
    state("paused", false, REFUSED, paused),
    state("resumed, a switchover is scheduled", false, REFUSED, scheduled),
    state("a restart is scheduled", false, USUAL, restart_scheduled),
    state("synchronous mode", false, REFUSED, synchronous),
    state("quorum mode", false, USUAL, quorum),
    state("permanent slots and failsafe mode", false, USUAL, slots),
    state("after a switchover", true, USUAL, switched),
    state("reinitialized", false, USUAL, reinitialized),
    state("the replica's node is down", false, REFUSED, replica_down),
    state("the replica is starting", false, USUAL, replica_starting),
    state("paused, the replica's PostgreSQL is stopped", false, USUAL, replica_stopped),
    state("paused, PostgreSQL is stopped everywhere", false, USUAL, all_stopped),
    state("failsafe mode, the DCS is down", false, ALONE, failsafe),
    state("the DCS is down", false, ALONE, dcs_down),
    state("no leader, and a replica that must not lead", false, REFUSED, no_leader),
    state("a standby cluster", false, STANDBY, standby_cluster),
    state("a promoted standby cluster", false, STANDBY, standby_promoted),
];

/// A PATCH of the dynamic configuration by the leader.
fn patch(side: &Side, body: &str) -> Result<()> {
    let leader = side.lab.leader()?.ok_or("no leader")?;
    let answer = side.lab.member(&leader)?.call("PATCH", "/config", Some(body))?;
    ensure(answer.status == 200, || format!("PATCH {body}: {} {}", answer.status, answer.body))
}

/// Waits until the key `name` contains (or not) `text`.
fn key_says(side: &Side, name: &str, text: &str, says: bool) -> Result<()> {
    wait_until(&format!("{name} says {text}: {says}"), SOON, || {
        let value = side.lab.store.get(&side.lab.key(name))?.unwrap_or_default();
        ensure(value.contains(text) == says, || value)
    })
}

/// Waits until `GET /patroni` of `member` has `field` = `value` (`none`: has it not).
fn says(side: &Side, member: &str, field: &str, value: &str) -> Result<()> {
    wait_until(&format!("{member} says {field} {value}"), SOON, || {
        let status = side.lab.member(member)?.status()?;
        let found = status.get(field).map_or("none".into(), Value::py_str);
        ensure(found == value, || pyfmt::json::dumps(&status))
    })
}

/// Runs the side's patronictl, and keeps what it says, to be compared.
fn try_ctl(side: &mut Side, line: &str) -> Result<process::Output> {
    let words: Vec<&str> = line.split(' ').collect();
    let output = side.ctl(&words, None)?;
    side.said.push(format!("$ patronictl {line}\n{}\n", shown(output.clone())));
    Ok(output)
}

/// As [`ctl`], of a command that moves the leader. What tells how far the members are on their way at a moment is not
/// kept: the table that it ends with, and the lines between.
fn ctl_moving(side: &mut Side, line: &str) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    let mut output = side.ctl(&words, None)?;
    output.clone().ok()?;
    if let Some(table) = output.stdout.rfind("\n+ Cluster: ") {
        output.stdout.truncate(table + 1);
    }
    let lines = output.stdout.split_inclusive('\n').filter(|line| !line.contains(" cluster is unlocked: "));
    output.stdout = lines.collect();
    side.said.push(format!("$ patronictl {line}\n{}\n", shown(output)));
    Ok(())
}

/// As [`try_ctl`], of a command that must succeed.
fn ctl(side: &mut Side, line: &str) -> Result<()> {
    try_ctl(side, line)?.ok().map(drop)
}

/// The same request to the leader, kept as what patronictl says is.
fn request(side: &mut Side, member: &str, method: &str, path: &str, body: Option<&str>) -> Result<()> {
    let answer = side.lab.member(member)?.call(method, path, body)?;
    let body = body.map(|body| format!(" {body}")).unwrap_or_default();
    side.said.push(format!("{method} {path}{body} on {member}\n{}\r\n\r\n{}\n", answer.head, answer.body));
    Ok(())
}

/// Stops PostgreSQL behind its daemon's back.
fn stop_postgres(side: &Side, name: &str) -> Result<()> {
    let member = side.lab.member(name)?;
    let program = side.lab.bin().join("pg_ctl");
    let mut command = process::command(&program, &side.lab.directory, &side.lab.bin())?;
    command.args(["stop", "-m", "fast", "-w", "-D"]).arg(member.data());
    process::run(command, SOON)?.ok()?;
    says(side, name, "state", "stopped")
}

/// The status of a fresh cluster is complete when slots have got a position.
fn settled(side: &mut Side) -> Result<()> {
    side.lab.member("node0")?.sql("CREATE TABLE t AS SELECT 1 AS a; CHECKPOINT")?;
    key_says(side, "status", "\"node1\"", true)
}

fn pending_restart(side: &mut Side) -> Result<()> {
    patch(side, r#"{"postgresql":{"parameters":{"max_connections":70,"work_mem":"8MB","my.guc":"a'b"}}}"#)?;
    key_says(side, "members/node0", "pending_restart", true)?;
    key_says(side, "members/node1", "pending_restart", true)
}

/// Commits something on `from` and waits until each of `to` has replayed a commit since its start: before, they tell no
/// time of it, and whether there was one depends on when the last checkpoint came.
fn transact(side: &Side, from: &str, to: &[&str]) -> Result<()> {
    side.lab.member(from)?.sql("INSERT INTO t VALUES (1)")?;
    for name in to {
        wait_until(&format!("{name} has replayed a commit"), SOON, || {
            let there = side.lab.member(name)?.sql("SELECT pg_last_xact_replay_timestamp() IS NOT NULL")?;
            ensure(there == "t", || there)
        })?;
    }
    Ok(())
}

/// Waits until `member` was told of so many reloads: two that meet in one cycle would be one.
fn reloads(side: &Side, member: &str, wanted: usize) -> Result<()> {
    wait_until(&format!("{member} was reloaded {wanted} times"), SOON, || {
        let calls = side.lab.member(member)?.callbacks();
        let count = calls.iter().filter(|call| call.starts_with("on_reload")).count();
        ensure(count == wanted, || format!("{calls:?}"))
    })
}

/// As [`reloads`], of both members.
fn reloaded(side: &Side, wanted: usize) -> Result<()> {
    reloads(side, "node0", wanted)?;
    reloads(side, "node1", wanted)
}

fn restarted(side: &mut Side) -> Result<()> {
    // Each command's effect is waited for: the two patronictls differ in how long they take to start.
    ctl(side, "restart batman node0 --force --pending")?;
    // PostgreSQL ends a standby that allows fewer connections than its primary, and Patroni starts it again: a restart
    // by patronictl may come before or after that.
    key_says(side, "members/node1", "pending_restart", false)?;
    side.lab.wait_follows("node1", "node0", SOON)?;
    ctl(side, "restart batman node1 --force")?;
    side.lab.wait_follows("node1", "node0", SOON)?;
    ctl(side, "restart batman --force --pending")?;
    reloaded(side, 1)?;
    ctl(side, "reload batman --force")?;
    reloaded(side, 2)?;
    ctl(side, "edit-config batman --force -s postgresql.parameters.work_mem=9MB -p statement_timeout=0 -s tags.x=null")?;
    reloaded(side, 3)?;
    ctl(
        side,
        "edit-config batman --force -q -s postgresql.parameters.work_mem=8MB -p statement_timeout=null",
    )?;
    reloaded(side, 4)?;
    key_says(side, "members/node0", "pending_restart", false)?;
    side.lab.wait_follows("node1", "node0", SOON)?;
    transact(side, "node0", &["node1"])
}

fn paused(side: &mut Side) -> Result<()> {
    ctl(side, "pause batman --wait")?;
    try_ctl(side, "pause batman").map(drop)
}

fn scheduled(side: &mut Side) -> Result<()> {
    ctl(side, "resume batman --wait")?;
    try_ctl(side, "resume batman")?;
    try_ctl(side, "flush batman switchover")?;
    ctl(
        side,
        "switchover batman --leader node0 --candidate node1 --scheduled 2035-05-05T05:05:05+00:00 --force",
    )
}

fn restart_scheduled(side: &mut Side) -> Result<()> {
    request(side, "node0", "DELETE", "/switchover", None)?;
    request(side, "node0", "DELETE", "/switchover", None)?;
    ctl(side, "switchover batman --candidate node1 --scheduled 2035-05-05T05:05:05+00:00 --force")?;
    ctl(side, "flush batman switchover --force")?;
    request(side, "node1", "DELETE", "/restart", None)?;
    request(side, "node1", "POST", "/restart", Some(r#"{"schedule":"2035-05-05T05:05:05+00:00"}"#))?;
    request(side, "node1", "DELETE", "/restart", None)?;
    key_says(side, "members/node1", "scheduled_restart", false)?;
    ctl(side, "restart batman node0 --scheduled 2035-05-05T05:05:05+00:00 --force")?;
    try_ctl(side, "restart batman node0 --scheduled 2036-05-05T05:05:05+00:00 --force")?;
    key_says(side, "members/node0", "scheduled_restart", true)
}

fn synchronous(side: &mut Side) -> Result<()> {
    ctl(side, "flush batman restart --force")?;
    patch(side, r#"{"synchronous_mode":true}"#)?;
    key_says(side, "sync", "node1", true)
}

fn quorum(side: &mut Side) -> Result<()> {
    patch(side, r#"{"synchronous_mode":"quorum"}"#)?;
    side.lab.wait_status("node1", "/quorum", 200, SOON)
}

fn slots(side: &mut Side) -> Result<()> {
    patch(side, r#"{"synchronous_mode":null,"failsafe_mode":true,"slots":{"keep":{"type":"physical"}}}"#)?;
    key_says(side, "failsafe", "node1", true)?;
    key_says(side, "status", "\"keep\"", true)
}

/// Makes `to` the leader that `from` follows, and waits until all is at rest.
fn moved(side: &Side, from: &str, to: &str) -> Result<()> {
    side.lab.wait_leader(to, SOON)?;
    side.lab.wait_follows(from, to, SOON)?;
    key_says(side, "history", to, true)?;
    key_says(side, "failover", "leader", false)?;
    transact(side, to, &[from])
}

fn switched(side: &mut Side) -> Result<()> {
    ctl_moving(side, "switchover batman --leader node0 --candidate node1 --force")?;
    moved(side, "node0", "node1")
}

fn reinitialized(side: &mut Side) -> Result<()> {
    ctl(side, "reinit batman node0 --force --wait")?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    try_ctl(side, "reinit batman node1 --force")?;
    request(side, "node1", "POST", "/reinitialize", None)?;
    ctl_moving(side, "failover batman --candidate node0 --force")?;
    moved(side, "node1", "node0")?;
    request(side, "node0", "POST", "/switchover", Some(r#"{"leader":"node0","candidate":"node1"}"#))?;
    moved(side, "node0", "node1")
}

/// Its key outlives what is asked of it.
fn replica_down(side: &mut Side) -> Result<()> {
    patch(side, r#"{"ttl":300}"#)?;
    let key = side.lab.key("members/node0");
    wait_until("the member's lease is a long one", SOON, || {
        let left = side.lab.store.lease_left(&key)?;
        ensure(left > Some(60), || format!("{left:?} s"))
    })?;
    let cache = side.lab.member("node1")?.data().join("patroni.dynamic.json");
    wait_until("node1 has kept the configuration", SOON, || {
        let text = std::fs::read_to_string(&cache)?;
        ensure(text.contains("\"ttl\": 300"), || text)
    })?;
    side.lab.member_mut("node0")?.stop().map(drop)
}

/// A standby is starting as long as its archive does not say whether there is more.
fn replica_starting(side: &mut Side) -> Result<()> {
    patch(side, r#"{"ttl":20}"#)?;
    let over = yaml::load("postgresql: {recovery_conf: {restore_command: 'sleep 1000'}}")?;
    let member = side.lab.member_mut("node0")?;
    config::merge(&mut member.config, &over);
    member.start()?;
    says(side, "node0", "state", "starting")
}

fn replica_stopped(side: &mut Side) -> Result<()> {
    let over = yaml::load("postgresql: {recovery_conf: ~}")?;
    let member = side.lab.member_mut("node0")?;
    config::merge(&mut member.config, &over);
    member.kill_node()?;
    member.start()?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    ctl(side, "pause batman --wait")?;
    stop_postgres(side, "node0")
}

fn all_stopped(side: &mut Side) -> Result<()> {
    stop_postgres(side, "node1")?;
    wait_until("the leader key is released", SOON, || {
        let leader = side.lab.leader()?;
        ensure(leader.is_none(), || format!("{leader:?}"))
    })
}

/// node1 leads again and node0 follows it.
fn healed(side: &mut Side) -> Result<()> {
    let leader = side.lab.wait_other_leader("", SOON)?;
    if leader != "node1" {
        side.lab.wait_follows("node1", "node0", SOON)?;
        side.ctl(&["switchover", "batman", "--candidate", "node1", "--force"], None)?.ok()?;
    }
    side.lab.wait_leader("node1", SOON)?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    transact(side, "node1", &["node0"])
}

/// Waits until `member` has done what a change of the configuration asks, and then a whole cycle with nothing to do.
fn at_rest(side: &Side, member: &str) -> Result<()> {
    let member = side.lab.member(member)?;
    let before = member.log_text().len();
    wait_until(&format!("{} has nothing to do", member.name), SOON, || {
        let log = member.log_text();
        let count = log.get(before..).unwrap_or_default().matches("no action. I am").count();
        ensure(count > 1, || format!("{count} cycles without action"))
    })
}

/// Waits until the end of `member`'s log has a line with `text`.
fn logs(side: &Side, member: &str, text: &str) -> Result<()> {
    wait_until(&format!("{member} logs {text}"), SOON, || {
        let log = side.lab.member(member)?.log_text();
        ensure(log.lines().rev().take(20).any(|line| line.contains(text)), || "it does not".into())
    })
}

fn failsafe(side: &mut Side) -> Result<()> {
    ctl(side, "resume batman --wait")?;
    healed(side)?;
    key_says(side, "failsafe", "node0", true)?;
    side.lab.store.kill()?;
    logs(side, "node1", "continue to run as a leader because failsafe mode is enabled")?;
    logs(side, "node0", "DCS is not accessible")
}

fn dcs_down(side: &mut Side) -> Result<()> {
    side.lab.store.restart()?;
    healed(side)?;
    patch(side, r#"{"failsafe_mode":null,"slots":null}"#)?;
    at_rest(side, "node0")?;
    at_rest(side, "node1")?;
    side.lab.store.kill()?;
    says(side, "node1", "role", "replica")?;
    says(side, "node1", "state", "running")?;
    logs(side, "node1", "DCS is not accessible")?;
    logs(side, "node0", "DCS is not accessible")
}

fn no_leader(side: &mut Side) -> Result<()> {
    side.lab.store.restart()?;
    healed(side)?;
    let over = yaml::load("tags: {nofailover: true, note: 'a b'}")?;
    let member = side.lab.member_mut("node0")?;
    config::merge(&mut member.config, &over);
    member.stop()?;
    member.start()?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    transact(side, "node1", &["node0"])?;
    side.lab.member_mut("node1")?.kill_node()?;
    wait_until("the leader key and node1's end", SOON, || {
        let left =
            side.lab.keys()?.iter().any(|key| key.name.ends_with("leader") || key.name.ends_with("node1"));
        ensure(!left, || "they are there".into())
    })?;
    logs(side, "node0", "because I am not allowed to promote")
}

fn standby_cluster(side: &mut Side) -> Result<()> {
    side.lab.member_mut("node1")?.start()?;
    side.lab.wait_leader("node1", SOON)?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    let port = side.lab.member("node1")?.postgres;
    // The promotion is a change of the configuration: whether on_reload or on_role_change comes first, and the role that
    // the former is told, is a race in the reference too.
    let over = yaml::load(&format!(
        "bootstrap: {{dcs: {{standby_cluster: {{host: 127.0.0.1, port: {port}, create_replica_methods: [basebackup]}}}}}}\n\
         postgresql: {{callbacks: {{on_reload: /bin/true}}}}"
    ))?;
    for (name, path) in [("robin0", "/standby-leader"), ("robin1", "/replica")] {
        let kind: Kind = side.kind;
        let member = side.lab.add_to("batman1", name, kind)?;
        config::merge(&mut member.config, &over);
        member.start()?;
        side.lab.wait_status(name, path, 200, SOON)?;
    }
    side.learn()?;
    side.lab.wait_follows("robin1", "robin0", SOON)?;
    transact(side, "node1", &["node0", "robin0", "robin1"])?;
    request(side, "robin0", "POST", "/failover", Some(r#"{"candidate":"nobody"}"#))
}

fn standby_promoted(side: &mut Side) -> Result<()> {
    ctl_moving(side, "promote-cluster batman1 --force")?;
    side.lab.wait_status("robin0", "/primary", 200, SOON)?;
    wait_until("robin0 is promoted", SOON, || {
        let recovery = side.lab.member("robin0")?.sql("SELECT pg_is_in_recovery()")?;
        ensure(recovery == "f", || "it is in recovery".into())
    })?;
    try_ctl(side, "promote-cluster batman1 --force")?;
    side.lab.wait_follows("robin1", "robin0", SOON)?;
    transact(side, "robin0", &["robin1"])
}
