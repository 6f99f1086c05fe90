//! YAML files of vendors that extend the table of parameters (surface-config 12.1).
//!
//! The reference reads every file of its package directory `available_parameters`. Ours is
//! `share/patroni/available_parameters` beside the directory of the program: for
//! `/usr/bin/patroni` it is `/usr/share/patroni/available_parameters`.

use std::path::{Path, PathBuf};

use patroni_core::PgVersion;
use pyfmt::value::str_repr;
use pyfmt::{yaml, Value};

use super::guc::{GucTable, Kind, Rule, Section};

const TARGET: &str = "patroni.postgresql.validator";

/// The directory of the running program; a link to it is followed.
pub(super) fn directory() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.join("share/patroni/available_parameters"))
}

impl GucTable {
    /// The table with the rules of the YAML files in and below a directory: directories and
    /// files in the order of their names, a later file replacing what an earlier one
    /// says of a parameter. What cannot be used is logged and left out.
    pub fn with_directory(mut self, directory: &Path) -> GucTable {
        self.read_directory(directory);
        self
    }

    fn read_directory(&mut self, directory: &Path) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
            if path.is_dir() {
                self.read_directory(&path);
            } else if name.ends_with(".yml") || name.ends_with(".yaml") {
                self.read_file(&path);
            } else if !name.ends_with(".py") && !name.ends_with(".pyc") {
                let path = path.display();
                tracing::info!(
                    target: "patroni.postgresql.available_parameters",
                    "Ignored a non-YAML file found under `available_parameters` directory: `{path}`."
                );
            }
        }
    }

    fn read_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|e| e.to_string());
        let document = match text
            .and_then(|text| yaml::load_named(&text, &shown.to_string()).map_err(|e| e.to_string()))
        {
            Ok(document) => document.value,
            Err(e) => {
                tracing::warn!(
                    target: TARGET,
                    "Unexpected issue while reading parameters file `{shown}`: `{e}`."
                );
                return;
            }
        };
        for (key, section) in [("parameters", Section::General), ("recovery_parameters", Section::Recovery)] {
            for (name, specs) in document.get(key).and_then(Value::as_map).into_iter().flatten() {
                let name = name.py_str();
                let specs = specs.as_list().unwrap_or_default();
                let rules = specs.iter().filter_map(|spec| match rule_of(spec) {
                    Ok(rule) => Some(rule),
                    Err(problem) => {
                        tracing::warn!(
                            target: TARGET,
                            "Faced an issue while parsing a validator for parameter `{name}`: `{problem}`"
                        );
                        None
                    }
                });
                let rules: Vec<Rule> = rules.collect();
                self.rules_mut(section).insert(name.to_lowercase(), rules);
            }
        }
    }
}

/// A rule, or the exception as the log shows it.
fn rule_of(spec: &Value) -> Result<Rule, String> {
    let Some(kind) = spec.get("type") else {
        return Err("ValidatorFactoryNoType('Validator contains no type.')".into());
    };
    let kind = kind.py_str();
    let numbers: &[&str] = &["version_from", "version_till", "min_val", "max_val", "unit"];
    let (allowed, required): (&[&str], &[&str]) = match kind.as_str() {
        "Bool" | "String" => (&["version_from", "version_till"], &["version_from"]),
        "Enum" | "EnumBool" => {
            (&["version_from", "version_till", "possible_values"], &["version_from", "possible_values"])
        }
        "Integer" | "Real" => (numbers, &["version_from", "min_val", "max_val"]),
        other => {
            let text = str_repr(&format!("Unexpected validator type: `{other}`."));
            return Err(format!("ValidatorFactoryInvalidType({text})"));
        }
    };
    let invalid = |problem: String| {
        let mut rest = spec.clone();
        rest.remove("type");
        let text = format!("Failed to parse `{kind}` validator (`{}`): `{problem}`.", rest.py_repr());
        format!("ValidatorFactoryInvalidSpec({})", str_repr(&text))
    };
    let names = spec.as_map().into_iter().flat_map(|map| map.keys()).map(Value::py_str);
    let mut names = names.filter(|name| name != "type");
    if let Some(unknown) = names.find(|name| !allowed.contains(&name.as_str())) {
        let problem = format!("{kind}.__init__() got an unexpected keyword argument {}", str_repr(&unknown));
        return Err(invalid(problem));
    }
    if let Some(missing) = required.iter().find(|name| spec.get(name).is_none()) {
        return Err(invalid(format!("{kind}.__init__() missing a required argument: {}", str_repr(missing))));
    }
    let version = |name: &str| {
        spec.get(name).and_then(Value::as_i64).and_then(|v| u32::try_from(v).ok()).map(PgVersion::from_num)
    };
    let limit = |name: &str| spec.get(name).cloned().unwrap_or_default();
    let number = |real| Kind::Number {
        real,
        min: limit("min_val"),
        max: limit("max_val"),
        unit: spec.get("unit").filter(|unit| unit.truthy()).map(Value::py_str),
    };
    let values = || {
        let values = spec.get("possible_values").and_then(Value::as_list).unwrap_or_default();
        values.iter().map(Value::py_str).collect()
    };
    let kind = match kind.as_str() {
        "Bool" => Kind::Bool,
        "String" => Kind::Text,
        "Integer" => number(false),
        "Real" => number(true),
        kind => Kind::Enum { values: values(), or_bool: kind == "EnumBool" },
    };
    Ok(Rule { from: version("version_from").unwrap_or_default(), till: version("version_till"), kind })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::files::AvailableGucs;

    #[test]
    fn files_extend_and_replace() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "1_vendor.yml",
            "parameters:\n  vendor.mode:\n  - {type: Enum, version_from: 90300, possible_values: [a, b]}\n",
        );
        write("2/x.YAML", "parameters:\n  Work_Mem:\n  - {type: Integer, version_from: 150000, min_val: 1, max_val: 5, unit: MB}\n  odd:\n  - {version_from: 1}\n  - {type: Any}\n  - {type: Bool, version_from: 1, unit: s}\n  - {type: Real, version_from: 1}\n");
        write("3_broken.yml", "parameters: [");
        write("readme.txt", "");
        let table = GucTable::builtin().clone().with_directory(directory.path());
        let none = AvailableGucs::default();
        let value = |name: &str, value: &str| {
            table
                .transform(PgVersion::from_num(150_018), name, &value.into(), &none)
                .value
                .map(|v| v.py_str())
        };
        assert_eq!(value("vendor.mode", "b").as_deref(), Some("b"));
        assert_eq!(value("vendor.mode", "c"), None);
        assert_eq!(value("other.mode", "c").as_deref(), Some("c"));
        assert_eq!(value("work_mem", "64MB").as_deref(), Some("5"));
        assert_eq!(value("odd", "1"), None);
        assert_eq!(value("fsync", "on").as_deref(), Some("on"));
        // The file replaces all that was known of the parameter, of other versions too.
        assert_eq!(table.transform(PgVersion::V14, "work_mem", &"4MB".into(), &none).value, None);
    }

    #[test]
    fn words() {
        let problem = |text: &str| rule_of(&yaml::load(text).unwrap()).unwrap_err();
        assert_eq!(problem("{}"), "ValidatorFactoryNoType('Validator contains no type.')");
        assert_eq!(problem("type: Any"), "ValidatorFactoryInvalidType('Unexpected validator type: `Any`.')");
        assert!(problem("{type: Bool, version_from: 1, unit: s}").starts_with(
            "ValidatorFactoryInvalidSpec(\"Failed to parse `Bool` validator (`{'version_from': 1, 'unit': 's'}`): "
        ));
    }
}
