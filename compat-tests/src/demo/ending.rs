//! How the demonstration ends, whoever asks for it: everything that was started is ended, its directory is removed, the
//! terminal is as it was, and then the program ends. What kills the program itself is answered by the janitor
//! ([`crate::lab::janitor`]), which does the same from outside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};

use patroni_core::mutex::locked;

use nix::sys::signal::{SigSet, Signal};

use crate::lab::{cluster, process};

/// The directory of everything, once it is there.
static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
/// The terminal's settings before ours, in stty's words.
static TERMINAL: OnceLock<String> = OnceLock::new();
/// Held by the one who ends; whoever comes later waits for the end of the program.
static ENDING: Mutex<()> = Mutex::new(());

/// From now on this directory is what an end has to clear.
pub fn remember(directory: &Path) {
    let _ = DIRECTORY.set(directory.to_path_buf());
}

/// Ends the program at SIGINT, SIGTERM and SIGHUP, with the exit code of a shell. To be called before there are threads;
/// programs that are started get signals as usual (the library that starts them clears the mask).
pub fn on_signals() {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    if signals.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            end(128 + signal as i32);
        }
    });
}

/// Ends everything, and the program.
pub fn end(code: i32) -> ! {
    let _only = locked(&ENDING);
    let _ = writeln!(std::io::stdout(), "stopping");
    if let Some(directory) = DIRECTORY.get() {
        if let Err(error) = process::end_under(directory) {
            let _ = writeln!(std::io::stderr(), "{error}");
        }
        cluster::remove(directory);
    }
    if let Some(settings) = TERMINAL.get() {
        let _ = stty(&[settings]);
    }
    std::process::exit(code)
}

/// Lets the terminal hand over each key as it is pressed, and not show it; without a terminal nothing happens.
pub fn take_single_keys() {
    if let Some(settings) = stty(&["-g"]) {
        let _ = TERMINAL.set(settings.trim().to_string());
        let _ = stty(&["-icanon", "-echo", "min", "1", "time", "0"]);
    }
}

/// What stty says; `None` where the input is no terminal.
fn stty(words: &[&str]) -> Option<String> {
    let done =
        Command::new("stty").args(words).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}
