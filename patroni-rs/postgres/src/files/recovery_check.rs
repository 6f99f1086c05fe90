//! Does the recovery configuration in force differ from the wanted one, and
//! does the difference need a restart? (surface-ha-pg 15.5)

use indexmap::IndexMap;
use patroni_core::parse::{compare_values, parse_int};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::cimap::Params;
use super::conninfo::parse_dsn;
use super::guc::GucTable;
use super::pg_settings::PgSetting;
use super::pgpass;
use super::recovery::trigger_file_names;
use super::text::split_assignment;

/// A recovery parameter as the server has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Current {
    /// Text, or for `primary_conninfo` a mapping (empty if it is not set).
    pub value: Value,
    /// A change takes effect only with a restart.
    pub restart: bool,
    /// The file it is set in, as far as known.
    pub sourcefile: Option<String>,
}

/// Recovery parameters in force, by name in lower case.
pub type CurrentRecovery = IndexMap<String, Current>;

/// The answer: nothing, or a change with a reload or a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The configuration must be written again.
    pub change: bool,
    /// And the server restarted; a reload is not enough.
    pub restart: bool,
}

impl Verdict {
    /// Change and restart.
    pub const RESTART: Verdict = Verdict { change: true, restart: true };
}

/// The WAL receiver of the monitoring query; it tells what is really in use.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WalReceiver {
    /// `conninfo`, with the password masked.
    pub conninfo: Option<String>,
    /// `slot_name`.
    pub slot_name: Option<String>,
}

/// Names to compare: the recovery parameters of this version, without those
/// that only matter before the end of recovery.
pub fn names_to_compare(major_version: PgVersion) -> Vec<&'static str> {
    let skipped = [
        "pause_at_recovery_target",
        "recovery_target_inclusive",
        "recovery_target_action",
        "standby_mode",
        trigger_file_names(major_version).1,
    ];
    GucTable::builtin().recovery_names().into_iter().filter(|n| !skipped.contains(n)).collect()
}

/// Does a change of `name` in postgresql.conf (12 and later) need a restart?
fn restart_required(name: &str, major_version: PgVersion) -> bool {
    match name {
        "restore_command" => major_version.before(PgVersion::V14),
        "primary_conninfo" | "primary_slot_name" => major_version.before(PgVersion::V13),
        _ => false,
    }
}

/// From rows of pg_settings. `None` if `primary_conninfo` cannot be read,
/// which calls for a restart.
pub fn from_settings(rows: &[PgSetting]) -> Option<CurrentRecovery> {
    let current = rows.iter().map(|row| {
        let current = Current {
            value: row.setting.clone().into(),
            restart: row.context == "postmaster",
            sourcefile: row.sourcefile.clone(),
        };
        (row.name.to_lowercase(), current)
    });
    with_parsed_conninfo(current.collect())
}

/// From the text of recovery.conf, where everything needs a restart. `None` if
/// it cannot be read.
pub fn from_recovery_conf(text: &str, major_version: PgVersion) -> Option<CurrentRecovery> {
    let entry = |value: Value| Current { value, restart: true, sourcefile: None };
    let mut current = CurrentRecovery::new();
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (name, value) = split_assignment(line)?;
        current.insert(name.to_owned(), entry(recovery_conf_value(value)?.into()));
    }
    let delay = current.entry("recovery_min_apply_delay".to_owned()).or_insert_with(|| entry("0".into()));
    delay.value = parse_int(&delay.value, Some("ms")).into();
    for name in names_to_compare(major_version) {
        current.entry(name.to_owned()).or_insert_with(|| entry("".into()));
    }
    with_parsed_conninfo(current)
}

