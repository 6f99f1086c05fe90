//! Which parameters exist in which version of PostgreSQL, and which values
//! they take (surface-ha-pg 15.1-10).
//!
//! The table, `postgres/data/gucs.tsv`, holds facts taken from Patroni's
//! `available_parameters/0_postgres.yml` (MIT licence); `gucs_19.tsv` beside it what a newer PostgreSQL has changed.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use patroni_core::parse::{parse_bool, parse_int, parse_real};
use patroni_core::PgVersion;
use pyfmt::Value;

static TABLE: LazyLock<GucTable> = LazyLock::new(|| {
    let mut table = GucTable::parse(include_str!("../../data/gucs.tsv"));
    let newer = GucTable::parse(include_str!("../../data/gucs_19.tsv"));
    table.general.extend(newer.general);
    match super::guc_files::directory() {
        Some(directory) => table.with_directory(&directory),
        None => table,
    }
});

/// Names that `postgres --describe-config` lists, in lower case.
#[derive(Debug, Clone, Default)]
pub struct AvailableGucs(HashSet<String>);

impl AvailableGucs {
    /// Reads the output of `postgres --describe-config`: one parameter in a
    /// line, the name before the first tab.
    pub fn from_describe_config(output: &str) -> AvailableGucs {
        let names = output.lines().filter_map(|line| line.split('\t').next());
        AvailableGucs(names.map(|n| n.trim().to_lowercase()).filter(|n| !n.is_empty()).collect())
    }

    /// Is `name` one of them?
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(&name.to_lowercase())
    }

    /// No names: the command was not run, or failed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The part of PostgreSQL that a parameter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    General,
    Recovery,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Bool,
    Text,
    Enum { values: Vec<String>, or_bool: bool },
    Number { real: bool, min: Value, max: Value, unit: Option<String> },
}

/// One rule: a kind of value, for a range of versions.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) from: PgVersion,
    pub(super) till: Option<PgVersion>,
    pub(super) kind: Kind,
}

/// What becomes of a value: the value to write, if any, and a line for the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformed {
    /// The value to write; `None` drops the parameter.
    pub value: Option<Value>,
    /// Why it was changed or dropped.
    pub warning: Option<String>,
}

impl Transformed {
    fn keep(value: &Value) -> Transformed {
        Transformed { value: Some(value.clone()), warning: None }
    }

    fn silently_drop() -> Transformed {
        Transformed { value: None, warning: None }
    }

    fn drop_invalid(kind: &str, name: &str, value: &Value) -> Transformed {
        let warning =
            format!("Removing {kind} parameter={name} from the config due to the invalid value={value}");
        Transformed { value: None, warning: Some(warning) }
    }

    /// Logs the warning, if there is one, and gives the value.
    pub fn logged(self) -> Option<Value> {
        if let Some(warning) = self.warning {
            tracing::warn!(target: "patroni.postgresql.validator", "{warning}");
        }
        self.value
    }
}

impl Rule {
    fn applies(&self, version: PgVersion) -> bool {
        version.at_least(self.from) && self.till.is_none_or(|till| version.before(till))
    }

    fn transform(&self, name: &str, value: &Value) -> Transformed {
        match &self.kind {
            Kind::Text => Transformed::keep(value),
            Kind::Bool if parse_bool(value).is_some() => Transformed::keep(value),
            Kind::Bool => Transformed::drop_invalid("bool", name, value),
            Kind::Enum { or_bool: true, .. } if parse_bool(value).is_some() => Transformed::keep(value),
            Kind::Enum { values, .. } => {
                if values.contains(&value.py_str().to_lowercase()) {
                    Transformed::keep(value)
                } else {
                    Transformed::drop_invalid("enum", name, value)
                }
            }
            Kind::Number { real, min, max, unit } => clamp(name, value, *real, (min, max), unit.as_deref()),
        }
    }
}

/// A number outside of its range becomes the limit, in the parameter's unit.
fn clamp(name: &str, value: &Value, real: bool, range: (&Value, &Value), unit: Option<&str>) -> Transformed {
    let number = if real { parse_real(value, unit) } else { parse_int(value, unit).map(|i| i as f64) };
    let Some(number) = number else {
        return Transformed::drop_invalid(if real { "real" } else { "integer" }, name, value);
    };
    let (min, max) = range;
    let (limit, what) = if min.as_f64().is_some_and(|min| number < min) {
        (min, "low, increasing")
    } else if max.as_f64().is_some_and(|max| number > max) {
        (max, "big, decreasing")
    } else {
        return Transformed::keep(value);
    };
    let unit = unit.unwrap_or_default();
    let warning = format!("Value={value} of parameter={name} is too {what} to {limit}{unit}");
    Transformed { value: Some(limit.clone()), warning: Some(warning) }
}

