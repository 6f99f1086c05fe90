//! Writing a file so that a crash leaves either the old or the new content:
//! temporary file, fsync, rename, fsync of the directory.
//!
//! The reference truncates in place; the bytes and the mode at the end are the
//! same (surface-ha-pg 15.1-05, 28-14). A file that already has the content is
//! left alone, because its time of change makes others read it again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mode of a file with secrets.
const SECRET: u32 = 0o600;
/// So many links are followed.
const LINKS_MAX: usize = 40;

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

/// Writes a secret: nobody but us can read the file at any time.
///
/// A file that others have put there, or a link of theirs, is replaced where the directory allows it, never written into:
/// in place only a file that is ours is written, which is closed to others before the first byte.
///
/// # Errors
/// Those of the file system; `PermissionDenied` with the reason where the place belongs to somebody else.
pub fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let target = follow_own(path)?;
    let there = std::fs::symlink_metadata(&target).ok();
    if there.as_ref().is_some_and(is_ours) && std::fs::read(&target).is_ok_and(|old| old == content) {
        return set_mode(&target, SECRET);
    }
    match write_by_rename(&target, content, SECRET) {
        Err(e) if rename_refused(&e) && there.is_some() => {}
        other => return other,
    }
    let mut file = open_own(&target)?;
    file.set_permissions(std::fs::Permissions::from_mode(SECRET))?;
    file.set_len(0)?;
    file.write_all(content)?;
    file.sync_all()
}

fn is_ours(meta: &std::fs::Metadata) -> bool {
    meta.is_file() && meta.uid() == own_uid() && meta.nlink() == 1
}

/// Opens a file that is ours. What is looked at is what is written: the name may be given to something else meanwhile.
fn open_own(path: &Path) -> io::Result<File> {
    let stranger = |what: &str| {
        let text = format!("{} is {what}, and no secret is written into it", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    };
    match OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) if is_ours(&file.metadata()?) => Ok(file),
        Ok(_) => Err(stranger("not ours")),
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Err(stranger("somebody else's link")),
        Err(e) => Err(e),
    }
}

/// The file that links of ours, or of root's, end in; a link of anybody else counts as the file itself.
fn follow_own(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        let trusted = std::fs::symlink_metadata(&target)
            .is_ok_and(|m| m.is_symlink() && (m.uid() == own_uid() || m.uid() == 0));
        if !trusted {
            return Ok(target);
        }
        let next = std::fs::read_link(&target)?;
        target = target.parent().map_or(next.clone(), |dir| dir.join(&next));
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
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
/// forever (a FIFO).
fn is_regular(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|m| m.is_file())
}

/// The file that a chain of links ends in, which need not exist yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
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
    use std::os::unix::fs::symlink;

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

    /// Where a sticky directory keeps us from replacing it.
    #[test]
    fn a_link_in_place_of_a_secret_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("pgpass");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).unwrap();
        let error = open_own(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let want = format!("{} is somebody else's link, and no secret is written into it", link.display());
        assert_eq!(error.to_string(), want);
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

    /// As root, others can be played: the rest of the time only the own side is.
    fn given_to_others(path: &Path) -> bool {
        std::os::unix::fs::lchown(path, Some(12_345), Some(12_345)).is_ok()
    }

    #[test]
    fn a_secret_goes_into_no_file_of_others() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("pgpass");
        write_secret(&file, b"one").unwrap();
        assert_eq!((std::fs::read(&file).unwrap(), mode(&file)), (b"one".to_vec(), 0o600));
        // Ours, but open to all: closed, also when nothing is to be written.
        set_mode(&file, 0o666).unwrap();
        write_secret(&file, b"one").unwrap();
        assert_eq!(mode(&file), 0o600);
        // Through a link of our own.
        let link = tmp.path().join("link");
        symlink("pgpass", &link).unwrap();
        write_secret(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"two");
        assert!(link.is_symlink());
        // A second name may be anybody's.
        let second = tmp.path().join("second");
        std::fs::hard_link(&file, &second).unwrap();
        write_secret(&file, b"three").unwrap();
        assert_eq!(
            (std::fs::read(&file).unwrap(), std::fs::read(&second).unwrap()),
            (b"three".to_vec(), b"two".to_vec())
        );
        let strange = tmp.path().join("strange");
        std::fs::write(&strange, "theirs").unwrap();
        set_mode(&strange, 0o666).unwrap();
        symlink("strange", tmp.path().join("trap")).unwrap();
        if !given_to_others(&strange) || !given_to_others(&tmp.path().join("trap")) {
            return;
        }
        let theirs = File::open(&strange).unwrap();
        write_secret(&tmp.path().join("trap"), b"secret").unwrap();
        assert_eq!(std::fs::read(&strange).unwrap(), b"theirs", "a link of others is no way");
        write_secret(&strange, b"secret").unwrap();
        assert_eq!(std::io::read_to_string(theirs).unwrap(), "theirs", "the file that they hold open");
        assert_eq!((std::fs::metadata(&strange).unwrap().uid(), mode(&strange)), (own_uid(), 0o600));
    }

    /// As the server's user, in a directory like `/tmp` where others were first.
    #[test]
    fn a_secret_is_refused_where_the_place_is_taken() {
        let tmp = tempfile::tempdir().unwrap();
        let file = tmp.path().join("pgpass");
        std::fs::write(&file, "theirs").unwrap();
        set_mode(&file, 0o666).unwrap();
        if !nix::unistd::geteuid().is_root() || !given_to_others(&file) || !given_to_others(tmp.path()) {
            return;
        }
        set_mode(tmp.path(), 0o1777).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut child = std::process::Command::new("setpriv");
        child.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        child.args(["--exact", "files::write::tests::as_somebody_else", "--ignored"]).env("PLACE", &file);
        let Ok(done) = child.output() else { return };
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
        assert_eq!(std::fs::read(&file).unwrap(), b"theirs");
    }

    #[test]
    #[ignore = "a part of the test before it, run as another user"]
    fn as_somebody_else() {
        let place = PathBuf::from(std::env::var_os("PLACE").unwrap());
        let refused = write_secret(&place, b"secret").unwrap_err();
        assert!(refused.to_string().contains("is not ours"), "{refused}");
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
