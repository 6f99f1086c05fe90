//! Real chaos: a cluster of real members, real PostgreSQL and a store of three servers, each node with a
//! network of its own, under faults that a seed decides and clients that remember what was acknowledged.
//!
//! [`run::run`] is the program; [`check`] holds what must be true, as pure functions over the record.

pub mod check;
mod citus;
pub mod faults;
pub mod fleet;
pub mod harm;
mod judge;
pub mod net;
pub mod options;
mod rafts;
pub mod report;
mod restore;
pub mod run;
pub mod servers;
mod sys;
pub mod writer;
