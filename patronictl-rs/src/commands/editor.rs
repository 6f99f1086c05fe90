//! The user's editor for `edit-config` (surface-api-ctl K43).

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyfmt::oserror;

use crate::click::CliError;

/// Lets the user edit a text and gives back what became of it.
///
/// # Errors
/// No editor, one that cannot be run or fails, or a file that is gone.
pub fn edit(text: &str, cluster_name: &str) -> Result<String, CliError> {
    let editor = find()?;
    let crash = |e: std::io::Error| CliError::Crash(format!("OSError: {}", oserror::sentence(&e)));
    let file = TemporaryFile::create(text, cluster_name).map_err(crash)?;
    let status = Command::new(&editor).arg(&file.0).status().map_err(|e| file_error(&e, &editor))?;
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or_default());
    if code != 0 {
        return Err(CliError::msg(format!("Editor exited with return code {code}")));
    }
    std::fs::read_to_string(&file.0).map_err(|e| file_error(&e, &file.0.to_string_lossy()))
}

/// The last line of Python's traceback for a file that cannot be used.
pub fn file_error(error: &std::io::Error, path: &str) -> CliError {
    CliError::Crash(format!("{}: {}", oserror::class(error), oserror::text(error, Some(path))))
}

/// `EDITOR` is one program, not a command line.
fn find() -> Result<String, CliError> {
    if let Some(editor) = std::env::var("EDITOR").ok().filter(|e| !e.is_empty()) {
        return Ok(editor);
    }
    let found = ["editor", "vi"].into_iter().find_map(which);
    found.map(|path| path.to_string_lossy().into_owned()).ok_or_else(|| {
        CliError::msg("EDITOR environment variable is not set. editor or vi are not available")
    })
}

/// The executable file that a command name stands for.
pub fn which(name: &str) -> Option<PathBuf> {
    let executable =
        |path: &PathBuf| path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(executable);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(executable)
}

/// A file of our own, removed at the end.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Readable for nobody else; the name does not exist yet.
    fn create(text: &str, cluster_name: &str) -> std::io::Result<TemporaryFile> {
        let safe = cluster_name.replace('/', "_");
        let mut attempt: u32 = 0;
        loop {
            let tail = unique(attempt);
            let path = std::env::temp_dir().join(format!("{safe}-config-{tail}.yaml"));
            let mut options = std::fs::OpenOptions::new();
            match options.write(true).create_new(true).mode(0o600).open(&path) {
                Ok(mut file) => {
                    let guard = TemporaryFile(path);
                    file.write_all(text.as_bytes())?;
                    return Ok(guard);
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                Err(e) => return Err(e),
            }
        }
    }
}

fn unique(attempt: u32) -> String {
    let now = jiff::Timestamp::now().as_nanosecond() as u64;
    format!("{:08x}", (now ^ u64::from(std::process::id()) << 20).wrapping_add(u64::from(attempt)) as u32)
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // An editor may have removed it already.
        let _ = std::fs::remove_file(Path::new(&self.0));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_are_private_and_removed() {
        let file = TemporaryFile::create("a: 1\n", "x/y").unwrap();
        let path = file.0.clone();
        assert!(path.file_name().unwrap().to_string_lossy().starts_with("x_y-config-"));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        assert!(which("sh").is_some() && which("no-such-program").is_none());
    }
}
