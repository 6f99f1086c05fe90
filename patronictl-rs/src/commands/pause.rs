//! `pause` and `resume` (surface-api-ctl K35, K36).

use std::time::{Duration, Instant};

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::Cluster;
use pyfmt::Value;

use super::select::leader_first;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::store::{global_config, Store};

/// Runs `pause`.
pub fn pause(context: &mut Context, values: &Values) -> Result<(), CliError> {
    set(context, values, true)
}

/// Runs `resume`.
pub fn resume(context: &mut Context, values: &Values) -> Result<(), CliError> {
    set(context, values, false)
}

fn set(context: &mut Context, values: &Values, paused: bool) -> Result<(), CliError> {
    let group = context.default_group(values);
    let store = context.store_of(values, group)?;
    let cluster = store.view()?.cluster;
    let config = global_config(&cluster);
    if config.is_paused() == paused {
        let word = if paused { "already" } else { "not" };
        return Err(CliError::msg(format!("Cluster is {word} paused")));
    }
    let pause = if paused { Value::Bool(true) } else { Value::Null };
    let body: Value = [("pause", pause)].into_iter().collect();
    for member in leader_first(&cluster) {
        let reply = match context.call(member, "PATCH", Some("config"), Some(&body)) {
            Ok(reply) => reply,
            Err(error) => {
                tracing::warn!(target: "patroni.ctl", "{error}");
                tracing::warn!(target: "patroni.ctl", "Member {} is not accessible", member.name);
                continue;
            }
        };
        match reply.status {
            200 if values.flag("wait") => wait(&store, &cluster, &config, paused)?,
            200 => crate::out::echo(&done(paused)),
            status => crate::out::echo(&format!(
                "Failed: {} cluster management status code={status}, ({})",
                verb(paused),
                reply.text()
            )),
        }
        return Ok(());
    }
    Err(CliError::msg("Can not find accessible cluster member"))
}

fn verb(paused: bool) -> &'static str {
    if paused {
        "pause"
    } else {
        "resume"
    }
}

fn done(paused: bool) -> String {
    format!("Success: cluster management is {}d", verb(paused))
}

/// Waits one second longer than a cycle for all members to publish the state.
fn wait(store: &Store, old: &Cluster, config: &GlobalConfig, paused: bool) -> Result<(), CliError> {
    crate::out::echo(&format!(
        "'{}' request sent, waiting until it is recognized by all nodes",
        verb(paused)
    ));
    let loop_wait = store.loop_wait_of(config);
    let deadline = Instant::now() + Duration::from_secs(loop_wait.saturating_add(1));
    let mut cluster = store.view()?.cluster;
    while !lagging(old, &cluster, paused).is_empty() {
        if Instant::now() >= deadline {
            let names = unaware(old, &cluster, paused);
            if !names.is_empty() {
                let names = names.join(", ");
                crate::out::echo(&format!(
                    "{names} members didn't recognized pause state after {loop_wait} seconds"
                ));
                return Ok(());
            }
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        cluster = store.view()?.cluster;
    }
    crate::out::echo(&done(paused));
    Ok(())
}

/// The members with a REST API in `old` that do not publish the state yet,
/// with the version of their key then and now.
fn lagging<'a>(old: &'a Cluster, now: &'a Cluster, paused: bool) -> Vec<(&'a str, bool)> {
    let before = |name: &str| old.members.iter().find(|m| m.name == name && m.api_url().is_some());
    let behind = now
        .members
        .iter()
        .filter(|m| m.data.get("pause").is_some_and(Value::truthy) != paused)
        .filter_map(|m| before(&m.name).map(|b| (m.name.as_str(), b.version != m.version)));
    behind.collect()
}

/// Those of them that are alive: their key has changed since.
fn unaware<'a>(old: &'a Cluster, now: &'a Cluster, paused: bool) -> Vec<&'a str> {
    lagging(old, now, paused).into_iter().filter(|(_, alive)| *alive).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::view;

    #[test]
    fn waits_for_members_with_an_api_only() {
        let old = view(&[
            ("members/a", r#"{"api_url": "http://a"}"#),
            ("members/b", r#"{"api_url": "http://b"}"#),
            ("members/c", "{}"),
        ])
        .cluster;
        let mut now = old.clone();
        assert_eq!(lagging(&old, &now, true), [("a", false), ("b", false)]);
        for member in &mut now.members {
            member.version = "99".into();
        }
        if let Some(member) = now.members.first_mut() {
            member.data.set("pause", true);
        }
        assert_eq!(unaware(&old, &now, true), ["b"]);
        assert_eq!(lagging(&old, &now, false), [("a", true)]);
        assert_eq!(done(true), "Success: cluster management is paused");
        assert_eq!(done(false), "Success: cluster management is resumed");
    }
}
