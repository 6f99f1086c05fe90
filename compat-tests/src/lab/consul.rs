//! One Consul server of the lab, and its keys read over HTTP.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use nix::sys::signal::Signal;
use pyfmt::Value;

use super::servers::{self, Server};
use super::store::{percent, Key, Store};
use super::wait::ensure;
use super::{host, http, process, wait_until, Result};

/// May everything. Nobody may anything without a token (`acl.default_policy: deny`).
const ROOT: &str = "root-token";

/// Where scripts/setup puts it.
pub fn program() -> PathBuf {
    host::deps().join("consul/usr/bin/consul")
}

/// The configuration of any agent; `more` begins with a comma. The session of a ttl of 20 s is one of 10 s, which is the
/// least that Consul permits by itself; tests with less time are not to fail by that. A server that was dead has its vote
/// when it is back: autopilot would take it away, and give it back ten seconds after.
fn configuration(name: &str, [http, server, serf]: [u16; 3], more: &str) -> String {
    format!(
        r#"{{"node_name":"{name}","data_dir":"data","bind_addr":"127.0.0.1","client_addr":"127.0.0.1",
"ports":{{"http":{http},"dns":-1,"grpc":-1,"server":{server},"serf_lan":{serf},"serf_wan":-1}},
"raft_protocol":3,"performance":{{"raft_multiplier":1}},"autopilot":{{"cleanup_dead_servers":false}},"session_ttl_min":"2s","disable_update_check":true,
"acl":{{"enabled":true,"default_policy":"deny","tokens":{{"master":"{ROOT}","agent":"{ROOT}"}}}}{more}}}"#
    )
}

/// That of the first server.
fn first(http: u16, server: u16, serf: u16) -> String {
    configuration("lab", [http, server, serf], r#","server":true,"bootstrap_expect":1"#)
}

/// A server, or three and an agent in client mode; with ACLs.
#[derive(Debug)]
pub struct Consul {
    http: u16,
    directory: PathBuf,
    child: Option<Child>,
    /// May what Patroni's documentation asks for, and no more.
    token: String,
    /// Where others join.
    serf: u16,
    /// Other servers.
    others: Vec<Server>,
    /// With three servers: what members speak to, and its port.
    agent: Option<(Server, u16)>,
}

impl Consul {
    /// The port that members speak to.
    fn members_port(&self) -> u16 {
        self.agent.as_ref().map_or(self.http, |(_, port)| *port)
    }

    /// Starts it with its data under `directory`.
    ///
    /// # Errors
    /// It is not installed, or does not answer in time.
    pub fn start(directory: &Path) -> Result<Consul> {
        let directory = directory.join("consul");
        std::fs::create_dir_all(&directory)?;
        let (http, server, serf) = (host::free_port()?, host::free_port()?, host::free_port()?);
        std::fs::write(directory.join("agent.json"), first(http, server, serf))?;
        host::give_away(&directory)?;
        let (child, others, agent) = (None, Vec::new(), None);
        let mut consul = Consul { http, directory, child, token: ROOT.into(), serf, others, agent };
        consul.restart()?;
        consul.token = consul.make_token()?;
        Ok(consul)
    }

    /// Another agent that joins the first: a server, or in client mode.
    fn another(&self, name: &str, server: bool) -> Result<(Server, u16)> {
        let directory = self.directory.join(name);
        let ports = [host::free_port()?, host::free_port()?, host::free_port()?];
        let more =
            format!(r#","server":{server},"retry_join":["127.0.0.1:{}"],"retry_interval":"1s""#, self.serf);
        let file = directory.join("agent.json").display().to_string();
        let made =
            Server::new(&program(), directory.clone(), vec!["agent".into(), format!("-config-file={file}")])?;
        std::fs::write(file, configuration(name, ports, &more))?;
        Ok((made, ports[0]))
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
        self.ask_at(self.http, method, path, body)
    }

    fn ask_at(&self, port: u16, method: &str, path: &str, body: Option<&str>) -> Result<Value> {
        let header = format!("X-Consul-Token: {ROOT}\r\n");
        let answer = http::raw(port, method, path, "1.0", &header, Some(body.unwrap_or_default()))?;
        match answer.status {
            200 if answer.body.is_empty() => Ok(Value::Null),
            200 => answer.json(),
            404 => Ok(Value::Null),
            status => Err(format!("Consul {method} {path}: {status} {}", answer.body).into()),
        }
    }

    /// Starts the first server, and does not wait for it.
    fn begin(&mut self) -> Result<()> {
        let mut command = process::command(&program(), &self.directory, Path::new("/usr/bin"))?;
        command.args(["agent", "-config-file=agent.json"]);
        self.child = Some(process::daemon(command, &self.directory.join("consul.log"))?);
        Ok(())
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
            ("host", Value::from(format!("127.0.0.1:{}", self.members_port()))),
            ("token", self.token.as_str().into()),
            ("register_service", true.into()),
        ]);
        ("consul", section)
    }

    fn url(&self) -> String {
        format!("consul://127.0.0.1:{}", self.members_port())
    }

    fn port(&self) -> u16 {
        self.members_port()
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
        process::kill_under(&self.directory)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        self.others.iter_mut().chain(self.agent.iter_mut().map(|(agent, _)| agent)).for_each(Server::reap);
        Ok(())
    }

    fn become_three(&mut self) -> Result<()> {
        for name in ["lab1", "lab2"] {
            let (mut server, _) = self.another(name, true)?;
            server.start()?;
            self.others.push(server);
        }
        let (mut agent, port) = self.another("agent", false)?;
        agent.start()?;
        self.agent = Some((agent, port));
        wait_until("three servers of Consul", Duration::from_secs(60), || {
            let raft = self.ask("GET", "/v1/operator/raft/configuration", None)?;
            let voters = raft.get("Servers").and_then(Value::as_list).unwrap_or_default();
            let voters =
                voters.iter().filter(|server| server.get("Voter") == Some(&Value::from(true))).count();
            ensure(voters == 3, || format!("{voters} voters"))?;
            self.ask_at(port, "GET", "/v1/status/leader", None).map(drop)
        })
    }

    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()> {
        match number.checked_sub(1) {
            None => servers::signal(&mut self.child, signal),
            Some(index) => self.others.get_mut(index).ok_or("no such server")?.signal(signal),
        }
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        match number.checked_sub(1) {
            None => self.begin(),
            Some(index) => self.others.get_mut(index).ok_or("no such server")?.start(),
        }
    }

    fn agent(&mut self) -> Result<&mut Server> {
        Ok(&mut self.agent.as_mut().ok_or("members speak to the server itself")?.0)
    }

    fn restart(&mut self) -> Result<()> {
        for server in self.others.iter_mut().chain(self.agent.iter_mut().map(|(agent, _)| agent)) {
            server.start()?;
        }
        self.begin()?;
        wait_until("Consul answers", Duration::from_secs(30), || self.put("/probe", "x"))?;
        self.delete("/probe")
    }

    fn freeze(&self) {
        process::signal_under(&self.directory, Signal::SIGSTOP);
    }

    fn thaw(&self) {
        process::signal_under(&self.directory, Signal::SIGCONT);
    }
}
