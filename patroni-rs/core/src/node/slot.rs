//! The one long job: what runs, what has ended since the last cycle, and what may start.

use crate::ha::{Job, JobResult, JobView, Memory, Mono};
use crate::model::ShutdownCheckpoint;

/// How the job that runs is to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// Nothing runs, or it cannot be cancelled any more.
    No,
    /// A promotion whose order has not gone out: it is told not to send it.
    Tell,
    /// Its processes are ended, and its own end waited for.
    End,
}

/// The job that runs, and those that have ended since the last cycle.
#[derive(Debug, Clone, Default)]
pub struct JobSlot {
    running: Option<JobView>,
    finished: Vec<(Job, JobResult)>,
    /// What the engine does with PostgreSQL, step by step, whether a job runs or not: operators' jobs are refused.
    held: Option<String>,
}

impl JobSlot {
    /// The job that runs.
    pub fn running(&self) -> Option<&JobView> {
        self.running.as_ref()
    }

    /// Does this one run?
    pub fn runs(&self, which: impl Fn(&Job) -> bool) -> bool {
        self.running.as_ref().is_some_and(|view| which(&view.job))
    }

    /// Takes the results of jobs that have ended, and tells which one runs, in one look.
    pub fn take_finished(&mut self) -> (Vec<(Job, JobResult)>, Option<JobView>) {
        (std::mem::take(&mut self.finished), self.running.clone())
    }

    /// The engine starts a job.
    ///
    /// # Errors
    /// The name of the one that runs.
    pub fn start(&mut self, job: &Job, now: Mono) -> Result<(), String> {
        if let Some(running) = &self.running {
            return Err(running.job.name());
        }
        self.running = Some(JobView { job: job.clone(), started_at: now, shutdown_checkpoint: None });
        Ok(())
    }

    /// An operator asks for a job. In the middle of a demotion none is taken: the engine has not decided yet what
    /// follows, and a restart would start the server as the primary that it was, without the lock.
    ///
    /// # Errors
    /// The name of what runs, or goes on.
    pub fn order(&mut self, job: &Job, now: Mono) -> Result<(), String> {
        match (&self.running, &self.held) {
            (None, Some(held)) => Err(held.clone()),
            _ => self.start(job, now),
        }
    }

    /// The engine is about to stop PostgreSQL: from now on operators' jobs are refused. Does one run that would start
    /// the server, and so has to end first?
    pub fn hold(&mut self) -> bool {
        self.held.get_or_insert_with(|| "demote".into());
        self.runs(|job| matches!(job, Job::Restart { .. }))
    }

    /// The job that runs has ended.
    pub fn finish(&mut self, result: JobResult) {
        let Some(JobView { job, .. }) = self.running.take() else { return };
        if matches!(job, Job::Demote { .. }) {
            // The demotion ends with the next cycle.
            self.held = Some(job.name());
        }
        self.finished.push((job, result));
    }

    /// It is gone, and there is no result that a cycle would want.
    pub fn abandon(&mut self) {
        self.running = None;
    }

    /// A cycle has come to its decisions. Unless a demotion came to its end after it had begun, or its heirs are still
    /// being asked, what is to follow has been started.
    pub fn cycle_settled(&mut self, memory: &Memory) {
        let demoted = self.finished.iter().any(|(job, _)| matches!(job, Job::Demote { .. }));
        if memory.demotion.is_none() && !demoted {
            self.held = None;
        }
    }

    /// The stop has written its shutdown checkpoint; the postmaster still lives.
    pub fn shutdown_checkpoint(&mut self, found: ShutdownCheckpoint) {
        if let Some(running) = &mut self.running {
            running.shutdown_checkpoint = Some(found);
        }
    }

