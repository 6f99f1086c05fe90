//! Launches whose caller may have gone. A fork or an exec that waits for a hung disk cannot be taken back: it goes on
//! when the disk answers, and a server comes up that nobody waits for, perhaps as a primary whose lock has been given
//! away. So a launch that nobody waits for any more ends what it has started, and until it has come to its end nobody
//! can say that no server is left.

use std::io;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::Arc;

use nix::sys::signal::Signal;

use super::proc::Process;

/// How many launches have not come to their end.
static PENDING: AtomicUsize = AtomicUsize::new(0);

const AWAITED: u8 = 0;
const ANSWERED: u8 = 1;
const ABANDONED: u8 = 2;

/// May a server still come up that was launched before?
pub fn is_any() -> bool {
    PENDING.load(Ordering::SeqCst) > 0
}

/// A launch, for the thread that carries it out.
pub struct Launch(Arc<AtomicU8>);

/// The other end, for whoever waits. Dropped before the answer, the launch is abandoned.
pub struct Waiter(Arc<AtomicU8>);

/// A launch begins.
pub fn begin() -> (Launch, Waiter) {
    PENDING.fetch_add(1, Ordering::SeqCst);
    let state = Arc::new(AtomicU8::new(AWAITED));
    (Launch(state.clone()), Waiter(state))
}

impl Launch {
    /// Starts by `start`, unless nobody waits any more; and ends what was started if nobody waits for it by now.
    ///
    /// # Errors
    /// Those of `start`; `TimedOut` when nobody waits.
    pub fn carry_out(self, start: impl FnOnce() -> io::Result<Process>) -> io::Result<Process> {
        if self.0.load(Ordering::SeqCst) == ABANDONED {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let process = start()?;
        if self.0.compare_exchange(AWAITED, ANSWERED, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return Ok(process);
        }
        tracing::warn!(
            target: "patroni.postgresql.postmaster",
            "postmaster pid={} was started too late, and nobody waits for it any more: sending SIGKILL", process.pid
        );
        // What cannot be ended is found in the data directory by the next look.
        let _ = process.signal(Signal::SIGKILL);
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        PENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let _ = self.0.compare_exchange(AWAITED, ABANDONED, Ordering::SeqCst, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> (Child, Process) {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::find(child.id() as i32).unwrap();
        (child, process)
    }

    #[test]
    fn what_nobody_waits_for_is_not_started_or_ended_again() {
        // In time.
        let (mut child, process) = sleeper();
        let (launch, waiter) = begin();
        assert!(is_any());
        assert_eq!(launch.carry_out(|| Ok(process)).unwrap(), process);
        drop(waiter);
        assert!(child.try_wait().unwrap().is_none());

        // The waiter has gone while it was started: by the disk, say.
        let (launch, waiter) = begin();
        let late = launch.carry_out(move || {
            drop(waiter);
            assert!(is_any());
            Ok(process)
        });
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(!child.wait().unwrap().success());

        // Before it was.
        let (launch, waiter) = begin();
        drop(waiter);
        assert!(launch.carry_out(|| panic!("started for nobody")).is_err());
    }
}
