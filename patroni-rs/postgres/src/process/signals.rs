//! Killing of a process together with everything it started.

use nix::sys::signal::Signal;

use super::proc::{self, Process};

/// Suspends a process (so that it can start nothing more), then sends SIGKILL to
/// it and to every process below it. Returns the processes that were signalled.
///
/// Rule: surface-ha-pg 9.2-06 and 22-09.
pub fn kill_tree(root: &Process) -> Vec<Process> {
    let _ = root.signal(Signal::SIGSTOP);
    // What cannot be listed now is left to the proof of the end.
    let mut victims = proc::children(root.pid, true).unwrap_or_default();
    let _ = root.signal(Signal::SIGKILL);
    for child in &victims {
        let _ = child.signal(Signal::SIGKILL);
    }
    victims.push(*root);
    victims
}
