//! The running postmaster: found through `postmaster.pid`, checked to be the
//! right process, signalled and waited for.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use patroni_core::ha::StopMode;
use regex::Regex;

use super::blocking;
use super::crash_recovery::parse_postmaster_opts;
use super::evidence::{self, is_gone, Place};
use super::proc::{self, Process};
use super::signals::kill_tree;
use crate::files::Listening;

/// The lines of `postmaster.pid`. Source: PostgreSQL's `miscadmin.h`,
/// `LOCK_FILE_LINE_*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidFile {
    /// Line 1: pid; negative for a single-user server.
    pub pid: i32,
    /// Line 3: start time of the postmaster, text of seconds since the epoch.
    pub start_time: String,
    /// Line 4: port, 0 when not there yet.
    pub port: u16,
    /// Line 5: first Unix socket directory, possibly empty.
    pub socket_dir: String,
    /// Line 6: first listen address, possibly empty.
    pub listen_address: String,
}

impl PidFile {
    /// Parses the file; `None` without a pid.
    pub fn parse(text: &str) -> Option<PidFile> {
        let lines: Vec<&str> = text.split('\n').collect();
        let line = |i: usize| lines.get(i).map_or("", |l| l.trim_end());
        let pid: i32 = line(0).trim().parse().ok().filter(|p| *p != 0)?;
        Some(PidFile {
            pid,
            start_time: line(2).to_owned(),
            port: line(3).parse().unwrap_or(0),
            socket_dir: line(4).to_owned(),
            listen_address: line(5).to_owned(),
        })
    }

    /// Reads `postmaster.pid` of a data directory; `None` when there is no usable one.
    pub fn read(data_dir: &Path) -> Option<PidFile> {
        PidFile::look(data_dir).ok().flatten()
    }

    /// Reads `postmaster.pid` of a data directory; `None` when there is none, or none with a pid.
    ///
    /// # Errors
    /// Nobody can tell.
    pub fn look(data_dir: &Path) -> io::Result<Option<PidFile>> {
        match std::fs::read(data_dir.join("postmaster.pid")) {
            Ok(text) => Ok(PidFile::parse(&String::from_utf8_lossy(&text))),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// The signal that asks for a fast stop (the clients are disconnected) or an immediate one (no checkpoint).
fn signal_of(mode: StopMode) -> Signal {
    match mode {
        StopMode::Fast => Signal::SIGINT,
        StopMode::Immediate => Signal::SIGQUIT,
    }
}

/// What came of a stop signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalResult {
    /// It was delivered.
    Sent,
    /// The process had already ended.
    Gone,
    /// It may not be signalled (single-user server, no permission).
    Refused,
}

/// A postmaster (or single-user server) that runs on our data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Postmaster {
    /// The process.
    pub process: Process,
    /// A single-user server is never signalled (surface-ha-pg 9.2-09).
    pub single_user: bool,
}

/// Titles of the children that serve no client, for PostgreSQL 9.1 to 18.
static AUXILIARY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let with_process = "archiver|startup|autovacuum launcher|autovacuum worker|checkpointer|logger|\
                        stats collector|wal receiver|wal writer|writer";
    let plain = "walreceiver|wal sender process|walsender|walwriter|background writer|\
                 logical replication (?:launcher|(?:tablesync |parallel apply |apply )?worker for subscription)|\
                 slotsync worker|walsummarizer|io worker|bgworker:";
    Regex::new(&format!("^postgres:( .*:)? (?:(?:{with_process})(?: process  )?|{plain}) ")).ok()
});

/// Where a client is, in the title of what serves it. A role may be called as an auxiliary process is; WAL senders show
/// where their standby is, and are no clients.
static CLIENT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^postgres:( .*:)? (?:.* )?(\[local\]|[^ ]+\(\d+\)) ").ok());

/// Is this the title of a process that serves a client (and not an auxiliary one)?
fn is_user_backend(title: &str) -> bool {
    let matches = |re: &LazyLock<Option<Regex>>| re.as_ref().is_some_and(|re| re.is_match(title));
    let sends_wal = title.contains(" walsender ") || title.contains(" wal sender process ");
    !matches(&AUXILIARY) || (matches(&CLIENT) && !sends_wal)
}

