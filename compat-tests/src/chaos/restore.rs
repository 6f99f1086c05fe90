//! etcd restored from a snapshot: all that members wrote since is gone from it, and they do not know.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::fleet::Fleet;
use super::servers::{Server, SERVERS};
use crate::lab::wait::ensure;
use crate::lab::{process, wait_until, Kind, Result};

/// The program that makes and restores snapshots.
const ETCDCTL: &str = "/usr/bin/etcdctl";
/// How long another member may need to lead after a switchover was asked for.
const CHANGE: Duration = Duration::from_secs(20);

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Another token, which makes another cluster of it: identity and raft terms have nothing to do with what was.
    pub new_token: bool,
    /// Another member leads before the store goes back.
    pub switchover: bool,
    /// How long rows are written that the store does not know of, and how long there is no store.
    pub after: Duration,
    /// See `after`.
    pub away: Duration,
}

impl Fleet {
    fn etcdctl(&self, index: usize, arguments: &[&str]) -> Result<()> {
        let directory = &self.servers.get(index).ok_or("no such etcd")?.directory;
        let mut command = process::command(Path::new(ETCDCTL), directory, Path::new("/usr/bin"))?;
        command.env("ETCDCTL_API", "3").args(arguments);
        let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
        namespace.enter(|| process::run(command, Duration::from_secs(20)))?.ok().map(drop)
    }

    /// Another etcd leads from now on.
    fn move_etcd_leader(&self) -> Result<()> {
        let old = wait_until("etcd has a leader", CHANGE, || self.store_leader().ok_or("none".into()))?;
        let new = (old + 1) % SERVERS;
        let id: u64 = self.etcd_id(new)?.parse()?;
        self.etcdctl(old, &["move-leader", &format!("{id:x}")])
    }

    /// A snapshot is made, the cluster goes on, and then etcd is restored from it. Says what was done.
    ///
    /// # Errors
    /// A program fails; etcd may then be down, and [`Fleet::heal`] starts it as it is.
    pub fn restore_etcd(&mut self, leader: usize, plan: Plan) -> Result<String> {
        // Terms count leaders: a store that goes back counts them anew, and from less than members have seen.
        for _ in 0..3 {
            self.move_etcd_leader()?;
        }
        let source = self.store_leader().ok_or("etcd has no leader")?;
        let snapshot = self.servers.get(source).ok_or("no such etcd")?.directory.join("snapshot.db");
        let file = snapshot.display().to_string();
        let _ = std::fs::remove_file(&snapshot);
        self.etcdctl(source, &["snapshot", "save", &file])?;
        let mut what = String::from("the same leader");
        if plan.switchover {
            let _ = self.ctl(Kind::Ours, leader, &["switchover", "chaos", "--force"]);
            what = match self.wait_for_leader(leader, CHANGE) {
                Some(new) => format!("node{leader} led, now node{new}"),
                None => "no switchover came".into(),
            };
        }
        std::thread::sleep(plan.after);
        for index in 0..SERVERS {
            self.signal_server(index, Signal::SIGKILL);
        }
        wait_until("etcd is dead", Duration::from_secs(5), || {
            ensure(!self.servers.iter_mut().any(Server::runs), || "one lives".into())
        })?;
        if plan.new_token {
            let age = snapshot.metadata()?.modified()?.duration_since(std::time::UNIX_EPOCH)?;
            self.token = format!("restored-{}", age.as_millis());
        }
        let token = self.token.clone();
        let urls: Vec<String> =
            self.server_addresses().iter().map(|at| format!("http://{at}:2380")).collect();
        let all: Vec<String> = urls.iter().enumerate().map(|(i, url)| format!("etcd{i}={url}")).collect();
        for (index, url) in urls.iter().enumerate() {
            let directory = &self.servers.get(index).ok_or("no such etcd")?.directory;
            std::fs::remove_dir_all(directory.join("data"))?;
            let (name, all) = (format!("etcd{index}"), all.join(","));
            let words = ["snapshot", "restore", &file, "--name", &name, "--data-dir", "data"];
            let cluster = ["--initial-cluster", &all, "--initial-cluster-token", &token];
            self.etcdctl(index, &[&words[..], &cluster, &["--initial-advertise-peer-urls", url]].concat())?;
        }
        std::thread::sleep(plan.away);
        (0..SERVERS).try_for_each(|index| self.start_server(index))?;
        self.harm.terms_fell = !plan.new_token;
        Ok(format!("{what}, {:.1} s later", plan.after.as_secs_f32()))
    }
}
