//! One API server of Kubernetes on an etcd of its own, and its objects shown as keys. Nobody runs the Pods.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::signal::Signal;
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use pyfmt::{json, Value};

use super::store::{Key, Store};
use super::wait::ensure;
use super::{host, http, process, servers, wait_until, Result};

/// May everything.
const ADMIN: &str = "admin-token";
/// May what docs/stores/kubernetes.md asks for, and no more.
const PATRONI: &str = "patroni-token";

const LIMIT: Duration = Duration::from_secs(10);

/// An orderly stop waits for a minute for the watches to end.
const STOPS: Duration = Duration::from_secs(90);

/// The rights of docs/stores/kubernetes.md.
const ROLE: &str = r#"{"metadata":{"name":"patroni"},"rules":[
{"apiGroups":[""],"resources":["configmaps","endpoints"],"verbs":["create","get","list","patch","update","watch","delete","deletecollection"]},
{"apiGroups":[""],"resources":["pods"],"verbs":["get","list","patch","update","watch"]},
{"apiGroups":[""],"resources":["services"],"verbs":["create"]}]}"#;

/// Where scripts/setup puts it: the version of `KUBERNETES`, or 1.20.
pub fn program() -> PathBuf {
    let version = std::env::var("KUBERNETES").unwrap_or_else(|_| "1.20".into());
    host::deps().join(format!("kubernetes-{version}/kube-apiserver"))
}

/// The newest etcd that an API server of any version gets along with, if scripts/setup has got it.
fn etcd_program() -> PathBuf {
    let newer = host::deps().join("etcd-3.6/etcd");
    let newer = Some(newer).filter(|path| path.exists() && std::env::var_os("KUBERNETES").is_some());
    newer.unwrap_or_else(|| PathBuf::from("/usr/bin/etcd"))
}

/// A single API server.
#[derive(Debug)]
pub struct Kubernetes {
    port: u16,
    etcd: u16,
    peer: u16,
    directory: PathBuf,
    etcd_process: Option<Child>,
    api_process: Option<Child>,
    endpoints: bool,
    /// How many Pods there are: each has an address of its own.
    pods: Mutex<u8>,
}

