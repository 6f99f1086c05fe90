//! The states that both clusters are brought into, one after the other.

use std::time::Duration;

use crate::lab::wait::ensure;
use crate::lab::{wait_until, Result};

use super::Side;

/// What brings a side into a state; each starts from the one before.
pub struct State {
    /// For a person.
    pub name: &'static str,
    /// Whether a short run visits it as well. A skipped state's act is not done.
    pub short: bool,
    /// Does it, and waits until it is so.
    pub enter: fn(&mut Side) -> Result<()>,
}

/// Long enough for some cycles of a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// All states in their order.
pub const STATES: &[State] = &[
    State { name: "a leader and a replica", short: true, enter: settled },
    State { name: "pending restart", short: true, enter: pending_restart },
    State { name: "restarted", short: false, enter: restarted },
    State { name: "paused", short: false, enter: paused },
    State { name: "resumed, a switchover is scheduled", short: false, enter: scheduled },
    State { name: "a restart is scheduled", short: false, enter: restart_scheduled },
    State { name: "synchronous mode", short: false, enter: synchronous },
    State { name: "quorum mode", short: false, enter: quorum },
    State { name: "permanent slots and failsafe mode", short: false, enter: slots },
    State { name: "after a switchover", short: true, enter: switched },
    State { name: "the replica's node is down", short: false, enter: replica_down },
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
        let value = side.lab.etcd.get(&side.lab.key(name))?.unwrap_or_default();
        ensure(value.contains(text) == says, || value)
    })
}

/// Runs the side's patronictl.
fn ctl(side: &Side, line: &str) -> Result<()> {
    let words: Vec<&str> = line.split(' ').collect();
    side.lab.ctl(side.kind, &words)?.ok().map(drop)
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

fn restarted(side: &mut Side) -> Result<()> {
    ctl(side, "restart batman --force")?;
    key_says(side, "members/node0", "pending_restart", false)?;
    key_says(side, "members/node1", "pending_restart", false)?;
    side.lab.wait_follows("node1", "node0", SOON)
}

fn paused(side: &mut Side) -> Result<()> {
    ctl(side, "pause batman --wait")
}

fn scheduled(side: &mut Side) -> Result<()> {
    ctl(side, "resume batman --wait")?;
    ctl(
        side,
        "switchover batman --leader node0 --candidate node1 --scheduled 2035-05-05T05:05:05+00:00 --force",
    )
}

fn restart_scheduled(side: &mut Side) -> Result<()> {
    ctl(side, "flush batman switchover --force")?;
    ctl(side, "restart batman node0 --scheduled 2035-05-05T05:05:05+00:00 --force")?;
    key_says(side, "members/node0", "scheduled_restart", true)
}

fn synchronous(side: &mut Side) -> Result<()> {
    ctl(side, "flush batman restart --force")?;
    patch(side, r#"{"synchronous_mode":true}"#)?;
    key_says(side, "sync", "node1", true)
}

fn quorum(side: &mut Side) -> Result<()> {
    patch(side, r#"{"synchronous_mode":"quorum"}"#)?;
    key_says(side, "sync", "\"quorum\":1", true).or_else(|_| key_says(side, "sync", "node1", true))
}

fn slots(side: &mut Side) -> Result<()> {
    patch(side, r#"{"synchronous_mode":null,"failsafe_mode":true,"slots":{"keep":{"type":"physical"}}}"#)?;
    key_says(side, "failsafe", "node1", true)?;
    key_says(side, "status", "\"keep\"", true)
}

fn switched(side: &mut Side) -> Result<()> {
    ctl(side, "switchover batman --leader node0 --candidate node1 --force")?;
    side.lab.wait_leader("node1", SOON)?;
    side.lab.wait_follows("node0", "node1", SOON)?;
    key_says(side, "history", "node1", true)?;
    key_says(side, "failover", "leader", false)
}

fn replica_down(side: &mut Side) -> Result<()> {
    side.lab.member_mut("node0")?.stop().map(drop)
}
