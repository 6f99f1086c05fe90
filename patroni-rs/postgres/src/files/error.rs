//! Errors of the files module.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be written, or the configuration not be used.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// `postgresql.pgpass` names something that is not a file.
    #[error("'{}' exists and it's not a file, check your `postgresql.pgpass` configuration", .0.display())]
    PgpassNotAFile(PathBuf),
    /// `postgresql.listen` has a port that is not a number.
    #[error("invalid port in postgresql.listen: {0}")]
    Listen(String),
    /// What must be lines is neither a list of them nor a text.
    #[error("{0} must be a list of lines, or a text")]
    NotLines(String),
    /// A directory that the configuration names cannot be used.
    #[error("{0}")]
    Directory(String),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Names the file in an error.
pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> FilesError + '_ {
    move |source| FilesError::Io { path: path.to_path_buf(), source }
}
