//! The slots that a node is to have (18-03, 18-05, surface-dcs 5).

use indexmap::IndexMap;
use pyfmt::{Map, Value};

use super::line;
use super::names::{member_slot_name, valid_slot_name};
use super::permanent::{
    configured, is_logical, permanent_logical_slots, permanent_physical_slots, status_lsn,
};
use super::topology::slot_name_on_primary;
use crate::global_config::GlobalConfig;
use crate::ha::{Level, LogLine, Role};
use crate::model::{Cluster, Lsn, Member};
use crate::tags::Tags;
use crate::PgVersion;

/// The node that has the slots.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Node<'a> {
    pub name: &'a str,
    pub tags: &'a Tags,
    pub role: Role,
    /// Of the server.
    pub major_version: PgVersion,
}

impl Node<'_> {
    /// Has the server `pg_replication_slot_advance()`? (PostgreSQL 11)
    pub fn can_advance_slots(&self) -> bool {
        self.major_version.at_least(PgVersion::V11)
    }

    /// The node as the subject of its own slots.
    pub fn subject(&self) -> Subject {
        Subject {
            name: self.name.to_owned(),
            nofailover: self.tags.nofailover(),
            nostream: self.tags.nostream(),
            replicatefrom: self.tags.replicatefrom().map(str::to_owned),
        }
    }

    fn leads(&self) -> bool {
        matches!(self.role, Role::Primary | Role::StandbyLeader)
    }
}

/// Whose slots are looked at: the node itself, or a member below it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Subject {
    pub name: String,
    pub nofailover: bool,
    pub nostream: bool,
    pub replicatefrom: Option<String>,
}

impl Subject {
    /// A member, by its published tags.
    pub fn member(member: &Member) -> Subject {
        Subject {
            name: member.name.clone(),
            nofailover: member.nofailover(),
            nostream: member.nostream(),
            replicatefrom: member.replicatefrom().map(str::to_owned),
        }
    }
}

/// What kind of slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SlotKind {
    Physical,
    Logical { database: String, plugin: String },
}

/// A slot that should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredSlot {
    /// Physical or logical.
    pub kind: SlotKind,
    /// The position up to which it may be advanced.
    pub lsn: Option<Lsn>,
    /// Should somebody be connected to it? `None`: nobody knows.
    pub expected_active: Option<bool>,
    /// All of it as a mapping, for logs.
    pub shown: Value,
}

/// Slots by name, in order.
pub type Desired = IndexMap<String, DesiredSlot>;

impl DesiredSlot {
    fn physical(shown: Value) -> DesiredSlot {
        let lsn = shown.get("lsn").and_then(Value::as_i64).and_then(Lsn::from_number);
        let expected_active = shown.get("expected_active").and_then(Value::as_bool);
        DesiredSlot { kind: SlotKind::Physical, lsn, expected_active, shown }
    }

    fn logical(shown: Value) -> DesiredSlot {
        let text = |key| shown.get(key).map(Value::py_str).unwrap_or_default();
        let kind = SlotKind::Logical { database: text("database"), plugin: text("plugin") };
        DesiredSlot { kind, ..DesiredSlot::physical(shown) }
    }
}

/// The slots that `subject` is to have, and what is to be said about them.
///
/// For the node itself, `subject` is [`Node::subject`].
pub fn desired_slots(
    cluster: &Cluster,
    config: &GlobalConfig,
    node: &Node<'_>,
    subject: &Subject,
) -> (Desired, Vec<LogLine>) {
    let mut log = Vec::new();
    let mut slots = members_slots(cluster, config, node, subject, &mut log);
    let permanent = permanent_for(cluster, config, node, subject);
    merge_permanent(cluster, &mut slots, &permanent, node, subject, &mut log);
    (slots, log)
}

/// Slots for members, present and recently absent.
pub(super) fn members_slots(
    cluster: &Cluster,
    config: &GlobalConfig,
    node: &Node<'_>,
    subject: &Subject,
    log: &mut Vec<LogLine>,
) -> Desired {
    if !config.use_slots() {
        return Desired::new();
    }
    let name = subject.name.as_str();
    let replicates_from_us = |m: &Member| m.replicatefrom() == Some(name);
    let expected_active = |m: &Member| {
        if node.leads() {
            m.replicatefrom().is_none_or(|r| r == name || !cluster.has_member(r))
        } else {
            replicates_from_us(m) && Some(m.name.as_str()) != cluster.leader_name()
        }
    };
    let retains = node.can_advance_slots() && config.member_slots_ttl() > 0;
    let has_slot = |m: &&Member| {
        let wanted = if retains { !subject.nofailover || replicates_from_us(m) } else { expected_active(m) };
        m.name != name && !m.nostream() && wanted
    };
    let members: Vec<&Member> = cluster.members.iter().filter(has_slot).collect();
    let leader_version = cluster.leader.as_ref().and_then(|l| l.member.patroni_version());
    let old_leader = leader_version.is_some_and(|v| !v.is_empty() && v < vec![4, 0, 0]);
    let mut slots = Desired::new();
    for member in &members {
        let slot_name = member_slot_name(&member.name);
        let mut lsn = status_lsn(cluster, &slot_name);
        // The leader's slot for a member that streams from elsewhere stands still.
        if member.replicatefrom().is_some() || old_leader {
            lsn = lsn.max(member.lsn().unwrap_or_default());
        }
        let mut shown: Value = [("type", "physical")].into_iter().collect();
        shown.set("lsn", lsn);
        shown.set("expected_active", expected_active(member));
        slots.insert(slot_name, DesiredSlot::physical(shown));
    }
    let own = member_slot_name(name);
    for absent in cluster.status.retain_slots.iter().filter(|s| !subject.nofailover && **s != own) {
        let slot = || DesiredSlot::physical([("type", "physical")].into_iter().collect());
        slots.entry(absent.clone()).or_insert_with(slot);
    }
    if slots.len() < members.len() {
        log.push(line(Level::Error, conflicts(&members)));
    }
    slots
}

