//! The cluster has no leader (surface-ha-pg 4H).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::held_back::Reason;
use super::script::{Halt, Step};
use super::types::DemoteMode;

/// How long a node that must not win gives others to take the lock (surface-ha-pg 6-11).
pub(super) const RACE_BACKOFF: Duration = Duration::from_secs(2);

impl Cycle<'_> {
    /// A cycle without a leader.
    pub(super) fn without_leader(&mut self) -> Step<String> {
        if !self.is_healthiest()? {
            return self.lose_race();
        }
        self.still_fresh()?;
        if !self.acquire_lock()? {
            let line = self.follow(
                "demoted self after trying and failing to obtain lock",
                "following new leader after trying and failing to obtain lock",
                true,
            )?;
            let winner = self.cluster.leader_name().map(str::to_owned);
            self.held_back(Reason::LostRace, winner.as_deref(), &[]);
            return Ok(line);
        }
        let writes = self.pg.is_primary();
        // In a pause nobody else is promoted, so that a primary may have the lock.
        let fresh = if writes && self.is_paused() { Ok(()) } else { self.still_fresh() };
        if let Err(stale) = fresh {
            // A demotion gives the lock up on the proof that nothing writes any more.
            if writes {
                self.demote(DemoteMode::Immediate)?;
            } else {
                self.release_leader_key(None)?;
            }
            return Err(stale);
        }
        self.clear_failover_after_win()?;
        self.load_cluster()?;
        if self.is_standby_cluster() {
            return self
                .follow_remote("promoted self to a standby leader by acquiring session lock".to_owned());
        }
        self.enforce_primary(
            "acquired session lock as a leader".into(),
            "promoted self to leader by acquiring session lock",
        )
    }

    /// A cycle that has stood still (a frozen process, a hung disk) must not take the lock by what it saw before: others
    /// may have led, and been gone again, in between. (The reference does: docs/safety.md S9.)
    fn still_fresh(&mut self) -> Step<()> {
        let age = self.io.now().since(self.v.now);
        if age <= self.v.me.timing.allowance() {
            return Ok(());
        }
        self.warn(format!("This cycle began {} s ago, too long to take the leader lock", age.as_secs()));
        Err(Halt::Stale)
    }

    fn acquire_lock(&mut self) -> Step<bool> {
        let won = self.io.ask(ask::AcquireLeader)??;
        if won {
            self.m.lock.acquired();
            self.lease_held();
        } else {
            self.drop_lease()?;
        }
        Ok(won)
    }

    /// In pause a leader and a candidate in the key mean that the candidate is
    /// still to take over (surface-ha-pg 4H-05).
    fn clear_failover_after_win(&mut self) -> Step<()> {
        let Some(failover) = self.cluster.failover.clone() else { return Ok(()) };
        let keep = self.is_paused() && failover.leader.is_some() && failover.candidate.is_some();
        let request = if keep {
            self.log("Updating failover key after acquiring leader lock...");
            ask::WriteFailover {
                candidate: failover.candidate.clone(),
                scheduled_at: failover.scheduled_at.as_ref().map(|s| s.text.clone()),
                version: Some(failover.version.clone()),
            }
        } else {
            self.log("Cleaning up failover key after acquiring leader lock...");
            ask::WriteFailover { candidate: None, scheduled_at: None, version: None }
        };
        self.io.ask(request)?;
        Ok(())
    }

    fn lose_race(&mut self) -> Step<String> {
        let nofailover = self.v.me.tags.nofailover();
        // A manual failover need not choose the node that is furthest ahead, and
        // a nofailover node may be ahead of the node that wins.
        if self.failover_candidate().is_some() || (nofailover && !self.is_paused()) {
            self.arm_rewind_check()?;
            self.io.ask(ask::YieldRace(RACE_BACKOFF))?;
        }
        if nofailover {
            return self.follow(
                "demoting self because I am not allowed to become primary",
                "following a different leader because I am not allowed to promote",
                true,
            );
        }
        self.follow(
            "demoting self because i am not the healthiest node",
            "following a different leader because i am not the healthiest node",
            true,
        )
    }
}
