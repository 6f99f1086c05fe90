//! API servers for the tests, on free ports of 127.0.0.1, each with an etcd of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use patroni_net::{ClientOptions, HttpClient, Response, TlsOptions, Verify};
use pyfmt::Value;
use tempfile::TempDir;

use crate::support::free_port;

/// May everything.
pub const ADMIN: &str = "sekrit-token";
/// May nothing.
pub const WEAK: &str = "weak-token";

fn deps() -> PathBuf {
    std::env::var_os("PATRONI_RS_DEPS").map_or_else(|| PathBuf::from("/opt/patroni-rs"), PathBuf::from)
}

/// The program, where scripts/setup has put it: the version of `KUBERNETES`, or 1.20.
pub fn program() -> Option<PathBuf> {
    let version = std::env::var("KUBERNETES").unwrap_or_else(|_| "1.20".into());
    Some(deps().join(format!("kubernetes-{version}/kube-apiserver"))).filter(|path| path.exists())
}

/// Servers of today want an etcd of today.
pub fn etcd_program() -> PathBuf {
    let newer = Some(deps().join("etcd-3.6/etcd"));
    let newer = newer.filter(|path| path.exists() && std::env::var_os("KUBERNETES").is_some());
    newer.unwrap_or_else(|| PathBuf::from("etcd"))
}

/// One kubeconfig for the whole process, with a context for each server: it is found by a variable.
struct Contexts {
    dir: TempDir,
    /// What is in a static is never dropped: whoever removes the directory hears by this that the process has ended.
    _remover: Child,
    known: Vec<(String, String, String)>,
}

