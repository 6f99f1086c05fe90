//! Starting a process that outlives us: in its own session, without us as its
//! parent, so that PostgreSQL survives the daemon (surface-ha-pg 10-04).
//!
//! The forked child calls `setsid`, forks once more, reports the second pid and
//! exits; the grandchild executes the program. Both steps run between fork and
//! exec, where only async-signal-safe calls are allowed: raw system calls, no
//! allocation, no lock.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::proc::{self, Process};

/// The part that runs in the forked child: a new session, and a grandchild that
/// returns to execute the program. The child itself reports and exits.
#[allow(unsafe_code)] // fork, write and _exit between fork and exec
fn detach(report: RawFd) -> io::Result<()> {
    // SAFETY: setsid has no memory effects.
    if unsafe { libc::setsid() } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the bare system call runs no fork handlers and takes no lock that
    // another thread might have held when we were forked.
    let pid = unsafe { fork_plain() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        pid => {
            let bytes = pid.to_ne_bytes();
            // SAFETY: `bytes` lives on this stack; write and _exit are async-signal-safe.
            unsafe {
                libc::write(report, bytes.as_ptr().cast(), bytes.len());
                libc::_exit(0)
            }
        }
    }
}

/// `clone(2)` with no flags but SIGCHLD: a plain fork as one system call.
#[allow(unsafe_code)] // neither libc nor nix binds the async-signal-safe `_Fork`
unsafe fn fork_plain() -> libc::pid_t {
    // SAFETY: without CLONE_VM the child gets its own copy of memory and stack.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    pid as libc::pid_t
}

/// Starts `command` detached. Blocks until the program was executed (about a
/// millisecond): call it on the blocking pool.
///
/// The command inherits standard output and error; its input is `/dev/null`.
///
/// # Errors
/// The error of fork or exec (for example a missing program), or `NotFound`
/// when the new process ended before it could be looked at.
pub fn detached(mut command: Command) -> io::Result<Process> {
    command.stdin(Stdio::null());
    detached_as_is(command)
}

/// As [`detached`], with the input that the command has been given.
///
/// # Errors
/// As [`detached`].
#[allow(unsafe_code)] // pre_exec
pub fn detached_as_is(mut command: Command) -> io::Result<Process> {
    let (mut reader, writer) = io::pipe()?;
    let report = writer.as_raw_fd();
    // SAFETY: `detach` keeps to async-signal-safe calls; `writer` is open until
    // after spawn, and close-on-exec keeps it out of the new program.
    unsafe { command.pre_exec(move || detach(report)) };
    let mut intermediate = command.spawn()?;
    let session = intermediate.id() as i32;
    intermediate.wait()?;
    drop(writer);
    let mut bytes = [0u8; 4];
    reader.read_exact(&mut bytes)?;
    let pid = i32::from_ne_bytes(bytes);
    // The session is the exited child's pid: no other process can have it, so a
    // pid that was already reused by somebody else is recognised.
    // Where nobody can tell, it may run, and is found later.
    match proc::look(pid)? {
        Some(s) if s.session == session && !s.is_zombie() => Ok(Process { pid, start_ticks: s.start_ticks }),
        _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("process {pid} exited immediately"))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn detached_process_has_its_own_session_and_no_leaked_descriptor() {
        let pipe = io::pipe().unwrap();
        let mut command = Command::new("sleep");
        command.arg("20").stdout(Stdio::null()).stderr(Stdio::null());
        let process = detached(command).unwrap();
        let s = proc::stat(process.pid).unwrap();
        assert_ne!(s.ppid, std::process::id() as i32);
        assert_ne!(s.session, process.pid, "the exited child leads the session, as with pg_ctl");
        // Only what the test itself was started with (cargo's jobserver, a shell's own) may remain: all that it opens
        // itself is closed by exec.
        // proc(5): the flags are octal.
        let inherited = |name: &String| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{name}")).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
            flags.is_some_and(|flags| flags & nix::libc::O_CLOEXEC == 0)
        };
        let leaks = || -> Vec<String> {
            let fds = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap();
            let names = fds.map(|e| e.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.parse::<i32>().unwrap() > 2 && !inherited(name)).collect()
        };
        assert!(!inherited(&pipe.0.as_raw_fd().to_string()));
        // Until it has become the new program it still has them, and that opens its libraries for a moment.
        let until = std::time::Instant::now() + Duration::from_secs(5);
        let mut left = leaks();
        while !left.is_empty() && std::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
            left = leaks();
        }
        assert_eq!(left, Vec::<String>::new());
        process.signal(nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(process.wait_exit_within(Some(Duration::from_secs(5))).await);
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let error = detached(Command::new("/nonexistent/postgres")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
