//! What `/proc` says about processes. Source: proc_pid_stat(5).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::{sysconf, Pid, SysconfVar};

use super::evidence::{self, Life};
use super::pidfd::PidFd;

/// Poll interval where the kernel has no pidfd.
const EXIT_POLL: Duration = Duration::from_millis(10);

/// The fields of `/proc/PID/stat` that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: i32,
    /// State letter: `R`, `S`, `Z`, ...
    pub state: char,
    /// Parent's process id.
    pub ppid: i32,
    /// Session id.
    pub session: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// One process, told apart from a later one with the same pid by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub start_ticks: u64,
}

/// Parses the text of `/proc/PID/stat`. The command name may hold spaces and
/// parentheses, so fields are counted after the last `)`.
fn parse_stat(text: &str) -> Option<Stat> {
    let pid = text.split(' ').next()?.parse().ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |i: usize| fields.get(i).and_then(|f| f.parse::<i64>().ok());
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        ppid: i32::try_from(number(1)?).ok()?,
        session: i32::try_from(number(3)?).ok()?,
        start_ticks: u64::try_from(number(19)?).ok()?,
    })
}

impl Stat {
    /// It has ended, and nobody has taken note of it yet.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// The status of the process with this pid; `None` when there is none, for certain.
///
/// # Errors
/// Nobody can tell.
pub fn look(pid: i32) -> io::Result<Option<Stat>> {
    let text = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => text,
        // Where processes are hidden, or /proc is not mounted, it may be there all the same.
        Err(e) if evidence::is_gone(&e) => match kill(Pid::from_raw(pid), None) {
            Ok(()) => return Err(e),
            Err(_) => return Ok(None),
        },
        Err(e) => return Err(e),
    };
    parse_stat(&text).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The status of a process, or `None` when there is none with this pid or it cannot be read.
pub fn stat(pid: i32) -> Option<Stat> {
    look(pid).ok().flatten()
}

/// Seconds since the epoch at which the machine was started (`btime`).
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

/// All processes of the machine.
///
/// # Errors
/// Not all could be looked at: nobody can say then what is not there.
fn all() -> io::Result<Vec<Stat>> {
    evidence::pids()?.into_iter().filter_map(|pid| look(pid).transpose()).collect()
}

/// The processes of this user whose command line is `argv` (other arguments may follow).
pub fn named(argv: &[&[u8]]) -> Vec<Process> {
    let own = nix::unistd::geteuid().as_raw();
    let is_ours = |pid: i32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|m| m.uid() == own);
    let has_name = |pid: i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
            argv.iter().zip(line.split(|b| *b == 0)).filter(|(a, b)| *a == b).count() == argv.len()
        })
    };
    let mut found = all().unwrap_or_default();
    found.retain(|s| !s.is_zombie() && is_ours(s.pid) && has_name(s.pid));
    found.iter().map(|s| Process { pid: s.pid, start_ticks: s.start_ticks }).collect()
}

/// The children of a process, and theirs too when `recursive`.
///
/// # Errors
/// Nobody can tell.
pub fn children(pid: i32, recursive: bool) -> io::Result<Vec<Process>> {
    let processes = all()?;
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        for s in processes.iter().filter(|s| s.ppid == parent) {
            found.push(Process { pid: s.pid, start_ticks: s.start_ticks });
            if recursive {
                parents.push(s.pid);
            }
        }
    }
    Ok(found)
}

impl Process {
    /// The running process with this pid; a zombie counts as gone. `None` also when it cannot be read.
    pub fn find(pid: i32) -> Option<Process> {
        Process::look(pid).ok().flatten()
    }

    /// The running process with this pid; a zombie counts as gone.
    ///
    /// # Errors
    /// Nobody can tell.
    pub fn look(pid: i32) -> io::Result<Option<Process>> {
        if pid <= 0 {
            return Ok(None);
        }
        let found = look(pid)?.filter(|s| !s.is_zombie());
        Ok(found.map(|s| Process { pid, start_ticks: s.start_ticks }))
    }

    /// Is it still there? A zombie is not: it holds no file and no socket. What nobody can tell is as before: it
    /// is there until its end is proven.
    pub fn is_alive(&self) -> bool {
        evidence::life(self) != Life::Gone
    }

