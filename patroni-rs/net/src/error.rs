//! What can go wrong.

use std::path::PathBuf;

/// An error of this crate. The texts hold no secrets.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A certificate, key or CA file cannot be read.
    #[error("can not read {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A certificate, key, CA file or cipher string is not usable.
    #[error("invalid TLS {what}: {source}")]
    Tls {
        /// Which option.
        what: &'static str,
        /// Why.
        source: openssl::error::ErrorStack,
    },
    /// The method, URL or a header makes no HTTP request.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// No complete answer within the time given.
    #[error("timed out")]
    Timeout,
    /// The answer's body is longer than the limit.
    #[error("response body is longer than {0} bytes")]
    TooLong(usize),
}
