//! What can be done to the cluster while it is written to. Each act waits until all is well again, and says how long the
//! writer had to wait and how many acknowledged rows are missing.

use std::time::Duration;

use nix::sys::signal::Signal;
use pyfmt::json;

use super::Stage;
use crate::lab::cluster::BRING_UP;
use crate::lab::wait::ensure;
use crate::lab::{host, process, wait_until, writer, Cluster, Kind, Result};

/// How long another may take to lead: the ttl and what the promotion takes, on a busy machine.
const TAKE_OVER: Duration = Duration::from_secs(60);
/// How long patronictl may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A thing that can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// The leader hands over.
    Switchover,
    /// The leader's node dies at once, and comes back when another leads.
    Kill,
    /// The leader's node stands still; the next time it goes on.
    Freeze,
    /// A replica is replaced by Python Patroni; the next time it is ours again.
    Mix,
}

/// Does it.
///
/// # Errors
/// The cluster did not heal, or acknowledged rows are missing.
pub fn perform(stage: &Stage, act: Act) -> Result<()> {
    match act {
        Act::Switchover => switchover(stage),
        Act::Kill => kill(stage),
        Act::Freeze => match stage.frozen().clone() {
            None => freeze(stage),
            Some(name) => thaw(stage, &name),
        },
        Act::Mix => mix(stage),
    }
}

/// Shows what `patronictl list` prints.
pub fn list(stage: &Stage) {
    let command = stage.cluster().ctl_command(Kind::Ours, &["list"]);
    match command.and_then(|command| process::run(command, PATIENCE)?.ok()) {
        Ok(text) => stage.screen.say(text.trim_end()),
        Err(error) => stage.screen.say(&format!("patronictl list: {error}")),
    }
}

/// Looks at the cluster until `condition` holds; held for one look at a time.
fn until<T>(
    stage: &Stage,
    what: &str,
    within: Duration,
    condition: impl Fn(&Cluster) -> Result<T>,
) -> Result<T> {
    wait_until(what, within, || condition(&stage.cluster()))
}

fn leader(stage: &Stage) -> Result<String> {
    Ok(stage.cluster().leader()?.ok_or("nobody leads at the moment")?)
}

fn switchover(stage: &Stage) -> Result<()> {
    let (old, from) = (leader(stage)?, stage.writer.now());
    stage.screen.say(&format!("patronictl switchover: {old} hands over"));
    let command =
        stage.cluster().ctl_command(Kind::Ours, &["switchover", "demo", "--leader", &old, "--force"])?;
    process::run(command, PATIENCE)?.ok()?;
    let new = other_leads(stage, &old)?;
    follows(stage, &old, &new)?;
    sum_up(stage, &format!("{new} leads, {old} follows"), from)
}

fn kill(stage: &Stage) -> Result<()> {
    let (old, from) = (leader(stage)?, stage.writer.now());
    stage.cluster().member_mut(&old)?.kill_node()?;
    stage.screen.say(&format!(
        "{}: daemon, guardian and PostgreSQL at once; nobody may lead before its lease has run out",
        stage.screen.red(&format!("{old}'s node killed"))
    ));
    let new = other_leads(stage, &old)?;
    stage.screen.say(&format!("{new} leads; {old} is started again"));
    stage.cluster().member_mut(&old)?.start()?;
    follows(stage, &old, &new)?;
    sum_up(stage, &format!("{old} follows {new}"), from)
}

fn freeze(stage: &Stage) -> Result<()> {
    let (old, from) = (leader(stage)?, stage.writer.now());
    stage.cluster().member(&old)?.signal_node(Signal::SIGSTOP);
    *stage.frozen() = Some(old.clone());
    stage.screen.say(&format!("{} (SIGSTOP)", stage.screen.red(&format!("{old}'s node stands still"))));
    let new = other_leads(stage, &old)?;
    until(stage, "a standby is synchronous", BRING_UP, |lab| wait_synchronous(lab, Duration::ZERO))?;
    sum_up(stage, &format!("{new} leads; p lets {old} go on"), from)
}

