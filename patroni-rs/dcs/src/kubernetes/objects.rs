//! The objects of a cluster at an API server: what is asked to read and to write them.

use std::sync::Arc;
use std::time::Duration;

use pyfmt::Value;
use serde_json::{json, Value as Json};

use super::api::{Api, Ask};
use super::lock::OurLock;
use super::options;
use super::port::{Answer, ObjectStore, Scope, Which, Write};
use super::renewer::Renewer;
use super::wire::{List, Object};
use crate::kv::Effort;
use crate::lock::LockRenewer;
use crate::Timing;

/// What a write is in JSON.
fn body(write: &Write<'_>, scope: &Scope, create: bool) -> String {
    let annotations = write.annotations.iter().filter(|(_, value)| value.is_some() || !create);
    let annotations: serde_json::Map<String, Json> =
        annotations.map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let mut metadata = json!({
        "namespace": scope.options.namespace,
        "name": write.name,
        "labels": scope.options.labels,
        "annotations": annotations,
    });
    if let (Some(version), Some(map)) = (write.version, metadata.as_object_mut()) {
        map.insert("resourceVersion".into(), version.into());
    }
    let mut body = json!({ "metadata": metadata });
    if let (Some(subsets), Some(map)) = (&write.subsets, body.as_object_mut()) {
        map.insert("subsets".into(), json!(subsets));
    }
    body.to_string()
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

    /// What is called so in a URL.
    pub fn kind(&self, which: Which) -> &'static str {
        match which {
            Which::State => self.scope.kind(),
            Which::Pods => "pods",
        }
    }

    fn managed(&self, ask: Ask, write: &Write<'_>) -> Ask {
        match write.manager {
            Some(manager) => ask.with("fieldManager", manager),
            None => ask,
        }
    }
}

impl ObjectStore for Objects {
    fn timing(&self) -> Timing {
        self.api.shared().timing()
    }

    fn set_timing(&self, timing: Timing) -> Timing {
        self.api.shared().set_timing(timing)
    }

    /// Labels, names and servers stay: others would be another cluster.
    fn reload(&self, section: &Value) {
        self.api.shared().set_retriable(options::retriable(section));
    }

    fn nonce(&self) -> u64 {
        rand::random()
    }

    async fn pause(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    async fn prepare(&self) {
        self.api.refresh_servers().await;
    }

    /// Without a version in the request the server answers from its quorum, never from a cache.
    async fn list(&self, which: Which, effort: Effort) -> Answer<List> {
        self.api.call(&self.all("GET", self.kind(which)), effort).await
    }

    async fn get(&self, name: &str, effort: Effort) -> Answer<Object> {
        self.api.call(&self.ask("GET", self.scope.kind(), Some(name)), effort).await
    }

    async fn patch(&self, write: &Write<'_>, effort: Effort) -> Answer<Object> {
        let ask = self.managed(self.ask("PATCH", self.scope.kind(), Some(write.name)), write);
        self.api.call(&ask.body(body(write, &self.scope, false)), effort).await
    }

    async fn create(&self, write: &Write<'_>, effort: Effort) -> Answer<Object> {
        let ask = self.managed(self.ask("POST", self.scope.kind(), None), write);
        self.api.call(&ask.body(body(write, &self.scope, true)), effort).await
    }

    async fn patch_pod(
        &self,
        labels: &[(String, Option<String>)],
        status: &str,
        effort: Effort,
    ) -> Answer<Object> {
        let labels: serde_json::Map<String, Json> =
            labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let (namespace, name) = (&self.scope.options.namespace, &self.scope.name);
        let body = json!({ "metadata": {
            "namespace": namespace, "name": name, "labels": labels, "annotations": { "status": status },
        }});
        let ask = self.ask("PATCH", "pods", Some(name)).body(body.to_string());
        self.api.call(&ask, effort).await
    }

    async fn create_service(&self, effort: Effort) -> Answer<()> {
        let (options, name) = (&self.scope.options, &self.scope.names.config);
        let body = json!({
            "metadata": { "namespace": options.namespace, "name": name, "labels": options.labels },
            "spec": { "clusterIP": "None" },
        });
        let ask = self.ask("POST", "services", None).body(body.to_string());
        self.api.call::<Json>(&ask, effort).await.map(drop)
    }

    async fn delete_all(&self, group: Option<&str>, effort: Effort) -> Answer<()> {
        let selector = &self.scope.options.selector;
        let selector = match group {
            Some(group) => format!("{selector},{}={group}", options::GROUP_LABEL),
            None => selector.clone(),
        };
        let ask = self.ask("DELETE", self.scope.kind(), None).with("labelSelector", selector);
        self.api.call::<Json>(&ask, effort).await.map(drop)
    }

    fn renewer(&self, lock: Arc<OurLock>) -> Option<Box<dyn LockRenewer>> {
        let (shared, scope) = (Arc::clone(self.api.shared()), Arc::clone(&self.scope));
        Some(Box::new(Renewer::new(shared, scope, lock)))
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
        Scope::of(&settings, &config, &config, &|_| None).unwrap()
    }

    #[test]
    fn bodies() {
        let annotations = vec![("leader", None), ("optime", Some("5".to_owned()))];
        let write = Write::new("demo", &annotations).at(Some("7"));
        assert_eq!(
            body(&write, &scope(), false),
            r#"{"metadata":{"namespace":"default","name":"demo","labels":{"application":"patroni","cluster-name":"demo"},"annotations":{"leader":null,"optime":"5"},"resourceVersion":"7"}}"#
        );
        // Nulls make nothing.
        let write = Write { subsets: Some(Vec::new()), ..Write::new("demo", &annotations) };
        assert_eq!(
            body(&write, &scope(), true),
            r#"{"metadata":{"namespace":"default","name":"demo","labels":{"application":"patroni","cluster-name":"demo"},"annotations":{"optime":"5"}},"subsets":[]}"#
        );
    }
}
