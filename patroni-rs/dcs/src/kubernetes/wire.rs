//! What goes over the wire: the few fields of core/v1 that Patroni reads and writes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Names and texts.
pub type Texts = BTreeMap<String, String>;

/// Endpoints, a ConfigMap or a Pod: what Patroni needs of them.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Object {
    /// Name, version, labels, annotations.
    pub metadata: Meta,
    /// Of Endpoints.
    #[serde(default)]
    pub subsets: Option<Vec<Subset>>,
    /// Of a Pod.
    #[serde(default)]
    pub spec: Option<Spec>,
    /// Of a Pod.
    #[serde(default)]
    pub status: Option<PodStatus>,
}

impl Object {
    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// A label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.metadata.labels.as_ref()?.get(name).map(String::as_str)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Its resource version.
    pub fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Of an object.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Meta {
    /// Unique among its kind in the namespace.
    #[serde(default)]
    pub name: String,
    /// Rises with each change of any object.
    #[serde(default)]
    pub resource_version: String,
    /// Of this object; another one of the same name has another.
    #[serde(default)]
    pub uid: Option<String>,
    /// What it is found by.
    #[serde(default)]
    pub labels: Option<Texts>,
    /// What is in it, for Patroni.
    #[serde(default)]
    pub annotations: Option<Texts>,
    /// Who has written what.
    #[serde(default)]
    pub managed_fields: Option<Vec<ManagedBy>>,
}

/// Who has written some fields.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedBy {
    /// The name that he gave himself.
    #[serde(default)]
    pub manager: String,
    /// Which, as a tree.
    #[serde(default)]
    pub fields_v1: Option<Json>,
}

impl ManagedBy {
    /// Somebody of that name has written that annotation.
    pub fn of_annotation(manager: &str, annotation: &str) -> ManagedBy {
        let fields = serde_json::json!({"f:metadata": {"f:annotations": {format!("f:{annotation}"): {}}}});
        ManagedBy { manager: manager.to_owned(), fields_v1: Some(fields) }
    }

    /// Has he written that annotation?
    pub fn wrote(&self, annotation: &str) -> bool {
        let annotations = self.fields_v1.as_ref().and_then(|f| f.get("f:metadata")?.get("f:annotations"));
        annotations.is_some_and(|fields| fields.get(format!("f:{annotation}")).is_some())
    }
}

/// Addresses with the same ports.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Subset {
    /// The addresses; the server says null for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<Address>>,
    /// Their ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
}

/// One address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Of the Pod.
    pub ip: String,
    /// Of the Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Of the machine that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// The Pod; given back as it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<Json>,
}

/// One port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The number.
    pub port: u16,
    /// Its name, which has to be there where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// TCP without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// What a Pod is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Its host name, where it has one of its own.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The machine that it runs on.
    #[serde(default)]
    pub node_name: Option<String>,
}

/// What a Pod is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PodStatus {
    /// Its address.
    #[serde(default, rename = "podIP")]
    pub pod_ip: Option<String>,
}

/// All objects of a kind with some labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct List {
    /// With the version as of which they are.
    pub metadata: Meta,
    /// None is null.
    #[serde(default)]
    pub items: Option<Vec<Object>>,
}

/// A line of a watch.
#[cfg(feature = "stores")]
#[derive(Debug, Deserialize)]
pub struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The object, or a [`Status`].
    pub object: Json,
}

/// Why something was refused.
#[cfg(feature = "stores")]
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// In words, with the verb and the resource.
    #[serde(default)]
    pub message: String,
    /// As a status of HTTP.
    #[serde(default)]
    pub code: u16,
}

/// Is the first version later than the second? The server counts; what is no number is compared with nothing.
pub fn is_later(version: &str, than: &str) -> bool {
    match (version.parse::<u128>(), than.parse::<u128>()) {
        (Ok(version), Ok(than)) => version > than,
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // From the traffic of the reference with a server 1.20.2.
    const LIST: &str = r#"{"kind":"EndpointsList","apiVersion":"v1","metadata":{"resourceVersion":"234"},"items":[{"metadata":{"name":"demo","namespace":"default","uid":"14ad7742-ee35-4809-9534-13761085cbcf","resourceVersion":"234","labels":{"application":"patroni","cluster-name":"demo"},"annotations":{"leader":"m0"},"managedFields":[{"manager":"Patroni","operation":"Update","fieldsV1":{"f:metadata":{}}}]},"subsets":[{"addresses":[{"ip":"10.1.1.1","targetRef":{"kind":"Pod","name":"m0"}}],"ports":[{"name":"postgresql","port":5432,"protocol":"TCP"}]}]}]}"#;

    #[test]
    fn lists() {
        let list: List = serde_json::from_str(LIST).unwrap();
        assert_eq!(list.metadata.resource_version, "234");
        let items = list.items.unwrap();
        let object = items.first().unwrap();
        assert_eq!(
            (object.name(), object.version(), object.annotation("leader")),
            ("demo", "234", Some("m0"))
        );
        assert_eq!((object.label("application"), object.annotation("x")), (Some("patroni"), None));
        let subsets = serde_json::to_string(&object.subsets).unwrap();
        assert_eq!(
            subsets,
            r#"[{"addresses":[{"ip":"10.1.1.1","targetRef":{"kind":"Pod","name":"m0"}}],"ports":[{"port":5432,"name":"postgresql","protocol":"TCP"}]}]"#
        );
        let empty: List =
            serde_json::from_str(r#"{"metadata":{"resourceVersion":"1"},"items":null}"#).unwrap();
        assert_eq!(empty.items, None);
    }

    #[test]
    fn versions() {
        for (one, other, later) in
            [("10", "9", true), ("9", "10", false), ("9", "9", false), ("x", "9", false), ("9", "", false)]
        {
            assert_eq!(is_later(one, other), later, "{one} {other}");
        }
    }
}
