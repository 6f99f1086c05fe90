//! `switchover` and `failover` (surface-api-ctl K23 to K31).

use patroni_core::model::{failover_value, Cluster, FailoverOrder, Member};
use pyfmt::value::str_repr;
use pyfmt::Value;

use super::doctor;
use super::list::Table;
use super::schedule::{self, At};
use crate::click::prompt::{confirm, prompt, prompt_int, Console, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::store::{global_config, Store};

/// Runs `switchover`.
pub fn switchover(context: &mut Context, values: &Values) -> Result<(), CliError> {
    if values.flag("check") {
        return doctor::switchover(context, values);
    }
    run(context, values, Action::Switchover)
}

/// Runs `failover`.
pub fn failover(context: &mut Context, values: &Values) -> Result<(), CliError> {
    run(context, values, Action::Failover)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Switchover,
    Failover,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Switchover => "switchover",
            Action::Failover => "failover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Action::Switchover => "Switchover",
            Action::Failover => "Failover",
        }
    }
}

/// What the command line asked for.
struct Args<'a> {
    action: Action,
    cluster_name: &'a str,
    leader: Option<&'a str>,
    candidate: Option<&'a str>,
    scheduled: Option<&'a str>,
    force: bool,
}

/// What will be done.
#[derive(Debug, PartialEq)]
struct Plan {
    leader: Option<String>,
    candidate: Option<String>,
    scheduled_at: Option<String>,
}

fn run(context: &mut Context, values: &Values, action: Action) -> Result<(), CliError> {
    let name = context.cluster_name(values)?;
    let args = Args {
        action,
        cluster_name: &name,
        leader: values.text("leader"),
        candidate: values.text("candidate"),
        scheduled: values.text("scheduled"),
        force: values.flag("force"),
    };
    let mut group = values.int("group");
    let table = Table::of_group(group);
    let mut store = context.store(&name, group)?;
    let mut view = store.view()?;
    crate::out::echo("Current cluster topology");
    table.print(context, &name, &view)?;
    let mut console = Stdio;
    if context.is_citus() && group.is_none() {
        if args.force {
            return Err(CliError::msg("For Citus clusters the --group must me specified"));
        }
        group = Some(prompt_int(&mut console, "Citus group")?);
        store = context.store(&name, group)?;
        view = store.view()?;
    }
    let plan = args.plan(&view.cluster, &mut console)?;
    match execute(context, &args, &plan, &view.cluster, &store)? {
        Outcome::Refused => Ok(()),
        Outcome::Done => Table::of_group(group).print(context, &name, &store.view()?),
        Outcome::WroteKey => Table::of_group(group).print(context, &name, &view),
    }
}

