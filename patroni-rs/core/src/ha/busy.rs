//! A cycle while long work runs beside it (surface-ha-pg 4A).

use super::ask;
use super::cycle::Cycle;
use super::held_back::Reason;
use super::script::Step;
use super::types::*;

impl Cycle<'_> {
    /// Keep the lock, or get out of the way of the node that has it.
    pub(super) fn long_action_in_progress(&mut self) -> Step<String> {
        let Some(job) = self.job.clone() else { return Ok(String::new()) };
        let action = job.name();
        if self.release_before_exit()? {
            return Ok(format!("{action} in progress"));
        }
        if self.has_lock() && self.update_lock(false)? {
            if let Some(line) = self.crash_recovery_took_too_long(&job)? {
                return Ok(line);
            }
            return Ok(format!("updated leader lock during {action}"));
        }
        if !self.m.bootstrap.running && !self.is_paused() {
            if job == Job::Promote && self.io.ask(ask::CancelJob { kill: false })? {
                // A standby needs no watchdog; the reference leaves it armed
                // without anybody to feed it (surface-ha-pg 23-09).
                self.watchdog_disable()?;
                return Ok("lost leader before promote".into());
            }
            if self.pg.role == Role::Primary {
                self.log(format!("Demoting primary during {action}"));
                if matches!(job, Job::Restart { .. } | Job::StartPrimary { .. }) {
                    self.io.ask(ask::CancelJob { kill: true })?;
                }
                self.demote(DemoteMode::ImmediateNolock)?;
                // A slow demotion (its CHECKPOINT may take long) has no key to release any more.
                if let Some(demotion) = &mut self.m.demotion {
                    demotion.released = true;
                }
                return Ok(format!("lost leader lock during {action}"));
            }
        }
        if self.cluster.is_unlocked() {
            self.log("not healthy enough for leader race");
            self.held_back(Reason::Busy, None, &[("job", action.as_str().into())]);
        }
        Ok(format!("{action} in progress"))
    }

    fn crash_recovery_took_too_long(&mut self, job: &Job) -> Step<Option<String>> {
        let (Job::CrashRecovery, Some(since)) = (job, self.m.start.crash_recovery_at) else {
            return Ok(None);
        };
        let spent = self.io.now().since(since).as_secs_f64();
        if spent < self.m.config.primary_start_timeout() as f64 || !self.failover_possible(None, false)? {
            return Ok(None);
        }
        self.log("Demoting self because crash recovery is taking too long");
        self.io.ask(ask::CancelJob { kill: true })?;
        self.demote(DemoteMode::Immediate)?;
        Ok(Some("terminated crash recovery because of startup timeout".into()))
    }
}
