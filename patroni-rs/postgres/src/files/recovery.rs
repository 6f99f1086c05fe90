//! Recovery configuration: which parameters a replica gets, and how each
//! version spells them (surface-ha-pg 15.4).

use patroni_core::model::NO_REPLICATION_SLOT;
use patroni_core::parse::parse_bool;
use patroni_core::slots::member_slot_name;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::cimap::Params;
use super::conninfo::{format_dsn, keyword_version, member_conn_kwargs};
use super::guc::{AvailableGucs, GucTable};
use super::text::is_parameter_name;

/// The node to replicate from.
#[derive(Debug, Clone, Copy)]
pub struct Upstream<'a> {
    /// Member name.
    pub name: &'a str,
    /// The member's data in the DCS (`conn_url` or `conn_kwargs`), or for a
    /// remote one what the standby cluster's configuration gives.
    pub data: &'a Value,
    /// The leader of another cluster, that this standby cluster follows.
    pub remote: bool,
}

impl Upstream<'_> {
    fn setting(&self, name: &str) -> Option<&Value> {
        self.data.get(name).filter(|v| v.truthy())
    }

    fn has_address(&self) -> bool {
        self.setting("conn_url").is_some() || self.setting("conn_kwargs").is_some()
    }
}

/// What the connection to the upstream is made of on this side.
#[derive(Debug)]
pub struct Follower<'a> {
    /// Our member name: application name and slot name.
    pub name: &'a str,
    /// Database of the connection.
    pub database: &'a str,
    /// Major version.
    pub major_version: PgVersion,
    /// `postgresql.authentication.replication`.
    pub replication: Option<&'a Value>,
    /// `postgresql.krbsrvname`.
    pub krbsrvname: Option<&'a str>,
    /// Replication slots are in use.
    pub use_slots: bool,
}

/// Connection parameters for streaming from `upstream`; `None` if there is
/// nobody to stream from, or it is ourselves.
fn primary_conninfo(upstream: Option<Upstream<'_>>, us: &Follower<'_>) -> Option<Value> {
    let upstream = upstream.filter(|u| u.has_address() && u.name != us.name)?;
    let mut params = member_conn_kwargs(upstream.data, us.replication);
    params.set("application_name", us.name);
    for (keyword, value) in [
        ("sslmode", "prefer"),
        ("gssencmode", "prefer"),
        ("channel_binding", "prefer"),
        ("sslnegotiation", "postgres"),
    ] {
        if us.major_version.at_least(keyword_version(keyword)) && params.get(keyword).is_none() {
            params.set(keyword, value);
        }
    }
    if let Some(service) = us.krbsrvname.filter(|s| !s.is_empty()) {
        params.set("krbsrvname", service);
    }
    if !params.get("dbname").is_some_and(Value::truthy) {
        params.set("dbname", us.database);
    }
    Some(params)
}

/// Targets that a standby must not have; set to empty so that an included file
/// cannot stop, promote or pause it.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
];

/// Recovery parameters of a standby. `recovery_conf` is the user's section.
pub fn standby_params(
    recovery_conf: Option<&Value>,
    upstream: Option<Upstream<'_>>,
    us: &Follower<'_>,
) -> Params {
    let mut params = Params::from_value(recovery_conf);
    params.retain(|name, _| {
        let name = name.to_lowercase();
        !name.starts_with("recovery_target") && name != "primary_conninfo" && name != "primary_slot_name"
    });
    params.set("standby_mode", "on");
    params.set("recovery_target_timeline", "latest");
    if us.major_version.at_least(PgVersion::V12) {
        for name in TARGETS {
            params.set(name, "");
        }
    }
    if let Some(conninfo) = primary_conninfo(upstream, us) {
        set_upstream(&mut params, conninfo, upstream, us);
    }
    if let Some(upstream) = upstream {
        let delay = upstream.remote.then_some("recovery_min_apply_delay");
        for name in ["restore_command", "archive_cleanup_command"].into_iter().chain(delay) {
            if let Some(value) = upstream.setting(name) {
                params.set(name, value.clone());
            }
        }
    }
    params
}

