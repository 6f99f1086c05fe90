//! The user's scripts around a promotion and a stop (surface-ha-pg 22-07, 22-08).

use pyfmt::text::shlex_split;

use super::binaries::Binaries;
use super::cancellable::{CallError, Cancellable, Invocation};

/// What a `pre_promote` script decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrePromote {
    /// It ended with 0, or there is none: promote.
    Proceed,
    /// It failed or could not be started: do not promote, release the key.
    Refused,
    /// It was cancelled (the lock is lost): do not promote.
    Cancelled,
}

/// Runs `pre_promote` after the lock was taken and before the promotion.
pub async fn pre_promote(bin: &Binaries, cancel: &Cancellable, script: Option<&str>) -> PrePromote {
    let Some(script) = script.filter(|s| !s.is_empty()) else { return PrePromote::Proceed };
    match run(bin, cancel, script, "pre_promote").await {
        _ if cancel.is_cancelled() => PrePromote::Cancelled,
        Some(0) => PrePromote::Proceed,
        _ => PrePromote::Refused,
    }
}

/// Runs `before_stop` to its end; the result does not matter. The reference sets
/// no time limit: put one around it where the stop must not be late.
pub async fn before_stop(bin: &Binaries, cancel: &Cancellable, script: Option<&str>) {
    if let Some(script) = script.filter(|s| !s.is_empty()) {
        run(bin, cancel, script, "before_stop").await;
    }
}

async fn run(bin: &Binaries, cancel: &Cancellable, script: &str, kind: &str) -> Option<i32> {
    let result = match shlex_split(script) {
        Ok(argv) => cancel.call(bin, &Invocation::new(argv).outlives()).await,
        Err(e) => Err(CallError::Spawn(std::io::Error::other(e))),
    };
    match result {
        Ok(done) => {
            let code = done.code;
            tracing::info!(target: "patroni.postgresql", "{kind} script `{script}` exited with {code}");
            Some(code)
        }
        Err(e) => {
            tracing::error!(target: "patroni.postgresql", "Exception when calling `{script}`: {e}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn verdicts() {
        let (bin, cancel) = (Binaries::default(), Cancellable::default());
        assert_eq!(pre_promote(&bin, &cancel, None).await, PrePromote::Proceed);
        assert_eq!(pre_promote(&bin, &cancel, Some("true")).await, PrePromote::Proceed);
        assert_eq!(pre_promote(&bin, &cancel, Some("sh -c 'exit 2'")).await, PrePromote::Refused);
        assert_eq!(pre_promote(&bin, &cancel, Some("/no/such")).await, PrePromote::Refused);
        cancel.cancel();
        assert_eq!(pre_promote(&bin, &cancel, Some("true")).await, PrePromote::Cancelled);
    }
}
