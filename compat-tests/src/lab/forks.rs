//! The reference's patronictl as a process that has started already and forks for each call: what it prints is the
//! same, and a call takes a tenth of the time, which most of the differential's questions are made of.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pyfmt::{json, Value};

use super::process::{self, Output};
use super::{host, wait_until, Result};

/// What is run; see there.
const SCRIPT: &str = include_str!("forks.py");

/// The process, and where it listens.
#[derive(Debug)]
pub struct Forks {
    child: Child,
    directory: PathBuf,
    socket: PathBuf,
    calls: AtomicUsize,
}

impl Forks {
    /// Starts it for the console script `program` of the reference, in the test cluster's `directory`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(program: &str, directory: &Path, bin: &Path) -> Result<Forks> {
        let socket = directory.join(format!(".{program}.sock"));
        let mut command = process::command(&host::reference("python3"), directory, bin)?;
        command.args(["-c", SCRIPT]).arg(host::reference(program)).arg(&socket);
        let child = process::daemon(command, &directory.join(format!("{program}-forks.log")))?;
        let forks = Forks { child, directory: directory.into(), socket, calls: AtomicUsize::new(0) };
        wait_until("patronictl listens for calls", Duration::from_secs(60), || {
            Ok(UnixStream::connect(&forks.socket).map(drop)?)
        })?;
        Ok(forks)
    }

    /// A call with `arguments` and, if given, `COLUMNS`.
    ///
    /// # Errors
    /// The process is gone, or the call hangs.
    pub fn call(&self, arguments: &[&str], columns: Option<u32>, within: Duration) -> Result<Output> {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let file = |kind: &str| self.directory.join(format!(".call{number}.{kind}"));
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let mut environment = Value::map();
        if let Some(columns) = columns {
            environment.set("COLUMNS", Value::from(columns.to_string()));
        }
        let mut request = Value::map();
        request.set("arguments", Value::List(arguments.iter().map(|word| Value::from(*word)).collect()));
        request.set("environment", environment);
        request.set("stdout", Value::from(stdout.display().to_string()));
        request.set("stderr", Value::from(stderr.display().to_string()));
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(within))?;
        writeln!(stream, "{}", json::dumps(&request))?;
        let mut code = String::new();
        BufReader::new(stream).read_line(&mut code).map_err(|e| format!("{arguments:?}: {e}"))?;
        let text = |path: &Path| -> Result<String> {
            let bytes = std::fs::read(path)?;
            std::fs::remove_file(path)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Output { code: code.trim().parse()?, stdout: text(&stdout)?, stderr: text(&stderr)? })
    }
}

impl Drop for Forks {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
