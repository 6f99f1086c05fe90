//! The configuration of one process: local, dynamic and effective.

use std::path::Path;

use patroni_core::parse::{deep_compare, parse_int};
use patroni_core::tags::{Reading, TAGS};
use pyfmt::yaml::{self, Document, DumpOptions};
use pyfmt::Value;

use crate::cache::Cache;
use crate::effective;
use crate::env::Environment;
use crate::error::{ConfigError, Result};
use crate::source;
use crate::timeouts;
use crate::validate::{self, Options};

static NULL: Value = Value::Null;

/// What a configuration has to pass before it is used.
#[derive(Debug, Clone)]
pub enum Check {
    /// Nothing: `patronictl` and the generators. The cache is not read either.
    Nothing,
    /// It is not empty: the daemon.
    NotEmpty,
    /// It fits the schema: `--validate-config`.
    Schema(Options),
}

/// Local configuration (files and environment), dynamic configuration (DCS or
/// cache), and the effective one that is built of both.
#[derive(Debug, Clone)]
pub struct Config {
    path: Option<String>,
    environment: Value,
    local: Document,
    dynamic: Value,
    effective: Value,
    modify_version: Option<String>,
    cache: Cache,
    unsaved: bool,
}

impl Config {
    /// Loads the configuration of the file or directory `path`, on top of which
    /// the environment is merged. Where nothing exists at `path`, the document
    /// in `PATRONI_CONFIGURATION` is used alone, or else the environment.
    ///
    /// # Errors
    /// A file cannot be used, the check fails, or a value has a type for which
    /// the reference has no handler.
    pub fn load(path: &str, environment: &Environment, check: &Check) -> Result<Config> {
        let path = Some(path).filter(|p| !p.is_empty() && Path::new(p).exists()).map(str::to_owned);
        let environment_config = environment.config.clone();
        let mut local = match &path {
            Some(path) => load_files(path, &environment_config)?,
            None => document(environment)?.unwrap_or_else(|| environment_config.clone().into()),
        };
        run_check(check, &mut local)?;
        let effective = effective::build(&Value::map(), &local.value)?;
        let cache = Cache::new(data_dir(&effective)?);
        let mut config = Config {
            path,
            environment: environment_config,
            local,
            dynamic: Value::map(),
            effective,
            modify_version: None,
            cache,
            unsaved: false,
        };
        if !matches!(check, Check::Nothing) {
            config.load_cache();
            config.warn_of_contradictory_tags()?;
        }
        config.unsaved = false;
        Ok(config)
    }

