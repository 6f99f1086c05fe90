//! Linux watchdog devices, and the one that tests listen to through a named pipe.
//! Source: the kernel's Documentation/watchdog/watchdog-api and `linux/watchdog.h`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{access, AccessFlags};
use pyfmt::oserror;

use super::device::{WatchdogDevice, WatchdogError};

const DEFAULT_DEVICE: &str = "/dev/watchdog";
/// `WDIOF_SETTIMEOUT`: the timeout can be set.
const SETTIMEOUT: u32 = 0x0080;
/// `WDIOF_MAGICCLOSE`: a `V` before the close stops it.
const MAGICCLOSE: u32 = 0x0100;
/// How long the pipe of a test may be without a reader.
const PIPE_PATIENCE: Duration = Duration::from_secs(2);

/// `struct watchdog_info`
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)] // the kernel's fields
pub struct RawInfo {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

/// The ioctl calls; nix's macros write unsafe functions without documentation.
#[allow(missing_docs, unsafe_code)]
mod ioctl {
    use super::RawInfo;
    nix::ioctl_read!(getsupport, b'W', 0, RawInfo);
    nix::ioctl_readwrite!(settimeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(gettimeout, b'W', 7, libc::c_int);
}

fn closed() -> WatchdogError {
    WatchdogError("Watchdog device is closed".to_owned())
}

/// The file behind both kinds of device.
#[derive(Debug)]
struct Device {
    path: String,
    file: Option<File>,
}

impl Device {
    fn new(path: Option<String>) -> Device {
        Device { path: path.unwrap_or_else(|| DEFAULT_DEVICE.to_owned()), file: None }
    }

    fn is_healthy(&self) -> bool {
        access(Path::new(&self.path), AccessFlags::W_OK).is_ok()
    }

    /// Opens for writing without waiting: a pipe without a reader must not hang us.
    fn open(&mut self) -> Result<(), WatchdogError> {
        let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path);
        let fail =
            |e| WatchdogError(format!("Can't open watchdog device: {}", oserror::text(&e, Some(&self.path))));
        self.file = Some(opened.map_err(fail)?);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<io::Result<()>, WatchdogError> {
        Ok(self.file.as_mut().ok_or_else(closed)?.write_all(bytes))
    }

    fn keepalive(&mut self) -> Result<(), WatchdogError> {
        let fail =
            |e| WatchdogError(format!("Could not send watchdog keepalive: {}", oserror::text(&e, None)));
        self.write(b"1")?.map_err(fail)
    }

    fn close(&mut self, name: &str) -> Result<(), WatchdogError> {
        if self.file.is_none() {
            return Ok(());
        }
        let fail = |e| WatchdogError(format!("Error while closing {name}: {}", oserror::text(&e, None)));
        self.write(b"V")?.map_err(fail)?;
        self.file = None;
        Ok(())
    }
}

/// A device of the kernel.
#[derive(Debug)]
pub struct LinuxWatchdog {
    device: Device,
    info: Option<RawInfo>,
}

impl LinuxWatchdog {
    /// The device at `path`, by default `/dev/watchdog`.
    pub fn new(path: Option<String>) -> LinuxWatchdog {
        LinuxWatchdog { device: Device::new(path), info: None }
    }

    fn fd(&self) -> Result<i32, WatchdogError> {
        self.device.file.as_ref().map(AsRawFd::as_raw_fd).ok_or_else(closed)
    }

