//! A test cluster: the DCS and the members of one or more clusters, in one directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use pyfmt::Value;

use super::config::Kind;
use super::etcd::Etcd;
use super::janitor::Janitor;
use super::member::Member;
use super::process::{self, Output};
use super::store::{self, Key, Store};
use super::wait::ensure;
use super::{host, wait_until, Result};

/// What a callback does: note what it was told.
const CALLBACK: &str = "#!/bin/sh\nfile=$1\nshift\necho \"$@\" >>\"$file\"\n";
/// How much of a log's line a failure's message shows.
const LINE: usize = 240;
/// How long a cluster may take to come up: initdb, then pg_basebackup, on a busy machine.
pub const BRING_UP: Duration = Duration::from_secs(60);

/// How a test cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The scope of the first cluster.
    pub scope: String,
    /// PostgreSQL's major version.
    pub version: u32,
    /// Where PostgreSQL's programs are, if not where that version's are.
    pub programs: Option<PathBuf>,
    /// Laid over the configuration of every member.
    pub overrides: Value,
    /// Variables of every daemon.
    pub environment: Vec<(String, String)>,
    /// Is each daemon PID 1 of processes of its own?
    pub pid_1: bool,
    /// The DCS, by the name of its section.
    pub store: String,
}

impl Default for Options {
    fn default() -> Options {
        let (version, overrides) = (host::postgres_version(), Value::map());
        let store = store::chosen();
        Options {
            scope: "batman".into(),
            version,
            programs: None,
            overrides,
            environment: Vec::new(),
            pid_1: false,
            store,
        }
    }
}

/// A test cluster with its members, first those of the first cluster.
#[derive(Debug)]
pub struct Cluster {
    /// The directory of everything.
    pub directory: PathBuf,
    /// The DCS, of the kind that `STORE` names.
    pub store: Box<dyn Store>,
    /// The members, in the order of their making.
    pub members: Vec<Member>,
    /// How it was made.
    pub options: Options,
    /// Whether the directory stays when this is dropped (logs and configuration, not PGDATA).
    pub keep: bool,
    _janitor: Janitor,
}

