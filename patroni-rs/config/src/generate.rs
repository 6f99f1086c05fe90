//! `--generate-sample-config` and `--generate-config` (surface-config 7.9, 7.10).

mod format;
mod running;
mod sample;
mod template;

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pyfmt::{oserror, Value};

use crate::cli::Outcome;
use crate::env::Environment;
use crate::error::{ConfigError, Result};

pub use running::{RunningInstance, ServerFacts, REQUIRED_PARAMETERS, SETTINGS_QUERY};
pub use template::HostAddress;

/// What stands where only the operator knows the value.
pub(crate) const FIXME: &str = "#FIXME";

/// `patroni --generate-sample-config [file]`. `output` is the file to write, or
/// empty for stdout. PostgreSQL's version is asked of its binary.
pub fn cli_generate_sample(output: &str, environment: &Environment, host: &HostAddress) -> Outcome {
    finish(output, template::template(environment, host).and_then(sample::complete))
}

/// `patroni --generate-config [file] [--dsn dsn]`: the configuration of the
/// PostgreSQL that `instance` connects to.
pub fn cli_generate(
    output: &str,
    dsn: Option<&str>,
    environment: &Environment,
    host: &HostAddress,
    instance: &mut dyn RunningInstance,
) -> Outcome {
    let template = template::template(environment, host);
    finish(output, template.and_then(|config| running::complete(config, dsn, instance)))
}

fn finish(output: &str, config: Result<Value>) -> Outcome {
    let text = match config {
        Ok(config) => format::document(&config),
        Err(e) => return failure(&e),
    };
    if output.is_empty() {
        return Outcome::printed(text);
    }
    match write(output, &text) {
        Ok(()) => Outcome::default(),
        Err(e) => failure(&ConfigError::exception("OSError", oserror::text(&e, Some(output)))),
    }
}

fn failure(error: &ConfigError) -> Outcome {
    match error {
        ConfigError::Refused(message) => Outcome::failed(message),
        ConfigError::Exception { message, .. } => Outcome::failed(format!("Unexpected exception: {message}")),
    }
}

/// Only the owner can read the file and the directories made for it: it is
/// going to have passwords in it.
fn write(output: &str, text: &str) -> std::io::Result<()> {
    if let Some(dir) = Path::new(output).parent().filter(|d| !d.as_os_str().is_empty() && !d.is_dir()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(output)?;
    // A file that is there may be somebody else's, or open to all; `/dev/stdout` and its like are what they are.
    let there = file.metadata()?;
    if there.is_file() {
        if there.uid() != nix::unistd::geteuid().as_raw() {
            return Err(std::io::ErrorKind::PermissionDenied.into());
        }
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.set_len(0)?;
    }
    file.write_all(text.as_bytes())
}