/// What the server has once it has read the parameters just written.
pub fn from_written(params: &Params, major_version: PgVersion, postgresql_conf: &str) -> CurrentRecovery {
    let entry =
        |value: Value, restart| Current { value, restart, sourcefile: Some(postgresql_conf.to_owned()) };
    let mut current: CurrentRecovery = params
        .iter()
        .map(|(name, value)| {
            (name.to_lowercase(), entry(value.clone(), restart_required(name, major_version)))
        })
        .collect();
    current.entry("recovery_min_apply_delay".to_owned()).or_insert_with(|| entry("0".into(), false));
    for name in names_to_compare(major_version) {
        let restart = restart_required(name, major_version);
        current.entry(name.to_owned()).or_insert_with(|| entry("".into(), restart));
    }
    current
}

fn with_parsed_conninfo(mut current: CurrentRecovery) -> Option<CurrentRecovery> {
    let conninfo = current.get_mut("primary_conninfo")?;
    let text = conninfo.value.as_str().unwrap_or_default().to_owned();
    conninfo.value = match text.as_str() {
        "" => Value::map(),
        text => parse_dsn(text)?.into_iter().collect(),
    };
    Some(current)
}

/// One value of recovery.conf: plain, or in single quotes which are doubled or
/// escaped inside; a comment may follow. `None` if it is malformed.
fn recovery_conf_value(text: &str) -> Option<String> {
    let text = text.trim();
    let Some(body) = text.strip_prefix('\'') else {
        let plain = text.split('#').next().unwrap_or_default().trim();
        return (!plain.is_empty() && !plain.contains([' ', '\\'])).then(|| plain.to_owned());
    };
    let mut value = String::new();
    let mut chars = body.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(escaped(&mut chars)?),
            '\'' => match chars.next() {
                Some('\'') => value.push('\''),
                None | Some('#') => return Some(value),
                Some(' ') => {
                    let rest: String = chars.collect();
                    let rest = rest.trim_start();
                    return (rest.is_empty() || rest.starts_with('#')).then_some(value);
                }
                Some(_) => return None,
            },
            c => value.push(c),
        }
    }
    None
}

/// What follows a backslash: a letter for a control character, up to three octal digits, or itself.
fn escaped(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    let c = chars.next()?;
    let Some(mut code) = c.to_digit(8) else {
        return Some(match c {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            c => c,
        });
    };
    for _ in 0..2 {
        let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
        chars.next();
        code = code * 8 + digit;
    }
    char::from_u32(code)
}

/// What a check needs besides the parameters.
pub struct CheckFacts<'a> {
    /// Major version.
    pub major_version: PgVersion,
    /// The server is starting: the WAL receiver is not looked at.
    pub starting: bool,
    /// Joining a running server: a rewrite and reload is due once (2-04).
    pub force_reload: bool,
    /// The WAL receiver.
    pub receiver: &'a WalReceiver,
    /// postgresql.conf and postgresql.auto.conf: the files that are ours.
    pub own_files: [&'a str; 2],
    /// The content of a password file, if it can be read.
    pub read_passfile: &'a dyn Fn(&str) -> Option<String>,
    /// Set by the check: the password file that holds the wanted lines.
    pub passfile_found: Option<String>,
}

/// Parameters that the user may set in a file of his own, as long as Patroni's
/// configuration does not have them (15.5-05).
const ALLOWED_ELSEWHERE: [&str; 5] = [
    "archive_cleanup_command",
    "promote_trigger_file",
    "recovery_end_command",
    "recovery_min_apply_delay",
    "restore_command",
];

/// Compares. `current` learns from the WAL receiver which slot is in use, and
/// the password once the password file has been found to hold it.
pub fn check(current: &mut CurrentRecovery, wanted: &Params, facts: &mut CheckFacts<'_>) -> Verdict {
    learn_slot(current, facts);
    let (mut restarts, mut reloads) = (0u32, u32::from(facts.force_reload));
    for (name, entry) in current.iter_mut() {
        let elsewhere = match entry.sourcefile.as_deref() {
            Some(file) => !facts.own_files.contains(&file),
            None => facts.major_version.at_least(PgVersion::V12),
        };
        if elsewhere && ALLOWED_ELSEWHERE.contains(&name.as_str()) && !wanted.contains(name) {
            continue;
        }
        if !matches(name, &mut entry.value, wanted, facts) {
            *(if entry.restart { &mut restarts } else { &mut reloads }) += 1;
        }
    }
    Verdict { change: restarts + reloads > 0, restart: restarts > 0 }
}

