//! The REST API of the daemon: the reference's bytes, from a server that keeps
//! answering whatever its clients and the HA loop do.
//!
//! Requests are parsed, routed and answered by pure functions ([`http`], [`route`],
//! [`answer`], [`actions`]); the daemon is reached through [`backend::Backend`];
//! [`server::RestServer`] has the sockets, on a thread of its own.

pub mod access;
pub mod actions;
pub mod answer;
pub mod backend;
pub mod config;
mod credentials;
pub mod health;
pub mod http;
pub mod measured;
pub mod metrics;
pub mod route;
pub mod server;
pub mod single_flight;
pub mod snapshot;
pub mod status;
mod status_page;

pub use backend::{Backend, BackendError, FailsafeReply, Reinitialize, Restarted};
pub use config::{ApiConfig, ConfigError};
pub use server::{Offline, Preparation, Prepared, RestServer, StartError};
pub use single_flight::{Batched, SingleFlight};
pub use snapshot::{PostgresState, Queried, Snapshot, WalStatus};
