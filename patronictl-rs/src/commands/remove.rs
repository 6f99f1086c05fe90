//! `remove` (surface-api-ctl K44).

use super::list::Table;
use crate::click::prompt::{prompt, Console, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::Format;

/// Runs `remove`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let name = context.cluster_name(values)?;
    let group = values.int("group");
    let store = context.store(&name, group)?;
    let view = store.view()?;
    if context.is_citus() && group.is_none() {
        return Err(CliError::msg("For Citus clusters the --group must me specified"));
    }
    let format = values.text("format").and_then(Format::parse).unwrap_or(Format::Pretty);
    // The table is that of the whole cluster: the reference forgets the group.
    Table { extended: false, format, group: None }.print(context, &name, &view)?;
    ask(&name, view.cluster.leader_name(), &mut Stdio)?;
    store.delete_cluster()
}

fn ask(name: &str, leader: Option<&str>, console: &mut impl Console) -> Result<(), CliError> {
    const AWARE: &str = "Yes I am aware";
    if prompt(console, "Please confirm the cluster name to remove", None)? != name {
        return Err(CliError::msg("Cluster names specified do not match"));
    }
    let question =
        format!("You are about to remove all information in DCS for {name}, please type: \"{AWARE}\"");
    if prompt(console, &question, None)? != AWARE {
        return Err(CliError::msg(format!("You did not exactly type \"{AWARE}\"")));
    }
    let Some(leader) = leader else { return Ok(()) };
    let question = "This cluster currently is healthy. Please specify the leader name to continue";
    if prompt(console, question, None)? != leader {
        return Err(CliError::msg("You did not specify the current leader of the cluster"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click::prompt::Script;

    #[test]
    fn three_questions() {
        for (answers, end) in [
            (vec!["x"], "Cluster names specified do not match"),
            (vec!["demo", "yes"], "You did not exactly type \"Yes I am aware\""),
            (vec!["demo", "Yes I am aware", "b"], "You did not specify the current leader of the cluster"),
            (vec!["demo", "Yes I am aware", "a"], ""),
        ] {
            let result = ask("demo", Some("a"), &mut Script::new(&answers));
            assert_eq!(result.err().map(|e| e.to_string()).unwrap_or_default(), end);
        }
    }
}