/// The rules of all parameters.
#[derive(Debug, Clone, Default)]
pub struct GucTable {
    general: HashMap<String, Vec<Rule>>,
    recovery: HashMap<String, Vec<Rule>>,
}

impl GucTable {
    /// The table that comes with the program, extended by the files of vendors
    /// (see [`with_directory`](Self::with_directory)).
    pub fn builtin() -> &'static GucTable {
        &TABLE
    }

    fn parse(text: &str) -> GucTable {
        let mut table = GucTable::default();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            if let Some((section, name, rule)) = parse_row(&fields) {
                let rules = table.rules_mut(section).entry(name.to_lowercase()).or_default();
                // Most parameters have one, and the table stays in memory.
                rules.reserve_exact(1);
                rules.push(rule);
            }
        }
        table
    }

    pub(super) fn rules_mut(&mut self, section: Section) -> &mut HashMap<String, Vec<Rule>> {
        match section {
            Section::General => &mut self.general,
            Section::Recovery => &mut self.recovery,
        }
    }

    /// Is `name` a recovery parameter, in any version?
    pub fn is_recovery(&self, name: &str) -> bool {
        self.recovery.contains_key(&name.to_lowercase())
    }

    /// All recovery parameters, sorted.
    pub fn recovery_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.recovery.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The value to write to postgresql.conf for a parameter of
    /// `postgresql.parameters`. Dotted names of extensions pass; recovery
    /// parameters are written elsewhere. `version` is the full version, as in
    /// 150018.
    pub fn transform(
        &self,
        version: PgVersion,
        name: &str,
        value: &Value,
        available: &AvailableGucs,
    ) -> Transformed {
        if name.contains('.') && !self.general.contains_key(&name.to_lowercase()) {
            return Transformed::keep(value);
        }
        if self.is_recovery(name) {
            return Transformed::silently_drop();
        }
        apply(&self.general, version, name, value, |n| available.contains(n))
    }

    /// The value to write for a recovery parameter. `version` is the major
    /// version. Up to version 11 `--describe-config` does not
    /// know these parameters, and the table alone decides.
    pub fn transform_recovery(
        &self,
        version: PgVersion,
        name: &str,
        value: &Value,
        available: &AvailableGucs,
    ) -> Transformed {
        let listed = version.at_least(PgVersion::V12);
        let known = |n: &str| if listed { available.contains(n) } else { self.is_recovery(n) };
        apply(&self.recovery, version, name, value, known)
    }
}

fn apply(
    rules: &HashMap<String, Vec<Rule>>,
    version: PgVersion,
    name: &str,
    value: &Value,
    known: impl Fn(&str) -> bool,
) -> Transformed {
    let rule = rules.get(&name.to_lowercase()).into_iter().flatten().find(|r| r.applies(version));
    match rule {
        Some(rule) => rule.transform(name, value),
        None if known(name) => Transformed::keep(value),
        None => {
            let warning = format!("Removing unexpected parameter={name} value={value} from the config");
            Transformed { value: None, warning: Some(warning) }
        }
    }
}

fn parse_row<'a>(fields: &[&'a str]) -> Option<(Section, &'a str, Rule)> {
    let &[section, name, kind, from, till, min, max, unit, values] = fields else {
        return None;
    };
    let version = |text: &str| text.parse().ok().map(PgVersion::from_num);
    let section = if section == "recovery" { Section::Recovery } else { Section::General };
    let values = || values.split('|').map(str::to_owned).collect();
    let number = |real| {
        let unit = (!unit.is_empty()).then(|| unit.to_owned());
        Some(Kind::Number { real, min: parse_number(min)?, max: parse_number(max)?, unit })
    };
    let kind = match kind {
        "Bool" => Kind::Bool,
        "String" => Kind::Text,
        "Enum" => Kind::Enum { values: values(), or_bool: false },
        "EnumBool" => Kind::Enum { values: values(), or_bool: true },
        "Integer" => number(false)?,
        "Real" => number(true)?,
        _ => return None,
    };
    Some((section, name, Rule { from: version(from)?, till: version(till), kind }))
}

