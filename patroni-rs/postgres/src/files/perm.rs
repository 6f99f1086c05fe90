//! Modes of files and directories, and the process-wide umask
//! (surface-ha-pg 2-07, 15.1-05).
//!
//! PostgreSQL lets the group read PGDATA when its directory has mode 0750;
//! every file made inside follows that choice. Files outside keep to the umask
//! that the process was started with.

use std::path::Path;
use std::sync::LazyLock;

use std::os::unix::fs::PermissionsExt;

use nix::sys::stat::{umask, Mode};

/// Mode bits of the group on a PGDATA that is group readable.
const GROUP_DIR: u32 = 0o750;

/// The umask the process was started with; reading it first sets 077.
static ORIGINAL_UMASK: LazyLock<u32> = LazyLock::new(|| umask(Mode::from_bits_truncate(0o077)).bits());

/// Which modes PGDATA asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataAccess {
    /// Only the owner: 0700 and 0600.
    Owner,
    /// The group may read: 0750 and 0640.
    Group,
}

impl DataAccess {
    /// Reads the mode of `data_dir`; a missing directory is logged and counts
    /// as [`DataAccess::Owner`].
    pub fn of(data_dir: &Path) -> DataAccess {
        match std::fs::metadata(data_dir) {
            Ok(meta) if meta.permissions().mode() & GROUP_DIR == GROUP_DIR => DataAccess::Group,
            Ok(_) => DataAccess::Owner,
            Err(e) => {
                let dir = data_dir.display();
                tracing::error!(target: "patroni.file_perm", "Can not check permissions on {dir}: {e}");
                DataAccess::Owner
            }
        }
    }

    /// Mode of new files.
    pub fn file_mode(self) -> u32 {
        match self {
            DataAccess::Owner => 0o600,
            DataAccess::Group => 0o640,
        }
    }

    /// Mode of new directories.
    pub fn dir_mode(self) -> u32 {
        match self {
            DataAccess::Owner => 0o700,
            DataAccess::Group => 0o750,
        }
    }

    /// Makes this the umask of the process: 077 or 027.
    pub fn apply_umask(self) {
        LazyLock::force(&ORIGINAL_UMASK);
        umask(Mode::from_bits_truncate(0o777 & !self.dir_mode()));
    }
}

/// Sets the umask of the process to 077 and remembers the one before. Called
/// once, before anything is written.
pub fn init() {
    LazyLock::force(&ORIGINAL_UMASK);
}

/// Mode of configuration files outside of PGDATA: 0666 without the bits of
/// the umask at process start.
pub fn outside_mode() -> u32 {
    0o666 & !*ORIGINAL_UMASK
}

/// Is `path` within `dir`, when all symbolic links are followed? A path that
/// does not exist is followed as far as it does. Relative paths are taken from
/// `dir`.
pub fn is_subpath(dir: &Path, path: &Path) -> bool {
    let dir = real_path(dir);
    real_path(&dir.join(path)).starts_with(&dir)
}

/// The path with every link resolved; the part that does not exist stays.
fn real_path(path: &Path) -> std::path::PathBuf {
    let mut missing = Vec::new();
    let mut head = path;
    loop {
        if let Ok(real) = head.canonicalize() {
            return missing.iter().rev().fold(real, |p, name| p.join(name));
        }
        match (head.parent(), head.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                head = parent;
            }
            _ => return path.to_path_buf(),
        }
    }
}

/// The mode for a configuration file: by PGDATA inside it, by the original
/// umask outside. Inside, the umask of the process follows PGDATA too.
pub fn config_file_mode(data_dir: &Path, file: &Path) -> u32 {
    if is_subpath(data_dir, file) {
        let access = DataAccess::of(data_dir);
        access.apply_umask();
        access.file_mode()
    } else {
        outside_mode()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn subpaths_follow_links() {
        let tmp = tempfile::tempdir().unwrap();
        let data = tmp.path().join("data");
        std::fs::create_dir_all(data.join("sub")).unwrap();
        std::fs::create_dir_all(tmp.path().join("data2")).unwrap();
        std::os::unix::fs::symlink(tmp.path().join("data2"), data.join("out")).unwrap();
        for (path, inside) in [
            (data.join("postgresql.conf"), true),
            (data.join("sub/new"), true),
            (Path::new("relative").to_owned(), true),
            (data.join("out/x"), false),
            (tmp.path().join("data2/x"), false),
        ] {
            assert_eq!(is_subpath(&data, &path), inside, "{}", path.display());
        }
    }

    #[test]
    fn modes_follow_pgdata() {
        let tmp = tempfile::tempdir().unwrap();
        for (mode, file, dir) in [(0o700, 0o600, 0o700), (0o750, 0o640, 0o750), (0o740, 0o600, 0o700)] {
            std::fs::set_permissions(tmp.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let access = DataAccess::of(tmp.path());
            assert_eq!((access.file_mode(), access.dir_mode()), (file, dir));
        }
    }
}
