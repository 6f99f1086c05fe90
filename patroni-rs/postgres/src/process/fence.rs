//! The last resort: a primary that must not write any more is stopped, whatever
//! the rest of the daemon does. One rule for the lock keeper and for the guardian.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use patroni_core::ha::keeper::QUIT_PATIENCE;

use super::proc::Process;
use super::signals::kill_tree;

/// Time between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// How a fence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// There was nothing to stop, or it may not be signalled.
    Nothing,
    /// It ended on SIGQUIT.
    Quit,
    /// SIGKILL was sent to it and to its children.
    Killed,
}

/// SIGQUIT to the postmaster, SIGKILL to it and its children if it does not obey
/// within [`QUIT_PATIENCE`]. Blocks for as long. No file of PGDATA is read.
pub fn fence(postmaster: &Process) -> Fenced {
    if postmaster.signal(Signal::SIGQUIT).is_err() {
        return Fenced::Nothing;
    }
    let deadline = Instant::now() + QUIT_PATIENCE;
    while postmaster.is_alive() {
        if Instant::now() >= deadline {
            kill_tree(postmaster);
            return Fenced::Killed;
        }
        sleep(LOOK);
    }
    Fenced::Quit
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::Command;

    fn stopped(script: &str) -> Fenced {
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        sleep(Duration::from_millis(200));
        let process = Process::find(child.id() as i32).unwrap();
        let result = fence(&process);
        child.wait().unwrap();
        result
    }

    #[test]
    fn sigquit_then_sigkill() {
        assert_eq!(stopped("trap 'exit 0' QUIT; while :; do sleep 0.05; done"), Fenced::Quit);
        assert_eq!(stopped("trap '' QUIT; while :; do sleep 0.05; done"), Fenced::Killed);
        let nobody = Process { pid: 4_194_303, start_ticks: 1 };
        assert_eq!(fence(&nobody), Fenced::Nothing);
    }
}
