//! Harm inside a node: descriptors, pid files, a stop that takes long, copies that are broken off,
//! `postgresql.auto.conf`. What has to be undone afterwards is remembered, and undone by [`Fleet::heal`].

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

use super::fleet::{Fleet, Node};
use super::servers::Dcs;
use crate::lab::wait::ensure;
use crate::lab::{process, wait_until, Kind, Result};
use crate::sim::Rng;

/// How long an orderly stop may still take when all is healed.
const STOP: Duration = Duration::from_secs(60);
/// How long a copy or a rewind is looked for.
const POLL_INTERVAL: Duration = Duration::from_secs(20);
/// The setting that a forgotten `ALTER SYSTEM` overrules.
const SYNC_NAMES: &str = "synchronous_standby_names";

/// What has to be undone.
#[derive(Debug, Default)]
pub struct Harm {
    /// Soft limits of descriptors: whose, and what it was.
    limits: Vec<(usize, u64)>,
    /// Pid files with another start time: whose, the postmaster, and what the time was.
    times: Vec<(usize, Pid, String)>,
    /// Daemons that were told to stop, and may still be at it.
    stopping: Vec<usize>,
    /// A postgresql.auto.conf may overrule.
    auto_conf: bool,
    /// etcd counts its terms anew, which the reference never believes: somebody has to start its daemons again.
    pub(super) terms_fell: bool,
}

/// A promise that was seen broken while the harm was done, or as it was undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The invariant.
    pub invariant: u32,
    /// Whose daemon answers for it.
    pub member: usize,
    /// What was seen.
    pub what: String,
}

/// Who dies while a copy or a rewind runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The node that is read.
    Source,
    /// The node that is written.
    Target,
    /// The daemon of the node that is written, alone.
    Daemon,
}

impl Victim {
    /// One after the other.
    fn of_turn(turn: u64) -> Victim {
        match turn % 3 {
            0 => Victim::Source,
            1 => Victim::Target,
            _ => Victim::Daemon,
        }
    }
}

/// The arguments of a process.
fn arguments(pid: Pid) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok().map(Pid::from_raw)
}

/// Programs that write a data directory from outside, each once: pg_basebackup forks. Who only asks for its version
/// or its options names none, and writes nothing.
fn copiers(directory: &Path) -> Vec<Pid> {
    let is_one = |pid: &Pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        matches!(name.trim_end(), "pg_rewind" | "pg_basebackup")
            && arguments(*pid).iter().any(|word| word == "-D" || word.starts_with("--pgdata="))
    };
    let all: Vec<Pid> = process::under(directory).into_iter().filter(is_one).collect();
    all.iter().copied().filter(|pid| parent(*pid).is_none_or(|parent| !all.contains(&parent))).collect()
}

/// `text` with another third line, and what it was: the start time of a postmaster.pid, moved.
fn moved(text: &str, by: i64) -> Option<(String, String)> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let time = lines.get_mut(2)?;
    let old = std::mem::take(time);
    *time = (old.trim().parse::<i64>().ok()? + by).to_string();
    Some((lines.join("\n") + "\n", old))
}

/// A file's lines without those that set `name`; `None` if there is none.
fn without(text: &str, name: &str) -> Option<String> {
    let sets = |line: &&str| line.trim_start().starts_with(name);
    text.lines().find(sets)?;
    Some(text.lines().filter(|line| !sets(line)).fold(String::new(), |all, line| all + line + "\n"))
}

impl Fleet {
    /// The daemon may open no more files, or so many `more`; what is open stays. Says what it may have.
    pub fn exhaust_descriptors(&mut self, index: usize, more: Option<u64>) -> Option<u64> {
        let pid = self.nodes.get_mut(index)?.daemon()?;
        // A new descriptor is the lowest number that is free.
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        let numbers = open.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
        let mut used: Vec<u64> = numbers.collect();
        used.sort_unstable();
        let free = (0..).find(|number| used.binary_search(number).is_err())?;
        let limit = more.map_or(3, |more| free + more);
        let old = self.limit_descriptors(pid, limit).ok()?;
        self.harm.limits.push((index, old));
        Some(limit)
    }

