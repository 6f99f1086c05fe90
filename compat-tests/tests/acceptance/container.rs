//! Daemons that are PID 1 of processes of their own, as in a container.

use std::process::{Command, Stdio};
use std::time::Duration;

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::state::{Call, State};
use super::steps::Step;

/// The sentences of this module.
pub const STEPS: &[(&str, Step)] = &[
    (r"each daemon is PID 1 of processes of its own", pid_1),
    (r"an orphan of (\w+) is reaped within (\d+) s", orphan),
    (r"the process below PID 1 of (\w+) is killed", kill_below),
    (r"(\w+) ends with exit code (\d+) within (\d+) s", ends),
    (r"no process of (\w+) is left within (\d+) s", nothing_left),
];

fn pid_1(state: &mut State, _: &Call) -> Result<()> {
    state.options.pid_1 = true;
    Ok(())
}

/// The orphans among the children of PID 1, living and dead.
fn orphans(init: Pid) -> usize {
    let name = |pid: &Pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    process::children(init).iter().filter(|pid| name(pid).trim_end() == "sleep").count()
}

/// Started by a parent that ends before it: PID 1 becomes its parent, and has to hear of its end.
fn orphan(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member_mut(call.arg(0))?;
    let init = member.daemon().ok_or("it does not run")?;
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &init.to_string(), "--pid", "sh", "-c", "sleep 4 & "]);
    enter.current_dir(&member.directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = enter.status()?;
    ensure(status.success(), || format!("nsenter: {status}"))?;
    let there = Duration::from_secs(2);
    wait_until("PID 1 has the orphan", there, || ensure(orphans(init) == 1, || "it has not".into()))?;
    wait_until(&call.text, call.seconds(1), || ensure(orphans(init) == 0, || "it is still there".into()))
}

fn kill_below(state: &mut State, call: &Call) -> Result<()> {
    let init = state.lab()?.member_mut(call.arg(0))?.daemon().ok_or("it does not run")?;
    let daemon = process::children(init).first().copied().ok_or("it has no children")?;
    Ok(kill(daemon, Signal::SIGKILL)?)
}

fn ends(state: &mut State, call: &Call) -> Result<()> {
    let code = state.lab()?.member_mut(call.arg(0))?.wait_exit(call.seconds(2))?;
    ensure(code.to_string() == call.arg(1), || format!("exit code {code}"))
}

fn nothing_left(state: &mut State, call: &Call) -> Result<()> {
    let directory = state.cluster()?.member(call.arg(0))?.directory.clone();
    wait_until(&call.text, call.seconds(1), || {
        let left = process::under(&directory);
        ensure(left.is_empty(), || format!("{left:?}"))
    })
}
