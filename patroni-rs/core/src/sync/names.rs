//! A set of member names that ignores case, because PostgreSQL does so when it
//! compares `application_name` with `synchronous_standby_names`.

use std::fmt;

use crate::PgVersion;
use indexmap::IndexMap;
use pyfmt::value::str_repr;

/// Names in the order they came, each in the spelling it had last.
#[derive(Debug, Clone, Default)]
pub struct NameSet {
    by_lower: IndexMap<String, String>,
}

impl NameSet {
    /// The empty set.
    pub fn new() -> NameSet {
        NameSet::default()
    }

    /// Adds a name; a known one keeps its place and takes the new spelling.
    pub fn insert(&mut self, name: &str) {
        self.by_lower.insert(name.to_lowercase(), name.to_owned());
    }

    /// Takes a name out.
    pub fn remove(&mut self, name: &str) {
        self.by_lower.shift_remove(&name.to_lowercase());
    }

    /// Is it in?
    pub fn contains(&self, name: &str) -> bool {
        self.by_lower.contains_key(&name.to_lowercase())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_lower.len()
    }

    /// None at all?
    pub fn is_empty(&self) -> bool {
        self.by_lower.is_empty()
    }

    /// In order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.by_lower.values().map(String::as_str)
    }

    /// By code point, so that capitals come first.
    pub fn sorted(&self) -> Vec<String> {
        let mut names: Vec<String> = self.by_lower.values().cloned().collect();
        names.sort();
        names
    }

    /// Those of either; the other's spelling wins.
    pub fn union(&self, other: &NameSet) -> NameSet {
        self.iter().chain(other.iter()).collect()
    }

    /// Those of both, in the other's spelling and order.
    pub fn intersection(&self, other: &NameSet) -> NameSet {
        other.iter().filter(|n| self.contains(n)).collect()
    }

    /// Those of this set alone.
    pub fn difference(&self, other: &NameSet) -> NameSet {
        self.iter().filter(|n| !other.contains(n)).collect()
    }

    /// Is all of this in the other?
    pub fn is_subset(&self, other: &NameSet) -> bool {
        self.by_lower.keys().all(|k| other.by_lower.contains_key(k))
    }

    /// Is all of this in the other, which has more?
    pub fn is_strict_subset(&self, other: &NameSet) -> bool {
        self.len() < other.len() && self.is_subset(other)
    }

    /// The list as Python prints one: `['a', 'b']`.
    pub fn py_list(&self) -> String {
        let names: Vec<String> = self.iter().map(str_repr).collect();
        format!("[{}]", names.join(", "))
    }
}

/// Bytes of `application_name` that PostgreSQL keeps (`NAMEDATALEN` - 1).
const SHOWN: usize = 63;

/// What PostgreSQL makes of a member's name as `application_name`, and compares with `synchronous_standby_names`: 63 bytes
/// of it, and of these what is no printable ASCII as `?`, or as `\xNN` from 16 on.
pub fn application_name(name: &str, major_version: PgVersion) -> String {
    let mut out = String::new();
    for byte in name.bytes().take(SHOWN) {
        match byte {
            b' '..=b'~' => out.push(char::from(byte)),
            _ if major_version.before(PgVersion::V16) => out.push('?'),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// That name in `pg_stat_replication`, which has room for 63 bytes. In lower case: the server does not tell them apart.
pub fn shown_name(name: &str, major_version: PgVersion) -> String {
    let mut shown = application_name(name, major_version).to_lowercase();
    shown.truncate(SHOWN);
    shown
}

/// Why a member of this name is never a synchronous standby: `/sync` cannot hold it.
pub fn never_synchronous(name: &str) -> Option<&'static str> {
    name.contains(',').then_some("has a comma, which separates names in /sync")
}

impl PartialEq for NameSet {
    fn eq(&self, other: &NameSet) -> bool {
        self.len() == other.len() && self.is_subset(other)
    }
}

impl Eq for NameSet {}

impl<S: AsRef<str>> FromIterator<S> for NameSet {
    fn from_iter<I: IntoIterator<Item = S>>(iter: I) -> NameSet {
        let mut set = NameSet::new();
        for name in iter {
            set.insert(name.as_ref());
        }
        set
    }
}

/// As Python prints a set, but sorted: `{'a', 'b'}`, and `set()` for nothing.
impl fmt::Display for NameSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("set()");
        }
        let names: Vec<String> = self.sorted().iter().map(|n| str_repr(n)).collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL 15 and 17 showed them.
    #[test]
    fn names_as_postgresql_has_them() {
        let long = "n".repeat(70);
        for (name, old, new) in [
            ("Node-0.example", "Node-0.example", "Node-0.example"),
            ("knoten-\u{e4}", "knoten-??", "knoten-\\xc3\\xa4"),
            ("a\tb", "a?b", "a\\x09b"),
            (long.as_str(), &long[..63], &long[..63]),
        ] {
            assert_eq!(application_name(name, PgVersion::V15), old);
            assert_eq!(application_name(name, PgVersion::V17), new);
        }
        assert_eq!(shown_name("Node-0", PgVersion::V15), "node-0");
        assert_eq!(shown_name(&"\u{e4}".repeat(40), PgVersion::V17).len(), 63);
        assert!(never_synchronous("a,b").is_some() && never_synchronous("knoten-\u{e4}").is_none());
    }

    #[test]
    fn case_does_not_count_and_the_last_spelling_stays() {
        let a: NameSet = ["1", "test", "Test", "TESt", "test2"].into_iter().collect();
        assert_eq!(a.py_list(), "['1', 'TESt', 'test2']");
        let b: NameSet = ["TEST2", "x"].into_iter().collect();
        assert_eq!(a.intersection(&b).py_list(), "['TEST2']");
        assert_eq!(a.union(&b).py_list(), "['1', 'TESt', 'TEST2', 'x']");
        assert_eq!(a.difference(&b).py_list(), "['1', 'TESt']");
        assert_eq!(a, ["TEST", "TEST2", "1"].into_iter().collect());
        assert_eq!(NameSet::new().to_string(), "set()");
    }
}
