//! `--validate-config`: checks a local configuration against the schema
//! (surface-config 7b).
//!
//! `schema` says what is checked, `walk` how the tree is walked and in which
//! order and form errors come out, `leaf`, `network` and `files` what each check
//! is. The latter two look at the machine: they connect to ports and look for
//! binaries, as the reference does.

mod describe;
mod files;
mod leaf;
mod network;
mod schema;
mod walk;

use pyfmt::Value;

use crate::error::Result;

pub(crate) use describe::described;
pub use files::major_version;
pub(crate) use network::resolve;

/// How to validate.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Ports to listen on may be in use already.
    pub ignore_listen_port: bool,
    /// `PATH`, to look for PostgreSQL's binaries in; None when it is not set.
    pub search_path: Option<String>,
}

/// The errors of a local configuration in the order of the schema, each as one
/// line `<path> <value> <error>`. An absent `postgresql.bin_dir` is added as the
/// empty text, as a configuration printed afterwards shows.
///
/// # Errors
/// The configuration has a value on which the reference's validator itself fails.
pub fn validate(local: &mut Value, options: &Options) -> Result<Vec<String>> {
    walk::errors(schema::ROOT, local, options)
}