static CONTEXTS: LazyLock<Mutex<Contexts>> = LazyLock::new(|| {
    let dir = tempfile::Builder::new().prefix("patroni-dcs-kube-").tempdir_in("/tmp").unwrap();
    std::env::set_var("KUBECONFIG", dir.path().join("config"));
    let mut remover = Command::new("bash");
    remover.args(["-c", r#"cat >/dev/null; rm -rf "$1""#, "remover"]).arg(dir.path());
    let remover = remover.stdin(Stdio::piped()).spawn().unwrap();
    Mutex::new(Contexts { dir, _remover: remover, known: Vec::new() })
});

/// Adds a context to the kubeconfig.
pub fn add_context(name: &str, server: &str, token: &str) {
    let mut contexts = CONTEXTS.lock().unwrap();
    contexts.known.push((name.into(), server.into(), token.into()));
    let mut text = String::from("apiVersion: v1\nkind: Config\ncurrent-context: none\n");
    let list = |what: &str, entry: &dyn Fn(&(String, String, String)) -> String| {
        let lines: String = contexts.known.iter().map(entry).collect();
        format!("{what}:\n{lines}")
    };
    text += &list("contexts", &|(n, ..)| format!("- {{name: {n}, context: {{cluster: {n}, user: {n}}}}}\n"));
    text += &list("clusters", &|(n, s, _)| {
        format!("- {{name: {n}, cluster: {{server: \"{s}\", insecure-skip-tls-verify: true}}}}\n")
    });
    text += &list("users", &|(n, _, t)| format!("- {{name: {n}, user: {{token: {t}}}}}\n"));
    let path = contexts.dir.path().join("config");
    std::fs::write(path.with_extension("new"), text).unwrap();
    std::fs::rename(path.with_extension("new"), path).unwrap();
}

/// A running API server; it and its etcd end when this is dropped, or the process ends.
pub struct Kubernetes {
    /// Ends both when its standard input is closed.
    keeper: Child,
    input: Option<ChildStdin>,
    /// `https://127.0.0.1:port`
    pub url: String,
    port: u16,
    etcd: u16,
    dir: TempDir,
    namespaces: usize,
}

/// Both in the background, their process ids in files; waits for the end of the input. The directory goes with them unless
/// there was a word in it: it may be a static's, which is never dropped.
const KEEPER: &str = r#"
cd "$1"
"$6" --data-dir etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:$2 --advertise-client-urls http://127.0.0.1:$2 \
  --listen-peer-urls http://127.0.0.1:$3 --initial-advertise-peer-urls http://127.0.0.1:$3 --initial-cluster default=http://127.0.0.1:$3 >>etcd.log 2>&1 &
echo $! >etcd.pid
"$5" --etcd-servers=http://127.0.0.1:$2 --bind-address=127.0.0.1 --advertise-address=10.99.0.1 --secure-port=$4 --cert-dir=certs \
  --service-account-issuer=https://k.local --service-account-key-file=sa.key --service-account-signing-key-file=sa.key \
  --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC --token-auth-file=tokens.csv \
  --disable-admission-plugins=ServiceAccount,PersistentVolumeClaimResize >>apiserver.log 2>&1 &
echo $! >apiserver.pid
read -r word
kill -9 $(cat etcd.pid) $(cat apiserver.pid)
# What is started again needs their ports.
wait
[ -n "$word" ] || { cd /; rm -rf "$1"; }
"#;

impl Kubernetes {
    /// A cluster without machines.
    pub fn start() -> Kubernetes {
        let dir = tempfile::Builder::new().prefix("patroni-dcs-kubernetes-").tempdir_in("/tmp").unwrap();
        let tokens = format!("{ADMIN},admin,1,\"system:masters\"\n{WEAK},weak,2,\"weak\"\n");
        std::fs::write(dir.path().join("tokens.csv"), tokens).unwrap();
        let key = openssl::rsa::Rsa::generate(2048).unwrap().private_key_to_pem().unwrap();
        std::fs::write(dir.path().join("sa.key"), key).unwrap();
        let (etcd, port) = (free_port(), free_port());
        let (keeper, input) = launch(dir.path(), etcd, port);
        let url = format!("https://127.0.0.1:{port}");
        let kubernetes = Kubernetes { keeper, input, url, port, etcd, dir, namespaces: 0 };
        add_context(&kubernetes.context(), &kubernetes.url, ADMIN);
        add_context(&format!("{}-weak", kubernetes.context()), &kubernetes.url, WEAK);
        kubernetes.wait();
        kubernetes
    }

    /// Of the kubeconfig; the one whose token has no rights has `-weak` at its end.
    pub fn context(&self) -> String {
        format!("server-{}", self.port)
    }

    /// A section of the configuration.
    pub fn section(&self, namespace: &str) -> Value {
        Value::from_iter([
            ("namespace", Value::from(namespace)),
            ("labels", Value::from_iter([("application", "patroni")])),
            ("context", self.context().into()),
            ("pod_ip", "10.1.1.1".into()),
        ])
    }

    /// Kills both, and starts them with the data that they had.
    pub fn restart(&mut self) {
        if let Some(input) = &mut self.input {
            writeln!(input, "again").unwrap();
        }
        self.end();
        (self.keeper, self.input) = launch(self.dir.path(), self.etcd, self.port);
        self.wait();
    }

    fn end(&mut self) {
        self.signal("-CONT");
        drop(self.input.take());
        let _ = self.keeper.wait();
    }

    /// Sends a signal to the API server.
    pub fn signal(&self, name: &str) {
        let pid = std::fs::read_to_string(self.dir.path().join("apiserver.pid")).unwrap_or_default();
        let _ = Command::new("kill").args([name, pid.trim()]).stderr(Stdio::null()).status();
    }

    fn wait(&self) {
        let began = Instant::now();
        let good = |path: &str| self.try_ask("GET", path, "", "").is_some_and(|r| r.status == 200);
        while !(good("/readyz") && good("/api/v1/namespaces/default/endpoints/kubernetes")) {
            let end = |name: &str| {
                let log = std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
                log.lines().rev().take(8).collect::<Vec<_>>().join("\n")
            };
            let late = began.elapsed() > Duration::from_secs(300);
            assert!(!late, "the API server does not come up:\n{}\n{}", end("apiserver.log"), end("etcd.log"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes a namespace that there was none of.
    pub fn new_namespace(&mut self) -> String {
        self.namespaces += 1;
        let name = format!("space-{}", self.namespaces);
        self.ask("POST", "/api/v1/namespaces", &format!(r#"{{"metadata":{{"name":"{name}"}}}}"#));
        name
    }

    /// A Pod that nobody runs; none if there is one.
    pub fn make_pod(&self, namespace: &str, name: &str) {
        let body = format!(
            r#"{{"metadata":{{"name":"{name}","labels":{{"application":"patroni","cluster-name":"batman"}}}},
                "spec":{{"automountServiceAccountToken":false,"containers":[{{"name":"x","image":"x"}}]}}}}"#
        );
        let made = self.try_ask("POST", &format!("/api/v1/namespaces/{namespace}/pods"), "", &body).unwrap();
        assert!([201, 409].contains(&made.status), "{}", made.text());
    }

    /// The JSON of a good answer.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let kind = if method == "PATCH" { "application/strategic-merge-patch+json" } else { "" };
        let answer = self.try_ask(method, path, kind, body).unwrap();
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text());
        pyfmt::json::loads(&answer.text()).unwrap()
    }

    fn try_ask(&self, method: &str, path: &str, kind: &str, body: &str) -> Option<Response> {
        let tls = TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
        let (method, url) = (method.to_owned(), format!("{}{path}", self.url));
        let (kind, body) = (kind.to_owned(), body.to_owned());
        // Tests ask from inside of a runtime and from outside.
        let asking = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let http = HttpClient::lazy(&ClientOptions { tls, basic_auth: None }).unwrap();
                let authorization = format!("Bearer {ADMIN}");
                let mut headers = vec![("Authorization", authorization.as_str())];
                if !kind.is_empty() {
                    headers.push(("Content-Type", kind.as_str()));
                }
                http.request(&method, &url, &headers, body, Duration::from_secs(10)).await.ok()
            })
        });
        asking.join().unwrap()
    }
}

fn launch(dir: &Path, etcd: u16, port: u16) -> (Child, Option<ChildStdin>) {
    let mut command = Command::new("bash");
    command.args(["-c", KEEPER, "keeper"]).arg(dir);
    command
        .args([etcd, free_port(), port].map(|p| p.to_string()))
        .arg(program().unwrap())
        .arg(etcd_program());
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let input = child.stdin.take();
    (child, input)
}

impl Drop for Kubernetes {
    fn drop(&mut self) {
        self.end();
    }
}
