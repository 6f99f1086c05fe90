//! The daemon's log: Python's formats, levels and rotation, without ever
//! waiting for a disk (surface-config 6).
//!
//! [`Intake`] turns tracing events into records and applies levels and the
//! heartbeat filter; a bounded queue leads to one writer thread. When the queue
//! is full, records are dropped, counted and reported.

mod file;
mod format;
mod heartbeat;
mod record;
mod settings;
mod writer;

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

pub use record::{LevelNo, Record};
pub use settings::Settings;
pub use writer::Counters;
use writer::Writer;

static START_US: OnceLock<i64> = OnceLock::new();

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

fn uptime_us(created_us: i64) -> i64 {
    created_us - START_US.get().copied().unwrap_or(created_us)
}

/// The running log; clones share it.
#[derive(Clone)]
pub struct Log {
    settings: Arc<ArcSwap<Settings>>,
    writer: Arc<Writer>,
}

impl Log {
    /// Starts the writer thread and takes all tracing events of the process.
    ///
    /// # Errors
    /// A log exists already, or no thread can be made.
    pub fn start() -> Result<Log, String> {
        START_US.get_or_init(now_us);
        let boot = Settings { level: LevelNo::DEBUG, ..Settings::default() };
        let settings = Arc::new(ArcSwap::from_pointee(boot));
        let writer = Arc::new(Writer::start(settings.clone())?);
        let log = Log { settings, writer };
        let intake = Intake { log: log.clone(), heartbeat: heartbeat::Filter::default() };
        tracing::subscriber::set_global_default(intake).map_err(|e| e.to_string())?;
        Ok(log)
    }

    /// Puts new settings into force.
    ///
    /// # Errors
    /// The log file cannot be opened; the old settings stay.
    pub fn apply(&self, settings: Settings) -> Result<(), String> {
        self.writer.check(&settings)?;
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// The file that it is written to; None: standard error.
    pub fn file(&self) -> Option<std::path::PathBuf> {
        self.settings.load().dir.as_ref().map(|dir| dir.join("patroni.log"))
    }

    /// Records in the queue and lost, for the REST API.
    pub fn counters(&self) -> Counters {
        self.writer.counters()
    }

    /// Writes what waits; for the end of the process. False when the disk is too slow.
    pub fn flush(&self) -> bool {
        self.writer.flush()
    }

    fn enabled(&self, level: LevelNo, name: &str) -> bool {
        let settings = self.settings.load();
        // The nearest configured ancestor decides, as in Python.
        let mut prefix = name;
        loop {
            match settings.loggers.get(prefix) {
                Some(own) if *own != LevelNo::NOTSET => return level >= *own,
                _ => {}
            }
            match prefix.rfind('.') {
                Some(at) => prefix = prefix.get(..at).unwrap_or_default(),
                None => return level >= settings.level,
            }
        }
    }
}

/// For the modes that only look at a configuration: warnings and worse, as bare
/// text on standard error (surface-config 6.1).
pub fn bare_warnings() {
    // Only a second call could fail, and there is none.
    let _ = tracing::subscriber::set_global_default(Bare);
}

struct Bare;

/// We make no spans, and those of libraries are of no use to us.
macro_rules! no_spans {
    () => {
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    };
}

impl Subscriber for Bare {
    no_spans!();

    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        meta.is_event() && *meta.level() <= tracing::Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let _ = std::io::Write::write_all(
            &mut std::io::stderr().lock(),
            format!("{}\n", fields.message).as_bytes(),
        );
    }
}

/// Takes all events of the process.
struct Intake {
    log: Log,
    heartbeat: heartbeat::Filter,
}

#[derive(Default)]
struct Fields {
    message: String,
    critical: bool,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.critical |= field.name() == "critical" && value;
    }
}

/// Libraries talk through tracing too; only our own names are Python's.
fn is_ours(meta: &Metadata<'_>) -> bool {
    meta.is_event() && meta.target().starts_with("patroni") && !meta.target().contains("::")
}

impl Subscriber for Intake {
    no_spans!();

    fn register_callsite(&self, meta: &'static Metadata<'static>) -> Interest {
        // What is never shown is not even made up; levels may change at any time.
        if is_ours(meta) {
            Interest::sometimes()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        let level = match *meta.level() {
            // It may be a critical one: that is told with the event.
            tracing::Level::ERROR => return is_ours(meta),
            tracing::Level::WARN => LevelNo::WARNING,
            tracing::Level::INFO => LevelNo::INFO,
            _ => LevelNo::DEBUG,
        };
        is_ours(meta) && self.log.enabled(level, meta.target())
    }

    fn event(&self, event: &Event<'_>) {
        let meta = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *meta.level() {
            _ if fields.critical => LevelNo::CRITICAL,
            tracing::Level::ERROR => LevelNo::ERROR,
            tracing::Level::WARN => LevelNo::WARNING,
            tracing::Level::INFO => LevelNo::INFO,
            _ => LevelNo::DEBUG,
        };
        if !self.log.enabled(level, meta.target()) {
            return;
        }
        let thread = std::thread::current();
        let record = Record {
            level,
            name: meta.target(),
            message: fields.message,
            created_us: now_us(),
            file: meta.file().unwrap_or(""),
            line: meta.line().unwrap_or(0),
            thread_name: match thread.name() {
                None | Some("main") => "MainThread".to_owned(),
                Some(name) => name.to_owned(),
            },
            thread: nix::unistd::gettid().as_raw() as u64,
        };
        let settings = self.log.settings.load();
        self.heartbeat.pass(record, &settings, |record| self.log.writer.push(record));
    }
}
