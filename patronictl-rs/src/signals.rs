//! Ctrl-C as the reference answers it: `Aborted!` and exit code 1; outside of
//! a prompt an empty line comes first (surface-api-ctl B6).

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};

static IN_PROMPT: AtomicBool = AtomicBool::new(false);

/// Says whether the program waits for an answer right now.
pub fn in_prompt(yes: bool) {
    IN_PROMPT.store(yes, Ordering::Relaxed);
}

/// Takes SIGINT away from all threads and waits for it in one of its own. Must
/// run before other threads start. Child processes get a fresh signal mask
/// from the standard library, so editors and pagers still receive the signal.
pub fn watch_interrupt() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    if set.thread_block().is_err() {
        return;
    }
    // If the thread cannot start, Ctrl-C is merely ignored until the end.
    let _ = std::thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        if set.wait().is_ok() {
            let text = if IN_PROMPT.load(Ordering::Relaxed) { "Aborted!\n" } else { "\nAborted!\n" };
            crate::out::stderr(text);
            std::process::exit(1);
        }
    });
}
