//! The daemon: PostgreSQL, the DCS and the REST API around the engine of
//! `patroni-core`.

pub mod cli;
pub mod clock;
pub mod generate;
pub mod guardian;
pub mod instance;
pub mod log;
pub mod process;
pub mod reaper;
pub mod releaser;
pub mod shell;
pub mod startup;
pub mod systemd;
mod timer;
pub mod urgency;
pub mod watchdog;