fn set_upstream(params: &mut Params, mut conninfo: Value, upstream: Option<Upstream<'_>>, us: &Follower<'_>) {
    let remote = upstream.filter(|u| u.remote);
    let without_slot = remote.is_some_and(|u| u.setting(NO_REPLICATION_SLOT).is_some());
    if us.use_slots && us.major_version.at_least(PgVersion::V9_4) && !without_slot {
        let owner = match remote {
            Some(u) => u.setting("primary_slot_name").map(Value::py_str),
            None => Some(us.name.to_owned()),
        };
        if let Some(owner) = owner {
            params.set("primary_slot_name", member_slot_name(&owner));
        }
        // Of several hosts only the one that accepts writes is the leader.
        let several_hosts = conninfo.get("host").is_some_and(|h| h.py_str().contains(','));
        if remote.is_some()
            && several_hosts
            && us.major_version.at_least(keyword_version("target_session_attrs"))
        {
            conninfo.set("target_session_attrs", "read-write");
        }
    }
    params.set("primary_conninfo", conninfo);
}

/// Name of the promote trigger file's parameter, and the one of other versions.
pub fn trigger_file_names(major_version: PgVersion) -> (&'static str, &'static str) {
    if major_version.at_least(PgVersion::V12) {
        ("promote_trigger_file", "trigger_file")
    } else {
        ("trigger_file", "promote_trigger_file")
    }
}

/// Spells what to do at the recovery target as the version does: 9.5 replaced
/// `pause_at_recovery_target` by `recovery_target_action`.
pub fn translate_target_action(params: &mut Params, major_version: PgVersion) {
    let old = params.get("pause_at_recovery_target").cloned();
    let new = params.get("recovery_target_action").cloned();
    if major_version.at_least(PgVersion::V9_5) {
        params.remove("pause_at_recovery_target");
        if let Some(pause) = old.as_ref().and_then(parse_bool) {
            params.set_default("recovery_target_action", if pause { "pause" } else { "promote" });
        }
    } else {
        params.remove("recovery_target_action");
        if new.is_some_and(|action| action.py_str().to_lowercase() == "promote") {
            params.set_default("pause_at_recovery_target", "false");
        }
    }
}

/// Names and values to write, sorted; the ones that this version does not take
/// are logged and left out.
pub fn rendered(
    params: &Params,
    major_version: PgVersion,
    available: &AvailableGucs,
) -> Vec<(String, Value)> {
    let table = GucTable::builtin();
    let value = |name: &str, value: &Value| match value {
        conninfo @ Value::Map(_) if name == "primary_conninfo" => {
            Some(format_dsn(conninfo, major_version).into())
        }
        value if name == "primary_conninfo" => Some(value.clone()),
        value => table.transform_recovery(major_version, name, value, available).logged(),
    };
    let known = params.sorted().into_iter().filter(|(name, _)| is_parameter_name(name));
    known.filter_map(|(n, v)| Some((n.to_owned(), value(n, v)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_actions_by_version() {
        let text = |params: &Params| params.to_value().py_repr();
        for (name, value, version, expected) in [
            ("pause_at_recovery_target", "off", PgVersion::V9_5, "{'recovery_target_action': 'promote'}"),
            ("pause_at_recovery_target", "on", PgVersion::V15, "{'recovery_target_action': 'pause'}"),
            ("recovery_target_action", "PROMOTE", PgVersion::V9_4, "{'pause_at_recovery_target': 'false'}"),
            ("recovery_target_action", "pause", PgVersion::V9_4, "{}"),
        ] {
            let mut params = Params::new();
            params.set(name, value);
            translate_target_action(&mut params, version);
            assert_eq!(text(&params), expected);
        }
    }

    #[test]
    fn a_standby_leader_of_several_hosts() {
        let data: Value = [
            ("conn_kwargs", [("host", Value::from("a,b")), ("port", "5432".into())].into_iter().collect()),
            ("primary_slot_name", Value::from("my-slot")),
            ("recovery_min_apply_delay", "5min".into()),
            ("restore_command", "cp".into()),
        ]
        .into_iter()
        .collect();
        let upstream = Upstream { name: "remote_member:1", data: &data, remote: true };
        let us = Follower {
            name: "n1",
            database: "postgres",
            major_version: PgVersion::V11,
            replication: None,
            krbsrvname: None,
            use_slots: true,
        };
        let params = standby_params(None, Some(upstream), &us);
        assert_eq!(
            params.to_value().py_repr(),
            "{'standby_mode': 'on', 'recovery_target_timeline': 'latest', 'primary_slot_name': 'my_slot', \
             'primary_conninfo': {'host': 'a,b', 'port': '5432', 'dbname': 'postgres', 'application_name': 'n1', \
             'sslmode': 'prefer', 'target_session_attrs': 'read-write'}, 'restore_command': 'cp', \
             'recovery_min_apply_delay': '5min'}"
        );
    }
}
