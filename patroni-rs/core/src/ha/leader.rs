//! The cluster has a leader: us or another (surface-ha-pg 4I).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::held_back::Reason;
use super::memory::Rewind;
use super::script::{Level, Step};
use super::sync_standby::Prepared;
use super::types::*;
use crate::model::Lsn;

/// How often PostgreSQL is asked to promote itself before another may try.
const PROMOTIONS: u32 = 2;
/// Time between two looks at members that do not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const DISOWNED: &str = "released leader key because I did not win it and somebody else has led since";
const UNCONFIRMED: &str = "released leader key again because nobody has confirmed that it was";

impl Cycle<'_> {
    /// A cycle under a known leader.
    pub(super) fn with_leader(&mut self) -> Step<String> {
        if self.has_lock() {
            return self.as_lock_owner();
        }
        let owner = self.cluster.leader_name().unwrap_or_default().to_owned();
        let me = self.name();
        if self.is_standby_cluster() {
            return self.follow(
                "cannot be a real primary in a standby cluster",
                format!("no action. I am ({me}), a secondary, and following a standby leader ({owner})"),
                false,
            );
        }
        self.follow(
            "demoting self because I do not have the lock and I was a leader",
            format!("no action. I am ({me}), a secondary, and following a leader ({owner})"),
            false,
        )
    }

    fn as_lock_owner(&mut self) -> Step<String> {
        if self.is_paused() && !self.pg.is_primary() {
            if self.failover_candidate() == Some(self.name()) {
                return Ok("waiting to become primary after promote...".into());
            }
            if !self.is_standby_cluster() {
                self.delete_leader(None)?;
                return Ok("removed leader lock because postgres is not running as primary".into());
            }
        }
        if !self.update_lock(true)? {
            return self.lost_update();
        }
        if let Some(line) = self.manual_failover_as_leader()? {
            return Ok(line);
        }
        self.ensure_checkpoint()?;
        if self.pg.is_primary() {
            self.m.start.leads();
        }
        let me = self.name();
        if self.is_standby_cluster() {
            let line = if self.pg.role == Role::StandbyLeader {
                format!("no action. I am ({me}), the standby leader with the lock")
            } else {
                "promoted self to a standby leader because i had the session lock".into()
            };
            return self.follow_remote(line);
        }
        self.enforce_primary(
            format!("no action. I am ({me}), the leader with the lock"),
            "promoted self to leader because I had the session lock",
        )
    }

    fn lost_update(&mut self) -> Step<String> {
        self.io.log(Level::Error, "failed to update leader lock");
        if !self.pg.is_primary() {
            return self.lease_expired();
        }
        if self.is_paused() {
            return Ok("continue to run as primary after failing to update leader lock in DCS".into());
        }
        self.demote(DemoteMode::ImmediateNolock)?;
        Ok("demoted self because failed to update leader lock in DCS".into())
    }

    /// Refreshes the leader key; with it the watchdog is fed.
    pub(super) fn update_lock(&mut self, publish: bool) -> Step<bool> {
        let mut status = None;
        if publish {
            match self.pg.row() {
                Some(row) => {
                    let (lsn, slots) = (row.wal_position, row.slots.clone());
                    self.m.own.at(lsn);
                    status = Some((lsn, Some(slots)));
                }
                None => self.io.log(Level::Error, "Exception when called state_handler.last_operation()"),
            }
        }
        let failsafe = self.failsafe_config();
        let ok = self.io.ask(ask::UpdateLeader { status, failsafe: failsafe.clone() })??;
        if !ok {
            self.drop_lease()?;
            return Ok(false);
        }
        // The DCS may be lost before it is read again: members that have just
        // been listed must be asked too.
        if failsafe.is_some() {
            self.m.failsafe.listed(failsafe);
        }
        self.lease_held();
        if self.watchdog_running {
            self.io.ask(ask::WatchdogKeepalive)?;
        }
        Ok(true)
    }

    /// May the lock go under which PostgreSQL has run here, now that its postmaster is not seen? Not seeing it is no proof
    /// (docs/safety.md, "What gives up the lock"): backends may outlive it, and a look may fail.
    pub(super) fn proven_gone(&mut self) -> Step<bool> {
        self.io.ask(ask::ProveGone)
    }

    pub(super) fn delete_leader(&mut self, last_lsn: Option<Lsn>) -> Step<()> {
        self.drop_lease()?;
        let confirmed = self.io.ask(ask::DeleteLeader { last_lsn })?;
        self.m.lock.given_away(confirmed);
        Ok(())
    }

    pub(super) fn release_leader_key(&mut self, last_lsn: Option<Lsn>) -> Step<()> {
        self.delete_leader(last_lsn)?;
        self.touch_member()?;
        self.log("Leader key released");
        Ok(())
    }

    fn ensure_checkpoint(&mut self) -> Step<()> {
        if self.m.rewind.state != Rewind::Checkpoint
            && self.pg.is_primary()
            && self.io.ask(ask::EnsureCheckpoint)?
        {
            self.m.rewind.leads();
        }
        Ok(())
    }

    /// The lock is ours: be a primary, or become one.
    pub(super) fn enforce_primary(&mut self, line: String, promote_line: &str) -> Step<String> {
        if !self.is_paused() {
            if let Some(line) = self.promotion_gate()? {
                return Ok(line);
            }
        }
        if self.pg.is_primary() {
            // It may have been promoted manually.
            self.m.lock.is_ours();
            self.set_role(Role::Primary)?;
            self.process_sync_replication()?;
            self.update_history()?;
            return Ok(line);
        }
        if matches!(self.pg.role, Role::Primary | Role::Promoted) {
            self.process_sync_replication()?;
            return Ok(line);
        }
        // A DCS that answers slowly may have used up the lease since it was won: then /sync
        // is another leader's to write, and PostgreSQL not ours to promote.
        if !self.is_leader() {
            return self.lease_expired();
        }
        if let Some(line) = self.inherited_lock()? {
            return Ok(line);
        }
        match self.sync_before_promote()? {
            Prepared::Ready => {}
            Prepared::KeyChanged => {
                self.watchdog_off_standby()?;
                self.held_back(Reason::SyncKeyChanged, None, &[]);
                return Ok(
                    "Postponing promotion because synchronous replication state was updated by somebody \
                           else"
                        .into(),
                );
            }
            Prepared::NamesNotSet => return self.give_way_unsynced(),
            Prepared::NotKnown => {
                self.watchdog_off_standby()?;
                self.held_back(Reason::SyncNamesNotSet, None, &[]);
                return Ok(
                    "Postponing promotion because PostgreSQL does not tell its synchronous_standby_names"
                        .into(),
                );
            }
        }
        if !self.is_leader() {
            return self.lease_expired();
        }
        self.m.failsafe.ended();
        self.m.own.on(None);
        self.m.backoff.promotes();
        self.m.rewind.forget();
        self.start_job(Job::Promote)?;
        Ok(promote_line.into())
    }

    /// A lock that this node has not won itself (found when the daemon started, or brought back with an old state of the
    /// DCS) may have been another's in between: a look at the others before the promotion, once. What shows that
    /// somebody has led since: a running primary, a later timeline or more WAL, not being in `/sync`. (The reference
    /// promotes at once, and loses what was acknowledged since: docs/safety.md S11.)
    fn inherited_lock(&mut self) -> Step<Option<String>> {
        if self.m.lock.won {
            return Ok(None);
        }
        // It was given away, and nobody knows whether that is still to be carried out.
        let given_away = match (self.m.lock.disowned_at.is_some(), self.m.lock.release_unsure) {
            (true, _) => Some((Reason::OtherHasLed, DISOWNED)),
            (_, true) => Some((Reason::LockNotRenewed, UNCONFIRMED)),
            _ => None,
        };
        if let Some((reason, line)) = given_away {
            self.watchdog_off_standby()?;
            self.held_back(reason, None, &[]);
            self.release_leader_key(None)?;
            return Ok(Some(line.into()));
        }
        let me = self.name();
        if self.seen().sync_is_active() && !self.cluster.sync.matches(me, true) {
            return self.disown(Reason::NotSynchronous, "", "I am not in /sync".into()).map(Some);
        }
        let known = self.seen().known_timeline();
        let mine = self.io.ask(ask::ReplicaTimeline { leader: Some(known) })?;
        let position = self.last_operation()?;
        let timeline = mine.unwrap_or(0);
        let bar = LeadCriteria { position, tolerated: None, least_timeline: 0, timeline };
        // All of them: the leader that was is stopping, or starting as a standby, and its key says so.
        let others = self.seen().other_members();
        let mut silent = Vec::new();
        for peer in self.poll(others, Some(StopPolling::Outranked(bar.clone())))? {
            let name = &peer.name;
            if !bar.is_met(&peer) {
                silent.extend((!peer.reachable).then(|| name.clone()));
                continue;
            }
            let (reason, why) = if peer.in_recovery == Some(false) {
                (Reason::PrimaryAlive, format!("{name} is a primary"))
            } else if bar.later_timeline(&peer).is_some() {
                (
                    Reason::BehindTimeline,
                    format!("{name} is on timeline {}, I am on {timeline}", peer.timeline),
                )
            } else {
                (Reason::PeerAhead, format!("the WAL of {name} is ahead of mine"))
            };
            return self.disown(reason, name, why).map(Some);
        }
        // A leader that has just heard that it is none is stopping.
        let now = self.io.now();
        let since = self.m.lock.inherited_since(now);
        if !silent.is_empty() && now < since + self.v.me.timing.ttl {
            let silent = silent.join(",");
            self.watchdog_off_standby()?;
            self.held_back(Reason::OtherHasLed, Some(&silent), &[]);
            self.m.wake_at = Some(now + LOOK_AGAIN);
            return Ok(Some(format!(
                "not promoting before {silent} answered because I did not win the leader key"
            )));
        }
        self.m.lock.is_ours();
        Ok(None)
    }

    fn disown(&mut self, reason: Reason, peer: &str, why: String) -> Step<String> {
        self.warn(format!("The leader key names me, and somebody else has led since: {why}"));
        self.watchdog_off_standby()?;
        self.held_back(reason, Some(peer).filter(|peer| !peer.is_empty()), &[]);
        self.release_leader_key(None)?;
        self.m.lock.disowned(self.io.now());
        Ok(DISOWNED.into())
    }

    /// Commits here would be acknowledged by nobody, or not as `/sync` says: another may do better.
    fn give_way_unsynced(&mut self) -> Step<String> {
        self.warn("Releasing the leader key voluntarily because synchronous_standby_names could not be set");
        self.watchdog_off_standby()?;
        self.m.backoff.sync_refused(self.io.now());
        self.held_back(Reason::SyncNamesNotSet, None, &[]);
        self.release_leader_key(None)?;
        Ok("Postponing promotion because synchronous_standby_names could not be set".into())
    }

    fn lease_expired(&mut self) -> Step<String> {
        self.watchdog_off_standby()?;
        self.held_back(Reason::LockNotRenewed, None, &[]);
        Ok("not promoting because failed to update leader lock in DCS".into())
    }

    /// A node that stays a standby has nothing that a watchdog would have to end, and
    /// nobody feeds it there: an armed one would reset a healthy node. The reference
    /// leaves it armed (surface-ha-pg 23-09).
    pub(super) fn watchdog_off_standby(&mut self) -> Step<()> {
        // One that was told to stop may not have, as long as it does not say what it is.
        let untold = self.pg.running && self.pg.role == Role::Demoted && self.pg.row().is_none();
        let writes = self.pg.is_primary() || matches!(self.pg.role, Role::Primary | Role::Promoted);
        if writes || untold {
            return Ok(());
        }
        self.watchdog_disable()
    }

    /// What keeps a lock owner from being primary (surface-ha-pg 4I-10).
    fn promotion_gate(&mut self) -> Step<Option<String>> {
        if !self.watchdog_running {
            if !self.io.ask(ask::WatchdogActivate)? {
                self.held_back(Reason::Watchdog, None, &[]);
                if self.pg.is_primary() {
                    self.demote(DemoteMode::Immediate)?;
                    return Ok(Some("Demoting self because watchdog could not be activated".into()));
                }
                self.release_leader_key(None)?;
                return Ok(Some("Not promoting self because watchdog could not be activated".into()));
            }
            self.watchdog_running = true;
        }
        if self.m.backoff.not_promoted >= PROMOTIONS && !self.pg.is_primary() {
            return self.give_way_unpromoted().map(Some);
        }
        if !self.m.backoff.take_pre_promote_failure() {
            return Ok(None);
        }
        self.warn("Releasing the leader key voluntarily because the pre-promote script failed");
        self.m.backoff.released(self.io.now());
        self.held_back(Reason::PrePromote, None, &[]);
        // The reference leaves the watchdog armed and unfed here (surface-ha-pg
        // 23-09): a healthy standby would be reset.
        self.watchdog_disable()?;
        self.release_leader_key(None)?;
        Ok(Some("Promotion cancelled because the pre-promote script failed".into()))
    }

    /// PostgreSQL cannot be asked to promote itself here (no descriptors, no program): another may do better. (The reference
    /// tries again forever.)
    fn give_way_unpromoted(&mut self) -> Step<String> {
        self.warn(
            "Releasing the leader key voluntarily because PostgreSQL could not be asked to promote itself",
        );
        self.m.backoff.gave_up_promotion(self.io.now());
        self.held_back(Reason::NotPromoted, None, &[]);
        self.watchdog_disable()?;
        self.release_leader_key(None)?;
        Ok("Promotion cancelled because PostgreSQL could not be asked to promote itself".into())
    }

    /// `/history` after a promotion (surface-ha-pg 10-22).
    fn update_history(&mut self) -> Step<()> {
        let timeline = self.row()?.timeline;
        let known = self.cluster.history.as_ref().map(|h| h.lines.clone()).unwrap_or_default();
        if timeline == 1 {
            if !known.is_empty() {
                self.io.ask(ask::WriteHistory("[]".into()))?;
            }
            return Ok(());
        }
        if timeline == 0 || super::history::is_current(&known, timeline) {
            return Ok(());
        }
        let fresh = self.io.ask(ask::History(timeline))?;
        let keep =
            self.cluster.config.as_ref().map_or(0, |_| self.m.config.max_timelines_history().max(0) as usize);
        if let Some(text) = super::history::merged(&known, fresh, keep) {
            self.io.ask(ask::WriteHistory(text))?;
        }
        Ok(())
    }
}
