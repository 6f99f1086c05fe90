//! The driver of the engine: the rules between a decision of [`crate::ha`] and the world.
//!
//! Pure, like the engine: no runtime, no thread, no clock. The daemon (`patroni-rs/src/shell`) and the simulation
//! (`compat-tests/src/sim`) both run it, so that what is simulated is what ships. What is left to them is to carry out
//! requests, to run jobs, and to tell the time.
//!
//! - [`lock`]: the promise of the leader lock. The only part that the lock keeper's thread touches too; it stands
//!   behind one small mutex, under which the guardian hears of each change, and never waits for a cycle.
//! - [`slot`]: the one long job, and what may start beside it.
//! - [`cycle`]: how a cycle begins, asks, and ends; when it is skipped.
//! - [`failsafe`]: what a node answers to a primary without a DCS.
//! - [`guard`]: what the guardian is told.
//!
//! # The duties of a driver
//!
//! 1. [`Cycle::begin`], with the results of the jobs that have ended.
//! 2. [`Cycle::step`] until it is over, each time:
//!    - [`Step::Look`]: look at everything, [`Cycle::looked`];
//!    - [`Step::Ask`]: [`Cycle::sends`], carry the request out, [`Cycle::answered`];
//!    - [`Step::Skipped`]: nothing was decided;
//!    - [`Step::Finished`]: the memory is the new one; [`JobSlot::cycle_settled`], [`Decided::settle`].
//!
//!    What must not be forgotten, nor come too late, is a type: a request can be had only from [`Cycle::sends`].
//! 3. [`LeaderLock::cycle_ended`], when what a new configuration changes has been done.
//! 4. Beside the cycles: [`LeaderLock::next`] tells the lock keeper what to do, [`LeaderLock::renewed`] hears what came
//!    of it; [`LeaderLock::server_known`] as soon as another server is; nothing is promoted without
//!    [`LeaderLock::will_promote`], and nothing restarted as a primary without [`LeaderLock::may_restart_primary`].

pub mod cycle;
pub mod failsafe;
pub mod guard;
pub mod lock;
pub mod slot;
pub mod takeover;

pub use cycle::{Cycle, Decided, Kind, Question, Sent, Start, Step};
pub use lock::{LeaderLock, MayPromote, Now, Renewed, Server};
pub use slot::{Cancel, JobSlot};
