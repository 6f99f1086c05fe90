//! The schema in words, for the reference pages.

use super::leaf::Check;
use super::schema::{Key, Rule, ROOT};

/// Each key as a path, what its value has to be, and whether it must be there. `etcd` stands for `etcd3`, too.
pub fn described() -> Vec<(String, String, bool)> {
    let mut found = Vec::new();
    walk("", ROOT, &mut found);
    found
}

fn walk(path: &str, rule: &Rule, found: &mut Vec<(String, String, bool)>) {
    let Rule::Map(keys) = rule else { return };
    for (key, rule) in *keys {
        let (names, required): (&[&'static str], bool) = match key {
            Key::Req(name) => (std::slice::from_ref(name), true),
            Key::Opt(name) | Key::OptEmpty(name) => (std::slice::from_ref(name), false),
            Key::AnyOf(names) | Key::AtMostOne(names) => (names, false),
        };
        for name in names {
            let rule = match rule {
                Rule::Case(cases) => {
                    cases.iter().find(|(case, _)| case == name).map_or(rule, |(_, rule)| rule)
                }
                rule => rule,
            };
            let path = if path.is_empty() { (*name).to_owned() } else { format!("{path}.{name}") };
            match rule {
                _ if path == "etcd" => {}
                Rule::Map(keys) if !keys.is_empty() => walk(&path, rule, found),
                Rule::List(item @ Rule::Map(_)) => walk(&path, item, found),
                rule => found.push((path, words(rule), required)),
            }
        }
    }
}

fn words(rule: &Rule) -> String {
    match rule {
        Rule::Str => "text".into(),
        Rule::Int => "integer".into(),
        Rule::Bool => "boolean".into(),
        Rule::Dict | Rule::Map(_) | Rule::Case(_) => "mapping".into(),
        Rule::List(Rule::Or(_)) => "list".into(),
        Rule::List(item) => format!("list of {}s", words(item)),
        Rule::Or(rules) => rules.iter().map(words).collect::<Vec<_>>().join(" or "),
        Rule::BinDir => "directory".into(),
        Rule::Check(check) => check_words(check),
    }
}

fn check_words(check: &Check) -> String {
    match check {
        Check::Integer { min, max, unit, .. } => {
            let kind = if unit.is_some() { "integer, or text with a unit" } else { "integer" };
            match (*min, *max) {
                (i64::MIN, i64::MAX) => kind.into(),
                (min, i64::MAX) => format!("{kind}, {min} or more"),
                (i64::MIN, max) => format!("{kind}, {max} at most"),
                (min, max) => format!("{kind}, {min} to {max}"),
            }
        }
        Check::Word(all) | Check::WordAnyCase(all) => {
            all.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Check::LogFormat => "text or list".into(),
        Check::WatchdogMode => "`off`, `automatic`, `required`".into(),
        Check::SynchronousMode => "boolean or `quorum`".into(),
        Check::Ipv4 => "IPv4 address".into(),
        Check::Ipv6 => "IPv6 address".into(),
        Check::ConnectAddress | Check::Listen | Check::Reachable => "`host:port`".into(),
        Check::ListenHosts => "`host,host:port`".into(),
        Check::ReachableCsv => "`host:port,host:port`".into(),
        Check::ReachableList => "list of `host:port`".into(),
        Check::DataDir => "directory".into(),
        Check::Binary => "name of a program".into(),
    }
}
