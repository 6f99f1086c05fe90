//! The reaper: a second process of the same binary, beside a daemon that has work done on PGDATA (a copy, a rewind, a
//! bootstrap). When the daemon dies in the middle of it, the reaper kills all that is at work there; the kernel alone
//! would do it for the daemon's own children, not for what a script has started. When the work is done it ends.
//!
//! It knows one thing, the data directory, and hears one thing: whether its pipe ends with a word or without.

use std::ffi::OsStr;
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{signal, SigHandler, Signal};
use patroni_postgres::process::{bound, spawn};

/// The name it runs under (`argv[0]`); then comes PGDATA.
pub const NAME: &str = "patroni: reaper";
/// How long it goes on killing.
const LIMIT: Duration = Duration::from_secs(60);

/// The daemon's end. When it is dropped the work is done, and the reaper goes.
pub struct Reaper {
    pipe: PipeWriter,
}

impl Reaper {
    /// Starts one. Blocks for about a millisecond.
    ///
    /// # Errors
    /// Those of fork and exec.
    pub fn start(data_dir: &Path) -> io::Result<Reaper> {
        let (input, pipe) = io::pipe()?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(NAME).arg(data_dir).env_clear().stdin(Stdio::from(input)).stdout(Stdio::null());
        spawn::detached_as_is(command)?;
        Ok(Reaper { pipe })
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let _ = self.pipe.write_all(b".");
    }
}

/// If the program was started as a reaper: is one to its end.
pub fn run_if_named() {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::from_bytes(NAME.as_bytes())) {
        return;
    }
    let data_dir = PathBuf::from(args.next().unwrap_or_default());
    for ignored in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        #[allow(unsafe_code)]
        // SAFETY: ignoring a signal runs no code of ours.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let mut word = Vec::new();
    let _ = io::stdin().read_to_end(&mut word);
    if word.is_empty() {
        for killed in bound::end_leftovers(&data_dir, &[], LIMIT) {
            let _ = writeln!(
                io::stderr(),
                "{} WARNING: the daemon has died: reaper: killed process {}, which was at work on {}",
                jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f"),
                killed.pid,
                data_dir.display()
            );
        }
    }
    std::process::exit(0)
}
