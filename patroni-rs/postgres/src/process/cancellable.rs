//! Child processes that a job waits for and that can be cancelled from outside
//! (surface-ha-pg 22-09): SIGTERM, up to 10 s of patience, then the process is
//! suspended and killed together with everything below it.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use pyfmt::oserror;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::binaries::Binaries;
use super::bound;
use super::proc::{self, Process};
use super::signals::kill_tree;

/// Patience after SIGTERM.
const TERM_GRACE: Duration = Duration::from_secs(10);
/// Patience after SIGKILL; a process in uninterruptible sleep may need longer.
const KILL_GRACE: Duration = Duration::from_secs(10);

/// A command to run.
#[derive(Debug, Clone, Default)]
pub struct Invocation {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Variables set on top of the daemon's own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Variables taken out of the daemon's environment.
    pub env_remove: Vec<OsString>,
    /// Capture standard output and error, and close standard input; otherwise both
    /// are inherited and standard input is empty.
    pub capture: bool,
    /// The longest it may run; `None` where the reference sets no limit.
    pub timeout: Option<Duration>,
    /// It may go on when the daemon dies: a script of the user's that writes nothing into PGDATA.
    pub outlives: bool,
}

impl Invocation {
    /// A command with inherited output and environment.
    pub fn new(argv: Vec<String>) -> Self {
        Invocation { argv, ..Default::default() }
    }

    /// A command line for `/bin/sh`, as `archive_command` is run.
    pub fn shell(line: String) -> Self {
        Invocation::new(vec!["/bin/sh".into(), "-c".into(), line])
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets several variables.
    pub fn envs(mut self, vars: &[(OsString, OsString)]) -> Self {
        self.env.extend_from_slice(vars);
        self
    }

    /// Captures the output.
    pub fn capture(mut self) -> Self {
        self.capture = true;
        self
    }

    /// Limits the run time.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Lets it go on when the daemon dies.
    pub fn outlives(mut self) -> Self {
        self.outlives = true;
        self
    }

    /// The command, ready to spawn. It is killed when its handle is dropped.
    pub fn prepare(&self, bin: &Binaries) -> io::Result<Command> {
        let (program, args) = self
            .argv
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "empty command"))?;
        let mut command = bin.command(program);
        command.args(args).kill_on_drop(true);
        for name in &self.env_remove {
            command.env_remove(name);
        }
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        if self.capture {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        Ok(command)
    }
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; the negative signal number when a signal ended it, as in Python.
    pub code: i32,
    /// Captured standard output.
    pub stdout: Vec<u8>,
    /// Captured standard error.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Exit code 0?
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

/// Why there is no exit code.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The job had been cancelled before this command could start.
    #[error("cancelled")]
    Cancelled,
    /// It could not be started.
    #[error("{0}")]
    Spawn(io::Error),
    /// It was started, and nobody knows how it ended.
    #[error("{0}")]
    Lost(#[from] io::Error),
    /// It was killed because it ran longer than allowed.
    #[error("timed out")]
    TimedOut,
}

/// The cancel flag of the one long-running job of this node. Clones share it.
#[derive(Debug, Clone)]
pub struct Cancellable {
    flag: watch::Sender<bool>,
    /// What the children work on, so that they can be found when they are left behind.
    data_dir: Option<OsString>,
}

impl Default for Cancellable {
    fn default() -> Self {
        Cancellable { flag: watch::Sender::new(false), data_dir: None }
    }
}

impl Cancellable {
    /// For the jobs on a data directory.
    pub fn for_data_dir(data_dir: &Path) -> Self {
        Cancellable { data_dir: Some(data_dir.as_os_str().to_owned()), ..Cancellable::default() }
    }

    /// Cancels: the running command is terminated, no other is started until
    /// [`Cancellable::reset`].
    pub fn cancel(&self) {
        self.flag.send_replace(true);
    }

    /// Allows commands again, before a new job.
    pub fn reset(&self) {
        self.flag.send_replace(false);
    }

