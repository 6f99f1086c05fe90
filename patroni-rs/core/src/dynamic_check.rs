//! What no node can use of a dynamic configuration, before it is stored: every node would drop the whole change, and
//! only their logs would say so.

use pyfmt::Value;

use crate::parse::python_int;

/// Why every node would drop `after`, with the name of the key. None where they would use it, or where `before`, which
/// is stored already, has the same fault: then the change is not what breaks it.
pub fn refusal(before: &Value, after: &Value) -> Option<String> {
    fault(after).filter(|found| fault(before).as_ref() != Some(found))
}

fn fault(document: &Value) -> Option<String> {
    if document.as_map().is_none() {
        return Some(format!("the configuration is {}, not a mapping", document.py_repr()));
    }
    for key in ["ttl", "loop_wait", "retry_timeout"] {
        if let Some(value) = document.get(key).filter(|value| !is_int(value)) {
            return Some(format!("{key} is {}, not a number of seconds", value.py_repr()));
        }
    }
    for path in [&["standby_cluster"][..], &["postgresql"], &["postgresql", "parameters"]] {
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

/// Does Python's `int` take it?
fn is_int(value: &Value) -> bool {
    match value {
        Value::Int(_) | Value::Bool(_) | Value::BigInt(_) => true,
        Value::Float(number) => number.is_finite(),
        Value::Str(text) => python_int(text).is_some(),
        _ => false,
    }
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
