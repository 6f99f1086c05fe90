//! What a session of ZooKeeper is good for: how often to be heard, and how long the lock is promised. Pure arithmetic.

use std::time::Duration;

use crate::lock::Granted;
use crate::Timing;

/// A ZooKeeper whose tick is longer than this (its default is 2 or 3 seconds) is not counted with, unless what it has
/// granted shows it.
const LONGEST_TICK: Duration = Duration::from_secs(4);

/// A connection without traffic sends a heartbeat so often. kazoo's rule, as the reference sets it, and at least fifteen
/// in a session: what the promise loses by it is little.
pub fn ping_interval(timing: &Timing, session: Duration) -> Duration {
    let seconds = Duration::from_secs;
    let reference = timing.loop_wait.saturating_sub(seconds(2)).max(seconds(2)) / 2;
    reference.min(session / 15).max(Duration::from_millis(200))
}

/// A server that leaves anything unanswered for so long is left for another one.
pub fn patience(timing: &Timing) -> Duration {
    (timing.retry_timeout / 2).clamp(Duration::from_secs(1), Duration::from_secs(4))
}

/// A session, as it was asked for and as the servers hold it.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// How long it was to be.
    pub asked: Duration,
    /// How long it is.
    pub granted: Duration,
}

/// How long the session lives at least after a request was sent that the ensemble has **committed**.
///
/// The servers count from when their leader has last heard of the session, and it does not hear of what a follower
/// answers by itself before it asks the follower, twice a tick. So a follower may have answered us, and be cut off (with
/// us: it often runs on our machine) before the leader knows. What the leader knew when it let our request through is all
/// but the last half tick, and before that we were heard of within one interval of heartbeats.
///
/// The tick is not told. Servers grant between two and twenty of them, so a session that was shortened or lengthened
/// shows it.
pub fn promise(session: Session, timing: &Timing) -> Granted {
    let Session { asked, granted } = session;
    let tick = match granted.cmp(&asked) {
        std::cmp::Ordering::Less => granted / 20,
        std::cmp::Ordering::Greater => granted / 2,
        std::cmp::Ordering::Equal => (granted / 2).min(LONGEST_TICK),
    };
    Granted { ttl: granted.saturating_sub(ping_interval(timing, granted) + tick / 2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(ttl: u64, loop_wait: u64, retry_timeout: u64) -> Timing {
        let s = Duration::from_secs;
        Timing { ttl: s(ttl), loop_wait: s(loop_wait), retry_timeout: s(retry_timeout) }
    }

    #[test]
    fn heartbeats_and_promises() {
        for (timing, session, interval, promised) in [
            (timing(30, 10, 10), 30_000, 2000, 26_000),
            // Shortened: the tick is 2 s, then 200 ms.
            (timing(60, 10, 10), 40_000, 2666, 36_333),
            (timing(30, 10, 10), 4000, 266, 3633),
            // Lengthened: the tick is 20 s.
            (timing(20, 3, 4), 40_000, 1000, 29_000),
            (timing(20, 3, 4), 20_000, 1000, 17_000),
            (timing(2, 1, 1), 2000, 200, 1300),
        ] {
            let session = Duration::from_millis(session);
            let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or_default();
            assert_eq!(millis(ping_interval(&timing, session)), interval, "{timing:?}");
            let granted = Session { asked: timing.ttl, granted: session };
            assert_eq!(millis(promise(granted, &timing).ttl), promised, "{timing:?}");
        }
        let nothing = Session { asked: Duration::from_secs(9), granted: Duration::ZERO };
        assert_eq!(promise(nothing, &timing(20, 3, 4)).ttl, Duration::ZERO);
    }

    #[test]
    fn how_long_a_silent_server_is_waited_for() {
        for (retry, millis) in [(1, 1000), (3, 1500), (10, 4000)] {
            assert_eq!(patience(&timing(20, 3, retry)).as_millis(), millis);
        }
    }
}
