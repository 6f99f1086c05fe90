//! What the machine offers: programs, the unprivileged user, free ports, our binaries.

use std::collections::HashSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use nix::unistd::{Gid, Uid, User};

use super::Result;

/// Where `scripts/setup` puts what is no Debian package.
pub fn deps() -> PathBuf {
    std::env::var_os("PATRONI_RS_DEPS").map_or_else(|| PathBuf::from("/opt/patroni-rs"), PathBuf::from)
}

/// A program of the reference's virtual environment.
pub fn reference(program: &str) -> PathBuf {
    deps().join("reference/bin").join(program)
}

/// The directory with PostgreSQL's programs of a major version (13, 15, 17, 18 or 19).
pub fn postgres_bin(version: u32) -> PathBuf {
    match version {
        15 => PathBuf::from("/usr/lib/postgresql/15/bin"),
        other => deps().join(format!("pg{other}/bin")),
    }
}

/// The directory with the programs of the PostgreSQL 15 that has a stand-in for Citus (fixtures/citus).
pub fn citus_bin() -> PathBuf {
    deps().join("pg15-citus/usr/lib/postgresql/15/bin")
}

/// The major version of PostgreSQL to take where a scenario names none: `LAB_PG`, or 15.
pub fn postgres_version() -> u32 {
    std::env::var("LAB_PG").ok().and_then(|text| text.parse().ok()).unwrap_or(15)
}

/// The user that PostgreSQL runs as when we are root, which it refuses: `LAB_USER`, or `postgres`.
///
/// # Errors
/// There is no such user.
pub fn unprivileged() -> Result<Option<(Uid, Gid)>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let name = std::env::var("LAB_USER").unwrap_or_else(|_| "postgres".into());
    let user = User::from_name(&name)?.ok_or_else(|| format!("no user {name}"))?;
    Ok(Some((user.uid, user.gid)))
}

/// Gives `path` to the unprivileged user.
///
/// # Errors
/// The system refuses.
pub fn give_away(path: &Path) -> Result<()> {
    if let Some((uid, gid)) = unprivileged()? {
        nix::unistd::chown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// The repository's root.
pub fn repository() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

/// Our binary `name`: in the directory `PATRONI_RS_BIN`, or the newer of `target/release` and `target/debug`.
///
/// # Errors
/// It was not built.
pub fn our_binary(name: &str) -> Result<PathBuf> {
    let directories = match std::env::var_os("PATRONI_RS_BIN") {
        Some(directory) => vec![PathBuf::from(directory)],
        None => vec![repository().join("target/release"), repository().join("target/debug")],
    };
    let built = directories.iter().map(|directory| directory.join(name)).filter(|path| path.is_file());
    let newest = built.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest.ok_or_else(|| format!("no {name} in {directories:?}: cargo build --release first").into())
}

/// Copies our binary `name` into `directory`, for the checkout may be unreadable to PostgreSQL's user.
///
/// # Errors
/// The binary was not built, or the copy fails.
pub fn install(name: &str, directory: &Path) -> Result<PathBuf> {
    let target = directory.join(name);
    if !target.is_file() {
        let scratch = directory.join(format!(".{name}"));
        std::fs::copy(our_binary(name)?, &scratch)?;
        std::fs::set_permissions(&scratch, std::fs::Permissions::from_mode(0o755))?;
        std::fs::rename(&scratch, &target)?;
    }
    Ok(target)
}

/// A TCP port of 127.0.0.1 that is free now, and that this program was not given before. It lies
/// below the range that the kernel takes ports of outgoing connections from.
///
/// # Errors
/// All are taken.
pub fn free_port() -> Result<u16> {
    static GIVEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let mut given = GIVEN.get_or_init(Mutex::default).lock().map_err(|e| e.to_string())?;
    let start = std::process::id().wrapping_mul(97) as u16;
    for step in 0..12_000u16 {
        let port = 20_000 + start.wrapping_add(step) % 12_000;
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return Ok(port);
        }
    }
    Err("no free port".into())
}