    #[allow(unsafe_code)] // ioctl
    fn support(&mut self) -> Result<RawInfo, WatchdogError> {
        if let Some(info) = self.info {
            return Ok(info);
        }
        let fail = |e: &dyn std::fmt::Display| {
            WatchdogError(format!("Could not get information about watchdog device: {e}"))
        };
        let fd = self.fd().map_err(|e| fail(&e))?;
        let mut info = RawInfo::default();
        // SAFETY: the descriptor is open and `info` has the kernel's layout.
        let got = unsafe { ioctl::getsupport(fd, &mut info) };
        got.map_err(|e| fail(&oserror::text(&e.into(), None)))?;
        self.info = Some(info);
        Ok(info)
    }
}

impl WatchdogDevice for LinuxWatchdog {
    fn is_running(&self) -> bool {
        self.device.file.is_some()
    }
    fn is_healthy(&self) -> bool {
        self.device.is_healthy()
    }
    fn can_be_disabled(&mut self) -> bool {
        self.support().is_ok_and(|s| s.options & MAGICCLOSE != 0)
    }
    fn open(&mut self) -> Result<(), WatchdogError> {
        self.device.open()?;
        // For the description; a device that does not answer fails in what follows.
        let _ = self.support();
        Ok(())
    }
    fn close(&mut self) -> Result<(), WatchdogError> {
        let name = self.describe();
        self.device.close(&name)
    }
    fn keepalive(&mut self) -> Result<(), WatchdogError> {
        self.device.keepalive()
    }
    #[allow(unsafe_code)] // ioctl
    fn timeout(&self) -> Result<i64, WatchdogError> {
        let fail = |e: &dyn std::fmt::Display| {
            WatchdogError(format!("Could not get timeout on watchdog device: {e}"))
        };
        let fd = self.fd().map_err(|e| fail(&e))?;
        let mut seconds: libc::c_int = 0;
        // SAFETY: the descriptor is open and the kernel writes one int.
        let got = unsafe { ioctl::gettimeout(fd, &mut seconds) };
        got.map_err(|e| fail(&oserror::text(&e.into(), None)))?;
        Ok(i64::from(seconds))
    }
    fn has_set_timeout(&mut self) -> Result<bool, WatchdogError> {
        self.support().map(|s| s.options & SETTIMEOUT != 0)
    }
    #[allow(unsafe_code)] // ioctl
    fn set_timeout(&mut self, seconds: i64) -> Result<(), WatchdogError> {
        let mut wanted = u16::try_from(seconds)
            .ok()
            .filter(|s| (1..0xFFFF).contains(s))
            .map(libc::c_int::from)
            .ok_or_else(|| {
                WatchdogError(format!("Invalid timeout {seconds}. Supported values are between 1 and 65535"))
            })?;
        let fail = |e: &dyn std::fmt::Display| {
            WatchdogError(format!("Could not set timeout on watchdog device: {e}"))
        };
        let fd = self.fd().map_err(|e| fail(&e))?;
        // SAFETY: the descriptor is open; the kernel reads and writes one int.
        let set = unsafe { ioctl::settimeout(fd, &mut wanted) };
        set.map(|_| ()).map_err(|e| fail(&oserror::text(&e.into(), None)))
    }
    fn describe(&self) -> String {
        let mut text = "Linux watchdog device".to_owned();
        if let Some(info) = self.info.filter(|_| self.is_running()) {
            let identity: Vec<u8> = info.identity.iter().copied().take_while(|b| *b != 0).collect();
            text = String::from_utf8_lossy(&identity).into_owned();
            if info.firmware_version != 0 {
                text += &format!(" (firmware {})", info.firmware_version);
            }
        }
        if self.device.path != DEFAULT_DEVICE {
            text += &format!(" at {}", self.device.path);
        }
        text
    }
}

/// The driver `testing`: what would be an ioctl is written as text into a pipe.
#[derive(Debug)]
pub struct TestingWatchdog {
    device: Device,
    timeout: i64,
}

impl TestingWatchdog {
    /// The pipe at `path`.
    pub fn new(path: Option<String>) -> TestingWatchdog {
        TestingWatchdog { device: Device::new(path), timeout: 60 }
    }
}

impl WatchdogDevice for TestingWatchdog {
    fn is_running(&self) -> bool {
        self.device.file.is_some()
    }
    fn is_healthy(&self) -> bool {
        self.device.is_healthy()
    }
    fn can_be_disabled(&mut self) -> bool {
        true
    }
    /// A reader that reopens its end between two uses is waited for.
    fn open(&mut self) -> Result<(), WatchdogError> {
        let deadline = Instant::now() + PIPE_PATIENCE;
        loop {
            match self.device.open() {
                Err(_) if self.device.is_healthy() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                other => return other,
            }
        }
    }
    fn close(&mut self) -> Result<(), WatchdogError> {
        let name = self.describe();
        self.device.close(&name)
    }
    fn keepalive(&mut self) -> Result<(), WatchdogError> {
        self.device.keepalive()
    }
    fn timeout(&self) -> Result<i64, WatchdogError> {
        Ok(self.timeout)
    }
    fn has_set_timeout(&mut self) -> Result<bool, WatchdogError> {
        Ok(true)
    }
    fn set_timeout(&mut self, seconds: i64) -> Result<(), WatchdogError> {
        let fail = |e| {
            WatchdogError(format!("Could not set timeout on watchdog device: {}", oserror::text(&e, None)))
        };
        self.device.write(format!("Ctimeout={seconds}\n").as_bytes())?.map_err(fail)?;
        self.timeout = seconds;
        Ok(())
    }
    fn describe(&self) -> String {
        let identity = if self.is_running() { "Watchdog test harness" } else { "Linux watchdog device" };
        if self.device.path == DEFAULT_DEVICE {
            identity.to_owned()
        } else {
            format!("{identity} at {}", self.device.path)
        }
    }
}