/// Is `process` the one that wrote this pid file? One that works in the data directory and runs PostgreSQL is, whatever
/// its times say: the wall clock may have been set since, and boot time moves with it. Any other must have been created
/// within 3 s of the recorded start, and be neither us, our parent nor our child (surface-ha-pg 10-05). Further than the
/// reference, too: it must not work elsewhere, so that a pid that was reused within those 3 s is not taken for a server.
fn is_postmaster(process: &Process, file: &PidFile, data_dir: &Path) -> bool {
    let place = Place::of(data_dir).ok();
    let at_home = place.and_then(|place| place.has(process.pid));
    let certain = place.is_some_and(|place| evidence::is_server(process.pid, &place));
    if !certain && !is_of_that_time(process, file) {
        return false;
    }
    let own = std::process::id() as i32;
    let parent = std::os::unix::process::parent_id() as i32;
    let its_parent = process.ppid().unwrap_or_default();
    if process.pid == own || process.pid == parent || its_parent == own {
        tracing::info!(
            target: "patroni.postgresql.postmaster",
            "Patroni (pid={own}, ppid={parent}), \"fake postmaster\" (pid={}, ppid={its_parent})", process.pid
        );
        return false;
    }
    if at_home == Some(false) {
        tracing::info!(
            target: "patroni.postgresql.postmaster",
            "Process {} is not postmaster, it does not work in {}", process.pid, data_dir.display()
        );
        return false;
    }
    true
}

/// Was it created when the pid file says, as far as both can be read?
fn is_of_that_time(process: &Process, file: &PidFile) -> bool {
    match file.start_time.trim().parse::<i64>() {
        Ok(0) => {}
        Ok(recorded) => {
            let created = process.create_time().unwrap_or_default();
            if (created - recorded as f64).abs() > 3.0 {
                tracing::info!(
                    target: "patroni.postgresql.postmaster",
                    "Process {} is not postmaster, too much difference between PID file start time {} and \
                     process start time {}", process.pid, recorded, created
                );
                return false;
            }
        }
        Err(_) if file.start_time.is_empty() => {}
        Err(_) => tracing::warn!(
            target: "patroni.postgresql.postmaster",
            "Garbage start time value in pid file: '{}'", file.start_time
        ),
    }
    true
}

/// The process that `postmaster.pid` names, and whether it is the postmaster.
fn from_pid_file(data_dir: &Path) -> io::Result<Option<(Postmaster, bool)>> {
    let Some((file, pid)) = PidFile::look(data_dir)?.and_then(|f| f.pid.checked_abs().map(|pid| (f, pid)))
    else {
        return Ok(None);
    };
    let Some(process) = Process::look(pid)? else { return Ok(None) };
    let genuine = is_postmaster(&process, &file, data_dir);
    Ok(Some((Postmaster { process, single_user: file.pid < 0 }, genuine)))
}

/// A postmaster that works in the data directory although the pid file does not lead to it.
fn without_pid_file(data_dir: &Path) -> io::Result<Option<Postmaster>> {
    let place = match Place::of(data_dir) {
        Ok(place) => place,
        Err(e) if is_gone(&e) => return Ok(None),
        Err(e) => return Err(e),
    };
    let found = evidence::survey(&place)?.postmaster();
    Ok(found.map(|process| Postmaster { process, single_user: false }))
}

impl Postmaster {
    /// The postmaster that runs on `data_dir`; `None` when there is none. (Processes of one that has ended may be left:
    /// [`evidence::ensure_unused`].)
    ///
    /// # Errors
    /// Nobody can tell; `TimedOut` when the disk does not answer.
    pub async fn find(data_dir: &Path) -> std::io::Result<Option<Postmaster>> {
        let dir = data_dir.to_owned();
        let work = move || match from_pid_file(&dir)? {
            Some((found, true)) => Ok(Some(found)),
            _ => without_pid_file(&dir),
        };
        blocking::run(blocking::FILE_DEADLINE, work).await
    }

    /// Where it listens, by the files that it has written into its data directory. `None`: they do not tell (yet).
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn listening(&self, data_dir: &Path) -> io::Result<Option<Listening>> {
        let Some(file) = PidFile::look(data_dir)?.filter(|f| f.pid == self.process.pid && f.port != 0) else {
            return Ok(None);
        };
        let options = match std::fs::read(data_dir.join("postmaster.opts")) {
            Ok(text) => parse_postmaster_opts(&String::from_utf8_lossy(&text)),
            Err(e) if is_gone(&e) => BTreeMap::new(),
            Err(e) => return Err(e),
        };
        Ok(Some(Listening {
            port: file.port,
            all: options.get("listen_addresses").cloned(),
            first: file.listen_address,
            socket_dir: file.socket_dir,
        }))
    }

