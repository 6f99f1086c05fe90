//! Where the configuration comes from (surface-api-ctl C1 to C7).

use std::path::{Path, PathBuf};

use patroni_config::{Check, Config, ConfigError, Environment};
use pyfmt::Value;

use crate::click::{CliError, Values};
use crate::dcs_url;

/// Reads the configuration that the program's options ask for.
///
/// # Errors
/// A file that is missing or wrong, or a wrong DCS URL.
pub fn load(values: &Values) -> Result<Value, CliError> {
    let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let given = values.text("config_file").map(str::to_owned);
    let default = default_path(|name| std::env::var_os(name));
    let path = given.or_else(|| variable("PATRONICTL_CONFIG_FILE")).map_or(default.clone(), PathBuf::from);
    if path != default && !readable(&path) {
        return Err(CliError::msg(format!(
            "Provided config file {} not existing or no read rights. Check the -c/--config-file parameter",
            path.display()
        )));
    }
    let mut config = read(&path)?;
    let url = values.text("dcs_url").map(str::to_owned).or_else(|| variable("DCS_URL"));
    if let Some(url) = url {
        override_dcs(&mut config, &url)?;
    }
    if let Some(ctl) = config.get("ctl").filter(|ctl| ctl.truthy() && ctl.as_map().is_none()) {
        let text = format!("AttributeError: '{}' object has no attribute 'get'", ctl.type_name());
        return Err(CliError::Crash(text));
    }
    let configured = config.at(&["ctl", "insecure"]).is_some_and(Value::truthy);
    let mut ctl = config.get("ctl").cloned().unwrap_or_else(Value::map);
    ctl.set("insecure", configured || values.flag("insecure"));
    config.set("ctl", ctl);
    Ok(config)
}

/// `$XDG_CONFIG_HOME/patroni/patronictl.yaml`, by default below `~/.config`.
fn default_path(env: impl Fn(&str) -> Option<std::ffi::OsString>) -> PathBuf {
    let home = || env("HOME").map(PathBuf::from).unwrap_or_else(|| PathBuf::from("/root"));
    let base = env("XDG_CONFIG_HOME").map_or_else(|| home().join(".config"), PathBuf::from);
    base.join("patroni").join("patronictl.yaml")
}

fn readable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::R_OK).is_ok()
}

fn override_dcs(config: &mut Value, url: &str) -> Result<(), CliError> {
    let section = dcs_url::parse(url)?;
    for (scheme, _) in dcs_url::SCHEMES {
        config.remove(scheme);
    }
    for (key, value) in section.as_map().into_iter().flatten() {
        config.set(&key.py_str(), value.clone());
    }
    Ok(())
}

/// The file, the environment and the defaults together.
fn read(path: &Path) -> Result<Value, CliError> {
    let crash = |e: patroni_config::ConfigError| {
        CliError::Crash(match e {
            refused @ ConfigError::Refused(_) => format!("patroni.exceptions.ConfigParseError: {refused}"),
            other => other.to_string(),
        })
    };
    let environment = Environment::read(std::env::vars()).map_err(crash)?;
    let config = Config::load(&path.to_string_lossy(), &environment, &Check::Nothing).map_err(crash)?;
    Ok(config.effective().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_file() {
        let env = |name: &str| (name == "HOME").then(|| "/h".into());
        assert_eq!(default_path(env), PathBuf::from("/h/.config/patroni/patronictl.yaml"));
        let env = |name: &str| (name == "XDG_CONFIG_HOME").then(|| "/x".into());
        assert_eq!(default_path(env), PathBuf::from("/x/patroni/patronictl.yaml"));
    }

    #[test]
    fn a_url_replaces_all_five_sections() {
        let mut config: Value =
            ["etcd", "consul", "kubernetes"].into_iter().map(|k| (k, Value::map())).collect();
        assert!(override_dcs(&mut config, "etcd3://h:1/ns").is_ok());
        assert_eq!(
            pyfmt::json::dumps(&config),
            r#"{"kubernetes": {}, "etcd3": {"host": "h:1"}, "namespace": "/ns"}"#
        );
    }
}
