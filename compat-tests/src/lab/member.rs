//! One member of a cluster: its directory, its daemon, its PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use pyfmt::Value;

use super::config::{self, Facts, Kind};
use super::process::{self, Output};
use super::wait::ensure;
use super::{host, http, wait_until, Result};

/// How long a daemon may take to end after SIGTERM.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// A member; its parts are where Patroni's users expect them.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Which implementation it runs, from the next start on.
    pub kind: Kind,
    /// Its directory, the working directory of all its processes.
    pub directory: PathBuf,
    /// The port of its REST API.
    pub rest: u16,
    /// The port of its PostgreSQL.
    pub postgres: u16,
    /// Its configuration, written at each start.
    pub config: Value,
    /// Variables of the daemon, on top of the usual ones.
    pub environment: Vec<(String, String)>,
    /// Is the daemon PID 1 of processes of its own, as in a container? That needs root.
    pub pid_1: bool,
    bin: PathBuf,
    lab: PathBuf,
    child: Option<Child>,
}

impl Member {
    /// Makes the directory and the configuration, and starts nothing.
    ///
    /// # Errors
    /// No free port, or the directory cannot be made.
    pub fn new(
        scope: &str,
        name: &str,
        kind: Kind,
        lab: &Path,
        bin: &Path,
        dcs: (&'static str, Value),
    ) -> Result<Member> {
        let directory = lab.join(scope).join(name);
        std::fs::create_dir_all(&directory)?;
        host::give_away(&lab.join(scope))?;
        host::give_away(&directory)?;
        let (postgres, rest) = (host::free_port()?, host::free_port()?);
        let ports = [postgres, rest];
        let config = config::usual(&Facts { scope, name, directory: &directory, lab, bin, ports, dcs })?;
        let (bin, lab) = (bin.to_path_buf(), lab.to_path_buf());
        Ok(Member {
            name: name.into(),
            kind,
            directory,
            rest,
            postgres,
            config,
            environment: Vec::new(),
            pid_1: false,
            bin,
            lab,
            child: None,
        })
    }

    /// PGDATA, by the configuration.
    pub fn data(&self) -> PathBuf {
        let named = self.config.at(&["postgresql", "data_dir"]).and_then(Value::as_str);
        let named = named.map(|text| text.replace("LABNODE", &self.directory.display().to_string()));
        named.map_or_else(|| self.directory.join("data"), PathBuf::from)
    }

    /// Lays `over` upon the configuration, with its paths filled in.
    ///
    /// # Errors
    /// The directory's name is no YAML.
    pub fn configure(&mut self, over: &Value) -> Result<()> {
        config::merge(&mut self.config, over);
        self.config = config::fill_in(&self.config, &self.data(), &self.directory, &self.lab, &self.bin)?;
        Ok(())
    }

    /// A text with the paths of this member filled in, and PostgreSQL's port for `LABPORT`.
    pub fn fill_in(&self, text: &str) -> String {
        let text = config::fill_in_text(text, &self.data(), &self.directory, &self.lab, &self.bin);
        text.replace("LABPORT", &self.postgres.to_string())
    }

    /// Links to all of PostgreSQL's programs in `LABNODE/bin`, where `bin_dir` names that.
    fn link_programs(&self) -> Result<()> {
        let own = self.directory.join("bin");
        let named = self.config.at(&["postgresql", "bin_dir"]).and_then(Value::as_str);
        if named != own.to_str() || own.exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&own)?;
        host::give_away(&own)?;
        for entry in std::fs::read_dir(&self.bin)? {
            let entry = entry?;
            std::os::unix::fs::symlink(entry.path(), own.join(entry.file_name()))?;
        }
        Ok(())
    }

