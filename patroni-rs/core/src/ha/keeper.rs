//! The lock keeper: renews the lease beside the cycles, and only as long as the
//! cycles prove that they are alive; stops PostgreSQL before the lease can end.
//!
//! Pure: the daemon's keeper thread and the simulation drive it alike. It knows
//! no PGDATA and runs no query. Three promises with three owners:
//!
//! - the *lease* is what the DCS granted, counted from before the request was sent;
//! - the *permit* is what the HA loop grants at the end of each cycle;
//! - the *fence* is armed while PostgreSQL may be writing under that lease.
//!
//! Two things shorten a promise that is out: the DCS has said that the lease is gone, or the wall clock has jumped ahead,
//! which it does after a virtual machine stood still with all its clocks.

use std::time::Duration;

use super::guardian::Held;
use super::types::{Mono, Role};
use crate::timing::Timing;

/// How long an immediate stop (SIGQUIT) may take before SIGKILL follows. Of the
/// keeper's fence and of the guardian's alike.
pub const QUIT_PATIENCE: Duration = Duration::from_secs(1);
/// The guardian acts so much after the keeper would have: the keeper comes first,
/// and a renewal that is on its way at that instant (at most 200 ms, `shell::lease`)
/// still counts.
pub const GUARDIAN_GRACE: Duration = Duration::from_millis(250);

/// After the DCS has said that the lease is gone, the loop has so long to look what is the matter: another one may lead
/// already, or be about to.
pub const GONE_PATIENCE: Duration = Duration::from_secs(2);

/// May the server write on the strength of the lock?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The cluster is paused, or is being made: nobody stops anything.
    Off,
    /// A standby, or a standby leader.
    Reads,
    /// A primary, or a standby that has been told to become one.
    Writes,
    /// It is to be a standby, or nothing is known of it: as before, as long as it
    /// is the same postmaster. A primary does not become a standby while it runs.
    Unknown,
}

/// What is known of a server, as far as its writing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writer {
    /// The role in which it is believed to run.
    pub role: Role,
    /// The order to promote it has gone out.
    pub promoting: bool,
    /// It has said that it is a primary, which counts where nothing is believed: it was lost sight of, say, and is there
    /// again.
    pub says_primary: bool,
}

impl Arm {
    /// By what is known of the server. `exempt`: the cluster is paused, or is being made.
    pub fn of(server: Writer, exempt: bool) -> Arm {
        match server.role {
            _ if exempt => Arm::Off,
            Role::Primary | Role::Promoted => Arm::Writes,
            _ if server.promoting => Arm::Writes,
            Role::Replica | Role::StandbyLeader => Arm::Reads,
            _ if server.says_primary => Arm::Writes,
            _ => Arm::Unknown,
        }
    }
}

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
    timing: Timing,
    /// How long the lease that the key is attached to is known to last: a new ttl makes a
    /// new lease, which the loop moves the key to.
    granted: Duration,
    /// What the store grants, however long the ttl is.
    at_most: Duration,
    lease_until: Option<Mono>,
    /// The end of the lease, also of one that was lost since: what was a primary
    /// under it must be gone by then.
    end: Option<Mono>,
    /// How it was last armed, for which server: a number tells one postmaster from the next.
    arm: Arm,
    server: u64,
    permit_until: Mono,
    renew_at: Mono,
    armed: bool,
    fenced: bool,
    /// The lease was said to be gone then, and this was promised before.
    gone: Option<(Mono, Option<Mono>)>,
    /// The wall clock jumped ahead then, and nobody has confirmed the lock since.
    jumped: Option<Mono>,
    /// The watch showed then that the key is not ours any more, and no request that was sent since has confirmed the lock.
    suspected: Option<Mono>,
    /// When the newest request was sent that has confirmed the lock.
    confirmed: Mono,
    /// The same of the store's answers alone, and None once anything speaks against it.
    heard: Option<Mono>,
    /// When the newest request was sent that has read the cluster.
    read: Mono,
}

impl Keeper {
    /// Nothing held, nothing permitted. Durations are those in force in the DCS client.
    pub fn new(timing: Timing) -> Keeper {
        Keeper {
            timing,
            granted: timing.ttl,
            at_most: Duration::MAX,
            lease_until: None,
            end: None,
            arm: Arm::Unknown,
            server: 0,
            permit_until: Mono::ZERO,
            renew_at: Mono::ZERO,
            armed: false,
            fenced: false,
            gone: None,
            jumped: None,
            suspected: None,
            confirmed: Mono::ZERO,
            heard: None,
            read: Mono::ZERO,
        }
    }

    /// New durations, from `now` on. A shorter ttl holds for the promise that is out:
    /// the key may be attached to a lease of that length from now on, even if we never hear
    /// of it. A longer one does not before the loop has moved the key.
    pub fn set_timing(&mut self, timing: Timing, now: Mono) {
        self.timing = timing;
        self.shorten(timing.ttl, now);
    }

