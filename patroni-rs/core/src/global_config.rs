//! The dynamic configuration of the cluster, read with its defaults and
//! coercions (surface-config, section 3).
//!
//! This reads the document of the DCS as it is, not the effective configuration.

use std::sync::Arc;

use pyfmt::{Map, Value};

use crate::model::Cluster;
use crate::parse::{parse_bool, parse_int};
use crate::timing::Timing;

static NULL: Value = Value::Null;

/// A read-only view of a dynamic configuration document. Values that cannot be
/// read count as absent. A clone shares the document.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalConfig(Arc<Value>);

impl Default for GlobalConfig {
    fn default() -> GlobalConfig {
        GlobalConfig(Arc::new(Value::map()))
    }
}

impl GlobalConfig {
    /// A view of `config`; what is not a mapping is empty.
    pub fn new(config: Value) -> GlobalConfig {
        match config {
            Value::Map(_) => GlobalConfig(Arc::new(config)),
            _ => GlobalConfig::default(),
        }
    }

    /// The view after a look at the DCS: `document` is the value of `/config`
    /// if that is valid (a JSON object, at a known version), `default` the
    /// dynamic configuration that the node has in its cache or bootstrap section.
    pub fn from_cluster(document: Option<&Value>, default: &Value) -> GlobalConfig {
        GlobalConfig::new(document.filter(|d| d.as_map().is_some()).unwrap_or(default).clone())
    }

    /// The same with the last known configuration as the default, so that a
    /// wiped DCS changes nothing (surface-config 1.51).
    #[must_use]
    pub fn updated(&self, document: Option<&Value>) -> GlobalConfig {
        GlobalConfig::from_cluster(document, &self.0)
    }

    /// [`updated`](Self::updated) with the `/config` key of `cluster`; garbage in it
    /// changes nothing either: a pause does not end with it.
    #[must_use]
    pub fn updated_from(&self, cluster: &Cluster) -> GlobalConfig {
        self.updated(cluster.config.as_ref().filter(|c| c.is_valid()).map(|c| &c.data))
    }

    /// The document itself.
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    /// The raw value of a key; null when absent.
    pub fn get(&self, name: &str) -> &Value {
        self.0.get(name).unwrap_or(&NULL)
    }

    /// Is the boolean `mode` (`pause`, `failsafe_mode`, `check_timeline`, ...) on?
    pub fn check_mode(&self, mode: &str) -> bool {
        parse_bool(self.get(mode)).unwrap_or(false)
    }

    /// An integer; `base_unit` is that of values with a unit, which without it
    /// are unreadable.
    pub fn get_int(&self, name: &str, default: i64, base_unit: Option<&str>) -> i64 {
        parse_int(self.get(name), base_unit).unwrap_or(default)
    }

    /// Maintenance mode.
    pub fn is_paused(&self) -> bool {
        self.check_mode("pause")
    }

    /// `failsafe_mode`.
    pub fn failsafe_mode(&self) -> bool {
        self.check_mode("failsafe_mode")
    }

    /// `check_timeline`: do replicas on another timeline stay out of the race?
    pub fn check_timeline(&self) -> bool {
        self.check_mode("check_timeline")
    }

    /// Quorum commit is asked for.
    pub fn is_quorum_commit_mode(&self) -> bool {
        self.get("synchronous_mode").py_str().to_lowercase() == "quorum"
    }

    /// Synchronous replication is asked for; never in a standby cluster.
    pub fn is_synchronous_mode(&self) -> bool {
        (self.check_mode("synchronous_mode") || self.is_quorum_commit_mode()) && !self.is_standby_cluster()
    }

    /// Writes must wait even when no synchronous standby is left.
    pub fn is_synchronous_mode_strict(&self) -> bool {
        self.check_mode("synchronous_mode_strict")
    }

    /// The section `standby_cluster`, whatever it is; null when absent.
    pub fn standby_cluster(&self) -> &Value {
        self.get("standby_cluster")
    }

    /// Does the section name a source: a host, a port or a restore_command (surface-ha-pg 14-01)?
    pub fn is_standby_cluster(&self) -> bool {
        let named = |key| self.standby_cluster().get(key).is_some_and(Value::truthy);
        ["host", "port", "restore_command"].into_iter().any(named)
    }

    /// 1 in strict mode, else 0.
    pub fn min_synchronous_nodes(&self) -> i64 {
        i64::from(self.is_synchronous_mode_strict())
    }

    /// Synchronous standbys wanted; 1 by default.
    pub fn synchronous_node_count(&self) -> i64 {
        self.get_int("synchronous_node_count", 1, None).max(self.min_synchronous_nodes())
    }

    /// Bytes; 1 MiB by default. Takes no units.
    pub fn maximum_lag_on_failover(&self) -> i64 {
        self.get_int("maximum_lag_on_failover", 1_048_576, None)
    }

    /// Bytes; -1, no limit, by default. Takes no units.
    pub fn maximum_lag_on_syncnode(&self) -> i64 {
        self.get_int("maximum_lag_on_syncnode", -1, None)
    }

    /// Seconds; 300 by default. Takes no units.
    pub fn primary_start_timeout(&self) -> i64 {
        self.renamed_int("primary_start_timeout", "master_start_timeout", 300)
    }

