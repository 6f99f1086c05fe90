//! The addresses in the leader's Endpoints: one subset, our address, the configured ports.

use serde_json::json;

use super::port::Scope;
use super::wire::{Address, Object, Port, Subset};

/// What has to be written so that clients find us; None: nothing, since it is there, or since our address is not known.
pub fn of_leader(scope: &Scope, known: Option<&Object>, pod: Option<&Object>) -> Option<Vec<Subset>> {
    if !scope.options.use_endpoints {
        return None;
    }
    let pods = || pod.and_then(|pod| pod.status.as_ref()).and_then(|status| status.pod_ip.clone());
    let ip = scope.options.pod_ip.clone().or_else(pods).filter(|ip| !ip.is_empty())?;
    let known = known.and_then(|object| object.subsets.as_deref()).unwrap_or_default();
    if !differ(known, &ip, &scope.options.ports) {
        return None;
    }
    let mut address = Address { ip, ..Address::default() };
    if let Some(pod) = pod {
        let spec = pod.spec.clone().unwrap_or_default();
        (address.hostname, address.node_name) = (spec.hostname, spec.node_name);
        address.target_ref = Some(target(scope, &address.ip, known, pod));
    }
    let subset = Subset { addresses: Some(vec![address]), ports: Some(scope.options.ports.clone()) };
    Some(vec![subset])
}

/// The one that is there, if it is ours: with each version of the Pod it would be another.
fn target(scope: &Scope, ip: &str, known: &[Subset], pod: &Object) -> serde_json::Value {
    let addresses = known.iter().flat_map(|subset| subset.addresses.iter().flatten());
    let ours = addresses.filter(|address| address.ip == ip).filter_map(|address| address.target_ref.clone());
    let mut ours = ours.filter(|target| target.get("name").and_then(|n| n.as_str()) == Some(&scope.name));
    ours.next().unwrap_or_else(|| {
        json!({
            "kind": "Pod",
            "uid": pod.metadata.uid,
            "namespace": scope.options.namespace,
            "name": scope.name,
            "resourceVersion": pod.version(),
        })
    })
}

fn differ(known: &[Subset], ip: &str, ports: &[Port]) -> bool {
    let [subset] = known else { return true };
    let addresses = subset.addresses.as_deref().unwrap_or_default();
    let there = subset.ports.as_deref().unwrap_or_default();
    let same = |a: &Port, b: &Port| {
        let protocol = |port: &Port| port.protocol.clone().unwrap_or_else(|| "TCP".into());
        a.name == b.name && a.port == b.port && protocol(a) == protocol(b)
    };
    let ours = matches!(addresses, [one] if one.ip == ip);
    !ours || there.len() != ports.len() || ports.iter().any(|port| !there.iter().any(|t| same(t, port)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Settings;

    fn scope(more: &str) -> Scope {
        let config =
            format!(r#"{{"scope":"demo","name":"m0","labels":{{"a":"b"}},"use_endpoints":true{more}}}"#);
        let config = pyfmt::json::loads(&config).unwrap();
        let settings = Settings::from_config(&config, &config).unwrap();
        Scope::of(&settings, &config, &config, &|_| None).unwrap()
    }

    fn object(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_written() {
        let pod = object(
            r#"{"metadata":{"name":"m0","uid":"u","resourceVersion":"7"},"spec":{"hostname":"h","nodeName":"n"},"status":{"podIP":"10.1.1.1"}}"#,
        );
        let text = |scope: &Scope, known: Option<&str>, pod: Option<&Object>| {
            let known = known.map(|subsets| object(&format!(r#"{{"metadata":{{}},"subsets":{subsets}}}"#)));
            of_leader(scope, known.as_ref(), pod).map(|subsets| serde_json::to_string(&subsets).unwrap())
        };
        let ours = r#"[{"addresses":[{"ip":"10.1.1.1","hostname":"h","nodeName":"n","targetRef":{"kind":"Pod","uid":"u","namespace":"default","name":"m0","resourceVersion":"7"}}],"ports":[{"port":5432}]}]"#;
        let plain = scope("");
        assert_eq!(text(&plain, None, Some(&pod)).as_deref(), Some(ours));
        assert_eq!(text(&plain, Some(ours), Some(&pod)), None);
        assert_eq!(text(&plain, Some("null"), None), None, "nobody knows our address");
        assert_eq!(
            text(&scope(r#","pod_ip":"10.1.1.2""#), None, None).as_deref(),
            Some(r#"[{"addresses":[{"ip":"10.1.1.2"}],"ports":[{"port":5432}]}]"#)
        );
        // Another port, and the Pod has changed since: the reference to it stays.
        let later = object(&serde_json::to_string(&json!({
            "metadata": {"name": "m0", "uid": "u", "resourceVersion": "9"}, "status": {"podIP": "10.1.1.1"}
        })).unwrap());
        let ports = scope(r#","ports":[{"port":1}]"#);
        let written = text(&ports, Some(ours), Some(&later)).unwrap();
        assert!(
            written.contains(r#""resourceVersion":"7""#) && written.contains(r#"[{"port":1}]"#),
            "{written}"
        );
        assert_eq!(text(&scope(r#","use_endpoints":false"#), None, Some(&pod)), None);
    }

    #[test]
    fn differences() {
        let subsets = |text: &str| serde_json::from_str::<Vec<Subset>>(text).unwrap();
        let port = |name: &str, port| Port { name: Some(name.into()), port, protocol: None };
        let two = r#"[{"addresses":[{"ip":"1.1.1.1"}],"ports":[{"name":"a","port":1,"protocol":"TCP"},{"name":"b","port":2}]}]"#;
        for (known, ports, want) in [
            ("[]", vec![port("a", 1)], true),
            (two, vec![port("b", 2), port("a", 1)], false),
            (two, vec![port("b", 2), port("a", 3)], true),
            (two, vec![port("a", 1)], true),
            (r#"[{"addresses":null,"ports":[]}]"#, vec![], true),
            (r#"[{"addresses":[{"ip":"1.1.1.2"}]}]"#, vec![], true),
            (r#"[{"addresses":[{"ip":"1.1.1.1"}]}]"#, vec![], false),
        ] {
            assert_eq!(differ(&subsets(known), "1.1.1.1", &ports), want, "{known}");
        }
    }
}
