//! Process file descriptors (Linux 5.3 and later): signals that cannot reach a
//! reused pid, and a wake-up at the moment a process that is not our child ends.
//! Source: pidfd_open(2), pidfd_send_signal(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;

/// An open reference to one process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PidFd {
    /// Opens the process with this pid.
    ///
    /// # Errors
    /// `ESRCH` when there is none, `ENOSYS` on a kernel without pidfds.
    #[allow(unsafe_code)] // libc has no wrapper for this system call
    pub fn open(pid: i32) -> io::Result<PidFd> {
        // SAFETY: the call takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Sends a signal to the process.
    ///
    /// # Errors
    /// `ESRCH` when it is gone, `EPERM` when we may not.
    #[allow(unsafe_code)] // libc has no wrapper for this system call
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let none: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: a null siginfo is allowed and means "as kill(2) would send".
        let rc =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, none, 0) };
        if rc < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Has the process ended (a zombie has)? Needs no other descriptor.
    ///
    /// # Errors
    /// The system does not say.
    pub fn has_ended(&self) -> io::Result<bool> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut fds, PollTimeout::ZERO)? > 0)
    }

    /// Waits until the process has ended. Cancel safe.
    ///
    /// # Errors
    /// When the descriptor cannot be registered with the reactor.
    #[allow(unsafe_code)] // registration with the reactor
    pub async fn wait(self) -> io::Result<()> {
        // SAFETY: we own the descriptor, it stays open inside `fd` and `OwnedFd`
        // always returns the same number.
        let fd = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        fd.readable().await?.retain_ready();
        Ok(())
    }
}