impl Args<'_> {
    /// All checks and questions, in the reference's order.
    fn plan(&self, cluster: &Cluster, console: &mut impl Console) -> Result<Plan, CliError> {
        let leader = self.leader(cluster, console)?;
        let candidate = self.candidate(cluster, console)?;
        self.confirm_asynchronous(cluster, candidate.as_deref(), console)?;
        let scheduled = self.schedule(cluster, console)?;
        self.confirm(cluster, scheduled.as_ref(), console)?;
        Ok(Plan { leader, candidate, scheduled_at: scheduled.map(|at| at.iso) })
    }

    /// Only a switchover names the leader.
    fn leader(&self, cluster: &Cluster, console: &mut impl Console) -> Result<Option<String>, CliError> {
        if self.action == Action::Failover {
            return Ok(None);
        }
        let Some(current) = cluster.leader_name() else {
            return Err(CliError::msg("This cluster has no leader"));
        };
        let named = match self.leader {
            Some(name) => name.to_owned(),
            None if self.force => current.to_owned(),
            None => {
                let standby = global_config(cluster).is_standby_cluster();
                let text = if standby { "Standby Leader" } else { "Primary" };
                prompt(console, text, Some(current))?
            }
        };
        if named != current {
            let cluster = self.cluster_name;
            return Err(CliError::msg(format!("Member {named} is not the leader of cluster {cluster}")));
        }
        Ok(Some(named))
    }

    fn candidate(&self, cluster: &Cluster, console: &mut impl Console) -> Result<Option<String>, CliError> {
        let leader = cluster.leader_name();
        let eligible = |m: &&Member| Some(m.name.as_str()) != leader && !m.nofailover();
        let mut names: Vec<&str> = cluster.members.iter().filter(eligible).map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        let action = self.action.name();
        if names.is_empty() {
            return Err(CliError::msg(format!("No candidates found to {action} to")));
        }
        let candidate = match self.candidate {
            None if !self.force => {
                let list: Vec<String> = names.iter().map(|n| str_repr(n)).collect();
                Some(prompt(console, &format!("Candidate [{}]", list.join(", ")), Some(""))?)
            }
            given => given.map(str::to_owned),
        };
        let Some(name) = candidate.as_deref().filter(|c| !c.is_empty()) else {
            if self.action == Action::Failover {
                return Err(CliError::msg("Failover could be performed only to a specific candidate"));
            }
            return Ok(candidate);
        };
        if names.contains(&name) {
            return Ok(candidate);
        }
        let cluster = self.cluster_name;
        Err(CliError::msg(if Some(name) == leader {
            format!("Member {name} is already the leader of cluster {cluster}")
        } else {
            format!("Member {name} does not exist in cluster {cluster} or is tagged as nofailover")
        }))
    }

    fn confirm_asynchronous(
        &self,
        cluster: &Cluster,
        candidate: Option<&str>,
        console: &mut impl Console,
    ) -> Result<(), CliError> {
        let candidate = candidate.unwrap_or_default();
        let asynchronous = self.action == Action::Failover
            && global_config(cluster).is_synchronous_mode()
            && !cluster.sync.is_empty()
            && !cluster.sync.matches(candidate, true);
        if self.force || !asynchronous {
            return Ok(());
        }
        let question = format!("Are you sure you want to failover to the asynchronous node {candidate}?");
        self.must(confirm(console, &question)?, "Aborting")
    }

    fn schedule(&self, cluster: &Cluster, console: &mut impl Console) -> Result<Option<At>, CliError> {
        if self.action == Action::Failover {
            return Ok(None);
        }
        let text = match self.scheduled {
            None if !self.force => {
                let question =
                    format!("When should the switchover take place (e.g. {} ) ", crate::clock::next_hour());
                Some(prompt(console, &question, Some("now"))?)
            }
            given => given.map(str::to_owned),
        };
        let scheduled = schedule::parse(text.as_deref())?;
        if scheduled.is_some() && global_config(cluster).is_paused() {
            return Err(CliError::msg("Can't schedule switchover in the paused state"));
        }
        Ok(scheduled)
    }

    fn confirm(
        &self,
        cluster: &Cluster,
        scheduled: Option<&At>,
        console: &mut impl Console,
    ) -> Result<(), CliError> {
        if self.force {
            return Ok(());
        }
        let (action, name) = (self.action.name(), self.cluster_name);
        let demoting =
            cluster.leader_name().map(|l| format!(", demoting current leader {l}")).unwrap_or_default();
        match scheduled {
            Some(at) => {
                let question = format!(
                    "Are you sure you want to schedule switchover of cluster {name} at {}{demoting}?",
                    at.iso
                );
                self.must(confirm(console, &question)?, "Aborting scheduled")
            }
            None => {
                let question = format!("Are you sure you want to {action} cluster {name}{demoting}?");
                self.must(confirm(console, &question)?, "Aborting")
            }
        }
    }

    fn must(&self, yes: bool, otherwise: &str) -> Result<(), CliError> {
        if yes {
            return Ok(());
        }
        Err(CliError::msg(format!("{otherwise} {}", self.action.name())))
    }
}

/// The body of the request; a candidate that was not named is null.
fn body(plan: &Plan, action: Action) -> Value {
    let mut body = Value::map();
    body.set("candidate", plan.candidate.clone());
    if action == Action::Switchover {
        body.set("leader", plan.leader.clone());
    }
    if let Some(at) = &plan.scheduled_at {
        body.set("scheduled_at", at.as_str());
    }
    body
}

/// What came of it; decides about the table of members that follows.
enum Outcome {
    /// A member refused: no table.
    Refused,
    /// A member did it: the members as they are now.
    Done,
    /// The failover key was written: the members as they were before.
    WroteKey,
}

/// Asks the leader, or without one the candidate; when nobody answers, writes
/// the failover key.
fn execute(
    context: &mut Context,
    args: &Args<'_>,
    plan: &Plan,
    cluster: &Cluster,
    store: &Store,
) -> Result<Outcome, CliError> {
    let candidate = plan.candidate.as_deref().unwrap_or_default();
    let by_name = || cluster.get_member(candidate, false);
    let member = cluster.leader.as_ref().map(|l| &l.member).or_else(by_name);
    let body = body(plan, args.action);
    let outcome = match member {
        None => Err("no member to ask".to_owned()),
        Some(member) => request(context, member, args.action, &body).map_err(|e| e.traceback_line()),
    };
    match outcome {
        Ok(reply) if matches!(reply.status, 200 | 202) => {
            crate::out::echo(&format!("{} {}", crate::clock::stamp(), reply.text()));
            Ok(Outcome::Done)
        }
        Ok(reply) => {
            let title = args.action.title();
            crate::out::echo(&format!("{title} failed, details: {}, {}", reply.status, reply.text()));
            Ok(Outcome::Refused)
        }
        Err(error) => {
            tracing::error!(target: "patroni.ctl", "None\n{error}");
            tracing::warn!(target: "patroni.ctl", "Failing over to DCS");
            crate::out::echo(&format!(
                "{} Could not {} using Patroni api, falling back to DCS",
                crate::clock::stamp(),
                args.action.name()
            ));
            let value = failover_value(FailoverOrder {
                leader: plan.leader.as_deref(),
                candidate: Some(candidate),
                scheduled_at: plan.scheduled_at.as_deref(),
            });
            store.write_failover(&value, None)?;
            Ok(Outcome::WroteKey)
        }
    }
}

