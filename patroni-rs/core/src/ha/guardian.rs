//! The guardian: a process of its own that stops PostgreSQL when the daemon has
//! died or hangs and the promise it last made is about to be broken.
//!
//! Pure. What it is promised is [`Keeper::promise`](super::keeper::Keeper::promise):
//! the same instant by the same rule, a moment later, so that a keeper that lives
//! comes first; whether the wall clock has jumped since; and until when the leader lock is held, which it gives up when
//! daemon and server have both ended. It knows nothing else: no DCS, no PGDATA, no role.

use std::time::Duration;

use super::types::Mono;

/// When the wall clock has jumped ahead, the keeper of a daemon that lives says a word at once; while it asks the DCS, in
/// the 3 s that this may take.
pub const JUMP_PATIENCE: Duration = Duration::from_secs(5);

/// The wall clock has jumped ahead, and no word has come since: this machine may have stood still with all its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubt {
    /// Since then, by the clock that may have stood still.
    pub since: Mono,
    /// What that clock has missed, if so.
    pub missed: Duration,
}

impl Doubt {
    /// After one more jump, now.
    #[must_use]
    pub fn after(before: Option<Doubt>, now: Mono, ahead: Duration) -> Doubt {
        before.map_or(Doubt { since: now, missed: ahead }, |doubt| Doubt {
            missed: doubt.missed + ahead,
            ..doubt
        })
    }

    /// When a promise is over. Of a daemon that is dead nobody will ever ask whether the lock is still there: what was
    /// missed counts at once.
    fn due(&self, promise: Mono, daemon: bool) -> Mono {
        let least = if daemon { self.since + JUMP_PATIENCE } else { Mono::ZERO };
        promise.min((promise - self.missed).max(least))
    }
}

/// What there is of the server that the promise is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// Its postmaster lives.
    Lives,
    /// Its postmaster has ended, and backends that it has started have not: with clients that never wait they go on
    /// committing.
    Remains,
    /// Nothing.
    Gone,
}

/// The leader lock, as the daemon held it when it said its last word: never in a pause, nor while the cluster is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The end of its lease, if nobody renews it.
    pub until: Mono,
    /// So long a supervisor has to start the daemon again.
    pub grace: Duration,
}

/// All that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// Its clock, `CLOCK_BOOTTIME`: it counts suspension.
    pub now: Mono,
    /// The last promise; None: nothing is to be stopped.
    pub promise: Option<Mono>,
    /// Whether that instant can be believed.
    pub doubt: Option<Doubt>,
    /// The daemon lives (it holds its end of the pipe; it may hang).
    pub daemon: bool,
    /// The server that the promise is about.
    pub server: Server,
    /// The lock is held.
    pub held: Option<Held>,
    /// Since when there is neither a daemon nor a server.
    pub vacant: Option<Mono>,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Wait for word of the daemon or the postmaster's end, at most until then.
    Wait(Option<Mono>),
    /// Stop the postmaster and what it has left, tell, and end.
    Stop,
    /// Have the lock given up, if nothing at all is left of the server, and end.
    Release,
    /// Nobody needs it any more.
    End,
}

/// The guardian's decision.
pub fn duty(watch: &Watch) -> Duty {
    let due = watch.promise.filter(|_| watch.server != Server::Gone);
    let due = due.map(|at| watch.doubt.map_or(at, |doubt| doubt.due(at, watch.daemon)));
    match due {
        Some(at) if watch.now >= at => Duty::Stop,
        // Nobody will ever stop them, and whoever starts the next daemon may give the lock away at once: the reference
        // does so when a start has failed, which they make fail.
        Some(_) if watch.server == Server::Remains && !watch.daemon => Duty::Stop,
        Some(at) => Duty::Wait(Some(at)),
        None if watch.daemon => Duty::Wait(None),
        // It was told to leave PostgreSQL alone, or PostgreSQL has ended.
        None => vacancy(watch),
    }
}

