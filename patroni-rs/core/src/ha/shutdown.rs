//! The daemon is told to end (surface-ha-pg 9.3).

use std::time::Duration;

use super::ask;
use super::cycle::{Cycle, Finished, Progress};
use super::memory::Memory;
use super::request::Stopping;
use super::script::{Halt, Level, LogLine, Step, Transcript};
use super::types::*;
use crate::model::ShutdownCheckpoint;

/// Runs the shutdown as far as the transcript allows, as [`super::run`] does a cycle.
pub fn run_shutdown(view: &View, memory: &Memory, transcript: &Transcript) -> (Progress, Vec<LogLine>) {
    let mut cycle = Cycle::new(view, memory, transcript);
    let progress = match cycle.shutdown() {
        Err(Halt::Ask(request)) => Progress::Ask(request),
        // Without a DCS the lock runs out by itself.
        _ => Progress::Finished(Box::new(Finished {
            line: String::new(),
            memory: cycle.m.clone(),
            exit: Some(0),
            held_back: None,
        })),
    };
    (progress, std::mem::take(&mut cycle.io.lines))
}

/// How long candidates may take to receive the shutdown checkpoint (surface-ha-pg 25-07).
const CATCH_UP: Duration = Duration::from_secs(1);
/// Time between two questions to them.
const ASK_AGAIN: Duration = Duration::from_millis(250);

impl Cycle<'_> {
    fn shutdown(&mut self) -> Step<()> {
        if self.is_paused() && self.pg.is_primary() && !self.is_leader() {
            // A daemon that was frozen may not have heard that the pause is over, and that
            // another node leads: its primary must not be left behind. A DCS that does not
            // answer leaves it at what is known.
            match self.load_cluster() {
                Ok(()) | Err(Halt::Dcs(_)) => {}
                Err(other) => return Err(other),
            }
        }
        if self.is_paused() {
            self.log("Leader key is not deleted and Postgresql is not stopped due paused state");
            self.watchdog_disable()?;
            return Ok(());
        }
        if self.m.bootstrap.join_aborted {
            return Ok(());
        }
        // A standby that was to be promoted and was not has nothing that a watchdog would have to end, and its stop may take
        // long.
        self.watchdog_off_standby()?;
        let leader = self.is_leader();
        if !leader && self.is_synchronous_mode() && !self.v.me.tags.nosync() {
            self.io.ask(ask::ReleaseSync)?;
        }
        let mut deleted = false;
        let mut checkpoint = None;
        if leader {
            (checkpoint, deleted) = self.stop_as_leader()?;
        }
        let stopped = self.io.ask(ask::Stop { mode: StopMode::Fast, timeout: self.stop_timeout() })?;
        if !stopped {
            let suffix = if self.watchdog_running { " Leaving watchdog running." } else { "" };
            self.io.log(Level::Error, format!("PostgreSQL shutdown failed, leader key not removed.{suffix}"));
            return Ok(());
        }
        if leader && !deleted {
            self.io.ask(ask::DeleteLeader { last_lsn: checkpoint.map(|found| found.publish) })?;
        }
        self.touch_member()
    }

    /// The key goes as soon as a candidate has everything; so the next primary
    /// need not wait for WAL archiving here (9.1-07, 9.3-02).
    fn stop_as_leader(&mut self) -> Step<(Option<ShutdownCheckpoint>, bool)> {
        let timeout = self.stop_timeout();
        let Stopping { checkpoint, exited } = self.io.ask(ask::StopToCheckpoint { timeout })?;
        let Some(ShutdownCheckpoint { location, publish }) = checkpoint else { return Ok((None, false)) };
        if exited {
            return Ok((checkpoint, false));
        }
        // Replicas get a second to catch up. The reference waits for it and asks once; here the first
        // that has everything ends it, and so does the postmaster's exit.
        let until = self.io.now() + CATCH_UP;
        loop {
            if self.failover_possible(Some(location), false)? {
                self.io.ask(ask::DeleteLeader { last_lsn: Some(publish) })?;
                return Ok((checkpoint, true));
            }
            // Where there is no candidate, nobody will be one in a moment.
            let nobody = self.failover_candidates(false).is_empty();
            if nobody || self.io.now() >= until || self.io.ask(ask::AwaitExit(ASK_AGAIN))? {
                break;
            }
        }
        self.io.ask(ask::WriteStatus(publish))?;
        Ok((checkpoint, false))
    }
}
