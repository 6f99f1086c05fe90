#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! A leader of the reference (PySyncObj in Python) whose clock is ahead of ours: what a lock is good for under it. Skipped
//! where the reference is not installed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use patroni_dcs::lock::{Granted, Renewal};
use patroni_dcs::{open, Dcs};
use pyfmt::{json, Value};

const PYTHON: &str = "/opt/patroni-rs/reference/bin/python";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../raft/tests/peers/peer.py");
const TTL: u64 = 12;

/// The one member of the reference, which leads.
struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    address: String,
    directory: tempfile::TempDir,
}

fn port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Python {
    fn start(ahead: u64) -> Python {
        let (address, directory) = (format!("127.0.0.1:{}", port()), tempfile::tempdir().unwrap());
        let config = Value::from_iter([
            ("self_addr", Value::from(address.as_str())),
            ("data_dir", directory.path().to_str().unwrap().into()),
        ]);
        let mut command = Command::new(PYTHON);
        let command = command.args([SCRIPT, &json::dumps_compact(&config)]).env("AHEAD", ahead.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut python = Python { child, input, output, address, directory };
        assert_eq!(python.line(), Value::from("started"));
        while !python.call("status", "[]").get("leads").is_some_and(Value::truthy) {
            std::thread::sleep(Duration::from_millis(50));
        }
        python
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        json::loads(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    fn call(&mut self, name: &str, arguments: &str) -> Value {
        writeln!(self.input, r#"["{name}",{arguments},{{}}]"#).unwrap();
        self.line()
    }

    /// A node of ours, a reader, so that this one leads for good.
    async fn node(&self) -> Box<dyn Dcs> {
        let partners = Value::List(vec![self.address.as_str().into()]);
        let section = Value::from_iter([
            ("partner_addrs", partners),
            ("data_dir", self.directory.path().to_str().unwrap().into()),
        ]);
        let config = Value::from_iter([
            ("scope", Value::from("batman")),
            ("name", "n".into()),
            ("ttl", i64::try_from(TTL).unwrap().into()),
            ("loop_wait", 1.into()),
            ("retry_timeout", 3.into()),
            ("raft", section),
        ]);
        tokio::time::timeout(Duration::from_secs(40), open(&config)).await.expect("it is there").unwrap()
    }

    /// When the lock ends.
    fn lock_ends(&mut self) -> Instant {
        while self.call("get", r#"["/service/batman/leader"]"#) != Value::Null {
            std::thread::sleep(Duration::from_millis(20));
        }
        Instant::now()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn acquired(node: &dyn Dcs) -> bool {
    node.acquire_leader(None).await == Ok(true)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_promised_for_no_longer_than_it_lives_by_the_leaders_clock() {
    if !Path::new(PYTHON).exists() {
        return;
    }
    let mut python = Python::start(3);
    let node = python.node().await;
    // At once: nothing but what the first probe leaves open. Later: what was measured.
    for least in [TTL / 2 - 1, TTL - 5] {
        let sent = Instant::now();
        assert!(acquired(&*node).await);
        let promised = node.granted();
        assert!(promised >= Duration::from_secs(least), "{promised:?}");
        let lived = python.lock_ends() - sent;
        assert!(promised <= lived, "promised for {promised:?}, and it has lived for {lived:?}");
    }
    // In the middle of it all the clock is set ahead by more than half the ttl.
    assert!(acquired(&*node).await);
    let mut renewer = node.renewer().unwrap();
    let limit = Duration::from_secs(2);
    let until = |renewal: Renewal| match renewal {
        Renewal::Until(Granted { ttl }) => Some(ttl),
        _ => None,
    };
    let renewed = tokio::task::block_in_place(|| renewer.renew(limit));
    assert!(until(renewed).is_some());
    python.call("ahead", "[9]");
    let began = Instant::now();
    while node.acquire_leader(None).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "no lock of ours is of use here");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(until(tokio::task::block_in_place(|| renewer.renew(limit))), None);
    // And right again.
    python.call("ahead", "[0]");
    while !acquired(&*node).await {
        assert!(began.elapsed() < Duration::from_secs(60), "it is right again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::task::block_in_place(|| drop(renewer));
}
