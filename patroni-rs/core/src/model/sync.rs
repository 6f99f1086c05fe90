//! `/sync`.

use pyfmt::int::int_clamped;
use pyfmt::{json, Value};

use super::Version;

/// The state of synchronous replication that the last leader has agreed on.
///
/// Names are compared without regard to case, as PostgreSQL compares those in
/// `synchronous_standby_names`; all other names of Patroni are compared as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncState {
    /// Compare-and-set token; None when there is no key.
    pub version: Option<Version>,
    /// The leader that wrote it.
    pub leader: Option<String>,
    /// The standbys' names with commas between them.
    pub sync_standby: Option<String>,
    /// How many votes a candidate needs from other members of the state.
    pub quorum: i64,
}

impl SyncState {
    /// No state, with the version of the key that holds it.
    pub fn empty(version: Option<Version>) -> SyncState {
        SyncState { version, ..SyncState::default() }
    }

    /// Reads the key; garbage is an empty state with the key's version.
    pub fn from_node(version: Option<&str>, text: &str) -> SyncState {
        let data = json::loads(text).unwrap_or_default();
        SyncState::from_value(version.map(str::to_owned), &data)
    }

    /// Reads the document. A `sync_standby` that is not text counts as null (the
    /// reference takes it and fails later).
    pub fn from_value(version: Option<Version>, data: &Value) -> SyncState {
        let leader = data.get("leader").filter(|v| v.truthy()).map(Value::py_str);
        let quorum = match data.get("quorum").filter(|q| leader.is_some() && q.truthy()) {
            None => Some(0),
            Some(quorum) => int_clamped(quorum),
        };
        match quorum {
            Some(quorum) => {
                let sync_standby = data.get("sync_standby").and_then(Value::as_str).map(str::to_owned);
                SyncState { version, leader, sync_standby, quorum }
            }
            None => SyncState::empty(version),
        }
    }

    /// Is there no state (no leader in it)?
    pub fn is_empty(&self) -> bool {
        self.leader.as_deref().is_none_or(str::is_empty)
    }

    /// The standbys.
    pub fn voters(&self) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        names(self.sync_standby.as_deref().unwrap_or_default()).map(str::to_owned).collect()
    }

    /// The leader and the standbys.
    pub fn members(&self) -> Vec<String> {
        let leader = self.leader.iter().filter(|l| !l.is_empty()).cloned();
        leader.chain(self.voters()).collect()
    }

    /// Is `name` among the standbys, or, with `check_leader`, the leader?
    pub fn matches(&self, name: &str, check_leader: bool) -> bool {
        if name.is_empty() || self.is_empty() {
            return false;
        }
        let name = name.to_lowercase();
        let standbys = names(self.sync_standby.as_deref().unwrap_or_default());
        let leader = names(self.leader.as_deref().filter(|_| check_leader).unwrap_or_default());
        standbys.chain(leader).any(|known| known.to_lowercase() == name)
    }

    /// Is `name` the leader of the state?
    pub fn leader_matches(&self, name: &str) -> bool {
        let leader = self.leader.as_deref().unwrap_or_default();
        !name.is_empty() && leader.to_lowercase() == name.to_lowercase()
    }
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The text of `/sync`: the standbys are sorted by code point, and null when there
/// are none.
pub fn sync_state_value<S: AsRef<str>>(leader: &str, standbys: &[S], quorum: i64) -> String {
    let mut sorted: Vec<&str> = standbys.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    let sync_standby = if sorted.is_empty() { Value::Null } else { sorted.join(",").into() };
    json::dumps_compact(&Value::from_iter([
        ("leader", Value::from(leader)),
        ("quorum", quorum.into()),
        ("sync_standby", sync_standby),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sync(text: &str) -> SyncState {
        SyncState::from_node(Some("1"), text)
    }

    #[test]
    fn states() {
        let s = sync(r#"{"leader":"a","sync_standby":"b, c,","quorum":"1"}"#);
        assert_eq!((s.voters(), s.quorum), (vec!["b".into(), "c".into()], 1));
        assert_eq!(s.members(), ["a", "b", "c"]);
        assert_eq!(sync(r#"{"leader":"a","quorum":1.9}"#).quorum, 1);
        assert_eq!(sync(r#"{"leader":"a"}"#).quorum, 0);
        assert_eq!(sync(r#"{"leader":"a","sync_standby":["b"]}"#).voters(), Vec::<String>::new());
        for empty in [
            "",
            "{",
            "[]",
            "null",
            r#"{"leader":"","sync_standby":"b"}"#,
            r#"{"leader":"a","quorum":"x"}"#,
            r#"{"leader":"a","quorum":[1]}"#,
            r#"{"leader":null,"quorum":0,"sync_standby":null}"#,
        ] {
            let s = sync(empty);
            assert!(s.is_empty(), "{empty}");
            assert_eq!(s.version.as_deref(), Some("1"));
            assert!(s.members().is_empty() && !s.matches("b", true) && !s.leader_matches(""), "{empty}");
        }
    }

    #[test]
    fn names_match_in_any_case() {
        let s = sync(r#"{"leader":"foo","sync_standby":"bar,zoo"}"#);
        for (name, check_leader, want) in [
            ("foo", false, false),
            ("fOo", true, true),
            ("Bar", false, true),
            ("zoO", true, true),
            ("baz", true, false),
            ("", true, false),
        ] {
            assert_eq!(s.matches(name, check_leader), want, "{name}");
        }
        assert!(s.leader_matches("FOO"));
        assert!(!s.leader_matches("bar"));
    }

    #[test]
    fn written_form() {
        assert_eq!(
            sync_state_value("n1", &["b", "A"], 1),
            r#"{"leader":"n1","quorum":1,"sync_standby":"A,b"}"#
        );
        assert_eq!(
            sync_state_value::<&str>("n1", &[], 0),
            r#"{"leader":"n1","quorum":0,"sync_standby":null}"#
        );
    }
}
