//! Timers as descriptors (timerfd), for those who must not be late: one goes off at once when the machine wakes up after
//! its time, the other when somebody sets the wall clock. nix' timerfd has no CLOCK_BOOTTIME.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::time::{clock_gettime, ClockId};
use patroni_core::ha::Mono;

use crate::clock::mono_now;

/// A smaller jump of the wall clock is none: time servers move it by less, bit by bit.
const JUMP: Duration = Duration::from_secs(1);

/// A timer of the kernel.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Timer {
    /// On the clock that counts suspension.
    ///
    /// # Errors
    /// No descriptor, or the kernel has no such timer.
    pub fn boot() -> io::Result<Timer> {
        create(libc::CLOCK_BOOTTIME)
    }

    /// Readable from `at` on; None: never.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, at: Option<Mono>) -> io::Result<()> {
        let at = at.map_or(NEVER, |at| libc::timespec {
            tv_sec: libc::time_t::try_from(at.since_start().as_secs()).unwrap_or(libc::time_t::MAX),
            // All zero would switch it off.
            tv_nsec: libc::c_long::from(at.since_start().subsec_nanos() as i32).max(1),
        });
        self.arm(at, libc::TFD_TIMER_ABSTIME)
    }

    /// Of the wall clock: readable once somebody has set it, from now on.
    fn watch_clock(&self) -> io::Result<()> {
        let far = libc::timespec { tv_sec: libc::time_t::MAX >> 32, tv_nsec: 0 };
        self.arm(far, libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET)
    }

    fn arm(&self, at: libc::timespec, flags: i32) -> io::Result<()> {
        let setting = libc::itimerspec { it_interval: NEVER, it_value: at };
        // SAFETY: `setting` lives during the call; the old setting is not asked for.
        let rc = unsafe { libc::timerfd_settime(self.0.as_raw_fd(), flags, &setting, std::ptr::null_mut()) };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Who hears of it when somebody sets the wall clock ahead.
#[derive(Debug)]
pub struct WallClock {
    timer: Option<Timer>,
    /// By how much it was ahead of the clock that nobody sets when last looked at, nanoseconds.
    ahead: Option<i128>,
}

impl WallClock {
    /// From now on.
    ///
    /// # Errors
    /// The kernel has the timer, and refuses to set it.
    pub fn watch() -> io::Result<WallClock> {
        let timer = create(libc::CLOCK_REALTIME).ok();
        if let Some(timer) = &timer {
            timer.watch_clock()?;
        }
        Ok(WallClock { timer, ahead: ahead() })
    }

    /// Readable once it was set; None: the kernel has no such timer.
    pub fn timer(&self) -> Option<&Timer> {
        self.timer.as_ref()
    }

    /// By how much it has jumped ahead since the last look.
    pub fn jumped(&mut self) -> Option<Duration> {
        if let Some(timer) = &self.timer {
            let _ = timer.watch_clock();
        }
        let before = self.ahead;
        self.ahead = ahead().or(before);
        jump(before, self.ahead)
    }
}

fn jump(before: Option<i128>, now: Option<i128>) -> Option<Duration> {
    let by = u64::try_from(now? - before?).ok().map(Duration::from_nanos)?;
    (by >= JUMP).then_some(by)
}

/// By how much the wall clock is ahead of the one that nobody sets, nanoseconds. None: this thread is not let run for
/// long enough to read both.
fn ahead() -> Option<i128> {
    for _ in 0..5 {
        let before = mono_now();
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).ok()?;
        let after = mono_now();
        if after.since(before) < JUMP / 20 {
            let wall = i128::from(wall.tv_sec()) * 1_000_000_000 + i128::from(wall.tv_nsec());
            return Some(wall - before.since_start().as_nanos() as i128);
        }
    }
    None
}

const NEVER: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

fn create(clock: libc::clockid_t) -> io::Result<Timer> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(Timer(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_jump() {
        let s = 1_000_000_000;
        for (before, now, by) in [
            (Some(5 * s), Some(35 * s), Some(30)),
            (Some(5 * s), Some(6 * s), Some(1)),
            (Some(5 * s), Some(6 * s - 1), None),
            (Some(35 * s), Some(5 * s), None),
            (None, Some(5 * s), None),
            (Some(5 * s), None, None),
        ] {
            assert_eq!(jump(before, now), by.map(Duration::from_secs), "{before:?} {now:?}");
        }
        assert!(ahead().is_some());
    }
}
