//! Servers of a store beside its first one, each of which can be harmed alone.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};

use super::wait::ensure;
use super::{host, process, wait_until, Result};

/// A server: how it is started, and its process.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// With a directory of its own, and not started.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(program: &Path, directory: PathBuf, arguments: Vec<String>) -> Result<Server> {
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        Ok(Server { program: program.to_owned(), arguments, directory, child: None })
    }

    /// Starts it, unless it runs, and does not wait for it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if process::living(&mut self.child).is_some() {
            return Ok(());
        }
        let mut command = process::command(&self.program, &self.directory, Path::new("/usr/bin"))?;
        command.args(&self.arguments);
        self.child = Some(process::daemon(command, &self.directory.join("server.log"))?);
        Ok(())
    }

    /// As [`signal`].
    ///
    /// # Errors
    /// As [`signal`].
    pub fn signal(&mut self, with: Signal) -> Result<()> {
        signal(&mut self.child, with)
    }

    /// Forgets a process that was killed.
    pub fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }
}

/// Sends a signal to a process that lives; after SIGKILL and SIGTERM it has ended.
///
/// # Errors
/// It lives on.
pub fn signal(child: &mut Option<Child>, signal: Signal) -> Result<()> {
    signal_within(child, signal, Duration::from_secs(30))
}

/// The same for one that takes so long to end.
///
/// # Errors
/// It lives on.
pub fn signal_within(child: &mut Option<Child>, signal: Signal, limit: Duration) -> Result<()> {
    let Some(pid) = process::living(child) else { return Ok(()) };
    kill(pid, signal)?;
    if !matches!(signal, Signal::SIGKILL | Signal::SIGTERM) {
        return Ok(());
    }
    wait_until("the server ends", limit, || {
        ensure(process::living(child).is_none(), || format!("{pid} lives"))
    })
}
