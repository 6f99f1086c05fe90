//! `reload` (surface-api-ctl K14).

use super::select::confirm_action;
use super::target::Target;
use crate::click::prompt::Stdio;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::rest::Reply;
use crate::store::global_config;

/// Runs `reload`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let target = Target::read(context, values)?;
    let members = target.choose(context, values, values.text("role").unwrap_or("any"), "reload")?;
    confirm_action(&members, values.flag("force"), "reload", &mut Stdio)?;
    let loop_wait = target.store.loop_wait_of(&global_config(&target.view.cluster));
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
