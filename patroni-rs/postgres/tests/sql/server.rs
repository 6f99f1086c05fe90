//! A primary, and standbys of it, in a directory under /tmp.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use patroni_core::PgVersion;
use patroni_postgres::sql::ConnParams;

const INSTALLED: [(PgVersion, &str); 5] = [
    (PgVersion::V13, "/opt/patroni-rs/pg13/bin"),
    (PgVersion::V15, "/usr/lib/postgresql/15/bin"),
    (PgVersion::V17, "/opt/patroni-rs/pg17/bin"),
    (PgVersion::V18, "/opt/patroni-rs/pg18/bin"),
    (PgVersion::V19, "/opt/patroni-rs/pg19/bin"),
];

/// Major versions and their programs, as far as they are installed and start. 13 and 19 only where `PG_ALL` is set
/// (scripts/test-pg): they cost time.
pub fn versions() -> Vec<(PgVersion, &'static str)> {
    let all = std::env::var_os("PG_ALL").is_some();
    let works = |(version, bin): &(PgVersion, &str)| {
        let output = Command::new(Path::new(bin).join("initdb")).arg("--version").output();
        let works = output.is_ok_and(|o| o.status.success());
        if !works {
            eprintln!("PostgreSQL {} in {bin} does not start; left out", version.num() / 10_000);
        }
        works
    };
    let wanted =
        |(version, _): &(PgVersion, &str)| all || !matches!(*version, PgVersion::V13 | PgVersion::V19);
    INSTALLED.into_iter().filter(wanted).filter(works).collect()
}

pub struct Server {
    pub bin: &'static str,
    pub data: PathBuf,
    pub port: u16,
    _dir: Option<tempfile::TempDir>,
    base: PathBuf,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Nothing is captured: a server that is started keeps its parent's output open.
fn run(program: &str, args: &[&str]) {
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", program]).args(args).current_dir("/tmp");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{program} {args:?}");
}

impl Server {
    /// A primary that accepts `postgres`/`secret` by SCRAM over TCP, and anybody on its socket.
    pub fn primary(bin: &'static str, extra_conf: &str) -> Server {
        let dir = tempfile::Builder::new().prefix("patroni-postgres-").tempdir().unwrap();
        let base = dir.path().to_owned();
        assert!(Command::new("chown").args(["postgres", base.to_str().unwrap()]).status().unwrap().success());
        let data = base.join("data");
        std::fs::write(base.join("pw"), "secret\n").unwrap();
        Command::new("chown").args(["postgres", base.join("pw").to_str().unwrap()]).status().unwrap();
        let pw = format!("--pwfile={}", base.join("pw").display());
        let initdb = format!("{bin}/initdb");
        let args =
            ["-D", data.to_str().unwrap(), "-U", "postgres", "-A", "scram-sha-256", &pw, "-N", "--no-locale"];
        run(&initdb, &[&args[..], &["-E", "UTF8"]].concat());
        let server = Server { bin, data, port: free_port(), _dir: Some(dir), base };
        let hba =
            "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n\
                   host replication all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(server.data.join("pg_hba.conf"), hba).unwrap();
        server.configure(&format!("wal_level = logical\nmax_replication_slots = 20\n{extra_conf}"));
        server.start();
        server
    }

    /// A streaming standby, with a slot on the primary for it.
    pub fn standby(&self, name: &str) -> Server {
        let base = self.base.join(name);
        std::fs::create_dir(&base).unwrap();
        Command::new("chown").args(["postgres", base.to_str().unwrap()]).status().unwrap();
        let data = base.join("data");
        let source = format!("host={} port={} user=postgres", self.base.display(), self.port);
        run(
            &format!("{}/pg_basebackup", self.bin),
            &["-D", data.to_str().unwrap(), "-R", "-X", "stream", "-d", &source],
        );
        let standby = Server { bin: self.bin, data, port: free_port(), _dir: None, base };
        standby.configure(&format!(
            "primary_conninfo = '{source} application_name={name}'\nprimary_slot_name = '{name}'\n\
             hot_standby_feedback = on\nwal_receiver_status_interval = 1\n"
        ));
        standby.start();
        standby
    }

    pub fn configure(&self, text: &str) {
        use std::io::Write;
        let mut conf =
            std::fs::OpenOptions::new().append(true).open(self.data.join("postgresql.auto.conf")).unwrap();
        let (port, dir) = (self.port, self.base.display());
        write!(
            conf,
            "port = {port}\nunix_socket_directories = '{dir}'\nlisten_addresses = '127.0.0.1'\n{text}\n"
        )
        .unwrap();
    }

    pub fn ctl(&self, args: &[&str]) {
        run(
            &format!("{}/pg_ctl", self.bin),
            &[&["-D", self.data.to_str().unwrap(), "-w", "-s"], args].concat(),
        );
    }

    pub fn start(&self) {
        let log = self.base.join("log");
        self.ctl(&["start", "-l", log.to_str().unwrap()]);
    }

    pub fn stop(&self) {
        self.ctl(&["stop", "-m", "fast"]);
    }

    pub fn postmaster(&self) -> i32 {
        let text = std::fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }

    /// Over TCP with a password.
    pub fn tcp(&self) -> ConnParams {
        let port = self.port.to_string();
        [
            ("host", "127.0.0.1"),
            ("port", &port),
            ("user", "postgres"),
            ("password", "secret"),
            ("dbname", "postgres"),
        ]
        .into_iter()
        .collect()
    }

    /// On the socket, trusted.
    pub fn socket(&self) -> ConnParams {
        let (port, dir) = (self.port.to_string(), self.base.display().to_string());
        [("host", dir.as_str()), ("port", &port), ("user", "postgres"), ("dbname", "postgres")]
            .into_iter()
            .collect()
    }

    pub fn base(&self) -> &Path {
        &self.base
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.data.to_str().unwrap();
        let args = [
            "-u",
            "postgres",
            "--",
            &format!("{}/pg_ctl", self.bin),
            "-D",
            data,
            "-m",
            "immediate",
            "-s",
            "stop",
        ];
        let _ = Command::new("runuser").args(args).current_dir("/tmp").stderr(Stdio::null()).status();
    }
}