    /// Seconds; 0, no limit, by default. Takes no units.
    pub fn primary_stop_timeout(&self) -> i64 {
        self.renamed_int("primary_stop_timeout", "master_stop_timeout", 0)
    }

    /// An integer under a key or its legacy name. The new key masks the old one
    /// even when its value is null.
    fn renamed_int(&self, name: &str, legacy: &str, default: i64) -> i64 {
        let name = if self.0.get(name).is_some() { name } else { legacy };
        self.get_int(name, default, None)
    }

    /// `ignore_slots`: patterns of slots that are none of our business.
    pub fn ignore_slots_matchers(&self) -> &[Value] {
        self.get("ignore_slots").as_list().unwrap_or(&[])
    }

    /// Lines kept in `/history`; 0, all of them, by default.
    pub fn max_timelines_history(&self) -> i64 {
        self.get_int("max_timelines_history", 0, None)
    }

    /// Replication slots for members; true when absent, false when unreadable.
    pub fn use_slots(&self) -> bool {
        self.0.at(&["postgresql", "use_slots"]).is_none_or(|v| parse_bool(v).unwrap_or(false))
    }

    /// Permanent slots: the first that is not empty of the key and its two
    /// older names. What is not a mapping is empty.
    pub fn permanent_slots(&self) -> Map {
        ["permanent_replication_slots", "permanent_slots", "slots"]
            .into_iter()
            .map(|key| self.get(key))
            .find(|slots| slots.truthy())
            .and_then(Value::as_map)
            .cloned()
            .unwrap_or_default()
    }

    /// Seconds that a departed member's slot is kept; 1800 by default. The only
    /// number here that takes units.
    pub fn member_slots_ttl(&self) -> i64 {
        self.get_int("member_slots_ttl", 1800, Some("s"))
    }

    fn seconds(&self, key: &str) -> i64 {
        self.get_int(key, Timing::default_seconds(key), None)
    }

    /// Seconds; 30 by default.
    pub fn ttl(&self) -> i64 {
        self.seconds("ttl")
    }

    /// Seconds; 10 by default.
    pub fn loop_wait(&self) -> i64 {
        self.seconds("loop_wait")
    }

    /// Seconds; 10 by default.
    pub fn retry_timeout(&self) -> i64 {
        self.seconds("retry_timeout")
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(json: &str) -> GlobalConfig {
        GlobalConfig::new(pyfmt::json::loads(json).unwrap())
    }

    #[test]
    fn modes() {
        for (json, sync, quorum) in [
            ("{}", false, false),
            (r#"{"synchronous_mode": "on"}"#, true, false),
            (r#"{"synchronous_mode": "Quorum"}"#, true, true),
            (r#"{"synchronous_mode": 2}"#, false, false),
            (r#"{"synchronous_mode": true, "standby_cluster": {"port": 5432}}"#, false, false),
            (
                r#"{"synchronous_mode": true, "standby_cluster": {"port": 0, "primary_slot_name": "x"}}"#,
                true,
                false,
            ),
            (r#"{"synchronous_mode": "quorum", "standby_cluster": "x"}"#, true, true),
        ] {
            let c = config(json);
            assert_eq!((c.is_synchronous_mode(), c.is_quorum_commit_mode()), (sync, quorum), "{json}");
        }
        assert!(!config(r#"{"pause": 2}"#).is_paused());
        assert!(config(r#"{"pause": "yes"}"#).is_paused());
    }

    #[test]
    fn integers() {
        let c = config(
            r#"{"maximum_lag_on_failover": "1MB", "primary_start_timeout": null, "master_start_timeout": 5,
                "master_stop_timeout": "7", "synchronous_node_count": -3, "member_slots_ttl": "30min"}"#,
        );
        assert_eq!(c.maximum_lag_on_failover(), 1_048_576);
        assert_eq!(c.primary_start_timeout(), 300);
        assert_eq!(c.primary_stop_timeout(), 7);
        assert_eq!(c.synchronous_node_count(), 0);
        assert_eq!(c.member_slots_ttl(), 1800);
        let c = config(
            r#"{"synchronous_mode_strict": true, "synchronous_node_count": 0, "member_slots_ttl": "500ms"}"#,
        );
        assert_eq!(c.synchronous_node_count(), 1);
        assert_eq!(c.member_slots_ttl(), 0);
    }

    #[test]
    fn slots() {
        for (json, on) in [
            ("{}", true),
            (r#"{"postgresql": null}"#, true),
            (r#"{"postgresql": {"use_slots": null}}"#, false),
            (r#"{"postgresql": {"use_slots": "x"}}"#, false),
            (r#"{"postgresql": {"use_slots": "on"}}"#, true),
        ] {
            assert_eq!(config(json).use_slots(), on, "{json}");
        }
        let c =
            config(r#"{"permanent_replication_slots": {}, "permanent_slots": null, "slots": {"a": null}}"#);
        assert_eq!(c.permanent_slots().len(), 1);
    }

    #[test]
    fn a_wiped_dcs_changes_nothing() {
        let first = config(r#"{"pause": true}"#);
        assert!(first.updated(None).is_paused());
        assert!(first.updated(Some(&Value::List(vec![]))).is_paused());
        assert!(!first.updated(Some(&Value::map())).is_paused());
    }
}
