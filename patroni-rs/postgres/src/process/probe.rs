//! Questions to the installed programs: version, parameter values, the names of
//! all parameters.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use patroni_core::PgVersion;
use regex::Regex;

use super::binaries::{self, Binaries};
use super::blocking;

/// How long each program may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The major version of a data directory (`PG_VERSION`).
pub async fn data_dir_version(data_dir: &Path) -> Option<PgVersion> {
    let path = data_dir.join("PG_VERSION");
    let text = blocking::run(blocking::FILE_DEADLINE, move || std::fs::read_to_string(path)).await.ok()?;
    let version = PgVersion::parse(&text);
    if version.is_none() {
        tracing::error!(target: "patroni.postgresql", "Failed to read PG_VERSION from {}", data_dir.display());
    }
    version
}

static VERSION_LINE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\S+ \S+ ((?-u:\d)+(?:\.(?-u:\d)+){0,2})").ok());

/// The version of the `postgres` program.
///
/// # Errors
/// It cannot be run, or its output is not understood.
pub async fn binary_version(bin: &Binaries) -> std::io::Result<PgVersion> {
    let mut command = bin.tool("postgres");
    command.arg("--version");
    let out = binaries::output(command, DEADLINE).await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let found = VERSION_LINE.as_ref().and_then(|re| re.captures(&text)).and_then(|c| c.get(1));
    found
        .and_then(|v| PgVersion::parse(v.as_str()))
        .ok_or_else(|| std::io::Error::other(text.trim().to_owned()))
}

/// The value that a parameter would have, or has (`postgres -C`).
pub async fn guc_value(bin: &Binaries, data_dir: &Path, config_file: &Path, name: &str) -> Option<String> {
    let mut command = bin.tool("postgres");
    command.arg("-D").arg(data_dir).args(["-C", name]);
    command.arg(format!("--config-file={}", config_file.display()));
    match binaries::output(command, DEADLINE).await {
        Ok(out) if out.status.success() => {
            let text = String::from_utf8_lossy(&out.stdout).trim().to_owned();
            (!out.stdout.is_empty()).then_some(text)
        }
        Ok(out) => {
            let reason = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            tracing::error!(target: "patroni.postgresql", "Failed to execute postgres -C {name}: {reason}");
            None
        }
        Err(e) => {
            tracing::error!(target: "patroni.postgresql", "Failed to execute postgres -C {name}: {e}");
            None
        }
    }
}

/// The names of all parameters that the server knows (`postgres --describe-config`).
///
/// # Errors
/// The program cannot be run.
pub async fn available_gucs(bin: &Binaries) -> std::io::Result<Vec<String>> {
    let mut command = bin.tool("postgres");
    command.arg("--describe-config");
    let out = binaries::output(command, DEADLINE).await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let names = text.trim().lines().filter_map(|line| line.split('\t').next());
    Ok(names.map(str::to_owned).collect())
}
