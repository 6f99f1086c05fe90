//! The objects of a cluster: how they are read and written.

use std::sync::Arc;

use serde_json::{json, Value as Json};

use super::api::{Api, Ask, Failure};
use super::options::Options;
use super::view::Names;
use super::wire::{List, Object, Subset};
use crate::kv::Effort;

/// Annotations to be written; None takes one away.
pub type Annotations<'a> = Vec<(&'a str, Option<String>)>;

/// What does not change: whose objects, and how they are called.
#[derive(Debug)]
pub struct Scope {
    /// As configured.
    pub options: Options,
    /// Of the objects.
    pub names: Names,
    /// Of this node: also that of its Pod.
    pub name: String,
}

impl Scope {
    /// The kind that holds the state.
    pub fn kind(&self) -> &'static str {
        if self.options.use_endpoints {
            "endpoints"
        } else {
            "configmaps"
        }
    }
}

/// What is written to an object.
#[derive(Debug)]
pub struct Write<'a> {
    /// Of the object.
    pub name: &'a str,
    /// Those that are named, the others stay.
    pub annotations: &'a Annotations<'a>,
    /// Only if the object is still at this version.
    pub version: Option<&'a str>,
    /// In the place of all that there are; None: they stay.
    pub subsets: Option<Vec<Subset>>,
    /// Under which name the server is to remember the write; None: ours.
    pub manager: Option<&'a str>,
}

impl<'a> Write<'a> {
    /// Annotations, without a condition.
    pub fn new(name: &'a str, annotations: &'a Annotations<'a>) -> Write<'a> {
        Write { name, annotations, version: None, subsets: None, manager: None }
    }

    /// On the condition of a version.
    pub fn at(self, version: Option<&'a str>) -> Write<'a> {
        Write { version, ..self }
    }

    fn body(&self, scope: &Scope, create: bool) -> String {
        let annotations = self.annotations.iter().filter(|(_, value)| value.is_some() || !create);
        let annotations: serde_json::Map<String, Json> =
            annotations.map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut metadata = json!({
            "namespace": scope.options.namespace,
            "name": self.name,
            "labels": scope.options.labels,
            "annotations": annotations,
        });
        if let (Some(version), Some(map)) = (self.version, metadata.as_object_mut()) {
            map.insert("resourceVersion".into(), version.into());
        }
        let mut body = json!({ "metadata": metadata });
        if let (Some(subsets), Some(map)) = (&self.subsets, body.as_object_mut()) {
            map.insert("subsets".into(), json!(subsets));
        }
        body.to_string()
    }
}

/// Reads and writes them.
pub struct Objects {
    api: Api,
    scope: Arc<Scope>,
}

impl Objects {
    /// By that client.
    pub fn new(api: Api, scope: Arc<Scope>) -> Objects {
        Objects { api, scope }
    }

    /// The client.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Whose objects they are.
    pub fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    fn ask(&self, method: &'static str, kind: &str, name: Option<&str>) -> Ask {
        Ask::object(method, &self.scope.options.namespace, kind, name)
    }

    /// The request for all objects of a kind: what is listed, watched and deleted.
    pub fn all(&self, method: &'static str, kind: &str) -> Ask {
        self.ask(method, kind, None).with("labelSelector", self.scope.options.selector.clone())
    }

    /// All of a kind, as they are now: without a version in the request the server answers from its quorum, never from
    /// a cache.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn list(&self, kind: &str, effort: Effort) -> Result<List, Failure> {
        self.api.call(&self.all("GET", kind), effort).await
    }

    /// One that holds state, as it is now.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn get(&self, name: &str, effort: Effort) -> Result<Object, Failure> {
        self.api.call(&self.ask("GET", self.scope.kind(), Some(name)), effort).await
    }