fn thaw(stage: &Stage, old: &str) -> Result<()> {
    let (new, from) = (leader(stage)?, stage.writer.now());
    stage.cluster().member(old)?.signal_node(Signal::SIGCONT);
    *stage.frozen() = None;
    stage.screen.say(&format!("{old} goes on, and believes to lead for a moment"));
    follows(stage, old, &new)?;
    sum_up(stage, &format!("{old} follows {new}"), from)
}

fn mix(stage: &Stage) -> Result<()> {
    let (leader, from) = (leader(stage)?, stage.writer.now());
    let (name, kind) = {
        let mut lab = stage.cluster();
        let foreign = lab.members.iter().position(|member| member.kind == Kind::Reference);
        let replica = lab.members.iter().rposition(|member| member.name != leader);
        let index = foreign.or(replica).ok_or("there is no replica")?;
        let kind = if foreign.is_some() { Kind::Ours } else { Kind::Reference };
        if kind == Kind::Reference && !host::reference("patroni").exists() {
            return Err("Python Patroni is not here; scripts/setup installs it".into());
        }
        let member = lab.members.get_mut(index).ok_or("there is no replica")?;
        // A leader hands over when it is stopped, as in any restart of the service.
        member.stop()?;
        member.kind = kind;
        member.start()?;
        (member.name.clone(), kind)
    };
    let program = if kind == Kind::Ours { "patroni-rs" } else { "Python Patroni" };
    stage.screen.say(&format!("{name} is stopped, and started again as {program}, with the same file"));
    let new = until(stage, "somebody leads", TAKE_OVER, |lab| {
        let new = lab.leader()?.ok_or("no leader")?;
        ensure(new != name, || format!("{new} leads"))?;
        Ok(new)
    })?;
    follows(stage, &name, &new)?;
    sum_up(stage, &format!("{name} runs {program}, and follows {new}"), from)
}

/// Waits until a member other than `old` takes writes.
fn other_leads(stage: &Stage, old: &str) -> Result<String> {
    let new = until(stage, &format!("another leads than {old}"), TAKE_OVER, |lab| {
        let new = lab.leader()?.ok_or("no leader")?;
        ensure(new != old, || format!("{old} leads"))?;
        let recovery = lab.member(&new)?.sql("SELECT pg_is_in_recovery()")?;
        ensure(recovery == "f", || format!("{new} is in recovery"))?;
        Ok(new)
    })?;
    stage.writer.wait_rows(1, TAKE_OVER)?;
    Ok(new)
}

/// Waits until `/sync` names a standby: without one nobody may take over from a leader that dies.
///
/// # Errors
/// Not in time.
pub fn wait_synchronous(lab: &Cluster, within: Duration) -> Result<()> {
    wait_until("a standby is synchronous", within, || {
        let sync = lab.store.get(&lab.key("sync"))?.ok_or("no /sync")?;
        let named = json::loads(&sync)?.get("sync_standby").is_some_and(|names| !names.is_null());
        ensure(named, || sync)
    })
}

/// Waits until `name` streams from `leader`, and a standby is synchronous.
fn follows(stage: &Stage, name: &str, leader: &str) -> Result<()> {
    until(stage, &format!("{name} follows {leader}"), BRING_UP, |lab| {
        lab.wait_follows(name, leader, Duration::ZERO)?;
        wait_synchronous(lab, Duration::ZERO)
    })
}

/// Says how it went: the longest time without an acknowledged row since `from`, and the rows that are missing.
fn sum_up(stage: &Stage, what: &str, from: Duration) -> Result<()> {
    let record = stage.writer.record();
    let waited = stage.writer.progress(from).longest;
    let leader = leader(stage)?;
    let missing = writer::missing(&stage.cluster(), &leader, &record)?.len();
    let lost = match missing {
        0 => stage.screen.green("0 lost"),
        some => stage.screen.red(&format!("{some} lost")),
    };
    stage.screen.say(&format!(
        "{what}: {:.2} s without a write; of {} acknowledged rows {lost}",
        waited.as_secs_f32(),
        record.acknowledged.len()
    ));
    ensure(missing == 0, || format!("{missing} acknowledged rows are missing"))
}
