//! One etcd of the test cluster, and its keys read through its JSON gateway or its v2 API.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use nix::sys::signal::Signal;
use pyfmt::{json, Value};

use super::servers::{self, Server};
use super::store::{percent, Key, Store};
use super::{host, http, process, wait_until, Result};

/// How the members speak to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// v3: ours by gRPC, the reference by the JSON gateway.
    V3,
    /// v3 by the JSON gateway, also ours.
    Gateway,
    /// v2: its keys are others than those of v3.
    V2,
}

/// A single-member etcd.
#[derive(Debug)]
pub struct Etcd {
    /// The port of its clients.
    pub port: u16,
    peer_port: u16,
    directory: PathBuf,
    child: Option<Child>,
    /// The token of the etcd cluster, of which and of the URLs its id is made.
    token: String,
    /// It has users: what the test cluster asks it asks as the root.
    users: bool,
    /// Other members of its cluster.
    others: Vec<Server>,
    /// The ports of their clients.
    other_ports: Vec<u16>,
    speech: Speech,
}

/// How an etcd comes back with the data of [`Etcd::snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// `snapshot restore` with the token that it had: the same cluster id, and raft terms from the beginning.
    SameToken,
    /// `snapshot restore` with another token: another cluster id.
    NewToken,
    /// The data directory as it was, started with `--force-new-cluster`: the same cluster id, the terms of that time.
    ForceNewCluster,
}