impl Cluster {
    /// Makes the directory and starts the DCS.
    ///
    /// # Errors
    /// Programs are missing, or the DCS does not come up.
    pub fn new(options: Options) -> Result<Cluster> {
        let directory = nix::unistd::mkdtemp("/tmp/patroni-rs-lab-XXXXXX")?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let janitor = Janitor::start(&directory)?;
        host::give_away(&directory)?;
        let script = directory.join("callback.sh");
        std::fs::write(&script, CALLBACK)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        // Where libpq looks for passwords: patronictl query and dsn's users need no prompt.
        let passwords = directory.join(".pgpass");
        std::fs::write(&passwords, "*:*:*:*:lab-super\n")?;
        std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(0o600))?;
        host::give_away(&passwords)?;
        let store = store::start(&options.store, &directory)?;
        let keep = std::env::var_os("LAB_KEEP").is_some();
        Ok(Cluster { directory, store, members: Vec::new(), options, keep, _janitor: janitor })
    }

    /// For what only etcd can do.
    ///
    /// # Errors
    /// The DCS is another one.
    pub fn etcd(&mut self) -> Result<&mut Etcd> {
        self.store.as_etcd().ok_or_else(|| "this needs etcd (STORE)".into())
    }

    /// Where PostgreSQL's programs are.
    pub fn bin(&self) -> PathBuf {
        self.options.programs.clone().unwrap_or_else(|| host::postgres_bin(self.options.version))
    }

    /// Adds a member of the first cluster, and starts nothing.
    ///
    /// # Errors
    /// As [`Member::new`].
    pub fn add(&mut self, name: &str, kind: Kind) -> Result<&mut Member> {
        let scope = self.options.scope.clone();
        self.add_to(&scope, name, kind)
    }

    /// Adds a member of the cluster `scope`, and starts nothing.
    ///
    /// # Errors
    /// As [`Member::new`].
    pub fn add_to(&mut self, scope: &str, name: &str, kind: Kind) -> Result<&mut Member> {
        let bin = self.bin();
        let section = self.store.section_of(name)?;
        let mut member = Member::new(scope, name, kind, &self.directory, &bin, section)?;
        self.store.welcome(scope, name)?;
        member.pid_1 = self.options.pid_1;
        member.environment.clone_from(&self.options.environment);
        member.environment.extend(self.store.member_environment());
        member.configure(&self.options.overrides)?;
        self.members.push(member);
        self.members.last_mut().ok_or_else(|| "no member".into())
    }

    /// A cluster of `kinds.len()` members, `node0` the leader, that all stream.
    ///
    /// # Errors
    /// It does not come up in time: with the ends of all logs.
    pub fn bring_up(&mut self, kinds: &[Kind]) -> Result<()> {
        for (index, kind) in kinds.iter().enumerate() {
            self.add(&format!("node{index}"), *kind)?;
        }
        self.start_all()
    }

    /// Starts the members that were added: the first, which then leads, and the others, which then follow it.
    ///
    /// # Errors
    /// They do not come up in time.
    pub fn start_all(&mut self) -> Result<()> {
        let names: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
        let [first, others @ ..] = &names[..] else {
            return Err("no members".into());
        };
        self.member_mut(first)?.start()?;
        self.wait_leader(first, BRING_UP)?;
        others.iter().try_for_each(|name| self.member_mut(name)?.start())?;
        others.iter().try_for_each(|name| self.wait_follows(name, first, BRING_UP))
    }

    /// Waits until a GET of `path` from the member `name` is answered with `status`.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_status(&self, name: &str, path: &str, status: u16, within: Duration) -> Result<()> {
        let member = self.member(name)?;
        wait_until(&format!("{name} answers {status} to {path}"), within, || {
            let answer = member.call("GET", path, None)?;
            ensure(answer.status == status, || format!("{} {}", answer.status, answer.body))
        })
    }

    /// The member `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<&Member> {
        self.members
            .iter()
            .find(|member| member.name == name)
            .ok_or_else(|| format!("no member {name}").into())
    }

    /// The member `name`, to change.
    ///
    /// # Errors
    /// There is none.
    pub fn member_mut(&mut self, name: &str) -> Result<&mut Member> {
        let found = self.members.iter_mut().find(|member| member.name == name);
        found.ok_or_else(|| format!("no member {name}").into())
    }

    /// The full name of one of the first cluster's keys.
    pub fn key(&self, name: &str) -> String {
        format!("/service/{}/{name}", self.options.scope)
    }

    /// All keys of the first cluster.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn keys(&self) -> Result<Vec<Key>> {
        self.store.prefix(&self.key(""))
    }

    /// The name in the leader key.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn leader(&self) -> Result<Option<String>> {
        self.store.get(&self.key("leader"))
    }

    /// Waits until `name` holds the leader key and answers `GET /primary` with 200.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_leader(&self, name: &str, within: Duration) -> Result<()> {
        let member = self.member(name)?;
        wait_until(&format!("{name} leads"), within, || {
            let leader = self.leader()?;
            ensure(leader.as_deref() == Some(name), || format!("the leader key says {leader:?}"))?;
            let answer = member.call("GET", "/primary", None)?;
            ensure(answer.status == 200, || format!("/primary: {} {}", answer.status, answer.body))?;
            takes_writes(member)
        })
    }

    /// Waits until a member other than `old` leads, and gives its name.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_other_leader(&self, old: &str, within: Duration) -> Result<String> {
        wait_until(&format!("another leader than {old}"), within, || {
            let leader = self.leader()?.ok_or("no leader key")?;
            ensure(leader != old, || format!("{old} leads"))?;
            let answer = self.member(&leader)?.call("GET", "/primary", None)?;
            ensure(answer.status == 200, || format!("{leader}: {} {}", answer.status, answer.body))?;
            takes_writes(self.member(&leader)?)?;
            Ok(leader)
        })
    }

    /// Waits until `name` says that it is a running replica and streams from `from`.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_follows(&self, name: &str, from: &str, within: Duration) -> Result<()> {
        let (member, source) = (self.member(name)?, self.member(from)?);
        wait_until(&format!("{name} follows {from}"), within, || {
            let status = member.status()?;
            let says = |key: &str, value: &str| status.get(key).and_then(Value::as_str) == Some(value);
            ensure(says("role", "replica") && says("state", "running"), || pyfmt::json::dumps(&status))?;
            let sender = format!(
                "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{name}' AND state = 'streaming'"
            );
            let count = source.sql(&sender)?;
            ensure(count == "1", || format!("{from} has {count} connections of {name}"))
        })
    }

    /// Writes the `ctl.yml` of somebody who only administrates, and gives its path.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn ctl_config(&self) -> Result<PathBuf> {
        let path = self.directory.join("ctl.yml");
        let (name, section) = self.store.section();
        let config = Value::from_iter([("scope", Value::from(self.options.scope.as_str())), (name, section)]);
        let text = super::config::text(&config);
        // Several may run at a time: a file that is read must not be written again.
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(path);
        }
        std::fs::write(&path, text)?;
        host::give_away(&path)?;
        Ok(path)
    }

    /// Runs patronictl of either implementation.
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub fn ctl(&self, kind: Kind, arguments: &[&str]) -> Result<Output> {
        self.ctl_at(kind, arguments, None)
    }

    /// As [`Cluster::ctl`], on a terminal of `columns` columns (`COLUMNS`, as click asks it).
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub fn ctl_at(&self, kind: Kind, arguments: &[&str], columns: Option<u32>) -> Result<Output> {
        let mut command = self.ctl_command(kind, arguments)?;
        if let Some(columns) = columns {
            command.env("COLUMNS", columns.to_string());
        }
        process::run(command, Duration::from_secs(90))
    }

    /// patronictl of either implementation, to be run by somebody else.
    ///
    /// # Errors
    /// Its program or its configuration cannot be put into the directory.
    pub fn ctl_command(&self, kind: Kind, arguments: &[&str]) -> Result<Command> {
        let program = match kind {
            Kind::Ours => host::install("patronictl", &self.directory)?,
            Kind::Reference => host::reference("patronictl"),
        };
        let mut command = process::command(&program, &self.directory, &self.bin())?;
        command.arg("-c").arg(self.ctl_config()?).args(arguments).envs(self.store.environment());
        Ok(command)
    }

    /// The keys and the ends of all logs, for a failure's message.
    pub fn report(&self, lines: usize) -> String {
        let mut text = format!("lab {}\n", self.directory.display());
        match self.keys() {
            Ok(keys) => keys.iter().for_each(|key| text += &format!("{} = {}\n", key.name, key.value)),
            Err(error) => text += &format!("the DCS: {error}\n"),
        }
        for member in &self.members {
            let log = member.log_text();
            let from = log.lines().count().saturating_sub(lines);
            text += &format!("---- {} ({:?})\n", member.name, member.kind);
            for line in log.lines().skip(from) {
                text.extend(line.chars().take(LINE).chain(['\n']));
            }
        }
        text
    }
}

