//! `edit-config` (surface-api-ctl K37 to K43).

use std::io::Read;

use patroni_core::dynamic_check::refusal;
use patroni_core::parse::patch_document;
use pyfmt::yaml::Document;
use pyfmt::Value;

use super::config_edit::{apply_pairs, load_yaml, load_yaml_file};
use super::editor::file_error;
use super::{diff, editor};
use crate::click::prompt::{confirm, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::{yaml, yaml_document};

/// Runs `edit-config`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let name = context.cluster_name(values)?;
    let group = context.default_group(values);
    let store = context.store(&name, group)?;
    let Some(config) = store.view()?.cluster.config else {
        return Err(CliError::msg(format!("The config key does not exist in the cluster {name}")));
    };
    let before = yaml(&config.data, false);
    let (after, changed) = match from_options(&config.data, values)? {
        Some(changed) => (yaml_document(&changed), changed.value),
        None => {
            let text = editor::edit(&before, &name)?;
            let changed = load_yaml(&text)?.value;
            (text, changed)
        }
    };
    let quiet = values.flag("quiet");
    if config.data == changed {
        if !quiet {
            crate::out::echo("Not changed");
        }
        return Ok(());
    }
    if !quiet {
        diff::show(&before, &after)?;
    }
    let force = values.flag("force");
    let from_stdin = ["apply", "replace"].iter().any(|o| values.text(o) == Some("-"));
    if from_stdin && !force {
        crate::out::echo("Use --force option to apply changes");
        return Ok(());
    }
    if force || confirm(&mut Stdio, "Apply these changes?")? {
        crate::output::check_json(&changed)?;
        if let Some(reason) = refusal(&config.data, &changed) {
            return Err(CliError::msg(format!("Invalid configuration: {reason}")));
        }
        if !store.write_config(&changed, &config.version)? {
            return Err(CliError::msg("Config modification aborted due to concurrent changes"));
        }
        crate::out::echo("Configuration changed");
    }
    Ok(())
}

/// What the options make of the configuration: first `--replace`, then
/// `--apply`, then the settings. `None` when no option asks for a change.
fn from_options(config: &Value, values: &Values) -> Result<Option<Document>, CliError> {
    let mut changed = None;
    let config = Document::from(config.clone());
    if let Some(name) = values.text("replace").filter(|n| !n.is_empty()) {
        changed = Some(patched(&Value::map().into(), name)?);
    }
    if let Some(name) = values.text("apply").filter(|n| !n.is_empty()) {
        changed = Some(patched(changed.as_ref().unwrap_or(&config), name)?);
    }
    let mut pairs = values.many("set").to_vec();
    pairs.extend(values.many("pg").iter().map(|p| format!("postgresql.parameters.{}", p.trim_start())));
    if !pairs.is_empty() {
        changed = Some(apply_pairs(changed.as_ref().unwrap_or(&config), &pairs)?);
    }
    Ok(changed)
}

fn patched(config: &Document, file: &str) -> Result<Document, CliError> {
    let shown = if file == "-" { "<stdin>" } else { file };
    let options = load_yaml_file(&read(file)?, shown)?;
    if options.value.as_map().is_none() {
        let kind = options.value.type_name();
        return Err(CliError::Crash(format!("AttributeError: '{kind}' object has no attribute 'items'")));
    }
    let mut config = config.clone();
    patch_document(&mut config, options);
    Ok(config)
}

fn read(file: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let result = match file {
        "-" => std::io::stdin().lock().read_to_string(&mut text).map(|_| text),
        path => std::fs::read_to_string(path),
    };
    result.map_err(|e| file_error(&e, file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::click::values::Val;

    #[test]
    fn replace_then_apply_then_set() {
        let dir = std::env::temp_dir();
        let file = |name: &str, text: &str| {
            let path = dir.join(format!("patronictl-rs-edit-{}-{name}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        };
        let (replace, apply) = (file("replace", "ttl: 20\nb: 2\n"), file("apply", "ttl: null\nc: 3\n"));
        let config = pyfmt::json::loads(r#"{"ttl": 30, "a": 1}"#).unwrap();
        let mut values = Values::default();
        assert!(from_options(&config, &values).unwrap().is_none());
        values.put("apply", Val::Text(apply.clone()));
        let json =
            |values: &Values| pyfmt::json::dumps(&from_options(&config, values).unwrap().unwrap().value);
        assert_eq!(json(&values), r#"{"a": 1, "c": 3}"#);
        values.put("replace", Val::Text(replace.clone()));
        values.put("pg", Val::Many(vec![" x.y=1".into()]));
        assert_eq!(json(&values), r#"{"b": 2, "c": 3, "postgresql": {"parameters": {"x.y": 1}}}"#);
        for path in [replace, apply] {
            std::fs::remove_file(path).unwrap();
        }
    }
}