    /// The engine wants the job away. `committed`: its order to promote has gone out.
    pub fn cancel(&self, kill: bool, committed: bool) -> Cancel {
        match self.running.as_ref().map(|view| &view.job) {
            None => Cancel::No,
            Some(Job::Promote) if committed => Cancel::No,
            Some(Job::Promote) => Cancel::Tell,
            Some(_) if kill => Cancel::End,
            Some(_) => Cancel::No,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::global_config::GlobalConfig;
    use crate::ha::{DemoteMode, Demotion};
    use crate::model::Lsn;
    use pyfmt::Value;
    use std::time::Duration;

    fn restart() -> Job {
        Job::Restart { timeout: Duration::from_secs(1), release_sync: false }
    }

    fn demote() -> Job {
        Job::Demote { name: "switchover".into(), mode: DemoteMode::Graceful, timeout: None }
    }

    fn memory(demotes: bool) -> Memory {
        let demotion = Demotion {
            mode: DemoteMode::Graceful,
            action: "switchover".into(),
            planned: true,
            released: false,
            stopped: None,
            heirs_asked: None,
        };
        let mut memory = Memory::new(GlobalConfig::new(Value::map()));
        memory.demotion = Some(demotion).filter(|_| demotes);
        memory
    }

    const NOW: Mono = Mono::seconds(5);

    #[test]
    fn one_job_at_a_time() {
        let mut slot = JobSlot::default();
        slot.order(&restart(), NOW).unwrap();
        assert_eq!(slot.order(&restart(), NOW), Err("restart".into()));
        assert_eq!(slot.start(&Job::Promote, NOW), Err("restart".into()));
        // What has no result yet runs, by the same look.
        let (ended, seen) = slot.take_finished();
        assert_eq!((ended, seen.map(|r| r.job)), (Vec::new(), Some(restart())));
        slot.finish(JobResult::Failed);
        // Only a demotion holds operators off when it has ended.
        assert!(slot.clone().order(&restart(), NOW).is_ok());
        assert_eq!(slot.take_finished(), (vec![(restart(), JobResult::Failed)], None));
        assert!(slot.start(&Job::Promote, NOW).is_ok());
    }

    /// While the engine stops PostgreSQL, and until it has decided what follows, an operator's job is refused; the
    /// engine's own is not.
    #[test]
    fn an_operators_job_waits_for_the_end_of_a_demotion() {
        let mut slot = JobSlot::default();
        slot.start(&demote(), NOW).unwrap();
        slot.finish(JobResult::Stopped(None));
        assert_eq!(slot.order(&restart(), NOW), Err("switchover".into()));
        // A cycle that had begun before does not release it, nor one that asks the heirs; the next one does.
        slot.cycle_settled(&memory(false));
        assert_eq!(slot.order(&restart(), NOW), Err("switchover".into()));
        slot.take_finished();
        slot.cycle_settled(&memory(true));
        assert_eq!(slot.order(&restart(), NOW), Err("switchover".into()));
        assert!(slot.clone().start(&restart(), NOW).is_ok());
        slot.cycle_settled(&memory(false));
        assert!(slot.order(&restart(), NOW).is_ok());
    }

    #[test]
    fn a_stop_ends_the_restart_that_has_just_begun_and_lets_none_begin() {
        let mut slot = JobSlot::default();
        assert!(!slot.hold());
        assert_eq!(slot.order(&restart(), NOW), Err("demote".into()));
        slot.start(&restart(), NOW).unwrap();
        assert!(slot.hold());
        slot.abandon();
        assert!(slot.running().is_none() && slot.take_finished().0.is_empty());
        slot.start(&Job::Promote, NOW).unwrap();
        assert!(!slot.hold());
    }

    #[test]
    fn what_can_be_cancelled() {
        for (job, kill, committed, how) in [
            (None, true, false, Cancel::No),
            (Some(Job::Promote), false, false, Cancel::Tell),
            (Some(Job::Promote), true, false, Cancel::Tell),
            (Some(Job::Promote), true, true, Cancel::No),
            (Some(restart()), true, false, Cancel::End),
            (Some(restart()), false, false, Cancel::No),
        ] {
            let mut slot = JobSlot::default();
            job.iter().for_each(|job| slot.start(job, NOW).unwrap());
            assert_eq!(slot.cancel(kill, committed), how, "{job:?} {kill} {committed}");
        }
    }

    #[test]
    fn the_shutdown_checkpoint_is_the_running_jobs() {
        let mut slot = JobSlot::default();
        let found = ShutdownCheckpoint { location: Lsn::new(1), publish: Lsn::new(2) };
        slot.shutdown_checkpoint(found);
        slot.start(&demote(), NOW).unwrap();
        assert_eq!(slot.running().unwrap().shutdown_checkpoint, None);
        slot.shutdown_checkpoint(found);
        assert_eq!(slot.running().unwrap().shutdown_checkpoint, Some(found));
        assert!(slot.runs(|job| *job == demote()) && !slot.runs(|job| *job == Job::Promote));
    }
}
