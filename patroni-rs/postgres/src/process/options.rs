//! User-given options of initdb and pg_basebackup (surface-ha-pg 12-02, 13-03):
//! a list of names and single-key maps, or one map, as long options.

use pyfmt::text::shlex_split;
use pyfmt::Value;

/// The options, and the complaints about those that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserOptions {
    /// `--name` or `--name=value`
    pub options: Vec<String>,
    /// Error texts; fatal for initdb, logged for pg_basebackup.
    pub errors: Vec<String>,
}

/// Removes the quotes of a text that is one quoted word; any other text is returned
/// as it is.
fn unquote(text: &str) -> String {
    match shlex_split(text) {
        Ok(mut words) if words.len() == 1 => words.remove(0),
        _ => text.to_owned(),
    }
}

/// Formats `options` for `tool`; names in `forbidden` are refused.
///
/// Unlike the reference, a number as a value is taken as its text where the
/// reference fails with a traceback (TRAP 12-03).
pub fn user_options(tool: &str, options: &Value, forbidden: &[&str]) -> UserOptions {
    let mut out = UserOptions::default();
    match options {
        Value::Map(map) => {
            for (key, value) in map.iter().filter(|(k, v)| k.truthy() && v.truthy()) {
                out.pair(tool, &key.py_str(), value, forbidden);
            }
        }
        Value::List(list) => list.iter().for_each(|entry| out.entry(tool, entry, forbidden)),
        _ => out.errors.push(format!("{tool} options must be list or dict")),
    }
    out
}

impl UserOptions {
    fn entry(&mut self, tool: &str, entry: &Value, forbidden: &[&str]) {
        match entry {
            Value::Str(name) => {
                if self.allowed(tool, name, forbidden) {
                    self.options.push(format!("--{name}"));
                }
            }
            Value::Map(map) if map.len() == 1 && map.values().all(|v| v.as_str().is_some()) => {
                for (key, value) in map {
                    self.pair(tool, &key.py_str(), value, forbidden);
                }
            }
            Value::Map(map) => {
                let first = map.values().next().map(Value::py_str).unwrap_or_default();
                self.errors.push(format!(
                    "Error when parsing {tool} key-value option {first}: only one key-value is allowed and value \
                     should be a string"
                ));
            }
            other => self.errors.push(format!(
                "Error when parsing {tool} option {}: value should be string value or a single key-value pair",
                other.py_str()
            )),
        }
    }

    fn pair(&mut self, tool: &str, key: &str, value: &Value, forbidden: &[&str]) {
        if self.allowed(tool, key, forbidden) {
            self.options.push(format!("--{key}={}", unquote(&value.py_str())));
        }
    }

    fn allowed(&mut self, tool: &str, name: &str, forbidden: &[&str]) -> bool {
        let allowed = !forbidden.contains(&name);
        if !allowed {
            self.errors.push(format!("{name} option for {tool} is not allowed"));
        }
        allowed
    }
}

/// `--key=value` for every entry of a method's map that is not in `reserved`.
pub fn map_arguments(config: &Value, reserved: &[&str]) -> Vec<String> {
    let entries = config.as_map().into_iter().flatten().map(|(k, v)| (k.py_str(), v));
    entries
        .filter(|(k, _)| !reserved.contains(&k.as_str()))
        .map(|(k, v)| format!("--{k}={}", v.py_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Value {
        let mut out = Value::map();
        for (k, v) in entries {
            out.set(k, v.clone());
        }
        out
    }

    #[test]
    fn unquotes_single_words_only() {
        assert_eq!(unquote("\"a b\""), "a b");
        assert_eq!(unquote("\"a\" \"b\""), "\"a\" \"b\"");
        assert_eq!(unquote("a \"b"), "a \"b");
    }

    #[test]
    fn forms() {
        let s = |t: &str| Value::from(t);
        let list = Value::List(vec![
            s("data-checksums"),
            map(&[("encoding", s("UTF8"))]),
            map(&[("locale", s("\"a b\""))]),
            s("pgdata"),
            map(&[("a", s("1")), ("b", s("2"))]),
            Value::Int(5),
        ]);
        let got = user_options("initdb", &list, &["pgdata"]);
        assert_eq!(got.options, ["--data-checksums", "--encoding=UTF8", "--locale=a b"]);
        assert_eq!(got.errors, [
            "pgdata option for initdb is not allowed",
            "Error when parsing initdb key-value option 1: only one key-value is allowed and value should be a string",
            "Error when parsing initdb option 5: value should be string value or a single key-value pair",
        ]);
        let dict = map(&[("max-rate", s("100M")), ("empty", s("")), ("n", Value::Int(3))]);
        assert_eq!(user_options("basebackup", &dict, &[]).options, ["--max-rate=100M", "--n=3"]);
        assert_eq!(
            user_options("basebackup", &s("x"), &[]).errors,
            ["basebackup options must be list or dict"]
        );
        let args =
            map_arguments(&map(&[("command", s("x")), ("keep_data", Value::Bool(true))]), &["command"]);
        assert_eq!(args, ["--keep_data=True"]);
    }
}
