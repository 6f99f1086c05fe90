//! The section `watchdog` of the configuration.

use pyfmt::Value;

use super::device::{NullWatchdog, WatchdogDevice};
use super::linux::{LinuxWatchdog, TestingWatchdog};

/// When a watchdog is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Off,
    /// If there is one.
    Automatic,
    /// Always: without one this node does not lead.
    Required,
}

impl Mode {
    /// Reads `watchdog.mode`; anything unknown is off, with a warning. YAML turns an
    /// unquoted `off` into false.
    fn parse(value: &Value) -> Mode {
        if matches!(value, Value::Bool(false)) {
            return Mode::Off;
        }
        let text = value.py_str().to_lowercase();
        match text.as_str() {
            "require" | "required" => Mode::Required,
            "auto" | "automatic" => Mode::Automatic,
            "off" | "disable" | "disabled" => Mode::Off,
            _ => {
                tracing::warn!(
                    target: super::LOG, "Watchdog mode {text} not recognized, disabling watchdog"
                );
                Mode::Off
            }
        }
    }
}

/// A snapshot of everything that the watchdog depends on. Times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogConfig {
    /// When it is used.
    pub mode: Mode,
    /// Life of the leader key.
    pub ttl: i64,
    /// Time between two cycles.
    pub loop_wait: i64,
    /// How long before the end of ttl the machine is reset; -1: half of ttl.
    pub safety_margin: i64,
    /// `default` or `testing`.
    pub driver: String,
    /// All other keys, for the driver.
    pub driver_config: Value,
}

impl WatchdogConfig {
    /// Reads the section (missing or empty: mode automatic) together with the two
    /// values of the dynamic configuration.
    pub fn new(section: Option<&Value>, ttl: i64, loop_wait: i64) -> WatchdogConfig {
        let section = section.filter(|s| s.as_map().is_some_and(|m| !m.is_empty()));
        let get = |key| section.and_then(|s| s.get(key));
        let mut driver_config = section.cloned().unwrap_or_else(Value::map);
        for key in ["mode", "safety_margin", "driver"] {
            driver_config.remove(key);
        }
        WatchdogConfig {
            mode: get("mode").map_or(Mode::Automatic, Mode::parse),
            ttl,
            loop_wait,
            safety_margin: get("safety_margin").and_then(Value::as_i64).unwrap_or(5),
            driver: get("driver").map_or_else(|| "default".to_owned(), Value::py_str),
            driver_config,
        }
    }

    /// The wanted timeout.
    pub fn timeout(&self) -> i64 {
        if self.safety_margin == -1 {
            self.ttl.div_euclid(2)
        } else {
            self.ttl - self.safety_margin
        }
    }

    /// How much later than planned a keepalive may come.
    pub fn timing_slack(&self) -> i64 {
        self.timeout() - self.loop_wait
    }

    /// Do both describe the same device?
    pub(super) fn same_device(&self, other: &WatchdogConfig) -> bool {
        self.driver == other.driver && self.driver_config == other.driver_config
    }

    /// The device, not open yet.
    pub(super) fn device(&self) -> Box<dyn WatchdogDevice> {
        let path = self.driver_config.get("device").map(Value::py_str);
        match self.driver.as_str() {
            "testing" => Box::new(TestingWatchdog::new(path)),
            "default" => Box::new(LinuxWatchdog::new(path)),
            _ => Box::new(NullWatchdog),
        }
    }
}
