//! Values as Python holds them, read and written byte for byte as Python's
//! `json`, PyYAML and friends read and write them.
//!
//! This crate knows nothing of Patroni: no I/O, no clock, no PostgreSQL.

pub mod datetime;
pub mod diff;
pub mod int;
pub mod json;
pub mod oserror;
mod printable;
pub mod side_by_side;
pub mod text;
pub mod value;
pub mod yaml;

pub use value::{Map, Value};
