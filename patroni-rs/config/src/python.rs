//! The few operations on untyped values whose failures the reference shows.

use pyfmt::int::clamped;
use pyfmt::{Map, Value};

use crate::error::{qualified_name, ConfigError, Result};

/// `value.items()`.
pub(crate) fn items(value: &Value) -> Result<impl Iterator<Item = (&Value, &Value)>> {
    value.as_map().map(|m| m.iter()).ok_or_else(|| ConfigError::no_attribute(value, "items"))
}

/// `(value or {}).items()`.
pub(crate) fn items_or_none(value: &Value) -> Result<impl Iterator<Item = (&Value, &Value)>> {
    if value.truthy() && value.as_map().is_none() {
        return Err(ConfigError::no_attribute(value, "items"));
    }
    Ok(value.as_map().into_iter().flatten())
}

/// `key in value`.
pub(crate) fn contains(value: &Value, key: &str) -> Result<bool> {
    match value {
        Value::Map(_) => Ok(value.get(key).is_some()),
        Value::List(list) => Ok(list.iter().any(|item| item.as_str() == Some(key))),
        Value::Str(text) => Ok(text.contains(key)),
        Value::Bytes(_) => Err(ConfigError::of_type("a bytes-like object is required, not 'str'")),
        other => {
            Err(ConfigError::of_type(format!("argument of type '{}' is not iterable", qualified_name(other))))
        }
    }
}

/// `value[key]` for a value that contains the key.
pub(crate) fn subscript<'a>(value: &'a Value, key: &str) -> Result<&'a Value> {
    match value {
        Value::Str(_) => Err(ConfigError::of_type("string indices must be integers, not 'str'")),
        Value::List(_) => Err(ConfigError::of_type("list indices must be integers or slices, not str")),
        map => map.get(key).ok_or_else(|| ConfigError::exception("KeyError", Value::from(key).py_repr())),
    }
}

/// `int(value)`.
pub(crate) fn integer(value: &Value) -> Result<Value> {
    pyfmt::int::int(value).map_err(|e| ConfigError::exception(e.class, e.message))
}

/// `int(value)`; what does not fit 64 bits becomes the nearest that does.
pub(crate) fn int(value: &Value) -> Result<i64> {
    integer(value).map(|integer| clamped(&integer))
}

/// The mapping, to change in place.
pub(crate) fn map_mut(value: &mut Value) -> Option<&mut Map> {
    match value {
        Value::Map(map) => Some(map),
        _ => None,
    }
}

/// The value under a text key, to change in place.
pub(crate) fn child_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    map_mut(value)?.get_mut(&Value::from(key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (value, want) in [
            (Value::from("30"), Ok(30)),
            (Value::Float(30.9), Ok(30)),
            (Value::Bool(true), Ok(1)),
            (Value::from("30s"), Err("invalid literal for int() with base 10: '30s'")),
            (
                Value::Null,
                Err("int() argument must be a string, a bytes-like object or a real number, not 'NoneType'"),
            ),
        ] {
            assert_eq!(int(&value).map_err(|e| e.message().to_owned()), want.map_err(str::to_owned));
        }
    }
}