    /// Mounts a file system of `megabytes` in memory at the member's directory `disk`, until the test cluster ends.
    ///
    /// # Errors
    /// We are not root.
    pub fn mount_disk(&self, megabytes: u32) -> Result<()> {
        let disk = self.directory.join("disk");
        std::fs::create_dir_all(&disk)?;
        let size = format!("size={megabytes}m,mode=755");
        let disk_text = disk.display().to_string();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "patroni-rs-lab", &disk_text])
            .output()?;
        ensure(done.status.success(), || String::from_utf8_lossy(&done.stderr).into_owned())?;
        host::give_away(&disk)
    }

    /// Writes the configuration's file and gives its path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self) -> Result<PathBuf> {
        let path = self.directory.join("patroni.yml");
        std::fs::write(&path, config::text(&self.config))?;
        host::give_away(&path)?;
        Ok(path)
    }

    /// By how many seconds the wall clock of the daemon is off, see [`Member::make_clock_settable`].
    pub fn clock(&self) -> PathBuf {
        self.directory.join("clock")
    }

    /// From the next start on. Jumps are not told to those who wait for them (the kernel's own clock stays): what is shown
    /// is how a clock is off, not how a jump is noticed.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn make_clock_settable(&mut self) -> Result<()> {
        let (source, library) = (self.directory.join("clock.c"), self.directory.join("clock.so"));
        std::fs::write(&source, include_str!("clock.c"))?;
        let built = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .output()?;
        let said = || String::from_utf8_lossy(&built.stderr).into_owned();
        ensure(built.status.success(), said)?;
        std::fs::write(self.clock(), "0")?;
        self.environment.extend([
            ("LD_PRELOAD".to_owned(), library.display().to_string()),
            ("LABCLOCK".to_owned(), self.clock().display().to_string()),
        ]);
        Ok(())
    }

    /// Starts the daemon.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure(self.daemon().is_none(), || format!("{} runs already", self.name))?;
        let file = self.write_config()?;
        self.link_programs()?;
        let program = match self.kind {
            Kind::Ours => host::install("patroni", &self.lab)?,
            Kind::Reference => host::reference("patroni"),
        };
        let mut command = if self.pid_1 {
            process::as_pid_1(&program, &self.directory, &self.bin)?
        } else {
            process::command(&program, &self.directory, &self.bin)?
        };
        command.arg(file).envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.child = Some(process::daemon(command, &self.log())?);
        Ok(())
    }

    /// The running daemon's process: the first one in the container, if it is in one.
    pub fn daemon(&mut self) -> Option<Pid> {
        let started = process::living(&mut self.child)?;
        if self.pid_1 {
            return process::children(started).first().copied();
        }
        Some(started)
    }

    /// Sends a signal to the daemon alone.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_daemon(&mut self, signal: Signal) -> Result<()> {
        let pid = self.daemon().ok_or_else(|| format!("{}'s daemon does not run", self.name))?;
        Ok(kill(pid, signal)?)
    }

    /// Waits for the daemon's end; gives its exit code, -1 after a signal.
    ///
    /// # Errors
    /// It runs on.
    pub fn wait_exit(&mut self, within: Duration) -> Result<i32> {
        let Some(mut child) = self.child.take() else {
            return Ok(0);
        };
        let what = format!("{}'s daemon ends", self.name);
        let code = wait_until(&what, within, || {
            child.try_wait()?.map(|status| status.code().unwrap_or(-1)).ok_or_else(|| "it runs".into())
        });
        if code.is_err() {
            self.child = Some(child);
        }
        code
    }

    /// Ends the daemon with SIGTERM; PostgreSQL ends with it, unless the cluster is paused.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&mut self) -> Result<i32> {
        self.signal_daemon(Signal::SIGTERM)?;
        self.wait_exit(SHUTDOWN)
    }

    /// Kills the daemon alone: PostgreSQL runs on.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.signal_daemon(Signal::SIGKILL)?;
        self.wait_exit(SHUTDOWN).map(drop)
    }

    /// Kills everything of the node at once.
    ///
    /// # Errors
    /// Something lives on.
    pub fn kill_node(&mut self) -> Result<()> {
        process::kill_under(&self.directory)?;
        self.wait_exit(SHUTDOWN).map(drop)
    }

    /// Stops (SIGSTOP) or continues (SIGCONT) everything of the node.
    pub fn signal_node(&self, signal: Signal) {
        process::signal_under(&self.directory, signal);
    }

    /// The postmaster's process, if it lives.
    pub fn postmaster(&self) -> Option<Pid> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?);
        process::under(&self.data()).contains(&pid).then_some(pid)
    }

    /// The guardians of its PostgreSQL: of this daemon, and of those before that have left one.
    pub fn guardians(&self) -> Vec<Pid> {
        let own = |pid: &Pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"patroni: guardian\0")
        };
        process::under(&self.directory).into_iter().filter(own).collect()
    }

    /// Kills the postmaster, whose children then end by themselves.
    ///
    /// # Errors
    /// None runs.
    pub fn kill_postmaster(&self) -> Result<Pid> {
        let pid = self.postmaster().ok_or_else(|| format!("{}: no postmaster", self.name))?;
        kill(pid, Signal::SIGKILL)?;
        Ok(pid)
    }

    /// A call of its REST API.
    ///
    /// # Errors
    /// No connection, or no answer.
    pub fn call(&self, method: &str, path: &str, body: Option<&str>) -> Result<http::Response> {
        http::call(self.rest, method, path, body)
    }

    /// What `GET /patroni` says.
    ///
    /// # Errors
    /// No answer, or no JSON.
    pub fn status(&self) -> Result<Value> {
        self.call("GET", "/patroni", None)?.json()
    }

    /// Runs SQL as the superuser, in database `postgres`; gives rows of unaligned columns.
    ///
    /// # Errors
    /// The server is away or refuses.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.sql_in("postgres", sql)
    }

    /// The same in another database.
    ///
    /// # Errors
    /// As [`Member::sql`].
    pub fn sql_in(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = process::command(&self.bin.join("psql"), &self.lab, &self.bin)?;
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-d", database])
            .args(["-p", &self.postgres.to_string(), "-c", sql])
            .env("PGPASSWORD", "lab-super")
            .env("PGCONNECT_TIMEOUT", "3");
        let output: Output = process::run(command, Duration::from_secs(15))?;
        output.ok().map(|text| text.trim_end().to_string())
    }

    /// The daemon's log, with PostgreSQL's in it.
    pub fn log(&self) -> PathBuf {
        self.directory.join("patroni.log")
    }

    /// The log's text.
    pub fn log_text(&self) -> String {
        std::fs::read(self.log())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The callbacks so far: `ACTION ROLE SCOPE` each.
    pub fn callbacks(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.directory.join("callbacks")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Removes PGDATA, of a node that does not run.
    ///
    /// # Errors
    /// The files cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        ensure(self.postmaster().is_none(), || format!("{} runs", self.name))?;
        Ok(std::fs::remove_dir_all(self.data())?)
    }
}