    /// Has it been cancelled?
    pub fn is_cancelled(&self) -> bool {
        *self.flag.borrow()
    }

    /// Completes when it is cancelled. Cancel safe.
    pub async fn cancelled(&self) {
        let mut seen = self.flag.subscribe();
        // The sender lives as long as `self`, so an error cannot happen here.
        let _ = seen.wait_for(|c| *c).await;
    }

    /// Sleeps; `false` when cancelled before the time was over.
    pub async fn sleep(&self, duration: Duration) -> bool {
        tokio::select! {
            () = self.cancelled() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }

    /// Runs a command to its end. A command that is cancelled half-way returns the
    /// code that its signal gave it.
    ///
    /// # Errors
    /// See [`CallError`]; a failed start is logged here.
    pub async fn call(&self, bin: &Binaries, invocation: &Invocation) -> Result<Finished, CallError> {
        if self.is_cancelled() {
            return Err(CallError::Cancelled);
        }
        let spawned = match invocation.prepare(bin) {
            Ok(command) => self.spawn(command, invocation.outlives).await,
            Err(e) => Err(e),
        };
        let child = spawned.map_err(|e| {
            log_not_started("patroni.postgresql.cancellable", &invocation.argv, &show(&invocation.argv), &e);
            CallError::Spawn(e)
        })?;
        self.finish(child, invocation).await
    }

    /// Starts a prepared command, bound to the life of the daemon unless it `outlives` it.
    ///
    /// # Errors
    /// Those of fork and exec.
    pub async fn spawn(&self, mut command: Command, outlives: bool) -> io::Result<Child> {
        if outlives {
            return command.spawn();
        }
        if let Some(dir) = &self.data_dir {
            command.env(bound::WORKS_ON, dir);
        }
        bound::spawn(command).await
    }

    /// Waits for a child that was spawned from `invocation`, under its rules.
    ///
    /// # Errors
    /// `TimedOut`, or an error of reading from or waiting for the child.
    pub async fn finish(&self, mut child: Child, invocation: &Invocation) -> Result<Finished, CallError> {
        let root = child.id().and_then(|pid| Process::find(pid as i32));
        // Read while we wait, or a full pipe would stop the child.
        let stdout = tokio::spawn(drain(child.stdout.take()));
        let stderr = tokio::spawn(drain(child.stderr.take()));
        let limit = invocation.timeout;
        let mut timed_out = false;
        let status = tokio::select! {
            status = child.wait() => status?,
            () = self.cancelled() => terminate(&mut child, root, &invocation.argv).await?,
            () = tokio::time::sleep(limit.unwrap_or_default()), if limit.is_some() => {
                timed_out = true;
                terminate(&mut child, root, &invocation.argv).await?
            }
        };
        if timed_out {
            return Err(CallError::TimedOut);
        }
        // A grandchild that was left behind may hold the pipes open forever.
        let both = tokio::time::timeout(KILL_GRACE, futures_util::future::join(stdout, stderr)).await;
        let (stdout, stderr) = both.map_or((Vec::new(), Vec::new()), |(out, err)| {
            (out.unwrap_or_default(), err.unwrap_or_default())
        });
        Ok(Finished { code: exit_code(status), stdout, stderr })
    }
}

/// Reads a pipe to its end.
async fn drain(pipe: Option<impl AsyncReadExt + Unpin + Send + 'static>) -> Vec<u8> {
    let Some(mut pipe) = pipe else { return Vec::new() };
    let mut data = Vec::new();
    let _ = pipe.read_to_end(&mut data).await;
    data
}

/// Python's `returncode` of an exit status.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap_or_default())
}

/// A command as it appears in log lines: Python's `repr` of the list.
pub fn show(argv: &[String]) -> String {
    let list = argv.iter().map(|a| pyfmt::Value::from(a.as_str())).collect();
    pyfmt::Value::List(list).py_repr()
}

/// Logs why a command could not be started.
pub(super) fn log_not_started(logger: &'static str, argv: &[String], shown: &str, error: &io::Error) {
    let text = oserror::text(error, argv.first().map(String::as_str));
    let exception = format!("{}: {text}", oserror::class(error));
    match logger {
        "patroni.postgresql.postmaster" => tracing::error!(
            target: "patroni.postgresql.postmaster", exc = %exception, "Failed to execute {shown}"
        ),
        _ => tracing::error!(
            target: "patroni.postgresql.cancellable", exc = %exception, "Failed to execute {shown}"
        ),
    }
}

/// SIGTERM, patience, then the whole tree is killed.
async fn terminate(
    child: &mut Child,
    root: Option<Process>,
    argv: &[String],
) -> io::Result<std::process::ExitStatus> {
    tracing::info!(target: "patroni.postgresql.cancellable", "Terminating {}", show(argv));
    if let Some(process) = root {
        let _ = process.signal(Signal::SIGTERM);
    }
    if let Ok(status) = tokio::time::timeout(TERM_GRACE, child.wait()).await {
        return status;
    }
    if let Some(process) = root {
        tracing::warn!(
            target: "patroni.postgresql.cancellable", "Killed {} because it was still running", show(argv)
        );
        if let Ok(victims) = tokio::task::spawn_blocking(move || kill_tree(&process)).await {
            let below: Vec<Process> = victims.into_iter().filter(|p| *p != process).collect();
            proc::wait_all(&below, Some(KILL_GRACE)).await;
        }
    }
    child.wait().await
}

/// Writes `input` to a child's standard input and closes it.
///
/// # Errors
/// The error of the pipe.
pub async fn feed(child: &mut Child, input: &[u8]) -> io::Result<()> {
    match child.stdin.take() {
        Some(mut pipe) => pipe.write_all(input).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Instant;

    fn sh(line: &str) -> Invocation {
        Invocation::shell(line.into()).capture()
    }

    #[tokio::test]
    async fn output_code_and_environment() {
        let (bin, cancel) = (Binaries::default(), Cancellable::default());
        let done = cancel.call(&bin, &sh("echo $A; echo b >&2; exit 3").env("A", "x")).await.unwrap();
        assert_eq!(done, Finished { code: 3, stdout: b"x\n".to_vec(), stderr: b"b\n".to_vec() });
        assert_eq!(cancel.call(&bin, &sh("kill -9 $$")).await.unwrap().code, -9);
        let missing = cancel.call(&bin, &Invocation::new(vec!["/no/such".into()])).await;
        assert!(matches!(missing, Err(CallError::Spawn(_))));
        let slow = cancel.call(&bin, &sh("sleep 5").timeout(Duration::from_millis(50))).await;
        assert!(matches!(slow, Err(CallError::TimedOut)));
        // More output than a pipe holds.
        let big =
            cancel.call(&bin, &sh("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2")).await.unwrap();
        assert_eq!((big.stdout.len(), big.stderr.len()), (300_000, 300_000));
    }

    #[tokio::test]
    async fn cancelling_terminates_and_blocks_further_calls() {
        let (bin, cancel) = (Binaries::default(), Cancellable::default());
        let other = cancel.clone();
        let started = Instant::now();
        let canceller = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            other.cancel();
        };
        let invocation = sh("exec sleep 20");
        let (done, ()) = tokio::join!(cancel.call(&bin, &invocation), canceller);
        assert_eq!(done.unwrap().code, -15);
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(matches!(cancel.call(&bin, &sh("true")).await, Err(CallError::Cancelled)));
        assert!(!cancel.sleep(Duration::from_secs(5)).await);
        cancel.reset();
        assert!(cancel.call(&bin, &sh("true")).await.unwrap().success());
    }

    #[test]
    fn commands_are_shown_as_python_lists() {
        assert_eq!(show(&["a b".into(), "it's".into()]), "['a b', \"it's\"]");
    }
}
