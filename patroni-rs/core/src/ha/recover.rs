//! PostgreSQL is not running, and should be (surface-ha-pg 4D, 4G, 10-10 to 10-18).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::memory::Rewind;
use super::script::Step;
use super::types::*;
use crate::cluster_state::ClusterState;

/// How often a holder of the lock is started as a standby to be promoted before it yields the race.
const READONLY_STARTS: u32 = 2;

/// The lock stays, and is not renewed: it runs out, and before that the keeper ends what is left.
pub(super) const NOT_PROVEN: &str =
    "not removing leader key because processes of postgres may still be running";

impl Cycle<'_> {
    /// 4D: a start was tried by an earlier cycle.
    pub(super) fn after_recovery(&mut self) -> Step<Option<String>> {
        self.m.start.ended();
        if !self.m.rewind.state.is_needed() && !self.pg.running {
            if self.has_lock_quietly() && !self.proven_gone()? {
                return Ok(Some(NOT_PROVEN.into()));
            }
            self.watchdog_disable()?;
            if !self.has_lock() {
                return Ok(Some("failed to start postgres".into()));
            }
            return self.give_up_lock().map(Some);
        }
        self.m.start.crash_recovered();
        if self.m.rewind.state == Rewind::Success {
            self.m.rewind.forget();
        }
        Ok(None)
    }

    fn give_up_lock(&mut self) -> Step<String> {
        if matches!(self.pg.role, Role::Primary | Role::StandbyLeader) {
            self.set_role(Role::Demoted)?;
            self.call(Callback::OnRoleChange)?;
        }
        self.delete_leader(None)?;
        Ok("removed leader key after trying and failing to start postgres".into())
    }

    /// 4G: None when it has to be brought up again.
    pub(super) fn not_running(&mut self) -> Step<Option<String>> {
        self.warn("Postgresql is not running.");
        if self.is_paused() {
            self.set_state(PgState::Stopped)?;
            if self.has_lock() {
                if !self.proven_gone()? {
                    return Ok(Some(NOT_PROVEN.into()));
                }
                self.delete_leader(None)?;
                return Ok(Some("removed leader lock because postgres is not running".into()));
            }
            // A demoted primary that is to be rewound is brought up even in pause.
            let rewind = self.m.rewind.state;
            let goes_on = rewind == Rewind::Success || (rewind.is_needed() && self.rewind_allowed()?);
            if !goes_on {
                return Ok(Some("postgres is not running".into()));
            }
        }
        if matches!(self.pg.state, PgState::Running | PgState::Starting) {
            self.set_state(PgState::Crashed)?;
        }
        Ok(None)
    }

    /// Brings PostgreSQL up as what it may be now.
    pub(super) fn recover(&mut self) -> Step<String> {
        if self.gives_way() {
            return Ok("not starting postgres before another member has taken over".into());
        }
        let mut timeout = None;
        let leads = self.has_lock();
        if leads && !self.proven_gone()? {
            return Ok(NOT_PROVEN.into());
        }
        if leads && self.update_lock(false)? {
            let seconds = self.m.config.primary_start_timeout().max(0);
            if seconds == 0 && self.failover_possible(None, false)? {
                self.watchdog_disable()?;
                self.log("Primary crashed. Failing over.");
                self.demote(DemoteMode::Immediate)?;
                return Ok("stopped PostgreSQL to fail over after a crash".into());
            }
            timeout = Some(Duration::from_secs(seconds as u64));
        }
        let control = self.control_data()?;
        self.log_control_data(&control);
        if let Some(line) = self.start_again_as_primary(timeout, &control)? {
            return Ok(line);
        }
        // It comes up as a standby; the watchdog waits until it is promoted.
        self.watchdog_disable()?;
        if control.state.crashed_as_primary() {
            if control.restored_from_backup {
                self.log(
                    "Skipping single-user crash recovery because backup_label exists; PostgreSQL will handle it \
                     during normal startup",
                );
            } else if let Some(line) = self.crash_recovery()? {
                return Ok(line);
            }
        }
        self.start_as_standby(timeout)
    }

    /// Its server came up, and died of each promotion: as a standby it would have more WAL than the others, who would wait
    /// for it, and it for a disk with room. For a ttl the others have it for themselves.
    fn gives_way(&self) -> bool {
        let for_now = self.m.start.gave_way_at.is_some_and(|at| self.io.now() < at + self.v.me.timing.ttl);
        for_now && self.cluster.is_unlocked()
    }

    fn log_control_data(&mut self, control: &ControlData) {
        let lines: Vec<String> = control.lines.iter().map(|(k, v)| format!("  {k}: {v}")).collect();
        self.log(format!("pg_controldata:\n{}\n", lines.join("\n")));
    }

    /// It was the primary a moment ago and the lock is still ours: the timeline stays (10-12). Not under a lock that came
    /// back with an old state of the DCS: others may have led since.
    fn start_again_as_primary(
        &mut self,
        timeout: Option<Duration>,
        control: &ControlData,
    ) -> Step<Option<String>> {
        let Some(timeout) = timeout.filter(|t| !t.is_zero()) else { return Ok(None) };
        let was_primary = (control.state.crashed_as_primary() || control.state == ClusterState::ShutDown)
            && self.pg.state == PgState::Crashed
            && self.pg.role == Role::Primary
            && self.m.lock.won
            && !control.recovery_conf_exists;
        if !was_primary || self.start_job(Job::StartPrimary { timeout })?.is_some() {
            return Ok(None);
        }
        self.m.start.begun();
        Ok(Some("starting primary after failure".into()))
    }

    /// Single-user recovery, once, when something can come of it (10-13).
    pub(super) fn crash_recovery(&mut self) -> Step<Option<String>> {
        if self.m.start.crash_recovery_at.is_some() {
            return Ok(None);
        }
        let useful = self.cluster.is_unlocked() || self.io.ask(ask::CanRewind)?;
        if !useful {
            return Ok(None);
        }
        self.m.start.crash_recovery_begun(self.io.now());
        let name = Job::CrashRecovery.name();
        Ok(Some(self.start_job(Job::CrashRecovery)?.unwrap_or(name)))
    }

    fn start_as_standby(&mut self, timeout: Option<Duration>) -> Step<String> {
        self.load_cluster()?;
        let cluster = self.cluster.clone();
        let mut role = Role::Replica;
        let (line, source);
        if self.has_lock() && !self.is_standby_cluster() {
            // It came up and died of its promotion (a full disk): another may do better.
            if self.m.start.readonly >= READONLY_STARTS && self.failover_possible(None, false)? {
                if !self.proven_gone()? {
                    return Ok(NOT_PROVEN.into());
                }
                self.m.start.gave_way(self.io.now());
                return self.give_up_lock();
            }
            self.m.start.as_standby();
            // A checkpoint is due after the promotion that follows.
            self.m.rewind.forget();
            line = "starting as readonly because i had the session lock";
            source = None;
        } else {
            self.forgive_failed_rewind();
            if !self.m.rewind.state.executed() {
                self.arm_rewind_check()?;
            }
            if let Some(line) = self.rewind_or_reinitialize()? {
                return Ok(line);
            }
            if self.has_lock() {
                line = "starting as a standby leader because i had the session lock";
                role = Role::StandbyLeader;
                source = self.node_to_follow(&cluster);
            } else if self.is_standby_cluster() && cluster.is_unlocked() {
                line = "trying to follow a remote member because standby cluster is unhealthy";
                source = Some(self.remote_source(None));
            } else {
                line = "starting as a secondary";
                source = self.node_to_follow(&cluster);
            }
            self.forget_sync_standbys()?;
        }
        let timeout = timeout.filter(|t| !t.is_zero());
        let job = Job::Follow { name: "restarting after failure".into(), source, role, timeout };
        if self.start_job(job)?.is_none() {
            self.m.start.begun();
        }
        Ok(line.into())
    }
}
