//! Options of the section `kubernetes` (surface-dcs 14).

use std::collections::BTreeSet;

use patroni_core::parse::{parse_bool, parse_int};
use pyfmt::Value;

use super::wire::{Port, Texts};
use crate::{DcsError, Settings};

/// Always tried again, whatever is configured. 502 is not among the reference's: it is a proxy's word for the same.
const RETRIABLE: [u16; 4] = [500, 502, 503, 504];

/// The label of Citus's group.
pub const GROUP_LABEL: &str = "citus-group";

/// Options of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the objects are.
    pub namespace: String,
    /// Endpoints hold the state, not ConfigMaps.
    pub use_endpoints: bool,
    /// Of all objects that we make.
    pub labels: Texts,
    /// What they are found by: `a=b,c=d`. With Citus those of all groups.
    pub selector: String,
    /// Where a Pod's role is.
    pub role_label: String,
    /// The role of the leader.
    pub leader: String,
    /// The role of replicas.
    pub follower: String,
    /// The role of a standby leader.
    pub standby_leader: String,
    /// Another label for the role, in the reference's words.
    pub tmp_role_label: Option<String>,
    /// On Pods that get their data.
    pub bootstrap_labels: Texts,
    /// Our address, if the Pod's is not to be asked for.
    pub pod_ip: Option<String>,
    /// Of PostgreSQL, in the leader's Endpoints.
    pub ports: Vec<Port>,
    /// What the API server's certificate is checked by in a cluster.
    pub cacert: Option<String>,
    /// Of the kubeconfig.
    pub context: Option<String>,
    /// What the API server warns of is logged: by daemons, since people read what patronictl says.
    pub tells_warnings: bool,
    /// Speak to the API servers themselves, not to their Service.
    pub bypass_api_service: bool,
    /// What else is tried again.
    pub retriable: BTreeSet<u16>,
}

