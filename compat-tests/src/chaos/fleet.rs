//! The nodes: members with PostgreSQL on a disk of their own, and three etcd.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pyfmt::{json, yaml, Value};

use super::harm::{Breach, Harm};
use super::net::{address, Net};
use super::sys;
use crate::lab::config::{self, Facts};
use crate::lab::{host, http, process, Kind, Result};

/// The size of a member's disk, MiB.
const DISK: u32 = 600;
/// The token that etcd takes where none is given.
const USUAL_TOKEN: &str = "etcd-cluster";
/// How many etcd there are.
pub const ETCDS: usize = 3;

/// What all nodes share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of everything.
    pub folder: PathBuf,
    /// PostgreSQL's programs.
    pub bin: PathBuf,
    /// `ttl`, `loop_wait`, `retry_timeout`, seconds.
    pub timing: [u64; 3],
    /// `synchronous_mode`, as YAML.
    pub sync: &'static str,
    /// How many members.
    pub members: usize,
    /// What daemons get in their environment besides.
    pub environment: Vec<(&'static str, &'static str)>,
}

/// One member.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What its daemon is, from the next start on.
    pub kind: Kind,
    /// What its daemon is now.
    pub runs: Kind,
    /// Its folder: logs, sockets, the disk.
    pub folder: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// The tmpfs with PGDATA in it.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// The postmaster's process, if it lives.
    pub fn postmaster(&self) -> Option<Pid> {
        let data = self.disk().join("data");
        let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?);
        process::under(&data).contains(&pid).then_some(pid)
    }

    /// The daemon's process, if it lives.
    pub fn daemon(&mut self) -> Option<Pid> {
        process::living(&mut self.child)
    }
}

/// One etcd.
#[derive(Debug)]
pub struct Etcd {
    /// Its folder: log and data.
    pub folder: PathBuf,
    child: Option<Child>,
}

/// All nodes: the members first, then the etcd, as in [`Net::nodes`].
#[derive(Debug)]
pub struct Fleet {
    /// The network.
    pub net: Net,
    /// The members.
    pub nodes: Vec<Node>,
    /// The etcd.
    pub etcds: Vec<Etcd>,
    /// What they share.
    pub settings: Settings,
    /// What has to be undone.
    pub(super) harm: Harm,
    /// The token that etcd's cluster was made with.
    pub(super) token: String,
    /// Who died last while a copy ran.
    pub(super) turn: Option<u64>,
}

