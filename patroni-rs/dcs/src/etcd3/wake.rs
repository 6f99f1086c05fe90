//! Which changes wake the HA loop (surface-dcs 9).

use std::collections::{HashMap, HashSet};

/// The keys that matter and what was last seen in them.
#[derive(Debug)]
pub struct WakeRules {
    leader: String,
    status: [String; 2],
    config: String,
    name: Vec<u8>,
    seen: HashMap<String, (Vec<u8>, i64)>,
    listed: bool,
}

impl WakeRules {
    /// `prefix` with a slash at the end; `name` is ours.
    pub fn new(prefix: &str, name: &str) -> WakeRules {
        WakeRules {
            leader: format!("{prefix}leader"),
            status: [format!("{prefix}status"), format!("{prefix}optime/leader")],
            config: format!("{prefix}config"),
            name: name.as_bytes().to_vec(),
            seen: HashMap::new(),
            listed: false,
        }
    }

    fn matters(&self, key: &str) -> bool {
        key == self.leader || key == self.config || self.status.iter().any(|s| s == key)
    }

    /// A key was put (`Some`) or deleted at that revision. True: wake the loop.
    ///
    /// A new leader or none wakes; a change of the configuration; and, unless we are the
    /// leader, a change of the status. What is older than what was seen does nothing.
    pub fn changed(&mut self, key: &str, value: Option<&[u8]>, revision: i64) -> bool {
        if !self.matters(key) || self.seen.get(key).is_some_and(|(_, known)| *known >= revision) {
            return false;
        }
        let old = match value {
            Some(value) => self.seen.insert(key.to_owned(), (value.to_vec(), revision)),
            None => self.seen.remove(key),
        };
        let old = old.map(|(value, _)| value);
        self.wakes(key, old.as_deref(), value)
    }

    /// Does it wake the loop that a key that matters had one value and has another now?
    fn wakes(&self, key: &str, old: Option<&[u8]>, new: Option<&[u8]>) -> bool {
        if old == new {
            return false;
        }
        if key == self.leader {
            return true;
        }
        if key == self.config {
            return old.is_some() && new.is_some();
        }
        new.is_some() && self.seen.get(&self.leader).map(|(name, _)| name) != Some(&self.name)
    }

    /// All keys as of now: in their place comes whatever was seen before, also what is newer: the store may have been
    /// restored to an earlier state. True: something that wakes the loop was missed since the last list; never for
    /// the first one.
    pub fn listed(&mut self, keys: &[(String, Vec<u8>, i64)]) -> bool {
        let before = std::mem::take(&mut self.seen);
        let matters = keys.iter().filter(|(key, ..)| self.matters(key));
        self.seen = matters.map(|(key, value, revision)| (key.clone(), (value.clone(), *revision))).collect();
        let value =
            |seen: &HashMap<String, (Vec<u8>, i64)>, key: &str| seen.get(key).map(|(value, _)| value.clone());
        let keys: HashSet<&String> = before.keys().chain(self.seen.keys()).collect();
        let wake = keys.into_iter().any(|key| {
            let (old, new) = (value(&before, key), value(&self.seen, key));
            self.wakes(key, old.as_deref(), new.as_deref())
        });
        let first = !std::mem::replace(&mut self.listed, true);
        wake && !first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wakes() {
        let mut rules = WakeRules::new("/s/b/", "me");
        let mut revision = 10;
        let mut step = |key: &str, value: Option<&str>| {
            revision += 1;
            rules.changed(&format!("/s/b/{key}"), value.map(str::as_bytes), revision)
        };
        for (key, value, wakes) in [
            ("config", Some("{}"), false),
            ("config", Some("{1}"), true),
            ("config", None, false),
            ("leader", Some("other"), true),
            ("leader", Some("other"), false),
            ("status", Some("1"), true),
            ("status", Some("1"), false),
            ("optime/leader", Some("1"), true),
            ("status", None, false),
            ("leader", None, true),
            ("leader", Some("me"), true),
            ("status", Some("2"), false),
            ("sync", Some("2"), false),
            ("failover", Some("2"), false),
            ("members/a", Some("2"), false),
        ] {
            assert_eq!(step(key, value), wakes, "{key} {value:?}");
        }
        assert!(!rules.changed("/s/b/leader", Some(b"old"), 1));
    }

    #[test]
    fn what_a_new_list_shows() {
        let mut rules = WakeRules::new("/s/b/", "me");
        let leader =
            |name: &str, revision| vec![("/s/b/leader".to_owned(), name.as_bytes().to_vec(), revision)];
        assert!(!rules.listed(&leader("a", 5)));
        assert!(!rules.listed(&leader("a", 5)));
        assert!(rules.listed(&leader("b", 9)));
        assert!(rules.listed(&[]));
        assert!(!rules.listed(&[]));
    }

    #[test]
    fn a_store_that_went_back_is_heard() {
        let mut rules = WakeRules::new("/s/b/", "me");
        let list = [("/s/b/leader".to_owned(), b"a".to_vec(), 500)];
        assert!(!rules.listed(&list));
        // Restored: the same leader, at an earlier revision; then another one, still earlier than what was seen.
        let list = [("/s/b/leader".to_owned(), b"a".to_vec(), 40)];
        assert!(!rules.listed(&list));
        assert!(rules.changed("/s/b/leader", Some(b"b"), 42));
        assert!(rules.changed("/s/b/leader", None, 43));
    }
}
