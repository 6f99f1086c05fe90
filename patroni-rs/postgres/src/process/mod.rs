//! The processes of PostgreSQL: starting and stopping the postmaster, waiting
//! for it, and running its command line tools and the user's scripts.
//!
//! Everything here takes explicit inputs (data directory, binaries, environment,
//! deadlines). Policy lives in `patroni_core::ha`, files in [`crate::files`],
//! statements in [`crate::sql`].

pub mod archive;
pub mod basebackup;
pub mod binaries;
pub mod blocking;
pub mod bound;
pub mod callbacks;
pub mod cancellable;
pub mod control;
pub mod crash_recovery;
pub mod custom_bootstrap;
pub mod datadir;
pub mod evidence;
pub mod fence;
pub mod history;
pub mod hooks;
pub mod initdb;
pub mod options;
pub mod pending;
pub mod pidfd;
pub mod postmaster;
pub mod probe;
pub mod proc;
pub mod progress;
pub mod promote;
pub mod ready;
pub mod replica;
pub mod rewind;
pub mod signals;
pub mod spawn;
pub mod start;
pub mod stop;
pub mod unfinished;
pub mod waldump;

#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests_postgres;

pub use binaries::Binaries;
pub use cancellable::{CallError, Cancellable, Finished, Invocation};
pub use postmaster::Postmaster;
