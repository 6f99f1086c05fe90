//! What workers tell the coordinator, and what its own cycles find.

use std::collections::BTreeMap;
use std::time::Duration;

use pyfmt::Value;

use super::{Group, Node, NodeRole, Task, COORDINATOR};
use crate::model::Cluster;

/// What happens to a worker's primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is about to be stopped: its clients are to wait.
    BeforeDemote,
    /// A standby is about to be promoted.
    BeforePromote,
    /// It takes writes.
    AfterPromote,
}

impl EventKind {
    /// As in the body of the request.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::BeforeDemote => "before_demote",
            EventKind::BeforePromote => "before_promote",
            EventKind::AfterPromote => "after_promote",
        }
    }

    fn of(text: &str) -> Option<EventKind> {
        let all = [EventKind::BeforeDemote, EventKind::BeforePromote, EventKind::AfterPromote];
        all.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// The body of `POST /citus`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happens.
    pub kind: EventKind,
    /// To which group.
    pub group: i64,
    /// To which of its members: the one that leads by the DCS.
    pub leader: String,
    /// For how long clients may wait at least before they are let go because others wait.
    pub timeout: Duration,
    /// What Citus is told: after so long it ends those who hold locks on the node.
    pub cooldown: Duration,
}

/// Longer than any switchover: what a wrong body may ask for at most.
const LONGEST: Duration = Duration::from_secs(3600);

impl Event {
    /// Of a body. `Ok(None)`: it says something that nobody knows, and is to be discarded.
    ///
    /// # Errors
    /// A key is missing: in the words of the reference's exception.
    pub fn of(body: &Value) -> Result<Option<Event>, String> {
        let get = |key: &str| body.get(key).ok_or_else(|| format!("KeyError: '{key}'"));
        let (group, leader, kind) = (get("group")?, get("leader")?, get("type")?);
        let seconds = |key: &str| {
            let number = get(key)?.as_f64().filter(|n| n.is_finite() && *n >= 0.0);
            Ok::<_, String>(number.map(|n| Duration::from_secs_f64(n.min(LONGEST.as_secs_f64()))))
        };
        let known = (
            kind.as_str().and_then(EventKind::of),
            group.as_i64(),
            leader.as_str(),
            seconds("timeout")?,
            seconds("cooldown")?,
        );
        let (Some(kind), Some(group), Some(leader), Some(timeout), Some(cooldown)) = known else {
            return Ok(None);
        };
        Ok(Some(Event { kind, group, leader: leader.to_owned(), timeout, cooldown }))
    }

    /// The body.
    pub fn body(&self) -> Value {
        let seconds = |span: Duration| Value::Int(i64::try_from(span.as_secs()).unwrap_or(i64::MAX));
        Value::from_iter([
            ("type", Value::from(self.kind.as_str())),
            ("group", self.group.into()),
            ("leader", self.leader.as_str().into()),
            ("timeout", seconds(self.timeout)),
            ("cooldown", seconds(self.cooldown)),
        ])
    }

    /// What is to be done about it. None: it is to be discarded, because the DCS says otherwise, or it is none of a worker.
    pub fn task(&self, groups: &BTreeMap<i64, Cluster>) -> Option<Task> {
        let worker = groups.get(&self.group).filter(|_| self.group != COORDINATOR)?;
        let leader = worker.leader.as_ref().filter(|leader| leader.name() == self.leader)?;
        let nodes = nodes_of(self.group, self.kind, worker, &self.leader, &leader.member.conn_url()?)?;
        let cooldown = (!self.cooldown.is_zero()).then_some(self.cooldown);
        Some(Task::told(nodes, self.kind, self.timeout, cooldown))
    }
}

/// The rows that a group should have.
fn nodes_of(number: i64, kind: EventKind, cluster: &Cluster, leader: &str, url: &str) -> Option<Group> {
    let role = if kind == EventKind::BeforeDemote { NodeRole::Demoted } else { NodeRole::Primary };
    let mut group = Group::new(number);
    group.add(Node::of_url(url, role)?);
    let standbys =
        cluster.members.iter().filter(|m| m.name != leader && m.is_running() && !m.noloadbalance());
    for node in standbys.filter_map(|m| Node::of_url(&m.conn_url()?, NodeRole::Secondary)) {
        group.add(node);
    }
    Some(group)
}

/// What each cycle of the coordinator's leader wants `pg_dist_node` to say: of its own group, and of every worker whose
/// leader runs as a primary. The others stay as they are. `groups` is what the DCS says; where it does not say anything of
/// the own group it is not believed.
pub fn wanted(groups: &BTreeMap<i64, Cluster>, me: &str, url: &str) -> Vec<Task> {
    let Some(own) = groups.get(&COORDINATOR) else { return Vec::new() };
    let kind = EventKind::AfterPromote;
    let own = nodes_of(COORDINATOR, kind, own, me, url);
    let workers =
        groups.iter().filter(|(number, _)| **number != COORDINATOR).filter_map(|(number, cluster)| {
            let leader = &cluster.leader.as_ref()?.member;
            let leads = leader.is_running() && matches!(leader.role(), "primary" | "master");
            nodes_of(*number, kind, cluster, &leader.name, &leader.conn_url()?).filter(|_| leads)
        });
    own.into_iter().chain(workers).map(|group| Task::found(group, kind)).collect()
}
