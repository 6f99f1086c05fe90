//! TLS contexts and the HTTP client of patroni-rs.
//!
//! OpenSSL is the only TLS stack: existing installations use encrypted keys,
//! self-signed CA certificates as server certificates and OpenSSL cipher strings.

mod client;
mod config;
mod error;
mod tls;

/// The TLS library that is in use, as it calls itself.
#[must_use]
pub fn tls_library() -> &'static str {
    openssl::version::version()
}

pub use client::{HttpClient, HttpStream, Response, MAX_BODY, REFUSED_CERTIFICATE, USER_AGENT};
pub use config::ClientOptions;
pub use error::NetError;
pub use tls::{client_builder, configure_client, server_context, TlsOptions, Verify, VerifyClient};
