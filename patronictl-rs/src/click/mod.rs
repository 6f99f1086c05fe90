//! A command line of click's kind: what a command accepts, how it is parsed,
//! and how its help, usage and error texts are laid out (surface-api-ctl 15).
//!
//! The layout and parsing rules follow click 8.5.1 (BSD-3-Clause).

pub mod close;
pub mod complete;
pub mod error;
pub mod help;
pub mod man;
pub mod parser;
pub mod prompt;
pub mod spec;
pub mod textwrap;
pub mod values;

pub use error::CliError;
pub use values::Values;
