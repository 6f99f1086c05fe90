//! The command-line modes of `patroni` that only look at the configuration.

use crate::config::{Check, Config};
use crate::env::Environment;
use crate::validate::Options;

/// What a program prints and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Exit status.
    pub code: i32,
    /// As it stands; a line end is in it where one is printed.
    pub stdout: String,
    /// Likewise.
    pub stderr: String,
}

impl Outcome {
    pub(crate) fn failed(message: impl std::fmt::Display) -> Outcome {
        Outcome { code: 1, stdout: String::new(), stderr: format!("{message}\n") }
    }

    pub(crate) fn printed(stdout: String) -> Outcome {
        Outcome { code: 0, stdout, stderr: String::new() }
    }
}

/// `patroni --validate-config [--print]`: nothing is printed for a good
/// configuration, unless `print` asks for it (as YAML, with its passwords).
/// Warnings go to the log, which in this mode shows bare messages on stderr.
pub fn cli_validate(path: &str, environment: &Environment, options: Options, print: bool) -> Outcome {
    match Config::load(path, environment, &Check::Schema(options)) {
        Err(e) => Outcome::failed(e),
        Ok(_) if !print => Outcome::default(),
        Ok(config) => Outcome::printed(config.local_yaml()),
    }
}