impl Kubernetes {
    /// Starts it with its data under `directory`; the state is in Endpoints, or in ConfigMaps.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub fn start(directory: &Path, endpoints: bool) -> Result<Kubernetes> {
        let directory = directory.join("kubernetes");
        std::fs::create_dir_all(directory.join("certs"))?;
        let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{PATRONI},patroni,2,\"patroni\"\n");
        std::fs::write(directory.join("tokens.csv"), tokens)?;
        let key = openssl::rsa::Rsa::generate(2048)?.private_key_to_pem()?;
        std::fs::write(directory.join("sa.key"), key)?;
        let (port, etcd, peer) = (host::free_port()?, host::free_port()?, host::free_port()?);
        let config = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
             contexts: [{{name: lab, context: {{cluster: lab, user: lab}}}}]\n\
             clusters: [{{name: lab, cluster: {{server: 'https://127.0.0.1:{port}', certificate-authority: {}}}}}]\n\
             users: [{{name: lab, user: {{token: {PATRONI}}}}}]\n",
            // The server makes it, with its authority's in the same file.
            directory.join("certs/apiserver.crt").display()
        );
        std::fs::write(directory.join("kubeconfig"), config)?;
        for path in ["", "certs", "tokens.csv", "sa.key", "kubeconfig"] {
            host::give_away(&directory.join(path))?;
        }
        let (etcd_process, api_process, pods) = (None, None, Mutex::new(0));
        let mut server =
            Kubernetes { port, etcd, peer, directory, etcd_process, api_process, endpoints, pods };
        server.restart()?;
        let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
        server.ask("POST", &format!("{rbac}/roles"), ROLE)?;
        let binding = r#"{"metadata":{"name":"patroni"},"subjects":[{"kind":"User","name":"patroni"}],
            "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"patroni"}}"#;
        server.ask("POST", &format!("{rbac}/rolebindings"), binding)?;
        Ok(server)
    }

    /// The JSON of a good answer; null where there is no such object.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value> {
        let answer = self.send(method, path, body)?;
        match answer.status {
            200..=205 => json::loads(&answer.body).map_err(|e| format!("{e}").into()),
            404 => Ok(Value::Null),
            status => Err(format!("Kubernetes {method} {path}: {status} {}", answer.body).into()),
        }
    }

    fn send(&self, method: &str, path: &str, body: &str) -> Result<http::Response> {
        let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], self.port)), LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        let mut connector = SslConnector::builder(SslMethod::tls())?;
        connector.set_verify(SslVerifyMode::NONE);
        let config = connector.build().configure()?.verify_hostname(false);
        let mut stream = config.connect("127.0.0.1", stream).map_err(|e| e.to_string())?;
        let kind = match method {
            "PATCH" => "application/strategic-merge-patch+json",
            _ => "application/json",
        };
        // By HTTP/1.0, so that the answer comes in one piece.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nContent-Type: {kind}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        // The server does not say goodbye.
        let end = stream.read_to_end(&mut bytes);
        if bytes.is_empty() {
            end?;
        }
        Ok(http::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn kind(&self) -> &'static str {
        if self.endpoints {
            "endpoints"
        } else {
            "configmaps"
        }
    }

    fn leader_object(&self, scope: &str) -> String {
        if self.endpoints {
            scope.to_owned()
        } else {
            format!("{scope}-leader")
        }
    }

    /// Where a key is: the path of its object, and what of its annotations.
    fn place(&self, name: &str) -> Result<Place> {
        let rest = name.strip_prefix("/service/").ok_or("no key of a cluster")?;
        let (scope, key) = rest.split_once('/').ok_or("no key of a cluster")?;
        let (kind, object, annotation) = match key {
            "leader" | "failsafe" => (self.kind(), self.leader_object(scope), Some(key.to_owned())),
            "status" => (self.kind(), self.leader_object(scope), None),
            "config" | "history" | "initialize" => {
                (self.kind(), format!("{scope}-config"), Some(key.to_owned()))
            }
            "failover" | "sync" => (self.kind(), format!("{scope}-{key}"), None),
            member => {
                let member = member.strip_prefix("members/").ok_or("no key of Patroni's")?;
                ("pods", member.to_owned(), Some("status".to_owned()))
            }
        };
        Ok(Place { scope: scope.to_owned(), kind, object, annotation, key: key.to_owned() })
    }

    fn write(&self, name: &str, value: Option<&str>) -> Result<()> {
        let place = self.place(name)?;
        let fields: &[&str] = match place.key.as_str() {
            "status" => &["optime", "slots", "retain_slots"],
            "failover" => &["leader", "member", "scheduled_at"],
            _ => &["leader", "quorum", "sync_standby"],
        };
        let text = |value: &Value| match value {
            Value::Null => Value::Null,
            Value::Str(text) => text.as_str().into(),
            other => json::dumps_compact(other).into(),
        };
        let document = value.and_then(|value| json::loads(value).ok()).unwrap_or_default();
        let mut annotations = Value::map();
        match &place.annotation {
            Some(annotation) => annotations.set(annotation, value.map_or(Value::Null, Value::from)),
            None => fields
                .iter()
                .for_each(|field| annotations.set(field, text(document.get(field).unwrap_or(&Value::Null)))),
        }
        let labels = Value::from_iter([("application", "patroni"), ("cluster-name", place.scope.as_str())]);
        let metadata = Value::from_iter([
            ("name", Value::from(place.object.as_str())),
            ("labels", labels),
            ("annotations", annotations),
        ]);
        let body = json::dumps_compact(&Value::from_iter([("metadata", metadata)]));
        let collection = format!("/api/v1/namespaces/default/{}", place.kind);
        if self.ask("PATCH", &format!("{collection}/{}", place.object), &body)?.is_null() && value.is_some() {
            self.ask("POST", &collection, &body)?;
        }
        Ok(())
    }

    /// The keys in one object of a cluster.
    fn keys_of(&self, scope: &str, kind: &str, object: &Value) -> Vec<Key> {
        let name = object.at(&["metadata", "name"]).map(Value::py_str).unwrap_or_default();
        let get = |key: &str| {
            object.at(&["metadata", "annotations", key]).and_then(Value::as_str).map(str::to_owned)
        };
        let key = |key: &str, value: Option<String>, leased: bool| {
            let value = value?;
            Some(Key { name: format!("/service/{scope}/{key}"), value, leased, lease: None })
        };
        let document = |fields: &[&str]| {
            let found = fields.iter().filter_map(|field| {
                let text = get(field)?;
                // Numbers and documents are texts there.
                let plain = matches!(*field, "leader" | "member" | "scheduled_at" | "sync_standby");
                let value = if plain { Value::from(text) } else { json::loads(&text).unwrap_or_default() };
                Some((*field, value))
            });
            Some(json::dumps_compact(&found.collect::<Value>())).filter(|text| text != "{}")
        };
        let keys = if kind == "pods" {
            vec![key(&format!("members/{name}"), get("status"), false)]
        } else if name == self.leader_object(scope) {
            let held = get("leader").filter(|_| !has_run_out(&get("renewTime"), &get("ttl")));
            vec![
                key("leader", held, true),
                key("status", document(&["optime", "slots", "retain_slots"]), false),
                key("failsafe", get("failsafe"), false),
            ]
        } else if name == format!("{scope}-config") {
            ["config", "history", "initialize"].map(|k| key(k, get(k), false)).to_vec()
        } else if name == format!("{scope}-sync") {
            vec![key("sync", document(&["leader", "quorum", "sync_standby"]), false)]
        } else if name == format!("{scope}-failover") {
            vec![key("failover", document(&["leader", "member", "scheduled_at"]), false)]
        } else {
            Vec::new()
        };
        keys.into_iter().flatten().collect()
    }
}

