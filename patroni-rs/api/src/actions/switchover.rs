//! `/switchover` and `/failover` (surface-api-ctl 8.5).

use std::time::Duration;

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::{Cluster, Member};
use pyfmt::{json, Value};
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout_at, Instant};

use super::schedule::{self, Time};
use super::Outcome;
use crate::backend::Backend;
use crate::http::response::Response;

/// How often the result is looked for when nothing is heard of a change.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To a candidate, the node that leads.
    Failover,
    /// From the leader.
    Switchover,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Failover => "failover",
            Kind::Switchover => "switchover",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Failover => "Failover",
            Kind::Switchover => "Switchover",
        }
    }
}

/// A checked request.
#[derive(Debug)]
struct Plan {
    kind: Kind,
    leader: Value,
    candidate: Value,
    at: Option<Time>,
}

/// Checks the request, writes `/failover`, and waits for what comes of it unless it is for later (P19 to P24).
pub async fn post<B: Backend>(backend: &B, kind: Kind, request: &Value) -> Outcome {
    let cluster = backend.cluster().await?;
    let snapshot = backend.last_snapshot();
    let config = snapshot.config_of(&cluster);
    let plan = match plan(kind, request, config.is_paused(), schedule::now_us()) {
        Ok(plan) => plan,
        Err(response) => return Ok(response),
    };
    if plan.at.is_none() {
        if let Some(reason) = impossible(backend, &cluster, &config, &plan).await {
            return Ok(Response::text(412, reason));
        }
    }
    let changes = backend.changes();
    if !backend.set_failover(key_text(&plan), None).await? {
        return Ok(Response::text(503, "failed to write failover key into DCS"));
    }
    backend.wakeup();
    if plan.at.is_some() {
        return Ok(Response::text(202, format!("{} scheduled", plan.kind.title())));
    }
    let limit = 2 * snapshot.loop_wait.max(Duration::from_secs(10));
    Ok(outcome(backend, cluster.leader_name(), &plan, changes, limit).await)
}

/// P20, up to the question whether it can be done. A refusal is the answer.
fn plan(kind: Kind, request: &Value, paused: bool, now_us: i64) -> Result<Plan, Response> {
    let get = |key: &str| request.get(key).cloned().unwrap_or_default();
    let leader = get("leader");
    let candidate = Some(get("candidate")).filter(Value::truthy).unwrap_or_else(|| get("member"));
    let scheduled_at = get("scheduled_at");
    tracing::info!(
        target: "patroni.api",
        "received {} request with leader={leader} candidate={candidate} scheduled_at={scheduled_at}", kind.name()
    );
    let at = check(kind, &leader, &candidate, &scheduled_at, paused, now_us);
    let effective = match kind == Kind::Failover && leader.truthy() {
        true => {
            tracing::warn!(
                target: "patroni.api",
                "received failover request with leader specified - performing switchover instead"
            );
            Kind::Switchover
        }
        false => kind,
    };
    let at = at?;
    if leader == candidate {
        // TRAP: with a schedule the reference has no status code here and raises.
        return Err(match at {
            Some(_) => Response::Drop("TypeError: %d format: a real number is required, not NoneType".into()),
            None => Response::text(400, "Switchover target and source are the same"),
        });
    }
    Ok(Plan { kind: effective, leader, candidate, at })
}

fn check(
    kind: Kind,
    leader: &Value,
    candidate: &Value,
    scheduled_at: &Value,
    paused: bool,
    now_us: i64,
) -> Result<Option<Time>, Response> {
    let refuse = |text: &str| Err(Response::text(400, text));
    let mut at = None;
    if kind == Kind::Failover && !candidate.truthy() {
        return refuse("Failover could be performed only to a specific candidate");
    }
    if kind == Kind::Switchover && !leader.truthy() {
        return refuse("Switchover could be performed only from a specific leader");
    }
    if scheduled_at.truthy() {
        if kind == Kind::Failover {
            return refuse("Failover can't be scheduled");
        }
        if paused {
            return refuse("Can't schedule switchover in the paused state");
        }
        at = Some(schedule::parse(scheduled_at, kind.name(), now_us)?);
    }
    if paused && !candidate.truthy() {
        return refuse("Switchover is possible only to a specific candidate in a paused state");
    }
    Ok(at)
}

