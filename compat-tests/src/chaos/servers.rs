//! The store's three servers, of whatever kind, and Consul's agents beside the members.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use pyfmt::{json, Value};

use super::fleet::Fleet;
use super::net::address;
use crate::lab::{consul, host, http, process, zookeeper, Result};

/// How many servers there are.
pub const SERVERS: usize = 3;

/// The kind of store, and how members speak to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dcs {
    /// etcd v3: ours by gRPC, the reference by the gateway.
    Etcd3,
    /// etcd v3, by the gateway.
    Etcd3http,
    /// etcd v2.
    Etcd,
    /// Consul, with an agent in client mode on each member's node.
    Consul,
    /// ZooKeeper.
    Zookeeper,
    /// None: the members themselves, and three controllers.
    Raft,
}

impl Dcs {
    /// Is a fault of this kind one of this store?
    pub fn has(self, fault: &str) -> bool {
        match fault {
            // etcdctl's snapshots are of v3.
            "etcd-restored" | "etcd-restored-new-token" => matches!(self, Dcs::Etcd3 | Dcs::Etcd3http),
            "agent-away" => self == Dcs::Consul,
            _ => true,
        }
    }

    fn is_etcd(self) -> bool {
        matches!(self, Dcs::Etcd3 | Dcs::Etcd3http | Dcs::Etcd)
    }

    /// The section of a member's configuration, and its name; `servers` are their addresses.
    pub fn section(self, servers: &[String]) -> (&'static str, Value) {
        let hosts = |port: u16| {
            let hosts: Vec<String> = servers.iter().map(|server| format!("{server}:{port}")).collect();
            ("hosts", Value::from(hosts.join(",")))
        };
        let (name, options) = match self {
            Dcs::Etcd3 => ("etcd3", vec![hosts(2379)]),
            Dcs::Etcd3http => ("etcd3", vec![hosts(2379), ("use_proxies", true.into())]),
            Dcs::Etcd => ("etcd", vec![hosts(2379)]),
            Dcs::Consul => {
                ("consul", vec![("host", "127.0.0.1:8500".into()), ("register_service", true.into())])
            }
            Dcs::Zookeeper => ("zookeeper", vec![hosts(2181)]),
            // Each has its own: see `rafts.rs`.
            Dcs::Raft => ("raft", Vec::new()),
        };
        (name, Value::from_iter(options))
    }

    /// What is not there that this needs.
    ///
    /// # Errors
    /// Says what scripts/setup has not got.
    pub fn is_here(self) -> Result<()> {
        let (program, name) = match self {
            Dcs::Consul => (consul::program(), "Consul"),
            Dcs::Zookeeper => (zookeeper::jars(), "ZooKeeper"),
            Dcs::Raft => (host::reference("patroni_raft_controller"), "reference"),
            _ => (PathBuf::from("/usr/bin/etcd"), "etcd"),
        };
        if program.exists() {
            Ok(())
        } else {
            Err(format!("no {name} here: scripts/setup").into())
        }
    }
}

/// One server.
#[derive(Debug)]
pub struct Server {
    /// Its directory: log and data.
    pub directory: PathBuf,
    pub(super) child: Option<Child>,
}

impl Server {
    /// With its directory, and not started.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(directory: PathBuf) -> Result<Server> {
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        Ok(Server { directory, child: None })
    }

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

/// What all agents of Consul have in common; `more` is JSON with a comma before it.
fn consul_file(name: &str, me: &str, clients: &str, servers: &[String], more: &str) -> String {
    let join: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    format!(
        r#"{{"node_name":"{name}","data_dir":"data","bind_addr":"{me}","client_addr":"{clients}",
"ports":{{"dns":-1,"grpc":-1,"serf_wan":-1}},"retry_join":[{}],"retry_interval":"1s","session_ttl_min":"2s",
"disable_update_check":true,"leave_on_terminate":false{more}}}"#,
        join.join(",")
    )
}

impl Fleet {
    /// The number of a server in the network.
    pub fn server_port(&self, index: usize) -> usize {
        self.settings.members + index
    }

    /// The addresses of all servers.
    pub fn server_addresses(&self) -> Vec<String> {
        (0..SERVERS).map(|index| address(self.server_port(index))).collect()
    }

