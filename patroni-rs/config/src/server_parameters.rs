//! `postgresql.parameters` of a configuration: what of it takes effect (surface-config 1.24, 1.25).

use patroni_core::controlled::Controlled;
use pyfmt::Value;

use crate::error::{ConfigError, Result};

/// The entries of a `postgresql.parameters` section that take effect: those of
/// the command line are dropped from local ones and checked in dynamic ones.
///
/// # Errors
/// The section is something else than a mapping, or a name is no text.
pub(crate) fn effective(section: &Value, local: bool) -> Result<Vec<(String, Value)>> {
    if section.truthy() && section.as_map().is_none() {
        return Err(ConfigError::refused("postgresql.parameters is not a dictionary"));
    }
    let mut result = Vec::new();
    for (name, value) in section.as_map().into_iter().flatten() {
        let text = name.as_str().ok_or_else(|| ConfigError::no_attribute(name, "lower"))?;
        match Controlled::find(text) {
            None => result.push((text.to_owned(), value.clone())),
            Some(_) if local => {}
            Some(option) => match option.validated(value) {
                Some(valid) => result.push((text.to_owned(), valid)),
                None => tracing::warn!(
                    target: "patroni.config",
                    "postgresql parameter {text}={value} failed validation, defaulting to {}",
                    option.default_value()
                ),
            },
        }
    }
    Ok(result)
}
