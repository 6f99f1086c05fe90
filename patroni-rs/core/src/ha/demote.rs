//! To stop being a primary (surface-ha-pg 9.1).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::leaderless::RACE_BACKOFF;
use super::memory::Demotion;
use super::request::SyncNames;
use super::script::{Halt, Step};
use super::types::*;
use crate::model::ShutdownCheckpoint;

/// How long a start may take where `primary_start_timeout` is 0, which is meant for crashes.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long somebody may take to show that he has the shutdown checkpoint of a switchover, once the server is down.
const HEIR_PATIENCE: Duration = Duration::from_secs(2);

/// Can somebody take over, after a stop?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heirs {
    Some,
    NotYet,
    None,
}

impl Cycle<'_> {
    /// Demotion within this cycle: nobody waits for anything but the stop itself.
    pub(super) fn demote(&mut self, mode: DemoteMode) -> Step<()> {
        self.log(format!("Demoting self ({})", mode.as_str()));
        // One in steps that the DCS was lost in is over as well.
        self.m.demotion = None;
        self.arm_rewind_check()?;
        let stop = if mode == DemoteMode::Offline { StopMode::Fast } else { StopMode::Immediate };
        let stopped = self.io.ask(ask::Stop { mode: stop, timeout: self.stop_timeout() })?;
        // A stop that succeeds disarms it.
        self.watchdog_running &= !stopped;
        self.set_role(Role::Demoted)?;
        self.drop_lease()?;
        if mode == DemoteMode::Immediate {
            // The lock of a primary that cannot be stopped is not for others to take.
            if stopped {
                self.release_leader_key(None)?;
            }
            self.io.ask(ask::YieldRace(RACE_BACKOFF))?;
        }
        let source = if mode == DemoteMode::Offline { None } else { self.fresh_source()?.0 };
        self.forget_sync_standbys()?;
        self.start_job(Job::Follow {
            name: "starting after demotion".into(),
            source,
            role: Role::Replica,
            timeout: None,
        })?;
        Ok(())
    }

    /// Begins a demotion in steps. The line of the refusal when another job runs.
    pub(super) fn start_demotion(&mut self, mode: DemoteMode, action: &str) -> Step<Option<String>> {
        let job = Job::Demote { name: action.to_owned(), mode, timeout: self.stop_timeout() };
        if let Some(refused) = self.start_job(job)? {
            return Ok(Some(refused));
        }
        self.log(format!("Demoting self ({})", mode.as_str()));
        self.arm_rewind_check()?;
        let planned = self.is_switchover() && self.pg.is_primary();
        self.m.demotion = Some(Demotion {
            mode,
            action: action.to_owned(),
            planned,
            released: false,
            stopped: None,
            heirs_asked: None,
        });
        Ok(None)
    }

    /// `primary_stop_timeout` counts only in synchronous mode (9.2-07).
    pub(super) fn stop_timeout(&self) -> Option<std::time::Duration> {
        let seconds = self.m.config.primary_stop_timeout();
        (seconds > 0 && self.is_synchronous_mode()).then(|| std::time::Duration::from_secs(seconds as u64))
    }

    /// The shutdown checkpoint is written and the postmaster still lives: if a
    /// candidate has all of it, the lock can go at once (9.1-07).
    pub(super) fn release_before_exit(&mut self) -> Step<bool> {
        let Some(job) = &self.v.job else { return Ok(false) };
        let (Some(found), Some(demotion)) = (job.shutdown_checkpoint, &self.m.demotion) else {
            return Ok(false);
        };
        let ShutdownCheckpoint { location, publish } = found;
        if demotion.released || !self.has_lock_quietly() {
            return Ok(false);
        }
        let last_lsn = if demotion.mode == DemoteMode::Cluster { location } else { publish };
        if !self.failover_possible(Some(location), false)? {
            // Replicas may be a moment behind; the postmaster's exit ends this too.
            self.m.wake_at = Some(self.io.now() + std::time::Duration::from_millis(100));
            return Ok(false);
        }
        self.set_role(Role::Demoted)?;
        self.release_leader_key(Some(last_lsn))?;
        if let Some(demotion) = &mut self.m.demotion {
            demotion.released = true;
        }
        Ok(true)
    }

    /// The stop of a demotion in steps has ended.
    pub(super) fn finish_demotion(&mut self) -> Step<String> {
        let Some(demotion) = self.m.demotion.clone() else { return Ok(String::new()) };
        let line = format!("{} in progress", demotion.action);
        let checkpoint = demotion.stopped.and_then(|stopped| stopped.checkpoint);
        let heirs = self.heirs(&demotion, checkpoint)?;
        if heirs == Heirs::NotYet {
            return Ok(line);
        }
        self.m.demotion = None;
        self.watchdog_running = false;
        // The callback is told the role of this moment: demoted only where the lock went before the postmaster's exit.
        self.call(Callback::OnStop)?;
        self.set_role(Role::Demoted)?;
        if heirs == Heirs::None {
            return self.take_back();
        }
        let stays_leader = demotion.mode == DemoteMode::Cluster && !demotion.released;
        if stays_leader {
            let failsafe = self.failsafe_config();
            if self.io.ask(ask::UpdateLeader { status: None, failsafe })?? {
                self.lease_held();
            }
        } else {
            self.drop_lease()?;
            if !demotion.released {
                self.release_leader_key(checkpoint.map(|found| found.publish))?;
            }
            self.io.ask(ask::YieldRace(RACE_BACKOFF))?;
        }
        let (source, leader) = self.fresh_source()?;
        self.forget_sync_standbys()?;
        let role = if stays_leader { Role::StandbyLeader } else { Role::Replica };
        if self.diverged(leader.as_ref())? {
            // The next cycle runs pg_rewind.
            self.m.wake_at = Some(self.io.now());
            return Ok(line);
        }
        self.start_job(Job::Follow { name: demotion.action, source, role, timeout: None })?;
        Ok(line)
    }

    /// After the stop of a switchover: if nobody has its shutdown checkpoint, the node that took over would lack what was
    /// acknowledged; while the lock is ours the server is started again as the primary that it was. (The reference
    /// gives the key away: docs/safety.md S12.) What the others tell of themselves may be a moment old.
    fn heirs(&mut self, demotion: &Demotion, checkpoint: Option<ShutdownCheckpoint>) -> Step<Heirs> {
        let Some(ShutdownCheckpoint { location, .. }) = checkpoint.filter(|_| self.has_lock_quietly()) else {
            return Ok(Heirs::Some);
        };
        if !demotion.planned || demotion.released || self.failover_possible(Some(location), false)? {
            return Ok(Heirs::Some);
        }
        if !self.update_lock(false)? {
            return Ok(Heirs::Some);
        }
        let now = self.io.now();
        let since = demotion.heirs_asked.unwrap_or(now);
        if now.since(since) >= HEIR_PATIENCE {
            return Ok(Heirs::None);
        }
        self.m.demotion = Some(Demotion { heirs_asked: Some(since), ..demotion.clone() });
        self.m.wake_at = Some(now + Duration::from_millis(100));
        Ok(Heirs::NotYet)
    }

    fn take_back(&mut self) -> Step<String> {
        self.refuse_failover()?;
        self.m.rewind.forget();
        let seconds = self.m.config.primary_start_timeout();
        let timeout =
            u64::try_from(seconds).ok().filter(|s| *s > 0).map_or(START_PATIENCE, Duration::from_secs);
        if let Some(refused) = self.start_job(Job::StartPrimary { timeout })? {
            return Ok(refused);
        }
        self.m.start.begun();
        Ok("switchover: starting primary again because nobody has all of its WAL".into())
    }

    /// Whom to follow by the newest view, and the leader in it; without a DCS nobody.
    fn fresh_source(&mut self) -> Step<(Option<Source>, Option<Source>)> {
        match self.load_cluster() {
            Ok(()) => {}
            Err(Halt::Dcs(_)) => return Ok((None, None)),
            Err(other) => return Err(other),
        }
        let cluster = self.cluster.clone();
        let leader = cluster.leader.as_ref().map(|l| Source { member: l.member.clone(), remote: false });
        Ok((self.node_to_follow(&cluster), leader))
    }

    /// A standby must not wait for standbys of its own.
    pub(super) fn forget_sync_standbys(&mut self) -> Step<()> {
        if self.is_synchronous_mode() {
            // Not written: a standby's value has no effect before its promotion, which looks at it again.
            self.sync_names(SyncNames::User(None))?;
        }
        Ok(())
    }
}
