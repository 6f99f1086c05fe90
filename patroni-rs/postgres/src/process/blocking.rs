//! File system calls with a deadline: a dead disk must not hold a task forever.

use std::io;
use std::time::Duration;

/// How long one group of file operations may take before its caller goes on.
pub const FILE_DEADLINE: Duration = Duration::from_secs(10);

/// Runs `work` on the blocking pool.
///
/// When the deadline passes the caller continues; the thread itself stays until
/// the kernel answers, so callers should not repeat a call that timed out in a
/// tight loop.
///
/// # Errors
/// The error of `work`, `TimedOut`, or `Other` when `work` panicked.
pub async fn run<T, F>(deadline: Duration, work: F) -> io::Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> io::Result<T> + Send + 'static,
{
    match tokio::time::timeout(deadline, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => result,
        Ok(Err(join)) => Err(io::Error::other(join)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
