//! Changes of the dynamic configuration from the command line
//! (surface-api-ctl K38).

use pyfmt::yaml::{Document, Sharing};
use pyfmt::{Map, Value};

use crate::click::CliError;

/// Applies settings `a.b.c=VALUE`; an empty value removes the key, and maps
/// that become empty with it.
///
/// # Errors
/// A setting without `=`, or a value that is no YAML.
pub fn apply_pairs(config: &Document, pairs: &[String]) -> Result<Document, CliError> {
    let mut config = match config.value {
        Value::Map(_) => config.clone(),
        _ => Value::map().into(),
    };
    for pair in pairs {
        let Some((path, value)) = pair.split_once('=') else {
            return Err(CliError::msg(format!("Invalid parameter setting {pair}")));
        };
        let value = load_yaml(value)?;
        let path: Vec<&str> = path.trim().split('.').collect();
        set_path(&mut config, &mut Vec::new(), &path, &value);
    }
    Ok(config)
}

/// Sets what is at `path` below the map at `above`. Names of PostgreSQL parameters may hold dots: below
/// `postgresql.parameters` the rest of the path is one key.
fn set_path(config: &mut Document, above: &mut Vec<Value>, path: &[&str], value: &Document) {
    let parameters = ["postgresql", "parameters"].map(Value::from);
    let Some((key, rest)) = path.split_first() else { return };
    let (key, rest) = match above.as_slice() == parameters {
        true => (Value::from(path.join(".")), Default::default()),
        false => (Value::from(*key), rest),
    };
    above.push(key);
    if rest.is_empty() {
        let sharing = config.adopt(&value.sharing);
        let new = Some((value.value.clone(), sharing)).filter(|_| !value.value.is_null());
        config.put(above, new);
    } else {
        if map_at(config, above).is_none() {
            config.put(above, Some((Value::map(), Sharing::default())));
        }
        set_path(config, above, rest, value);
        if map_at(config, above).is_some_and(Map::is_empty) {
            config.put(above, None);
        }
    }
    above.pop();
    config.write_through(above);
}

fn map_at<'a>(config: &'a Document, path: &[Value]) -> Option<&'a Map> {
    path.iter().try_fold(&config.value, |value, key| value.as_map()?.get(key))?.as_map()
}

/// YAML, or the last line of the reference's traceback.
///
/// # Errors
/// The text is no YAML.
pub fn load_yaml(text: &str) -> Result<Document, CliError> {
    pyfmt::yaml::load_document(text).map_err(crash)
}

/// YAML of a file, whose name errors show.
///
/// # Errors
/// The text is no YAML.
pub fn load_yaml_file(text: &str, name: &str) -> Result<Document, CliError> {
    pyfmt::yaml::load_named(text, name).map_err(crash)
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
        match apply_pairs(&config.into(), &pairs) {
            Ok(document) => pyfmt::json::dumps(&document.value),
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
    fn what_is_one_object_changes_everywhere() {
        let config = load_yaml("a: &a {x: 1}\nb: *a\n").unwrap();
        let changed = apply_pairs(&config, &["a.y=2".to_owned()]).unwrap();
        assert_eq!(pyfmt::json::dumps(&changed.value), r#"{"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}}"#);
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
