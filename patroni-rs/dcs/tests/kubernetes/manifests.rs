//! The manifests of docs/stores/kubernetes on a real API server: it takes them, and the rights in them are enough for
//! all that a member and patronictl do, and no more than that.

use patroni_core::model::{FailoverOrder, SyncState};
use patroni_dcs::lock::Renewal;
use patroni_dcs::{Dcs, Kubernetes as Store};
use pyfmt::{json, yaml, Value};

use super::{acquire, leader, renew, server, S, SHARED};

/// Each document of a file, with the namespace that is in it replaced.
fn documents(file: &str, namespace: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/stores/kubernetes/");
    let text = std::fs::read_to_string(format!("{path}{file}")).unwrap();
    let text = text.replace("namespace: default", &format!("namespace: {namespace}"));
    text.split("\n---\n").map(|document| yaml::load(document).unwrap()).collect()
}

fn text<'a>(document: &'a Value, path: &[&str]) -> &'a str {
    document.at(path).and_then(Value::as_str).unwrap()
}

/// Where objects of a kind are.
fn collection(document: &Value, namespace: &str) -> String {
    let version = text(document, &["apiVersion"]);
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let kind = text(document, &["kind"]).to_lowercase();
    format!("{root}/namespaces/{namespace}/{kind}s")
}

/// Applies the manifests in a namespace of their own, with the Pods that nobody makes there; a store with the rights of
/// the service account.
fn applied(file: &str, use_endpoints: bool) -> Option<(Store, String)> {
    server::program()?;
    let mut server = SHARED.lock().unwrap();
    let namespace = server.new_namespace();
    for document in documents(file, &namespace) {
        server.ask("POST", &collection(&document, &namespace), &json::dumps(&document));
        if text(&document, &["kind"]) == "StatefulSet" {
            let template = document.at(&["spec", "template"]).unwrap();
            for number in 0..2 {
                let mut pod = template.clone();
                let mut metadata = pod.get("metadata").unwrap().clone();
                metadata.set("name", format!("{}-{number}", text(&document, &["metadata", "name"])));
                pod.set("metadata", metadata);
                // Its controller would add the volume of the claim.
                let mut spec = pod.get("spec").unwrap().clone();
                let claim = r#"{"name":"data","persistentVolumeClaim":{"claimName":"data"}}"#;
                let mut volumes = spec.get("volumes").and_then(Value::as_list).unwrap().to_vec();
                volumes.push(json::loads(claim).unwrap());
                spec.set("volumes", Value::from(volumes));
                pod.set("spec", spec);
                server.ask("POST", &format!("/api/v1/namespaces/{namespace}/pods"), &json::dumps(&pod));
            }
        }
    }
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/demo/token");
    let token = server.ask("POST", &path, r#"{"spec":{"expirationSeconds":3600}}"#);
    let context = format!("{namespace}-demo");
    server::add_context(&context, &server.url, text(&token, &["status", "token"]));
    let section = Value::from_iter([
        ("namespace", Value::from(namespace.as_str())),
        ("labels", Value::from_iter([("application", "patroni")])),
        ("context", context.into()),
        ("use_endpoints", use_endpoints.into()),
        ("pod_ip", "10.1.1.1".into()),
    ]);
    let config = Value::from_iter([
        ("scope", Value::from("demo")),
        ("name", "demo-pods-0".into()),
        ("ttl", 60.into()),
        ("kubernetes", section.clone()),
    ]);
    let settings = patroni_dcs::Settings::from_config(&config, &section).unwrap();
    Some((Store::start(settings, &config, &section).unwrap(), namespace))
}

async fn member_lives(store: &Store) {
    let data = json::loads(r#"{"state":"running","role":"primary","api_url":"http://x"}"#).unwrap();
    assert_eq!(store.initialize(true, "").await, Ok(true));
    assert_eq!(store.initialize(false, "7").await, Ok(true));
    assert_eq!(acquire(store).await, Ok(true));
    assert_eq!(store.touch_member(&data).await, Ok(true));
    let held = leader(store).await.unwrap();
    assert_eq!(held.name(), "demo-pods-0");
    let failsafe = Value::from_iter([("demo-pods-0", "http://x")]);
    assert_eq!(store.update_leader(&held, None, Some(&failsafe)).await, Ok(true));
    assert!(matches!(renew(&mut store.renewer(), 20 * S), Renewal::Until(_)));
    assert_eq!(store.set_config(&json::loads(r#"{"ttl":60}"#).unwrap(), None).await, Ok(true));
    assert_eq!(store.set_history("[]").await, Ok(true));
    assert_eq!(
        store
            .manual_failover(FailoverOrder { leader: Some("demo-pods-0"), ..Default::default() }, None)
            .await,
        Ok(true)
    );
    assert_eq!(store.manual_failover(FailoverOrder::default(), None).await, Ok(true));
    let sync: Option<SyncState> =
        store.write_sync("demo-pods-0", &["demo-pods-1".to_owned()], 0, None).await.unwrap();
    assert_eq!(store.delete_sync(sync.unwrap().version.as_deref()).await, Ok(true));
    let cluster = store.get_cluster().await.unwrap();
    let names: Vec<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!((names, cluster.failsafe.is_some()), (vec!["demo-pods-0", "demo-pods-1"], true));
    let held = cluster.leader.clone().unwrap();
    assert_eq!(store.delete_leader(Some(&held), None).await, Ok(true));
    assert_eq!(store.delete_cluster().await, Ok(true));
    assert_eq!(leader(store).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_with_endpoints_is_enough() {
    let Some((store, namespace)) = applied("endpoints.yaml", true) else { return };
    member_lives(&store).await;
    let path = format!("/api/v1/namespaces/{namespace}/services/demo-config");
    let service = SHARED.lock().unwrap().ask("GET", &path, "");
    assert_eq!(text(&service, &["spec", "clusterIP"]), "None");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_with_configmaps_is_enough() {
    let Some((store, namespace)) = applied("configmaps.yaml", false) else { return };
    member_lives(&store).await;
    // It may not touch what it has no need of.
    let Some((other, _)) = applied("configmaps.yaml", true) else { return };
    assert!(other.get_cluster().await.is_err());
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/demo-patroni");
    assert!(SHARED.lock().unwrap().ask("GET", &path, "").at(&["data", "patroni.yml"]).is_some());
}
