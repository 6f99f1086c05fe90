//! Directories that the configuration names (`validate_directory` of
//! `patroni/utils.py`).

use std::path::Path;

use pyfmt::Value;

use super::{path_text, ConfigHandler};
use crate::files::error::FilesError;
use crate::files::perm::is_subpath;

impl ConfigHandler {
    /// Makes the directories for sockets, statistics and the password file, or
    /// tests that they can be written. Those inside of PGDATA have to wait
    /// while that is empty.
    ///
    /// # Errors
    /// [`FilesError::Directory`] with the reference's words.
    pub fn check_directories(&self, data_directory_empty: bool) -> Result<(), FilesError> {
        let param = |name: &str| self.server_parameters.get(name).map(Value::py_str);
        let try_to_create = |dir: &str, place: &str| {
            let dir = self.setup.data_dir.join(dir);
            if is_subpath(&self.setup.data_dir, &dir) && data_directory_empty {
                return Ok(());
            }
            let message = |what: &str| format!("'{}' is defined in {place}, {what}", dir.display());
            validate(&dir).map_err(|what| FilesError::Directory(message(what)))
        };
        for dir in param("unix_socket_directories").as_deref().into_iter().flat_map(|d| d.split(',')) {
            try_to_create(dir.trim(), "unix_socket_directories")?;
        }
        if let Some(dir) = param("stats_temp_directory") {
            try_to_create(&dir, "stats_temp_directory")?;
        }
        if self.krbsrvname().is_none() {
            let dir = self.setup.pgpass.parent().map(path_text).unwrap_or_default();
            try_to_create(&dir, "`postgresql.pgpass`")?;
        }
        Ok(())
    }
}

/// Makes a directory, or tests one by making a file in it.
fn validate(dir: &Path) -> Result<(), &'static str> {
    if !dir.exists() {
        return std::fs::create_dir_all(dir).map_err(|e| {
            tracing::error!(target: "patroni.utils", "{e}");
            "couldn't create the directory"
        });
    }
    if !dir.is_dir() {
        return Err("is not a directory");
    }
    tempfile::tempfile_in(dir).map(|_| ()).map_err(|_| "the directory is not writable")
}
