//! The sentences about files, disks and processes of a member, and about members that are not started yet.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Member, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::state::{kind_of, yaml, Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r#"a script "(\S+)""#, script),
    (r"(\w+) is made with", make),
    (r"(\w+) is made in the cluster (\w+) with", make_in),
    (r"(\w+)'s disk has (\d+) MB", disk),
    (r"(\w+)'s wall clock can be set", settable_clock),
    (r"(\w+)'s wall clock is set by (-?\d+) s", set_clock),
    (r"`(.+)` is run in (\w+)'s directory", shell),
    (r"`(.+)` succeeds in (\w+)'s directory(?: within (\d+) s)?", shell_succeeds),
    (r#"a process "(.+)" of (\w+) is (killed|frozen|thawed) within (\d+) s"#, process_signal),
    (r#"(a|no) process "(.+)" of (\w+) is there within (\d+) s"#, process_there),
    (r"(\w+)'s daemon ends with exit code (\d+) within (\d+) s", daemon_ends),
    (r"a reinitialize is posted to (\w+)", reinitialize),
    (r"(\d+) reinitializes of (\w+) are forced at once", reinitialize_at_once),
    (r"a restart of (\w+) is posted for (\d+) s from now", schedule_restart),
];

/// A program of the test cluster, in its directory.
fn script(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.lab()?;
    let path = lab.directory.join(call.arg(0));
    let text = call.doc.replace("LABROOT", &lab.directory.display().to_string());
    let text = text.replace("LABBIN", &lab.bin().display().to_string());
    std::fs::write(&path, text.trim_start())?;
    Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
}

fn make(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    let lab = state.lab()?;
    let kind = kind_of(lab.members.len());
    lab.add(call.arg(0), kind)?.configure(&over)
}

fn make_in(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    let lab = state.lab()?;
    let kind = kind_of(lab.members.len());
    lab.add_to(call.arg(1), call.arg(0), kind)?.configure(&over)
}

fn disk(state: &mut State, call: &Call) -> Result<()> {
    state.cluster()?.member(call.arg(0))?.mount_disk(call.arg(1).parse()?)
}

/// Before it starts: its daemon, and what that starts, look at the wall clock through a library that adds what we say.
fn settable_clock(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member_mut(call.arg(0))?;
    member.make_clock_settable()
}

fn set_clock(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member_mut(call.arg(0))?;
    std::fs::write(member.clock(), call.arg(1))?;
    Ok(())
}

/// Runs a shell's line as the unprivileged user in the member's directory, for at most 30 s.
fn run(state: &State, member: &Member, line: &str) -> Result<String> {
    let lab = state.cluster()?;
    let bin = lab.bin();
    let line = lab.members.iter().fold(line.to_owned(), |text, member| {
        text.replace(&format!("PORT({})", member.name), &member.postgres.to_string())
    });
    let mut command = process::command("/bin/sh".as_ref(), &member.directory, &bin)?;
    command.args(["-c", &member.fill_in(&line)]).env("PGPASSWORD", "lab-repl");
    process::run(command, Duration::from_secs(30))?.ok()
}

fn shell(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(1))?;
    run(state, member, call.arg(0)).map(drop)
}

fn shell_succeeds(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(1))?;
    wait_until(&call.text, call.seconds(2), || run(state, member, call.arg(0)).map(drop))
}

/// The processes of a member whose command line or title contains `text`.
fn titled(member: &Member, text: &str) -> Vec<Pid> {
    let has = |pid: &Pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    };
    process::under(&member.directory).into_iter().filter(has).collect()
}

fn process_signal(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(1))?;
    let signal = match call.arg(2) {
        "killed" => Signal::SIGKILL,
        "frozen" => Signal::SIGSTOP,
        _ => Signal::SIGCONT,
    };
    wait_until(&call.text, call.seconds(3), || {
        let found = titled(member, call.arg(0));
        ensure(!found.is_empty(), || "no such process".into())?;
        found.into_iter().try_for_each(|pid| Ok(kill(pid, signal)?))
    })
}

fn process_there(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(2))?;
    wait_until(&call.text, call.seconds(3), || {
        let found = titled(member, call.arg(1));
        ensure(found.is_empty() == (call.arg(0) == "no"), || format!("{found:?}"))
    })
}

fn daemon_ends(state: &mut State, call: &Call) -> Result<()> {
    let code = state.lab()?.member_mut(call.arg(0))?.wait_exit(call.seconds(2))?;
    ensure(code.to_string() == call.arg(1), || format!("exit code {code}"))
}

fn schedule_restart(state: &mut State, call: &Call) -> Result<()> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + call.seconds(1).as_secs();
    let member = state.cluster()?.member(call.arg(0))?;
    let at = member.sql(&format!(
        "SELECT to_char(to_timestamp({at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')"
    ))?;
    let answer = member.call("POST", "/restart", Some(&format!(r#"{{"schedule":"{at}"}}"#)))?;
    ensure(answer.status == 202, || format!("{} {}", answer.status, answer.body))
}

/// Each of those who ask must be told yes.
fn reinitialize_at_once(state: &mut State, call: &Call) -> Result<()> {
    let count = call.arg(0).parse::<usize>()?;
    let member = state.cluster()?.member(call.arg(1))?;
    let answers = std::thread::scope(|scope| {
        let ask = || member.call("POST", "/reinitialize", Some(r#"{"force": true}"#)).map(|a| a.status);
        let asked =
            (0..count).map(|_| scope.spawn(move || ask().map_err(|e| e.to_string()))).collect::<Vec<_>>();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("panic".into())))
            .collect::<Vec<_>>()
    });
    ensure(answers.iter().all(|a| *a == Ok(200)), || format!("{answers:?}"))
}

fn reinitialize(state: &mut State, call: &Call) -> Result<()> {
    let answer = state.cluster()?.member(call.arg(0))?.call("POST", "/reinitialize", Some("{}"))?;
    ensure(answer.status == 200, || format!("{} {}", answer.status, answer.body))
}