fn conflicts(members: &[&Member]) -> String {
    let mut by_slot: IndexMap<String, Vec<&str>> = IndexMap::new();
    for member in members {
        by_slot.entry(member_slot_name(&member.name)).or_default().push(&member.name);
    }
    let shared = by_slot.iter().filter(|(_, names)| names.len() > 1);
    let texts: Vec<String> =
        shared.map(|(slot, names)| format!("{} map to {slot}", names.join(", "))).collect();
    format!("Following cluster members share a replication slot name: {}", texts.join("; "))
}

/// The permanent slots that are meant for this node.
pub(super) fn permanent_for(
    cluster: &Cluster,
    config: &GlobalConfig,
    node: &Node<'_>,
    subject: &Subject,
) -> Map {
    if !config.use_slots() || subject.nofailover {
        return Map::new();
    }
    // Without streaming there is no feedback that would make logical slots safe.
    let physical_only =
        config.is_standby_cluster() || slot_name_on_primary(cluster, node.name, subject).is_none();
    let advance = node.can_advance_slots();
    match (physical_only, node.role) {
        (true, Role::StandbyLeader) => permanent_physical_slots(cluster, config),
        (true, _) if advance => permanent_physical_slots(cluster, config),
        (true, _) => Map::new(),
        (false, Role::Primary) => configured(cluster, config),
        (false, _) if advance => configured(cluster, config),
        // Only to be told that they are not supported.
        (false, _) => permanent_logical_slots(cluster, config),
    }
}

/// Adds the permanent slots to those of the members.
pub(super) fn merge_permanent(
    cluster: &Cluster,
    slots: &mut Desired,
    permanent: &Map,
    node: &Node<'_>,
    subject: &Subject,
    log: &mut Vec<LogLine>,
) {
    let own = member_slot_name(&subject.name);
    let mut disabled = Vec::new();
    for (slot_name, configured) in permanent {
        let slot_name = slot_name.py_str();
        if !valid_slot_name(&slot_name) {
            let hint = "Slot name may only contain lower case letters, numbers, and the underscore chars";
            log.push(line(Level::Error, format!("Invalid permanent replication slot name '{slot_name}'")));
            log.push(line(Level::Error, hint.to_owned()));
            continue;
        }
        let Some(value) = typed(configured) else {
            log.push(bad_value(&slot_name, configured));
            continue;
        };
        if value.get("type") == Some(&Value::from("physical")) {
            if slot_name != own && !slots.contains_key(&slot_name) {
                let mut shown = value;
                shown.set("expected_active", node.leads() && !cascades(cluster, &slot_name));
                slots.insert(slot_name, DesiredSlot::physical(shown));
            }
        } else if !is_logical(&value) {
            log.push(bad_value(&slot_name, configured));
        } else if !node.can_advance_slots() {
            disabled.push(Value::from(slot_name));
        } else if slots.contains_key(&slot_name) {
            log.push(line(
                Level::Error,
                format!(
                    "Permanent logical replication slot {{'{slot_name}': {value}}} is conflicting with physical \
                     replication slot for cluster member"
                ),
            ));
        } else {
            slots.insert(slot_name, DesiredSlot::logical(value));
        }
    }
    if !disabled.is_empty() {
        let text =
            "Permanent logical replication slots supported by Patroni only starting from PostgreSQL 11. \
                    Following slots will not be created";
        log.push(line(Level::Error, format!("{text}: {}.", Value::List(disabled))));
    }
}

/// The value with its type spelled out; `None` if it is no mapping.
fn typed(configured: &Value) -> Option<Value> {
    if !configured.truthy() {
        return Some([("type", "physical")].into_iter().collect());
    }
    let mut value = configured.clone();
    value.as_map()?;
    if value.get("type").is_none() {
        let has = |key| value.get(key).is_some_and(Value::truthy);
        let slot_type = if has("database") && has("plugin") { "logical" } else { "physical" };
        value.set("type", slot_type);
    }
    Some(value)
}

/// Does a slot of this name belong to a member that replicates from another?
fn cascades(cluster: &Cluster, slot_name: &str) -> bool {
    // Of members that share the name, the last one counts.
    let member = cluster.members.iter().rev().find(|m| member_slot_name(&m.name) == slot_name);
    member.is_some_and(|m| m.replicatefrom().is_some())
}

fn bad_value(name: &str, value: &Value) -> LogLine {
    line(Level::Error, format!("Bad value for slot '{name}' in permanent_slots: {value}"))
}

#[cfg(test)]
mod tests;
