//! The last resort: a primary that must not write any more is stopped, whatever
//! the rest of the daemon does. One rule for the lock keeper and for the guardian.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use patroni_core::ha::keeper::QUIT_PATIENCE;

use super::evidence::{end_remains, End, Place};
use super::proc::Process;
use super::signals::kill_tree;

/// Time between two looks whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// How long SIGKILL is waited for before what is left is looked at.
const KILL_PATIENCE: Duration = Duration::from_millis(500);

/// How a fence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// There was nothing to stop: it had ended, and nothing of it was left.
    Nothing,
    /// It ended on SIGQUIT.
    Quit,
    /// SIGKILL was sent to it and to its children.
    Killed,
    /// It could not be signalled, or something of it is left, or nobody can tell.
    Failed,
}

/// SIGQUIT to the postmaster, SIGKILL to it and its children if it does not obey
/// within [`QUIT_PATIENCE`]; then SIGKILL to what is left in its data directory, also of
/// a postmaster that has ended before. Blocks for as long. No file of PGDATA is read, and
/// no new descriptor is needed.
pub fn fence(postmaster: &Process, place: Option<&Place>) -> Fenced {
    let how = quit(postmaster);
    let Some(place) = place else { return how };
    match (end_remains(place, QUIT_PATIENCE, true), how) {
        (End::Unproven, _) => Fenced::Failed,
        (End::Server(pid, _), _) if pid == postmaster.pid => Fenced::Failed,
        (End::Proven(1..) | End::Server(_, 1..), Fenced::Nothing) => Fenced::Killed,
        // Another server than the one that was to be stopped is armed on its own.
        (End::Proven(_) | End::Server(..), how) => how,
    }
}

/// The postmaster alone.
fn quit(postmaster: &Process) -> Fenced {
    match postmaster.signal(Signal::SIGQUIT) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => return Fenced::Nothing,
        Err(_) => return Fenced::Failed,
    }
    if ends_within(postmaster, QUIT_PATIENCE) {
        return Fenced::Quit;
    }
    kill_tree(postmaster);
    ends_within(postmaster, KILL_PATIENCE);
    Fenced::Killed
}

fn ends_within(process: &Process, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while process.is_alive() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL_INTERVAL);
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::process::evidence::tests::FakeServer;
    use std::process::Command;

    fn stopped(script: &str) -> Fenced {
        // Whoever runs the tests in the background of a shell has SIGQUIT ignored, and no shell below can trap it.
        let mut child =
            Command::new("env").args(["--default-signal=QUIT", "sh", "-c", script]).spawn().unwrap();
        sleep(Duration::from_millis(200));
        let process = Process::find(child.id() as i32).unwrap();
        let result = fence(&process, None);
        child.wait().unwrap();
        result
    }

    #[test]
    fn sigquit_then_sigkill() {
        // A busy machine may not let it end within a second.
        let obeys = || stopped("trap 'exit 0' QUIT; while :; do sleep 0.05; done") == Fenced::Quit;
        assert!((0..5).any(|_| obeys()));
        assert_eq!(stopped("trap '' QUIT; while :; do sleep 0.05; done"), Fenced::Killed);
        let nobody = Process { pid: 4_194_303, start_ticks: 1 };
        assert_eq!(fence(&nobody, None), Fenced::Nothing);
    }

    #[test]
    fn backends_that_outlive_their_postmaster_are_killed() {
        let home = FakeServer::new();
        let mut backend = home.run("postgres: app db [local] COPY");
        let nobody = Process { pid: 4_194_303, start_ticks: 1 };
        assert_eq!(fence(&nobody, Some(&home.place())), Fenced::Killed);
        assert!(!backend.wait().unwrap().success());
        assert_eq!(fence(&nobody, Some(&home.place())), Fenced::Nothing);
    }
}
