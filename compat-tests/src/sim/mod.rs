//! A cluster in simulated time: the production HA engine (decisions, memory,
//! lock keeper) on a model of the DCS and of PostgreSQL, under faults that a
//! seed decides.
//!
//! One event queue, one random number generator, no threads, no clock: two runs
//! of a seed are the same run. A failure is a seed; [`World::story`] tells who
//! did what when.

mod dcs;
mod effects;
mod faults;
mod jobs;
mod node;
mod pg;
mod rng;
mod world;

pub use faults::Plan;
pub use world::{run, Config, Failure, Planted, World};
