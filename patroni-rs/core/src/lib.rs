//! The pure part of patroni-rs: the model of the cluster, the typed view of the
//! dynamic configuration, and every decision of the HA engine.
//!
//! Nothing here reads a clock, a file, the network or the environment; values
//! come in, values go out. So the same code runs in the daemon and in the
//! deterministic simulation.

pub mod build_info;
pub mod citus;
pub mod cluster_json;
pub mod cluster_state;
pub mod controlled;
pub mod dynamic_check;
pub mod global_config;
pub mod ha;
mod lsn;
pub mod model;
mod mono;
pub mod mutex;
pub mod node;
pub mod parse;
mod pg_version;
pub mod quorum;
pub mod rewind;
pub mod slots;
pub mod stores;
pub mod sync;
pub mod tags;
pub mod timing;

pub use pg_version::PgVersion;