    /// Sets how many descriptors a process may have (its soft limit), and gives what it was. As its own user:
    /// root needs a capability for it that containers do not have.
    fn limit_descriptors(&self, pid: Pid, soft: u64) -> Result<u64> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits"))?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let old =
            line.and_then(|line| line.split_whitespace().next()).ok_or("no limit of open files")?.parse()?;
        let programs = Path::new("/usr/bin");
        let mut command = process::command(&programs.join("prlimit"), &self.settings.directory, programs)?;
        command.args(["--pid", &pid.to_string(), &format!("--nofile={soft}:")]);
        process::run(command, Duration::from_secs(5))?.ok()?;
        Ok(old)
    }

    /// The start time in postmaster.pid is `by` seconds off (the wall clock was stepped since), and the daemon
    /// is killed and started again.
    pub fn move_pid_file(&mut self, index: usize, by: i64) -> Option<()> {
        let node = self.nodes.get(index)?;
        let postmaster = node.postmaster()?;
        let file = node.disk().join("data/postmaster.pid");
        let (text, old) = moved(&std::fs::read_to_string(&file).ok()?, by)?;
        // In place, as PostgreSQL writes it.
        std::fs::write(&file, text).ok()?;
        self.harm.times.push((index, postmaster, old));
        self.restart_daemon(index)
    }

    /// kill -9 of the daemon alone. Was it there, and is it dead?
    fn kill_daemon(&mut self, index: usize) -> bool {
        let dead = |fleet: &mut Fleet| {
            let daemon = fleet.nodes.get_mut(index).and_then(Node::daemon);
            ensure(daemon.is_none(), || "it lives".into())
        };
        self.signal_daemon(index, Signal::SIGKILL)
            && wait_until("the daemon is dead", Duration::from_secs(5), || dead(self)).is_ok()
    }

    /// kill -9, and a new one at once.
    pub fn restart_daemon(&mut self, index: usize) -> Option<()> {
        self.kill_daemon(index).then(|| self.start_daemon(index).ok()).flatten()
    }

    /// The daemon is told to stop, but PostgreSQL's checkpointer stands still.
    pub fn stop_slowly(&mut self, index: usize) -> Option<()> {
        let data = self.nodes.get(index)?.disk().join("data");
        self.nodes.get(index)?.postmaster()?;
        let is_it =
            |pid: &Pid| arguments(*pid).first().is_some_and(|a| a.trim_end().ends_with("checkpointer"));
        let checkpointer = process::under(&data).into_iter().find(is_it)?;
        kill(checkpointer, Signal::SIGSTOP).ok()?;
        let told = self.stop(index);
        if !told {
            let _ = kill(checkpointer, Signal::SIGCONT);
        }
        told.then_some(())
    }

    /// The daemon is told to stop.
    pub fn stop(&mut self, index: usize) -> bool {
        let told = self.signal_daemon(index, Signal::SIGTERM);
        self.harm.stopping.extend(told.then_some(index));
        told
    }

    /// Ends backends whose postmaster is dead, on a node of the reference, which does not know of them.
    fn end_orphans(&self, node: &Node) {
        let data = node.disk().join("data");
        let postmaster = node.postmaster();
        let is_backend = |pid: &Pid| arguments(*pid).first().is_some_and(|a| a.starts_with("postgres: "));
        for pid in process::under(&data).into_iter().filter(is_backend) {
            if parent(pid) != postmaster || postmaster.is_none() {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }

    /// Undoes all of it, before daemons are started. Everything goes on already.
    pub(super) fn undo(&mut self) -> Vec<Breach> {
        let harm = std::mem::take(&mut self.harm);
        // Where the thread of PySyncObj may open nothing it ends, and its member does not come back.
        let deaf: Vec<usize> = match self.settings.dcs {
            Dcs::Raft => harm.limits.iter().map(|(index, _)| *index).collect(),
            _ => Vec::new(),
        };
        for (index, limit) in harm.limits {
            // Also for what was started meanwhile.
            for pid in self.nodes.get(index).map(|n| process::under(&n.directory)).unwrap_or_default() {
                let _ = self.limit_descriptors(pid, limit);
            }
        }
        for (index, postmaster, old) in harm.times {
            let Some(node) = self.nodes.get(index).filter(|n| n.postmaster() == Some(postmaster)) else {
                continue;
            };
            let file = node.disk().join("data/postmaster.pid");
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let mut lines: Vec<&str> = text.lines().collect();
            if let Some(time) = lines.get_mut(2) {
                *time = &old;
                let _ = std::fs::write(&file, lines.join("\n") + "\n");
            }
        }
        if harm.auto_conf {
            self.forget_auto_conf();
        }
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get(index).filter(|node| node.runs == Kind::Reference) else {
                continue;
            };
            self.end_orphans(node);
            if harm.terms_fell || deaf.contains(&index) {
                self.kill_daemon(index);
            }
        }
        harm.stopping.into_iter().filter_map(|index| self.has_stopped(index)).collect()
    }

    /// Waits for the end of a stop, and looks whether it was an orderly one.
    fn has_stopped(&mut self, index: usize) -> Option<Breach> {
        let ended = wait_until("the stop ends", STOP, || {
            ensure(self.nodes.get_mut(index).and_then(Node::daemon).is_none(), || "the daemon lives".into())
        });
        let breach = |what| Some(Breach { invariant: 11, member: index, what });
        if let Err(error) = ended {
            self.signal_daemon(index, Signal::SIGKILL);
            return breach(format!("node{index}, told to stop: {error}"));
        }
        match self.state_of_files(index) {
            Ok(state) if state.starts_with("shut down") => None,
            Ok(state) => {
                breach(format!("node{index}'s orderly stop was broken off: its files are \"{state}\""))
            }
            Err(_) => None,
        }
    }

    /// "Database cluster state" of pg_controldata.
    fn state_of_files(&self, index: usize) -> Result<String> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let bin = &self.settings.bin;
        let mut command = process::command(&bin.join("pg_controldata"), &self.settings.directory, bin)?;
        command.arg(node.disk().join("data"));
        let text = process::run(command, Duration::from_secs(10))?.ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Database cluster state:"));
        Ok(line.ok_or("no state")?.trim().to_owned())
    }

    // ---- ALTER SYSTEM that was forgotten ----

    /// `ALTER SYSTEM SET synchronous_standby_names = ''` on the standbys.
    pub fn overrule_sync_names(&mut self, leader: usize) -> Option<()> {
        self.harm.auto_conf = true;
        let standbys: Vec<usize> = (0..self.nodes.len()).filter(|index| *index != leader).collect();
        let done = standbys.iter().filter(|index| {
            // One string would be one transaction, which ALTER SYSTEM refuses. A standby streams before it lets anybody in.
            let set = wait_until("ALTER SYSTEM", Duration::from_secs(5), || {
                self.sql(**index, &format!("ALTER SYSTEM SET {SYNC_NAMES} = ''"))
            });
            set.and_then(|_| self.sql(**index, "SELECT pg_reload_conf()")).is_ok()
        });
        (done.count() > 0).then_some(())
    }

    /// Takes it out of all files, also of servers that are down.
    fn forget_auto_conf(&self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let file = node.disk().join("data/postgresql.auto.conf");
            let Some(text) = std::fs::read_to_string(&file).ok().and_then(|t| without(&t, SYNC_NAMES)) else {
                continue;
            };
            if std::fs::write(&file, text).is_ok() && node.postmaster().is_some() {
                let _ = self.sql(index, "SELECT pg_reload_conf()");
            }
        }
    }

    /// Looks for `within` whether a primary keeps what `/sync` promises: a vote that is needed, while the server
    /// waits for nobody, is a commit that the next primary may not have.
    pub fn watch_promises(&self, within: Duration) -> Vec<Breach> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            for index in 0..self.nodes.len() {
                if let Ok(Some(what)) = self.broken_promise(index) {
                    return vec![Breach { invariant: 5, member: index, what }];
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Vec::new()
    }

    fn broken_promise(&self, index: usize) -> Result<Option<String>> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        node.postmaster().ok_or("no server")?;
        let before = self.key("sync")?;
        let shown = self.sql(
            index,
            "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' \
             ELSE 'primary' || current_setting('synchronous_standby_names') END",
        )?;
        let after = self.key("sync")?;
        let Some(promise) = after.filter(|after| before.as_ref() == Some(after)) else { return Ok(None) };
        let sync = pyfmt::json::loads(&promise)?;
        let leads = sync.get("leader").and_then(pyfmt::Value::as_str) == Some(node.name.as_str());
        let standbys = sync.get("sync_standby").and_then(pyfmt::Value::as_str).unwrap_or_default();
        // In quorum mode 0 needed votes are no promise.
        let needed = sync.get("quorum").is_none_or(|quorum| quorum.py_str() != "0");
        let broken = shown == "primary" && leads && !standbys.is_empty() && needed;
        Ok(broken.then(|| format!("node{index} waits for nobody, while /sync is {promise}")))
    }

    // ---- copies and rewinds that are broken off ----

    /// Whose turn it is to die: chance decides who is first, and then each has his turn.
    pub fn next_victim(&mut self, rng: &mut Rng) -> Victim {
        let turn = self.turn.map_or_else(|| rng.number() % 3, |turn| turn + 1);
        self.turn = Some(turn);
        Victim::of_turn(turn)
    }

    /// Waits until one runs on this member, and stops it where it is.
    fn catch_copier(&self, index: usize) -> Option<Pid> {
        let directory = &self.nodes.get(index)?.directory;
        let until = Instant::now() + POLL_INTERVAL;
        while Instant::now() < until {
            if let Some(pid) = copiers(directory).first() {
                for pid in
                    process::under(directory).into_iter().filter(|p| p == pid || parent(*p) == Some(*pid))
                {
                    let _ = kill(pid, Signal::SIGSTOP);
                }
                return Some(*pid);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        None
    }

    /// Kills the victim while the member is being written by a program, which then goes on if it may.
    /// Says which program it was.
    pub fn break_copy(
        &mut self,
        target: usize,
        source: usize,
        victim: Victim,
    ) -> Option<(String, Vec<Breach>)> {
        let pid = self.catch_copier(target)?;
        let program = arguments(pid).first().cloned().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let mut breaches = Vec::new();
        match victim {
            Victim::Source => self.signal_node(source, Signal::SIGKILL),
            Victim::Target => self.signal_node(target, Signal::SIGKILL),
            Victim::Daemon => {
                self.restart_daemon(target)?;
                breaches = self.watch_copiers(target, pid);
            }
        }
        if let Some(node) = self.nodes.get(target) {
            process::signal_under(&node.directory, Signal::SIGCONT);
        }
        Some((program, breaches))
    }

    /// After a daemon died alone: does what it left write on beside what the new one starts?
    fn watch_copiers(&self, index: usize, left: Pid) -> Vec<Breach> {
        let Some(node) = self.nodes.get(index) else { return Vec::new() };
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until && copiers(&node.directory).contains(&left) {
            let second = copiers(&node.directory).into_iter().find(|pid| *pid != left);
            if second.is_some() || node.postmaster().is_some() {
                let what = second.map_or("PostgreSQL".to_owned(), |pid| arguments(pid).join(" "));
                let what =
                    format!("node{index}: what its dead daemon had started still writes, and {what} runs");
                return vec![Breach { invariant: 12, member: index, what }];
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Vec::new()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn moves_the_start_time_alone() {
        let (text, old) = moved("17\n/data\n1700000000\n5432\n", -10).unwrap();
        assert_eq!((text.as_str(), old.as_str()), ("17\n/data\n1699999990\n5432\n", "1700000000"));
        assert_eq!(moved("17\n/data\n", 10), None);
    }

    #[test]
    fn takes_out_one_setting() {
        let text = "# do not edit\nwork_mem = '4MB'\nsynchronous_standby_names = ''\n";
        assert_eq!(without(text, SYNC_NAMES).unwrap(), "# do not edit\nwork_mem = '4MB'\n");
        assert_eq!(without("work_mem = '4MB'\n", SYNC_NAMES), None);
    }
}
