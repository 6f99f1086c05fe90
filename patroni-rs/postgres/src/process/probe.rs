//! Questions to the installed programs: version, parameter values, the names of
//! all parameters.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use super::binaries::{self, Binaries};
use super::blocking;

/// How long each program may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A version text as one number: `15.4` is 150004, `9.6.3` is 90603. A text
/// without a minor version counts as minor 0.
pub fn parse_version(text: &str) -> Option<u32> {
    let parts: Vec<u32> = text.trim().split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
    match *parts.as_slice() {
        [major] if major >= 10 => Some(major * 10_000),
        [major, minor] if major >= 10 => Some(major * 10_000 + minor),
        [major, minor] => Some(major * 10_000 + minor * 100),
        [major, minor, patch] => Some(major * 10_000 + minor * 100 + patch),
        _ => None,
    }
}

/// The major version of a data directory (`PG_VERSION`): 150000, 90600.
pub async fn data_dir_version(data_dir: &Path) -> Option<u32> {
    let path = data_dir.join("PG_VERSION");
    let text = blocking::run(blocking::FILE_DEADLINE, move || std::fs::read_to_string(path)).await.ok()?;
    let version = parse_version(&text);
    if version.is_none() {
        tracing::error!(target: "patroni.postgresql", "Failed to read PG_VERSION from {}", data_dir.display());
    }
    version
}

static VERSION_LINE: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^\S+ \S+ ((?-u:\d)+(?:\.(?-u:\d)+){0,2})").ok());

/// The version of the `postgres` program, as a number.
///
/// # Errors
/// It cannot be run, or its output is not understood.
pub async fn binary_version(bin: &Binaries) -> std::io::Result<u32> {
    let mut command = bin.tool("postgres");
    command.arg("--version");
    let out = binaries::output(command, DEADLINE).await?;
    let text = String::from_utf8_lossy(&out.stdout);
    let found = VERSION_LINE.as_ref().and_then(|re| re.captures(&text)).and_then(|c| c.get(1));
    found.and_then(|v| parse_version(v.as_str())).ok_or_else(|| std::io::Error::other(text.trim().to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let cases = [
            ("15", Some(150_000)),
            ("15.4\n", Some(150_004)),
            ("9.6", Some(90_600)),
            ("9.6.3", Some(90_603)),
            ("x", None),
            ("9", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_version(text), want, "{text}");
        }
    }
}
