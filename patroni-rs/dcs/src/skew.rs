//! For how long a lock lives where the store's leader ends it by its own wall clock: Raft with a leader of the reference
//! (docs/stores/raft.md). Pure arithmetic.

use std::time::Duration;

/// Seconds. A clock that is ahead of ours by less is not counted: that is how long a write takes to come here. To what was
/// measured so much is added.
const NEAR: f64 = 0.5;

/// Seconds. Operators are told of a clock that is ahead by more.
const TOLD: f64 = 1.0;

/// How far a leader's clock is measured: what is ahead by more ends a lock before it is of use.
pub fn measured(ttl: Duration) -> Duration {
    ttl / 2
}

/// What is known of the clock of the store's leader, in seconds ahead of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Leader {
    /// Nothing yet.
    Unknown,
    /// It is ahead by no more than that.
    AtMost(f64),
    /// So it was measured.
    By(f64),
    /// By about [`measured`], or more.
    Far,
}

/// By how much clocks of others are ahead of ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ahead {
    /// That of the store's leader.
    pub leader: Leader,
    /// Of those that may come to lead the one that is ahead most, by what it has written, in seconds.
    pub other: f64,
}

/// What a lock is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// It lives so long at least after the request that writes it.
    Lives(Duration),
    /// It would be at its end in less than half of its time, or as it is written: no promise can be made of it.
    Ended,
    /// Nobody knows yet.
    Unknown,
}

/// Whose clock is to be set right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wrong {
    /// The leader's, by so many seconds; infinite: half the ttl, or more.
    Leader(f64),
    /// That of the one that has written.
    Other(f64),
}

impl Ahead {
    /// What a lock with that `ttl` is good for: a clock that is ahead takes from it. At most half of it: what is worse and
    /// is known to lead ends it, and who does not lead may never do.
    pub fn lock(self, ttl: Duration) -> Lock {
        let leader = match self.leader {
            Leader::Unknown => return Lock::Unknown,
            Leader::Far => return Lock::Ended,
            Leader::AtMost(by) => by,
            Leader::By(by) if by > NEAR => by + NEAR,
            Leader::By(_) => 0.0,
        };
        let other = if self.other > NEAR { self.other } else { 0.0 };
        let lost = Duration::try_from_secs_f64(leader.max(other)).unwrap_or(ttl).min(measured(ttl));
        Lock::Lives(ttl.saturating_sub(lost))
    }

    /// What operators have to be told of.
    pub fn wrong(self) -> Option<Wrong> {
        match self.leader {
            Leader::Far => Some(Wrong::Leader(f64::INFINITY)),
            Leader::By(by) if by > TOLD && by >= self.other => Some(Wrong::Leader(by)),
            _ => Some(Wrong::Other(self.other)).filter(|_| self.other > TOLD),
        }
    }

    /// Is all right again? A clock between that and [`Ahead::wrong`] is not told of anew.
    pub fn is_right(self) -> bool {
        matches!(self.leader, Leader::By(by) if by <= NEAR && self.other <= NEAR)
    }
}

impl Wrong {
    /// Is that news beside what was said last? A second more or less is none.
    pub fn is_news(self, said: Option<Wrong>) -> bool {
        match (self, said) {
            (Wrong::Leader(now), Some(Wrong::Leader(then)))
            | (Wrong::Other(now), Some(Wrong::Other(then))) => {
                now.is_infinite() != then.is_infinite() || (now - then).abs() >= 2.0
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    #[test]
    fn a_clock_that_is_ahead_takes_from_the_lock() {
        use Leader::{AtMost, By, Far, Unknown};
        for (leader, other, lives) in [
            (By(0.0), 0.0, 30_000),
            (By(0.5), 0.5, 30_000),
            (By(7.0), 0.0, 22_500),
            (By(7.0), 9.0, 21_000),
            (By(14.0), 0.0, 15_500),
            (By(14.9), 0.0, 15_000),
            // Just elected: what its first probe leaves open.
            (AtMost(15.0), 0.0, 15_000),
            (AtMost(3.0), 0.0, 27_000),
            // Who does not lead: not more than half.
            (By(0.0), 3600.0, 15_000),
            (By(0.0), f64::NAN, 30_000),
        ] {
            let lock = Ahead { leader, other }.lock(TTL);
            assert_eq!(lock, Lock::Lives(Duration::from_millis(lives)), "{leader:?} {other}");
        }
        for other in [0.0, 20.0] {
            assert_eq!(Ahead { leader: Far, other }.lock(TTL), Lock::Ended);
            assert_eq!(Ahead { leader: Unknown, other }.lock(TTL), Lock::Unknown);
        }
    }

    #[test]
    fn whose_clock_is_wrong() {
        use Leader::{AtMost, By, Far, Unknown};
        for (leader, other, wrong) in [
            (Unknown, 0.0, None),
            (AtMost(15.0), 0.9, None),
            (By(0.9), 0.0, None),
            (AtMost(15.0), 3.0, Some(Wrong::Other(3.0))),
            (By(4.0), 3.0, Some(Wrong::Leader(4.0))),
            (By(2.0), 3.0, Some(Wrong::Other(3.0))),
            (Far, 99.0, Some(Wrong::Leader(f64::INFINITY))),
        ] {
            assert_eq!(Ahead { leader, other }.wrong(), wrong, "{leader:?} {other}");
        }
        for (leader, other, right) in [
            (By(0.2), 0.1, true),
            (By(0.7), 0.1, false),
            (By(0.2), 0.7, false),
            (AtMost(0.2), 0.1, false),
            (Far, 0.0, false),
        ] {
            assert_eq!(Ahead { leader, other }.is_right(), right, "{leader:?} {other}");
        }
        let said = Some(Wrong::Leader(4.0));
        assert!(Wrong::Leader(4.0).is_news(None) && Wrong::Other(4.0).is_news(said));
        assert!(Wrong::Leader(6.5).is_news(said) && !Wrong::Leader(5.0).is_news(said));
        let far = Wrong::Leader(f64::INFINITY);
        assert!(far.is_news(said) && !far.is_news(Some(far)) && Wrong::Leader(3.0).is_news(Some(far)));
    }
}
