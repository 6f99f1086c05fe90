//! Checks of directories and programs of PostgreSQL.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::{access, AccessFlags};
use pyfmt::{oserror, Value};
use regex::Regex;

use super::walk::{Context, Finding};
use crate::error::{ConfigError, Result};

/// Programs that must be there; pg_rewind is not needed by everybody.
const BINARIES: [&str; 6] = ["pg_ctl", "initdb", "pg_controldata", "pg_basebackup", "postgres", "pg_isready"];

/// Where shells look when `PATH` is not set.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// How long `postgres --version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// A directory of PostgreSQL's programs, or the empty text for `PATH`.
///
/// # Errors
/// `bin_name` has a value on which the reference fails.
pub(super) fn bin_dir(dir: &str, context: &Context<'_>) -> Result<Vec<Finding>> {
    let names = BINARIES.map(|binary| bin_name(binary, context));
    let names: Vec<Value> = names.into_iter().collect::<Result<_>>()?;
    let path = Path::new(dir);
    if !dir.is_empty() && !path.exists() {
        return Ok(vec![Finding::bare(format!("Directory '{dir}' does not exist."))]);
    }
    if !dir.is_empty() && !path.is_dir() {
        return Ok(vec![Finding::bare(format!("'{dir}' is not a directory."))]);
    }
    let searched = Some(dir).filter(|d| !d.is_empty());
    let mut findings = Vec::new();
    for name in &names {
        let name = name.as_str().ok_or_else(|| ConfigError::not_a_path(name))?;
        if !which(name, searched, context) {
            findings.push(Finding::bare(missing(name, searched)));
        }
    }
    Ok(findings)
}

fn missing(name: &str, dir: Option<&str>) -> String {
    format!("does not contain '{name}' in '{}'", dir.unwrap_or("$PATH"))
}

/// The name by which a program is called.
fn bin_name(binary: &str, context: &Context<'_>) -> Result<Value> {
    let names = context.postgresql.get("bin_name").filter(|n| n.truthy());
    match names {
        Some(Value::Map(_)) | None => {
            Ok(names.and_then(|n| n.get(binary)).cloned().unwrap_or_else(|| binary.into()))
        }
        Some(other) => Err(ConfigError::no_attribute(other, "get")),
    }
}

/// One of `bin_name.*`.
pub(super) fn binary(name: &str, context: &Context<'_>) -> std::result::Result<(), String> {
    if name.is_empty() {
        return Err("is an empty string".to_owned());
    }
    let dir = context.postgresql.get("bin_dir").filter(|dir| !dir.is_null());
    let path = match dir {
        Some(Value::Str(dir)) => Some(dir.as_str()),
        Some(other) if other.truthy() => return Err(ConfigError::not_a_path(other).message().to_owned()),
        // An empty `bin_dir` in the file is an empty search path, not `PATH`.
        Some(_) => Some(""),
        None => None,
    };
    if which(name, path, context) {
        return Ok(());
    }
    Err(missing(name, path.filter(|d| !d.is_empty())))
}

/// Is there such a program in `path` (default: `PATH`)?
fn which(name: &str, path: Option<&str>, context: &Context<'_>) -> bool {
    if name.contains('/') {
        return is_executable(Path::new(name));
    }
    let path = path.or(context.options.search_path.as_deref()).unwrap_or(DEFAULT_PATH);
    !path.is_empty() && path.split(':').any(|dir| is_executable(&Path::new(dir).join(name)))
}

fn is_executable(file: &Path) -> bool {
    let any_bit = std::fs::metadata(file).is_ok_and(|m| !m.is_dir() && m.permissions().mode() & 0o111 != 0);
    any_bit && access(file, AccessFlags::X_OK).is_ok()
}

