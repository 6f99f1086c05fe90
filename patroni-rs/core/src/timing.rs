//! The three durations on which everything hangs.

use std::time::Duration;

use pyfmt::Value;

/// `ttl`, `loop_wait` and `retry_timeout` of the dynamic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Life of the leader key and the member keys without a renewal.
    pub ttl: Duration,
    /// Pause between two rounds of the HA loop.
    pub loop_wait: Duration,
    /// How long one operation may be retried.
    pub retry_timeout: Duration,
}

impl Timing {
    /// The keys with their defaults in seconds, in the reference's order.
    pub const KEYS: [(&'static str, i64); 3] = [("ttl", 30), ("loop_wait", 10), ("retry_timeout", 10)];

    /// The default of one of [`Timing::KEYS`] in seconds; 0 for others.
    pub fn default_seconds(key: &str) -> i64 {
        Timing::KEYS.iter().find(|(name, _)| *name == key).map_or(0, |(_, seconds)| *seconds)
    }

    /// By what `get` has for each key; the default for what is no sensible number of seconds. The effective
    /// configuration holds integers, that keep the rules of `patroni_config`.
    pub fn of<'a>(get: impl Fn(&str) -> Option<&'a Value>) -> Timing {
        let seconds = |key: &str| {
            let number = get(key).and_then(Value::as_f64).filter(|n| *n > 0.0 && *n < 1e9);
            Duration::from_secs_f64(number.unwrap_or(Timing::default_seconds(key) as f64))
        };
        Timing {
            ttl: seconds("ttl"),
            loop_wait: seconds("loop_wait"),
            retry_timeout: seconds("retry_timeout"),
        }
    }
}

impl Timing {
    /// Of whole seconds.
    pub fn seconds(ttl: u64, loop_wait: u64, retry_timeout: u64) -> Timing {
        let seconds = Duration::from_secs;
        Timing { ttl: seconds(ttl), loop_wait: seconds(loop_wait), retry_timeout: seconds(retry_timeout) }
    }

    /// For so long what the store has said may stand for what it would say now, where its watch would tell of a change and
    /// nothing else speaks against it: a sixth of the ttl, half of what passes between two cycles with the defaults. It
    /// leaves the time for two operations before the lease ends, as `loop_wait` has to (docs/safety.md).
    pub fn trust(&self) -> Duration {
        (self.ttl / 6).min(self.ttl.saturating_sub(self.retry_timeout * 2))
    }

    /// May what the store said `age` ago stand for one more cycle? The next one will still be in time to ask.
    pub fn still_stands(&self, age: Duration) -> bool {
        age.saturating_add(self.loop_wait) <= self.trust()
    }

    /// For so long after the HA loop was last seen alive may something keep the lock alive in its place.
    pub fn allowance(&self) -> Duration {
        self.loop_wait + self.retry_timeout
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::of(|_| None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_seconds_is_the_default() {
        for (text, ttl, loop_wait, retry_timeout) in [
            ("{}", 30, 10, 10),
            (r#"{"ttl": 40, "loop_wait": 5, "retry_timeout": 7}"#, 40, 5, 7),
            (r#"{"ttl": 0, "loop_wait": -1, "retry_timeout": "x"}"#, 30, 10, 10),
            (r#"{"ttl": 1e300, "loop_wait": null}"#, 30, 10, 10),
        ] {
            let config = pyfmt::json::loads(text).unwrap();
            let seconds = Duration::from_secs;
            let want = Timing {
                ttl: seconds(ttl),
                loop_wait: seconds(loop_wait),
                retry_timeout: seconds(retry_timeout),
            };
            assert_eq!(Timing::of(|key| config.get(key)), want, "{text}");
        }
    }

    #[test]
    fn how_long_an_answer_stands() {
        let seconds = Duration::from_secs;
        for (timing, trust, until) in [
            // With the defaults each cycle asks.
            (Timing::seconds(30, 10, 10), 5, None),
            (Timing::seconds(30, 1, 10), 5, Some(4)),
            (Timing::seconds(30, 5, 10), 5, Some(0)),
            (Timing::seconds(60, 2, 10), 10, Some(8)),
            // Two operations have to fit before the end of the lease.
            (Timing::seconds(24, 1, 11), 2, Some(1)),
            (Timing::seconds(20, 1, 10), 0, None),
            (Timing::seconds(20, 1, 30), 0, None),
        ] {
            assert_eq!(timing.trust(), seconds(trust), "{timing:?}");
            let last = (0..100).rev().find(|age| timing.still_stands(seconds(*age)));
            assert_eq!(last, until, "{timing:?}");
        }
    }
}
