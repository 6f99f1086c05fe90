//! Log lines as `logging.basicConfig(format='%(asctime)s %(levelname)s: %(message)s',
//! level=INFO)` writes them: to standard error, or appended to a file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Mutex;

use jiff::{tz::TimeZone, Timestamp};

/// Where the lines go.
#[derive(Debug, Default)]
pub struct Log(Option<Mutex<File>>);

impl Log {
    /// To standard error.
    pub fn to_stderr() -> Log {
        Log(None)
    }

    /// To the end of a file.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn to_file(path: &str) -> std::io::Result<Log> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Log(Some(Mutex::new(file))))
    }

    fn line(&self, level: &str, message: &str) {
        let now = Timestamp::now();
        let local = now.to_zoned(TimeZone::system());
        let time = jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S", &local).unwrap_or_default();
        let line = format!("{time},{:03} {level}: {message}\n", now.subsec_millisecond());
        // Nobody is left to tell when this fails.
        let _ = match self.0.as_ref().and_then(|file| file.lock().ok()) {
            Some(mut file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// At level INFO.
    pub fn info(&self, message: impl AsRef<str>) {
        self.line("INFO", message.as_ref());
    }

    /// At level WARNING.
    pub fn warning(&self, message: impl AsRef<str>) {
        self.line("WARNING", message.as_ref());
    }

    /// At level ERROR.
    pub fn error(&self, message: impl AsRef<str>) {
        self.line("ERROR", message.as_ref());
    }

    /// At level ERROR, with the exception that a traceback would end with.
    pub fn exception(&self, message: impl AsRef<str>, exception: impl AsRef<str>) {
        self.line("ERROR", &format!("{}\n{}", message.as_ref(), exception.as_ref()));
    }
}

/// An exception that nobody catches: its last line, and exit code 1.
pub fn uncaught(exception: &str) -> i32 {
    let _ = writeln!(std::io::stderr(), "{exception}");
    1
}