/// A data directory: absent, empty, or one of the PostgreSQL that is installed.
pub(super) fn data_dir(dir: &str, context: &Context<'_>) -> std::result::Result<(), String> {
    let path = Path::new(dir);
    if dir.is_empty() {
        return Err("is an empty string".to_owned());
    }
    if path.exists() && !path.is_dir() {
        return Err("is not a directory".to_owned());
    }
    if !path.join("global/pg_control").is_file()
        && is_empty(path).map_err(|e| oserror::text(&e, Some(dir)))?
    {
        return Ok(());
    }
    let version_file = path.join("PG_VERSION");
    if !version_file.exists() {
        return Err("doesn't look like a valid data directory".to_owned());
    }
    let text = std::fs::read_to_string(&version_file)
        .map_err(|e| oserror::text(&e, Some(&version_file.to_string_lossy())))?;
    let version = pyfmt::text::strip(&text);
    let number: f64 = version
        .parse()
        .map_err(|_| format!("could not convert string to float: {}", pyfmt::value::str_repr(version)))?;
    let wal = if number >= 10.0 { "pg_wal" } else { "pg_xlog" };
    if !path.join(wal).is_dir() {
        return Err(format!(
            "data dir for the cluster is not empty, but doesn't contain \"{wal}\" directory"
        ));
    }
    let major = installed_major(context).map_err(|e| e.message().to_owned())?;
    if version != major {
        return Err(format!(
            "data_dir directory postgresql version ({version}) doesn't match with 'postgres --version' output \
             ({major})"
        ));
    }
    Ok(())
}

/// The major version of the PostgreSQL that the configuration names.
fn installed_major(context: &Context<'_>) -> Result<String> {
    let name = bin_name("postgres", context)?.py_str();
    match context.postgresql.get("bin_dir").filter(|dir| dir.truthy()) {
        Some(Value::Str(dir)) => major_version(dir, &name),
        Some(other) => Err(ConfigError::not_a_path(other)),
        None if which(&name, None, context) => major_version("", &name),
        None => Err(version_failure(&std::io::Error::from_raw_os_error(nix::libc::ENOENT), &name)),
    }
}

fn version_failure(error: &std::io::Error, program: &str) -> ConfigError {
    ConfigError::refused(format!("Failed to get postgres version: {}", oserror::text(error, Some(program))))
}

/// Missing, or with nothing in it but hidden files and `lost+found`.
fn is_empty(dir: &Path) -> std::io::Result<bool> {
    if !dir.exists() {
        return Ok(true);
    }
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with('.') && name != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The major version that `<bin_dir>/<name> --version` tells, such as `15` or
/// `9.6`; an empty `bin_dir` is `PATH`.
///
/// # Errors
/// The program cannot be run, fails, or says something else.
pub fn major_version(bin_dir: &str, name: &str) -> Result<String> {
    let program = match bin_dir {
        "" => name.to_owned(),
        dir => Path::new(dir).join(name).to_string_lossy().into_owned(),
    };
    let output = version_output(&program)?;
    let no_version = || ConfigError::no_attribute(&Value::Null, "groups");
    let pattern = Regex::new(r"^[^\s]+ [^\s]+ ((\d+)(\.\d+)*)").map_err(|_| no_version())?;
    let found = pattern.captures(&output).and_then(|c| Some((c.get(1)?.as_str(), c.get(2)?.as_str())));
    let (version, first) = found.ok_or_else(no_version)?;
    let first: u32 = first.parse().unwrap_or(u32::MAX);
    let dots = version.matches('.').count();
    // Without a minor version (`16beta1`, `9.6`) the text is the major one already.
    let complete = dots >= if first < 10 { 2 } else { 1 };
    Ok(match version.rsplit_once('.').filter(|_| complete) {
        Some((major, _)) => major.to_owned(),
        None => version.to_owned(),
    })
}

fn version_output(program: &str) -> Result<String> {
    let failed = |e: &std::io::Error| version_failure(e, program);
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| failed(&e))?;
    let status = wait(&mut child).map_err(|e| failed(&e))?;
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        use std::io::Read;
        stdout.read_to_string(&mut text).map_err(|e| failed(&e))?;
    }
    if status.success() {
        return Ok(text);
    }
    let code = status.code().unwrap_or(-1);
    let text = format!("Command '['{program}', '--version']' returned non-zero exit status {code}.");
    Err(ConfigError::exception("subprocess.CalledProcessError", text))
}

/// Waits for a program whose output fits into a pipe; kills it in the end.
fn wait(child: &mut Child) -> std::io::Result<std::process::ExitStatus> {
    let deadline = Instant::now() + VERSION_TIMEOUT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            child.kill()?;
            return child.wait();
        }
        // The standard library cannot wait for a child with a timeout.
        std::thread::sleep(Duration::from_millis(5));
    }
}
