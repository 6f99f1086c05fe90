//! `flush` (surface-api-ctl K32 to K34).

use patroni_core::model::Cluster;
use pyfmt::Value;

use super::list::Table;
use super::select::{confirm_action, leader_first, Wanted};
use crate::click::prompt::Stdio;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::rest::Reply;
use crate::store::Store;

/// Runs `flush`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let name = context.cluster_name(values);
    let store = context.store(&name, values.int("group"))?;
    match values.text("target") {
        Some("restart") => flush_restarts(context, values, &name, &store),
        _ => flush_switchover(context, &name, &store),
    }
}

fn flush_restarts(context: &mut Context, values: &Values, name: &str, store: &Store) -> Result<(), CliError> {
    let view = store.view()?;
    let group = values.int("group");
    let wanted = Wanted {
        cluster_name: name,
        names: values.many("member_names"),
        role: values.text("role").unwrap_or("any"),
        all_groups: context.is_citus() && group.is_none(),
        force: values.flag("force"),
        action: "flush",
    };
    let show = || Table::of_group(group).print(context, name, &view);
    let members = wanted.choose(&view, &mut Stdio, show)?;
    confirm_action(&members, wanted.force, wanted.action, &mut Stdio)?;
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

fn flush_switchover(context: &mut Context, name: &str, store: &Store) -> Result<(), CliError> {
    let cluster = store.view()?.cluster;
    let Some(version) = scheduled_version(&cluster) else {
        crate::out::echo("No pending scheduled switchover");
        return Ok(());
    };
    for member in leader_first(&cluster) {
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
        "{} Could not find any accessible member of cluster {name}",
        crate::clock::stamp()
    ));
    store.write_failover("{}", Some(version))
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
