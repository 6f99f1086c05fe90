//! The hardware watchdog: a timer that resets the machine unless a leader whose
//! daemon works keeps feeding it (surface-ha-pg section 23).
//!
//! [`Watchdog`] holds the policy (modes, timeouts, changes of configuration), the
//! devices are in `device`. Calls write to a device and may block for a moment:
//! the lock keeper's own thread or the blocking pool is the place for them.

mod config;
mod device;
mod linux;

pub use config::{Mode, WatchdogConfig};
pub use device::{NullWatchdog, WatchdogDevice, WatchdogError};
pub use linux::{LinuxWatchdog, TestingWatchdog};

use tracing::{debug, error, info, warn};

/// The target of all log lines here.
const LOG: &str = "patroni.watchdog.base";

/// The configuration requires a watchdog and this platform has none; the daemon
/// exits with code 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Configuration requires a watchdog, but watchdog is not supported on this platform.")]
pub struct Unsupported;

/// The watchdog of this node.
///
/// When activation fails the device is replaced by none, and is tried again only
/// after a change of its configuration, so that the log stays readable.
#[derive(Debug)]
pub struct Watchdog {
    config: WatchdogConfig,
    /// The configuration that the device was set up with.
    active_config: WatchdogConfig,
    active: bool,
    device: Box<dyn WatchdogDevice>,
}

impl Watchdog {
    /// The watchdog for a configuration, not active yet.
    ///
    /// # Errors
    /// It is required and there is no driver for it (logged).
    pub fn new(config: WatchdogConfig) -> Result<Watchdog, Unsupported> {
        let device: Box<dyn WatchdogDevice> =
            if config.mode == Mode::Off { Box::new(NullWatchdog) } else { config.device() };
        if config.mode == Mode::Required && device.is_null() {
            error!(target: LOG, "{Unsupported}");
            return Err(Unsupported);
        }
        Ok(Watchdog { active_config: config.clone(), config, active: false, device })
    }

    /// Takes a new configuration. Off works at once; everything else waits for the
    /// next keepalive while active, so that the timeout changes together with the
    /// leader key's.
    pub fn reload_config(&mut self, config: WatchdogConfig) {
        self.config = config;
        if self.config.mode == Mode::Off {
            if self.active {
                self.disable_device();
            }
            self.active_config = self.config.clone();
            self.device = Box::new(NullWatchdog);
        }
        if !self.active {
            if !self.config.same_device(&self.active_config) {
                self.device = self.config.device();
            }
            self.active_config = self.config.clone();
        }
    }

    /// Switches it on, before a promotion and while leading. From now on
    /// [`Watchdog::keepalive`] must be called every loop_wait. `false`: it is
    /// required and could not be set up, so this node must not lead.
    pub fn activate(&mut self) -> bool {
        self.active = true;
        self.activate_device()
    }

    /// Switches it off.
    pub fn disable(&mut self) {
        self.disable_device();
        self.active = false;
    }

    /// Restarts the timer, right after each successful update of the leader key, and
    /// applies a change of configuration. Does nothing while not active.
    pub fn keepalive(&mut self) {
        if let Err(e) = self.feed() {
            error!(target: LOG, "Error while sending keepalive: {e}");
        }
    }

    /// Does the device count down now?
    pub fn is_running(&self) -> bool {
        self.device.is_running()
    }

    /// Is no device in use, nor asked whether it would work? Then a keepalive, a look and the end of its use wait for
    /// nothing.
    pub fn is_idle(&self) -> bool {
        let unused = self.device.is_null() || !self.active && !self.device.is_running();
        unused && self.config == self.active_config && self.config.mode != Mode::Required
    }

    /// May this node lead, as far as the watchdog can tell beforehand?
    pub fn is_healthy(&self) -> bool {
        self.config.mode != Mode::Required || (self.config.timing_slack() >= 0 && self.device.is_healthy())
    }

    fn feed(&mut self) -> Result<(), WatchdogError> {
        if !self.active {
            return Ok(());
        }
        self.device.keepalive()?;
        if self.config == self.active_config {
            return Ok(());
        }
        if self.config.mode != Mode::Off && self.active_config.mode == Mode::Off {
            self.device = self.config.device();
            self.activate_device();
        }
        if !self.config.same_device(&self.active_config) {
            self.disable_device();
            self.device = self.config.device();
            self.activate_device();
        }
        if self.config.timeout() != self.active_config.timeout() {
            self.device.set_timeout(self.config.timeout())?;
            if self.is_running() {
                self.log_timing("updated")?;
            }
        }
        self.active_config = self.config.clone();
        Ok(())
    }

