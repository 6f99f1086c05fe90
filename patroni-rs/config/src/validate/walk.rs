//! Walks a configuration along the schema.

use pyfmt::Value;

use super::schema::{Key, Rule};
use super::{files, leaf, Options};
use crate::error::Result;
use crate::python::child_mut;

/// The outcome of one check. A success matters only inside alternatives.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    /// None: the value passed.
    error: Option<String>,
    /// 1 for a wrong type, 0 for a wrong value.
    level: u8,
    path: String,
    /// The value as it is printed.
    shown: String,
}

impl Finding {
    fn passed() -> Finding {
        Finding { error: None, level: 0, path: String::new(), shown: String::new() }
    }

    fn wrong_type(value: &Value, error: &str) -> Finding {
        Finding { error: Some(error.to_owned()), level: 1, path: String::new(), shown: value.py_str() }
    }

    fn wrong_value(value: &Value, error: String) -> Finding {
        Finding { error: Some(error), level: 0, path: String::new(), shown: value.py_str() }
    }

    /// An error that shows no value.
    pub(super) fn bare(error: impl Into<String>) -> Finding {
        Finding { error: Some(error.into()), ..Finding::passed() }
    }

    fn under(mut self, key: &str) -> Finding {
        self.path = if self.path.is_empty() { key.to_owned() } else { format!("{key}.{}", self.path) };
        self
    }

    fn line(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(format!("{} {} {error}", self.path, self.shown))
    }
}

/// What the checks of leaves look at beside the value.
pub(super) struct Context<'a> {
    /// How to validate.
    pub(super) options: &'a Options,
    /// The binaries of PostgreSQL: where they are and how they are called.
    pub(super) postgresql: Value,
}

/// The lines for all errors, and the defaults that the schema adds.
pub(super) fn errors(root: &Rule, config: &mut Value, options: &Options) -> Result<Vec<String>> {
    let mut walk = Walk { context: Context { options, postgresql: Value::map() } };
    let findings = walk.rule(root, config)?;
    Ok(findings.iter().filter_map(Finding::line).collect())
}

struct Walk<'a> {
    context: Context<'a>,
}

impl Walk<'_> {
    fn rule(&mut self, rule: &Rule, value: &mut Value) -> Result<Vec<Finding>> {
        let typed =
            |ok: bool, error| vec![if ok { Finding::passed() } else { Finding::wrong_type(value, error) }];
        Ok(match rule {
            Rule::Str => typed(value.as_str().is_some(), "is not a string"),
            Rule::Int => typed(leaf::is_int(value), "is not an integer"),
            Rule::Bool => typed(value.as_bool().is_some(), "is not a boolean"),
            Rule::Dict => typed(value.as_map().is_some(), "is not a dictionary"),
            Rule::Check(check) => vec![self.leaf(check, value)],
            Rule::Map(_) if value.as_map().is_none() => typed(false, "is not a dictionary"),
            Rule::Map(entries) => self.map(entries, value)?,
            Rule::List(item) => self.list(item, value)?,
            Rule::Or(rules) => self.any_of(rules, value)?,
            Rule::BinDir => match value.as_str() {
                Some(dir) => files::bin_dir(dir, &self.context)?,
                None => Vec::new(),
            },
            // Cases are taken apart where their keys are.
            Rule::Case(_) => Vec::new(),
        })
    }

    fn leaf(&self, check: &leaf::Check, value: &Value) -> Finding {
        if let Some(error) = check.type_error(value) {
            return Finding::wrong_type(value, error);
        }
        match check.run(value, &self.context) {
            Ok(()) => Finding::passed(),
            Err(reason) => Finding::wrong_value(value, format!("didn't pass validation: {reason}")),
        }
    }

    fn list(&mut self, item: &Rule, value: &mut Value) -> Result<Vec<Finding>> {
        let Value::List(list) = value else {
            return Ok(vec![Finding::wrong_type(value, "is not a list")]);
        };
        if list.is_empty() {
            return Ok(vec![Finding::wrong_value(value, "is an empty list".to_owned())]);
        }
        let mut findings = Vec::new();
        for (at, element) in list.iter_mut().enumerate() {
            let found = self.rule(item, element)?;
            // Errors deep inside an item show the whole item.
            let shown = element.py_str();
            findings.extend(
                found.into_iter().map(|f| Finding { shown: shown.clone(), ..f.under(&at.to_string()) }),
            );
        }
        Ok(findings)
    }

    /// Alternatives: nothing if one of them passes as a whole, else their
    /// errors of the lowest level that there is.
    fn any_of(&mut self, rules: &[Rule], value: &mut Value) -> Result<Vec<Finding>> {
        let mut all = Vec::new();
        for rule in rules {
            let mut found = self.rule(rule, value)?;
            if found.iter().any(|f| f.error.is_some()) {
                found.retain(|f| f.error.is_some());
            }
            all.extend(found);
        }
        if all.iter().any(|f| f.error.is_none()) {
            return Ok(vec![Finding::passed()]);
        }
        let lowest = all.iter().map(|f| f.level).min().unwrap_or_default();
        all.retain(|f| f.level == lowest);
        Ok(all)
    }

    fn map(&mut self, entries: &[(Key, Rule)], value: &mut Value) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (key, rule) in entries {
            let present = |name: &&'static str| value.get(name).is_some();
            let names: Vec<&'static str> = match key {
                Key::Req(name) | Key::Opt(name) | Key::OptEmpty(name) => vec![*name],
                Key::AnyOf(names) if names.iter().any(present) => {
                    names.iter().copied().filter(present).collect()
                }
                Key::AnyOf(names) => names.to_vec(),
                Key::AtMostOne(names) => names.iter().copied().filter(present).collect(),
            };
            if let (Key::AtMostOne(all), 2..) = (key, names.len()) {
                let all: Vec<String> = all.iter().map(|n| format!("'{n}'")).collect();
                findings.push(Finding::bare(format!("Multiple of ({}) provided", all.join(", "))));
                continue;
            }
            for name in names {
                findings.extend(self.entry(key, name, case_of(rule, name), value)?);
            }
        }
        Ok(findings)
    }

    fn entry(&mut self, key: &Key, name: &str, rule: &Rule, map: &mut Value) -> Result<Vec<Finding>> {
        if matches!(rule, Rule::Check(leaf::Check::ListenHosts)) {
            self.context.postgresql = map.clone();
        }
        if map.get(name).is_none() {
            match key {
                Key::Opt(_) => return Ok(Vec::new()),
                Key::OptEmpty(_) => map.set(name, ""),
                _ => return Ok(vec![Finding::bare("is not defined.").under(name)]),
            }
        }
        let Some(value) = child_mut(map, name) else { return Ok(Vec::new()) };
        let found = self.rule(rule, value)?;
        Ok(found.into_iter().map(|f| f.under(name)).collect())
    }
}

fn case_of<'r>(rule: &'r Rule, name: &str) -> &'r Rule {
    match rule {
        Rule::Case(cases) => cases.iter().find(|(n, _)| *n == name).map_or(rule, |(_, rule)| rule),
        other => other,
    }
}
