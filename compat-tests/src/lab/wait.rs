//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

use super::Result;

/// How often a condition is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks `condition` until it gives a value; its error says why not yet.
///
/// # Errors
/// `within` has passed: names `what` and the last reason.
pub fn wait_until<T>(what: &str, within: Duration, mut condition: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match condition() {
            Ok(value) => return Ok(value),
            Err(reason) if Instant::now() >= deadline => {
                return Err(format!("not within {} s: {what}: {reason}", within.as_secs_f32()).into());
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// `Ok` if `condition` holds, else `reason` as an error; for conditions of [`wait_until`].
///
/// # Errors
/// The condition does not hold.
pub fn ensure(condition: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if condition {
        Ok(())
    } else {
        Err(reason().into())
    }
}
