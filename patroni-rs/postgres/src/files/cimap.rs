//! A mapping whose text keys compare without case, as parameter names do.

use indexmap::IndexMap;
use pyfmt::Value;

/// Parameters by name. Names compare without case; the order is that of first
/// insertion, and the spelling that of the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params(IndexMap<String, (String, Value)>);

impl Params {
    /// An empty mapping.
    pub fn new() -> Params {
        Params::default()
    }

    /// The entries of a mapping value (anything else gives none).
    pub fn from_value(value: Option<&Value>) -> Params {
        let map = value.and_then(Value::as_map);
        map.into_iter().flatten().map(|(k, v)| (k.py_str(), v.clone())).collect()
    }

    /// Is `name` present, even as `None`?
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(&name.to_lowercase())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(&name.to_lowercase()).map(|(_, v)| v)
    }

    /// The value of `name`, to change in place.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0.get_mut(&name.to_lowercase()).map(|(_, v)| v)
    }

    /// Sets `name`, keeping its place if it is there already.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_lowercase(), (name.to_owned(), value.into()));
    }

    /// Sets `name` unless it is present.
    pub fn set_default(&mut self, name: &str, value: impl Into<Value>) {
        if !self.contains(name) {
            self.set(name, value);
        }
    }

    /// Removes `name`.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.0.shift_remove(&name.to_lowercase()).map(|(_, v)| v)
    }

    /// Entries in order of insertion.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.values().map(|(k, v)| (k.as_str(), v))
    }

    /// Entries sorted by the spelling of the name, as the files list them.
    pub fn sorted(&self) -> Vec<(&str, &Value)> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by_key(|(name, _)| *name);
        entries
    }

    /// Names in order of insertion.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// No entries?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the entries that `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Value) -> bool) {
        self.0.retain(|_, (name, value)| keep(name, value));
    }

    /// As an ordered mapping value.
    pub fn to_value(&self) -> Value {
        self.iter().map(|(k, v)| (k, v.clone())).collect()
    }
}

impl FromIterator<(String, Value)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(iter: I) -> Params {
        let mut params = Params::new();
        for (name, value) in iter {
            params.set(&name, value);
        }
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_place_and_last_spelling() {
        let mut p = Params::new();
        p.set("Work_Mem", 1);
        p.set("a", 2);
        p.set("work_mem", 3);
        assert_eq!(p.names().collect::<Vec<_>>(), ["work_mem", "a"]);
        assert_eq!(p.get("WORK_MEM"), Some(&Value::Int(3)));
        assert_eq!(p.remove("A"), Some(Value::Int(2)));
    }
}
