//! `initdb` (surface-ha-pg 12-02 to 12-04).

use std::io::Write;
use std::path::Path;

use pyfmt::Value;

use super::binaries::{path_text, Binaries};
use super::blocking;
use super::cancellable::{CallError, Cancellable, Invocation};
use super::options::user_options;

/// Options that the user may not set.
const FORBIDDEN: [&str; 5] = ["pgdata", "nosync", "pwfile", "sync-only", "version"];

/// Why there is no new cluster.
#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    /// `bootstrap.initdb` is not usable; the reference's text.
    #[error("{0}")]
    Options(String),
    /// The password file could not be written.
    #[error("could not write the password file: {0}")]
    PasswordFile(#[source] std::io::Error),
    /// It could not be run, or was cancelled.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Its exit code was not 0.
    #[error("initdb exited with code={0}")]
    Failed(i32),
}

/// The superuser of `postgresql.authentication`.
#[derive(Debug, Clone, Default)]
pub struct Superuser {
    /// User name; the operating system's user otherwise.
    pub username: Option<String>,
    /// Password.
    pub password: Option<String>,
}

/// A file that only the server's user can read, removed when dropped: a password
/// must not appear among the arguments.
fn password_file(bin: &Binaries, password: &str) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(password.as_bytes())?;
    #[cfg(test)]
    if let Some((uid, gid)) = bin.run_as {
        nix::unistd::chown(file.path(), Some(uid.into()), Some(gid.into()))?;
    }
    #[cfg(not(test))]
    let _ = bin;
    Ok(file)
}

/// Runs initdb with the user's options (`bootstrap.initdb`, a list or a map; null
/// means none). Its output goes to ours.
///
/// # Errors
/// See [`InitdbError`]. What initdb leaves behind is the caller's to clean up.
pub async fn initdb(
    bin: &Binaries,
    cancel: &Cancellable,
    data_dir: &Path,
    options: &Value,
    superuser: &Superuser,
) -> Result<(), InitdbError> {
    let none = Value::List(Vec::new());
    let user = user_options("initdb", if options.truthy() { options } else { &none }, &FORBIDDEN);
    if let Some(error) = user.errors.into_iter().next() {
        return Err(InitdbError::Options(error));
    }
    let mut argv = vec![bin.text("initdb")];
    argv.extend(user.options);
    argv.extend(superuser.username.iter().map(|name| format!("--username={name}")));
    let mut file = None;
    if let Some(password) = superuser.password.clone() {
        let bin = bin.clone();
        let work = move || password_file(&bin, &password);
        let written =
            blocking::run(blocking::FILE_DEADLINE, work).await.map_err(InitdbError::PasswordFile)?;
        argv.push(format!("--pwfile={}", written.path().display()));
        file = Some(written);
    }
    argv.push(path_text(data_dir));
    let done = cancel.call(bin, &Invocation::new(argv)).await;
    drop(file);
    match done?.code {
        0 => Ok(()),
        code => Err(InitdbError::Failed(code)),
    }
}