impl Options {
    /// Reads a section. `environment` looks up a variable.
    ///
    /// # Errors
    /// There are no labels, or a port is no number.
    pub fn from_section(
        settings: &Settings,
        config: &Value,
        section: &Value,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Options, DcsError> {
        let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let or = |key: &str, default: &str| text(key).unwrap_or_else(|| default.to_owned());
        let on = |key: &str| section.get(key).is_some_and(|v| parse_bool(v).unwrap_or_else(|| v.truthy()));
        let Some(Value::Map(_)) = section.get("labels") else {
            return Err(DcsError::Config("kubernetes.labels is not configured".into()));
        };
        let mut labels = ordered(section.get("labels"));
        // The scope may be among them already.
        let scope_label = or("scope_label", "cluster-name");
        match labels.iter_mut().find(|(name, _)| *name == scope_label) {
            Some((_, value)) => value.clone_from(&settings.scope),
            None => labels.push((scope_label, settings.scope.clone())),
        }
        let selector = labels.iter().map(|(name, value)| format!("{name}={value}"));
        let selector = selector.collect::<Vec<_>>().join(",");
        let mut labels: Texts = labels.into_iter().collect();
        if let Some(group) = settings.group() {
            labels.insert(GROUP_LABEL.into(), group.to_owned());
        }
        // What is at the top level goes before what is in the section.
        let namespace = config.get("namespace").or_else(|| section.get("namespace"));
        let namespace = namespace.filter(|v| v.truthy()).map_or_else(|| "default".into(), Value::py_str);
        Ok(Options {
            namespace,
            use_endpoints: on("use_endpoints"),
            labels,
            selector,
            role_label: or("role_label", "role"),
            leader: or("leader_label_value", "primary"),
            follower: or("follower_label_value", "replica"),
            standby_leader: or("standby_leader_label_value", "primary"),
            tmp_role_label: text("tmp_role_label"),
            bootstrap_labels: ordered(section.get("bootstrap_labels")).into_iter().collect(),
            pod_ip: text("pod_ip"),
            ports: ports(section.get("ports"))?,
            cacert: environment("PATRONI_KUBERNETES_CACERT").or_else(|| text("cacert")),
            context: section.get("context").map_or_else(|| Some("kind-kind".into()), |_| text("context")),
            tells_warnings: !settings.ctl,
            bypass_api_service: !settings.ctl && on("bypass_api_service"),
            retriable: retriable(section),
        })
    }
}

fn ordered(map: Option<&Value>) -> Vec<(String, String)> {
    let map = map.and_then(Value::as_map).into_iter().flatten();
    map.map(|(name, value)| (name.py_str(), value.py_str())).collect()
}

fn ports(list: Option<&Value>) -> Result<Vec<Port>, DcsError> {
    let default = [Value::map()];
    let list = list.and_then(Value::as_list).unwrap_or(&default);
    let port = |entry: &Value| {
        let text = |key: &str| entry.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let number = entry.get("port").map_or(Some(5432), |port| parse_int(port, None));
        let port = number.and_then(|number| u16::try_from(number).ok());
        let port = port.ok_or_else(|| DcsError::Config("kubernetes.ports: a port is no number".into()))?;
        Ok(Port { port, name: text("name"), protocol: text("protocol") })
    };
    list.iter().map(port).collect()
}

/// The codes of `retriable_http_codes` (a number, a list, or a text with commas) and those that always are. What is no
/// number is said, and none of the others counts, as in the reference.
pub fn retriable(section: &Value) -> BTreeSet<u16> {
    let always: BTreeSet<u16> = RETRIABLE.into();
    let Some(configured) = section.get("retriable_http_codes").filter(|v| !v.is_null()) else {
        return always;
    };
    let texts = match configured {
        Value::List(list) => list.iter().map(Value::py_str).collect(),
        other => other.py_str().split(',').map(str::to_owned).collect::<Vec<_>>(),
    };
    let codes: Result<BTreeSet<u16>, _> = texts.iter().map(|text| text.trim().parse::<u16>()).collect();
    match codes {
        Ok(codes) => always.union(&codes).copied().collect(),
        Err(_) => {
            let text = configured.py_str();
            tracing::warn!(target: "patroni.dcs.kubernetes", "Invalid value of retriable_http_codes = {text}");
            always
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<Options, DcsError> {
        let config = pyfmt::json::loads(json).unwrap();
        let mut whole = Value::from_iter([("scope", "demo"), ("name", "m0")]);
        for key in ["namespace", "citus", "patronictl"] {
            if let Some(value) = config.get(key).filter(|_| config.get("top").is_some()) {
                whole.set(key, value.clone());
            }
        }
        let settings = Settings::from_config(&whole, &config).unwrap();
        Options::from_section(&settings, &whole, &config, &|_| None)
    }

    #[test]
    fn defaults() {
        let o = options(r#"{"labels":{"application":"patroni"}}"#).unwrap();
        assert_eq!((o.namespace.as_str(), o.use_endpoints, o.bypass_api_service), ("default", false, false));
        assert_eq!(o.selector, "application=patroni,cluster-name=demo");
        assert_eq!((o.role_label.as_str(), o.leader.as_str()), ("role", "primary"));
        assert_eq!((o.follower.as_str(), o.standby_leader.as_str()), ("replica", "primary"));
        assert_eq!(o.ports, [Port { port: 5432, name: None, protocol: None }]);
        assert_eq!((o.context.as_deref(), o.tmp_role_label, o.pod_ip), (Some("kind-kind"), None, None));
        assert_eq!(o.retriable.into_iter().collect::<Vec<_>>(), [500, 502, 503, 504]);
        assert!(options("{}").is_err());
    }

    #[test]
    fn all_of_them() {
        let o = options(
            r#"{"labels":{"b":1,"a":"x"},"scope_label":"s","role_label":"r","leader_label_value":"L",
                "follower_label_value":"F","standby_leader_label_value":"S","tmp_role_label":"t","use_endpoints":"on",
                "pod_ip":"10.0.0.1","ports":[{"name":"n","port":"6432"},{"port":1,"protocol":"TCP"}],"context":null,
                "bypass_api_service":true,"bootstrap_labels":{"x":true},"namespace":"own"}"#,
        )
        .unwrap();
        // In the order of the configuration, as the reference asks for them.
        assert_eq!(o.selector, "b=1,a=x,s=demo");
        assert_eq!((o.use_endpoints, o.bypass_api_service, o.context), (true, true, None));
        assert_eq!((o.ports.len(), o.ports[0].port, o.ports[0].name.as_deref()), (2, 6432, Some("n")));
        assert_eq!((o.namespace.as_str(), o.bootstrap_labels["x"].as_str()), ("own", "True"));
        let top = options(r#"{"top":1,"namespace":"other","labels":{}}"#).unwrap();
        assert_eq!((top.namespace.as_str(), top.selector.as_str()), ("other", "cluster-name=demo"));
        let citus = options(r#"{"top":1,"citus":{"database":"d","group":2},"labels":{}}"#).unwrap();
        assert_eq!((citus.labels[GROUP_LABEL].as_str(), citus.selector.as_str()), ("2", "cluster-name=demo"));
        assert!(options(r#"{"labels":{},"ports":[{"port":"x"}]}"#).is_err());
        // The API servers are for daemons.
        let ctl = options(r#"{"top":1,"patronictl":true,"labels":{},"bypass_api_service":true}"#).unwrap();
        assert!(!ctl.bypass_api_service && !ctl.tells_warnings);
    }

    #[test]
    fn codes() {
        for (json, more) in [
            (r#"{}"#, &[][..]),
            (r#"{"retriable_http_codes":401}"#, &[401]),
            (r#"{"retriable_http_codes":[401,"403"]}"#, &[401, 403]),
            (r#"{"retriable_http_codes":"401, 403"}"#, &[401, 403]),
            (r#"{"retriable_http_codes":"401,x"}"#, &[]),
        ] {
            let found = retriable(&pyfmt::json::loads(json).unwrap());
            let want: BTreeSet<u16> = RETRIABLE.iter().chain(more).copied().collect();
            assert_eq!(found, want, "{json}");
        }
    }
}