impl Etcd {
    /// Starts it with its data under `directory`.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn start(directory: &Path) -> Result<Etcd> {
        Etcd::speaking(directory, Speech::V3)
    }

    /// The same, for members that speak to it in that way.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn speaking(directory: &Path, speech: Speech) -> Result<Etcd> {
        let directory = directory.join("etcd");
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        let (port, peer_port) = (host::free_port()?, host::free_port()?);
        let (token, others) = ("lab".into(), Vec::new());
        let other_ports = Vec::new();
        let mut etcd = Etcd {
            port,
            peer_port,
            directory,
            child: None,
            token,
            users: false,
            others,
            other_ports,
            speech,
        };
        etcd.restart()?;
        Ok(etcd)
    }

    /// Makes it a cluster of three, each of which knows all. They are told apart by their numbers, 0 to 2.
    ///
    /// # Errors
    /// They do not become a cluster in time.
    pub fn become_three(&mut self) -> Result<()> {
        let mut cluster = vec![format!("lab=http://127.0.0.1:{}", self.peer_port)];
        for n in 1..3 {
            let (client, peer) = (host::free_port()?, host::free_port()?);
            let peer_url = format!("http://127.0.0.1:{peer}");
            let added = format!("--peer-urls={peer_url}");
            wait_until("the member is taken", Duration::from_secs(20), || {
                self.ctl(&["member", "add", &format!("lab{n}"), &added])
            })?;
            cluster.push(format!("lab{n}={peer_url}"));
            let (client_url, name, cluster) =
                (format!("http://127.0.0.1:{client}"), format!("lab{n}"), cluster.join(","));
            let mut arguments = vec!["--name", &name, "--data-dir", "data", "--log-outputs", "stderr"];
            arguments.extend(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
            arguments.extend(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
            arguments.extend(["--initial-cluster", &cluster, "--initial-cluster-state", "existing"]);
            arguments.push("--unsafe-no-fsync");
            if self.speech == Speech::V2 {
                arguments.push("--enable-v2");
            }
            let arguments = arguments.into_iter().map(str::to_owned).collect();
            let directory = self.directory.join(format!("other{n}"));
            let mut other = Server::new(Path::new("/usr/bin/etcd"), directory, arguments)?;
            other.start()?;
            self.others.push(other);
            self.other_ports.push(client);
            wait_until("the member answers", Duration::from_secs(20), || {
                let answer = http::raw(client, "GET", "/health", "1.0", "", None)?;
                super::wait::ensure(answer.body.contains("true"), || answer.body)
            })?;
        }
        Ok(())
    }

    /// Gives it users: the root, and `patroni` with a password, who may do everything under `prefix`.
    ///
    /// # Errors
    /// It refuses.
    pub fn add_users(&mut self, password: &str, prefix: &str) -> Result<()> {
        for words in [
            vec!["user", "add", "root:root"],
            vec!["role", "add", "patroni"],
            vec!["role", "grant-permission", "patroni", "--prefix=true", "readwrite", prefix],
            vec!["user", "add", &format!("patroni:{password}")],
            vec!["user", "grant-role", "patroni", "patroni"],
            vec!["user", "grant-role", "root", "root"],
            vec!["auth", "enable"],
        ] {
            self.ctl(&words)?;
        }
        self.users = true;
        Ok(())
    }

    /// Changes the password of `patroni`.
    ///
    /// # Errors
    /// It refuses.
    pub fn set_password(&self, password: &str) -> Result<()> {
        for words in [
            vec!["user", "delete", "patroni"],
            vec!["user", "add", &format!("patroni:{password}")],
            vec!["user", "grant-role", "patroni", "patroni"],
        ] {
            self.ctl(&words)?;
        }
        Ok(())
    }

    fn ctl(&self, words: &[&str]) -> Result<()> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let root: &[&str] = if self.users { &["--user", "root:root"] } else { &[] };
        self.run("/usr/bin/etcdctl", &[&["--endpoints", &endpoint], root, words].concat())
    }

    /// Starts it again with the same data, after [`Etcd::kill`].
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.launch(&[])
    }

    fn launch(&mut self, more: &[&str]) -> Result<()> {
        self.others.iter_mut().try_for_each(Server::start)?;
        self.begin(more)?;
        wait_until("etcd answers", Duration::from_secs(20), || self.prefix("/none").map(drop))
    }

    /// Starts the first one, and does not wait for it.
    fn begin(&mut self, more: &[&str]) -> Result<()> {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command =
            process::command(Path::new("/usr/bin/etcd"), &self.directory, Path::new("/usr/bin"))?;
        command
            .args(["--name", "lab", "--data-dir", "data", "--logger", "zap", "--log-outputs", "stderr"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("lab={peer}"), "--initial-cluster-token", &self.token])
            .arg("--unsafe-no-fsync")
            .args(more);
        if self.speech == Speech::V2 {
            command.arg("--enable-v2");
        }
        self.child = Some(process::daemon(command, &self.directory.join("etcd.log"))?);
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// It lives on.
    pub fn kill(&mut self) -> Result<()> {
        process::kill_under(&self.directory)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        self.others.iter_mut().for_each(Server::reap);
        Ok(())
    }

    /// Takes a snapshot, and a copy of the data directory, for [`Etcd::restore`].
    ///
    /// # Errors
    /// etcdctl or the copy fails.
    pub fn snapshot(&self) -> Result<()> {
        self.remove("snapshot.db")?;
        self.ctl(&["snapshot", "save", "snapshot.db"])?;
        // While it stands still its files are as a crash would leave them.
        self.remove("copy")?;
        self.freeze();
        let copied = self.run("/bin/cp", &["-a", "data", "copy"]);
        self.thaw();
        copied
    }

    /// Ends it, puts it back to [`Etcd::snapshot`], and starts it.
    ///
    /// # Errors
    /// There is no snapshot, or etcd does not answer in time.
    pub fn restore(&mut self, how: Restore) -> Result<()> {
        self.kill()?;
        self.remove("data")?;
        if how == Restore::ForceNewCluster {
            self.run("/bin/cp", &["-a", "copy", "data"])?;
            return self.launch(&["--force-new-cluster"]);
        }
        if how == Restore::NewToken {
            self.token.push('+');
        }
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let cluster = format!("lab={peer}");
        let words = ["snapshot", "restore", "snapshot.db", "--name", "lab", "--data-dir", "data"];
        let more = ["--initial-cluster", &cluster, "--initial-advertise-peer-urls", &peer];
        self.run(
            "/usr/bin/etcdctl",
            &[&words[..], &more, &["--initial-cluster-token", &self.token]].concat(),
        )?;
        self.restart()
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<()> {
        let mut command = process::command(Path::new(program), &self.directory, Path::new("/usr/bin"))?;
        command.env("ETCDCTL_API", "3").args(words);
        process::run(command, Duration::from_secs(20))?.ok().map(drop)
    }

    /// Removes a file or directory beside the data, if it is there.
    fn remove(&self, name: &str) -> Result<()> {
        let path = self.directory.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Stops it with SIGSTOP: connections stay open and silent.
    pub fn freeze(&self) {
        process::signal_under(&self.directory, Signal::SIGSTOP);
    }

    /// Lets it go on after [`Etcd::freeze`].
    pub fn thaw(&self) {
        process::signal_under(&self.directory, Signal::SIGCONT);
    }

    fn post(&self, call: &str, request: &Value) -> Result<Value> {
        let mut header = String::new();
        if self.users {
            let root = Value::from_iter([("name", "root"), ("password", "root")]);
            let body = json::dumps(&root);
            let token =
                http::raw(self.port, "POST", "/v3/auth/authenticate", "1.0", "", Some(&body))?.json()?;
            let token = token.get("token").and_then(Value::as_str).ok_or("no token")?;
            header = format!("Authorization: {token}\r\n");
        }
        let body = json::dumps(request);
        let answer = http::raw(self.port, "POST", &format!("/v3/{call}"), "1.0", &header, Some(&body))?;
        if answer.status != 200 {
            return Err(format!("etcd {call}: {} {}", answer.status, answer.body).into());
        }
        answer.json()
    }

    /// One call of the v2 API; what is not there is an answer without a node.
    fn v2(&self, method: &str, name: &str, query: &str) -> Result<Value> {
        let path = format!("/v2/keys{}{query}", percent(name));
        let answer = http::raw(self.port, method, &path, "1.0", "", None)?;
        match answer.status {
            200 | 201 | 404 => answer.json(),
            status => Err(format!("etcd {method} {path}: {status} {}", answer.body).into()),
        }
    }

    /// All keys that start with `prefix`, by name.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        if self.speech == Speech::V2 {
            let mut found = Vec::new();
            // A prefix that is no directory is a key, or the beginning of one.
            let (directory, _) = prefix.rsplit_once('/').ok_or("no directory")?;
            leaves(self.v2("GET", directory, "?recursive=true")?.get("node"), &mut found);
            found.retain(|key| key.name.starts_with(prefix));
            return Ok(found);
        }
        // The end of a prefix's range: its last byte plus one. Patroni's names are ASCII.
        let mut end = prefix.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        let mut request = Value::map();
        request.set("key", BASE64_STANDARD.encode(prefix));
        request.set("range_end", BASE64_STANDARD.encode(end));
        let answer = self.post("kv/range", &request)?;
        let found = answer.get("kvs").and_then(Value::as_list).unwrap_or_default();
        found.iter().map(key).collect()
    }

    /// The value of one key.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn get(&self, name: &str) -> Result<Option<String>> {
        Ok(self.prefix(name)?.into_iter().find(|key| key.name == name).map(|key| key.value))
    }

    /// Whole seconds that a lease has left; `None`: it has ended.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn seconds_left(&self, lease: &str) -> Result<Option<i64>> {
        let mut request = Value::map();
        request.set("ID", lease);
        let answer = self.post("lease/timetolive", &request)?;
        // Protobuf leaves out what is 0.
        let left = answer.get("TTL").map_or(Ok(0), |ttl| ttl.py_str().parse::<i64>())?;
        Ok(Some(left).filter(|left| *left >= 0))
    }

    /// Whole seconds that the lease of a key has left; `None`: there is no such key, or it is attached to none, or that has
    /// ended.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn lease_left(&self, name: &str) -> Result<Option<i64>> {
        if self.speech == Speech::V2 {
            return Ok(self.v2("GET", name, "")?.at(&["node", "ttl"]).and_then(Value::as_i64));
        }
        let lease = self.prefix(name)?.into_iter().find(|key| key.name == name).and_then(|key| key.lease);
        lease.map_or(Ok(None), |lease| self.seconds_left(&lease))
    }

    /// Writes one key, without a lease.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn put(&self, name: &str, value: &str) -> Result<()> {
        if self.speech == Speech::V2 {
            return self.v2("PUT", name, &format!("?value={}", percent(value))).map(drop);
        }
        let mut request = Value::map();
        request.set("key", BASE64_STANDARD.encode(name));
        request.set("value", BASE64_STANDARD.encode(value));
        self.post("kv/put", &request).map(drop)
    }

    /// Deletes one key.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn delete(&self, name: &str) -> Result<()> {
        if self.speech == Speech::V2 {
            return self.v2("DELETE", name, "").map(drop);
        }
        let mut request = Value::map();
        request.set("key", BASE64_STANDARD.encode(name));
        self.post("kv/deleterange", &request).map(drop)
    }
}

