//! What no node can use of a dynamic configuration, before it is stored: every node would drop the whole change, and
//! only their logs would say so; or would take a default without a word, which may be less than what is in force.

use pyfmt::Value;

use crate::parse::{parse_bool, parse_int};
use crate::timing::Timing;

/// What holds keys of its own.
const MAPPINGS: [&[&str]; 7] = [
    &["standby_cluster"],
    &["postgresql"],
    &["postgresql", "parameters"],
    &["postgresql", "recovery_conf"],
    &["slots"],
    &["permanent_slots"],
    &["permanent_replication_slots"],
];
/// What is not read as something else than what it says: a switch that is neither on nor off would be off.
const SWITCHES: [&str; 4] =
    ["synchronous_mode", "synchronous_mode_strict", "failsafe_mode", "check_timeline"];
/// Numbers that protect less where the default is taken.
const NUMBERS: [&str; 2] = ["maximum_lag_on_syncnode", "synchronous_node_count"];

/// Why no node would use `after` as it is, with the name of the key. None where they would use it, or where `before`, which
/// is stored already, has the same fault: then the change is not what breaks it.
pub fn refusal(before: &Value, after: &Value) -> Option<String> {
    fault(after).filter(|found| fault(before).as_ref() != Some(found))
}

fn fault(document: &Value) -> Option<String> {
    if document.as_map().is_none() {
        return Some(format!("the configuration is {}, not a mapping", document.py_repr()));
    }
    for (key, _) in Timing::KEYS {
        if let Some(value) = document.get(key).filter(|value| pyfmt::int::int(value).is_err()) {
            return Some(format!("{key} is {}, not a number of seconds", value.py_repr()));
        }
    }
    for key in SWITCHES {
        let quorum = |value: &Value| key == "synchronous_mode" && value.py_str().to_lowercase() == "quorum";
        let wrong = |value: &&Value| value.truthy() && parse_bool(value).is_none() && !quorum(value);
        if let Some(value) = document.get(key).filter(wrong) {
            return Some(format!("{key} is {}, neither on nor off", value.py_repr()));
        }
    }
    for key in NUMBERS {
        let wrong = |value: &&Value| value.truthy() && parse_int(value, None).is_none();
        if let Some(value) = document.get(key).filter(wrong) {
            return Some(format!("{key} is {}, not a number", value.py_repr()));
        }
    }
    // Without its list of what is others', the node would drop their slots.
    if let Some(value) = document.get("ignore_slots").filter(|v| v.truthy() && v.as_list().is_none()) {
        return Some(format!("ignore_slots is {}, not a list", value.py_repr()));
    }
    for path in MAPPINGS {
        let wrong = document.at(path).filter(|value| value.truthy() && value.as_map().is_none());
        if let Some(value) = wrong {
            return Some(format!("{} is {}, not a mapping", path.join("."), value.py_repr()));
        }
    }
    for key in ["pg_hba", "pg_ident"] {
        let lines = |value: &&Value| value.as_list().is_some() || value.as_str().is_some();
        let wrong = document.at(&["postgresql", key]).filter(|value| value.truthy() && !lines(value));
        if let Some(value) = wrong {
            return Some(format!("postgresql.{key} is {}, not a list of lines", value.py_repr()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let value = |text: &str| pyfmt::json::loads(text).unwrap();
        let good = value(r#"{"ttl": 30}"#);
        for (after, expected) in [
            (r#"{"ttl": "abc"}"#, Some("ttl is 'abc', not a number of seconds")),
            (r#"{"ttl": null}"#, Some("ttl is None, not a number of seconds")),
            (r#"{"loop_wait": {}}"#, Some("loop_wait is {}, not a number of seconds")),
            (r#"{"retry_timeout": [1]}"#, Some("retry_timeout is [1], not a number of seconds")),
            (r#"{"ttl": "30s"}"#, Some("ttl is '30s', not a number of seconds")),
            (r#"{"postgresql": "x"}"#, Some("postgresql is 'x', not a mapping")),
            (r#"{"postgresql": {"parameters": [1]}}"#, Some("postgresql.parameters is [1], not a mapping")),
            (r#"{"standby_cluster": 1}"#, Some("standby_cluster is 1, not a mapping")),
            (r#"{"postgresql": {"pg_hba": 5}}"#, Some("postgresql.pg_hba is 5, not a list of lines")),
            (
                r#"{"postgresql": {"recovery_conf": "restore_command"}}"#,
                Some("postgresql.recovery_conf is 'restore_command', not a mapping"),
            ),
            (r#"{"slots": ["a"]}"#, Some("slots is ['a'], not a mapping")),
            (r#"{"ignore_slots": {"name": "a"}}"#, Some("ignore_slots is {'name': 'a'}, not a list")),
            (r#"{"synchronous_mode": "quorun"}"#, Some("synchronous_mode is 'quorun', neither on nor off")),
            (r#"{"failsafe_mode": "enabled"}"#, Some("failsafe_mode is 'enabled', neither on nor off")),
            (r#"{"check_timeline": 2}"#, Some("check_timeline is 2, neither on nor off")),
            (
                r#"{"maximum_lag_on_syncnode": "1 MBit"}"#,
                Some("maximum_lag_on_syncnode is '1 MBit', not a number"),
            ),
            (r#"{"synchronous_node_count": [2]}"#, Some("synchronous_node_count is [2], not a number")),
            (r#"{"synchronous_mode": "Quorum", "synchronous_mode_strict": "on", "failsafe_mode": 1}"#, None),
            (r#"{"maximum_lag_on_failover": "1MB", "member_slots_ttl": "30min", "slots": null}"#, None),
            (r#"{"synchronous_mode": "", "synchronous_node_count": "2", "ignore_slots": []}"#, None),
            ("[]", Some("the configuration is [], not a mapping")),
            (r#"{"ttl": "30", "loop_wait": 9.5, "retry_timeout": true}"#, None),
            (r#"{"postgresql": null, "standby_cluster": {}, "pause": "x"}"#, None),
            (r#"{"postgresql": {"pg_hba": "local all all peer", "parameters": null}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(refusal(&good, &value(after)).as_deref(), expected, "{after}");
        }
        // A pause must be possible whatever is stored.
        let bad = value(r#"{"ttl": "abc"}"#);
        assert_eq!(refusal(&bad, &value(r#"{"ttl": "abc", "pause": true}"#)), None);
        assert!(refusal(&bad, &value(r#"{"ttl": "abd"}"#)).is_some());
    }
}