    /// What the store grants from now on: ZooKeeper shortens a session, of Consul's but half the ttl is certain. Less
    /// than before holds for the promise that is out; more does not before the lock is confirmed.
    pub fn store_grants(&mut self, granted: Duration, now: Mono) {
        self.at_most = granted;
        self.shorten(granted, now);
    }

    fn shorten(&mut self, ttl: Duration, now: Mono) {
        if ttl < self.granted {
            self.granted = ttl;
            let at_most = |at: Option<Mono>| at.map(|at| at.min(now + ttl));
            (self.lease_until, self.end) = (at_most(self.lease_until), at_most(self.end));
        }
    }

    /// The lock is about to be asked for, at `sent`: a server that writes already must be gone by the end of the lease
    /// that this may bring, should the loop never hear the answer. A promise that is out stands as it is; one whose end
    /// a pause has let pass does not count.
    pub fn lease_asked(&mut self, sent: Mono) {
        self.end = self.end.filter(|end| *end > sent).or(Some(sent + self.timing.ttl.min(self.at_most)));
    }

    /// The lock was acquired or refreshed by the loop with a request sent at `sent`.
    pub fn lease_confirmed(&mut self, sent: Mono) {
        self.granted = self.timing.ttl.min(self.at_most);
        self.lease_renewed(sent);
    }

    /// The lease that the key is attached to was renewed by a request sent at `sent`.
    pub fn lease_renewed(&mut self, sent: Mono) {
        if self.jumped.is_some_and(|at| sent < at) {
            // From before a time that this clock has missed.
            return;
        }
        (self.jumped, self.gone) = (None, None);
        self.confirmed = self.confirmed.max(sent);
        // Renewals of the loop and of the keeper may arrive in either order.
        self.lease_until = self.lease_until.max(Some(sent + self.granted));
        self.end = self.lease_until;
        if self.suspected.is_none_or(|at| at <= sent) {
            self.suspected = None;
            self.heard = self.heard.max(Some(sent));
            self.renew_at = sent + self.renew_interval();
        }
        self.fenced = false;
    }

    /// The lock holds because all peers have consented, at `sent`: of the store nothing is known.
    pub fn lease_consented(&mut self, sent: Mono) {
        self.lease_confirmed(sent);
        self.heard = None;
    }

    /// Does what the store has said of the lock stand for one more cycle? Its end is promised by that answer and by none
    /// later.
    pub fn still_stands(&self, now: Mono) -> bool {
        let held = self.lease_until.is_some_and(|until| now < until);
        held && self.heard.is_some_and(|at| self.timing.still_stands(now.since(at)))
    }

    /// The lock was lost: nothing to renew. A primary that still runs is stopped
    /// when the lease would have ended, if nobody has done so before.
    pub fn lease_dropped(&mut self) {
        (self.lease_until, self.heard) = (None, None);
    }

    /// The lock was given up by one who does not write any more: nothing to fence.
    pub fn lease_released(&mut self) {
        (self.lease_until, self.heard) = (None, None);
        self.end = None;
        self.gone = None;
    }

    /// A cycle has ended: the loop is alive. Renewal is permitted for one more
    /// cycle and the longest DCS operation in it.
    pub fn cycle_ended(&mut self, now: Mono) {
        self.permit_until = now + self.timing.allowance();
    }

    /// No cycle ends while the daemon does, and its orderly stop makes progress. Not a new permit, if the last one is over.
    pub fn stop_goes_on(&mut self, now: Mono) {
        if now < self.permit_until {
            self.cycle_ended(now);
        }
    }

    /// May this server (any number that no other postmaster has) be writing under
    /// the lease?
    pub fn arm(&mut self, arm: Arm, server: u64) {
        let other = self.server != server;
        (self.arm, self.server) = (arm, server);
        if other || arm == Arm::Off {
            // What a lock that is gone had promised concerns no later server.
            self.end = self.lease_until;
            self.gone = None;
        }
        if other && server != 0 && arm == Arm::Writes {
            // Somebody has started it again before the loop could give the lock up.
            self.fenced = false;
        }
        self.armed = match arm {
            Arm::Off | Arm::Reads => false,
            Arm::Writes => true,
            Arm::Unknown => self.armed && !other,
        };
    }

    /// How it was last armed, for which server.
    pub fn last_armed(&self) -> (Arm, u64) {
        (self.arm, self.server)
    }

    /// Is there a server that may be writing, and is fenced when the promise ends?
    pub fn is_armed(&self) -> bool {
        self.armed
    }

    /// When a guardian outside of the daemon has to stop the server, unless it is
    /// told something else before; None: it must not.
    pub fn promise(&self) -> Option<Mono> {
        self.fence_at().map(|at| at + GUARDIAN_GRACE)
    }

    /// What may be given up in this daemon's place once it has ended, and its server too: nothing in a pause.
    pub fn held(&self) -> Option<Held> {
        let until = self.lease_until.filter(|_| self.arm != Arm::Off)?;
        Some(Held { until, grace: self.timing.loop_wait })
    }