    fn log_timing(&self, what: &str) -> Result<(), WatchdogError> {
        let (device, timeout) = (self.device.describe(), self.device.timeout()?);
        let slack = self.config.timing_slack();
        info!(target: LOG, "{device} {what} with {timeout} second timeout, timing slack {slack} seconds");
        Ok(())
    }

    fn activate_device(&mut self) -> bool {
        self.active_config = self.config.clone();
        if self.config.timing_slack() < 0 {
            warn!(
                target: LOG,
                "Watchdog not supported because leader TTL {} is less than 2x loop_wait {}",
                self.config.ttl, self.config.loop_wait
            );
            self.device = Box::new(NullWatchdog);
        }
        let opened = self.device.open().and_then(|()| self.set_timeout());
        let actual = opened.unwrap_or_else(|e| {
            let text = format!("Could not activate {}: {e}", self.device.describe());
            if self.config.mode == Mode::Required {
                warn!(target: LOG, "{text}");
            } else {
                debug!(target: LOG, "{text}");
            }
            // An open device that nobody feeds would reset the machine.
            let _ = self.device.close();
            self.device = Box::new(NullWatchdog);
            self.device.timeout().ok()
        });
        if self.is_running() && !self.device.can_be_disabled() {
            warn!(
                target: LOG,
                "Watchdog implementation can't be disabled. Watchdog will trigger after Patroni loses leader key."
            );
        }
        self.judge(actual)
    }

    /// Is the result of an activation good enough to lead?
    fn judge(&self, actual: Option<i64>) -> bool {
        let required = self.config.mode == Mode::Required;
        let wanted = self.config.timeout();
        let too_long = actual.filter(|a| *a > wanted);
        if !self.is_running() || too_long.is_some() {
            let shown = actual.map_or("None".to_owned(), |a| a.to_string());
            match (required, self.device.is_null()) {
                (true, true) => {
                    error!(target: LOG, "Configuration requires watchdog, but watchdog could not be configured.");
                    return false;
                }
                (true, false) => {
                    error!(
                        target: LOG,
                        "Configuration requires watchdog, but a safe watchdog timeout {wanted} could not be \
                         configured. Watchdog timeout is {shown}."
                    );
                    return false;
                }
                (false, false) => warn!(
                    target: LOG,
                    "Watchdog timeout {shown} seconds does not ensure safe termination within {wanted} seconds"
                ),
                (false, true) => {}
            }
        }
        if self.is_running() {
            let _ = self.log_timing("activated");
        }
        true
    }

    /// Sets the timeout and returns the one in effect. A device whose timeout is
    /// shorter than loop_wait is closed again, if it can be: `None`.
    fn set_timeout(&mut self) -> Result<Option<i64>, WatchdogError> {
        if self.device.has_set_timeout()? {
            self.device.set_timeout(self.config.timeout())?;
        }
        let actual = self.device.timeout()?;
        if self.is_running() && actual < self.config.loop_wait {
            error!(
                target: LOG,
                "loop_wait of {} seconds is too long for watchdog {actual} second timeout", self.config.loop_wait
            );
            if self.device.can_be_disabled() {
                info!(target: LOG, "Disabling watchdog due to unsafe timeout.");
                self.device.close()?;
                self.device = Box::new(NullWatchdog);
                return Ok(None);
            }
        }
        Ok(Some(actual))
    }

    fn disable_device(&mut self) {
        if let Err(e) = self.close_device() {
            error!(target: LOG, "Error while disabling watchdog: {e}");
        }
    }

    fn close_device(&mut self) -> Result<(), WatchdogError> {
        if self.is_running() && !self.device.can_be_disabled() {
            // The last feeding gives the administrator as much time as there is.
            self.device.keepalive()?;
            warn!(
                target: LOG,
                "Watchdog implementation can't be disabled. System will reboot after {} seconds when watchdog times out.",
                self.device.timeout()?
            );
        }
        self.device.close()
    }
}

#[cfg(test)]
mod tests;
