//! The data directory as a whole: is there one, remove it, put it aside.
//!
//! Nothing here is called unless the configuration or a failed bootstrap of our
//! own asks for it, and nothing is touched while a postmaster runs in it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use patroni_core::PgVersion;

use super::evidence;
use super::postmaster::Postmaster;
use super::unfinished;

/// Logger of these actions.
macro_rules! log {
    ($level:ident, $($text:tt)*) => { tracing::$level!(target: "patroni.postgresql", $($text)*) };
}

/// Is there no cluster in it (surface-ha-pg 3-11)? With `global/pg_control` there
/// is; otherwise it is empty when it is missing or holds only hidden files and
/// `lost+found`.
///
/// # Errors
/// The directory cannot be read: it may hold anything. So may that which a link leads to whose disk is not mounted.
pub fn is_empty(data_dir: &Path) -> io::Result<bool> {
    if data_dir.join("global").join("pg_control").is_file() {
        return Ok(false);
    }
    let entries = match fs::read_dir(data_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound && !data_dir.is_symlink() => return Ok(true),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let name = entry?.file_name();
        if name != "lost+found" && !name.to_string_lossy().starts_with('.') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Is a backup still to be recovered (a `backup_label` on 15 and later, 10-13)?
pub fn was_restored_from_backup(data_dir: &Path, major_version: PgVersion) -> bool {
    major_version.at_least(PgVersion::V15) && data_dir.join("backup_label").is_file()
}

/// A symbolic link inside the data directory and the directory it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// The directory behind a link; `None` for anything else, a dangling link or a loop.
fn link(source: PathBuf) -> Option<Link> {
    if !source.is_symlink() {
        return None;
    }
    let target = fs::canonicalize(&source).ok().filter(|t| t.is_dir())?;
    Some(Link { source, target })
}

/// Links to a WAL directory outside.
fn wal_links(data_dir: &Path) -> Vec<Link> {
    ["pg_xlog", "pg_wal"].iter().filter_map(|name| link(data_dir.join(name))).collect()
}

/// Links to tablespaces: numeric names in `pg_tblspc`.
fn tablespace_links(data_dir: &Path) -> Vec<Link> {
    let Ok(entries) = fs::read_dir(data_dir.join("pg_tblspc")) else { return Vec::new() };
    let oid = |name: &str| name.parse::<u32>().is_ok_and(|n| n > 0);
    entries
        .flatten()
        .filter(|e| oid(&e.file_name().to_string_lossy()))
        .filter_map(|e| link(e.path()))
        .collect()
}

/// Refuses to touch a directory in which a server works, or where nobody can tell whether one does. What a server
/// that has ended has left behind is ended first. A stale pid file with a reused pid does not count.
async fn refuse_running(data_dir: &Path) -> io::Result<()> {
    match Postmaster::find(data_dir).await? {
        None => evidence::ensure_unused(data_dir).await,
        Some(p) => Err(io::Error::other(format!(
            "PostgreSQL is running in {} (pid={})",
            data_dir.display(),
            p.process.pid
        ))),
    }
}

/// Removes a data directory, and what is in its WAL and tablespace directories elsewhere. A link in
/// place of the data directory stays, and what it leads to is emptied. What cannot be removed is
/// renamed, as [`set_aside`] does. The role becomes `uninitialized`.
///
/// # Errors
/// A postmaster runs in it, or it could be neither removed nor renamed (logged).
pub async fn remove(data_dir: &Path) -> io::Result<()> {
    refuse_running(data_dir).await?;
    log!(info, "Removing data directory: {}", data_dir.display());
    let dir = data_dir.to_owned();
    // No deadline: a large directory takes long, and half a removal is not a result.
    tokio::task::spawn_blocking(move || remove_or_rename(&dir)).await.map_err(io::Error::other)?
}

fn remove_or_rename(data_dir: &Path) -> io::Result<()> {
    let Err(e) = remove_now(data_dir) else { return unfinished::forget(data_dir) };
    log!(error, "Could not remove data directory {}: {e}", data_dir.display());
    if data_dir.is_symlink() {
        return Err(e);
    }
    if is_empty(data_dir).unwrap_or(false) {
        // A mount point: its content is gone, itself it has to stay.
        return unfinished::forget(data_dir);
    }
    rename_now(data_dir)
}

fn remove_now(data_dir: &Path) -> io::Result<()> {
    let meta = match fs::symlink_metadata(data_dir) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if meta.is_symlink() {
        // Where it leads nowhere a copy would land beside it.
        fs::metadata(data_dir)?;
    }
    let linked = meta.is_symlink() && data_dir.is_dir();
    if !meta.is_dir() && !linked {
        return fs::remove_file(data_dir);
    }
    for link in wal_links(data_dir) {
        log!(info, "Removing WAL directory: {}", link.target.display());
        empty(&link.target)?;
    }
    for link in tablespace_links(data_dir) {
        log!(info, "Removing user defined tablespace directory: {}", link.target.display());
        // What a copy cannot put there it says itself.
        if let Err(e) = empty(&link.target) {
            log!(error, "Could not empty {}: {e}", link.target.display());
        }
    }
    if linked {
        // The place that it leads to is where the data are to be; only the link knows.
        return empty(data_dir);
    }
    fs::remove_dir_all(data_dir)
}

/// Removes all that is in a directory. The directory itself stays: what is linked to may be a disk of its own, in a directory
/// that is not ours to write.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            match fs::remove_dir_all(entry.path()) {
                // Of the file system, and root's.
                Err(_) if entry.file_name() == "lost+found" => {}
                other => other?,
            }
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Renames a data directory, its WAL and its tablespace directories to
/// `<path>.failed` (12-12). An older `.failed` is deleted.
///
/// # Errors
/// A postmaster runs in it, or a rename failed (logged).
pub async fn set_aside(data_dir: &Path) -> io::Result<()> {
    refuse_running(data_dir).await?;
    let dir = data_dir.to_owned();
    tokio::task::spawn_blocking(move || if dir.is_dir() { rename_now(&dir) } else { Ok(()) })
        .await
        .map_err(io::Error::other)?
}

fn rename_now(data_dir: &Path) -> io::Result<()> {
    let renamed = rename_all(data_dir);
    if let Err(e) = &renamed {
        log!(error, "Could not rename data directory {}: {e}", data_dir.display());
    }
    renamed
}

fn rename_all(data_dir: &Path) -> io::Result<()> {
    for (kind, links) in
        [("WAL", wal_links(data_dir)), ("user defined tablespace", tablespace_links(data_dir))]
    {
        for link in links {
            log!(info, "renaming {kind} directory and updating symlink: {}", link.target.display());
            let name = rename_failed(&link.target)?;
            fs::remove_file(&link.source)?;
            std::os::unix::fs::symlink(name, &link.source)?;
        }
    }
    let name = failed_name(data_dir);
    if data_dir.is_symlink() {
        let target = fs::canonicalize(data_dir)?;
        log!(info, "renaming data directory to {}", failed_name(&target).display());
        rename_failed(&target)?;
        // The link leads to the place where the next one is to be made.
        fs::DirBuilder::new().mode(0o700).create(&target)?;
        return unfinished::forget(data_dir);
    }
    log!(info, "renaming data directory to {}", name.display());
    rename_failed(data_dir)?;
    unfinished::forget(data_dir)
}

/// `<path>.failed`, without slashes at the end.
fn failed_name(path: &Path) -> PathBuf {
    let text = path.as_os_str().to_string_lossy();
    PathBuf::from(format!("{}.failed", text.trim_end_matches('/')))
}

fn rename_failed(path: &Path) -> io::Result<PathBuf> {
    let name = failed_name(path);
    if name.exists() {
        log!(info, "Removing {} of an earlier failure", name.display());
        fs::remove_dir_all(&name)?;
    }
    fs::rename(path, &name)?;
    Ok(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    /// A data directory with WAL and a tablespace outside, a dangling link and a loop.
    fn sample(root: &Path) -> PathBuf {
        let data = root.join("data");
        for dir in ["data/global", "data/pg_tblspc", "wal", "space/PG_15"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(root.join("space/PG_15/1"), "x").unwrap();
        symlink(root.join("wal"), data.join("pg_wal")).unwrap();
        symlink(root.join("space"), data.join("pg_tblspc/16385")).unwrap();
        symlink(root.join("nowhere"), data.join("pg_tblspc/16386")).unwrap();
        symlink("16387", data.join("pg_tblspc/16387")).unwrap();
        data
    }

    #[test]
    fn emptiness() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("d");
        assert!(is_empty(&dir).unwrap());
        fs::create_dir_all(dir.join("lost+found")).unwrap();
        fs::write(dir.join(".hidden"), "").unwrap();
        assert!(is_empty(&dir).unwrap());
        fs::write(dir.join("x"), "").unwrap();
        assert!(!is_empty(&dir).unwrap());
        assert!(is_empty(&dir.join("x")).is_err());
    }

    #[tokio::test]
    async fn removal_takes_the_linked_directories_along() {
        let root = tempfile::tempdir().unwrap();
        let data = sample(root.path());
        fs::write(root.path().join("other"), "").unwrap();
        remove(&data).await.unwrap();
        let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| name == "other" || name == "wal" || name == "space"), "{left:?}");
        for kept in ["wal", "space"] {
            assert_eq!(fs::read_dir(root.path().join(kept)).unwrap().count(), 0, "emptied, and there");
        }
        assert!(!data.exists());
        remove(&data).await.unwrap();
    }

    #[tokio::test]
    async fn a_link_in_place_of_the_data_directory_stays() {
        let root = tempfile::tempdir().unwrap();
        let data = sample(root.path());
        let link = root.path().join("link");
        fs::write(root.path().join("wal/1"), "x").unwrap();
        symlink(&data, &link).unwrap();
        remove(&link).await.unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), data);
        for emptied in ["data", "wal", "space"] {
            assert_eq!(fs::read_dir(root.path().join(emptied)).unwrap().count(), 0, "{emptied}");
        }
        fs::write(data.join("PG_VERSION"), "15").unwrap();
        set_aside(&link).await.unwrap();
        assert!(root.path().join("data.failed/PG_VERSION").exists());
        assert!(link.is_symlink() && is_empty(&link).unwrap());
        // Its disk may be mounted yet.
        let dangling = root.path().join("dangling");
        symlink("nowhere", &dangling).unwrap();
        assert!(is_empty(&dangling).is_err() && remove(&dangling).await.is_err());
        assert!(dangling.is_symlink());
    }

    #[tokio::test]
    async fn setting_aside_keeps_everything_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("data.failed/old")).unwrap();
        let data = sample(root.path());
        set_aside(&data).await.unwrap();
        let failed = root.path().join("data.failed");
        assert!(!data.exists() && failed.join("global").exists() && !failed.join("old").exists());
        assert_eq!(fs::read_link(failed.join("pg_wal")).unwrap(), root.path().join("wal.failed"));
        assert!(root.path().join("space.failed/PG_15/1").exists());
        set_aside(&data).await.unwrap();
    }
}