    /// The file or directory that the configuration is from.
    pub fn config_file(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// The effective configuration.
    pub fn effective(&self) -> &Value {
        &self.effective
    }

    /// A top-level entry of the effective configuration; null when absent.
    pub fn get(&self, key: &str) -> &Value {
        self.effective.get(key).unwrap_or(&NULL)
    }

    /// Files and environment.
    pub fn local(&self) -> &Value {
        &self.local.value
    }

    /// Files and environment, as `yaml.safe_dump` writes them: with anchors for what
    /// aliases made one object.
    pub fn local_yaml(&self) -> String {
        let format = DumpOptions { allow_unicode: true, ..DumpOptions::default() };
        yaml::dump_document(&self.local, format)
    }

    /// The dynamic configuration, with its timeouts adjusted.
    pub fn dynamic(&self) -> &Value {
        &self.dynamic
    }

    /// Takes a dynamic configuration, unless by its texts it equals the one that
    /// is in force. True when it took effect; one that cannot be used is logged
    /// and refused as a whole.
    pub fn set_dynamic(&mut self, document: Value) -> bool {
        if deep_compare(&self.dynamic, &document) {
            return false;
        }
        match self.apply_dynamic(document) {
            Ok(()) => true,
            Err(e) => {
                tracing::error!(target: "patroni.config", exc = %e, "Exception when setting dynamic_configuration");
                false
            }
        }
    }

    /// Takes the `/config` key of the DCS, unless it has been seen at this
    /// version before. See [`set_dynamic`](Self::set_dynamic).
    pub fn set_cluster_config(&mut self, modify_version: &str, document: &Value) -> bool {
        if self.modify_version.as_deref() == Some(modify_version) {
            return false;
        }
        self.modify_version = Some(modify_version.to_owned());
        self.set_dynamic(document.clone())
    }

    fn apply_dynamic(&mut self, mut document: Value) -> Result<()> {
        if document.as_map().is_none() {
            return Err(ConfigError::no_attribute(&document, "keys"));
        }
        timeouts::adjust(&mut document)?;
        self.effective = effective::build(&document, &self.local.value)?;
        self.dynamic = document;
        self.unsaved = true;
        Ok(())
    }

    /// Reads the files again. `Some(true)` when something changed, `None` when
    /// nothing did, when there are no files, and when they cannot be used: that
    /// is logged, and the old configuration stays in force. Nothing is validated.
    pub fn reload_local(&mut self) -> Option<bool> {
        let path = self.path.clone()?;
        self.try_reload(&path).unwrap_or_else(|e| {
            tracing::error!(
                target: "patroni.config",
                exc = %e,
                "Exception when reloading local configuration from {path}"
            );
            None
        })
    }

    /// The effective configuration that the files would make now. None: there are no files, or they make none, which
    /// [`Config::reload_local`] says.
    pub fn peek_local(&self) -> Option<Value> {
        let local = load_files(self.path.as_deref()?, &self.environment).ok()?;
        effective::build(&self.dynamic, &local.value).ok()
    }

    fn try_reload(&mut self, path: &str) -> Result<Option<bool>> {
        let local = load_files(path, &self.environment)?;
        if deep_compare(&self.local.value, &local.value) {
            tracing::info!(target: "patroni.config", "No local configuration items changed.");
            return Ok(None);
        }
        self.effective = effective::build(&self.dynamic, &local.value)?;
        self.local = local;
        self.warn_of_contradictory_tags()?;
        Ok(Some(true))
    }

    fn load_cache(&mut self) {
        let Some(document) = self.cache.load() else { return };
        if document.as_map().is_none() {
            self.cache.log_load_failure(&ConfigError::no_attribute(&document, "keys"));
            return;
        }
        self.set_dynamic(document);
    }

    /// Writes the dynamic configuration to the data directory if it has changed
    /// since it was last written. A failure is logged, and tried again next time.
    pub fn save_cache(&mut self) {
        if self.unsaved && self.cache.save(&self.dynamic) {
            self.unsaved = false;
        }
    }

    /// Must [`save_cache`](Self::save_cache) still write?
    pub fn needs_saving(&self) -> bool {
        self.unsaved
    }

    fn warn_of_contradictory_tags(&self) -> Result<()> {
        let Some(tags) = self.effective.get("tags") else { return Ok(()) };
        for tag in TAGS {
            let Reading::Priority(flag) = tag.reading else { continue };
            let priority = tag.name;
            if !crate::python::contains(tags, flag)? {
                continue;
            }
            let Some(value) = tags.get(flag) else { return Err(ConfigError::no_attribute(tags, "get")) };
            let number = tags.get(priority).and_then(|p| parse_int(p, None));
            if let Some(n) = number.filter(|n| value.truthy() == (*n > 0)) {
                tracing::warn!(
                    target: "patroni.config",
                    "Conflicting configuration between {flag}: {value} and {priority}: {n}. \
                     Defaulting to {flag}: {value}"
                );
            }
        }
        Ok(())
    }
}

fn load_files(path: &str, environment: &Value) -> Result<Document> {
    let mut config = source::load_path(path)?;
    patroni_core::parse::patch_document(&mut config, environment.clone().into());
    Ok(config)
}

/// The document in the environment; None when there is none, or an empty one.
fn document(environment: &Environment) -> Result<Option<Document>> {
    let Some(text) = environment.document.as_deref().filter(|t| !t.is_empty()) else { return Ok(None) };
    Ok(Some(yaml::load_document(text)?).filter(|document| document.value.truthy()))
}

fn run_check(check: &Check, local: &mut Document) -> Result<()> {
    match check {
        Check::NotEmpty if !local.value.truthy() => Err(ConfigError::refused("Config is empty.")),
        Check::Schema(options) => {
            let errors = validate::validate(&mut local.value, options)?;
            local.write_through(&["postgresql".into()]);
            if errors.is_empty() {
                return Ok(());
            }
            Err(ConfigError::refused(errors.join("\n")))
        }
        _ => Ok(()),
    }
}

fn data_dir(effective: &Value) -> Result<&str> {
    match effective.at(&["postgresql", "data_dir"]) {
        None => Ok(""),
        Some(Value::Str(dir)) => Ok(dir),
        Some(other) => Err(ConfigError::not_a_path(other)),
    }
}
