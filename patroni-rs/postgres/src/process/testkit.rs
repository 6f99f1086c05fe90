//! Real PostgreSQL for tests. Tests run as root and PostgreSQL refuses root, so
//! its processes run as the user `postgres` in directories that this user owns.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use nix::unistd::{chown, User};

use super::binaries::Binaries;
use super::postmaster::PidFile;
use super::proc::Process;
use super::ready::PingTarget;
use super::signals;

/// A directory that the server's user owns, removed at the end.
pub struct Sandbox {
    /// Programs of the version under test.
    pub bin: Binaries,
    /// The directory.
    pub root: tempfile::TempDir,
    ids: (u32, u32),
}

impl Drop for Sandbox {
    /// A failed test must not leave servers behind.
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.root.path()).into_iter().flatten().flatten() {
            let process = PidFile::read(&entry.path()).and_then(|file| Process::find(file.pid));
            if let Some(process) = process.filter(|p| p.title().is_some_and(|t| t.ends_with("/postgres"))) {
                signals::kill_tree(&process);
            }
        }
    }
}

/// The installed versions: (major, directory of programs). 13 and 19 only where `PG_ALL` is set (scripts/test-pg).
pub fn versions() -> Vec<(u32, PathBuf)> {
    let all = std::env::var_os("PG_ALL").is_some();
    let known = [
        (13, "/opt/patroni-rs/pg13/bin"),
        (15, "/usr/lib/postgresql/15/bin"),
        (17, "/opt/patroni-rs/pg17/bin"),
        (18, "/opt/patroni-rs/pg18/bin"),
        (19, "/opt/patroni-rs/pg19/bin"),
    ];
    let known = known.into_iter().filter(|(version, _)| all || !matches!(version, 13 | 19));
    let works = |dir: &Path| {
        // Wheels whose libraries cannot be found do not count as installed.
        let output = std::process::Command::new(dir.join("initdb")).arg("--version").output();
        output.is_ok_and(|o| o.status.success())
    };
    known.map(|(v, d)| (v, PathBuf::from(d))).filter(|(_, d)| works(d)).collect()
}

impl Sandbox {
    /// A sandbox for the programs in `dir`.
    pub fn new(dir: &Path) -> Sandbox {
        let user = User::from_name("postgres").unwrap().unwrap();
        let ids = (user.uid.as_raw(), user.gid.as_raw());
        let root = tempfile::Builder::new().prefix("patroni-postgres-").tempdir_in("/tmp").unwrap();
        chown(root.path(), Some(user.uid), Some(user.gid)).unwrap();
        let mut bin = Binaries::new(dir);
        bin.run_as = nix::unistd::getuid().is_root().then_some(ids);
        Sandbox { bin, root, ids }
    }

    /// A port that nobody listens on.
    pub fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    /// A path in the sandbox.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Gives a file to the server's user.
    pub fn own(&self, path: &Path) {
        let (uid, gid) = self.ids;
        chown(path, Some(uid.into()), Some(gid.into())).unwrap();
    }

    /// Writes a file that the server's user owns.
    pub fn write(&self, path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        self.own(path);
    }

    /// Where to ping a server of this sandbox.
    pub fn target(&self, data_dir: &Path, port: u16) -> PingTarget {
        PingTarget {
            host: Some(self.root.path().to_string_lossy().into_owned()),
            port,
            user: None,
            dbname: "postgres".into(),
            data_dir: data_dir.to_owned(),
        }
    }

    /// The connection string of a server of this sandbox.
    pub fn dsn(&self, port: u16) -> String {
        format!("host={} port={port} user=postgres dbname=postgres", self.root.path().display())
    }

    /// Runs a statement with psql and returns its output.
    pub async fn sql(&self, dsn: &str, statement: &str) -> Result<String, String> {
        let mut psql = self.bin.tool("psql");
        psql.args(["-XAtq", "-d", dsn, "-c", statement]);
        let out = psql.output().await.unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).trim_end().to_owned();
        if out.status.success() {
            Ok(text(&out.stdout))
        } else {
            Err(text(&out.stderr))
        }
    }
}
