//! The nodes: members with PostgreSQL on a disk of their own, and the three servers of the store.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Child;
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pyfmt::{yaml, Value};

use super::harm::{Breach, Harm};
use super::net::{address, Net};
use super::servers::{Dcs, Server, SERVERS};
use super::sys;
use crate::lab::config::{self, Facts};
use crate::lab::raft::Reader;
use crate::lab::{host, http, process, Kind, Result};

/// The size of a member's disk, MiB.
const DISK: u32 = 600;
/// The token that etcd takes where none is given.
const USUAL_TOKEN: &str = "etcd-cluster";

/// What all nodes share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of everything.
    pub directory: PathBuf,
    /// PostgreSQL's programs.
    pub bin: PathBuf,
    /// `ttl`, `loop_wait`, `retry_timeout`, seconds.
    pub timing: [u64; 3],
    /// `synchronous_mode`, as YAML.
    pub sync: &'static str,
    /// How many members.
    pub members: usize,
    /// How many clusters they are of, each of as many: without Citus one.
    pub groups: usize,
    /// The kind of store.
    pub dcs: Dcs,
    /// What daemons get in their environment besides.
    pub environment: Vec<(&'static str, &'static str)>,
}

impl Settings {
    /// The members of a group.
    pub fn members_of(&self, group: usize) -> Range<usize> {
        let size = self.members / self.groups.max(1);
        group * size..(group + 1) * size
    }

    /// The group of a member.
    pub fn group_of(&self, member: usize) -> usize {
        member / (self.members / self.groups.max(1)).max(1)
    }
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
    /// Its directory: logs, sockets, the disk.
    pub directory: PathBuf,
    child: Option<Child>,
    /// Consul's agent beside it.
    pub(super) agent: Option<Child>,
}

impl Node {
    /// The tmpfs with PGDATA in it.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk")
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

/// All nodes: the members first, then the servers of the store, as in [`Net::nodes`].
#[derive(Debug)]
pub struct Fleet {
    /// The network.
    pub net: Net,
    /// The members.
    pub nodes: Vec<Node>,
    /// The servers of the store.
    pub servers: Vec<Server>,
    /// What they share.
    pub settings: Settings,
    /// What has to be undone.
    pub(super) harm: Harm,
    /// The token that etcd's cluster was made with.
    pub(super) token: String,
    /// Who died last while a copy ran.
    pub(super) turn: Option<u64>,
    /// Raft's reader, and the controller that it stands beside.
    pub(super) reader: Mutex<Option<(usize, Reader)>>,
}

impl Fleet {
    /// Makes networks, disks and directories, and starts nothing.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new(settings: Settings, kinds: &[Kind]) -> Result<Fleet> {
        let net = Net::new(settings.members + SERVERS)?;
        let mut nodes = Vec::new();
        for (index, kind) in kinds.iter().enumerate() {
            let name = format!("node{index}");
            let directory = settings.directory.join(&name);
            let node = Node { name, kind: *kind, runs: *kind, directory, child: None, agent: None };
            std::fs::create_dir_all(node.disk())?;
            sys::mount_tmpfs(&node.disk(), DISK).map_err(|e| format!("tmpfs: {e}"))?;
            host::give_away(&node.directory)?;
            host::give_away(&node.disk())?;
            nodes.push(node);
        }
        let servers =
            (0..SERVERS).map(|index| Server::new(settings.directory.join(format!("server{index}"))));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        Ok(Fleet {
            net,
            nodes,
            servers,
            settings,
            harm: Harm::default(),
            token: USUAL_TOKEN.into(),
            turn: None,
            reader: Mutex::new(None),
        })
    }

    // ---- members ----

    fn config(&self, index: usize) -> Result<Value> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let Settings { directory, bin, timing: [ttl, loop_wait, retry_timeout], sync, .. } = &self.settings;
        let facts = Facts {
            scope: "chaos",
            name: &node.name,
            directory: &node.directory,
            lab: directory,
            bin,
            ports: [5432, 8008],
            dcs: match self.settings.dcs {
                Dcs::Raft => self.raft_section(index),
                other => other.section(&self.server_addresses()),
            },
        };
        let mut config = config::usual(&facts)?;
        let me = address(index);
        let (home, disk) = (node.directory.display(), node.disk().display().to_string());
        let over = format!(
            "restapi: {{listen: '0.0.0.0:8008', connect_address: '{me}:8008'}}
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
        if self.settings.groups > 1 {
            let own = super::citus::overrides(self.settings.group_of(index));
            config::merge(&mut config, &yaml::load(&own)?);
        }
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
        let file = node.directory.join("patroni.yml");
        std::fs::write(&file, config::text(&config))?;
        host::give_away(&file)?;
        let program = match node.kind {
            Kind::Ours => host::install("patroni", &self.settings.directory)?,
            Kind::Reference => host::reference("patroni"),
        };
        let mut command = process::command(&program, &node.directory, &self.settings.bin)?;
        command.arg(file).envs(self.settings.environment.iter().copied());
        let log = node.directory.join("patroni.log");
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
        self.sql_in(index, "postgres", sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// As [`Fleet::sql`].
    pub fn sql_in(&self, index: usize, database: &str, sql: &str) -> Result<String> {
        let node = self.nodes.get(index).ok_or("no such member")?;
        let bin = &self.settings.bin;
        let mut command = process::command(&bin.join("psql"), &self.settings.directory, bin)?;
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-p", "5432", "-h"])
            .arg(&node.directory)
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
            Kind::Ours => host::install("patronictl", &self.settings.directory)?,
            Kind::Reference => host::reference("patronictl"),
        };
        let mut command = process::command(&program, &self.settings.directory, &self.settings.bin)?;
        command.arg("-c").arg(node.directory.join("patroni.yml")).args(arguments);
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
            process::signal_under(&node.directory, signal);
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
            process::signal_under(&node.directory, Signal::SIGCONT);
        }
        for index in 0..SERVERS {
            self.signal_server(index, Signal::SIGCONT);
            self.start_server(index)?;
        }
        (0..self.nodes.len()).try_for_each(|index| self.start_agent(index))?;
        let breaches = self.undo();
        (0..self.nodes.len()).try_for_each(|index| self.start_daemon(index))?;
        Ok(breaches)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = process::end_under(&self.settings.directory);
        for node in &mut self.nodes {
            for mut child in [node.child.take(), node.agent.take()].into_iter().flatten() {
                let _ = child.wait();
            }
            let _ = sys::unmount(&node.disk());
        }
        for server in &mut self.servers {
            if let Some(mut child) = server.child.take() {
                let _ = child.wait();
            }
        }
    }
}