/// Not in recovery: `/primary` answers 200 from the moment the lock is taken, before the promotion is done.
fn takes_writes(member: &Member) -> Result<()> {
    let recovery = member.sql("SELECT pg_is_in_recovery()")?;
    ensure(recovery == "f", || format!("{} is in recovery", member.name))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if process::end_under(&self.directory).is_err() {
            eprintln!("processes live on under {}", self.directory.display());
        }
        for member in &mut self.members {
            let _ = member.wait_exit(Duration::from_secs(5));
        }
        let _ = self.store.kill();
        for disk in
            self.members.iter().map(|member| member.directory.join("disk")).filter(|disk| disk.exists())
        {
            // Not a mount unless a scenario made it one.
            let _ = std::process::Command::new("umount").arg("-l").arg(disk).stderr(Stdio::null()).status();
        }
        if self.keep {
            let _ = std::fs::write(self.directory.join("keep"), "");
            for member in &self.members {
                let _ = std::fs::remove_dir_all(member.data());
            }
            for data in ["etcd", "consul", "kubernetes", "zookeeper"] {
                let _ = std::fs::remove_dir_all(self.directory.join(data));
            }
            for program in ["patroni", "patronictl"] {
                let _ = std::fs::remove_file(self.directory.join(program));
            }
        } else {
            remove(&self.directory);
        }
    }
}

/// Removes the directory of a test cluster; a process that just died may have left a file on its way.
pub fn remove(directory: &Path) {
    let _ = std::fs::remove_dir_all(directory).or_else(|_| std::fs::remove_dir_all(directory));
}
