//! Raft: three controllers of the reference, and three members of ours; the nodes of the cases are readers beside them.
//! (A node that is a member itself is in `patroni-rs/raft/tests` and in the acceptance tests.)

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use patroni_raft::node::{Config, Node, MOST_ENTRIES};
use pyfmt::Value;

use super::support::{end, signal};

const CONTROLLER: &str = "/opt/patroni-rs/reference/bin/patroni_raft_controller";

/// Ports outside of the kernel's own range.
fn ports() -> Vec<String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 11_000 + u16::try_from(std::process::id() % 150).unwrap() * 50;
    let free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let next = std::iter::repeat_with(|| base + NEXT.fetch_add(1, Ordering::Relaxed) % 900);
    next.filter(free).take(3).map(|port| format!("127.0.0.1:{port}")).collect()
}

fn section(addresses: &[String]) -> (&'static str, Value) {
    let partners = addresses.iter().map(|address| Value::from(address.as_str())).collect();
    ("raft", Value::from_iter([("partner_addrs", Value::List(partners))]))
}

fn others(addresses: &[String], own: usize) -> Vec<String> {
    addresses.iter().enumerate().filter(|(at, _)| *at != own).map(|(_, other)| other.clone()).collect()
}

/// Three controllers of the reference.
pub struct Reference {
    addresses: Vec<String>,
    directory: tempfile::TempDir,
    controllers: Vec<Child>,
}

impl Reference {
    fn launch(&mut self) {
        let run = |at: usize| {
            let directory = self.directory.path();
            let file = directory.join(format!("{at}.yml"));
            let text = format!(
                "raft:\n  self_addr: {}\n  partner_addrs: [{}]\n  data_dir: {}\nlog:\n  level: WARNING\n",
                self.addresses[at],
                others(&self.addresses, at).join(", "),
                directory.join("raft").display()
            );
            std::fs::write(&file, text).unwrap();
            Command::new(CONTROLLER).arg(file).stderr(Stdio::null()).spawn().unwrap()
        };
        self.controllers = (0..3).map(run).collect();
    }
}

impl super::Server for Reference {
    fn is_here() -> bool {
        Path::new(CONTROLLER).exists()
    }
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Reference { addresses: ports(), directory, controllers: Vec::new() };
        server.launch();
        server
    }
    fn section(&self) -> (&'static str, Value) {
        section(&self.addresses)
    }
    fn freeze(&self, stop: bool) {
        self.controllers.iter().for_each(|server| signal(server, if stop { "-STOP" } else { "-CONT" }));
    }
    fn restart(&mut self) {
        self.controllers.iter_mut().for_each(end);
        self.launch();
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.controllers.iter_mut().for_each(end);
    }
}

/// Three members of ours.
pub struct Ours {
    addresses: Vec<String>,
    directory: tempfile::TempDir,
    nodes: Vec<Node>,
}

impl Ours {
    fn member(&self, at: usize) -> Node {
        let config = Config {
            own: Some(self.addresses[at].clone()),
            bind: None,
            partners: others(&self.addresses, at),
            data_dir: self.directory.path().to_owned(),
            password: None,
            retry_timeout: Duration::from_secs(1),
            most_entries: MOST_ENTRIES,
        };
        Node::start(config).unwrap()
    }

    fn launch(&mut self) {
        self.nodes = (0..3).map(|at| self.member(at)).collect();
    }
}

/// The raft leader has the claim in its log, and loses its majority before it is confirmed; then it is confirmed after all,
/// and nobody waits for that any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: --include-ignored (scripts/test-stores)"]
async fn a_claim_of_which_nothing_was_heard_is_known_again() {
    let mut server = <Ours as super::Server>::start();
    let a = super::node(&server, "a").await;
    assert!(a.get_cluster().await.unwrap().is_empty());
    let leader = server.nodes.iter().position(|node| node.standing().leads).unwrap();
    let kept = server.nodes.swap_remove(leader);
    server.nodes.drain(..).for_each(Node::join);
    server.nodes.push(kept);
    assert_ne!(a.initialize(true, "").await, Ok(true));
    // With one other alone nobody is elected but who has the claim.
    server.nodes.push(server.member((leader + 1) % 3));
    let began = std::time::Instant::now();
    while a.initialize(true, "").await != Ok(true) {
        assert!(began.elapsed() < Duration::from_secs(20), "a claim of nobody's");
    }
    let b = super::node(&server, "b").await;
    assert_eq!(b.initialize(true, "").await, Ok(false));
    assert_eq!(a.get_cluster().await.unwrap().initialize.as_deref(), Some(""));
}

impl super::Server for Ours {
    fn start() -> Self {
        let mut server =
            Ours { addresses: ports(), directory: tempfile::tempdir().unwrap(), nodes: Vec::new() };
        server.launch();
        server
    }
    fn section(&self) -> (&'static str, Value) {
        section(&self.addresses)
    }
    /// Threads of this process cannot stand still: they are not there for a while.
    fn freeze(&self, _: bool) {}
    fn restart(&mut self) {
        self.nodes.drain(..).for_each(Node::join);
        self.launch();
    }
}
