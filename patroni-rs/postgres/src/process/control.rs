//! What `pg_controldata` says about a data directory.
//!
//! The program is asked (its output is stable across versions, and it knows the
//! layout of its own), but only when `global/pg_control` has changed since.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use indexmap::IndexMap;
use patroni_core::cluster_state::ClusterState;
use patroni_core::model::Lsn;

use super::binaries::{self, Binaries};
use super::blocking;

/// How long `pg_controldata` may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// A file changed more recently than this may change again within one tick of the
/// file system's clock; its content is not cached.
const SETTLED: Duration = Duration::from_millis(50);

/// One output of `pg_controldata`: every line as text, and typed access to the
/// values that decisions need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ControlData {
    /// All lines `name: value`; the prefix `Current ` of some is removed.
    pub raw: IndexMap<String, String>,
}

impl ControlData {
    /// Parses the (untranslated) output.
    pub fn parse(text: &str) -> ControlData {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let raw = lines.map(|(k, v)| (k.replacen("Current ", "", 1), v.trim().to_owned())).collect();
        ControlData { raw }
    }

    /// The text of a value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.raw.get(name).map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    fn lsn(&self, name: &str) -> Option<Lsn> {
        Lsn::parse(self.get(name)?)
    }

    /// `Database system identifier`
    pub fn sysid(&self) -> Option<&str> {
        self.get("Database system identifier")
    }

    /// `Database cluster state`
    pub fn state(&self) -> ClusterState {
        self.get(ClusterState::LINE).map_or(ClusterState::Unknown, ClusterState::parse)
    }

    /// `Latest checkpoint's TimeLineID`
    pub fn timeline(&self) -> Option<u32> {
        self.number("Latest checkpoint's TimeLineID")
    }

    /// `Latest checkpoint location`
    pub fn checkpoint_lsn(&self) -> Option<Lsn> {
        self.lsn("Latest checkpoint location")
    }

    /// `Latest checkpoint's REDO WAL file`
    pub fn redo_wal_file(&self) -> Option<&str> {
        self.get("Latest checkpoint's REDO WAL file").filter(|f| !f.is_empty())
    }

    /// `Minimum recovery ending location`
    pub fn min_recovery_lsn(&self) -> Option<Lsn> {
        self.lsn("Minimum recovery ending location")
    }

    /// `Min recovery ending loc's timeline`
    pub fn min_recovery_timeline(&self) -> Option<u32> {
        self.number("Min recovery ending loc's timeline")
    }

    /// Can pg_rewind work on this data (page checksums or hint bits in the WAL)?
    pub fn allows_rewind(&self) -> bool {
        self.get("wal_log_hints setting").unwrap_or("off") == "on"
            || self.get("Data page checksum version").unwrap_or("0") != "0"
    }

    /// A server setting that a standby must not start below, such as
    /// `max_connections`; the name is that of the parameter.
    pub fn setting(&self, parameter: &str) -> Option<&str> {
        let line = match parameter {
            "max_prepared_transactions" => "max_prepared_xacts setting",
            "max_locks_per_transaction" => "max_locks_per_xact setting",
            other => return self.get(&format!("{other} setting")),
        };
        self.get(line)
    }
}

/// Why there is no control data.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// `global/pg_control` is missing or cannot be read.
    #[error("pg_control is not readable: {0}")]
    NoControlFile(#[source] io::Error),
    /// The program could not be run or did not answer in time.
    #[error("{0}")]
    Run(#[source] io::Error),
    /// The program failed; its message.
    #[error("{0}")]
    Failed(String),
}

/// What tells one version of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
    settled: bool,
}

/// A cached reader for one data directory.
#[derive(Debug)]
pub struct ControlReader {
    bin: Binaries,
    data_dir: PathBuf,
    cache: Mutex<Option<(Stamp, Arc<ControlData>)>>,
}

impl ControlReader {
    /// A reader for `data_dir`.
    pub fn new(bin: Binaries, data_dir: impl Into<PathBuf>) -> Self {
        ControlReader { bin, data_dir: data_dir.into(), cache: Mutex::new(None) }
    }

    /// The control data as it is now.
    ///
    /// # Errors
    /// See [`ControlError`]; all but a missing file are logged here.
    pub async fn read(&self) -> Result<Arc<ControlData>, ControlError> {
        let stamp = stamp(&self.data_dir).await.map_err(ControlError::NoControlFile)?;
        if let Some(data) = self.cached(&stamp) {
            return Ok(data);
        }
        let data = Arc::new(run(&self.bin, &self.data_dir).await.inspect_err(|e| {
            tracing::error!(target: "patroni.postgresql", "Error when calling pg_controldata: {e}");
        })?);
        if let (true, Ok(mut cache)) = (stamp.settled, self.cache.lock()) {
            *cache = Some((stamp, data.clone()));
        }
        Ok(data)
    }

    fn cached(&self, stamp: &Stamp) -> Option<Arc<ControlData>> {
        let cache = self.cache.lock().ok()?;
        cache.as_ref().filter(|(s, _)| s == stamp).map(|(_, data)| data.clone())
    }
}

async fn stamp(data_dir: &Path) -> io::Result<Stamp> {
    let path = data_dir.join("global").join("pg_control");
    let meta = blocking::run(blocking::FILE_DEADLINE, move || std::fs::metadata(path)).await?;
    let age = meta.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
    Ok(Stamp {
        inode: meta.ino(),
        seconds: meta.mtime(),
        nanoseconds: meta.mtime_nsec(),
        settled: age.is_some_and(|a| a > SETTLED),
    })
}

async fn run(bin: &Binaries, data_dir: &Path) -> Result<ControlData, ControlError> {
    let mut command = bin.tool("pg_controldata");
    binaries::c_locale(&mut command).arg(data_dir);
    let out = binaries::output(command, DEADLINE).await.map_err(ControlError::Run)?;
    if !out.status.success() {
        return Err(ControlError::Failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    Ok(ControlData::parse(&String::from_utf8_lossy(&out.stdout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_old_and_new_outputs() {
        let text = "pg_control version number:            1300\n\
                    Database system identifier:           7300000000000000001\n\
                    Database cluster state:               shut down in recovery\n\
                    Latest checkpoint location:           0/3000060\n\
                    Latest checkpoint's REDO WAL file:    000000010000000000000003\n\
                    Latest checkpoint's TimeLineID:       2\n\
                    Minimum recovery ending location:     1/A0\n\
                    Min recovery ending loc's timeline:   2\n\
                    Current max_connections setting:      100\n\
                    max_prepared_xacts setting:           7\n\
                    wal_log_hints setting:                on\n\
                    Data page checksum version:           0\n\
                    a line without the sign\n";
        let data = ControlData::parse(text);
        assert_eq!(data.state(), ClusterState::ShutDownInRecovery);
        assert_eq!(data.sysid(), Some("7300000000000000001"));
        assert_eq!((data.timeline(), data.checkpoint_lsn()), (Some(2), Some(Lsn::new(0x300_0060))));
        assert_eq!(
            (data.min_recovery_lsn(), data.min_recovery_timeline()),
            (Some(Lsn::new((1 << 32) + 0xA0)), Some(2))
        );
        assert_eq!(data.setting("max_connections"), Some("100"));
        assert_eq!(data.setting("max_prepared_transactions"), Some("7"));
        assert!(data.allows_rewind());
        assert!(!ControlData::default().allows_rewind());
    }
}
