//! A program behind a pseudo-terminal: what it shows, and a person who waits for a text and then types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::lab::process::Output;
use crate::lab::Result;

/// A step: wait until the text is shown, then type the other.
pub type Step = (String, String);

/// How long the program may take in all.
const LONG: Duration = Duration::from_secs(90);
/// Between two looks at what is shown.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The two ends of a new pseudo-terminal of `columns` times 24.
#[allow(unsafe_code)]
fn open(columns: u16) -> Result<(OwnedFd, OwnedFd)> {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: all pointers are to live variables or null, and a return of 0 means that both descriptors are
    // open and ours.
    unsafe {
        if libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok((OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)))
    }
}

/// Runs `command`, which is the first of its session, on a terminal with these steps. What the
/// terminal showed is `stdout`.
///
/// # Errors
/// It cannot be started, or did not end in time: with what it showed.
pub fn run(mut command: Command, columns: u16, steps: &[Step]) -> Result<Output> {
    let (master, slave) = open(columns)?;
    command.stdin(Stdio::from(slave.try_clone()?));
    command.stdout(Stdio::from(slave.try_clone()?)).stderr(Stdio::from(slave));
    // SAFETY: ioctl is async-signal-safe; descriptor 0 is the terminal by then.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| match libc::ioctl(0, libc::TIOCSCTTY, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let mut child = command.spawn()?;
    // Our copies of the slave side must go, or the master never ends.
    drop(command);
    let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
    let mut reader = File::from(master.try_clone()?);
    let sink = Arc::clone(&shown);
    let thread = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut chunk) {
            if let Ok(mut sink) = sink.lock() {
                sink.extend_from_slice(&chunk[..count]);
            }
        }
    });
    let text = || shown.lock().map(|all| String::from_utf8_lossy(&all).into_owned()).unwrap_or_default();
    let mut writer = File::from(master);
    let end = Instant::now() + LONG;
    let (mut next, mut seen) = (0, 0);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Err(format!("still running; shown:\n{}", text()).into());
        }
        let all = text();
        if let Some((wait, keys)) = steps.get(next) {
            let found = all.get(seen..).and_then(|rest| rest.find(wait.as_str()));
            if let Some(at) = found {
                seen += at + wait.len();
                next += 1;
                // A prompt may be shown before the program reads, and the echo switched off in between.
                std::thread::sleep(Duration::from_millis(60));
                writer.write_all(keys.as_bytes())?;
            }
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    // A child of the program could hold the terminal open; it is not waited for.
    let patience = Instant::now() + Duration::from_secs(2);
    while !thread.is_finished() && Instant::now() < patience {
        std::thread::sleep(POLL_INTERVAL);
    }
    let left = steps.len() - next;
    let stderr = if left > 0 { format!("{left} steps were never reached\n") } else { String::new() };
    Ok(Output { code: exit_code(status), stdout: text(), stderr })
}

/// The exit code; minus the number of the signal after one.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
}