fn parse_number(text: &str) -> Option<Value> {
    text.parse::<i64>().map(Value::Int).or_else(|_| text.parse::<f64>().map(Value::Float)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: u32, name: &str, value: impl Into<Value>) -> (Option<String>, Option<String>) {
        let available = AvailableGucs::from_describe_config("new_guc\tinternal\nallow_alter_system\tx\n");
        let done =
            GucTable::builtin().transform(PgVersion::from_num(version), name, &value.into(), &available);
        (done.value.map(|v| v.py_str()), done.warning)
    }

    #[test]
    fn the_whole_table_is_read() {
        let table = GucTable::builtin();
        let rules: usize = table.general.values().chain(table.recovery.values()).map(Vec::len).sum();
        assert_eq!((table.general.len(), table.recovery.len(), rules), (383, 18, 442));
    }

    #[test]
    fn values_are_kept_clamped_or_dropped() {
        let kept = |v: &str| (Some(v.to_owned()), None);
        let changed = |v: &str, w: &str| (Some(v.to_owned()), Some(w.to_owned()));
        let dropped = |w: &str| (None, Some(w.to_owned()));
        let table = [
            (check(150_018, "fsync", true), kept("True")),
            (check(150_018, "FSYNC", "No"), kept("No")),
            (check(150_018, "my.guc", "x"), kept("x")),
            (check(150_018, "new_guc", "x"), kept("x")),
            (check(150_018, "restore_command", "x"), (None, None)),
            // What a version does not have any more would keep it from starting.
            (check(180_000, "io_workers", 3), kept("3")),
            (
                check(190_000, "io_workers", 3),
                dropped("Removing unexpected parameter=io_workers value=3 from the config"),
            ),
            (
                check(190_000, "escape_string_warning", "on"),
                dropped("Removing unexpected parameter=escape_string_warning value=on from the config"),
            ),
            // A list of process types with levels, from 19 on.
            (check(190_000, "log_min_messages", "warning,checkpointer:debug1"), kept("warning,checkpointer:debug1")),
            (
                check(180_000, "log_min_messages", "warning,checkpointer:debug1"),
                dropped(
                    "Removing enum parameter=log_min_messages from the config due to the invalid value=warning,checkpointer:debug1",
                ),
            ),
            // 13, 14 and 16 by the table.
            (check(130_016, "wal_keep_size", "128MB"), kept("128MB")),
            (
                check(130_016, "wal_keep_segments", 8),
                dropped("Removing unexpected parameter=wal_keep_segments value=8 from the config"),
            ),
            (check(130_016, "operator_precedence_warning", "on"), kept("on")),
            (
                check(140_000, "operator_precedence_warning", "on"),
                dropped("Removing unexpected parameter=operator_precedence_warning value=on from the config"),
            ),
            (check(140_000, "vacuum_cleanup_index_scale_factor", 1), {
                let w = "Removing unexpected parameter=vacuum_cleanup_index_scale_factor value=1 from the config";
                dropped(w)
            }),
            (check(150_018, "force_parallel_mode", "on"), kept("on")),
            (
                check(160_000, "force_parallel_mode", "on"),
                dropped("Removing unexpected parameter=force_parallel_mode value=on from the config"),
            ),
            (check(160_000, "debug_parallel_query", "regress"), kept("regress")),
            (check(90_400, "archive_mode", "on"), kept("on")),
            (check(150_018, "archive_mode", "Always"), kept("Always")),
            (check(170_000, "maintenance_work_mem", "2GB"), kept("2GB")),
            (
                check(170_000, "maintenance_work_mem", 64),
                changed(
                    "1024",
                    "Value=64 of parameter=maintenance_work_mem is too low, increasing to 1024kB",
                ),
            ),
            (
                check(150_018, "geqo_selection_bias", "2.5"),
                changed("2", "Value=2.5 of parameter=geqo_selection_bias is too big, decreasing to 2"),
            ),
            (
                check(150_018, "fsync", "maybe"),
                dropped("Removing bool parameter=fsync from the config due to the invalid value=maybe"),
            ),
            (
                check(150_018, "work_mem", "4XB"),
                dropped("Removing integer parameter=work_mem from the config due to the invalid value=4XB"),
            ),
            (
                check(150_018, "random_page_cost", "x"),
                dropped(
                    "Removing real parameter=random_page_cost from the config due to the invalid value=x",
                ),
            ),
            (
                check(90_400, "archive_mode", "always"),
                dropped(
                    "Removing bool parameter=archive_mode from the config due to the invalid value=always",
                ),
            ),
            (
                check(150_018, "xmlbinary", "oct"),
                dropped("Removing enum parameter=xmlbinary from the config due to the invalid value=oct"),
            ),
            (
                check(150_018, "no_such", 1),
                dropped("Removing unexpected parameter=no_such value=1 from the config"),
            ),
            (check(150_018, "allow_alter_system", "on"), kept("on")),
        ];
        for (got, wanted) in table {
            assert_eq!(got, wanted);
        }
    }

    #[test]
    fn recovery_parameters_by_version() {
        let none = AvailableGucs::default();
        let table = GucTable::builtin();
        let value = |version, name: &str, v: &str| {
            table.transform_recovery(PgVersion::from_num(version), name, &v.into(), &none).value
        };
        assert_eq!(value(110_000, "standby_mode", "on"), Some("on".into()));
        assert_eq!(value(120_000, "standby_mode", "on"), None);
        // Known to the table, though not for this version: kept where the server cannot be asked.
        assert_eq!(value(90_300, "primary_slot_name", "a"), Some("a".into()));
        assert_eq!(value(120_000, "recovery_target", ""), Some("".into()));
        assert_eq!(value(120_000, "recovery_target", "later"), None);
    }
}
