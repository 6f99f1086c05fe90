//! One etcd of the laboratory, and its keys read through its JSON gateway.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use nix::sys::signal::Signal;
use pyfmt::{json, Value};

use super::{host, http, process, wait_until, Result};

/// A single-member etcd.
#[derive(Debug)]
pub struct Etcd {
    /// The port of its clients.
    pub port: u16,
    peer_port: u16,
    folder: PathBuf,
    child: Option<Child>,
    /// The token of the etcd cluster, of which and of the URLs its id is made.
    token: String,
}

/// How an etcd comes back with the data of [`Etcd::snapshot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// `snapshot restore` with the token that it had: the same cluster id, and raft terms from the beginning.
    SameToken,
    /// `snapshot restore` with another token: another cluster id.
    NewToken,
    /// The data folder as it was, started with `--force-new-cluster`: the same cluster id, the terms of that time.
    ForceNewCluster,
}

/// A key and what etcd knows of it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The full name.
    pub name: String,
    /// The value.
    pub value: String,
    /// Whether a lease is attached.
    pub leased: bool,
    /// Its number.
    pub lease: Option<String>,
}

impl Etcd {
    /// Starts it with its data under `folder`.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn start(folder: &Path) -> Result<Etcd> {
        let folder = folder.join("etcd");
        std::fs::create_dir_all(&folder)?;
        host::give_away(&folder)?;
        let (port, peer_port) = (host::free_port()?, host::free_port()?);
        let mut etcd = Etcd { port, peer_port, folder, child: None, token: "lab".into() };
        etcd.restart()?;
        Ok(etcd)
    }

    /// Starts it again with the same data, after [`Etcd::kill`].
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn restart(&mut self) -> Result<()> {
        self.launch(&[])
    }

    fn launch(&mut self, more: &[&str]) -> Result<()> {
        let client = format!("http://127.0.0.1:{}", self.port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = process::command(Path::new("/usr/bin/etcd"), &self.folder, Path::new("/usr/bin"))?;
        command
            .args(["--name", "lab", "--data-dir", "data", "--logger", "zap", "--log-outputs", "stderr"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("lab={peer}"), "--initial-cluster-token", &self.token])
            .arg("--unsafe-no-fsync")
            .args(more);
        self.child = Some(process::daemon(command, &self.folder.join("etcd.log"))?);
        wait_until("etcd answers", Duration::from_secs(20), || self.prefix("/none").map(drop))
    }

    /// Kills it.
    ///
    /// # Errors
    /// It lives on.
    pub fn kill(&mut self) -> Result<()> {
        process::kill_under(&self.folder)?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Takes a snapshot, and a copy of the data folder, for [`Etcd::restore`].
    ///
    /// # Errors
    /// etcdctl or the copy fails.
    pub fn snapshot(&self) -> Result<()> {
        self.remove("snapshot.db")?;
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        self.run("/usr/bin/etcdctl", &["--endpoints", &endpoint, "snapshot", "save", "snapshot.db"])?;
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
        let mut command = process::command(Path::new(program), &self.folder, Path::new("/usr/bin"))?;
        command.env("ETCDCTL_API", "3").args(words);
        process::run(command, Duration::from_secs(20))?.ok().map(drop)
    }

    /// Removes a file or folder beside the data, if it is there.
    fn remove(&self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Stops it with SIGSTOP: connections stay open and silent.
    pub fn freeze(&self) {
        process::signal_under(&self.folder, Signal::SIGSTOP);
    }

    /// Lets it go on after [`Etcd::freeze`].
    pub fn thaw(&self) {
        process::signal_under(&self.folder, Signal::SIGCONT);
    }

    fn post(&self, call: &str, request: &Value) -> Result<Value> {
        let body = json::dumps(request);
        let answer = http::raw(self.port, "POST", &format!("/v3/{call}"), "1.0", "", Some(&body))?;
        if answer.status != 200 {
            return Err(format!("etcd {call}: {} {}", answer.status, answer.body).into());
        }
        answer.json()
    }

    /// All keys that start with `prefix`, by name.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
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

    /// Whole seconds that the lease of a key has left; `None`: there is no such key, or it hangs on none, or that has
    /// ended.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn lease_left(&self, name: &str) -> Result<Option<i64>> {
        let lease = self.prefix(name)?.into_iter().find(|key| key.name == name).and_then(|key| key.lease);
        lease.map_or(Ok(None), |lease| self.seconds_left(&lease))
    }

    /// Writes one key, without a lease.
    ///
    /// # Errors
    /// etcd does not answer.
    pub fn put(&self, name: &str, value: &str) -> Result<()> {
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
        let mut request = Value::map();
        request.set("key", BASE64_STANDARD.encode(name));
        self.post("kv/deleterange", &request).map(drop)
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
