//! The configuration of Patroni: files, environment, dynamic configuration and
//! cache, merged as the reference merges them; its validator; its generators
//! (surface-config 1 to 5, 7.8 to 7.10 and 7b).

mod cache;
pub mod cli;
mod config;
mod derived;
mod effective;
mod env;
mod error;
pub mod generate;
mod python;
pub mod reference;
mod refusal;
mod server_parameters;
mod source;
mod timeouts;
pub mod validate;

pub use cache::CACHE_FILE;
pub use cli::{cli_validate, Outcome};
pub use config::{Check, Config};
pub use effective::{build as build_effective, default_config};
pub use env::Environment;
pub use error::ConfigError;
pub use validate::{validate, Options};