/// P21: why it cannot be done; None: it can.
async fn impossible<B: Backend>(
    backend: &B,
    cluster: &Cluster,
    config: &GlobalConfig,
    plan: &Plan,
) -> Option<String> {
    let members = match eligible(cluster, config, plan) {
        Ok(members) => members,
        Err(reason) => return Some(reason),
    };
    match backend.any_can_promote(members).await {
        true => None,
        false => Some(format!("{} is not possible: no good candidates have been found", plan.kind.name())),
    }
}

fn eligible(cluster: &Cluster, config: &GlobalConfig, plan: &Plan) -> Result<Vec<Member>, String> {
    let leader = cluster.leader.as_ref().map(|l| l.name());
    let sync_only = config.is_synchronous_mode() && !config.is_quorum_commit_mode();
    if plan.leader.truthy() && (leader.is_none() || leader != plan.leader.as_str()) {
        return Err("leader name does not match".into());
    }
    let select = |keep: &dyn Fn(&Member) -> bool, otherwise: &str| {
        let found: Vec<Member> = cluster.members.iter().filter(|m| keep(m)).cloned().collect();
        if found.is_empty() {
            Err(otherwise.to_owned())
        } else {
            Ok(found)
        }
    };
    let action = plan.kind.name();
    if plan.candidate.truthy() {
        let name = plan.candidate.as_str().unwrap_or_default();
        if plan.kind == Kind::Switchover && sync_only && !cluster.sync.matches(name, false) {
            return Err("candidate name does not match with sync_standby".into());
        }
        return select(&|m| m.name == name, "candidate does not exists");
    }
    if sync_only {
        let none = format!("{action} is not possible: can not find sync_standby");
        return select(&|m| cluster.sync.matches(&m.name, false), &none);
    }
    let none = format!("{action} is not possible: cluster does not have members except leader");
    select(&|m| leader.is_none_or(|l| m.name != l && m.api_url().is_some()), &none)
}

/// P24: the text of `/failover`.
fn key_text(plan: &Plan) -> String {
    let mut key = Value::map();
    for (name, value) in [("leader", &plan.leader), ("member", &plan.candidate)] {
        if value.truthy() {
            key.set(name, value.clone());
        }
    }
    if let Some(at) = &plan.at {
        key.set("scheduled_at", at.iso.as_str());
    }
    json::dumps_compact(&key)
}

/// P22, but as soon as the cluster's keys show it: the reference looks once a second.
async fn outcome<B: Backend>(
    backend: &B,
    old: Option<&str>,
    plan: &Plan,
    mut changes: watch::Receiver<u64>,
    limit: Duration,
) -> Response {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        let look = deadline.min(Instant::now() + POLL_INTERVAL);
        // A change, or it is time to look, or nobody tells of changes any more.
        if let Ok(Err(_)) = timeout_at(look, changes.changed()).await {
            sleep_until(look).await;
        }
        match backend.cluster().await {
            Ok(cluster) => {
                if let Some(end) = finished(&cluster, old, plan) {
                    return end;
                }
            }
            Err(error) => {
                let name = plan.kind.name();
                tracing::debug!(target: "patroni.api", "Exception occurred during polling {name} result: {error}");
            }
        }
    }
    Response::text(503, format!("{} status unknown", plan.kind.title()))
}

fn finished(cluster: &Cluster, old: Option<&str>, plan: &Plan) -> Option<Response> {
    let verb = match plan.kind {
        Kind::Failover => ("failed", "Failed"),
        Kind::Switchover => ("switched", "Switched"),
    };
    if let Some(new) = cluster.leader_name().filter(|new| Some(*new) != old) {
        let candidate = plan.candidate.py_str();
        return Some(Response::text(
            200,
            match plan.candidate.truthy() && candidate != new {
                false => format!("Successfully {} over to \"{new}\"", verb.0),
                true => format!("{} over to \"{new}\" instead of \"{candidate}\"", verb.1),
            },
        ));
    }
    let pending = cluster.failover.is_some();
    (!pending).then(|| Response::text(503, format!("{} failed", plan.kind.title())))
}

/// Takes back the scheduled switchover, if there is one (P25).
pub async fn delete<B: Backend>(backend: &B) -> Outcome {
    let cluster = backend.cluster().await?;
    let Some(failover) = cluster.failover.as_ref().filter(|f| f.scheduled_at.is_some()) else {
        return Ok(Response::text(404, "no switchover is scheduled"));
    };
    Ok(match backend.set_failover("{}".into(), Some(failover.version.clone())).await? {
        true => Response::text(200, "scheduled switchover deleted"),
        false => Response::page(409),
    })
}