    /// The pid that a stale `postmaster.pid` names, if some process still has it: a
    /// foreign process, or a postmaster that has ended and that init has not reaped
    /// yet. PostgreSQL is told to ignore it through `PG_GRANDPARENT_PID`. Removing
    /// the file instead would race with another start.
    pub fn stale_pid(data_dir: &Path) -> Option<i32> {
        let pid = PidFile::read(data_dir)?.pid.checked_abs()?;
        let zombie = proc::stat(pid).is_some_and(|s| s.is_zombie());
        let foreign = || matches!(from_pid_file(data_dir), Ok(Some((_, false))));
        (zombie || foreign()).then_some(pid)
    }

    /// Is it still running?
    pub fn is_running(&self) -> bool {
        self.process.is_alive()
    }

    /// Sends the signal of a stop mode.
    pub fn signal_stop(&self, mode: StopMode) -> SignalResult {
        if self.single_user {
            tracing::warn!(
                target: "patroni.postgresql.postmaster",
                "Cannot stop server; single-user server is running (PID: {})", self.process.pid
            );
            return SignalResult::Refused;
        }
        match self.process.signal(signal_of(mode)) {
            Ok(()) => SignalResult::Sent,
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => SignalResult::Gone,
            Err(e) => {
                tracing::warn!(
                    target: "patroni.postgresql.postmaster", "Could not send stop signal to PostgreSQL: {e}"
                );
                SignalResult::Refused
            }
        }
    }

    /// SIGKILL to the postmaster and all its children, then waits for their end for
    /// at most `timeout`. Returns whether all are gone.
    pub async fn kill(&self, timeout: Duration) -> bool {
        let root = self.process;
        let Ok(victims) = tokio::task::spawn_blocking(move || kill_tree(&root)).await else { return false };
        proc::wait_all(&victims, Some(timeout)).await.is_empty()
    }

