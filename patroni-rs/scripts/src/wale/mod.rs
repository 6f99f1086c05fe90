//! `patroni_wale_restore`: makes a replica of a WAL-E backup, unless the leader is too
//! far ahead of it (surface-config 13.1).

mod backup;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use patroni_postgres::sql::{ConnParams, Session};
use pyfmt::oserror;
use pyfmt::value::str_repr;

use crate::args::{Exit, Opt, Parsed, Parser, Takes};
use crate::log::{uncaught, Log};
use backup::{thresholds, Backup, Finding};

const PARSER: Parser = Parser {
    program: "patroni_wale_restore",
    help: include_str!("../help/wale_restore.txt"),
    options: &[
        Opt::new(&["--scope"], Takes::Text, true),
        Opt::new(&["--role"], Takes::Text, false),
        Opt::new(&["--datadir"], Takes::Text, true),
        Opt::new(&["--connstring"], Takes::Text, true),
        Opt::new(&["--retries"], Takes::Integer, false),
        Opt::new(&["--envdir"], Takes::Text, true),
        Opt::new(&["--threshold_megabytes"], Takes::Integer, false),
        Opt::new(&["--threshold_backup_size_percentage"], Takes::Integer, false),
        Opt::new(&["--use_iam"], Takes::Integer, false),
        Opt::new(&["--no_leader"], Takes::Integer, false),
    ],
    positionals: &[],
    commands: &[],
    one_of: &[],
};

const RETRY_LATER: i32 = 1;
const FAIL: i32 = 2;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// For connecting to the leader and for its answer; the reference waits as libpq does.
const LEADER_TIMEOUT: Duration = Duration::from_secs(60);

struct Restore {
    log: Log,
    datadir: String,
    connstring: String,
    envdir: String,
    retries: i64,
    megabytes: i64,
    percentage: i64,
    use_iam: bool,
    no_leader: bool,
}

/// Runs the program; gives its exit code.
pub fn main(args: impl Iterator<Item = String>) -> i32 {
    let words: Vec<String> = args.skip(1).collect();
    parse(&words).map_or_else(|exit| exit.print(), |options| run(&options))
}

fn parse(words: &[String]) -> Result<Parsed, Exit> {
    let parsed = PARSER.parse_known(words)?;
    if parsed.extras.is_empty() {
        return Ok(parsed);
    }
    Err(PARSER.error(&format!("unrecognized arguments: {}", parsed.extras.join(" "))))
}

fn run(options: &Parsed) -> i32 {
    let restore = Restore {
        log: Log::to_stderr(),
        datadir: options.text("--datadir", ""),
        connstring: options.text("--connstring", ""),
        envdir: options.text("--envdir", ""),
        retries: options.integer("--retries", 1),
        megabytes: options.integer("--threshold_megabytes", 10240),
        percentage: options.integer("--threshold_backup_size_percentage", 30),
        use_iam: options.integer("--use_iam", 0) == 1,
        no_leader: options.integer("--no_leader", 0) != 0,
    };
    if restore.retries < 0 {
        return uncaught("AssertionError");
    }
    let mut code = RETRY_LATER;
    for _ in 0..=restore.retries {
        code = restore.attempt();
        if code != RETRY_LATER {
            break;
        }
        sleep(RETRY_PAUSE);
    }
    code
}

/// What an attempt ends with before the backup is fetched.
enum Stop {
    /// Try again.
    Retry,
    /// Do not; said already.
    Fail,
    /// Do not: an exception.
    Unhandled(String),
}

impl Restore {
    fn attempt(&self) -> i32 {
        if !Path::new(&self.envdir).exists() {
            let dir = str_repr(&self.envdir);
            self.log.error(format!("init error: {dir} did not exist at initialization time"));
            return FAIL;
        }
        match self.is_worth_it() {
            Ok(true) => self.fetch(),
            Ok(false) | Err(Stop::Fail) => FAIL,
            Err(Stop::Retry) => RETRY_LATER,
            Err(Stop::Unhandled(exception)) => {
                self.log.exception("Unhandled exception when running WAL-E restore", exception);
                FAIL
            }
        }
    }

    fn command(&self, words: &[&str]) -> Vec<String> {
        let mut command: Vec<&str> = vec!["envdir", &self.envdir, "wal-e"];
        command.extend(self.use_iam.then_some("--aws-instance-profile"));
        command.extend(words);
        command.into_iter().map(str::to_owned).collect()
    }

    /// Is the latest backup near enough to the leader?
    fn is_worth_it(&self) -> Result<bool, Stop> {
        let backup = self.latest_backup()?;
        let behind = self.bytes_behind(&backup)?;
        let (ok, context) = thresholds(&backup, behind, self.megabytes, self.percentage);
        self.log.info(if ok {
            format!("Thresholds are OK, using wal-e basebackup: {context}")
        } else {
            format!(
                "wal-e backup size diff is over threshold, falling back to other means of restore: {context}"
            )
        });
        Ok(ok)
    }

