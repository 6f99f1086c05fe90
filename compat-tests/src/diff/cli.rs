//! The command lines: help, and configurations that are validated and printed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use pyfmt::Value;

use crate::lab::wait::ensure;
use crate::lab::{config, host, process, Kind, Result};

use super::probes::shown;
use super::{Ask, Probe, Side};

/// Every command of patronictl.
pub const COMMANDS: &[&str] = &[
    "demote-cluster",
    "dsn",
    "edit-config",
    "failover",
    "flush",
    "history",
    "list",
    "pause",
    "promote-cluster",
    "query",
    "reinit",
    "reload",
    "remove",
    "restart",
    "resume",
    "show-config",
    "switchover",
    "topology",
    "version",
];

/// How many configurations a full run makes up.
const GENERATED: u64 = 100;
/// How many a short run makes up.
const GENERATED_SHORT: u64 = 6;

/// Runs `patroni` of the side's kind.
fn patroni(side: &Side, arguments: &[&str]) -> Result<String> {
    let program = match side.kind {
        Kind::Ours => host::install("patroni", &side.lab.directory)?,
        Kind::Reference => host::reference("patroni"),
    };
    let mut command = process::command(&program, &side.lab.directory, &side.lab.bin())?;
    command.args(arguments);
    process::run(command, Duration::from_secs(30)).map(shown)
}

/// Validates and prints a configuration that lies in the side's directory.
fn validated(side: &Side, file: &Path) -> Result<String> {
    let file = file.display().to_string();
    patroni(side, &["--validate-config", "--print", "--ignore-listen-port", &file])
}

/// The help pages and what else depends on no configuration; a short run takes a part.
pub fn help(full: bool) -> Vec<Probe> {
    let mut probes = Vec::new();
    let mut add = |name: String, ask: Ask| probes.push(Probe { area: "help", name, ask });
    for command in std::iter::once(&"").chain(COMMANDS).step_by(if full { 1 } else { 4 }) {
        let words: Vec<&str> = [*command, "--help"].into_iter().filter(|word| !word.is_empty()).collect();
        for columns in [40, 80, 200] {
            let words = words.clone();
            add(
                format!("{} at {columns} columns", words.join(" ")),
                Box::new(move |side| side.ctl(&words, Some(columns)).map(shown)),
            );
        }
    }
    for arguments in [&["--help"][..], &["--version"], &["--nonsense"], &["/does/not/exist.yml"]] {
        add(format!("patroni {}", arguments.join(" ")), Box::new(move |side| patroni(side, arguments)));
    }
    probes
}

/// All probes of this module; a short run takes a part of each kind.
pub fn probes(full: bool) -> Vec<Probe> {
    let mut probes = help(full);
    let mut add = |area, name: String, ask: Ask| {
        probes.push(Probe { area, name, ask });
    };
    add(
        "configuration",
        "the member's own".into(),
        Box::new(|side| validated(side, &side.lab.member("node0")?.write_config()?)),
    );
    for file in corpus().into_iter().step_by(if full { 1 } else { 12 }) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        add(
            "configuration",
            format!("fixtures/config/{name}"),
            Box::new(move |side| {
                let copy = filled_in(side, &file)?;
                validated(side, &copy)
            }),
        );
    }
    for seed in 0..if full { GENERATED } else { GENERATED_SHORT } {
        add(
            "configuration",
            format!("generated from seed {seed}"),
            Box::new(move |side| {
                let file = side.lab.directory.join(format!("generated{seed}.yml"));
                let mut value = side.lab.member("node0")?.config.clone();
                config::merge(&mut value, &generated(seed));
                std::fs::write(&file, config::text(&value))?;
                host::give_away(&file)?;
                validated(side, &file)
            }),
        );
    }
    probes
}

