//! The shell around the engine: it looks, asks, acts, and waits.

mod alarm;
mod backend;
mod citus;
mod daemon;
mod exec;
mod jobs;
mod lease;
mod peers;
mod reload;
mod shared;
#[cfg(test)]
mod tests;
mod tick;

pub use daemon::{run, Start};
