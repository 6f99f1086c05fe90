//! One Consul server of the laboratory, and its keys read over HTTP.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use nix::sys::signal::Signal;
use pyfmt::Value;

use super::store::{percent, Key, Store};
use super::{host, http, process, wait_until, Result};

/// May everything. Nobody may anything without a token (`acl.default_policy: deny`).
const ROOT: &str = "root-token";

/// Where scripts/setup puts it.
pub fn program() -> PathBuf {
    host::deps().join("consul/usr/bin/consul")
}

/// A single server, with ACLs.
#[derive(Debug)]
pub struct Consul {
    http: u16,
    folder: PathBuf,
    child: Option<Child>,
    /// May what Patroni's documentation asks for, and no more.
    token: String,
}

impl Consul {
    /// Starts it with its data under `folder`.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub fn start(folder: &Path) -> Result<Consul> {
        let folder = folder.join("consul");
        std::fs::create_dir_all(&folder)?;
        let (http, server, serf) = (host::free_port()?, host::free_port()?, host::free_port()?);
        // The session of a ttl of 20 s is one of 10 s, which is the least that Consul permits by itself; tests with less
        // time are not to fail by that.
        let text = format!(
            r#"{{"node_name":"lab","data_dir":"data","bind_addr":"127.0.0.1","client_addr":"127.0.0.1",
"ports":{{"http":{http},"dns":-1,"grpc":-1,"server":{server},"serf_lan":{serf},"serf_wan":-1}},
"server":true,"bootstrap_expect":1,"raft_protocol":3,"performance":{{"raft_multiplier":1}},
"session_ttl_min":"2s","disable_update_check":true,
"acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{ROOT}","agent":"{ROOT}"}}}}}}"#
        );
        std::fs::write(folder.join("agent.json"), text)?;
        host::give_away(&folder)?;
        let mut consul = Consul { http, folder, child: None, token: ROOT.into() };
        consul.restart()?;
        consul.token = consul.make_token()?;
        Ok(consul)
    }

    /// The rights that docs/stores asks for.
    fn make_token(&self) -> Result<String> {
        let rules = r#"service_prefix "" { policy = "write" } key_prefix "service/" { policy = "write" } session_prefix "" { policy = "write" }"#;
        let policy = Value::from_iter([("Name", "patroni"), ("Rules", rules)]);
        self.ask("PUT", "/v1/acl/policy", Some(&pyfmt::json::dumps_compact(&policy)))?;
        let made = self.ask("PUT", "/v1/acl/token", Some(r#"{"Policies":[{"Name":"patroni"}]}"#))?;
        let id = made.get("SecretID").and_then(Value::as_str).ok_or("no token")?;
        Ok(id.to_owned())
    }

    /// The JSON of a good answer; null where there is no such key.
    fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Value> {
        let header = format!("X-Consul-Token: {ROOT}\r\n");
        let answer = http::raw(self.http, method, path, "1.0", &header, Some(body.unwrap_or_default()))?;
        match answer.status {
            200 if answer.body.is_empty() => Ok(Value::Null),
            200 => answer.json(),
            404 => Ok(Value::Null),
            status => Err(format!("Consul {method} {path}: {status} {}", answer.body).into()),
        }
    }

    fn key(&self, method: &str, name: &str, query: &str, body: Option<&str>) -> Result<Value> {
        self.ask(method, &format!("/v1/kv/{}{query}", percent(name.trim_start_matches('/'))), body)
    }
}

fn key_of(entry: &Value) -> Option<Key> {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    let value = text("Value").map(|v| BASE64_STANDARD.decode(v)).transpose().ok()?.unwrap_or_default();
    let lease = text("Session").filter(|session| !session.is_empty()).map(str::to_owned);
    Some(Key {
        name: format!("/{}", text("Key")?),
        value: String::from_utf8_lossy(&value).into_owned(),
        leased: lease.is_some(),
        lease,
    })
}

impl Store for Consul {
    fn section(&self) -> (&'static str, Value) {
        let section = Value::from_iter([
            ("host", Value::from(format!("127.0.0.1:{}", self.http))),
            ("token", self.token.as_str().into()),
            ("register_service", true.into()),
        ]);
        ("consul", section)
    }

    fn url(&self) -> String {
        format!("consul://127.0.0.1:{}", self.http)
    }

    fn port(&self) -> u16 {
        self.http
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("CONSUL_HTTP_TOKEN", self.token.clone())]
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        let found = self.key("GET", prefix, "?recurse=1&consistent=1", None)?;
        Ok(found.as_list().unwrap_or_default().iter().filter_map(key_of).collect())
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        self.key("PUT", name, "", Some(value)).map(drop)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.key("DELETE", name, "", None).map(drop)
    }

    fn kill(&mut self) -> Result<()> {
        process::kill_under(&self.folder)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        let mut command = process::command(&program(), &self.folder, Path::new("/usr/bin"))?;
        command.args(["agent", "-config-file=agent.json"]);
        self.child = Some(process::daemon(command, &self.folder.join("consul.log"))?);
        wait_until("Consul answers", Duration::from_secs(30), || self.put("/probe", "x"))?;
        self.delete("/probe")
    }

    fn freeze(&self) {
        process::signal_under(&self.folder, Signal::SIGSTOP);
    }

    fn thaw(&self) {
        process::signal_under(&self.folder, Signal::SIGCONT);
    }
}
