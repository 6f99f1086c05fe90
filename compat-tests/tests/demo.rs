//! Whatever ends the demonstration, at whatever moment: it ends soon, and leaves no process and no file.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{channel, Receiver};
use std::time::{Duration, Instant};

use compat_tests::ctl::terminal;
use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// How long the cluster may take to come up, on a busy machine.
const UP: Duration = Duration::from_secs(120);
/// How long an end may take. It takes a second; machines are busy.
const END: Duration = Duration::from_secs(10);

/// A running demonstration.
struct Demo {
    child: Child,
    lines: Receiver<String>,
}

impl Demo {
    fn start(arguments: &[&str]) -> Result<Demo> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(std::io::Result::ok);
            lines.for_each(|line| drop(send.send(line)));
        });
        Ok(Demo { child, lines })
    }

    /// Waits until it has shown a line with `text`.
    fn shows(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + UP;
        loop {
            let line = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))?;
            if line.contains(text) {
                return Ok(());
            }
        }
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// Waits for its end, and for nothing to be left in `directory`. Gives the exit code, -1 after a signal.
    fn ends(&mut self, directory: &Path) -> Result<i32> {
        let status = wait_until("the demonstration ends", END, || {
            self.child.try_wait()?.ok_or_else(|| "it runs".into())
        })?;
        nothing_left(directory)?;
        Ok(status.code().unwrap_or(-1))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The directory of the demonstration whose process is `pid`, as its janitor was told.
fn directory(pid: Pid) -> Result<PathBuf> {
    wait_until("the janitor", UP, || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let lines = children
            .split_whitespace()
            .filter_map(|child| std::fs::read(format!("/proc/{child}/cmdline")).ok());
        let janitor = lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .find(|line| line.contains("janitor"));
        let janitor = janitor.ok_or("there is none")?;
        let directory = janitor.trim_end_matches('\0').rsplit('\0').next().unwrap_or_default().to_string();
        ensure(directory.starts_with("/tmp/"), || directory.clone())?;
        Ok(PathBuf::from(directory))
    })
}

fn nothing_left(directory: &Path) -> Result<()> {
    wait_until("nothing is left", END, || {
        let left = process::under(directory);
        ensure(left.is_empty() && !directory.exists(), || format!("{left:?}, {}", directory.display()))
    })
}

/// Starts one, waits for a line, does `how` to it, and expects this exit code.
fn ended(arguments: &[&str], after: &str, code: i32, how: impl Fn(Pid, &Path) -> Result<()>) {
    let work = || -> Result<i32> {
        let mut demo = Demo::start(arguments)?;
        let (pid, directory) = (demo.pid()?, directory(demo.pid()?)?);
        demo.shows(after)?;
        how(pid, &directory)?;
        demo.ends(&directory)
    };
    assert_eq!(work().map_err(|error| error.to_string()), Ok(code));
}

#[test]
fn by_ctrl_c_while_it_comes_up() {
    ended(&[], "etcd answers", 130, |pid, _| Ok(kill(pid, Signal::SIGINT)?));
}

#[test]
fn by_ctrl_c_twice_in_a_failover() {
    ended(&["--failover"], "node killed", 130, |pid, _| {
        kill(pid, Signal::SIGINT)?;
        Ok(kill(pid, Signal::SIGINT)?)
    });
}

#[test]
fn by_a_closed_terminal_and_a_member_killed_by_hand() {
    ended(&[], "all files", 129, |pid, directory| {
        process::signal_under(&directory.join("demo/node2"), Signal::SIGKILL);
        Ok(kill(pid, Signal::SIGHUP)?)
    });
}

#[test]
fn by_sigterm_in_a_switchover() {
    ended(&["--switchover"], "hands over", 143, |pid, _| Ok(kill(pid, Signal::SIGTERM)?));
}

#[test]
fn by_a_kill_of_itself() {
    ended(&[], "all files", -1, |pid, _| Ok(kill(pid, Signal::SIGKILL)?));
}

#[test]
fn by_a_key_after_a_list() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    // SAFETY: setsid is async-signal-safe; the terminal becomes the session's.
    #[allow(unsafe_code)]
    unsafe {
        use std::os::unix::process::CommandExt;
        command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(std::io::Error::from));
    }
    let steps = [("[q] quit", "l"), ("TL | Receive LSN", "q")];
    let steps = steps.map(|(wait, keys)| (wait.to_string(), keys.to_string()));
    let shown = terminal::run(command, 120, &steps).unwrap();
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""), "{}", shown.stdout);
    let directory = shown.stdout.split("all files  ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    nothing_left(&PathBuf::from(directory.trim())).unwrap();
    assert!(
        shown.stdout.contains("nobody holds") || shown.stdout.contains("lease of node1"),
        "{}",
        shown.stdout
    );
}

#[test]
fn help_is_no_error() {
    let shown = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--help").output().unwrap();
    assert!(shown.status.success() && String::from_utf8_lossy(&shown.stdout).contains("--freeze"));
}
