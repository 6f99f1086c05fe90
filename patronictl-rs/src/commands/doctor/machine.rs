//! The machine that this runs on, if a member of the cluster lives here.

use std::path::{Path, PathBuf};

use pyfmt::Value;

/// Room on a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// What is kept there.
    pub what: &'static str,
    /// Where.
    pub path: PathBuf,
    /// Bytes that PostgreSQL may still write.
    pub free: u64,
    /// Bytes that it has.
    pub size: u64,
    /// A new file can be made there (inodes).
    pub has_files: bool,
}

/// The file systems of the data directory and of its WAL; empty where there is none.
pub fn look(postgresql: &Value) -> Vec<Room> {
    let Some(data_dir) = postgresql.get("data_dir").and_then(Value::as_str).filter(|dir| !dir.is_empty())
    else {
        return Vec::new();
    };
    let data_dir = Path::new(data_dir);
    let wal = ["pg_wal", "pg_xlog"].map(|name| data_dir.join(name)).into_iter().find(|path| path.exists());
    let mut rooms: Vec<Room> = room("data", data_dir).into_iter().collect();
    let of_wal = wal.and_then(|path| room("WAL", &path));
    // One file system is told of once.
    rooms.extend(
        of_wal.filter(|wal| !rooms.iter().any(|data| (data.free, data.size) == (wal.free, wal.size))),
    );
    rooms
}

fn room(what: &'static str, path: &Path) -> Option<Room> {
    let path = path.canonicalize().ok()?;
    let found = nix::sys::statvfs::statvfs(&path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Room {
        what,
        free: bytes(found.blocks_available()),
        size: bytes(found.blocks()),
        has_files: found.files() == 0 || found.files_available() > 0,
        path,
    })
}
