//! Settings that all stores share (surface-dcs 1).

use patroni_core::citus::Section;
use patroni_core::timing::Timing;
use pyfmt::Value;

use crate::DcsError;

/// Who we are, and where our keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Name of this node; the scope for patronictl.
    pub name: String,
    /// Name of the cluster.
    pub scope: String,
    /// `/namespace/scope`: with Citus the directory of all groups.
    pub root_path: String,
    /// `/namespace/scope`, with the group below it for Citus; no slash at the end.
    pub base_path: String,
    /// Durations at the start.
    pub timing: Timing,
    /// patronictl: no lease, no watch, nothing but consistent reads.
    pub ctl: bool,
}

impl Settings {
    /// From the section of the store, with what is at the top level over it.
    ///
    /// # Errors
    /// There is no scope or no name.
    pub fn from_config(config: &Value, section: &Value) -> Result<Settings, DcsError> {
        let get = |key: &str| config.get(key).or_else(|| section.get(key));
        let text = |key: &str| get(key).filter(|v| !v.is_null()).map(Value::py_str);
        let required =
            |key: &str| text(key).ok_or_else(|| DcsError::Config(format!("'{key}' is not configured")));
        let timing = Timing::of(get);
        let namespace = text("namespace").unwrap_or_else(|| "service".into());
        let scope = required("scope")?;
        // Numbers, dates and collections name no directory: a typing error that must not become a cluster's name.
        for (item, key) in [(1, "namespace"), (2, "scope")] {
            if let Some(other) = get(key).filter(|v| !matches!(v, Value::Str(_) | Value::Null)) {
                return Err(DcsError::Config(format!(
                    "TypeError: sequence item {item}: expected str instance, {} found",
                    other.type_name()
                )));
            }
        }
        let root_path = base_path(&namespace, &scope);
        let base_path = match Section::of(config).map(|citus| citus.group) {
            Some(group) => format!("{root_path}/{group}"),
            None => root_path.clone(),
        };
        let ctl = get("patronictl").is_some_and(Value::truthy);
        let name = if ctl { text("name").unwrap_or_else(|| scope.clone()) } else { required("name")? };
        Ok(Settings { name, scope, root_path, base_path, timing, ctl })
    }

    /// The number of the Citus group, as text.
    pub fn group(&self) -> Option<&str> {
        self.base_path.strip_prefix(&self.root_path)?.strip_prefix('/')
    }

    /// The directory of the cluster with a slash at its end: what is listed and watched.
    pub fn prefix(&self) -> String {
        format!("{}/", self.base_path)
    }

    /// The full name of a key.
    pub fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.base_path)
    }

    /// The full name of our member key.
    pub fn member_key(&self) -> String {
        self.key(&format!("members/{}", self.name))
    }
}

/// One slash for many.
fn base_path(namespace: &str, scope: &str) -> String {
    let mut path = String::new();
    for c in ["", namespace, scope].join("/").chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (namespace, scope, want) in
            [("service", "batman", "/service/batman"), ("/a//b/", "b", "/a/b/b"), ("", "b", "/b")]
        {
            assert_eq!(base_path(namespace, scope), want);
        }
    }

    #[test]
    fn the_top_level_wins() {
        let config = r#"{"name":"n","scope":"s","namespace":"/x/","ttl":40,"etcd3":{"namespace":"y","retry_timeout":5}}"#;
        let config = pyfmt::json::loads(config).unwrap();
        let s = Settings::from_config(&config, config.get("etcd3").unwrap()).unwrap();
        assert_eq!((s.prefix().as_str(), s.member_key().as_str()), ("/x/s/", "/x/s/members/n"));
        assert_eq!(
            (s.timing.ttl.as_secs(), s.timing.loop_wait.as_secs(), s.timing.retry_timeout.as_secs()),
            (40, 10, 5)
        );
        let citus = r#"{"name":"n","scope":"s","citus":{"database":"d","group":2}}"#;
        let citus = pyfmt::json::loads(citus).unwrap();
        assert_eq!(
            Settings::from_config(&citus, &Value::map()).unwrap().key("leader"),
            "/service/s/2/leader"
        );
        assert!(Settings::from_config(&Value::map(), &Value::map()).is_err());
        let ctl = Value::from_iter([("scope", Value::from("s")), ("patronictl", true.into())]);
        assert_eq!(Settings::from_config(&ctl, &Value::map()).unwrap().name, "s");
    }

    #[test]
    fn only_text_names_a_cluster() {
        for (key, item, kind) in [("namespace", 1, "list"), ("scope", 2, "int")] {
            let mut config = Value::from_iter([("name", Value::from("n")), ("scope", "s".into())]);
            config.set(key, if kind == "int" { Value::Int(5) } else { Value::List(Vec::new()) });
            let error = Settings::from_config(&config, &Value::map()).map(|_| ()).map_err(|e| e.to_string());
            assert_eq!(
                error,
                Err(format!("TypeError: sequence item {item}: expected str instance, {kind} found"))
            );
        }
    }
}
