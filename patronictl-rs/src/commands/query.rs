//! `query` (surface-api-ctl K3 to K8).

use crate::click::{CliError, Values};
use crate::context::Context;

/// Runs `query`.
pub fn run(_context: &mut Context, _values: &Values) -> Result<(), CliError> {
    Err(CliError::msg("not yet"))
}
