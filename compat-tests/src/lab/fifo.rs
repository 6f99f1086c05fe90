//! A watchdog of the test cluster: the reader of the `testing` driver's pipe (surface-ha-pg 23-05).

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patroni_core::mutex::locked;

use nix::libc::O_NONBLOCK;
use nix::sys::stat::Mode;

use super::{host, Result};

/// Reads the pipe until it is dropped.
#[derive(Debug)]
pub struct Fifo {
    read: Arc<Mutex<Vec<u8>>>,
    done: Arc<AtomicBool>,
}

impl Fifo {
    /// Makes the pipe and reads it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn at(path: &Path) -> Result<Fifo> {
        nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        host::give_away(path)?;
        // Open for writing as well: the pipe never ends, whoever closes it.
        let mut file =
            std::fs::OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path)?;
        let fifo = Fifo { read: Arc::default(), done: Arc::default() };
        let (read, done) = (fifo.read.clone(), fifo.done.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !done.load(Ordering::SeqCst) {
                match std::io::Read::read(&mut file, &mut buffer) {
                    Ok(count) if count > 0 => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        locked(&read).extend_from_slice(bytes);
                    }
                    _ => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        });
        Ok(fifo)
    }

    /// All that was written so far: `Ctimeout=N\n` when armed, `1` when fed, `V` when closed.
    pub fn text(&self) -> String {
        let read = locked(&self.read);
        String::from_utf8_lossy(&read).into_owned()
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
    }
}
