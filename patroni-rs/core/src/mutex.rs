//! Plain data behind a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The data. A poisoned lock means that a thread panicked while it held it; plain data is then still the best that
/// there is, and a daemon that panics on would leave its PostgreSQL alone.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
