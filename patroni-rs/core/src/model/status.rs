//! `/status`, and `/optime/leader` from before 2.1.0.

use indexmap::IndexMap;
use pyfmt::int::int_clamped;
use pyfmt::{json, Value};

use super::Lsn;
use crate::parse::parse_int;

/// What the leader publishes about its WAL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The leader's last published position.
    pub last_lsn: Lsn,
    /// Replication slots and their positions; 0 where the position makes no sense.
    pub slots: Option<IndexMap<String, Lsn>>,
    /// Physical slots of members to keep for a while when the member is gone.
    pub retain_slots: Vec<String>,
}

impl Status {
    /// Reads the key: a JSON document, or the legacy bare number.
    pub fn from_node(text: &str) -> Status {
        json::loads(text).map(|data| Status::from_value(&data)).unwrap_or_default()
    }

    /// Reads the document; its fields may be JSON texts themselves, as they are in
    /// Kubernetes annotations.
    pub fn from_value(data: &Value) -> Status {
        if let Value::Int(_) | Value::Bool(_) | Value::BigInt(_) = data {
            return Status { last_lsn: lsn(int_clamped(data)), ..Status::default() };
        }
        let field = |key: &str| match data.get(key) {
            Some(Value::Str(text)) => json::loads(text).ok(),
            other => other.cloned(),
        };
        let slots = match field("slots") {
            Some(Value::Map(slots)) => {
                Some(slots.iter().map(|(name, at)| (name.py_str(), lsn(parse_int(at, None)))).collect())
            }
            _ => None,
        };
        let retain_slots = match field("retain_slots") {
            Some(Value::List(names)) => names.iter().map(Value::py_str).collect(),
            _ => Vec::new(),
        };
        Status { last_lsn: lsn(data.get("optime").and_then(int_clamped)), slots, retain_slots }
    }

    /// Does it say nothing?
    pub fn is_empty(&self) -> bool {
        *self == Status::default()
    }
}

fn lsn(number: Option<i64>) -> Lsn {
    number.and_then(Lsn::from_number).unwrap_or_default()
}

/// The text of `/status`; slots and names only where there are any.
pub fn status_value(status: &Status) -> String {
    let mut value = Value::from_iter([("optime", status.last_lsn)]);
    if let Some(slots) = status.slots.as_ref().filter(|slots| !slots.is_empty()) {
        value.set("slots", slots.iter().map(|(name, at)| (name.as_str(), *at)).collect::<Value>());
    }
    if !status.retain_slots.is_empty() {
        let names = status.retain_slots.iter().map(|name| Value::from(name.as_str()));
        value.set("retain_slots", names.collect::<Vec<_>>());
    }
    json::dumps_compact(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(last_lsn: u64, slots: &[(&str, u64)], retain: &[&str]) -> Status {
        let slots: IndexMap<_, _> = slots.iter().map(|(k, v)| ((*k).to_owned(), Lsn::new(*v))).collect();
        Status {
            last_lsn: Lsn::new(last_lsn),
            slots: Some(slots).filter(|s| !s.is_empty()),
            retain_slots: retain.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    #[test]
    fn reads_every_form() {
        for (text, want) in [
            ("123", status(123, &[], &[])),
            ("\"123\"", Status::default()),
            ("1.5", Status::default()),
            (" 42 ", status(42, &[], &[])),
            ("-1", Status::default()),
            ("{", Status::default()),
            ("", Status::default()),
            (r#"{"optime":"5"}"#, status(5, &[], &[])),
            (r#"{"optime":"5.9"}"#, Status::default()),
            (
                r#"{"optime":5.9,"slots":"{\"a\":1}","retain_slots":"[\"x\"]"}"#,
                status(5, &[("a", 1)], &["x"]),
            ),
            (r#"{"slots":{"a":"7","b":null}}"#, status(0, &[("a", 7), ("b", 0)], &[])),
            (r#"{"slots":[]}"#, Status::default()),
            (r#"{"retain_slots":{"x":1}}"#, Status::default()),
        ] {
            assert_eq!(Status::from_node(text), want, "{text}");
        }
        assert_eq!(Status::from_node(r#"{"slots":{}}"#).slots, Some(IndexMap::new()));
    }

    #[test]
    fn written_form() {
        for (s, want) in [
            (
                status(67108864, &[("n1", 67108864), ("n2", 1)], &["n1", "n2"]),
                r#"{"optime":67108864,"slots":{"n1":67108864,"n2":1},"retain_slots":["n1","n2"]}"#,
            ),
            (status(1, &[], &[]), r#"{"optime":1}"#),
        ] {
            assert_eq!(status_value(&s), want);
            assert_eq!(Status::from_node(want), s);
        }
    }
}