impl Store for Etcd {
    fn section(&self) -> (&'static str, Value) {
        let hosts = Value::from(format!("127.0.0.1:{}", self.port));
        match self.speech {
            Speech::V3 => ("etcd3", Value::from_iter([("hosts", hosts)])),
            // Nobody asks proxies for the topology: all are named.
            Speech::Gateway => {
                let ports = std::iter::once(self.port).chain(self.other_ports.iter().copied());
                let hosts: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
                let hosts = Value::from(hosts.join(","));
                ("etcd3", Value::from_iter([("hosts", hosts), ("use_proxies", Value::from(true))]))
            }
            Speech::V2 => ("etcd", Value::from_iter([("hosts", hosts)])),
        }
    }

    fn url(&self) -> String {
        let scheme = if self.speech == Speech::V2 { "etcd" } else { "etcd3" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        self.prefix(prefix)
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        self.put(name, value)
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.delete(name)
    }

    fn lease_left(&self, name: &str) -> Result<Option<i64>> {
        self.lease_left(name)
    }

    fn kill(&mut self) -> Result<()> {
        self.kill()
    }

    fn restart(&mut self) -> Result<()> {
        self.restart()
    }

    fn freeze(&self) {
        self.freeze();
    }

    fn thaw(&self) {
        self.thaw();
    }

    fn become_three(&mut self) -> Result<()> {
        self.become_three()
    }

    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()> {
        match number.checked_sub(1) {
            None => servers::signal(&mut self.child, signal),
            Some(index) => self.others.get_mut(index).ok_or("no such etcd")?.signal(signal),
        }
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        match number.checked_sub(1) {
            None => self.begin(&[]),
            Some(index) => self.others.get_mut(index).ok_or("no such etcd")?.start(),
        }
    }

    fn as_etcd(&mut self) -> Option<&mut Etcd> {
        Some(self)
    }
}

/// The leaves of a tree of the v2 API.
fn leaves(node: Option<&Value>, found: &mut Vec<Key>) {
    let Some(node) = node else { return };
    if let Some(below) = node.get("nodes").and_then(Value::as_list) {
        below.iter().for_each(|node| leaves(Some(node), found));
    }
    let text = |field: &str| node.get(field).and_then(Value::as_str).map(str::to_owned);
    if let (Some(name), Some(value)) = (text("key"), text("value")) {
        let leased = node.get("ttl").is_some();
        found.push(Key { name, value, leased, lease: None });
    }
}

/// One key of an answer.
fn key(value: &Value) -> Result<Key> {
    let text = |field: &str| -> Result<String> {
        let encoded = value.get(field).and_then(Value::as_str).unwrap_or_default();
        Ok(String::from_utf8_lossy(&BASE64_STANDARD.decode(encoded)?).into_owned())
    };
    let lease = value.get("lease").map(Value::py_str);
    Ok(Key { name: text("key")?, value: text("value")?, leased: lease.is_some(), lease })
}
