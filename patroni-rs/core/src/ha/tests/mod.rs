//! Tests of the engine: a world that answers, tables of situations, and lines
//! recorded from the reference.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod act;
pub(crate) mod executor;
mod failsafe;
mod follow;
mod garbage;
mod held_back;
mod lines;
mod member;
mod outcome;
mod remembers;
mod replay;
mod rows;
mod rules;
mod setback;
mod shutdown;
mod situation;
pub(crate) mod world;
