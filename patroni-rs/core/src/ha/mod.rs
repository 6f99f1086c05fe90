//! The HA engine: what to do next, from what was seen.
//!
//! [`run`] is a pure function of a [`View`], the [`Memory`] of earlier cycles
//! and the answers to the questions asked so far. It ends with a question
//! ([`Progress::Ask`]) or with the cycle's status line and new memory. Its
//! driver (the daemon, the simulation, a test) carries out each request in
//! order, records the answer, and runs it again. The invariants:
//!
//! - nothing here does I/O, reads a clock, or rolls dice;
//! - a lost compare-and-set is a value; only an unreachable DCS is an error;
//! - a cycle decides on one view of the cluster, and writes with that view's versions.
//!
//! # The loop of a driver
//!
//! The daemon's is `patroni-rs/src/shell/tick.rs`, the simulation's `compat-tests/src/sim/daemon.rs`. Around it they
//! arm the fence before the lock is asked for, and give the lock keeper its permit when a cycle has ended.
//!
//! ```
//! use patroni_core::ha::{run, Answer, Memory, Mono, Progress, Request, Transcript, View};
//!
//! /// One cycle: its status line. The view was taken before; it does not change while the cycle runs.
//! fn cycle(
//!     view: &View,
//!     memory: &mut Memory,
//!     mut carry_out: impl FnMut(&Request) -> Answer,
//!     clock: impl Fn() -> Mono,
//! ) -> Result<String, i32> {
//!     let mut transcript = Transcript::default();
//!     loop {
//!         let (progress, lines) = run(view, memory, &transcript);
//!         // Every run says all its lines again; those that were not said yet go to the log.
//!         for line in transcript.fresh(lines) {
//!             println!("{:?}: {}", line.level, line.text);
//!         }
//!         match progress {
//!             // Once, and in the order asked. A request that fails is answered, too: `Answer::PgDown`,
//!             // or the `Err` of a DCS that is away. With the time when the answer came.
//!             Progress::Ask(request) => {
//!                 let answer = carry_out(&request);
//!                 transcript.record(*request, answer, clock());
//!             }
//!             // Only now is anything remembered: a cycle that is broken off has changed nothing here.
//!             Progress::Finished(end) => {
//!                 *memory = end.memory;
//!                 return end.exit.map_or(Ok(end.line), Err);
//!             }
//!         }
//!     }
//! }
//! # fn _drives(view: &View, memory: &mut Memory) { let _ = cycle(view, memory, |_| Answer::Done, || Mono::ZERO); }
//! ```

pub mod ask;
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
mod seen;
mod setback;
mod shutdown;
mod startup;
mod sync_standby;
#[cfg(test)]
pub(crate) mod tests;
mod types;

pub use ask::{Ask, DcsRequest, LockRequest, NodeRequest, PeerRequest, Request, ServerRequest};
pub use cycle::{run, sysid_valid, Finished, Progress};
pub use follow::node_to_follow;
pub use held_back::{HeldBack, Reason};
pub use member::{effective_tags, VERSION};
pub use memory::{Demotion, Memory, Rewind, Stopped};
pub use request::{Answer, DcsDown, RecoveryChange, Reply, Stopping, SyncNames, SyncNamesSet, Walsender};
pub use script::{Halt, Level, LogLine, Script, Step, Transcript};
pub use setback::HighWater;
pub use shutdown::run_shutdown;
pub use types::*;
