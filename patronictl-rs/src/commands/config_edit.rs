//! Changes of the dynamic configuration from the command line
//! (surface-api-ctl K38).

use pyfmt::{Map, Value};

use crate::click::CliError;

/// Applies settings `a.b.c=VALUE`; an empty value removes the key, and maps
/// that become empty with it.
///
/// # Errors
/// A setting without `=`, or a value that is no YAML.
pub fn apply_pairs(config: &Value, pairs: &[String]) -> Result<Value, CliError> {
    let mut config = match config {
        Value::Map(map) => map.clone(),
        _ => Map::new(),
    };
    for pair in pairs {
        let Some((path, value)) = pair.split_once('=') else {
            return Err(CliError::msg(format!("Invalid parameter setting {pair}")));
        };
        let value = load_yaml(value)?;
        let path: Vec<&str> = path.trim().split('.').collect();
        set_path(&mut config, &path, &value, &mut Vec::new());
    }
    Ok(Value::Map(config))
}

/// Names of PostgreSQL parameters may hold dots: below `postgresql.parameters`
/// the rest of the path is one key.
fn set_path<'a>(config: &mut Map, path: &[&'a str], value: &Value, above: &mut Vec<&'a str>) {
    if above.as_slice() == ["postgresql", "parameters"] {
        return set_key(config, Value::from(path.join(".")), value);
    }
    let Some((key, rest)) = path.split_first() else { return };
    let name = Value::from(*key);
    if rest.is_empty() {
        return set_key(config, name, value);
    }
    let below = config.entry(name.clone()).or_insert_with(Value::map);
    if !matches!(below, Value::Map(_)) {
        *below = Value::map();
    }
    if let Value::Map(below) = below {
        above.push(key);
        set_path(below, rest, value, above);
        if below.is_empty() {
            config.shift_remove(&name);
        }
    }
}

fn set_key(config: &mut Map, key: Value, value: &Value) {
    if value.is_null() {
        config.shift_remove(&key);
    } else {
        config.insert(key, value.clone());
    }
}

/// YAML, or the last line of the reference's traceback.
///
/// # Errors
/// The text is no YAML.
pub fn load_yaml(text: &str) -> Result<Value, CliError> {
    pyfmt::yaml::load(text).map_err(crash)
}

/// YAML of a file, whose name errors show.
///
/// # Errors
/// The text is no YAML.
pub fn load_yaml_file(text: &str, name: &str) -> Result<Value, CliError> {
    pyfmt::yaml::load_named(text, name).map(|document| document.value).map_err(crash)
}

fn crash(error: pyfmt::yaml::YamlError) -> CliError {
    CliError::Crash(format!("{}: {error}", error.class()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn apply(config: &str, pairs: &[&str]) -> String {
        let pairs: Vec<String> = pairs.iter().map(|p| (*p).to_owned()).collect();
        let config = pyfmt::json::loads(config).unwrap();
        match apply_pairs(&config, &pairs) {
            Ok(value) => pyfmt::json::dumps(&value),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn values_are_yaml() {
        for (value, json) in
            [("yes", "true"), ("010", "8"), ("0x10", "16"), ("1e3", "\"1e3\""), ("[1, a]", "[1, \"a\"]")]
        {
            assert_eq!(apply("{}", &[&format!("a={value}")]), format!("{{\"a\": {json}}}"));
        }
    }

    #[test]
    fn paths() {
        let config = r#"{"postgresql": {"parameters": {"a.b": 1}}, "ttl": 30}"#;
        assert_eq!(apply(config, &["postgresql.parameters.a.b="]), "{\"ttl\": 30}");
        assert_eq!(apply(config, &["ttl.x=1", "postgresql="]), "{\"ttl\": {\"x\": 1}}");
        assert_eq!(
            apply("{}", &[" postgresql.parameters.x.y = 1=2"]),
            "{\"postgresql\": {\"parameters\": {\"x.y\": \"1=2\"}}}"
        );
        assert_eq!(apply("{}", &["ttl"]), "Invalid parameter setting ttl");
    }
}
