//! A cluster in simulated time: the production HA engine (decisions, memory,
//! lock keeper, choice of synchronous standbys) on a model of the DCS and of
//! PostgreSQL, under faults and operators that a seed decides.
//!
//! One event queue, one random number generator, no threads, no clock: two runs
//! of a seed are the same run. A failure is a seed and a [`Plan`]; its story tells
//! who did what when, and [`minimise`] shortens the plan.

mod asks;
mod commits;
mod config;
mod coverage;
mod daemon;
mod dcs;
mod effects;
mod events;
mod faults;
mod floor;
mod guardian;
mod hazards;
mod invariants;
mod jobs;
mod keeper;
mod kinds;
mod lapses;
mod local;
mod minimise;
mod network;
mod node;
mod objects;
mod operators;
mod pg;
mod plan;
mod planted;
mod pods;
mod reference;
mod remote;
mod replication;
mod rng;
mod silent;
mod slots;
mod strangers;
mod unseen;
mod watches;
mod world;

pub use config::{Config, SyncMode};
pub use coverage::Coverage;
pub use dcs::Kind;
pub use faults::Fault;
pub use minimise::minimise;
pub use plan::Plan;
pub use planted::Planted;
pub use rng::Rng;
pub use world::{run, run_plan, Failure, World};
