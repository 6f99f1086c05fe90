//! The daemon's log: Python's formats, levels and rotation, without ever
//! waiting for a disk (surface-config 6).
//!
//! `Intake` turns tracing events into records and applies levels; a bounded queue
//! leads to one writer thread, which filters heartbeats. When the queue is full,
//! records are dropped, counted and reported.
//!
//! An event with a field `exc` stands where the reference logs an exception: its text
//! follows the line, or is told in it, as `log.traceback_level` wants it (6.6). One with a field `fields`, the text of a
//! JSON object, has its members as fields of its own where the log is JSON.

mod file;
mod format;
mod heartbeat;
mod percent;
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

use pyfmt::{json, Value};
pub use record::{LevelNo, Record};
pub use settings::Settings;
pub use writer::Counters;
use writer::Writer;

/// Name of the threads of the HA loop's runtime; in the log they are one.
pub const HA_THREAD: &str = "ha";

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
        let intake = Intake { log: log.clone() };
        tracing::subscriber::set_global_default(intake).map_err(|e| e.to_string())?;
        Ok(log)
    }

    /// One that takes no events.
    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub fn deaf() -> Log {
        let settings = Arc::new(ArcSwap::from_pointee(Settings::default()));
        let writer = Arc::new(Writer::start(settings.clone()).expect("a thread"));
        Log { settings, writer }
    }

    /// Puts new settings into force. A file that is being written is not exchanged for
    /// another: only a change from standard error, or to it, is (6.9).
    ///
    /// # Errors
    /// The log file cannot be opened; the old settings stay.
    pub fn apply(&self, mut settings: Settings) -> Result<(), String> {
        match (&self.settings.load().dir, &settings.dir) {
            (Some(current), Some(_)) => settings.dir = Some(current.clone()),
            _ => self.writer.check(&settings)?,
        }
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// The file that it is written to; None: standard error.
    pub fn file(&self) -> Option<std::path::PathBuf> {
        self.settings.load().file()
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
    let _ = tracing::subscriber::set_global_default(Direct { bare: true });
}

/// Runs what comes before the log can start: everything goes to standard error in the default format (6.1).
pub fn before_start<T>(function: impl FnOnce() -> T) -> T {
    tracing::subscriber::with_default(Direct { bare: false }, function)
}

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

struct Direct {
    bare: bool,
}

impl Subscriber for Direct {
    no_spans!();

    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        is_ours(meta)
    }

    fn event(&self, event: &Event<'_>) {
        let Some(record) = record_of(event) else { return };
        if self.bare && record.level < LevelNo::WARNING {
            return;
        }
        let settings = Settings::default();
        let line = if self.bare {
            let exception = record.exception.iter().map(|text| format!("\n{text}"));
            Ok(record.message.clone() + &exception.collect::<String>())
        } else {
            settings.format.render(&record, None)
        };
        let text = format!("{}\n", line.unwrap_or_default());
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
    }
}

/// Takes all events of the process.
struct Intake {
    log: Log,
}

#[derive(Default)]
struct Fields {
    message: String,
    exception: Option<String>,
    fields: Option<Value>,
    critical: bool,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.message, "{value:?}");
            }
            "exc" => self.exception = Some(format!("{value:?}")),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "exc" => self.exception = Some(value.to_owned()),
            "fields" => self.fields = json::loads(value).ok(),
            _ => {}
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
        let Some(mut record) = record_of(event) else { return };
        if record.exception.is_some() && self.log.settings.load().traceback_at_debug {
            let debug = self.log.enabled(LevelNo::DEBUG, record.name);
            record = at_debug(record, debug);
        }
        if self.log.enabled(record.level, record.name) {
            self.log.writer.push(record);
        }
    }
}

/// None for what libraries say: they talk through tracing too, but only our own names are Python's.
fn record_of(event: &Event<'_>) -> Option<Record> {
    let meta = event.metadata();
    if !is_ours(meta) {
        return None;
    }
    let mut fields = Fields::default();
    event.record(&mut fields);
    let level = match *meta.level() {
        _ if fields.critical => LevelNo::CRITICAL,
        tracing::Level::ERROR => LevelNo::ERROR,
        tracing::Level::WARN => LevelNo::WARNING,
        tracing::Level::INFO => LevelNo::INFO,
        _ => LevelNo::DEBUG,
    };
    let thread = std::thread::current();
    // What Python's main thread does is spread over the threads of the HA loop's runtime here.
    let main = matches!(thread.name(), None | Some("main" | HA_THREAD));
    Some(Record {
        level,
        name: meta.target(),
        message: fields.message,
        exception: fields.exception,
        fields: fields.fields,
        created_us: now_us(),
        file: meta.file().unwrap_or(""),
        line: meta.line().unwrap_or(0),
        thread_name: if main { "MainThread" } else { thread.name().unwrap_or_default() }.to_owned(),
        thread: if main { std::process::id().into() } else { nix::unistd::gettid().as_raw() as u64 },
    })
}

/// An exception where only level DEBUG may have it in full: a record of that level, or one line (6.6).
fn at_debug(mut record: Record, debug: bool) -> Record {
    if debug {
        record.level = LevelNo::DEBUG;
    } else if let Some(exception) = record.exception.take() {
        let _ = write!(record.message, ", DETAIL: '{}'", without_class(&exception));
    }
    record
}

/// `ValueError: text` is `text`, as Python's `str()` of an exception is.
fn without_class(exception: &str) -> &str {
    let is_class =
        |name: &str| name.ends_with("Error") || name.ends_with("Exception") || name.starts_with("patroni.");
    match exception.split_once(": ") {
        Some((class, text)) if is_class(class) && !class.contains(' ') => text,
        _ => exception,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_at_level_debug_alone() {
        let record = Record {
            level: LevelNo::ERROR,
            name: "patroni.config",
            message: "Exception when x".into(),
            exception: Some("ValueError: no: number".into()),
            fields: None,
            created_us: 0,
            file: "",
            line: 0,
            thread_name: String::new(),
            thread: 0,
        };
        let told = at_debug(record.clone(), false);
        assert_eq!(
            (told.level, told.message.as_str()),
            (LevelNo::ERROR, "Exception when x, DETAIL: 'no: number'")
        );
        assert_eq!(told.exception, None);
        let full = at_debug(record, true);
        assert_eq!((full.level, full.message.as_str()), (LevelNo::DEBUG, "Exception when x"));
        assert_eq!(full.exception.as_deref(), Some("ValueError: no: number"));
    }
}
