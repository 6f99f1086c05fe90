//! Instants of the clock that promises and waits go by.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A moment on a clock that never goes back and that counts suspended time (`CLOCK_BOOTTIME`): the time since an
/// arbitrary start. A type of its own, so that no span is taken for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// The clock's start.
    pub const ZERO: Mono = Mono(Duration::ZERO);

    /// So long after the clock's start.
    pub const fn at(since_start: Duration) -> Mono {
        Mono(since_start)
    }

    /// For tests and models: so many seconds after the clock's start.
    pub const fn seconds(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    /// The time since the clock's start, for timers and messages.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; nothing if it is still to come.
    pub fn since(self, earlier: Mono) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A moment beyond all time is the last one.
impl Add<Duration> for Mono {
    type Output = Mono;

    fn add(self, span: Duration) -> Mono {
        Mono(self.0.saturating_add(span))
    }
}

impl AddAssign<Duration> for Mono {
    fn add_assign(&mut self, span: Duration) {
        *self = *self + span;
    }
}

/// Not before the clock's start.
impl Sub<Duration> for Mono {
    type Output = Mono;

    fn sub(self, span: Duration) -> Mono {
        Mono(self.0.saturating_sub(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_counted_and_cut_off_at_the_ends_of_time() {
        let (early, late, span) = (Mono::seconds(3), Mono::seconds(5), Duration::from_secs(2));
        assert_eq!((late.since(early), early.since(late)), (span, Duration::ZERO));
        assert_eq!((early + span, late - span, early - 2 * span), (late, early, Mono::ZERO));
        assert_eq!(late + Duration::MAX, Mono::at(Duration::MAX));
        let mut moving = early;
        moving += span;
        assert_eq!(moving.since_start(), Duration::from_secs(5));
    }
}
