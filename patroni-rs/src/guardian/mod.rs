//! The guardian of PostgreSQL, as the daemon sees it: started beside it, told what
//! the leader lock promises, replaced when it dies, and retired when a daemon that
//! has come back has made a promise of its own.
//!
//! A guardian belongs to one daemon: it hears of it through a pipe whose other end
//! only that daemon holds. A daemon that takes over a running PostgreSQL starts its
//! own, and ends the old one only after its own word is out; until then the old
//! promise stands. So there is always one that guards, and never one that acts on
//! a promise which somebody has renewed.
//!
//! When daemon and server have both ended it waits for as long as a supervisor may take
//! to start the daemon again, and has the leader lock given up (`crate::releaser`).

mod process;
pub(crate) mod ticket;
mod wire;

pub use process::{run_if_named, say, NAME};

use std::io::{self, PipeWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::sys::signal::Signal;
use patroni_core::ha::guardian::Held;
use patroni_core::ha::keeper::Arm;
use patroni_core::ha::Mono;
use patroni_core::node::guard;
use patroni_postgres::process::evidence::{self, Place};
use patroni_postgres::process::proc::{named, Process};
use patroni_postgres::process::spawn;
use tokio::sync::Notify;

use patroni_core::mutex::locked;
use ticket::Ticket;
use wire::{Guards, Word, LENGTH};

/// `off` here, in the environment, means that there is none.
pub const SWITCH: &str = "PATRONI_RS_GUARDIAN";
/// Between two tries to start one.
const AGAIN: Duration = Duration::from_secs(10);

static ON: AtomicBool = AtomicBool::new(true);

/// Takes the switch out of the environment. To be called before any thread exists.
#[allow(unsafe_code)]
pub fn read_switch() {
    let off = std::env::var(SWITCH).is_ok_and(|v| matches!(&*v.to_lowercase(), "off" | "no" | "false" | "0"));
    ON.store(!off, Ordering::SeqCst);
    // SAFETY: no other thread exists yet.
    unsafe { std::env::remove_var(SWITCH) };
}

/// The daemon's end.
pub struct Guard {
    data_dir: PathBuf,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    postmaster: Option<Process>,
    place: Option<Place>,
    promise: Option<Mono>,
    /// The number of the postmaster that the promise is about.
    server: u64,
    arm: Option<Arm>,
    child: Option<Child>,
    /// There is none, and will be none for now.
    without: bool,
    /// Guardians of daemons that were before us.
    older: Vec<Older>,
    log_file: Option<PathBuf>,
    held: Option<Held>,
    /// How to give the lock up, in a file that guardians have open.
    ticket: Option<Ticket>,
}

impl State {
    fn word(&self) -> Word {
        let promise = guard::word(self.promise, self.server, self.postmaster.map(|p| number(&p)));
        Word { postmaster: self.postmaster, place: self.place, promise, held: self.held }
    }

    fn speaks_for_itself(&self) -> bool {
        guard::speaks_for_itself(self.word().promise, self.arm)
    }

    /// May this guardian of an earlier daemon go? When our word is about the postmaster that it guards, or when that one
    /// has ended for certain, `ended`: a word about another server is none about this one.
    fn relieves(&self, older: &Older, ended: impl Fn(i32) -> bool) -> bool {
        let ours = self.postmaster.map(|p| p.pid);
        match older.guards {
            Guards::Nobody | Guards::Vacancy => true,
            Guards::Pid(pid) if ours != Some(pid) => ended(pid),
            // One that does not tell, of an earlier version: where ours runs for longer than it, there was no other.
            Guards::Untold => {
                let older_server = |p: Process| p.start_ticks <= older.process.start_ticks;
                self.speaks_for_itself() && self.postmaster.is_some_and(older_server)
            }
            Guards::Pid(_) => self.speaks_for_itself(),
        }
    }
}

/// A guardian of an earlier daemon.
#[derive(Debug, Clone, Copy)]
struct Older {
    process: Process,
    guards: Guards,
}

/// Has the server of this postmaster ended, for certain? `home`: where it worked.
fn has_ended(pid: i32, home: Option<&Place>) -> bool {
    let gone = match Process::look(pid) {
        Ok(None) => true,
        // Somebody else may have its pid by now.
        Ok(Some(_)) => home.is_some_and(|home| home.has(pid) == Some(false)),
        Err(_) => false,
    };
    let left = |home: &Place| evidence::survey(home).map_or(true, |found| !found.backends.is_empty());
    // What belongs to a server that runs now is nobody's remains.
    let served = |home: &Place| evidence::survey(home).is_ok_and(|found| !found.servers.is_empty());
    gone && home.is_none_or(|home| served(home) || !left(home))
}

/// Did a word reach the pipe as a whole? Of one that was cut off nobody knows which word counts.
fn is_heard(written: &io::Result<usize>) -> bool {
    matches!(written, Ok(LENGTH))
}

/// A number that no other postmaster has.
pub fn number(postmaster: &Process) -> u64 {
    postmaster.start_ticks << 22 | u64::from(postmaster.pid.unsigned_abs())
}

struct Child {
    process: Process,
    pipe: PipeWriter,
}

impl Guard {
    /// Of the PostgreSQL that runs on `data_dir`; nothing is started yet.
    pub fn new(data_dir: &Path) -> Arc<Guard> {
        let data_dir = data_dir.to_owned();
        Arc::new(Guard { data_dir, state: Mutex::default(), wake: Notify::new() })
    }

    /// Where its last line goes besides standard error. For guardians to come.
    pub fn set_log_file(&self, file: Option<PathBuf>) {
        locked(&self.state).log_file = file;
    }

    /// The postmaster that runs, as soon as it is known, and where; None when its end and that of its processes is proven.
    /// True: it is another one.
    pub fn set_postmaster(&self, postmaster: Option<Process>, place: Option<Place>) -> bool {
        let mut state = locked(&self.state);
        let other = state.postmaster != postmaster;
        if other {
            (state.postmaster, state.place) = (postmaster, place);
            self.speak(&mut state);
        }
        other
    }

    /// What the lock promises now of the postmaster with that [`number`], and whether it is held.
    pub fn promise(&self, promise: Option<Mono>, arm: Arm, server: u64, held: Option<Held>) {
        let mut state = locked(&self.state);
        if (state.promise, state.arm, state.server, state.held) != (promise, Some(arm), server, held) {
            (state.promise, state.arm, state.server, state.held) = (promise, Some(arm), server, held);
            self.speak(&mut state);
        }
    }

    /// How the lock can be given up in our place (see `crate::releaser`); None: it cannot.
    pub fn set_ticket(&self, text: Option<String>) {
        if let Some(ticket) = &mut locked(&self.state).ticket {
            ticket.write(text.as_deref().unwrap_or_default());
        }
    }

    /// There is one, and it has an instant at which it acts.
    pub fn is_armed(&self) -> bool {
        let state = locked(&self.state);
        state.child.is_some() && state.word().promise.is_some()
    }

    /// The wall clock has jumped ahead, and the keeper has seen to it: the guardian doubts what it has heard before.
    pub fn clock_jumped(&self) {
        self.speak(&mut locked(&self.state));
    }

    /// What the lock promised last.
    #[cfg(test)]
    pub fn told(&self) -> (Option<Mono>, Arm, u64) {
        let state = locked(&self.state);
        (state.promise, state.arm.unwrap_or(Arm::Unknown), state.server)
    }

    /// Tells the guardian; never waits. One that does not listen is no guardian.
    fn speak(&self, state: &mut State) {
        let record = state.word().encode();
        let heard = state.child.as_mut().is_some_and(|c| is_heard(&c.pipe.write(&record)));
        if !heard {
            // It must not act on what it has heard last.
            if let Some(child) = state.child.take() {
                let _ = child.process.signal(Signal::SIGKILL);
            }
            self.wake.notify_one();
        }
        if (state.child.is_some() || state.without) && !state.older.is_empty() {
            let home = state.place.or_else(|| Place::of(&self.data_dir).ok());
            let older = std::mem::take(&mut state.older);
            let relieved = |o: &Older| state.relieves(o, |pid| has_ended(pid, home.as_ref()));
            let (relieved, staying) = older.into_iter().partition::<Vec<_>, _>(relieved);
            state.older = staying;
            for old in relieved {
                let _ = old.process.signal(Signal::SIGKILL);
                let pid = old.process.pid;
                tracing::info!(target: "patroni.guardian", "The guardian of an earlier daemon (pid={pid}) is relieved");
            }
        }
    }

    /// Sees to it that there is one while PostgreSQL runs. Ends with the runtime.
    pub async fn tend(self: Arc<Guard>) {
        let on = ON.load(Ordering::SeqCst);
        if !on {
            tracing::info!(target: "patroni.guardian", "There is no guardian: {SWITCH} is off");
        }
        loop {
            let (wanted, child) = {
                let state = locked(&self.state);
                (state.postmaster.is_some(), state.child.as_ref().map(|c| c.process))
            };
            match child {
                Some(process) => tokio::select! {
                    () = process.wait_exit() => self.lost(process),
                    () = self.wake.notified() => {}
                },
                None if wanted => {
                    let guard = self.clone();
                    let started = tokio::task::spawn_blocking(move || guard.start(on)).await;
                    match started.unwrap_or_else(|e| Err(io::Error::other(e))) {
                        Ok(()) if on => {}
                        Ok(()) => return,
                        Err(e) => {
                            tracing::warn!(target: "patroni.guardian", "Could not start the guardian: {e}");
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    fn lost(&self, process: Process) {
        let mut state = locked(&self.state);
        if state.child.as_ref().is_some_and(|c| c.process == process) {
            state.child = None;
            tracing::warn!(target: "patroni.guardian", "The guardian (pid={}) has ended", process.pid);
        }
    }

    /// Finds those that are there, and starts one if that is wanted.
    fn start(&self, on: bool) -> io::Result<()> {
        let data_dir = std::fs::canonicalize(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let older = named(&[NAME.as_bytes(), data_dir.as_os_str().as_bytes()]);
        let child = if on { self.spawn(&data_dir).map(Some) } else { Ok(None) };
        let mut state = locked(&self.state);
        state.older =
            older.into_iter().map(|process| Older { process, guards: Guards::of(process.pid) }).collect();
        state.without = !matches!(child, Ok(Some(_)));
        if let Ok(Some(child)) = &child {
            tracing::info!(target: "patroni.guardian", "guardian pid={}", child.process.pid);
        }
        let result = child.map(|child| state.child = child);
        if result.is_ok() {
            self.speak(&mut state);
        }
        result
    }

    /// The ticket as a guardian's standard output, which it writes nothing to.
    fn ticket(&self) -> Stdio {
        let mut state = locked(&self.state);
        if state.ticket.is_none() {
            let made = Ticket::new();
            state.ticket =
                made.map_err(|e| tracing::warn!(target: "patroni.guardian", "No ticket: {e}")).ok();
        }
        let shared = state.ticket.as_ref().and_then(|ticket| ticket.share().ok());
        shared.map_or_else(Stdio::null, Stdio::from)
    }

    fn spawn(&self, data_dir: &Path) -> io::Result<Child> {
        let (input, pipe) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(data_dir).env_clear().stdin(Stdio::from(input)).stdout(self.ticket());
        command.arg(locked(&self.state).log_file.clone().unwrap_or_default());
        let process = spawn::detached_as_is(command)?;
        Ok(Child { process, pipe })
    }
}

/// A daemon that is started again keeps the lock: those that are about to give it up for an earlier one of this data
/// directory end. Blocks.
pub fn keep_lock(data_dir: &Path) {
    let data_dir = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let of = |name: &str| named(&[name.as_bytes(), data_dir.as_os_str().as_bytes()]);
    let mut idle = of(NAME);
    idle.retain(|process| Guards::of(process.pid) == Guards::Vacancy);
    for process in idle.into_iter().chain(of(crate::releaser::NAME)) {
        let _ = process.signal(Signal::SIGKILL);
        let pid = process.pid;
        tracing::info!(target: "patroni.guardian", "The guardian of an earlier daemon (pid={pid}) does not give the leader lock up");
    }
}

#[cfg(test)]
pub(crate) mod tests;
