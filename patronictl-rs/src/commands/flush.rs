//! `flush` (surface-api-ctl K32 to K34).

use patroni_core::model::Cluster;
use pyfmt::Value;

use super::select::{confirm_action, leader_first};
use super::target::Target;
use crate::click::prompt::Stdio;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::rest::Reply;

/// Runs `flush`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let target = Target::read(context, values)?;
    match values.text("target") {
        Some("restart") => flush_restarts(context, values, &target),
        _ => flush_switchover(context, &target),
    }
}

fn flush_restarts(context: &mut Context, values: &Values, target: &Target) -> Result<(), CliError> {
    let members = target.choose(context, values, values.text("role").unwrap_or("any"), "flush")?;
    confirm_action(&members, values.flag("force"), "flush", &mut Stdio)?;
    for member in members {
        if !member.data.get("scheduled_restart").is_some_and(Value::truthy) {
            crate::out::echo(&format!("No scheduled restart for member {}", member.name));
            continue;
        }
        let reply = context.call_or_crash(member, "DELETE", "restart", None)?;
        crate::out::echo(&match reply.status {
            400.. => reply.failure("flush scheduled restart", &member.name),
            _ => format!("Success: flush scheduled restart for member {}", member.name),
        });
    }
    Ok(())
}

fn flush_switchover(context: &mut Context, target: &Target) -> Result<(), CliError> {
    let cluster = &target.view.cluster;
    let Some(version) = scheduled_version(cluster) else {
        crate::out::echo("No pending scheduled switchover");
        return Ok(());
    };
    for member in leader_first(cluster) {
        match context.call(member, "DELETE", Some("switchover"), None) {
            Ok(reply) => {
                let (text, done) = outcome(&reply, &member.name);
                crate::out::echo(&text);
                if done {
                    return Ok(());
                }
            }
            Err(error) => {
                tracing::warn!(target: "patroni.ctl", "{error}");
                tracing::warn!(target: "patroni.ctl", "Member {} is not accessible", member.name);
            }
        }
    }
    tracing::warn!(target: "patroni.ctl", "Failing over to DCS");
    crate::out::echo(&format!(
        "{} Could not find any accessible member of cluster {}",
        crate::clock::stamp(),
        target.name
    ));
    target.store.write_failover("{}", Some(version))
}

/// The version of the failover key, if a switchover is scheduled in it.
fn scheduled_version(cluster: &Cluster) -> Option<&str> {
    let failover = cluster.failover.as_ref()?;
    failover.scheduled_at.is_some().then_some(failover.version.as_str())
}

/// What is said of a member's answer, and whether no other member is asked.
fn outcome(reply: &Reply, member: &str) -> (String, bool) {
    let text = reply.text();
    match reply.status {
        200 => (format!("Success: {text}"), true),
        404 => (format!("Failed: {text}"), true),
        status => (format!("Failed: member={member}, status_code={status}, ({text})"), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes() {
        let reply = |status| Reply { status, body: b"x".to_vec() };
        assert_eq!(outcome(&reply(200), "a"), ("Success: x".into(), true));
        assert_eq!(outcome(&reply(404), "a"), ("Failed: x".into(), true));
        assert_eq!(outcome(&reply(503), "a"), ("Failed: member=a, status_code=503, (x)".into(), false));
    }
}