    fn fence_at(&self) -> Option<Mono> {
        self.end.filter(|_| self.armed).map(|end| end - self.fence_margin())
    }

    /// A renewal sent at `sent` was refused or failed: try again soon.
    pub fn renewal_failed(&mut self, now: Mono) {
        self.renew_at = now + Duration::from_secs(1).min(self.renew_interval());
    }

    /// The DCS has said, to a request sent at `sent`, that the lease that the key is attached to is gone. A server that writes under it is stopped soon, unless
    /// the loop turns out to be alive and to know ([`Keeper::cluster_read`]); at once where that is no news but the
    /// confirmation of what a jump of the clock has shown.
    pub fn lease_gone(&mut self, sent: Mono, now: Mono) {
        if self.lease_until.is_none() || sent < self.confirmed {
            // The loop knows better: it has given the lock up, or moved the key to another lease.
            return;
        }
        let patience = if self.jumped.is_some() { Duration::ZERO } else { GONE_PATIENCE };
        self.gone = Some((now, self.end));
        (self.lease_until, self.heard) = (None, None);
        self.end = self.end.map(|end| end.min(now + patience + self.fence_margin()));
        if self.jumped.take().is_some() {
            self.gone = None;
        }
    }

    /// The watch of the store shows that the leader key is not ours any more. That may be old, or our own doing, so the store is
    /// asked at once. (Not by a keeper whose loop hangs for long: that would prolong the lease if it is not so.)
    pub fn key_seen_gone(&mut self, now: Mono) {
        if self.lease_until.is_some() {
            (self.suspected, self.heard) = (Some(now), None);
            self.renew_at = now;
        }
    }

    /// The loop has read the cluster, with a request sent at `sent`: it knows what became of the lock, and what to do.
    /// For it holds what was promised before the lease was said to be gone.
    pub fn cluster_read(&mut self, sent: Mono) {
        self.read = self.read.max(sent);
        if let Some((_, end)) = self.gone.take_if(|(at, _)| sent >= *at) {
            self.end = end;
        }
    }

    /// The wall clock has jumped ahead of this one by `ahead`: somebody has set it, or this machine stood still with all its
    /// clocks and they have set it right. So the lock has to be confirmed at once; and when nobody does, also in the
    /// time that the loop has for it, then what this clock has missed counts.
    pub fn clock_jumped(&mut self, now: Mono, ahead: Duration) {
        self.jumped = Some(now);
        self.heard = None;
        self.renew_at = now;
        let patience = now + self.timing.retry_timeout + GONE_PATIENCE + self.fence_margin();
        let missed = |at: Mono| at.min((at - ahead).max(patience));
        (self.lease_until, self.end) = (self.lease_until.map(missed), self.end.map(missed));
    }

    /// Has a jump of the clock made the lock doubtful?
    pub fn is_in_doubt(&self) -> bool {
        self.jumped.is_some()
    }

    /// Is the loop to look what became of the lock, and not to go by what it has read before?
    pub fn wants_look(&self) -> bool {
        self.gone.is_some() || self.jumped.is_some_and(|at| self.read < at)
    }

    /// How often the loop runs.
    pub fn loop_wait(&self) -> Duration {
        self.timing.loop_wait
    }

    /// Until when the lock is promised.
    pub fn lease_until(&self) -> Option<Mono> {
        self.lease_until
    }

    /// May a server be started that will write? Not one that the keeper would stop at once.
    pub fn may_start_writing(&self, now: Mono) -> bool {
        self.lease_until.is_some_and(|until| now + self.fence_margin() < until)
    }

    /// A little later than the loop renews, which it does when what was heard no longer stands: where one asks two need not.
    fn renew_interval(&self) -> Duration {
        let loops = self.timing.loop_wait.max(self.timing.trust());
        (loops + loops / 5).min(self.granted * 2 / 5)
    }

    /// How long before the lease's end PostgreSQL is stopped: the time that an
    /// immediate stop takes, with room for a clock that drifts. By the lease that is out: with
    /// the margin of a much longer ttl it would be over before the key is attached to the new one.
    pub fn fence_margin(&self) -> Duration {
        (self.granted / 10).max(Duration::from_secs(2))
    }

    /// What to do at `now`.
    pub fn next(&mut self, now: Mono) -> Next {
        let fence_at = self.fence_at().filter(|_| !self.fenced);
        if fence_at.is_some_and(|at| now >= at) {
            self.fenced = true;
            return Next::Fence;
        }
        let until = self.lease_until.filter(|until| now < *until);
        let renew_at = until.filter(|_| now < self.permit_until).map(|_| self.renew_at);
        if renew_at.is_some_and(|at| now >= at) {
            return Next::Renew;
        }
        let wake = [fence_at.or(until), renew_at].into_iter().flatten().min();
        wake.filter(|at| *at > now).map_or(Next::Idle, Next::WaitUntil)
    }
}

#[cfg(test)]
mod tests;
