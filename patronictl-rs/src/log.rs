//! Log lines on stderr: `2026-11-21 07:17:05,701 - WARNING - text`
//! (surface-api-ctl C12).

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::click::CliError;

/// The least level that is printed, by the reference's environment variables;
/// the last one that is set wins.
///
/// # Errors
/// A word that is no level is fatal, as it is in the reference.
pub fn level_from_env(env: impl Fn(&str) -> Option<String>) -> Result<Option<Level>, CliError> {
    let names = ["LOGLEVEL", "PATRONI_LOGLEVEL", "PATRONI_LOG_LEVEL"];
    let word = names.iter().filter_map(|n| env(n)).next_back().unwrap_or_else(|| "WARNING".into());
    match word.as_str() {
        "DEBUG" | "NOTSET" => Ok(Some(Level::DEBUG)),
        "INFO" => Ok(Some(Level::INFO)),
        "WARNING" | "WARN" => Ok(Some(Level::WARN)),
        "ERROR" => Ok(Some(Level::ERROR)),
        "CRITICAL" | "FATAL" => Ok(None),
        other => {
            Err(CliError::Crash(format!("ValueError: Unknown level: {}", pyfmt::value::str_repr(other))))
        }
    }
}

/// Starts logging from `level` on; `None` logs nothing.
pub fn start(level: Option<Level>) {
    if let Some(level) = level {
        // Only tests could have set one before; theirs stays.
        let _ = tracing::subscriber::set_global_default(Lines { level });
    }
}

/// Prints each event as one line.
struct Lines {
    level: Level,
}

/// Gathers the message of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The text of an exception, where Python prints a traceback, follows the line.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            "exc" => write!(self.0, "\n{value:?}"),
            _ => Ok(()),
        };
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries below us (h2, hyper) log under their own names; the
        // reference's loggers are all that its users know.
        let ours = metadata.target().starts_with("patroni");
        ours && *metadata.level() <= self.level && metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let name = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => "DEBUG",
        };
        let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string();
        crate::out::stderr(&format!("{now} - {name} - {}\n", message.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_last_variable_wins() {
        let env = |name: &str| match name {
            "LOGLEVEL" => Some("DEBUG".to_owned()),
            "PATRONI_LOG_LEVEL" => Some("ERROR".to_owned()),
            _ => None,
        };
        assert_eq!(level_from_env(env).unwrap(), Some(Level::ERROR));
        assert_eq!(level_from_env(|_| None).unwrap(), Some(Level::WARN));
        let bad = level_from_env(|_| Some("debug".into())).unwrap_err();
        assert_eq!(bad, CliError::Crash("ValueError: Unknown level: 'debug'".into()));
    }
}
