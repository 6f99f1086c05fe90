//! `reload` (surface-api-ctl K14).

use super::list::Table;
use super::select::{confirm_action, Wanted};
use crate::click::prompt::Stdio;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::rest::Reply;
use crate::store::global_config;

/// Runs `reload`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let name = context.cluster_name(values);
    let group = values.int("group");
    let store = context.store(&name, group)?;
    let view = store.view()?;
    let wanted = Wanted {
        cluster_name: &name,
        names: values.many("member_names"),
        role: values.text("role").unwrap_or("any"),
        all_groups: context.is_citus() && group.is_none(),
        force: values.flag("force"),
        action: "reload",
    };
    let show = || Table::of_group(group).print(context, &name, &view);
    let members = wanted.choose(&view, &mut Stdio, show)?;
    confirm_action(&members, wanted.force, wanted.action, &mut Stdio)?;
    let loop_wait = store.loop_wait_of(&global_config(&view.cluster));
    for member in members {
        let reply = context.call_or_crash(member, "POST", "reload", None)?;
        crate::out::echo(&outcome(&reply, &member.name, loop_wait));
    }
    Ok(())
}

fn outcome(reply: &Reply, member: &str, loop_wait: u64) -> String {
    match reply.status {
        200 => format!("No changes to apply on member {member}"),
        202 => format!(
            "Reload request received for member {member} and will be processed within {loop_wait} seconds"
        ),
        _ => reply.failure("reload", member),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let reply = |status| Reply { status, body: b"x".to_vec() };
        assert_eq!(outcome(&reply(200), "a", 10), "No changes to apply on member a");
        assert_eq!(outcome(&reply(500), "a", 10), "Failed: reload for member a, status code=500, (x)");
    }
}