impl Fleet {
    /// Makes networks, disks and folders, and starts nothing.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(settings: Settings, kinds: &[Kind]) -> Result<Fleet> {
        let net = Net::new(settings.members + ETCDS)?;
        let mut nodes = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let name = format!("node{index}");
            let folder = settings.folder.join(&name);
            let node = Node { name, kind: *kind, runs: *kind, folder, child: None };
            std::fs::create_dir_all(node.disk())?;
            sys::mount_tmpfs(&node.disk(), DISK).map_err(|e| format!("tmpfs: {e}"))?;
            host::give_away(&node.folder)?;
            host::give_away(&node.disk())?;
            nodes.push(node);
        }
        let mut etcds = Vec::new();
        for index in 0..ETCDS {
            let folder = settings.folder.join(format!("etcd{index}"));
            std::fs::create_dir_all(&folder)?;
            host::give_away(&folder)?;
            etcds.push(Etcd { folder, child: None });
        }
        Ok(Fleet {
            net,
            nodes,
            etcds,
            settings,
            harm: Harm::default(),
            token: USUAL_TOKEN.into(),
            turn: None,
        })
    }

    /// The number of an etcd in the network.
    pub fn etcd_port(&self, index: usize) -> usize {
        self.settings.members + index
    }

    // ---- etcd ----

    /// Starts an etcd, unless it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_etcd(&mut self, index: usize) -> Result<()> {
        if self.etcds.get_mut(index).ok_or("no such etcd")?.runs() {
            return Ok(());
        }
        let at = |i: usize| address(self.etcd_port(i));
        let all: Vec<String> = (0..ETCDS).map(|i| format!("etcd{i}=http://{}:2380", at(i))).collect();
        let folder = self.settings.folder.join(format!("etcd{index}"));
        let mut command = process::command(Path::new("/usr/bin/etcd"), &folder, Path::new("/usr/bin"))?;
        command
            .args(["--name", &format!("etcd{index}"), "--data-dir", "data", "--logger", "zap"])
            .args(["--log-outputs", "stderr", "--unsafe-no-fsync", "--initial-cluster", &all.join(",")])
            .args([
                "--listen-client-urls",
                "http://0.0.0.0:2379",
                "--listen-peer-urls",
                "http://0.0.0.0:2380",
            ])
            .args(["--advertise-client-urls", &format!("http://{}:2379", at(index))])
            .args(["--initial-advertise-peer-urls", &format!("http://{}:2380", at(index))])
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"]);
        let port = self.etcd_port(index);
        let log = folder.join("etcd.log");
        let namespace = self.net.nodes.get(port).ok_or("no network")?;
        let child = namespace.spawn(|| process::daemon(command, &log))?;
        self.etcds.get_mut(index).ok_or("no such etcd")?.child = Some(child);
        Ok(())
    }

    /// One call of an etcd's gateway.
    fn etcd_call(&self, index: usize, call: &str, body: &str) -> Result<Value> {
        let namespace = self.net.nodes.get(self.etcd_port(index)).ok_or("no network")?;
        let answer =
            namespace.enter(|| http::raw(2379, "POST", &format!("/v3/{call}"), "1.0", "", Some(body)))?;
        if answer.status != 200 {
            return Err(format!("etcd{index} {call}: {} {}", answer.status, answer.body).into());
        }
        answer.json()
    }

    /// The etcd that leads the others.
    pub fn etcd_leader(&self) -> Option<usize> {
        let leads = |index: &usize| {
            let status = self.etcd_call(*index, "maintenance/status", "{}").ok()?;
            let me = status.get("header")?.get("member_id")?.as_str()?.to_owned();
            (status.get("leader")?.as_str()? == me).then_some(())
        };
        (0..ETCDS).filter(|i| self.etcds.get(*i).is_some_and(Etcd::is_there)).find(|i| leads(i).is_some())
    }

    /// What etcd calls this one, in decimal.
    ///
    /// # Errors
    /// It does not answer.
    pub fn etcd_id(&self, index: usize) -> Result<String> {
        let status = self.etcd_call(index, "maintenance/status", "{}")?;
        let id = status.get("header").and_then(|header| header.get("member_id")).and_then(Value::as_str);
        Ok(id.ok_or("no member_id")?.to_owned())
    }

    /// A value of the store, through any etcd that answers.
    ///
    /// # Errors
    /// None answers.
    pub fn key(&self, name: &str) -> Result<Option<String>> {
        use base64::prelude::{Engine, BASE64_STANDARD};
        let mut request = Value::map();
        request.set("key", BASE64_STANDARD.encode(format!("/service/chaos/{name}")));
        let body = json::dumps(&request);
        let answer = (0..ETCDS).find_map(|index| self.etcd_call(index, "kv/range", &body).ok());
        let answer = answer.ok_or("no etcd answers")?;
        let first = answer.get("kvs").and_then(Value::as_list).and_then(<[Value]>::first);
        let Some(text) = first.and_then(|kv| kv.get("value")).and_then(Value::as_str) else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8_lossy(&BASE64_STANDARD.decode(text)?).into_owned()))
    }

    // ---- members ----

    fn config(&self, index: usize) -> Result<Value> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let Settings { folder, bin, timing: [ttl, loop_wait, retry_timeout], sync, .. } = &self.settings;
        let facts = Facts {
            scope: "chaos",
            name: &node.name,
            folder: &node.folder,
            lab: folder,
            bin,
            ports: [5432, 8008],
            dcs: ("etcd3", Value::map()),
        };
        let mut config = config::usual(&facts)?;
        let hosts: Vec<String> = (0..ETCDS).map(|i| format!("{}:2379", address(self.etcd_port(i)))).collect();
        let (me, hosts) = (address(index), hosts.join(","));
        let (home, disk) = (node.folder.display(), node.disk().display().to_string());
        let over = format!(
            "restapi: {{listen: '0.0.0.0:8008', connect_address: '{me}:8008'}}
etcd3: {{hosts: '{hosts}'}}
bootstrap:
  dcs:
    ttl: {ttl}
    loop_wait: {loop_wait}
    retry_timeout: {retry_timeout}
    primary_start_timeout: 15
    synchronous_mode: {sync}
    postgresql:
      remove_data_directory_on_rewind_failure: true
      remove_data_directory_on_diverged_timelines: true
      parameters: {{max_connections: 100, max_wal_size: 128MB, min_wal_size: 32MB, wal_keep_size: 64MB}}
postgresql:
  listen: '{me}:5432'
  connect_address: '{me}:5432'
  data_dir: {disk}/data
  pg_hba:
  - local all all trust
  - host replication replicator 10.77.0.0/24 md5
  - host all all 10.77.0.0/24 md5
  parameters: {{unix_socket_directories: {home}}}
"
        );
        config::merge(&mut config, &yaml::load(&over)?);
        Ok(config)
    }

    /// Starts a member's daemon, unless it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_daemon(&mut self, index: usize) -> Result<()> {
        let config = self.config(index)?;
        let node = self.nodes.get_mut(index).ok_or("no such member")?;
        if node.daemon().is_some() {
            return Ok(());
        }
        let file = node.folder.join("patroni.yml");
        std::fs::write(&file, config::text(&config))?;
        host::give_away(&file)?;
        let program = match node.kind {
            Kind::Ours => host::install("patroni", &self.settings.folder)?,
            Kind::Reference => host::reference("patroni"),
        };
        let mut command = process::command(&program, &node.folder, &self.settings.bin)?;
        command.arg(file).envs(self.settings.environment.iter().copied());
        let log = node.folder.join("patroni.log");
        let namespace = self.net.nodes.get(index).ok_or("no network")?;
        node.child = Some(namespace.spawn(|| process::daemon(command, &log))?);
        node.runs = node.kind;
        Ok(())
    }

    /// Runs SQL as the superuser through the member's Unix socket.
    ///
    /// # Errors
    /// The server is away, refuses or hangs.
    pub fn sql(&self, index: usize, sql: &str) -> Result<String> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let bin = &self.settings.bin;
        let mut command = process::command(&bin.join("psql"), &self.settings.folder, bin)?;
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-p", "5432", "-h"])
            .arg(&node.folder)
            .args(["-c", sql])
            .env("PGCONNECT_TIMEOUT", "3");
        process::run(command, Duration::from_secs(20))?.ok().map(|text| text.trim_end().to_string())
    }

    /// A call of a member's REST API, from the member itself.
    ///
    /// # Errors
    /// No connection, or no answer.
    pub fn rest(&self, index: usize, method: &str, path: &str, body: Option<&str>) -> Result<http::Response> {
        let namespace = self.net.nodes.get(index).ok_or("no network")?;
        namespace.enter(|| http::call(8008, method, path, body))
    }

    /// Runs patronictl on a member.
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub fn ctl(&self, kind: Kind, index: usize, arguments: &[&str]) -> Result<process::Output> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let program = match kind {
            Kind::Ours => host::install("patronictl", &self.settings.folder)?,
            Kind::Reference => host::reference("patronictl"),
        };
        let mut command = process::command(&program, &self.settings.folder, &self.settings.bin)?;
        command.arg("-c").arg(node.folder.join("patroni.yml")).args(arguments);
        let namespace = self.net.nodes.get(index).ok_or("no network")?;
        namespace.enter(|| process::run(command, Duration::from_secs(15)))
    }

    // ---- harm ----

    /// Sends a signal to the daemon alone.
    pub fn signal_daemon(&mut self, index: usize, signal: Signal) -> bool {
        let pid = self.nodes.get_mut(index).and_then(Node::daemon);
        pid.is_some_and(|pid| kill(pid, signal).is_ok())
    }

    /// Sends a signal to the postmaster alone.
    pub fn signal_postmaster(&self, index: usize, signal: Signal) -> bool {
        let pid = self.nodes.get(index).and_then(Node::postmaster);
        pid.is_some_and(|pid| kill(pid, signal).is_ok())
    }

    /// Sends a signal to all of the node.
    pub fn signal_node(&self, index: usize, signal: Signal) {
        if let Some(node) = self.nodes.get(index) {
            process::signal_under(&node.folder, signal);
        }
    }

    /// Sends a signal to an etcd.
    pub fn signal_etcd(&self, index: usize, signal: Signal) {
        if let Some(etcd) = self.etcds.get(index) {
            process::signal_under(&etcd.folder, signal);
        }
    }

    /// Fills a member's disk to the last byte.
    pub fn fill_disk(&self, index: usize) {
        use std::io::Write;
        let Some(node) = self.nodes.get(index) else { return };
        let Ok(mut file) = std::fs::File::create(node.disk().join("ballast")) else { return };
        let (large, small) = (vec![0u8; 1 << 20], [0u8; 512]);
        while file.write_all(&large).is_ok() {}
        while file.write_all(&small).is_ok() {}
    }

    /// Ends all harm: the network is whole, everything goes on, disks are free, what is down is started.
    /// Gives what was seen to be wrong meanwhile.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn heal(&mut self) -> Result<Vec<Breach>> {
        self.net.mend();
        for node in &self.nodes {
            let _ = std::fs::remove_file(node.disk().join("ballast"));
            process::signal_under(&node.folder, Signal::SIGCONT);
        }
        for index in 0..ETCDS {
            self.signal_etcd(index, Signal::SIGCONT);
            self.start_etcd(index)?;
        }
        let breaches = self.undo();
        (0..self.nodes.len()).try_for_each(|index| self.start_daemon(index))?;
        Ok(breaches)
    }
}

impl Etcd {
    /// Does its process live?
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Alive, and not stopped.
    fn is_there(&self) -> bool {
        let Some(child) = &self.child else { return false };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        !matches!(state, None | Some('T' | 'Z'))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = process::end_under(&self.settings.folder);
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.wait();
            }
            let _ = sys::unmount(&node.disk());
        }
        for etcd in &mut self.etcds {
            if let Some(mut child) = etcd.child.take() {
                let _ = child.wait();
            }
        }
    }
}
