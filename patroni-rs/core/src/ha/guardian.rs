//! The guardian: a process of its own that stops PostgreSQL when the daemon has
//! died or hangs and the promise it last made is about to be broken.
//!
//! Pure. What it is promised is [`Keeper::promise`](super::keeper::Keeper::promise):
//! the same instant by the same rule, a moment later, so that a keeper that lives
//! comes first. It knows nothing else: no DCS, no PGDATA, no role.

use super::types::Mono;

/// All that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Its clock, `CLOCK_BOOTTIME`: it counts suspension.
    pub now: Mono,
    /// The last promise; None: nothing is to be stopped.
    pub promise: Option<Mono>,
    /// The daemon lives (it holds its end of the pipe; it may hang).
    pub daemon: bool,
    /// The postmaster that the promise is about lives.
    pub postmaster: bool,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Wait for word of the daemon or the postmaster's end, at most until then.
    Wait(Option<Mono>),
    /// Stop the postmaster, tell, and end.
    Stop,
    /// Nobody needs it any more.
    End,
}

/// The guardian's decision.
pub fn duty(watch: &Watch) -> Duty {
    let due = watch.promise.filter(|_| watch.postmaster);
    match due {
        Some(at) if watch.now >= at => Duty::Stop,
        Some(at) => Duty::Wait(Some(at)),
        None if watch.daemon => Duty::Wait(None),
        // It was told to leave PostgreSQL alone, or PostgreSQL has ended.
        None => Duty::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duties() {
        let s = Mono::seconds;
        for (now, promise, daemon, postmaster, expected) in [
            // The daemon renews: it waits on, alive or not makes no difference before the instant.
            (5, Some(18), true, true, Duty::Wait(Some(s(18)))),
            (5, Some(18), false, true, Duty::Wait(Some(s(18)))),
            // It has died, or hangs.
            (18, Some(18), false, true, Duty::Stop),
            (18, Some(18), true, true, Duty::Stop),
            (99, Some(18), true, true, Duty::Stop),
            // Pause, standby, orderly end: nothing is stopped, and nobody is left behind.
            (99, None, true, true, Duty::Wait(None)),
            (99, None, false, true, Duty::End),
            // PostgreSQL has ended by itself.
            (99, Some(18), true, false, Duty::Wait(None)),
            (5, Some(18), false, false, Duty::End),
        ] {
            let watch = Watch { now: s(now), promise: promise.map(s), daemon, postmaster };
            assert_eq!(duty(&watch), expected, "{watch:?}");
        }
    }
}
