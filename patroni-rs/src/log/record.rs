//! A log record with the attributes that Python's `logging` gives it.

use pyfmt::Value;

/// Severity, with Python's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LevelNo(pub i64);

#[allow(missing_docs)] // Python's names
impl LevelNo {
    pub const NOTSET: LevelNo = LevelNo(0);
    pub const DEBUG: LevelNo = LevelNo(10);
    pub const INFO: LevelNo = LevelNo(20);
    pub const WARNING: LevelNo = LevelNo(30);
    pub const ERROR: LevelNo = LevelNo(40);
    pub const CRITICAL: LevelNo = LevelNo(50);

    /// A level as `log.level` and `log.loggers` spell it: upper case or a number.
    pub fn parse(value: &Value) -> Option<LevelNo> {
        if matches!(value, Value::Int(_) | Value::BigInt(_) | Value::Bool(_)) {
            return Some(LevelNo(pyfmt::int::clamped(value)));
        }
        Some(match value.as_str()? {
            "NOTSET" => LevelNo::NOTSET,
            "DEBUG" => LevelNo::DEBUG,
            "INFO" => LevelNo::INFO,
            "WARN" | "WARNING" => LevelNo::WARNING,
            "ERROR" => LevelNo::ERROR,
            "FATAL" | "CRITICAL" => LevelNo::CRITICAL,
            _ => return None,
        })
    }

    /// The name in log lines.
    pub fn name(self) -> String {
        match self {
            LevelNo::NOTSET => "NOTSET".into(),
            LevelNo::DEBUG => "DEBUG".into(),
            LevelNo::INFO => "INFO".into(),
            LevelNo::WARNING => "WARNING".into(),
            LevelNo::ERROR => "ERROR".into(),
            LevelNo::CRITICAL => "CRITICAL".into(),
            LevelNo(other) => format!("Level {other}"),
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Record {
    /// Severity.
    pub level: LevelNo,
    /// Logger name: a Python module path.
    pub name: &'static str,
    /// Text.
    pub message: String,
    /// Where Python has a traceback: the error's text, written below the line.
    pub exception: Option<String>,
    /// What it tells besides, for programs: an object, whose fields a line of JSON has too.
    pub fields: Option<Value>,
    /// When, in microseconds since the epoch.
    pub created_us: i64,
    /// Source file.
    pub file: &'static str,
    /// Line in it.
    pub line: u32,
    /// Thread name.
    pub thread_name: String,
    /// Thread id.
    pub thread: u64,
}

/// Loggers of whole packages.
const PACKAGES: [&str; 5] =
    ["patroni", "patroni.dcs", "patroni.postgresql", "patroni.postgresql.mpp", "patroni.watchdog"];

impl Record {
    /// The name of the reference's module whose logger this is.
    fn module(&self) -> &str {
        if PACKAGES.contains(&self.name) {
            return "__init__";
        }
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The value of a `%(name)s` attribute, with its native type; None for a name
    /// that records do not have. (`asctime` is the format's.)
    pub fn attribute(&self, name: &str) -> Option<Value> {
        let seconds = self.created_us as f64 / 1e6;
        Some(match name {
            "message" | "msg" => self.message.as_str().into(),
            "levelname" => self.level.name().into(),
            "levelno" => self.level.0.into(),
            "name" => self.name.into(),
            "created" => seconds.into(),
            "msecs" => ((self.created_us.rem_euclid(1_000_000) / 1000) as f64).into(),
            "relativeCreated" => (super::uptime_us(self.created_us) as f64 / 1000.0).into(),
            "pathname" => self.file.into(),
            // What log pipelines select by: Python's modules, as the logger's name has them.
            "filename" => format!("{}.py", self.module()).into(),
            "module" => self.module().into(),
            "lineno" => self.line.into(),
            "funcName" => self.name.rsplit('.').next().unwrap_or(self.name).into(),
            "process" => std::process::id().into(),
            "processName" => "MainProcess".into(),
            "thread" => self.thread.into(),
            "threadName" => self.thread_name.as_str().into(),
            "exc_text" => self.exception.as_deref().map_or(Value::Null, Value::from),
            "args" | "taskName" | "exc_info" | "stack_info" => Value::Null,
            _ => return None,
        })
    }
}
