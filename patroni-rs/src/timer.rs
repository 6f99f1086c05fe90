//! Timers as descriptors (timerfd), for those who must not be late: one goes off at once when the machine wakes up after
//! its time, the other when somebody sets the wall clock. nix' timerfd has no CLOCK_BOOTTIME.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use patroni_core::ha::Mono;

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

    /// On the wall clock; see [`Timer::watch_clock`].
    ///
    /// # Errors
    /// As [`Timer::boot`].
    pub fn wall() -> io::Result<Timer> {
        create(libc::CLOCK_REALTIME)
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

    /// Readable once somebody has set the wall clock, from now on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn watch_clock(&self) -> io::Result<()> {
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
