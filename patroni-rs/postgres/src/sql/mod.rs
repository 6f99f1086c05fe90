//! Connections to PostgreSQL, and the statements that run on them
//! (surface-ha-pg 17, 18, 24).
//!
//! [`Session`] is one connection, [`Pool`] the two that the daemon keeps, and
//! [`ReplicationClient`] speaks the replication protocol. The rest are
//! statements with typed results.

mod advance;
mod auth;
mod citus;
mod copy;
mod error;
mod hosts;
mod monitor;
mod params;
mod passfile;
mod pool;
mod protocol;
mod quote;
mod remote;
mod replication;
mod rows;
mod servers;
mod service;
mod session;
mod settings;
mod simple;
mod slots;
mod status;
mod sync;
mod tls;
mod transport;

pub use advance::{AdvanceReport, SlotAdvancer};
pub use citus::{bootstrap_citus, citus_params, parse_nodes, short, statement, NODES};
pub use copy::{fetch_logical_slots, write_slot_files, CopiedSlot};
pub use error::PgError;
pub use hosts::connect_like_psycopg;
pub use monitor::{monitor_statement, parse_monitor_row, MonitorOptions, Monitored, Names};
pub use params::ConnParams;
pub use pool::{Connection, Pool};
pub use protocol::RawRow;
pub use quote::{literal, text_array, QUIET};
pub use remote::{can_be_copied, checkpoint, leader_in_recovery, leader_ran_checkpoint, write_something};
pub use replication::{IdentifiedSystem, ReplicationClient};
pub use rows::Row;
pub use session::Session;
pub use settings::{load_gucs, pending_restart, pg_settings};
pub use simple::{Column, Outcome, Refusal, SimpleClient};
pub use slots::{load_slots, sync_replication_slots, ReadinessSource, SlotExecutor, SlotOutcome, SlotRound};
pub use status::{parse_status_row, python_time, status_statement, ReplicaStatus, RestStatus};
pub use sync::{current_sync_state, nudge_wal, sync_names_in_force, walsenders};
