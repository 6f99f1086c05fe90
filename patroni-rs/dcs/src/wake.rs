//! Which changes wake the HA loop (surface-dcs 9).

use std::collections::{HashMap, HashSet};

/// What was last seen in the keys that matter, by their names below the cluster's directory.
#[derive(Debug)]
pub struct WakeRules {
    name: String,
    seen: HashMap<String, (String, i64)>,
    listed: bool,
    lost: bool,
}

const LEADER: &str = "leader";
const CONFIG: &str = "config";
const STATUS: [&str; 2] = ["status", "optime/leader"];

fn matters(key: &str) -> bool {
    key == LEADER || key == CONFIG || STATUS.contains(&key)
}

impl WakeRules {
    /// `name` is ours.
    pub fn new(name: &str) -> WakeRules {
        WakeRules { name: name.to_owned(), seen: HashMap::new(), listed: false, lost: false }
    }

    /// A key was put (`Some`) or deleted at that place in the order of its changes. True: wake the loop.
    ///
    /// A new leader or none wakes; a change of the configuration; and, unless we are the
    /// leader, a change of the status. What is older than what was seen does nothing.
    pub fn changed(&mut self, key: &str, value: Option<&str>, order: i64) -> bool {
        if !matters(key) || self.seen.get(key).is_some_and(|(_, known)| *known >= order) {
            return false;
        }
        let old = match value {
            Some(value) => self.seen.insert(key.to_owned(), (value.to_owned(), order)),
            None => self.seen.remove(key),
        };
        let old = old.map(|(value, _)| value);
        self.lost |= self.loses(key, old.as_deref(), value);
        self.wakes(key, old.as_deref(), value)
    }

    /// Does it wake the loop that a key that matters had one value and has another now?
    fn wakes(&self, key: &str, old: Option<&str>, new: Option<&str>) -> bool {
        if old == new {
            return false;
        }
        if key == LEADER {
            return true;
        }
        if key == CONFIG {
            return old.is_some() && new.is_some();
        }
        new.is_some() && self.seen.get(LEADER).map(|(name, _)| name) != Some(&self.name)
    }

    /// Does it take the lock from us? (We may have given it up ourselves.)
    fn loses(&self, key: &str, old: Option<&str>, new: Option<&str>) -> bool {
        let ours = Some(self.name.as_str());
        key == LEADER && old == ours && new != ours
    }

    /// Has the leader key been ours, and was not any more, since this was asked last?
    pub fn lost_lock(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// All keys as of now, each with its place in the order: in their stead comes whatever was seen before, also what is
    /// newer: the store may have been restored to an earlier state. True: something that wakes the loop was missed since
    /// the last list; never for the first one.
    pub fn listed(&mut self, keys: &[(String, String, i64)]) -> bool {
        let before = std::mem::take(&mut self.seen);
        let matter = keys.iter().filter(|(key, ..)| matters(key));
        self.seen = matter.map(|(key, value, order)| (key.clone(), (value.clone(), *order))).collect();
        let value = |seen: &HashMap<String, (String, i64)>, key: &str| seen.get(key).map(|(v, _)| v.clone());
        self.lost |=
            self.loses(LEADER, value(&before, LEADER).as_deref(), value(&self.seen, LEADER).as_deref());
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
        let mut rules = WakeRules::new("me");
        let mut revision = 10;
        let mut step = |key: &str, value: Option<&str>| {
            revision += 1;
            rules.changed(key, value, revision)
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
        assert!(!rules.changed("leader", Some("old"), 1));
    }

    #[test]
    fn what_a_new_list_shows() {
        let mut rules = WakeRules::new("me");
        let leader = |name: &str, revision| vec![("leader".to_owned(), name.to_owned(), revision)];
        assert!(!rules.listed(&leader("a", 5)));
        assert!(!rules.listed(&leader("a", 5)));
        assert!(rules.listed(&leader("b", 9)));
        assert!(rules.listed(&[]));
        assert!(!rules.listed(&[]));
    }

    #[test]
    fn what_takes_the_lock_from_us() {
        let mut rules = WakeRules::new("me");
        for (order, key, value, lost) in [
            (1, "leader", Some("other"), false),
            (2, "leader", None, false),
            (3, "leader", Some("me"), false),
            (4, "leader", Some("me"), false),
            (5, "config", Some("{}"), false),
            (6, "leader", None, true),
            (7, "leader", Some("me"), false),
            // Of before.
            (5, "leader", None, false),
            (8, "leader", Some("other"), true),
            (9, "leader", Some("me"), false),
        ] {
            rules.changed(key, value, order);
            assert_eq!(rules.lost_lock(), lost, "{order}");
        }
        // A watch that was opened again.
        rules.listed(&[("leader".to_owned(), "me".to_owned(), 9)]);
        assert!(!rules.lost_lock());
        rules.listed(&[]);
        assert!(rules.lost_lock() && !rules.lost_lock());
    }

    #[test]
    fn a_store_that_went_back_is_heard() {
        let mut rules = WakeRules::new("me");
        let list = [("leader".to_owned(), "a".to_owned(), 500)];
        assert!(!rules.listed(&list));
        // Restored: the same leader, at an earlier revision; then another one, still earlier than what was seen.
        let list = [("leader".to_owned(), "a".to_owned(), 40)];
        assert!(!rules.listed(&list));
        assert!(rules.changed("leader", Some("b"), 42));
        assert!(rules.changed("leader", None, 43));
    }
}