/// A copy of `file` in the side's directory, with the placeholders of fixtures/config/record.py replaced: `@TMP@`, a
/// directory with what layout.sh makes, and `@PORT@`, a port that is in use. Not all files are text.
fn filled_in(side: &Side, file: &Path) -> Result<PathBuf> {
    // Probes are asked some at a time, and the first makes the directory.
    static MAKING: Mutex<()> = Mutex::new(());
    let making = MAKING.lock().map_err(|e| e.to_string())?;
    let directory = side.lab.directory.join("corpus");
    if !directory.exists() {
        let script = file.with_file_name("layout.sh");
        let status = Command::new("/bin/sh").arg(script).arg(&directory).status()?;
        ensure(status.success(), || format!("layout.sh: {status}"))?;
    }
    drop(making);
    let port = side.lab.store.port().to_string();
    let bytes = replaced(&std::fs::read(file)?, b"@PORT@", port.as_bytes());
    let bytes = replaced(&bytes, b"@TMP@", directory.display().to_string().as_bytes());
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let copy = side.lab.directory.join(format!("corpus-{name}"));
    std::fs::write(&copy, bytes)?;
    Ok(copy)
}

/// `bytes` with every `from` as `to`.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            result.extend_from_slice(to);
            rest = after;
        } else {
            result.push(*first);
            rest = &rest[1..];
        }
    }
    result
}

/// The configurations that were written for the recordings.
fn corpus() -> Vec<PathBuf> {
    let directory = host::repository().join("fixtures/config");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .collect();
    files.sort();
    files
}

/// A source of the same numbers on both sides (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts.get(usize::try_from(self.below(texts.len() as u64)).unwrap_or(0)).copied().unwrap_or("")
    }
}

/// Settings with the values that a user may give them, wrong ones among them; YAML's text.
const CHOICES: &[(&str, &[&str])] = &[
    ("bootstrap.dcs.ttl", &["20", "30", "'45'", "5"]),
    ("bootstrap.dcs.loop_wait", &["1", "10", "0"]),
    ("bootstrap.dcs.retry_timeout", &["3", "10", "x"]),
    ("bootstrap.dcs.synchronous_mode", &["true", "'on'", "quorum", "maybe"]),
    ("bootstrap.dcs.maximum_lag_on_failover", &["0", "1048576", "-1"]),
    ("bootstrap.dcs.postgresql.use_slots", &["true", "no", "~"]),
    ("bootstrap.dcs.postgresql.parameters.work_mem", &["8MB", "'4 kB'", "12"]),
    ("bootstrap.dcs.slots", &["{a: {type: physical}}", "{b: {type: logical, database: d, plugin: p}}"]),
    ("bootstrap.initdb", &["[data-checksums, {encoding: UTF8}]", "[]", "{encoding: UTF8}"]),
    ("postgresql.parameters.shared_buffers", &["128MB", "1GB", "16384", "0x4000"]),
    ("postgresql.parameters.log_line_prefix", &["'%m [%p] '", "\"a'b\"", "\"\\t\""]),
    ("postgresql.use_unix_socket", &["true", "false", "1"]),
    ("postgresql.remove_data_directory_on_rewind_failure", &["true", "'yes'"]),
    ("postgresql.create_replica_methods", &["[basebackup]", "[mine, basebackup]", "mine"]),
    ("postgresql.basebackup", &["[verbose, {max-rate: 100M}]", "{max-rate: 100M, verbose: ~}"]),
    ("restapi.connect_address", &["127.0.0.1:8008", "'[::1]:8008'", "localhost:99999"]),
    ("restapi.allowlist", &["[127.0.0.1, 10.0.0.0/8]", "[]"]),
    ("restapi.http_extra_headers", &["{X-A: b}", "{}"]),
    ("log.level", &["DEBUG", "INFO", "loud"]),
    ("log.format", &["'%(message)s'", "[message, {asctime: time}]"]),
    ("log.static_fields", &["{app: x}", "~"]),
    ("tags.nofailover", &["true", "'no'", "1"]),
    ("tags.failover_priority", &["0", "3", "-1", "x"]),
    ("tags.note", &["2001-01-01", "0o17", "017", "1_000", "1:30", "é", "~", "''"]),
    ("watchdog.mode", &["automatic", "off", "required", "sometimes"]),
    ("ctl.insecure", &["true", "no"]),
];

/// Some settings of [`CHOICES`], by the seed.
fn generated(seed: u64) -> Value {
    let mut numbers = Numbers(seed);
    let mut value = Value::map();
    for (path, texts) in CHOICES {
        if numbers.below(4) == 0 {
            let mut inner = pyfmt::yaml::load(numbers.one(texts)).unwrap_or_default();
            for part in path.rsplit('.') {
                let mut outer = Value::map();
                outer.set(part, inner);
                inner = outer;
            }
            config::merge(&mut value, &inner);
        }
    }
    value
}
