//! Long work in the simulated world: each job is one or two events.

use patroni_core::ha::{Job, JobResult, JobView, PgState, Role, Source};

use super::node::mono;
use super::pg::Data;
use super::world::{Event, World};

impl World {
    pub(super) fn start_job(&mut self, node: usize, job: &Job) -> Result<(), String> {
        if let Some((view, _)) = &self.members[node].job {
            return Err(view.job.name());
        }
        if *job == Job::Promote {
            self.check_promotion(node);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let view = JobView { job: job.clone(), started_at: mono(self.now), shutdown_checkpoint: None };
        self.members[node].job = Some((view, ticket));
        let first = self.begin(node, job);
        let at = self.now + first;
        self.at(at, Event::Job { node, ticket, step: 0 });
        Ok(())
    }

    /// What is true at once, and how long the first step takes.
    fn begin(&mut self, node: usize, job: &Job) -> u64 {
        match job {
            Job::Bootstrap => {
                self.set_state(node, PgState::InitDb);
                self.rng.between(500, 3000)
            }
            Job::Clone { .. } | Job::BootstrapStandbyLeader { .. } => {
                self.set_state(node, PgState::CreatingReplica);
                self.rng.between(500, 8000)
            }
            Job::Reinitialize { .. } | Job::ReinitializeDiverged { .. } => {
                self.members[node].pg.stopped(true);
                self.set_state(node, PgState::CreatingReplica);
                self.rng.between(500, 8000)
            }
            Job::Follow { role, .. } => {
                self.members[node].pg.stopping = self.members[node].pg.running;
                self.set_state(node, PgState::Starting);
                self.members[node].pg.role = *role;
                self.rng.between(100, 2000)
            }
            Job::StartPrimary { .. } => {
                self.set_state(node, PgState::Starting);
                self.rng.between(100, 5000)
            }
            Job::Restart { .. } => {
                self.members[node].pg.stopping = true;
                self.set_state(node, PgState::Restarting);
                self.rng.between(100, 3000)
            }
            Job::Demote { .. } => {
                self.members[node].pg.stopping = true;
                self.set_state(node, PgState::Stopping);
                self.rng.between(50, 1500)
            }
            Job::Promote => {
                self.members[node].pg.role = Role::Promoted;
                self.rng.between(50, 1500)
            }
            Job::Rewind { .. } => self.rng.between(200, 4000),
            Job::CrashRecovery | Job::PostBootstrap | Job::CopySlots { .. } => self.rng.between(50, 1000),
        }
    }

    pub(super) fn job_step(&mut self, node: usize, ticket: u64, step: u32) {
        let Some((view, current)) = self.members[node].job.clone() else { return };
        if current != ticket || !self.members[node].alive {
            return;
        }
        let result = match &view.job {
            Job::Demote { .. } if step == 0 => return self.shutdown_checkpoint(node, ticket),
            Job::Demote { .. } => {
                let lsn = self.members[node].pg.lsn();
                self.members[node].pg.stopped(false);
                self.set_state(node, PgState::Stopped);
                JobResult::Stopped(Some((lsn, lsn)))
            }
            Job::Bootstrap => self.bootstrap(node),
            Job::Clone { source, .. }
            | Job::Reinitialize { source, .. }
            | Job::ReinitializeDiverged { source, .. } => self.copy(node, source.as_ref()),
            Job::BootstrapStandbyLeader { .. } => JobResult::Failed,
            Job::Follow { source, role, .. } => self.run_as_standby(node, source.as_ref(), *role),
            Job::StartPrimary { .. } => self.run_as_primary(node),
            Job::Restart { .. } => {
                let pg = &mut self.members[node].pg;
                (pg.running, pg.stopping) = (true, false);
                self.set_state(node, PgState::Running);
                JobResult::Done
            }
            Job::Promote => {
                let pg = &mut self.members[node].pg;
                if pg.running {
                    pg.promote();
                    pg.role = Role::Primary;
                    self.tell(node, "* promoted");
                    JobResult::Done
                } else {
                    JobResult::Failed
                }
            }
            Job::Rewind { source } => self.rewind(node, source),
            Job::CrashRecovery => {
                if let Some(data) = &mut self.members[node].pg.data {
                    data.dirty = false;
                }
                JobResult::Done
            }
            Job::PostBootstrap | Job::CopySlots { .. } => JobResult::Done,
        };
        self.finish_job(node, result);
    }

    fn shutdown_checkpoint(&mut self, node: usize, ticket: u64) {
        let pg = &mut self.members[node].pg;
        if let Some(data) = &mut pg.data {
            data.lsn += 112;
            data.dirty = false;
        }
        let lsn = pg.lsn();
        if let Some((view, _)) = &mut self.members[node].job {
            view.shutdown_checkpoint = Some((lsn, lsn));
        }
        let now = self.now;
        self.at(now + 5, Event::Wake { node, forced: true });
        let exit = now + self.rng.between(20, 2000);
        self.at(exit, Event::Job { node, ticket, step: 1 });
    }

    fn bootstrap(&mut self, node: usize) -> JobResult {
        let sysid = format!("{:019}", 7_000_000_000_000_000_000u64 + self.rng.next() % 1_000_000_000);
        let pg = &mut self.members[node].pg;
        pg.data = Some(Data { sysid, timeline: 1, lsn: 16_777_216, history: Vec::new(), dirty: false });
        (pg.running, pg.recovery, pg.role) = (true, false, Role::Primary);
        self.set_state(node, PgState::Running);
        JobResult::Done
    }

    fn source_index(&self, node: usize, source: Option<&Source>) -> Option<usize> {
        let index = self.index_of(&source?.member.name)?;
        let reached = self.reaches_peer(node, index) && self.members[index].pg.running;
        reached.then_some(index)
    }

    fn copy(&mut self, node: usize, source: Option<&Source>) -> JobResult {
        let Some(from) = self.source_index(node, source) else {
            self.members[node].pg.data = None;
            self.set_state(node, PgState::Stopped);
            return JobResult::Failed;
        };
        self.members[node].pg.data = self.members[from].pg.data.clone();
        self.run_as_standby(node, source, Role::Replica)
    }

    fn run_as_standby(&mut self, node: usize, source: Option<&Source>, role: Role) -> JobResult {
        let index = source.and_then(|s| self.index_of(&s.member.name));
        let pg = &mut self.members[node].pg;
        if pg.data.is_none() {
            self.set_state(node, PgState::StartFailed);
            return JobResult::Failed;
        }
        (pg.running, pg.stopping, pg.recovery, pg.source, pg.role) = (true, false, true, index, role);
        pg.cb_called = true;
        self.set_state(node, PgState::Running);
        JobResult::Done
    }

    fn run_as_primary(&mut self, node: usize) -> JobResult {
        let pg = &mut self.members[node].pg;
        (pg.running, pg.stopping, pg.recovery, pg.role) = (true, false, false, Role::Primary);
        self.set_state(node, PgState::Running);
        JobResult::Done
    }

    fn rewind(&mut self, node: usize, source: &Source) -> JobResult {
        let Some(from) = self.source_index(node, Some(source)) else { return JobResult::Unknown };
        let theirs = &self.members[from].pg;
        if theirs.recovery {
            return JobResult::Unknown;
        }
        let data = theirs.data.clone();
        let pg = &mut self.members[node].pg;
        pg.data = data;
        pg.recovery = true;
        JobResult::Done
    }
}
