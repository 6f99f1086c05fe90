//! The test cluster: real clusters, of PostgreSQL, etcd and either implementation of Patroni, on
//! 127.0.0.1, for the acceptance scenarios, the differential and the measurements.
//!
//! All calls block, with a deadline each. A test cluster lives in one directory under `/tmp`; every
//! process it starts has its working directory in there, and this is how all of them, also those that
//! PostgreSQL detaches, are found and ended: by [`cluster::Cluster`]'s drop, or by the janitor
//! process ([`janitor`]) when the program itself dies.

pub mod cluster;
pub mod config;
pub mod consul;
pub mod etcd;
pub mod fifo;
pub mod forks;
pub mod haproxy;
pub mod host;
pub mod http;
pub mod janitor;
pub mod kubernetes;
pub mod member;
pub mod process;
pub mod raft;
pub mod servers;
pub mod store;
pub mod wait;
pub mod writer;
pub mod zookeeper;

pub use cluster::{Cluster, Options};
pub use config::Kind;
pub use member::Member;
pub use wait::wait_until;

/// An error of the test cluster: text for a person.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// What every step of the test cluster returns.
pub type Result<T> = std::result::Result<T, Error>;