    /// Changes one.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn patch(&self, write: &Write<'_>, effort: Effort) -> Result<Object, Failure> {
        let ask = self.managed(self.ask("PATCH", self.scope.kind(), Some(write.name)), write);
        self.api.call(&ask.body(write.body(&self.scope, false)), effort).await
    }

    /// Makes one.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn create(&self, write: &Write<'_>, effort: Effort) -> Result<Object, Failure> {
        let ask = self.managed(self.ask("POST", self.scope.kind(), None), write);
        self.api.call(&ask.body(write.body(&self.scope, true)), effort).await
    }

    fn managed(&self, ask: Ask, write: &Write<'_>) -> Ask {
        match write.manager {
            Some(manager) => ask.with("fieldManager", manager),
            None => ask,
        }
    }

    /// Changes one, or makes it.
    ///
    /// # Errors
    /// See [`Failure`]; a conflict only with a version in the write.
    pub async fn put(&self, write: &Write<'_>, effort: Effort) -> Result<Object, Failure> {
        // Between the two it may have been deleted, or made.
        for _ in 0..3 {
            match self.patch(write, effort).await {
                Err(Failure::Missing) if write.version.is_none() => {}
                other => return other,
            }
            match self.create(write, effort).await {
                Err(Failure::Conflict) => {}
                other => return other,
            }
        }
        Err(Failure::Conflict)
    }

    /// Changes our own Pod.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn patch_pod(
        &self,
        labels: &[(String, Option<String>)],
        status: &str,
        effort: Effort,
    ) -> Result<Object, Failure> {
        let labels: serde_json::Map<String, Json> =
            labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let (namespace, name) = (&self.scope.options.namespace, &self.scope.name);
        let body = json!({ "metadata": {
            "namespace": namespace, "name": name, "labels": labels, "annotations": { "status": status },
        }});
        let ask = self.ask("PATCH", "pods", Some(name)).body(body.to_string());
        self.api.call(&ask, effort).await
    }

    /// Makes the Service that keeps Kubernetes from taking the Endpoints of the configuration for left over.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn create_service(&self, effort: Effort) -> Result<(), Failure> {
        let (options, name) = (&self.scope.options, &self.scope.names.config);
        let body = json!({
            "metadata": { "namespace": options.namespace, "name": name, "labels": options.labels },
            "spec": { "clusterIP": "None" },
        });
        let ask = self.ask("POST", "services", None).body(body.to_string());
        self.api.call::<Json>(&ask, effort).await.map(drop)
    }

    /// Deletes all that hold state; with Citus those of the own group.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete_all(&self, group: Option<&str>, effort: Effort) -> Result<(), Failure> {
        let selector = &self.scope.options.selector;
        let selector = match group {
            Some(group) => format!("{selector},{}={group}", super::options::GROUP_LABEL),
            None => selector.clone(),
        };
        let ask = self.ask("DELETE", self.scope.kind(), None).with("labelSelector", selector);
        self.api.call::<Json>(&ask, effort).await.map(drop)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Settings;

    fn scope() -> Scope {
        let config =
            r#"{"scope":"demo","name":"m0","labels":{"application":"patroni"},"use_endpoints":true}"#;
        let config = pyfmt::json::loads(config).unwrap();
        let settings = Settings::from_config(&config, &config).unwrap();
        let options = Options::from_section(&settings, &config, &config, &|_| None).unwrap();
        Scope { names: Names::of("demo", None, true), name: "m0".into(), options }
    }

    #[test]
    fn bodies() {
        let annotations = vec![("leader", None), ("optime", Some("5".to_owned()))];
        let write = Write::new("demo", &annotations).at(Some("7"));
        assert_eq!(
            write.body(&scope(), false),
            r#"{"metadata":{"namespace":"default","name":"demo","labels":{"application":"patroni","cluster-name":"demo"},"annotations":{"leader":null,"optime":"5"},"resourceVersion":"7"}}"#
        );
        // Nulls make nothing.
        let write = Write { subsets: Some(Vec::new()), ..Write::new("demo", &annotations) };
        assert_eq!(
            write.body(&scope(), true),
            r#"{"metadata":{"namespace":"default","name":"demo","labels":{"application":"patroni","cluster-name":"demo"},"annotations":{"optime":"5"}},"subsets":[]}"#
        );
    }
}