/// A Patroni from before switchovers is asked for a failover.
fn request(
    context: &mut Context,
    member: &Member,
    action: Action,
    body: &Value,
) -> Result<crate::rest::Reply, crate::rest::RestError> {
    let what = || format!("Waiting for the {}", action.name());
    let reply = context.call_slow(member, action.name(), body, what())?;
    let old = reply.status == 501 && reply.text().contains("Server does not support this operation");
    if old && action == Action::Switchover {
        return context.call_slow(member, "failover", body, what());
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::click::prompt::Script;
    use crate::store::tests::view;

    fn cluster(config: &str) -> Cluster {
        view(&[
            ("config", config),
            ("leader", "pg1"),
            ("members/pg1", "{}"),
            ("members/pg3", "{}"),
            ("members/pg2", "{}"),
            ("members/pg4", r#"{"tags": {"nofailover": true}}"#),
            ("sync", r#"{"leader": "pg1", "sync_standby": "pg2"}"#),
        ])
        .cluster
    }

    fn args(action: Action, leader: Option<&'static str>, candidate: Option<&'static str>) -> Args<'static> {
        Args { action, cluster_name: "demo", leader, candidate, scheduled: None, force: true }
    }

    fn plan(args: &Args<'_>, cluster: &Cluster, answers: &[&str]) -> (String, String) {
        let mut script = Script::new(answers);
        let end = match args.plan(cluster, &mut script) {
            Ok(plan) => pyfmt::json::dumps(&body(&plan, args.action)),
            Err(error) => error.to_string(),
        };
        (script.shown, end)
    }

    #[test]
    fn checks() {
        let all = cluster("{}");
        for (args, end) in [
            (args(Action::Switchover, None, None), r#"{"candidate": null, "leader": "pg1"}"#),
            (args(Action::Switchover, Some("pg2"), None), "Member pg2 is not the leader of cluster demo"),
            (args(Action::Failover, None, None), "Failover could be performed only to a specific candidate"),
            (args(Action::Failover, None, Some("pg2")), r#"{"candidate": "pg2"}"#),
            (args(Action::Switchover, None, Some("pg1")), "Member pg1 is already the leader of cluster demo"),
            (
                args(Action::Failover, None, Some("pg4")),
                "Member pg4 does not exist in cluster demo or is tagged as nofailover",
            ),
        ] {
            assert_eq!(plan(&args, &all, &[]).1, end);
        }
        let alone = view(&[("leader", "a"), ("members/a", "{}")]).cluster;
        let switchover = args(Action::Switchover, None, None);
        assert_eq!(plan(&switchover, &alone, &[]).1, "No candidates found to switchover to");
        assert_eq!(plan(&switchover, &view(&[]).cluster, &[]).1, "This cluster has no leader");
    }

    #[test]
    fn questions() {
        let all = cluster("{}");
        let switchover = Args { force: false, ..args(Action::Switchover, None, None) };
        let (shown, end) = plan(&switchover, &all, &["", "", "", "y"]);
        assert_eq!(end, r#"{"candidate": "", "leader": "pg1"}"#);
        assert!(shown.starts_with(
            "Primary [pg1]: Candidate ['pg2', 'pg3'] []: When should the switchover take place (e.g. "
        ));
        assert!(shown.ends_with(
            " )  [now]: Are you sure you want to switchover cluster demo, demoting current leader pg1? [y/N]: "
        ));
        assert_eq!(plan(&switchover, &all, &["", "", "", "n"]).1, "Aborting switchover");
        let sync = cluster(r#"{"synchronous_mode": true}"#);
        let failover = Args { force: false, ..args(Action::Failover, None, Some("pg3")) };
        assert_eq!(
            plan(&failover, &sync, &["n"]),
            (
                "Are you sure you want to failover to the asynchronous node pg3? [y/N]: ".into(),
                "Aborting failover".into()
            )
        );
    }
}
