//! Consul processes for the tests, on free ports of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use patroni_net::{ClientOptions, HttpClient, Response};
use tempfile::TempDir;

use crate::support::{end, free_port, signal};

/// What may do everything where there are ACLs.
pub const ROOT: &str = "root-token";

/// The program, where scripts/setup has put it.
pub fn program() -> Option<PathBuf> {
    let deps =
        std::env::var_os("PATRONI_RS_DEPS").map_or_else(|| PathBuf::from("/opt/patroni-rs"), PathBuf::from);
    Some(deps.join("consul/usr/bin/consul")).filter(|path| path.exists())
}

/// A running agent; killed when dropped.
pub struct Consul {
    child: Child,
    /// `127.0.0.1:port`
    pub host: String,
    serf: u16,
    dir: TempDir,
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let mut command = Command::new(program);
    command.arg("agent").arg(format!("-config-file={}", dir.join("agent.json").display()));
    command.arg(format!("-config-file={}", dir.join("more.json").display()));
    command.stdout(log).stderr(Stdio::null()).spawn().unwrap()
}

impl Consul {
    /// A cluster of one server; with `acl`, nothing is permitted by default. None: there is no Consul here.
    pub async fn server(acl: bool) -> Option<Consul> {
        let acl = if acl {
            format!(
                r#","acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{ROOT}","agent":"{ROOT}"}}}}"#
            )
        } else {
            String::new()
        };
        let extra = format!(
            r#""server":true,"bootstrap_expect":1,"raft_protocol":3,"performance":{{"raft_multiplier":1}}{acl}"#
        );
        let consul = Consul::start("server", &extra)?;
        consul.wait().await;
        Some(consul)
    }

    /// A server that speaks TLS on another port, `https`, to those who have a certificate that `directory/crt` has signed.
    pub async fn secured(directory: &Path, https: u16) -> Option<Consul> {
        let file = |name: &str| directory.join(name).display().to_string();
        let extra = format!(
            r#""server":true,"bootstrap_expect":1,"raft_protocol":3,"performance":{{"raft_multiplier":1}},
                "ca_file":"{0}","cert_file":"{0}","key_file":"{1}","verify_incoming_https":true,
                "addresses":{{"https":"127.0.0.1"}},"ports":{{"https":{https}}}"#,
            file("crt"),
            file("key")
        );
        let consul = Consul::start("server", &extra)?;
        consul.wait().await;
        Some(consul)
    }

    /// An agent in client mode, as there usually is one on each machine.
    pub async fn client(&self) -> Consul {
        let extra = format!(r#""retry_join":["127.0.0.1:{}"],"retry_interval":"1s""#, self.serf);
        let consul = Consul::start("client", &extra).unwrap();
        consul.wait().await;
        consul
    }

    fn start(name: &str, extra: &str) -> Option<Consul> {
        let Some(program) = program() else {
            eprintln!("SKIPPED: no Consul here");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("patroni-dcs-consul-").tempdir_in("/tmp").unwrap();
        let (http, server, serf) = (free_port(), free_port(), free_port());
        let data = dir.path().join("data");
        let text = format!(
            r#"{{"node_name":"{name}","data_dir":"{}","bind_addr":"127.0.0.1","client_addr":"127.0.0.1",
                "ports":{{"http":{http},"dns":-1,"grpc":-1,"server":{server},"serf_lan":{serf},"serf_wan":-1}},
                "disable_update_check":true,"session_ttl_min":"2s"}}"#,
            data.display()
        );
        let file = dir.path().join("agent.json");
        std::fs::write(&file, text).unwrap();
        // What is said twice is merged.
        std::fs::write(dir.path().join("more.json"), format!("{{{extra}}}")).unwrap();
        let child = spawn(&program, dir.path());
        Some(Consul { child, host: format!("127.0.0.1:{http}"), serf, dir })
    }

    /// Kills it, and starts it with the data that it had.
    pub async fn restart(&mut self) {
        end(&mut self.child);
        self.child = spawn(&program().unwrap(), self.dir.path());
        self.wait().await;
    }

    async fn wait(&self) {
        let began = Instant::now();
        loop {
            let tried = self.try_ask("PUT", "/v1/kv/probe", ROOT, "x").await;
            if tried.is_some_and(|r| r.status == 200) {
                let _ = self.try_ask("DELETE", "/v1/kv/probe", ROOT, "").await;
                return;
            }
            assert!(began.elapsed() < Duration::from_secs(60), "Consul does not come up");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_ask(&self, method: &str, path: &str, token: &str, body: &str) -> Option<Response> {
        let http = HttpClient::lazy(&ClientOptions::default()).unwrap();
        let url = format!("http://{}{path}", self.host);
        let headers = [("X-Consul-Token", token)];
        http.request(method, &url, &headers, body.to_owned(), Duration::from_secs(5)).await.ok()
    }

    /// The body of an answer that has to be good.
    pub async fn ask(&self, method: &str, path: &str, body: &str) -> pyfmt::Value {
        let response = self.try_ask(method, path, ROOT, body).await.unwrap();
        assert_eq!(response.status, 200, "{method} {path}: {}", response.text());
        if response.body.is_empty() {
            return pyfmt::Value::Null;
        }
        pyfmt::json::loads(&response.text()).unwrap()
    }

    /// One key as Consul tells it; None: there is none.
    pub async fn key(&self, key: &str) -> Option<pyfmt::Value> {
        let response = self.try_ask("GET", &format!("/v1/kv/{key}"), ROOT, "").await.unwrap();
        (response.status == 200).then(|| {
            pyfmt::json::loads(&response.text()).unwrap().as_list().unwrap().first().cloned().unwrap()
        })
    }

    /// A token with these rules.
    pub async fn token(&self, name: &str, rules: &str) -> String {
        let policy = pyfmt::Value::from_iter([("Name", name), ("Rules", rules)]);
        self.ask("PUT", "/v1/acl/policy", &pyfmt::json::dumps_compact(&policy)).await;
        let token =
            self.ask("PUT", "/v1/acl/token", &format!(r#"{{"Policies":[{{"Name":"{name}"}}]}}"#)).await;
        token.get("SecretID").unwrap().as_str().unwrap().to_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
