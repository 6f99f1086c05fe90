//! The commands of patronictl, a file per family. What they decide is pure and
//! tested beside them; what they do goes through [`Context`].

mod config_edit;
mod diff;
mod edit_config;
mod editor;
mod failover;
mod flush;
mod list;
mod pause;
mod query;
mod reinit;
mod reload;
mod remove;
mod restart;
mod role_change;
mod schedule;
mod select;
mod show;
pub mod table;
mod target;
mod watch;

use crate::click::{CliError, Values};
use crate::context::Context;

/// Runs a command of the table.
///
/// # Errors
/// Whatever ends the command with a message or an exit code other than 0.
pub fn run(name: &str, context: &mut Context, values: &Values) -> Result<(), CliError> {
    match name {
        "demote-cluster" => role_change::demote(context, values),
        "dsn" => show::dsn(context, values),
        "edit-config" => edit_config::run(context, values),
        "failover" => failover::failover(context, values),
        "flush" => flush::run(context, values),
        "history" => show::history(context, values),
        "list" => list::list(context, values),
        "pause" => pause::run(context, values, true),
        "promote-cluster" => role_change::promote(context, values),
        "query" => query::run(context, values),
        "reinit" => reinit::run(context, values),
        "reload" => reload::run(context, values),
        "remove" => remove::run(context, values),
        "restart" => restart::run(context, values),
        "resume" => pause::run(context, values, false),
        "show-config" => show::config(context, values),
        "switchover" => failover::switchover(context, values),
        "topology" => list::topology(context, values),
        _ => show::version(context, values),
    }
}