    /// Waits until no child serves a client any more (before the watchdog is
    /// disabled). `false` when some are still alive after `timeout`, and when nobody can tell.
    pub async fn wait_for_user_backends(&self, timeout: Option<Duration>) -> bool {
        let pid = self.process.pid;
        let list = move || {
            let children = proc::children(pid, false)?.into_iter();
            // A title that cannot be read may be that of a backend; one that has ended has none.
            let titled = children.map(|p| (p, p.title().unwrap_or_else(|| format!("process {}", p.pid))));
            Ok::<_, io::Error>(titled.filter(|(_, title)| is_user_backend(title)).collect::<Vec<_>>())
        };
        let Ok(Ok(backends)) = tokio::task::spawn_blocking(list).await else { return false };
        if backends.is_empty() {
            return true;
        }
        let names = |of: &dyn Fn(&Process) -> bool| {
            let titles = backends.iter().filter(|(p, _)| of(p)).map(|(_, t)| t.as_str());
            titles.collect::<Vec<_>>().join(", ")
        };
        tracing::debug!(
            target: "patroni.postgresql.postmaster", "Waiting for user backends {} to close", names(&|_| true)
        );
        let processes: Vec<Process> = backends.iter().map(|(p, _)| *p).collect();
        let live = proc::wait_all(&processes, timeout).await;
        if live.is_empty() {
            tracing::debug!(target: "patroni.postgresql.postmaster", "Backends closed");
            return true;
        }
        tracing::warn!(
            target: "patroni.postgresql.postmaster",
            "Backends still alive after {}: {}", timeout.unwrap_or_default().as_secs(), names(&|p| live.contains(p))
        );
        false
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::evidence::tests::FakeServer;

    #[test]
    fn pid_file_lines() {
        let text = "1234\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n  5432001   65538\nready   \n";
        let file = PidFile::parse(text).unwrap();
        assert_eq!((file.pid, file.port), (1234, 5432));
        assert_eq!((file.socket_dir.as_str(), file.listen_address.as_str()), ("/tmp", "127.0.0.1"));
        assert_eq!(PidFile::parse("-77\n/data\n").unwrap().pid, -77);
        assert_eq!(PidFile::parse(""), None);
        assert_eq!(PidFile::parse("abc\n"), None);
    }

    #[test]
    fn titles() {
        for aux in [
            "postgres: checkpointer ",
            "postgres: batman: walwriter ",
            "postgres: batman: walsender replicator 127.0.0.1(4711) streaming 0/3000060",
            "postgres: wal writer process   ",
            "postgres: logical replication apply worker for subscription 16389 ",
            "postgres: io worker 0",
            "postgres: 15/main: archiver archiving 000000010000000000000001",
            "postgres: walsender replicator [local] streaming 0/3000060",
            "postgres: startup recovering 000000010000000000000001",
        ] {
            assert!(!is_user_backend(aux), "{aux}");
        }
        for user in [
            "postgres: app db 127.0.0.1(1) idle",
            "postgres: batman: writer_user db [local] idle",
            "postgres: writer db 10.0.0.1(4711) INSERT",
            "postgres: 15/main: checkpointer db [local] idle",
            "process 4711",
        ] {
            assert!(is_user_backend(user), "{user}");
        }
    }

    #[tokio::test]
    async fn a_reused_pid_is_not_a_postmaster() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Postmaster::find(dir.path()).await.unwrap(), None);
        let write = |text: String| std::fs::write(dir.path().join("postmaster.pid"), text).unwrap();
        // Pid 1 runs, but was not started at that time.
        write("1\n/data\n1000\n5432\n".into());
        assert_eq!(Postmaster::find(dir.path()).await.unwrap(), None);
        assert_eq!(Postmaster::stale_pid(dir.path()), Some(1));
        // Our own pid.
        write(format!("{}\n/data\n0\n", std::process::id()));
        assert_eq!(Postmaster::find(dir.path()).await.unwrap(), None);
        // Nobody has this pid.
        write("4194303\n/data\n0\n".into());
        assert_eq!(Postmaster::stale_pid(dir.path()), None);
    }

    #[test]
    fn a_reused_pid_of_the_same_age_works_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        // Not our child, as a postmaster is not.
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", "sleep 60 >/dev/null 2>&1 & echo $!"]).current_dir(dir.path());
        let pid = String::from_utf8(shell.output().unwrap().stdout).unwrap().trim().parse().unwrap();
        let process = Process::find(pid).unwrap();
        let start = process.create_time().unwrap() as i64;
        let file = PidFile { pid, start_time: start.to_string(), ..PidFile::default() };
        let (here, elsewhere) =
            (is_postmaster(&process, &file, dir.path()), is_postmaster(&process, &file, Path::new("/")));
        process.signal(Signal::SIGKILL).unwrap();
        assert!(here && !elsewhere);
    }

    /// Rows: what line 3 says, and which directory is asked for.
    #[test]
    fn what_works_in_the_data_directory_is_the_postmaster_whatever_the_clock_says() {
        let home = FakeServer::new();
        let process = home.run_detached();
        let created = process.create_time().unwrap() as i64;
        let found = [
            (created.to_string(), home.data(), true),
            ((created - 10).to_string(), home.data(), true),
            ((created + 100_000).to_string(), home.data(), true),
            ("nonsense".to_owned(), home.data(), true),
            ((created - 10).to_string(), Path::new("/"), false),
            (created.to_string(), Path::new("/"), false),
        ]
        .map(|(start_time, data_dir, expected)| {
            let file = PidFile { pid: process.pid, start_time, ..PidFile::default() };
            (is_postmaster(&process, &file, data_dir), expected, file.start_time)
        });
        process.signal(Signal::SIGKILL).unwrap();
        assert!(found.iter().all(|(found, expected, _)| found == expected), "{found:?}");
    }

    #[tokio::test]
    async fn a_pid_file_with_another_time_is_believed_and_one_that_cannot_be_read_is_no_proof() {
        let home = FakeServer::new();
        let process = home.run_detached();
        let pid_file = home.data().join("postmaster.pid");
        std::fs::write(&pid_file, format!("{}\n/data\n1000\n5432\n", process.pid)).unwrap();
        let found = Postmaster::find(home.data()).await;
        let stale = Postmaster::stale_pid(home.data());
        process.signal(Signal::SIGKILL).unwrap();
        assert_eq!(found.unwrap(), Some(Postmaster { process, single_user: false }));
        assert_eq!(stale, None);
        // A directory in its place: EISDIR.
        std::fs::remove_file(&pid_file).unwrap();
        std::fs::create_dir(&pid_file).unwrap();
        assert!(Postmaster::find(home.data()).await.is_err());
    }

    #[test]
    fn a_single_user_server_is_not_signalled() {
        let process = Process::find(std::process::id() as i32).unwrap();
        let server = Postmaster { process, single_user: true };
        assert_eq!(server.signal_stop(StopMode::Fast), SignalResult::Refused);
    }
}