/// All of the lab has one clock.
fn has_run_out(renewed: &Option<String>, ttl: &Option<String>) -> bool {
    let locale =
        pyfmt::datetime::Locale { today: (1970, 1, 1), zone_names: ["UTC", "UTC"], offset_at: &|_| 0 };
    let renewed = renewed.as_deref().and_then(|text| pyfmt::datetime::parse(text, &locale).ok());
    let ttl = ttl.as_deref().and_then(|text| text.parse::<i64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    match (renewed, ttl, i64::try_from(now)) {
        (Some(renewed), Some(ttl), Ok(now)) => renewed.unix_seconds() + ttl < now,
        _ => false,
    }
}

struct Place {
    scope: String,
    kind: &'static str,
    object: String,
    /// None: the fields of a document.
    annotation: Option<String>,
    key: String,
}

impl Store for Kubernetes {
    fn section(&self) -> (&'static str, Value) {
        let ports = Value::from_iter([("name", Value::from("postgresql")), ("port", 5432.into())]);
        let section = Value::from_iter([
            ("context", Value::from("lab")),
            ("use_endpoints", self.endpoints.into()),
            ("labels", Value::from_iter([("application", "patroni")])),
            ("tmp_role_label", "tmp_role".into()),
            ("ports", vec![ports].into()),
        ]);
        ("kubernetes", section)
    }

    fn url(&self) -> String {
        format!("kubernetes://127.0.0.1:{}", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("KUBECONFIG", self.directory.join("kubeconfig").display().to_string())]
    }

    fn member_environment(&self) -> Vec<(String, String)> {
        self.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn welcome(&self, scope: &str, name: &str) -> Result<()> {
        let number = {
            let mut pods = self.pods.lock().map_err(|e| e.to_string())?;
            *pods = pods.checked_add(1).ok_or("too many Pods")?;
            *pods
        };
        let body = format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"application":"patroni","cluster-name":"{scope}"}}}},
                "spec":{{"automountServiceAccountToken":false,"containers":[{{"name":"x","image":"x"}}]}}}}"#
        );
        self.ask("POST", "/api/v1/namespaces/default/pods", &body)?;
        // What the kubelet would do.
        let status =
            format!(r#"{{"status":{{"podIP":"10.1.1.{number}","podIPs":[{{"ip":"10.1.1.{number}"}}]}}}}"#);
        self.ask("PATCH", &format!("/api/v1/namespaces/default/pods/{name}/status"), &status).map(drop)
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        let mut found = Vec::new();
        for kind in [self.kind(), "pods"] {
            let list = self.ask("GET", &format!("/api/v1/namespaces/default/{kind}"), "")?;
            for object in list.get("items").and_then(Value::as_list).unwrap_or_default() {
                let scope = object.at(&["metadata", "labels", "cluster-name"]).and_then(Value::as_str);
                found.extend(scope.map(|scope| self.keys_of(scope, kind, object)).unwrap_or_default());
            }
        }
        found.retain(|key: &Key| key.name.starts_with(prefix));
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        self.write(name, Some(value))
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.write(name, None)
    }

    fn kill(&mut self) -> Result<()> {
        process::kill_under(&self.directory)?;
        for mut child in [self.etcd_process.take(), self.api_process.take()].into_iter().flatten() {
            child.wait()?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.start_etcd()?;
        self.start_server(0)?;
        wait_until("Kubernetes answers", Duration::from_secs(180), || {
            let ready = self.send("GET", "/readyz", "")?.status == 200;
            let there = !self.ask("GET", "/api/v1/namespaces/default/endpoints/kubernetes", "")?.is_null();
            ensure(ready && there, || "it is not ready".into())
        })
    }

    fn become_three(&mut self) -> Result<()> {
        Err("the lab has one API server".into())
    }

    /// The API server; its etcd goes on.
    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()> {
        if number != 0 {
            return self.become_three();
        }
        servers::signal_within(&mut self.api_process, signal, STOPS)
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        if number != 0 {
            return self.become_three();
        }
        if process::living(&mut self.api_process).is_none() {
            self.api_process = Some(self.start_api()?);
        }
        Ok(())
    }

    fn freeze(&self) {
        process::signal_under(&self.directory, Signal::SIGSTOP);
    }

    fn thaw(&self) {
        process::signal_under(&self.directory, Signal::SIGCONT);
    }
}