/// The daemon has ended, and nothing is to be stopped. Where the server has ended too, others need not wait for the lease.
fn vacancy(watch: &Watch) -> Duty {
    let Some(held) = watch.held.filter(|_| watch.server == Server::Gone) else { return Duty::End };
    let at = watch.vacant.unwrap_or(watch.now) + held.grace;
    match at >= held.until {
        // It would be no sooner than what happens anyway.
        true => Duty::End,
        false if watch.now >= at => Duty::Release,
        false => Duty::Wait(Some(at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duties() {
        let at = Mono::seconds;
        use Server::{Gone, Lives, Remains};
        for (now, promise, daemon, server, expected) in [
            // The daemon renews: it waits on, alive or not makes no difference before the instant.
            (5, Some(18), true, Lives, Duty::Wait(Some(at(18)))),
            (5, Some(18), false, Lives, Duty::Wait(Some(at(18)))),
            // It has died, or hangs.
            (18, Some(18), false, Lives, Duty::Stop),
            (18, Some(18), true, Lives, Duty::Stop),
            (99, Some(18), true, Lives, Duty::Stop),
            // Pause, standby, orderly end: nothing is stopped, and nobody is left behind.
            (99, None, true, Lives, Duty::Wait(None)),
            (99, None, false, Lives, Duty::End),
            // PostgreSQL has ended by itself.
            (99, Some(18), true, Gone, Duty::Wait(None)),
            (5, Some(18), false, Gone, Duty::End),
            // Its backends have not: a daemon that lives ends them itself, in its time.
            (5, Some(18), true, Remains, Duty::Wait(Some(at(18)))),
            (18, Some(18), true, Remains, Duty::Stop),
            (5, Some(18), false, Remains, Duty::Stop),
            (99, None, false, Remains, Duty::End),
        ] {
            let (held, vacant) = (None, None);
            let watch =
                Watch { now: at(now), promise: promise.map(at), doubt: None, daemon, server, held, vacant };
            assert_eq!(duty(&watch), expected, "{watch:?}");
        }
    }

    /// Nobody is left who could write, or come back.
    #[test]
    fn when_the_lock_is_given_up() {
        let at = Mono::seconds;
        use Server::{Gone, Lives, Remains};
        let held = |until| Some(Held { until: at(until), grace: Duration::from_secs(10) });
        for (now, promise, daemon, server, held, vacant, expected) in [
            // A supervisor may start the daemon again.
            (5, Some(27), false, Gone, held(30), Some(5), Duty::Wait(Some(at(15)))),
            (14, Some(27), false, Gone, held(30), Some(5), Duty::Wait(Some(at(15)))),
            (15, Some(27), false, Gone, held(30), Some(5), Duty::Release),
            (99, None, false, Gone, held(130), Some(5), Duty::Release),
            // What is left of the server is stopped first.
            (15, Some(27), false, Remains, held(30), Some(5), Duty::Stop),
            (15, Some(27), false, Lives, held(30), None, Duty::Wait(Some(at(27)))),
            (15, None, false, Remains, held(30), Some(5), Duty::End),
            (15, None, false, Lives, held(30), Some(5), Duty::End),
            // A daemon that lives sees to it itself.
            (15, Some(27), true, Gone, held(30), None, Duty::Wait(None)),
            (15, None, true, Gone, held(30), None, Duty::Wait(None)),
            // The lease ends as soon by itself.
            (5, Some(27), false, Gone, held(15), Some(5), Duty::End),
            (15, Some(27), false, Gone, held(15), Some(5), Duty::End),
            // In a pause, and where nobody leads.
            (15, None, false, Gone, None, Some(5), Duty::End),
        ] {
            let promise = promise.map(at);
            let vacant = vacant.map(at);
            let watch = Watch { now: at(now), promise, doubt: None, daemon, server, held, vacant };
            assert_eq!(duty(&watch), expected, "{watch:?}");
        }
    }

    /// A machine stood still with all its clocks, and the wall clock was set right.
    #[test]
    fn what_its_clock_has_missed_counts() {
        let (s, at) = (Duration::from_secs, Mono::seconds);
        for (now, missed, daemon, expected) in [
            // The daemon died before it could ask for the lock.
            (100, 60, false, Duty::Stop),
            (100, 10, false, Duty::Wait(Some(at(108)))),
            (108, 10, false, Duty::Stop),
            // One that lives says a word; one that hangs does not.
            (100, 60, true, Duty::Wait(Some(at(105)))),
            (105, 60, true, Duty::Stop),
            (100, 10, true, Duty::Wait(Some(at(108)))),
            // Never later than what was promised.
            (100, 0, true, Duty::Wait(Some(at(118)))),
        ] {
            let doubt = Some(Doubt { since: at(100), missed: s(missed) });
            let (promise, server) = (Some(at(118)), Server::Lives);
            let watch = Watch { now: at(now), promise, doubt, daemon, server, held: None, vacant: None };
            assert_eq!(duty(&watch), expected, "{watch:?}");
            // A pause, a standby: nothing is stopped.
            let idle = if daemon { Duty::Wait(None) } else { Duty::End };
            assert_eq!(duty(&Watch { promise: None, ..watch }), idle);
        }
        let late = Watch {
            now: at(102),
            promise: Some(at(103)),
            doubt: None,
            daemon: true,
            server: Server::Lives,
            held: None,
            vacant: None,
        };
        let doubt = Some(Doubt { since: at(100), missed: s(60) });
        assert_eq!(duty(&Watch { doubt, ..late }), Duty::Wait(Some(at(103))));
    }

    #[test]
    fn jumps_add_up() {
        let (s, at) = (Duration::from_secs, Mono::seconds);
        let first = Doubt::after(None, at(100), s(7));
        assert_eq!(first, Doubt { since: at(100), missed: s(7) });
        assert_eq!(Doubt::after(Some(first), at(103), s(5)), Doubt { since: at(100), missed: s(12) });
    }
}
