//! ZooKeeper processes for the tests, on free ports of 127.0.0.1.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{end, free_port, signal};

/// A running server; killed when dropped.
pub struct ZooKeeper {
    child: Child,
    /// Its client port.
    pub port: u16,
    jvm: Vec<String>,
    dir: TempDir,
}

/// The jars of version 3.8, or of the version in `ZOOKEEPER` (3.9).
fn jars() -> PathBuf {
    let deps =
        std::env::var_os("PATRONI_RS_DEPS").map_or_else(|| PathBuf::from("/opt/patroni-rs"), PathBuf::from);
    let version = std::env::var("ZOOKEEPER").unwrap_or_else(|_| "3.8".into());
    deps.join(format!("zookeeper-{version}/lib"))
}

/// Can it be run here? Where there is no Java, nothing can be tested.
pub fn is_there() -> bool {
    let there = jars().is_dir();
    if !there {
        eprintln!("SKIPPED: no ZooKeeper in {}: scripts/setup", jars().display());
    }
    there
}

fn spawn(jvm: &[String], dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new("java");
    command.args(["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]).args(jvm);
    command.arg("-cp").arg(jars().join("*")).arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
    command.arg("zoo.cfg").current_dir(dir).stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
    command.spawn().unwrap()
}

impl ZooKeeper {
    /// One server with a tick of half a second: sessions of 1 to 10 seconds.
    pub fn single() -> ZooKeeper {
        ZooKeeper::with(&[], &[])
    }

    /// One server with more lines of configuration, and properties of the JVM.
    pub fn with(lines: &[String], jvm: &[String]) -> ZooKeeper {
        let server = ZooKeeper::launch(free_port(), 0, lines, jvm);
        server.wait();
        server
    }

    /// An ensemble.
    pub fn ensemble(count: usize) -> Vec<ZooKeeper> {
        // Somebody else may have taken a port meanwhile; a busy machine starts three JVMs slowly.
        (0..3).find_map(|_| ZooKeeper::try_ensemble(count)).expect("an ensemble of ZooKeeper comes up")
    }

    fn try_ensemble(count: usize) -> Option<Vec<ZooKeeper>> {
        let ports: Vec<[u16; 3]> = (0..count).map(|_| [free_port(), free_port(), free_port()]).collect();
        let line = |(n, p): (usize, &[u16; 3])| format!("server.{n}=127.0.0.1:{}:{}", p[1], p[2]);
        let lines: Vec<String> = ports.iter().enumerate().map(|(n, p)| line((n + 1, p))).collect();
        let launch = |(n, p): (usize, &[u16; 3])| ZooKeeper::launch(p[0], n + 1, &lines, &[]);
        let all: Vec<ZooKeeper> = ports.iter().enumerate().map(launch).collect();
        all.iter().all(|server| server.comes_up(Duration::from_secs(90))).then_some(all)
    }

    fn launch(port: u16, id: usize, lines: &[String], jvm: &[String]) -> ZooKeeper {
        let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("myid"), id.to_string()).unwrap();
        let mut config = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=4\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\n\
             admin.enableServer=false\n4lw.commands.whitelist=*\nforceSync=no\n",
            data.display()
        );
        for line in lines {
            config += line;
            config.push('\n');
        }
        std::fs::write(dir.path().join("zoo.cfg"), config).unwrap();
        ZooKeeper { child: spawn(jvm, dir.path()), port, jvm: jvm.to_vec(), dir }
    }

    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            let _ = stream.write_all(word.as_bytes());
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    fn comes_up(&self, limit: Duration) -> bool {
        let began = Instant::now();
        while !self.word("srvr").contains("Mode:") {
            if began.elapsed() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        true
    }

    pub fn wait(&self) {
        let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        assert!(self.comes_up(Duration::from_secs(60)), "ZooKeeper does not come up: {}", log());
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
        self.launch_again();
        self.wait();
    }

    /// Starts it again without waiting for it: alone it has no quorum.
    pub fn launch_again(&mut self) {
        self.child = spawn(&self.jvm, self.dir.path());
    }

    /// `host:port` as a client has it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.kill();
    }
}
