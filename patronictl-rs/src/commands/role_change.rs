//! `demote-cluster` and `promote-cluster` (surface-api-ctl K45 to K48).

use patroni_core::model::Cluster;
use pyfmt::value::str_repr;
use pyfmt::Value;

use super::list::Table;
use super::watch;
use crate::click::prompt::{confirm, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::store::Store;

/// Runs `demote-cluster`.
pub fn demote(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let text = |name: &str| values.text(name).filter(|t| !t.is_empty()).map(Value::from);
    let port = values.int("port").filter(|p| *p != 0).map(Value::Int);
    let (host, restore) = (text("host"), text("restore_command"));
    if host.is_none() && port.is_none() && restore.is_none() {
        return Err(CliError::msg("At least --host, --port or --restore-command should be specified"));
    }
    let pairs = [
        ("host", host),
        ("port", port),
        ("primary_slot_name", text("primary_slot_name")),
        ("restore_command", restore),
    ];
    let section: Value = pairs.into_iter().filter_map(|(k, v)| v.map(|v| (k, v))).collect();
    change(context, values, &Change { verb: "demot", target: "standby_leader", section })
}

/// Runs `promote-cluster`.
pub fn promote(context: &mut Context, values: &Values) -> Result<(), CliError> {
    change(context, values, &Change { verb: "promot", target: "primary", section: Value::Null })
}

/// What the cluster is to become.
struct Change {
    /// `demot` or `promot`.
    verb: &'static str,
    /// The role that the leader must reach.
    target: &'static str,
    /// The section `standby_cluster` to write.
    section: Value,
}

fn change(context: &mut Context, values: &Values, change: &Change) -> Result<(), CliError> {
    let name = context.cluster_name(values)?;
    let store = context.store(&name, None)?;
    let view = store.view()?;
    let verb = change.verb;
    let leader = view.cluster.leader.as_ref().filter(|l| !l.name().is_empty());
    let Some(leader) = leader else {
        return Err(CliError::msg(format!("Cluster has no leader, {verb}ion is not possible")));
    };
    if leader.member.role() == change.target {
        return Err(CliError::msg("Cluster is already in the required state"));
    }
    crate::out::echo("Current cluster topology");
    Table::of_group(None).print(context, &name, &view)?;
    let question = format!("Are you sure you want to {verb}e {name} cluster?");
    if !values.flag("force") && !confirm(&mut Stdio, &question)? {
        return Err(CliError::msg(format!("Aborted cluster {verb}ion")));
    }
    let body: Value = [("standby_cluster", change.section.clone())].into_iter().collect();
    let failed = format!("Failed to {verb}e {name} cluster: ");
    match context.call(&leader.member, "PATCH", Some("config"), Some(&body)) {
        Ok(reply) if reply.status == 200 => {}
        // The doubled beginning is the reference's.
        Ok(reply) => {
            return Err(CliError::msg(format!(
                "{failed}{failed}/config PATCH status code={}, ({})",
                reply.status,
                reply.text()
            )))
        }
        Err(error) => return Err(CliError::msg(format!("{failed}{error}"))),
    }
    follow(&store, change, leader.name())?;
    let after = store.view()?;
    Table::of_group(None).print(context, &name, &after)
}

/// Tells the state every second until the change is done.
fn follow(store: &Store, change: &Change, old_leader: &str) -> Result<(), CliError> {
    let mut done = false;
    let outcome = watch::run(Some(1.0), false, || {
        let cluster = store.view()?.cluster;
        let now = crate::clock::seconds();
        if is_done(&cluster, change, old_leader) {
            crate::out::echo(&format!("{now} cluster is successfully {}ed", change.verb));
            done = true;
            return Err(CliError::Abort);
        }
        crate::out::echo(&format!("{now} {}", progress(&cluster, change, old_leader)));
        Ok(())
    });
    if done {
        Ok(())
    } else {
        outcome
    }
}

fn leader_text(cluster: &Cluster, key: &str) -> Option<Value> {
    cluster.leader.as_ref().and_then(|l| l.member.data.get(key)).cloned()
}

fn old_state(cluster: &Cluster, old_leader: &str) -> Option<Value> {
    cluster.get_member(old_leader, false).and_then(|m| m.data.get("state")).cloned()
}

fn is_demotion(change: &Change) -> bool {
    !change.section.is_null()
}

fn is_done(cluster: &Cluster, change: &Change, old_leader: &str) -> bool {
    let running = Value::from("running");
    !cluster.is_unlocked()
        && leader_text(cluster, "role") == Some(change.target.into())
        && leader_text(cluster, "state") == Some(running.clone())
        && (!is_demotion(change) || old_state(cluster, old_leader) == Some(running))
}

fn progress(cluster: &Cluster, change: &Change, old_leader: &str) -> String {
    let show = |value: Option<Value>| value.map_or_else(|| "None".to_owned(), |v| v.py_str());
    let unlocked = if cluster.is_unlocked() { "True" } else { "False" };
    let mut text = format!(
        "cluster is unlocked: {unlocked}, leader role: {}, leader state: {}",
        show(leader_text(cluster, "role")),
        show(leader_text(cluster, "state"))
    );
    let moved = cluster.leader.as_ref().is_some_and(|l| l.name() != old_leader);
    if let Some(state) = old_state(cluster, old_leader).filter(|s| s.truthy()) {
        if is_demotion(change) && moved {
            text.push_str(&format!(", previous leader state: {}", str_repr(&state.py_str())));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::view;

    #[test]
    fn a_demotion_waits_for_the_old_leader() {
        let change =
            Change { verb: "demot", target: "standby_leader", section: [("port", 1)].into_iter().collect() };
        let cluster = |state: &str| {
            view(&[
                ("leader", "b"),
                ("members/a", &format!(r#"{{"state": "{state}"}}"#)),
                ("members/b", r#"{"role": "standby_leader", "state": "running"}"#),
            ])
            .cluster
        };
        let stopping = cluster("stopping");
        assert!(!is_done(&stopping, &change, "a"));
        assert_eq!(
            progress(&stopping, &change, "a"),
            "cluster is unlocked: False, leader role: standby_leader, leader state: running, \
             previous leader state: 'stopping'"
        );
        assert!(is_done(&cluster("running"), &change, "a"));
        assert_eq!(
            progress(&view(&[]).cluster, &change, "a"),
            "cluster is unlocked: True, leader role: None, leader state: None"
        );
    }
}