    /// Starts a server, unless it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_server(&mut self, index: usize) -> Result<()> {
        let server = self.servers.get_mut(index).ok_or("no such server")?;
        if server.runs() {
            return Ok(());
        }
        let directory = server.directory.clone();
        let command = match self.settings.dcs {
            Dcs::Consul => self.consul_server(index, &directory)?,
            Dcs::Zookeeper => self.zookeeper_server(index, &directory)?,
            Dcs::Raft => self.raft_server(index, &directory)?,
            _ => self.etcd_server(index, &directory)?,
        };
        let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
        let child = namespace.spawn(|| process::daemon(command, &directory.join("server.log")))?;
        self.servers.get_mut(index).ok_or("no such server")?.child = Some(child);
        Ok(())
    }

    fn etcd_server(&self, index: usize, directory: &Path) -> Result<Command> {
        let servers = self.server_addresses();
        let me = servers.get(index).ok_or("no address")?;
        let all: Vec<String> =
            servers.iter().enumerate().map(|(i, at)| format!("etcd{i}=http://{at}:2380")).collect();
        let mut command = process::command(Path::new("/usr/bin/etcd"), directory, Path::new("/usr/bin"))?;
        command
            .args(["--name", &format!("etcd{index}"), "--data-dir", "data", "--logger", "zap"])
            .args(["--log-outputs", "stderr", "--unsafe-no-fsync", "--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", "http://0.0.0.0:2379"])
            .args(["--listen-peer-urls", "http://0.0.0.0:2380"])
            .args(["--advertise-client-urls", &format!("http://{me}:2379")])
            .args(["--initial-advertise-peer-urls", &format!("http://{me}:2380")])
            .args(["--heartbeat-interval", "200", "--election-timeout", "2000"]);
        if self.settings.dcs == Dcs::Etcd {
            command.arg("--enable-v2");
        }
        Ok(command)
    }

    fn consul_server(&self, index: usize, directory: &Path) -> Result<Command> {
        let servers = self.server_addresses();
        let me = servers.get(index).ok_or("no address")?;
        let more = format!(
            r#","server":true,"bootstrap_expect":{SERVERS},"raft_protocol":3,"performance":{{"raft_multiplier":1}}"#
        );
        let text = consul_file(&format!("consul{index}"), me, "0.0.0.0", &servers, &more);
        consul_agent(directory, &text)
    }

    fn zookeeper_server(&self, index: usize, directory: &Path) -> Result<Command> {
        let servers = self.server_addresses();
        let mut text = format!(
            "tickTime=1000\ninitLimit=10\nsyncLimit=4\nmaxSessionTimeout=60000\ndataDir={}\nclientPort=2181\n\
             admin.enableServer=false\nforceSync=no\n4lw.commands.whitelist=srvr\n",
            directory.join("data").display()
        );
        for (number, server) in servers.iter().enumerate() {
            text += &format!("server.{}={server}:2888:3888\n", number + 1);
        }
        std::fs::create_dir_all(directory.join("data"))?;
        host::give_away(&directory.join("data"))?;
        std::fs::write(directory.join("data/myid"), format!("{}\n", index + 1))?;
        std::fs::write(directory.join("zoo.cfg"), text)?;
        zookeeper::command(directory)
    }

    /// Starts the agent of Consul on a member's node, where there is to be one and it does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agent(&mut self, index: usize) -> Result<()> {
        if self.settings.dcs != Dcs::Consul {
            return Ok(());
        }
        let servers = self.server_addresses();
        let node = self.nodes.get_mut(index).ok_or("no such member")?;
        if process::living(&mut node.agent).is_some() {
            return Ok(());
        }
        let directory = node.directory.join("agent");
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        let command =
            consul_agent(&directory, &consul_file(&node.name, &address(index), "127.0.0.1", &servers, ""))?;
        let namespace = self.net.nodes.get(index).ok_or("no network")?;
        node.agent = Some(namespace.spawn(|| process::daemon(command, &directory.join("agent.log")))?);
        Ok(())
    }

    /// Sends a signal to a server.
    pub fn signal_server(&self, index: usize, signal: Signal) {
        if let Some(server) = self.servers.get(index) {
            process::signal_under(&server.directory, signal);
        }
    }

    /// Sends a signal to the agent of a member's node. Is there one?
    pub fn signal_agent(&self, index: usize, signal: Signal) -> bool {
        let Some(node) = self.nodes.get(index).filter(|node| node.agent.is_some()) else { return false };
        process::signal_under(&node.directory.join("agent"), signal);
        true
    }

    /// One request by HTTP to a server, from its own network.
    fn ask(&self, index: usize, port: u16, method: &str, path: &str, body: &str) -> Result<http::Response> {
        let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
        let answer = namespace.enter(|| http::raw(port, method, path, "1.0", "", Some(body)))?;
        if !matches!(answer.status, 200 | 404) {
            return Err(format!("server {index} {path}: {} {}", answer.status, answer.body).into());
        }
        Ok(answer)
    }

    /// One call of an etcd's gateway.
    fn etcd_call(&self, index: usize, call: &str, body: &str) -> Result<Value> {
        self.ask(index, 2379, "POST", &format!("/v3/{call}"), body)?.json()
    }

    /// The server that leads the others.
    pub fn store_leader(&self) -> Option<usize> {
        let mut there = (0..SERVERS).filter(|i| self.servers.get(*i).is_some_and(Server::is_there));
        if self.settings.dcs == Dcs::Consul {
            return there.find_map(|index| {
                let answer = self.ask(index, 8500, "GET", "/v1/status/leader", "").ok()?.json().ok()?;
                let leader = answer.as_str()?.split(':').next()?.to_owned();
                self.server_addresses().iter().position(|address| *address == leader)
            });
        }
        there.find(|index| self.leads(*index).unwrap_or(false))
    }

    fn leads(&self, index: usize) -> Result<bool> {
        if self.settings.dcs == Dcs::Raft {
            return self.raft_leads(index);
        }
        if !self.settings.dcs.is_etcd() {
            let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
            return Ok(namespace.enter(|| zookeeper::say(2181, "srvr"))?.contains("Mode: leader"));
        }
        let status = self.etcd_call(index, "maintenance/status", "{}")?;
        let leader = status.get("leader").and_then(Value::as_str);
        Ok(leader.is_some() && leader == status.at(&["header", "member_id"]).and_then(Value::as_str))
    }

    /// What etcd calls this one, in decimal.
    ///
    /// # Errors
    /// It does not answer.
    pub fn etcd_id(&self, index: usize) -> Result<String> {
        let status = self.etcd_call(index, "maintenance/status", "{}")?;
        let id = status.at(&["header", "member_id"]).and_then(Value::as_str);
        Ok(id.ok_or("no member_id")?.to_owned())
    }

    /// A group as it is named in keys and to patronictl; without Citus there are none.
    pub(super) fn key_of_group(&self, group: usize) -> Option<String> {
        (self.settings.groups > 1).then(|| group.to_string())
    }

    /// A value of the store, through any server that answers. (Without Citus: nobody asks for a group's.)
    ///
    /// # Errors
    /// None answers.
    pub fn key(&self, name: &str) -> Result<Option<String>> {
        let there = (0..SERVERS).filter(|i| self.servers.get(*i).is_some_and(Server::is_there));
        let mut last = Err("no server of the store is there".into());
        for index in there {
            last = self.key_at(index, &format!("/service/chaos/{name}"));
            if last.is_ok() {
                break;
            }
        }
        last
    }

    fn key_at(&self, index: usize, path: &str) -> Result<Option<String>> {
        use base64::prelude::{Engine, BASE64_STANDARD};
        let found = |answer: http::Response| (answer.status == 200).then_some(answer.body);
        match self.settings.dcs {
            Dcs::Consul => {
                let path = format!("/v1/kv{path}?raw=true&consistent=true");
                Ok(found(self.ask(index, 8500, "GET", &path, "")?))
            }
            Dcs::Zookeeper => {
                let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
                namespace.enter(|| zookeeper::value(2181, path))
            }
            Dcs::Raft => self.raft_key(index, path),
            Dcs::Etcd => {
                let answer = self.ask(index, 2379, "GET", &format!("/v2/keys{path}?quorum=true"), "")?;
                let Some(body) = found(answer) else { return Ok(None) };
                let node = json::loads(&body).map_err(|e| e.to_string())?;
                Ok(node.at(&["node", "value"]).and_then(Value::as_str).map(str::to_owned))
            }
            Dcs::Etcd3 | Dcs::Etcd3http => {
                let request = Value::from_iter([("key", BASE64_STANDARD.encode(path))]);
                let answer = self.etcd_call(index, "kv/range", &json::dumps(&request))?;
                let first = answer.get("kvs").and_then(Value::as_list).and_then(<[Value]>::first);
                let Some(text) = first.and_then(|kv| kv.get("value")).and_then(Value::as_str) else {
                    return Ok(None);
                };
                Ok(Some(String::from_utf8_lossy(&BASE64_STANDARD.decode(text)?).into_owned()))
            }
        }
    }
}

/// An agent of Consul with this configuration, which is written to its directory.
fn consul_agent(directory: &Path, configuration: &str) -> Result<Command> {
    std::fs::write(directory.join("agent.json"), configuration)?;
    let mut command = process::command(&consul::program(), directory, Path::new("/usr/bin"))?;
    command.args(["agent", "-config-file=agent.json"]);
    Ok(command)
}
