//! What a watchdog device can do, and the device of platforms that have none.

use std::fmt;

/// A failed operation; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WatchdogError(pub String);

/// A device that resets the machine when it is open and not fed in time. Timeouts
/// are in seconds.
pub trait WatchdogDevice: fmt::Debug + Send {
    /// Is it open?
    fn is_running(&self) -> bool;
    /// `false` when opening is known to fail.
    fn is_healthy(&self) -> bool;
    /// Does closing stop it?
    fn can_be_disabled(&mut self) -> bool;
    /// Is it the device that does nothing?
    fn is_null(&self) -> bool {
        false
    }
    /// Opens it; from now on it must be fed.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&mut self) -> Result<(), WatchdogError>;
    /// Closes it in the way that stops it.
    ///
    /// # Errors
    /// It could not be told to stop; it stays open.
    fn close(&mut self) -> Result<(), WatchdogError>;
    /// Restarts its timer.
    ///
    /// # Errors
    /// It is closed, or the write failed.
    fn keepalive(&mut self) -> Result<(), WatchdogError>;
    /// The timeout in effect.
    ///
    /// # Errors
    /// It is closed, or does not say.
    fn timeout(&self) -> Result<i64, WatchdogError>;
    /// Can the timeout be set?
    ///
    /// # Errors
    /// It is closed, or does not say.
    fn has_set_timeout(&mut self) -> Result<bool, WatchdogError>;
    /// Sets the timeout.
    ///
    /// # Errors
    /// Out of range, closed, or refused.
    fn set_timeout(&mut self, seconds: i64) -> Result<(), WatchdogError>;
    /// Its name for people.
    fn describe(&self) -> String;
}

/// No watchdog.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullWatchdog;

impl WatchdogDevice for NullWatchdog {
    fn is_running(&self) -> bool {
        false
    }
    fn is_healthy(&self) -> bool {
        false
    }
    fn can_be_disabled(&mut self) -> bool {
        true
    }
    fn is_null(&self) -> bool {
        true
    }
    fn open(&mut self) -> Result<(), WatchdogError> {
        Ok(())
    }
    fn close(&mut self) -> Result<(), WatchdogError> {
        Ok(())
    }
    fn keepalive(&mut self) -> Result<(), WatchdogError> {
        Ok(())
    }
    fn timeout(&self) -> Result<i64, WatchdogError> {
        // Large enough not to matter.
        Ok(1_000_000_000)
    }
    fn has_set_timeout(&mut self) -> Result<bool, WatchdogError> {
        Ok(false)
    }
    fn set_timeout(&mut self, _seconds: i64) -> Result<(), WatchdogError> {
        Err(WatchdogError(format!("Setting timeout is not supported on {}", self.describe())))
    }
    fn describe(&self) -> String {
        "NullWatchdog".to_owned()
    }
}