    /// When it was created: boot time (whole seconds) plus start ticks, in seconds
    /// since the epoch, as psutil computes it.
    pub fn create_time(&self) -> Option<f64> {
        let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Some(boot_time()? + self.start_ticks as f64 / hertz as f64)
    }

    /// The parent's pid.
    pub fn ppid(&self) -> Option<i32> {
        stat(self.pid).map(|s| s.ppid)
    }

    /// The first argument of its command line, where PostgreSQL keeps its title.
    ///
    /// Reading it takes the process's memory lock and may block: call it on the
    /// blocking pool.
    pub fn title(&self) -> Option<String> {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).ok()?;
        let first = raw.split(|b| *b == 0).next().filter(|f| !f.is_empty())?;
        Some(String::from_utf8_lossy(first).into_owned())
    }

    /// A pidfd that is known to be of this very process.
    ///
    /// # Errors
    /// `ESRCH` when it is gone, `ENOSYS` on a kernel without pidfds.
    pub fn open(&self) -> io::Result<PidFd> {
        let fd = PidFd::open(self.pid)?;
        if self.is_alive() {
            Ok(fd)
        } else {
            Err(io::Error::from_raw_os_error(libc::ESRCH))
        }
    }

    /// Sends a signal, never to another process that got the same pid, as far as that can be known: without a
    /// descriptor to be had it goes to whoever has the pid and is not known to be another.
    ///
    /// # Errors
    /// `ESRCH` when it is gone, `EPERM` when we may not.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let Some(fd) = evidence::held(self) {
            return fd.signal(signal);
        }
        let opened = PidFd::open(self.pid);
        if !self.is_alive() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        match opened {
            Ok(fd) => fd.signal(signal),
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Err(e),
            Err(_) => kill(Pid::from_raw(self.pid), signal).map_err(io::Error::from),
        }
    }

    /// Waits until the process has ended. Cancel safe; put a deadline around it.
    pub async fn wait_exit(&self) {
        match self.open() {
            Ok(fd) => {
                if fd.wait().await.is_ok() {
                    return;
                }
            }
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return,
            Err(_) => {}
        }
        while self.is_alive() {
            tokio::time::sleep(EXIT_POLL).await;
        }
    }

    /// As [`Process::wait_exit`], for at most `timeout` (`None`: no limit).
    /// Returns whether the process has ended.
    pub async fn wait_exit_within(&self, timeout: Option<Duration>) -> bool {
        match timeout {
            None => {
                self.wait_exit().await;
                true
            }
            Some(t) => tokio::time::timeout(t, self.wait_exit()).await.is_ok(),
        }
    }
}

/// Waits until all have ended, for at most `timeout`; returns those still alive.
pub async fn wait_all(processes: &[Process], timeout: Option<Duration>) -> Vec<Process> {
    let all = futures_util::future::join_all(processes.iter().map(Process::wait_exit));
    match timeout {
        None => {
            all.await;
            Vec::new()
        }
        Some(t) if tokio::time::timeout(t, all).await.is_ok() => Vec::new(),
        Some(_) => processes.iter().filter(|p| p.is_alive()).copied().collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    #[test]
    fn stat_survives_strange_names() {
        let line = "42 (a) b (c) S 7 42 41 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";
        let s = parse_stat(line).unwrap();
        assert_eq!((s.pid, s.ppid, s.session, s.state, s.start_ticks), (42, 7, 41, 'S', 98765));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[tokio::test]
    async fn child_is_seen_and_its_exit_wakes_us() {
        let mut child = tokio::process::Command::new("sh").args(["-c", "sleep 30 & wait"]).spawn().unwrap();
        let pid = child.id().unwrap() as i32;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let process = Process::find(pid).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((process.create_time().unwrap() - now).abs() < 2.5);
        assert_eq!(process.ppid().unwrap(), std::process::id() as i32);
        assert_eq!(process.title().unwrap(), "sh");
        let below = children(pid, true).unwrap();
        assert_eq!(below.len(), 1);
        assert!(!process.wait_exit_within(Some(Duration::from_millis(30))).await);
        let started = Instant::now();
        super::super::signals::kill_tree(&process);
        assert!(wait_all(&[process, below[0]], Some(Duration::from_secs(5))).await.is_empty());
        assert!(started.elapsed() < Duration::from_millis(200));
        child.wait().await.unwrap();
        assert!(!process.is_alive());
        assert!(process.signal(Signal::SIGTERM).is_err());
    }
}
