//! Writing a file so that a crash leaves either the old or the new content:
//! temporary file, fsync, rename, fsync of the directory.
//!
//! The reference truncates in place; the bytes and the mode at the end are the
//! same (surface-ha-pg 15.1-05, 28-14). A file that already has the content is
//! left alone, because its time of change makes others read it again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What to do when the file to write is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Write the file it points to: configuration kept outside of PGDATA.
    Follow,
    /// Put a regular file in the place of the link: files that are ours.
    Replace,
}

/// Writes `content` to `path` with `mode`. Returns whether the content was
/// different from what was there.
///
/// Where a rename is not possible (the directory belongs to another user, or
/// the file is a mount point), an existing file is written in place.
///
/// # Errors
/// Those of the file system; the file then keeps its old content, unless it
/// had to be written in place.
pub fn write(path: &Path, content: &[u8], mode: u32, links: Links) -> io::Result<bool> {
    let target = match links {
        Links::Follow => follow(path)?,
        Links::Replace => path.to_path_buf(),
    };
    if is_regular(&target) && std::fs::read(&target).is_ok_and(|old| old == content) {
        set_mode(&target, mode)?;
        return Ok(false);
    }
    match write_by_rename(&target, content, mode) {
        Err(e) if rename_refused(&e) && is_regular(&target) => write_in_place(&target, content, mode)?,
        other => other?,
    }
    Ok(true)
}

/// Copies a file; the copy is written as [`write()`] does.
///
/// # Errors
/// Those of reading `from` and of [`write()`].
pub fn copy(from: &Path, to: &Path, mode: u32, links: Links) -> io::Result<bool> {
    write(to, &std::fs::read(from)?, mode, links)
}

/// Appends to a file, which is made if it is not there.
///
/// # Errors
/// Those of the file system.
pub fn append(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()?;
    set_mode(path, mode)
}

/// Removes a file or link, if it is there. A directory is left alone.
///
/// # Errors
/// Those of the file system.
pub fn remove_if_exists(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => std::fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// A regular file itself, not through a link? Reading anything else could wait
/// for ever (a FIFO).
fn is_regular(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// The file that a chain of links ends in, which need not exist yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    const LINKS_MAX: usize = 40;
    let mut target = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&target) {
            Ok(next) => target = target.parent().map_or(next.clone(), |dir| dir.join(&next)),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn rename_refused(e: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ResourceBusy};
    matches!(e.kind(), PermissionDenied | ResourceBusy | CrossesDevices)
}

fn write_by_rename(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // PostgreSQL leaves files of this prefix out of base backups and pg_rewind (PG_TEMP_FILE_PREFIX),
    // should a crash leave one behind.
    let mut temporary = tempfile::Builder::new()
        .prefix("pgsql_tmp.patroni-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    temporary.write_all(content)?;
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
    temporary.as_file().sync_all()?;
    temporary.persist(target).map_err(|e| e.error)?;
    sync_dir(dir)
}

fn write_in_place(target: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(target)?;
    file.write_all(content)?;
    file.sync_all()?;
    set_mode(target, mode)
}

/// Sets the mode if it is another.
fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    if std::fs::metadata(path)?.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Makes the entries of a directory durable. Some file systems answer EINVAL,
/// which is harmless.
fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::{symlink, MetadataExt};

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn writes_only_what_changed_and_keeps_the_mode() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("f");
        assert!(write(&file, b"one", 0o640, Links::Follow).unwrap());
        let inode = std::fs::metadata(&file).unwrap().ino();
        assert!(!write(&file, b"one", 0o600, Links::Follow).unwrap());
        assert_eq!(std::fs::metadata(&file).unwrap().ino(), inode);
        assert_eq!(mode(&file), 0o600);
        assert!(write(&file, b"two", 0o640, Links::Follow).unwrap());
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert_eq!(mode(&file), 0o640);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_followed_or_replaced() {
        let tmp = tempfile::tempdir().unwrap();
        let (real, link) = (tmp.path().join("real"), tmp.path().join("link"));
        symlink("real", &link).unwrap();
        write(&link, b"through", 0o600, Links::Follow).unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), b"through");
        write(&link, b"own", 0o600, Links::Replace).unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), b"through");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_file());
        symlink("loop", tmp.path().join("loop")).unwrap();
        assert!(write(&tmp.path().join("loop"), b"", 0o600, Links::Follow).is_err());
    }

    #[test]
    fn a_file_in_a_directory_of_others_is_written_in_place() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("f");
        write(&file, b"a long content", 0o600, Links::Follow).unwrap();
        let inode = std::fs::metadata(&file).unwrap().ino();
        // Root may write anywhere, and for it this is no test of the refusal.
        std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
        let written = write(&file, b"short", 0o640, Links::Follow);
        let root = nix::unistd::geteuid().is_root();
        std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(written.unwrap());
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"short".to_vec(), 0o640));
        assert!(root || std::fs::metadata(&file).unwrap().ino() == inode);
        write_in_place(&file, b"x", 0o600).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn removal_spares_directories_and_missing_files() {
        let tmp = tempfile::tempdir().unwrap();
        remove_if_exists(tmp.path()).unwrap();
        remove_if_exists(&tmp.path().join("none")).unwrap();
        let file = tmp.path().join("f");
        append(&file, b"a", 0o600).unwrap();
        append(&file, b"b", 0o600).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"ab");
        remove_if_exists(&file).unwrap();
        assert!(!file.exists());
    }
}
