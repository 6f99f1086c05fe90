//! The watchdog over the pipe of the testing driver.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use pyfmt::Value;

use super::*;

fn section(entries: &[(&str, Value)]) -> Value {
    let mut out = Value::map();
    for (k, v) in entries {
        out.set(k, v.clone());
    }
    out
}

fn testing(path: &Path, mode: &str, ttl: i64, loop_wait: i64) -> WatchdogConfig {
    let entries = [
        ("driver", "testing".into()),
        ("device", path.to_string_lossy().as_ref().into()),
        ("mode", mode.into()),
    ];
    WatchdogConfig::new(Some(&section(&entries)), ttl, loop_wait)
}

/// A named pipe in its own directory and its reading end.
struct Pipe {
    dir: PathBuf,
    path: PathBuf,
    reader: std::fs::File,
}

impl Pipe {
    fn new(name: &str) -> Pipe {
        let dir = PathBuf::from(format!("/tmp/patroni-rs-watchdog-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        Pipe { dir, path, reader }
    }

    fn written(&mut self) -> String {
        let mut data = Vec::new();
        // The end of what was written is an error (would block) or the end of file.
        let _ = self.reader.read_to_end(&mut data);
        String::from_utf8(data).unwrap()
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn modes_and_timeouts() {
    let cases: [(Value, Mode); 9] = [
        (false.into(), Mode::Off),
        (true.into(), Mode::Off),
        ("OFF".into(), Mode::Off),
        ("disabled".into(), Mode::Off),
        ("auto".into(), Mode::Automatic),
        ("Automatic".into(), Mode::Automatic),
        ("require".into(), Mode::Required),
        ("required".into(), Mode::Required),
        ("what".into(), Mode::Off),
    ];
    for (value, want) in cases {
        assert_eq!(WatchdogConfig::new(Some(&section(&[("mode", value)])), 30, 10).mode, want);
    }
    let default = WatchdogConfig::new(None, 30, 10);
    assert_eq!((default.mode, default.timeout(), default.timing_slack()), (Mode::Automatic, 25, 15));
    let half = WatchdogConfig::new(Some(&section(&[("safety_margin", Value::Int(-1))])), 31, 10);
    assert_eq!((half.timeout(), half.timing_slack()), (15, 5));
}

#[test]
fn what_the_device_is_told() {
    let mut pipe = Pipe::new("told");
    let mut watchdog = Watchdog::new(testing(&pipe.path, "required", 20, 2)).unwrap();
    assert!(watchdog.is_healthy() && !watchdog.is_running());
    watchdog.keepalive();
    assert_eq!(pipe.written(), "");
    assert!(watchdog.activate() && watchdog.is_running());
    watchdog.keepalive();
    assert_eq!(pipe.written(), "Ctimeout=15\n1");
    watchdog.reload_config(testing(&pipe.path, "required", 30, 2));
    assert_eq!(pipe.written(), "");
    watchdog.keepalive();
    assert_eq!(pipe.written(), "1Ctimeout=25\n");
    watchdog.disable();
    assert_eq!(pipe.written(), "V");
    assert!(!watchdog.is_running());
    watchdog.disable();
    assert_eq!(pipe.written(), "");
    // Off takes effect at once.
    assert!(watchdog.activate());
    pipe.written();
    watchdog.reload_config(testing(&pipe.path, "off", 30, 2));
    assert_eq!(pipe.written(), "V");
}

#[test]
fn a_required_watchdog_that_does_not_work_forbids_leading() {
    let missing = Path::new("/nonexistent/watchdog");
    let mut watchdog = Watchdog::new(testing(missing, "required", 30, 10)).unwrap();
    assert!(!watchdog.is_healthy());
    assert!(!watchdog.activate());
    let mut optional = Watchdog::new(testing(missing, "automatic", 30, 10)).unwrap();
    assert!(optional.is_healthy() && optional.activate() && !optional.is_running());
    // Too little time between two cycles.
    let pipe = Pipe::new("slack");
    let mut tight = Watchdog::new(testing(&pipe.path, "required", 20, 16)).unwrap();
    assert!(!tight.is_healthy() && !tight.activate());
    let unknown = section(&[("driver", "other".into()), ("mode", "required".into())]);
    assert!(Watchdog::new(WatchdogConfig::new(Some(&unknown), 30, 10)).is_err());
}

/// Whoever may wait for a device does so on a thread of its own; nobody else needs one.
#[test]
fn when_no_device_is_used() {
    let missing = Path::new("/nonexistent/watchdog");
    let pipe = Pipe::new("idle");
    for (path, mode, before, active, after) in [
        (missing, "off", true, true, true),
        // It is tried when the node leads, and then given up.
        (missing, "automatic", true, true, true),
        (pipe.path.as_path(), "automatic", true, false, true),
        // A required one is looked at in each cycle.
        (pipe.path.as_path(), "required", false, false, false),
        (missing, "required", false, false, false),
    ] {
        let mut watchdog = Watchdog::new(testing(path, mode, 30, 10)).unwrap();
        let found = [(); 3].map(|()| {
            let idle = watchdog.is_idle();
            if watchdog.active {
                watchdog.disable();
            } else {
                watchdog.activate();
            }
            idle
        });
        assert_eq!(found, [before, active, after], "{} {mode}", path.display());
    }
    // A change of the configuration waits for a keepalive.
    let mut watchdog = Watchdog::new(testing(missing, "automatic", 30, 10)).unwrap();
    watchdog.activate();
    watchdog.reload_config(testing(&pipe.path, "automatic", 30, 10));
    assert!(!watchdog.is_idle());
}

#[test]
fn a_file_is_not_a_watchdog() {
    let pipe = Pipe::new("file");
    let file = pipe.dir.join("plain");
    std::fs::write(&file, "").unwrap();
    let config = section(&[("device", file.to_string_lossy().as_ref().into()), ("mode", "automatic".into())]);
    let mut watchdog = Watchdog::new(WatchdogConfig::new(Some(&config), 30, 10)).unwrap();
    assert!(watchdog.activate() && !watchdog.is_running());
    let mut device = LinuxWatchdog::new(Some("/nonexistent/watchdog".into()));
    let error = device.open().unwrap_err().to_string();
    assert_eq!(
        error,
        "Can't open watchdog device: [Errno 2] No such file or directory: '/nonexistent/watchdog'"
    );
    assert_eq!(device.describe(), "Linux watchdog device at /nonexistent/watchdog");
    assert_eq!(
        device.timeout().unwrap_err().to_string(),
        "Could not get timeout on watchdog device: Watchdog device is closed"
    );
}

/// The levels of the lines that say that a device could not be activated.
#[derive(Default, Clone)]
struct Levels(std::sync::Arc<std::sync::Mutex<Vec<tracing::Level>>>);

impl tracing::Subscriber for Levels {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Says(bool);
        impl tracing::field::Visit for Says {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= format!("{value:?}").starts_with("Could not activate");
            }
        }
        let mut says = Says(false);
        event.record(&mut says);
        if says.0 {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Most machines have no watchdog: it is worth a line only where one is required.
#[test]
fn a_missing_device_is_told_of_by_mode() {
    for (mode, level, leads) in
        [("automatic", tracing::Level::DEBUG, true), ("required", tracing::Level::WARN, false)]
    {
        let entries = [("device", "/nonexistent/watchdog".into()), ("mode", mode.into())];
        let mut watchdog = Watchdog::new(WatchdogConfig::new(Some(&section(&entries)), 30, 10)).unwrap();
        let levels = Levels::default();
        let activated = tracing::subscriber::with_default(levels.clone(), || watchdog.activate());
        assert_eq!((activated, levels.0.lock().unwrap().clone()), (leads, vec![level]), "{mode}");
    }
}
