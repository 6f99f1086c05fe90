//! `patroni.dynamic.json`, the copy of the dynamic configuration beside the data,
//! for a DCS that has lost its own (surface-config 1.53, 1.54).

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pyfmt::{json, Value};

/// Name of the file in the data directory.
pub const CACHE_FILE: &str = "patroni.dynamic.json";

/// The group may read a data directory with these bits (PostgreSQL documentation, `initdb -g`).
const GROUP_READ: u32 = 0o750;

/// The cache of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    data_dir: PathBuf,
}

impl Cache {
    /// An empty `data_dir` is the working directory.
    pub(crate) fn new(data_dir: &str) -> Cache {
        Cache { data_dir: PathBuf::from(data_dir) }
    }

    fn file(&self) -> PathBuf {
        self.data_dir.join(CACHE_FILE)
    }

    /// The cached document; None when there is no file or it cannot be read,
    /// which is logged.
    pub(crate) fn load(&self) -> Option<Value> {
        let file = self.file();
        if !file.is_file() {
            return None;
        }
        read(&file).inspect_err(|e| self.log_load_failure(e)).ok()
    }

    /// Says that the document cannot be used.
    pub(crate) fn log_load_failure(&self, error: &dyn std::fmt::Display) {
        let file = self.file();
        tracing::error!(target: "patroni.config", exc = %error, "Exception when loading file: {}", file.display());
    }

    /// Replaces the document by way of a temporary file beside it. False when
    /// that fails, which is logged.
    pub(crate) fn save(&self, document: &Value) -> bool {
        let result = self.write(document);
        if let Err(e) = &result {
            let file = self.file();
            tracing::error!(target: "patroni.config", exc = %e, "Exception when saving file: {}", file.display());
        }
        result.is_ok()
    }

    fn write(&self, document: &Value) -> std::io::Result<()> {
        if let Some(kind) = not_json(document) {
            let text = format!("TypeError: Object of type {kind} is not JSON serializable");
            return Err(std::io::Error::other(text));
        }
        let dir = if self.data_dir.as_os_str().is_empty() { Path::new(".") } else { &self.data_dir };
        let group = std::fs::metadata(dir)?.permissions().mode() & GROUP_READ == GROUP_READ;
        let mut file = tempfile::Builder::new().prefix(CACHE_FILE).rand_bytes(8).tempfile_in(dir)?;
        file.write_all(json::dumps(document).as_bytes())?;
        let mode = if group { 0o640 } else { 0o600 };
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.persist(self.file())?;
        Ok(())
    }
}

fn read(file: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    json::loads(&text).map_err(|e| e.to_string())
}

/// The type of a value in the document that JSON does not have.
fn not_json(value: &Value) -> Option<&'static str> {
    match value {
        Value::Bytes(_) | Value::Timestamp(_) => Some(value.type_name()),
        Value::List(list) => list.iter().find_map(not_json),
        Value::Map(map) => map.values().find_map(not_json),
        _ => None,
    }
}
