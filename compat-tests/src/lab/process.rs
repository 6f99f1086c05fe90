//! Processes of the test cluster: started in their own session, found by their working directory.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::{host, wait_until, Result};

/// Starts a program to talk with: what it is told goes into the child's input, and the lines
/// that it writes come as they are written. Its errors are not heard.
///
/// # Errors
/// It does not start.
pub fn conversation(mut command: Command) -> Result<(Child, Receiver<String>)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let output = child.stdout.take().ok_or("no output")?;
    let (send, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::io::Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    Ok((child, lines))
}

/// The process of a child that lives; one that has ended is forgotten.
pub fn living(child: &mut Option<Child>) -> Option<Pid> {
    match child.as_mut()?.try_wait() {
        Ok(None) => child.as_ref().and_then(|c| i32::try_from(c.id()).ok()).map(Pid::from_raw),
        _ => {
            *child = None;
            None
        }
    }
}

/// What a finished program gave.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// The exit code; -1 after a signal.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// The standard output, if the exit code is 0.
    ///
    /// # Errors
    /// Another exit code: all that was printed.
    pub fn ok(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        Err(format!("exit code {}: {}{}", self.code, self.stdout, self.stderr).into())
    }
}

/// A command that runs as the unprivileged user in `directory`, in a session of its own, with a small
/// environment that has no PATRONI_* variables.
///
/// # Errors
/// There is no unprivileged user.
pub fn command(program: &Path, directory: &Path, bin: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command
        .current_dir(directory)
        .env_clear()
        .env("HOME", directory)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
        .stdin(Stdio::null());
    for name in ["RUST_LOG", "RUST_BACKTRACE"] {
        if let Ok(value) = std::env::var(name) {
            command.env(name, value);
        }
    }
    if let Some((uid, gid)) = host::unprivileged()? {
        command.uid(uid.as_raw()).gid(gid.as_raw());
    }
    // SAFETY: setsid is async-signal-safe, and nothing else runs between fork and exec.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    Ok(command)
}

/// The same, as PID 1 of processes of its own: what is started is the parent of that, and ends with its exit code.
///
/// # Errors
/// We are not root.
pub fn as_pid_1(program: &Path, directory: &Path, bin: &Path) -> Result<Command> {
    let (uid, gid) = host::unprivileged()?.ok_or("not root: no PID 1 of another user")?;
    let mut command = command(Path::new("/usr/bin/unshare"), directory, bin)?;
    command.uid(0).gid(0).args(["--pid", "--fork", "--kill-child", "--mount-proc", "setpriv"]);
    command.args(["--reuid", &uid.to_string(), "--regid", &gid.to_string(), "--clear-groups"]).arg(program);
    Ok(command)
}

/// The children of a process, in the order of their start, those that nobody has reaped yet too.
pub fn children(of: Pid) -> Vec<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}

/// Starts a daemon whose output is appended to `log`.
///
/// # Errors
/// The log cannot be opened or the program not started.
pub fn daemon(mut command: Command, log: &Path) -> Result<Child> {
    let file = OpenOptions::new().create(true).append(true).open(log)?;
    host::give_away(log)?;
    let program = command.get_program().to_owned();
    command.stdout(file.try_clone()?).stderr(file);
    spawn(&mut command).map_err(|e| format!("{program:?}: {e}").into())
}

/// Starts a program that may just have been written: another thread's fork may still hold it open.
fn spawn(command: &mut Command) -> Result<Child> {
    let started = wait_until("the program is not busy", Duration::from_secs(5), || match command.spawn() {
        Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => Err(e.to_string().into()),
        other => Ok(other),
    })?;
    Ok(started?)
}

/// Runs a program to its end, and kills it when `within` has passed.
///
/// # Errors
/// It cannot be started, or it took too long.
pub fn run(mut command: Command, within: Duration) -> Result<Output> {
    let what = format!("{command:?}");
    let child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let done =
        finish(child.map_err(|e| format!("{what}: {e}"))?, within).map_err(|e| format!("{e}: {what}"))?;
    Ok(Output {
        code: done.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

/// Waits for a program's end, and kills it when `within` has passed.
///
/// # Errors
/// It took too long.
pub fn finish(child: Child, within: Duration) -> Result<std::process::Output> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let (send, receive) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(done) = receive.recv_timeout(within) else {
        let _ = kill(pid, Signal::SIGKILL);
        return Err(format!("still running after {} s", within.as_secs()).into());
    };
    Ok(done?)
}

/// Runs a program that may leave daemons behind: its output is thrown away, so that nobody waits for theirs.
///
/// # Errors
/// It cannot be started, fails, or takes longer than `within`.
pub fn run_quietly(mut command: Command, within: Duration) -> Result<()> {
    let what = format!("{command:?}");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let status = wait_until(&what, within, || child.try_wait()?.ok_or_else(|| "it runs".into()))?;
    super::wait::ensure(status.success(), || format!("{what}: {status}"))
}

/// The processes whose working directory is `directory` or lies in it, zombies aside.
pub fn under(directory: &Path) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    ids.filter(|id| {
        std::fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|cwd: PathBuf| cwd.starts_with(directory))
    })
    .map(Pid::from_raw)
    .collect()
}

/// Sends `signal` to all processes under `directory`.
pub fn signal_under(directory: &Path, signal: Signal) {
    for pid in under(directory) {
        let _ = kill(pid, signal);
    }
}

/// Ends all processes under `directory`, as [`kill_under`] does, but lets postmasters remove their shared memory before: the
/// system keeps what a killed one leaves, and has 4096 segments.
///
/// # Errors
/// Some live on.
pub fn end_under(directory: &Path) -> Result<()> {
    let is_postmaster = |pid: &Pid| {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"postgres")) && words.any(|word| word == b"-D")
    };
    let (servers, others): (Vec<Pid>, Vec<Pid>) = under(directory).into_iter().partition(is_postmaster);
    let daemons = others.into_iter().filter(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() != "postgres"
    });
    for pid in daemons {
        let _ = kill(pid, Signal::SIGKILL);
    }
    for pid in &servers {
        let _ = kill(*pid, Signal::SIGQUIT);
        let _ = kill(*pid, Signal::SIGCONT);
    }
    let patience = Duration::from_secs(2);
    let _ = wait_until("the servers have ended", patience, || {
        let left = servers.iter().filter(|pid| is_postmaster(pid)).count();
        super::wait::ensure(left == 0, || format!("{left} live"))
    });
    kill_under(directory)
}

/// Kills all processes under `directory` until none is left.
///
/// # Errors
/// Some live on.
pub fn kill_under(directory: &Path) -> Result<()> {
    wait_until("all processes killed", Duration::from_secs(10), || {
        signal_under(directory, Signal::SIGKILL);
        let left = under(directory);
        super::wait::ensure(left.is_empty(), || format!("{left:?} live"))
    })
}
