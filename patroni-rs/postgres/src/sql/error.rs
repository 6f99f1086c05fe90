//! What can go wrong between us and a server.

use std::time::Duration;

use pyfmt::value::str_repr;

/// An error of a connection or a statement. No variant holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PgError {
    /// The server refused a statement or the login.
    #[error("{message}{}", detail.as_ref().map(|d| format!("\nDETAIL:  {d}")).unwrap_or_default())]
    Server {
        /// SQLSTATE.
        code: String,
        /// Primary message.
        message: String,
        /// `DETAIL`, if any.
        detail: Option<String>,
    },
    /// No connection could be made, or it was lost.
    #[error("{0}")]
    Connection(String),
    /// No answer in time. The statement has been cancelled, the connection is not used any more.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The parameters make no sense.
    #[error("{0}")]
    Config(String),
    /// An answer of another shape than asked for.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

impl PgError {
    /// The SQLSTATE, if the server gave one.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PgError::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The statement ran into a timeout, the server's (57014) or ours: the
    /// server may be slow, but nobody said that it is gone (24-04).
    pub fn is_timeout(&self) -> bool {
        matches!(self, PgError::Timeout(_)) || self.sqlstate() == Some("57014")
    }

    /// Nobody could be asked.
    pub fn is_connection(&self) -> bool {
        matches!(self, PgError::Connection(_) | PgError::Config(_))
            || self.sqlstate().is_some_and(|c| c.starts_with("08") || c.starts_with("57P0"))
    }

    /// WAL that a slot needs is gone, or the slot was invalidated: it has to
    /// be copied again (18-14).
    pub fn needs_slot_copy(&self) -> bool {
        matches!(self.sqlstate(), Some("58P01" | "55000"))
    }

    /// As Python's `repr()` of the driver's exception, for log lines.
    pub fn py_repr(&self) -> String {
        let class = match self.sqlstate() {
            Some("57014") => "QueryCanceled",
            Some("55006") => "ObjectInUse",
            Some("55000") => "ObjectNotInPrerequisiteState",
            Some("42501") => "InsufficientPrivilege",
            Some("42704") => "UndefinedObject",
            Some("42710") => "DuplicateObject",
            Some("58P01") => "UndefinedFile",
            Some("53400") => "ConfigurationLimitExceeded",
            Some("57P01") => "AdminShutdown",
            Some(_) => "DatabaseError",
            None => "OperationalError",
        };
        format!("{class}({})", str_repr(&self.to_string()))
    }
}

impl From<tokio_postgres::Error> for PgError {
    fn from(error: tokio_postgres::Error) -> PgError {
        match error.as_db_error() {
            Some(db) => PgError::Server {
                code: db.code().code().to_owned(),
                message: db.message().to_owned(),
                detail: db.detail().map(str::to_owned),
            },
            None => PgError::Connection(chain(&error)),
        }
    }
}

/// libpq's words for an end that nobody announced.
pub(super) const CLOSED: &str =
    "server closed the connection unexpectedly\n\tThis probably means the server \
                                 terminated abnormally\n\tbefore or while processing the request.";

impl From<std::io::Error> for PgError {
    fn from(error: std::io::Error) -> PgError {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => {
                PgError::Connection(CLOSED.to_owned())
            }
            _ => PgError::Connection(error.to_string()),
        }
    }
}

/// An error with its causes: `a: b: c`.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
