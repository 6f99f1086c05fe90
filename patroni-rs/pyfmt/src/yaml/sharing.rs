//! Which places of a value are one object in Python: PyYAML writes an anchor for what
//! it meets twice, and a change at one place shows at the others.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use crate::value::Value;

/// The places of a value at which one object appears more than once, as a tree beside
/// the value's own. Only collections and timestamps count: PyYAML writes no anchor for
/// text, numbers, booleans and null.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    object: Option<usize>,
    /// By key, or by number in a list; only branches that lead to a shared object.
    below: IndexMap<Value, Sharing>,
}

impl Sharing {
    /// What is shared at and below the object of this number.
    pub(super) fn of(object: Option<usize>, below: IndexMap<Value, Sharing>) -> Sharing {
        Sharing { object, below }
    }

    /// Nothing is shared here or below.
    pub fn is_empty(&self) -> bool {
        self.object.is_none() && self.below.is_empty()
    }

    /// What is shared below the key, or the number in a list.
    pub fn get(&self, key: &Value) -> Option<&Sharing> {
        self.below.get(key)
    }

    /// The number of the object at this place.
    pub(super) fn object(&self) -> Option<usize> {
        self.object
    }

    fn at(&self, path: &[Value]) -> Option<&Sharing> {
        path.iter().try_fold(self, |here, key| here.below.get(key))
    }

    fn set(&mut self, path: &[Value], sharing: Sharing) {
        let Some((key, rest)) = path.split_first() else {
            *self = sharing;
            return;
        };
        if rest.is_empty() && sharing.is_empty() {
            self.below.shift_remove(key);
        } else {
            self.below.entry(key.clone()).or_default().set(rest, sharing);
        }
    }

    fn largest(&self) -> usize {
        let below = self.below.values().map(Sharing::largest).max().unwrap_or(0);
        below.max(self.object.map_or(0, |id| id + 1))
    }

    fn renumber(&mut self, by: usize) {
        self.object = self.object.map(|id| id + by);
        self.below.values_mut().for_each(|s| s.renumber(by));
    }

    /// All places of an object.
    fn places(&self, object: usize, path: &mut Vec<Value>, found: &mut Vec<Vec<Value>>) {
        if self.object == Some(object) {
            found.push(path.clone());
        }
        for (key, below) in &self.below {
            path.push(key.clone());
            below.places(object, path, found);
            path.pop();
        }
    }
}

/// A value and what is shared in it, as Python's variables hold a loaded document.
#[derive(Debug, Clone, Default)]
pub struct Document {
    /// The value, in which what is shared is repeated.
    pub value: Value,
    /// Which parts of it are one object.
    pub sharing: Sharing,
}

impl From<Value> for Document {
    fn from(value: Value) -> Document {
        Document { value, sharing: Sharing::default() }
    }
}

impl Document {
    /// Takes over the objects of `other` under numbers that are not used here, and gives
    /// what is shared in it then.
    pub fn adopt(&self, other: &Sharing) -> Sharing {
        let mut sharing = other.clone();
        if !other.is_empty() {
            sharing.renumber(self.sharing.largest());
        }
        sharing
    }

    /// Puts a value at a path of keys below mappings that exist; `None` takes it out.
    pub fn put(&mut self, path: &[Value], value: Option<(Value, Sharing)>) {
        let Some((key, above)) = path.split_last() else { return };
        let Some(Value::Map(map)) = value_at(&mut self.value, above) else { return };
        match value {
            Some((value, sharing)) => {
                map.insert(key.clone(), value);
                self.sharing.set(path, sharing);
            }
            None => {
                map.shift_remove(key);
                if self.sharing.at(path).is_some() {
                    self.sharing.set(path, Sharing::default());
                }
            }
        }
    }

    /// What was changed at `path` was changed at all places of the same object.
    pub fn write_through(&mut self, path: &[Value]) {
        let Some(sharing) = self.sharing.at(path).cloned() else { return };
        let Some(object) = sharing.object else { return };
        let Some(value) = value_at(&mut self.value, path).cloned() else { return };
        let mut places = Vec::new();
        self.sharing.places(object, &mut Vec::new(), &mut places);
        for place in places.iter().filter(|place| place.as_slice() != path) {
            if let Some(slot) = value_at(&mut self.value, place) {
                *slot = value.clone();
                self.sharing.set(place, sharing.clone());
            }
        }
    }
}

fn value_at<'a>(value: &'a mut Value, path: &[Value]) -> Option<&'a mut Value> {
    path.iter().try_fold(value, |here, key| match (here, key) {
        (Value::Map(map), key) => map.get_mut(key),
        (Value::List(list), Value::Int(i)) => list.get_mut(usize::try_from(*i).ok()?),
        _ => None,
    })
}

/// The anchors of a document that is about to be written.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    names: HashMap<usize, usize>,
    written: HashSet<usize>,
}

impl Anchors {
    /// Meets an object on the first walk, which names what it meets twice. True when
    /// what is below it has been walked before.
    pub fn meet(&mut self, object: usize) -> bool {
        if self.written.insert(object) {
            return false;
        }
        let next = self.names.len() + 1;
        self.names.entry(object).or_insert(next);
        true
    }

    /// After the first walk.
    pub fn begin(&mut self) {
        self.written.clear();
    }

    /// What is written at a place of an object on the second walk: `&id001` where it is
    /// first met, `*id001` (and nothing of its content) later.
    pub fn mark(&mut self, object: usize) -> Option<(String, bool)> {
        let number = self.names.get(&object)?;
        let again = !self.written.insert(object);
        Some((format!("{}id{number:03}", if again { '*' } else { '&' }), again))
    }
}
