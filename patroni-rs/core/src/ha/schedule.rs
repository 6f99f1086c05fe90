//! Actions that wait for their time: switchover and restart (surface-ha-pg 6-03, 11-07).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::script::Step;
use super::types::*;

/// Is it time?
pub(super) enum Due {
    /// It is.
    Now,
    /// Not yet, or not in pause.
    Later,
    /// It was, too long ago, or the time makes no sense: clean it up.
    Never,
}

impl Cycle<'_> {
    /// `at_us`: microseconds since the epoch, None when the text has no time zone
    /// or no meaning; the text is then as Python's `str()` gives it. Where the reference sleeps until a time that falls in this
    /// cycle, we have the next cycle run then.
    pub(super) fn is_due(&mut self, action: &str, at_us: Option<i64>, text: &str) -> Due {
        if self.is_paused() {
            return Due::Later;
        }
        let Some(at_us) = at_us else {
            self.warn(format!("Incorrect value of scheduled_at: {text}"));
            return Due::Never;
        };
        let elapsed = self.io.now().since(self.v.now).as_micros() as i64;
        let delta_us = at_us.saturating_sub(self.v.wall_us).saturating_sub(elapsed);
        // A year is long enough, and nothing overflows.
        let loop_wait = self.v.me.timing.loop_wait.as_secs().min(31_557_600) as i64;
        let stale_us = (loop_wait * 3 / 2) * 1_000_000;
        if delta_us > 0 {
            let seconds = delta_us as f64 / 1e6;
            self.log(format!("Awaiting {action} at {text} (in {seconds:.0} seconds)"));
            if delta_us <= loop_wait * 1_000_000 {
                let due = self.io.now() + Duration::from_micros(delta_us as u64);
                self.m.wake_at = Some(self.m.wake_at.map_or(due, |at| at.min(due)));
            }
            return Due::Later;
        }
        if delta_us < -stale_us {
            self.warn(format!("Found a stale {action} value, cleaning up: {text}"));
            return Due::Never;
        }
        self.log(format!("Manual scheduled {action} at {text}"));
        Due::Now
    }

    /// The line that replaces the cycle's when a scheduled restart begins.
    pub(super) fn scheduled_restart(&mut self) -> Step<Option<String>> {
        if self.job.is_some() {
            return Ok(None);
        }
        let Some(scheduled) = self.scheduled_restart else { return Ok(None) };
        let then = scheduled.data.get("postmaster_start_time").and_then(|v| v.as_str());
        if let (Some(now), Some(then)) = (&self.v.pg.postmaster_start_time, then) {
            if now != then {
                self.log(format!(
                    "Cancelling scheduled restart: postgres restart has already happened at {now}"
                ));
                self.drop_scheduled_restart()?;
                return Ok(None);
            }
        }
        match self.is_due("restart", Some(scheduled.at_us), &scheduled.schedule) {
            Due::Later => Ok(None),
            Due::Never => {
                self.drop_scheduled_restart()?;
                Ok(None)
            }
            Due::Now => {
                self.drop_scheduled_restart()?;
                self.restart(&scheduled.data)
            }
        }
    }

    fn drop_scheduled_restart(&mut self) -> Step<()> {
        self.scheduled_restart = None;
        self.io.ask(ask::DropScheduledRestart)
    }

    fn restart(&mut self, data: &pyfmt::Value) -> Step<Option<String>> {
        if let Some(why) = super::commands::restart_refusal(data, &self.pg) {
            self.log(format!("not proceeding with the restart: {why}"));
            self.warn("Scheduled restart: restart conditions are not satisfied");
            return Ok(None);
        }
        let has_lock = self.has_lock();
        let job = super::commands::restart_job(data, &self.m, has_lock);
        if let Job::Restart { timeout, .. } = &job {
            self.m.start.within(*timeout);
        }
        if let Some(refused) = self.start_job(job)? {
            self.warn(format!("Scheduled restart: {refused}"));
            return Ok(None);
        }
        self.m.start.begun();
        Ok(Some("restart initiated".into()))
    }
}
