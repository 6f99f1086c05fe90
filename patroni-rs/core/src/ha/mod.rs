//! The HA engine: what to do next, from what was seen.
//!
//! [`run`] is a pure function of a [`View`], the [`Memory`] of earlier cycles
//! and the answers to the questions asked so far. It ends with a question
//! ([`Progress::Ask`]) or with the cycle's status line and new memory. Whoever
//! drives it (the daemon, the simulation, a test) carries out each request in
//! order, records the answer, and runs it again. The invariants:
//!
//! - nothing here does I/O, reads a clock, or rolls dice;
//! - a lost compare-and-set is a value; only an unreachable DCS is an error;
//! - a cycle decides on one view of the cluster, and writes with that view's versions.

mod busy;
pub mod commands;
mod cycle;
mod demote;
mod failover;
mod failsafe;
mod follow;
pub mod guardian;
mod held_back;
mod history;
pub mod keeper;
mod leader;
mod leaderless;
mod member;
mod memory;
mod race;
mod recover;
mod request;
mod schedule;
mod script;
mod shutdown;
mod startup;
mod sync_standby;
#[cfg(test)]
mod tests;
mod types;

pub use cycle::{run, sysid_valid, Finished, Progress};
pub use follow::node_to_follow;
pub use held_back::{HeldBack, Reason};
pub use member::{effective_tags, VERSION};
pub use memory::{Demotion, Memory, Rewind};
pub use request::{Answer, DcsDown, RecoveryChange, Request, SyncNames, SyncNamesSet, Walsender};
pub use script::{Halt, Level, LogLine, Script, Step, Transcript};
pub use shutdown::run_shutdown;
pub use types::*;
