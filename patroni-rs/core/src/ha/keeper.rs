//! The lock keeper: renews the lease beside the cycles, and only as long as the
//! cycles prove that they are alive; stops PostgreSQL before the lease can end.
//!
//! Pure: the daemon's keeper thread and the simulation drive it alike. It knows
//! no PGDATA and runs no query. Three promises with three owners:
//!
//! - the *lease* is what the DCS granted, counted from before the request was sent;
//! - the *permit* is what the HA loop grants at the end of each cycle;
//! - the *fence* is armed while PostgreSQL may be writing under that lease.

use std::time::Duration;

use super::types::Mono;

/// What the keeper has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Renew the lease now.
    Renew,
    /// The lease is about to end: stop the postmaster at once, whatever anybody else does.
    Fence,
    /// Nothing before then; any change of state asks anew.
    WaitUntil(Mono),
    /// Nothing until a change of state.
    Idle,
}

/// The keeper's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    ttl: Duration,
    loop_wait: Duration,
    retry_timeout: Duration,
    lease_until: Option<Mono>,
    permit_until: Mono,
    renew_at: Mono,
    armed: bool,
    fenced: bool,
}

impl Keeper {
    /// Nothing held, nothing permitted. Durations are those in force in the DCS client.
    pub fn new(ttl: Duration, loop_wait: Duration, retry_timeout: Duration) -> Keeper {
        Keeper {
            ttl,
            loop_wait,
            retry_timeout,
            lease_until: None,
            permit_until: Mono::ZERO,
            renew_at: Mono::ZERO,
            armed: false,
            fenced: false,
        }
    }

    /// New durations.
    pub fn set_timing(&mut self, ttl: Duration, loop_wait: Duration, retry_timeout: Duration) {
        (self.ttl, self.loop_wait, self.retry_timeout) = (ttl, loop_wait, retry_timeout);
    }

    /// The lock was acquired or refreshed by a request sent at `sent`.
    pub fn lease_confirmed(&mut self, sent: Mono) {
        // Renewals of the loop and of the keeper may arrive in either order.
        self.lease_until = self.lease_until.max(Some(sent + self.ttl));
        self.renew_at = sent + self.renew_interval();
        self.fenced = false;
    }

    /// The lock was given up or lost: nothing to renew, nothing to fence.
    pub fn lease_dropped(&mut self) {
        self.lease_until = None;
    }

    /// A cycle has ended: the loop is alive. Renewal is permitted for one more
    /// cycle and the longest DCS operation in it.
    pub fn cycle_ended(&mut self, now: Mono) {
        self.permit_until = now + self.loop_wait + self.retry_timeout;
    }

    /// May PostgreSQL be writing under the lease? Not in pause, not on a standby.
    pub fn arm(&mut self, armed: bool) {
        self.armed = armed;
    }

    /// A renewal sent at `sent` was refused or failed: try again soon.
    pub fn renewal_failed(&mut self, now: Mono) {
        self.renew_at = now + Duration::from_secs(1).min(self.renew_interval());
    }

    /// Until when the lock is promised.
    pub fn lease_until(&self) -> Option<Mono> {
        self.lease_until
    }

    fn renew_interval(&self) -> Duration {
        self.loop_wait.min(self.ttl / 3)
    }

    /// How long before the lease's end PostgreSQL is stopped: the time that an
    /// immediate stop takes, with room for a clock that drifts.
    pub fn fence_margin(&self) -> Duration {
        (self.ttl / 10).max(Duration::from_secs(2))
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Mono) -> Next {
        let Some(until) = self.lease_until else { return Next::Idle };
        let fence_at = until.saturating_sub(self.fence_margin());
        if self.armed && !self.fenced && now >= fence_at {
            self.fenced = true;
            return Next::Fence;
        }
        let may_renew = now < self.permit_until && now < until;
        if may_renew && now >= self.renew_at {
            return Next::Renew;
        }
        let mut wake = if self.armed && !self.fenced { fence_at } else { until };
        if may_renew {
            wake = wake.min(self.renew_at);
        }
        if wake > now {
            Next::WaitUntil(wake)
        } else {
            Next::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Mono {
        Duration::from_secs(seconds)
    }

    fn keeper() -> Keeper {
        let mut k = Keeper::new(s(30), s(10), s(10));
        k.lease_confirmed(s(0));
        k.arm(true);
        k
    }

    #[test]
    fn renews_while_permitted() {
        let mut k = keeper();
        k.cycle_ended(s(1));
        assert_eq!(k.next(s(1)), Next::WaitUntil(s(10)));
        assert_eq!(k.next(s(10)), Next::Renew);
        k.lease_confirmed(s(10));
        assert_eq!(k.lease_until(), Some(s(40)));
    }

    #[test]
    fn a_hung_loop_lets_the_lease_go_and_fences_before_its_end() {
        let mut k = keeper();
        k.cycle_ended(s(0));
        k.lease_confirmed(s(19));
        // The permit ended at 20; no renewal any more.
        assert_eq!(k.next(s(29)), Next::WaitUntil(s(46)));
        assert_eq!(k.next(s(46)), Next::Fence);
        assert_eq!(k.next(s(46)), Next::WaitUntil(s(49)));
    }

    #[test]
    fn a_dcs_that_does_not_answer_fences() {
        let mut k = keeper();
        k.cycle_ended(s(9));
        assert_eq!(k.next(s(10)), Next::Renew);
        k.renewal_failed(s(13));
        assert_eq!(k.next(s(13)), Next::WaitUntil(s(14)));
        assert_eq!(k.next(s(27)), Next::Fence);
    }

    #[test]
    fn nothing_is_fenced_without_lease_or_in_pause() {
        let mut k = keeper();
        k.arm(false);
        assert_ne!(k.next(s(29)), Next::Fence);
        k.arm(true);
        k.lease_dropped();
        assert_eq!(k.next(s(100)), Next::Idle);
    }
}
