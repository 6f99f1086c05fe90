//! Comparison and merging of configuration documents. Scalars count as equal
//! when their Python texts are, which hides some changes (surface-config 1.7, 1.50).

use pyfmt::yaml::{Document, Sharing};
use pyfmt::{Map, Value};

/// Have both mappings the same keys, and equal values by [`Value::py_str`] at
/// every leaf? What is not a mapping is compared as a leaf.
pub fn deep_compare(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Map(a), Value::Map(b)) => same_maps(a, b),
        (Value::Map(_), _) => false,
        (a, b) => a.py_str() == b.py_str(),
    }
}

fn same_maps(a: &Map, b: &Map) -> bool {
    a.len() == b.len()
        && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| deep_compare(value, other)))
}

/// Merges `data` into `config`, mapping by mapping, and says whether anything
/// changed. Null removes a key; a value whose text equals the old one leaves the
/// old one, and its type, in place; lists are replaced as a whole. Nothing
/// happens unless both are mappings.
pub fn patch_config(config: &mut Value, data: &Value) -> bool {
    match (config, data) {
        (Value::Map(config), Value::Map(data)) => patch_map(config, data),
        _ => false,
    }
}

/// As [`patch_config`] where parts of both documents are one object each: what is
/// changed in place shows at all places of the object, what is taken over from `data`
/// stays one object.
pub fn patch_document(config: &mut Document, data: Document) -> bool {
    if config.sharing.is_empty() && data.sharing.is_empty() {
        return patch_config(&mut config.value, &data.value);
    }
    let sharing = config.adopt(&data.sharing);
    patch_at(config, &mut Vec::new(), &data.value, Some(&sharing))
}

fn patch_at(config: &mut Document, path: &mut Vec<Value>, data: &Value, sharing: Option<&Sharing>) -> bool {
    let mut changed = false;
    for (key, new) in data.as_map().into_iter().flatten() {
        let below = sharing.and_then(|s| s.get(key));
        let old = path.iter().try_fold(&config.value, |v, k| v.as_map()?.get(k));
        let old = old.and_then(Value::as_map).and_then(|m| m.get(key));
        path.push(key.clone());
        let taken = || Some((new.clone(), below.cloned().unwrap_or_default()));
        changed |= match (old, new) {
            (old, Value::Null) => {
                let had = old.is_some_and(|old| !old.is_null());
                config.put(path, None);
                had
            }
            (Some(Value::Map(_)), Value::Map(_)) => {
                let changed = patch_at(config, path, new, below);
                config.write_through(path);
                changed
            }
            (Some(old), new) if !matches!(new, Value::Map(_)) && old.py_str() == new.py_str() => false,
            _ => {
                config.put(path, taken());
                true
            }
        };
        path.pop();
    }
    changed
}

fn patch_map(config: &mut Map, data: &Map) -> bool {
    let mut changed = false;
    for (key, new) in data {
        changed |= match (config.get_mut(key), new) {
            (_, Value::Null) => config.shift_remove(key).is_some_and(|old| !old.is_null()),
            (Some(Value::Map(old)), Value::Map(new)) => patch_map(old, new),
            (Some(old), new) if matches!(new, Value::Map(_)) || old.py_str() != new.py_str() => {
                *old = new.clone();
                true
            }
            (Some(_), _) => false,
            (None, new) => {
                config.insert(key.clone(), new.clone());
                true
            }
        };
    }
    changed
}
