//! etcd processes for the tests, on free ports of 127.0.0.1.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{end, free_port, signal};

/// A running node; killed when dropped.
pub struct Etcd {
    child: Child,
    program: PathBuf,
    /// Client URL.
    pub url: String,
    args: Vec<String>,
    dir: TempDir,
}

/// The program of a line of versions (`3.6`), where scripts/setup puts it; that of the system for an empty text.
pub fn program(line: &str) -> PathBuf {
    if line.is_empty() {
        return "/usr/bin/etcd".into();
    }
    let deps = std::env::var_os("PATRONI_RS_DEPS").unwrap_or_else(|| "/opt/patroni-rs".into());
    Path::new(&deps).join(format!("etcd-{line}/etcd"))
}

fn spawn(program: &Path, args: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

impl Etcd {
    /// A cluster of one node.
    pub fn single() -> Etcd {
        Etcd::cluster(1, &[]).remove(0)
    }

    /// A cluster of several nodes; `extra` arguments for each.
    pub fn cluster(count: usize, extra: &[&str]) -> Vec<Etcd> {
        Etcd::cluster_of("", count, extra)
    }

    /// One node of this line of versions that speaks no HTTP/1.1 but at a port of its own, and the URL of that.
    #[allow(dead_code)] // Of the tests that share this file not all need it.
    pub fn with_split_ports(line: &str) -> (Etcd, String) {
        let http = format!("http://127.0.0.1:{}", free_port());
        (Etcd::cluster_of(line, 1, &[&format!("--listen-client-http-urls={http}")]).remove(0), http)
    }

    /// As [`Etcd::cluster`], of this line of versions.
    pub fn cluster_of(line: &str, count: usize, extra: &[&str]) -> Vec<Etcd> {
        let program = program(line);
        let tls = extra.iter().any(|a| a.contains("cert-file"));
        let scheme = if tls { "https" } else { "http" };
        let ports: Vec<(u16, u16)> = (0..count).map(|_| (free_port(), free_port())).collect();
        let peers: Vec<String> =
            ports.iter().enumerate().map(|(n, (_, peer))| format!("e{n}=http://127.0.0.1:{peer}")).collect();
        let nodes = ports.iter().enumerate().map(|(n, (client, peer))| {
            let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
            let url = format!("{scheme}://127.0.0.1:{client}");
            let peer = format!("http://127.0.0.1:{peer}");
            let mut args: Vec<String> = Vec::new();
            for (key, value) in [
                ("name", format!("e{n}")),
                ("data-dir", dir.path().join("data").display().to_string()),
                ("listen-client-urls", url.clone()),
                ("advertise-client-urls", url.clone()),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", peers.join(",")),
                ("heartbeat-interval", "50".into()),
                ("election-timeout", "500".into()),
            ] {
                args.push(format!("--{key}={value}"));
            }
            args.extend(extra.iter().map(|a| (*a).to_owned()));
            Etcd { child: spawn(&program, &args), program: program.clone(), url, args, dir }
        });
        let nodes: Vec<Etcd> = nodes.collect();
        if !tls {
            nodes.iter().for_each(Etcd::wait);
        }
        nodes
    }

    /// A node that wants certificates of its clients: a certificate and its key are made in `dir`, as `crt` and `key`,
    /// for it and them.
    pub fn with_client_certificates(dir: &Path, extra: &[&str]) -> (Etcd, String, String) {
        let path = |name: &str| dir.join(name).display().to_string();
        let (cert, key) = (path("crt"), path("key"));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=etcd", "-addext",
            ])
            .args(["subjectAltName=IP:127.0.0.1", "-keyout", &key, "-out", &cert])
            .output();
        assert!(made.unwrap().status.success());
        let args = [
            format!("--cert-file={cert}"),
            format!("--key-file={key}"),
            format!("--trusted-ca-file={cert}"),
            "--client-cert-auth=true".to_owned(),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).chain(extra.iter().copied()).collect();
        (Etcd::cluster(1, &args).remove(0), cert, key)
    }

    /// From now on it asks for users: `root`, and `patroni` with the password `secret`, who may use the test's prefix.
    pub fn ask_for_users(&self) {
        for args in [
            "user add root:root",
            "role add patroni",
            "role grant-permission patroni --prefix=true readwrite /service/batman/",
            "user add patroni:secret",
            "user grant-role patroni patroni",
            "user grant-role root root",
            "auth enable",
        ] {
            self.run(&args.split(' ').collect::<Vec<_>>());
        }
    }

    fn wait(&self) {
        let began = Instant::now();
        while !self.ctl(&["endpoint", "health"]).0 {
            assert!(began.elapsed() < Duration::from_secs(20), "etcd does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Success and output of etcdctl.
    pub fn ctl(&self, args: &[&str]) -> (bool, String) {
        let output = Command::new("/usr/bin/etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.url, "--command-timeout", "3s"])
            .args(args)
            .output()
            .unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// `etcdctl` that has to succeed.
    pub fn run(&self, args: &[&str]) -> String {
        let (ok, text) = self.ctl(args);
        assert!(ok, "{args:?}: {text}");
        text
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> String {
        self.run(&["get", key, "--print-value-only"]).trim_end_matches('\n').to_owned()
    }

    /// A field of `etcdctl get -w json`.
    pub fn field(&self, key: &str, field: &str) -> i64 {
        let json = pyfmt::json::loads(&self.run(&["get", key, "-w", "json"])).unwrap();
        let kv = json.get("kvs").and_then(|k| k.as_list()).and_then(|l| l.first()).cloned();
        kv.unwrap().get(field).and_then(pyfmt::Value::as_i64).unwrap_or(0)
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Kills the process.
    pub fn kill(&mut self) {
        end(&mut self.child);
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.restart_without_waiting();
        self.wait();
    }

    /// Saves what it holds now, for [`Etcd::restore`]. With users it takes more words.
    pub fn snapshot(&self) {
        self.run(&["snapshot", "save", &self.path("snapshot")]);
    }

    /// As of the snapshot, and running: a new cluster with the name, URLs and token of the old one.
    pub fn restore(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.path("data")).unwrap();
        let of_cluster = |arg: &&String| {
            ["--initial-cluster=", "--initial-advertise", "--name="].iter().any(|a| arg.starts_with(a))
        };
        let output = Command::new("/usr/bin/etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore", &self.path("snapshot"), "--data-dir", &self.path("data")])
            .args(self.args.iter().filter(of_cluster))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        self.restart();
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Another process in its cluster, which learns but has no vote.
    pub fn add_learner(&self) -> Etcd {
        let (client, peer) = (free_port(), free_port());
        let (url, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        self.run(&["member", "add", "learner", "--learner", &format!("--peer-urls={peer}")]);
        let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
        let cluster = self.args.iter().find_map(|a| a.strip_prefix("--initial-cluster=")).unwrap();
        let args: Vec<String> = [
            ("name", "learner".to_owned()),
            ("data-dir", dir.path().join("data").display().to_string()),
            ("listen-client-urls", url.clone()),
            ("advertise-client-urls", url.clone()),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer.clone()),
            ("initial-cluster", format!("{cluster},learner={peer}")),
            ("initial-cluster-state", "existing".into()),
        ]
        .iter()
        .map(|(key, value)| format!("--{key}={value}"))
        .collect();
        let program = self.program.clone();
        let learner = Etcd { child: spawn(&program, &args), program, url, args, dir };
        let began = Instant::now();
        while !self.run(&["member", "list"]).contains(&learner.url) {
            assert!(began.elapsed() < Duration::from_secs(20), "the learner does not come up");
            std::thread::sleep(Duration::from_millis(100));
        }
        learner
    }

    /// Whole seconds that a lease has left.
    pub fn seconds_left(&self, lease: i64) -> i64 {
        let json =
            pyfmt::json::loads(&self.run(&["lease", "timetolive", &format!("{lease:x}"), "-w", "json"]));
        json.unwrap().get("ttl").and_then(pyfmt::Value::as_i64).unwrap()
    }

    /// So many requests, and messages on open streams, it has received over gRPC.
    #[allow(dead_code)] // Of the tests that share this file not all need it.
    pub fn calls(&self) -> u64 {
        use std::io::{Read, Write};
        let address = self.url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let counters = text.lines().filter(|line| line.starts_with("grpc_server_msg_received_total"));
        counters.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Starts it again, with users that the health check would need to know.
    pub fn restart_without_waiting(&mut self) {
        self.child = spawn(&self.program, &self.args);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}