    fn latest_backup(&self) -> Result<Backup, Stop> {
        let words = self.command(&["backup-list", "--detail", "LATEST"]);
        let mut command = program(&words);
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|e| Stop::Unhandled(os_error(&e, &words)))?;
        if !output.status.success() {
            let words: Vec<String> = words.iter().map(|w| str_repr(w)).collect();
            let how = match output.status.signal() {
                Some(signal) => format!("died with signal {signal}."),
                None => format!("returned non-zero exit status {}.", exit_code(output.status)),
            };
            let error = format!("subprocess.CalledProcessError: Command '[{}]' {how}", words.join(", "));
            self.log.exception("could not query wal-e latest backup", error);
            return Err(Stop::Retry);
        }
        match Backup::read(&output.stdout) {
            Ok(backup) => Ok(backup),
            Err(Finding::None) => {
                self.log.warning("wal-e did not find any backups");
                Err(Stop::Fail)
            }
            Err(Finding::Many(rows)) => {
                self.log.warning(format!("wal-e returned more than one row of backups: {rows}"));
                Err(Stop::Fail)
            }
            Err(Finding::Missing(key)) => {
                let error = format!("KeyError: {}", str_repr(key));
                self.log.exception("unable to get some of WALE backup parameters", error);
                Err(Stop::Retry)
            }
            Err(Finding::Unreadable(exception)) => Err(Stop::Unhandled(exception)),
        }
    }

    /// How much WAL the leader has written since the backup began.
    fn bytes_behind(&self, backup: &Backup) -> Result<i128, Stop> {
        if self.connstring.is_empty() {
            return Ok(0);
        }
        let mut attempts = 0;
        loop {
            let error = match self.ask_leader(backup) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => error,
            };
            self.log.exception("could not determine difference with the leader location", error);
            if attempts < self.retries {
                attempts += 1;
                sleep(RETRY_PAUSE);
            } else if self.no_leader {
                self.log.info("continue with base backup from S3 since leader is not available");
                return Ok(0);
            } else {
                return Err(Stop::Fail);
            }
        }
    }

    fn ask_leader(&self, backup: &Backup) -> Result<i128, String> {
        let params = patroni_postgres::files::parse_dsn(&self.connstring)
            .ok_or_else(|| "psycopg2.ProgrammingError: invalid dsn".to_owned())?;
        let params = params.iter().fold(ConnParams::new(), |p, (k, v)| p.with(k, v.as_str()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let exchange = async {
            let session = Session::connect(&params).await.map_err(|e| e.to_string())?;
            let query = backup.distance_query(session.server_version().num());
            let rows = session.query(&query, LEADER_TIMEOUT).await.map_err(|e| e.to_string())?;
            let text = rows.first().and_then(|row| row.text(0)).unwrap_or_default();
            text.parse::<i128>().map_err(|e| format!("psycopg2.DataError: {e}"))
        };
        runtime.block_on(async {
            tokio::time::timeout(LEADER_TIMEOUT * 2, exchange)
                .await
                .unwrap_or_else(|_| Err("psycopg2.OperationalError: timeout expired".into()))
        })
    }

    fn fetch(&self) -> i32 {
        let words = self.command(&["backup-fetch", &self.datadir, "LATEST"]);
        let status = match program(&words).status() {
            Ok(status) => status,
            Err(e) => {
                let code = e.raw_os_error().unwrap_or_default();
                let (class, text) = (oserror::class(&e), oserror::sentence(&e));
                self.log.error(format!(
                    "Error when fetching backup with WAL-E: {class}({code}, {})",
                    str_repr(&text)
                ));
                return RETRY_LATER;
            }
        };
        if status.success() && !self.make_wal_directory() {
            return FAIL;
        }
        exit_code(status)
    }

    /// A backup has no directory for WAL, or a link to one on another machine.
    fn make_wal_directory(&self) -> bool {
        let major = std::fs::read_to_string(Path::new(&self.datadir).join("PG_VERSION"));
        let major = major.ok().and_then(|text| text.trim().parse::<f64>().ok()).unwrap_or(0.0);
        let name = if major < 10.0 { "pg_xlog" } else { "pg_wal" };
        let path = Path::new(&self.datadir).join(name);
        if path.exists() {
            return true;
        }
        if let Ok(target) = std::fs::read_link(&path) {
            if let Err(e) = std::fs::remove_file(&path) {
                let target = target.display();
                let text = format!("could not remove broken {name} symlink pointing to {target}");
                self.log.exception(text, e.to_string());
                return false;
            }
        }
        if let Err(e) = std::fs::create_dir(&path) {
            let path = path.display().to_string();
            let error = os_error(&e, &[path]);
            self.log.exception(format!("could not create missing {name} directory path"), error);
            return false;
        }
        true
    }
}

fn program(words: &[String]) -> Command {
    let mut command = Command::new(words.first().map_or("", String::as_str));
    command.args(words.get(1..).unwrap_or_default());
    command
}

/// As a shell tells it: Python's `sys.exit(-9)` is 247.
fn exit_code(status: std::process::ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 256 - status.signal().unwrap_or(1))
}

fn os_error(error: &std::io::Error, words: &[String]) -> String {
    let path = words.first().map(String::as_str);
    format!("{}: {}", oserror::class(error), oserror::text(error, path))
}
