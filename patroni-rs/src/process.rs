//! What the process is before the daemon runs in it: umask, PID 1.

use std::sync::OnceLock;

use nix::sys::signal::{self, SigSet, Signal};
use nix::sys::stat::{umask, Mode};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, getpid, ForkResult, Pid};
use patroni_core::parse::parse_int;
use pyfmt::int::{clamped, int};
use pyfmt::Value;

static UMASK: OnceLock<u32> = OnceLock::new();

/// One heap for all threads, whose free end goes back to the system: with glibc's defaults
/// every thread gets an arena of its own, and keeps it. To be called before any thread exists.
#[allow(unsafe_code)]
pub fn keep_heap_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes numbers of the allocator; no other thread exists yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
    }
}

/// Gives free memory back to the system, also that from the middle of the heap.
#[allow(unsafe_code)]
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches nothing that is in use, and may be called by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Held by what the daemon must not live without: a panic in it ends the process at once, without destructors, which
/// might wait for what hangs. Its supervisor starts it again, and until then the guardian has the last word.
pub struct EndWithPanic(pub &'static str);

impl Drop for EndWithPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let what = self.0;
            tracing::error!(target: "patroni.__main__", critical = true, "Unexpected exception in the {what}: the daemon ends");
            // The log is written by a thread of its own.
            std::thread::sleep(LAST_WORDS);
            end_at_once(PANICKED);
        }
    }
}

/// Time for the log to be written before the process ends.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);
/// The exit code after a panic.
pub const PANICKED: i32 = 1;

/// Ends the process: no destructor is run, and nobody is waited for.
#[allow(unsafe_code)]
pub fn end_at_once(code: i32) -> ! {
    // SAFETY: _exit ends the process and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Files are ours alone unless something says otherwise (surface-config 7.7).
pub fn set_umask() {
    let original = umask(Mode::from_bits_truncate(0o077));
    UMASK.get_or_init(|| original.bits());
    patroni_postgres::files::perm::init();
}

/// The umask that the process was started with.
pub fn original_umask() -> u32 {
    UMASK.get().copied().unwrap_or(0o022)
}

/// Stack size and number of threads have no meaning here, but what they are set to is announced, and warned of
/// where it cannot be read (surface-config 2, 6.12).
pub fn announce_threads(config: &Value) {
    let stack = config.get("thread_stack_size");
    match (stack, stack.and_then(|size| parse_int(size, Some("B")))) {
        (Some(size), Some(i64::MAX)) => {
            let exact = int(size).unwrap_or_else(|_| size.clone());
            tracing::warn!(
                target: "patroni.daemon",
                "Failed to set threading.stack_size({exact}): \
                 OverflowError('Python int too large to convert to C ssize_t')"
            );
        }
        (_, Some(_)) => {}
        (size, None) => {
            if let Some(size) = size {
                tracing::warn!(target: "patroni.daemon", "Failed to parse thread_stack_size value \"{size}\"");
            }
            tracing::info!(target: "patroni.daemon", "Using default value thread_stack_size = 524288");
        }
    }
    let size = config.get("thread_pool_size").map_or(Ok(Value::Int(5)), int);
    let size = size.unwrap_or_else(|error| {
        let shown = config.get("thread_pool_size").unwrap_or(&Value::Null);
        let error = error.repr();
        tracing::warn!(
            target: "patroni.__main__",
            "Failed to parse thread_pool_size value \"{shown}\": {error}"
        );
        Value::Int(5)
    });
    let size = if clamped(&size) < 5 { Value::Int(5) } else { size };
    tracing::info!(target: "patroni.__main__", "Patroni global thread_pool_size = {size}");
}

/// What the shell calls the end by SIGINT.
pub const INTERRUPTED: i32 = 130;

/// Ends the process by SIGINT, as Python does where nothing catches it: who waits for us sees the signal.
#[allow(unsafe_code)]
pub fn die_of_interrupt() {
    // SAFETY: the default action runs no code of ours.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::raise(libc::SIGINT);
    }
}

/// Whoever started us in the background does not want us to end by the terminal's Ctrl-C (7.4).
#[allow(unsafe_code)]
pub fn interrupt_is_ignored() -> bool {
    // SAFETY: all-zero is a valid sigaction, and with a null second argument the call only reads.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGINT, std::ptr::null(), &mut current) == 0
            && current.sa_sigaction == libc::SIG_IGN
    }
}

/// As PID 1 the process has to reap whatever dies: it becomes a small parent that
/// does nothing else, and the daemon its child (7.5). Returns in the daemon only.
/// Must be called before any thread exists.
#[allow(unsafe_code)]
pub fn split_off_init() {
    if getpid() != Pid::from_raw(1) {
        return;
    }
    let mut signals = SigSet::empty();
    for s in FORWARDED.iter().chain([Signal::SIGCHLD].iter()) {
        signals.add(*s);
    }
    if signals.thread_block().is_err() {
        return;
    }
    // SAFETY: no other thread exists yet, so the child may run anything.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            let _ = signals.thread_unblock();
        }
        Ok(ForkResult::Parent { child }) => std::process::exit(reap_until_gone(child, &signals)),
        Err(_) => {
            let _ = signals.thread_unblock();
        }
    }
}

const FORWARDED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGABRT,
    Signal::SIGTERM,
];

fn reap_until_gone(child: Pid, signals: &SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {}
            Ok(other) => {
                let _ = signal::kill(child, other);
                continue;
            }
            Err(_) => continue,
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::StillAlive => break,
                // Whoever restarts containers that failed must hear of it. (The reference's init always ends with 0, 7.5.)
                WaitStatus::Exited(pid, code) if pid == child => return code,
                WaitStatus::Signaled(pid, signal, _) if pid == child => return 128 + signal as i32,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use std::process::Command;

    /// In a process of its own, which must end with the thread that panics.
    #[test]
    fn a_panic_of_a_thread_that_must_live_ends_the_process() {
        const INSIDE: &str = "PATRONI_TEST_PANIC";
        if std::env::var_os(INSIDE).is_some() {
            let thread = std::thread::spawn(|| {
                let _ends = EndWithPanic("test");
                panic!("it panics");
            });
            let _ = thread.join();
            std::process::exit(0);
        }
        let mut run = Command::new(std::env::current_exe().unwrap());
        run.args(["--exact", "process::tests::a_panic_of_a_thread_that_must_live_ends_the_process"]);
        assert_eq!(run.env(INSIDE, "1").output().unwrap().status.code(), Some(PANICKED));
        // It is no panic that ends the guarded thread.
        drop(EndWithPanic("test"));
    }
}
