//! The lab's DCS, of whatever kind: `STORE=etcd3|etcd3http|etcd|consul|zookeeper|exhibitor|kubernetes|kubernetes-cm|raft|raft-ours|raft-three|raft-three-ours` (and what is added in [`start`]).

use std::fmt::Debug;
use std::path::Path;

use nix::sys::signal::Signal;
use pyfmt::Value;

use super::consul::Consul;
use super::etcd::{Etcd, Speech};
use super::kubernetes::Kubernetes;
use super::raft::Raft;
use super::servers::Server;
use super::zookeeper::ZooKeeper;
use super::{Kind, Result};

/// A key and what the store knows of it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The full name, from `/service/` on.
    pub name: String,
    /// The value.
    pub value: String,
    /// Whether it ends with a session, a lease or a TTL.
    pub leased: bool,
    /// The lease or session, where there is one.
    pub lease: Option<String>,
}

/// A running store. All calls block, with a deadline each.
pub trait Store: Debug + Send + Sync {
    /// The section of a member's configuration, and its name: of both implementations.
    fn section(&self) -> (&'static str, Value);

    /// The section of the member of that name, where they differ.
    ///
    /// # Errors
    /// There is no port for it.
    fn section_of(&self, name: &str) -> Result<(&'static str, Value)> {
        let _ = name;
        Ok(self.section())
    }

    /// What `patronictl -d` calls it: `etcd3://127.0.0.1:2379`.
    fn url(&self) -> String;

    /// The port that its clients speak to.
    fn port(&self) -> u16;

    /// Before a member of that name is started: what has to be there for it.
    ///
    /// # Errors
    /// The store does not answer.
    fn welcome(&self, scope: &str, name: &str) -> Result<()> {
        let _ = (scope, name);
        Ok(())
    }

    /// All keys that start with `prefix`, by name.
    ///
    /// # Errors
    /// The store does not answer.
    fn prefix(&self, prefix: &str) -> Result<Vec<Key>>;

    /// Writes one key that is attached to nothing.
    ///
    /// # Errors
    /// The store does not answer.
    fn put(&self, name: &str, value: &str) -> Result<()>;

    /// Deletes one key.
    ///
    /// # Errors
    /// The store does not answer.
    fn delete(&self, name: &str) -> Result<()>;

    /// Whole seconds that a key has left; `None`: it is not there, does not end, or the store does not tell.
    ///
    /// # Errors
    /// The store does not answer.
    fn lease_left(&self, name: &str) -> Result<Option<i64>> {
        let _ = name;
        Ok(None)
    }

    /// Kills it.
    ///
    /// # Errors
    /// It lives on.
    fn kill(&mut self) -> Result<()>;

    /// Starts it again with the same data, after [`Store::kill`].
    ///
    /// # Errors
    /// It does not answer in time.
    fn restart(&mut self) -> Result<()>;

    /// Stops it with SIGSTOP: connections stay open and silent.
    fn freeze(&self);

    /// Lets it go on after [`Store::freeze`].
    fn thaw(&self);

    /// Becomes a store of three servers, before there are members. They are told apart by their numbers, 0 to 2.
    ///
    /// # Errors
    /// They do not become one in time.
    fn become_three(&mut self) -> Result<()>;

    /// Sends a signal to one server of three; after SIGKILL and SIGTERM it has ended.
    ///
    /// # Errors
    /// There is no such server, or it lives on.
    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()>;

    /// Starts one of three again, and does not wait for it: it may have no quorum.
    ///
    /// # Errors
    /// There is no such server, or it cannot be started.
    fn start_server(&mut self, number: usize) -> Result<()>;

    /// The agent that members speak to, and which is no server: of Consul of three.
    ///
    /// # Errors
    /// There is none.
    fn agent(&mut self) -> Result<&mut Server> {
        Err("this store has no agents".into())
    }

    /// What patronictl needs in its environment to use [`Store::url`].
    fn environment(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What a member needs in its environment beside its section.
    fn member_environment(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// For what only etcd can do.
    fn as_etcd(&mut self) -> Option<&mut Etcd> {
        None
    }

    /// The value of one key.
    ///
    /// # Errors
    /// The store does not answer.
    fn get(&self, name: &str) -> Result<Option<String>> {
        Ok(self.prefix(name)?.into_iter().find(|key| key.name == name).map(|key| key.value))
    }
}

/// The name of the store of `STORE`.
pub fn chosen() -> String {
    std::env::var("STORE").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "etcd3".into())
}

/// Can that store be started here? scripts/setup leaves out what it cannot get.
pub fn is_here(name: &str) -> bool {
    match name {
        "consul" => super::consul::program().exists(),
        "kubernetes" | "kubernetes-cm" => super::kubernetes::program().exists(),
        "zookeeper" | "exhibitor" => super::zookeeper::jars().is_dir(),
        _ => true,
    }
}

/// Starts the store of that name, with its data under `directory`.
///
/// # Errors
/// It does not answer in time, or there is no such store.
pub fn start(name: &str, directory: &Path) -> Result<Box<dyn Store>> {
    Ok(match name {
        "etcd3" => Box::new(Etcd::start(directory)?),
        "etcd3http" => Box::new(Etcd::speaking(directory, Speech::Gateway)?),
        "etcd" => Box::new(Etcd::speaking(directory, Speech::V2)?),
        "consul" => Box::new(Consul::start(directory)?),
        "kubernetes" => Box::new(Kubernetes::start(directory, true)?),
        "kubernetes-cm" => Box::new(Kubernetes::start(directory, false)?),
        // The controllers are the reference's, or ours.
        "raft" => Box::new(Raft::start(directory, Kind::Reference, 1)?),
        "raft-ours" => Box::new(Raft::start(directory, Kind::Ours, 1)?),
        "raft-three" => Box::new(Raft::start(directory, Kind::Reference, 3)?),
        "raft-three-ours" => Box::new(Raft::start(directory, Kind::Ours, 3)?),
        "zookeeper" => Box::new(ZooKeeper::start(directory)?),
        "exhibitor" => Box::new(ZooKeeper::behind_exhibitor(directory)?),
        other => return Err(format!("STORE={other}: there is no such store").into()),
    })
}

/// A name or value in a URL.
pub fn percent(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~/".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