impl Kubernetes {
    fn clients(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd)
    }

    fn start_etcd(&mut self) -> Result<()> {
        if process::living(&mut self.etcd_process).is_some() {
            return Ok(());
        }
        let (bin, clients) = (Path::new("/usr/bin"), self.clients());
        let peers = format!("http://127.0.0.1:{}", self.peer);
        let mut etcd = process::command(&etcd_program(), &self.directory, bin)?;
        etcd.args(["--data-dir", "etcd", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")]);
        self.etcd_process = Some(process::daemon(etcd, &self.directory.join("etcd.log"))?);
        Ok(())
    }

    fn start_api(&self) -> Result<Child> {
        let mut api = process::command(&program(), &self.directory, Path::new("/usr/bin"))?;
        api.arg(format!("--etcd-servers={}", self.clients()))
            .arg(format!("--secure-port={}", self.port))
            .args([
                "--bind-address=127.0.0.1",
                // Endpoints take no address of this machine alone.
                "--advertise-address=10.99.0.1",
                "--cert-dir=certs",
                "--service-account-issuer=https://k.local",
                "--service-account-key-file=sa.key",
                "--service-account-signing-key-file=sa.key",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=RBAC",
                "--token-auth-file=tokens.csv",
                "--disable-admission-plugins=ServiceAccount,PersistentVolumeClaimResize",
            ]);
        process::daemon(api, &self.directory.join("apiserver.log"))
    }
}