fn learn_slot(current: &mut CurrentRecovery, facts: &CheckFacts<'_>) {
    if facts.starting {
        return;
    }
    let receiver = facts.receiver;
    let streaming = receiver.conninfo.as_deref().is_some_and(|c| !c.is_empty());
    let slot = receiver.slot_name.as_deref().filter(|s| !s.is_empty());
    let slot = slot.or(if streaming { Some("") } else { receiver.slot_name.as_deref() });
    if let (Some(slot), Some(entry)) = (slot, current.get_mut("primary_slot_name")) {
        entry.value = slot.into();
    }
}

fn matches(name: &str, value: &mut Value, wanted: &Params, facts: &mut CheckFacts<'_>) -> bool {
    let empty = Value::from("");
    let want = |default: &Value| wanted.get(name).unwrap_or(default).clone();
    match name {
        "recovery_min_apply_delay" => compare_values("integer", Some("ms"), value, &want(&0.into())),
        "standby_mode" => compare_values("bool", None, value, &want(&"on".into())),
        "primary_conninfo" => conninfo_matches(value, wanted.get(name), facts),
        "primary_slot_name" if !wanted.get("primary_conninfo").is_some_and(Value::truthy) => true,
        _ => value.py_str() == want(&empty).py_str(),
    }
}

fn conninfo_matches(current: &mut Value, wanted: Option<&Value>, facts: &mut CheckFacts<'_>) -> bool {
    let Some(wanted) = wanted.filter(|w| w.truthy()) else {
        return !current.truthy();
    };
    if !current.truthy() {
        return false;
    }
    let mut wanted = wanted.clone();
    if facts.major_version.before(PgVersion::V17) {
        wanted.remove("dbname");
    }
    let mut from_receiver = receiver_conninfo(current, facts);
    let effective = from_receiver.as_mut().unwrap_or(current);
    if let (Some(passfile), None, Some(password)) =
        (effective.get("passfile"), effective.get("password"), wanted.get("password"))
    {
        let passfile = passfile.py_str();
        if !(facts.read_passfile)(&passfile).is_some_and(|content| holds_lines(&content, &wanted)) {
            return false;
        }
        facts.passfile_found = Some(passfile);
        effective.set("password", password.clone());
    }
    let text = |v: Option<&Value>| v.map_or_else(|| "None".to_owned(), Value::py_str);
    wanted
        .as_map()
        .into_iter()
        .flatten()
        .all(|(key, value)| value.is_null() || text(effective.get(&key.py_str())) == value.py_str())
}

/// The connection in use, with what pg_stat_wal_receiver does not tell (the
/// password, the database) taken from the parameter.
fn receiver_conninfo(current: &Value, facts: &CheckFacts<'_>) -> Option<Value> {
    let text = facts.receiver.conninfo.as_deref().filter(|c| !facts.starting && !c.is_empty())?;
    let mut conninfo: Value = parse_dsn(text)?.into_iter().collect();
    conninfo.remove("dbname");
    if let Some(database) = current.get("dbname").filter(|d| d.truthy()) {
        conninfo.set("dbname", database.clone());
    }
    if let Some(password) = current.get("password") {
        conninfo.set("password", password.clone());
    }
    Some(conninfo)
}

/// Does a password file consist of exactly the lines for this connection, in
/// any order?
fn holds_lines(content: &str, conninfo: &Value) -> bool {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    };
    sorted(content) == sorted(&pgpass::content(conninfo).unwrap_or_default())
}

#[cfg(test)]
#[path = "recovery_check_tests.rs"]
mod tests;
