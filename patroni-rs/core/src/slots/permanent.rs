//! Permanent slots: those that the configuration asks for (18-05).

use indexmap::IndexMap;
use pyfmt::{Map, Value};

use super::names::member_slot_name;
use crate::global_config::GlobalConfig;
use crate::model::{Cluster, Lsn};

/// Does this value configure a logical slot? It needs a database and a plugin.
pub fn is_logical(value: &Value) -> bool {
    let of_type = value.get("type").is_none_or(|t| *t == Value::from("logical"));
    let has = |key| value.get(key).is_some_and(Value::truthy);
    matches!(value, Value::Map(_)) && of_type && has("database") && has("plugin")
}

/// Does this value configure a physical slot? Nothing at all does.
pub fn is_physical(value: &Value) -> bool {
    if !value.truthy() {
        return true;
    }
    let of_type = value.get("type").is_none_or(|t| *t == Value::from("physical"));
    matches!(value, Value::Map(_)) && !is_logical(value) && of_type
}

/// The configured slots, each with the position up to which it may advance: by
/// `/status`, for a physical one also by the member of its name that
/// replicates from another.
pub(super) fn configured(cluster: &Cluster, config: &GlobalConfig) -> Map {
    let members: IndexMap<String, Lsn> = cluster
        .members
        .iter()
        .filter(|m| m.replicatefrom().is_some())
        .map(|m| (member_slot_name(&m.name), m.lsn().unwrap_or_default()))
        .collect();
    let mut slots = config.permanent_slots();
    for (name, value) in &mut slots {
        if !value.truthy() {
            *value = Value::map();
        }
        if value.as_map().is_none() {
            continue;
        }
        let name = name.py_str();
        let own =
            if is_physical(value) { members.get(&name).copied().unwrap_or_default() } else { Lsn::ZERO };
        match own.max(status_lsn(cluster, &name)) {
            // A position in the configuration is not to be believed.
            Lsn::ZERO => drop(value.remove("lsn")),
            lsn => value.set("lsn", lsn),
        }
    }
    slots
}

/// The position of a slot in `/status`, or 0.
pub(super) fn status_lsn(cluster: &Cluster, name: &str) -> Lsn {
    cluster.status.slots.as_ref().and_then(|s| s.get(name)).copied().unwrap_or_default()
}

/// The physical ones among them that are meant for this kind of cluster.
pub fn permanent_physical_slots(cluster: &Cluster, config: &GlobalConfig) -> Map {
    let excluded = Value::from(if config.is_standby_cluster() { "primary" } else { "standby" });
    let mut slots = configured(cluster, config);
    slots.retain(|_, value| is_physical(value) && value.get("cluster_type") != Some(&excluded));
    slots
}

/// The logical ones among them.
pub(super) fn permanent_logical_slots(cluster: &Cluster, config: &GlobalConfig) -> Map {
    let mut slots = configured(cluster, config);
    slots.retain(|_, value| is_logical(value));
    slots
}
