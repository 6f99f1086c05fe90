//! Long work in the simulated world: each job is one or two events.

use patroni_core::ha::{Job, JobResult, Mono, PgState, Role, Source};
use patroni_core::model::{Lsn, ShutdownCheckpoint};
use patroni_core::slots::member_slot_name;

use std::rc::Rc;

use super::events::{Event, Postmaster};
use super::pg::Data;
use super::planted::Planted;
use super::world::World;

impl World {
    /// The engine starts a job.
    pub(super) fn start_job(&mut self, node: usize, job: &Job) -> Result<(), String> {
        let clock = self.clock(node);
        self.members[node].slot.start(job, clock)?;
        self.job_begins(node, job);
        Ok(())
    }

    /// An operator does.
    pub(super) fn order_job(&mut self, node: usize, job: &Job) -> Result<(), String> {
        if self.config.planted == Planted::RestartsDemoted {
            return self.start_job(node, job);
        }
        let clock = self.clock(node);
        self.members[node].slot.order(job, clock)?;
        self.job_begins(node, job);
        Ok(())
    }

    fn job_begins(&mut self, node: usize, job: &Job) {
        if *job == Job::Promote {
            self.check_promotion(node);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.members[node].job_ticket = ticket;
        let barred = *job != Job::Promote && self.is_barred(node);
        self.members[node].barred = barred;
        let first = if barred { 50 } else { self.begin(node, job) };
        let at = self.now + first;
        self.at(at, Event::Job { node, ticket, step: 0 });
    }

    /// What is true at once, and how long the first step takes.
    fn begin(&mut self, node: usize, job: &Job) -> u64 {
        let slow = self.members[node].pg.slow;
        let lazy = *job == Job::Promote && self.config.hazards && self.rng.percent(20);
        let hook = if lazy { self.rng.between(0, 100_000) } else { 1 };
        let mut spell = |short: u64, long: u64| {
            let end = if slow { long } else { short };
            self.rng.between(short / 20, end)
        };
        match job {
            Job::Bootstrap => {
                let time = spell(3000, 20_000);
                self.set_state(node, PgState::InitDb);
                time
            }
            Job::Clone { .. } | Job::BootstrapStandbyLeader { .. } => {
                let time = spell(8000, 60_000);
                self.set_state(node, PgState::CreatingReplica);
                time
            }
            Job::Reinitialize { source, .. } | Job::ReinitializeDiverged { source, .. } => {
                let time = spell(8000, 60_000);
                self.members[node].pg.stopped(true);
                // Nothing is removed for a source that does not let us in.
                let careless = self.config.planted == Planted::ReinitsLeader;
                if careless || source.is_none() || self.source_index(node, source.as_ref()).is_some() {
                    self.check_removal(node);
                    self.forget_data(node);
                }
                self.set_state(node, PgState::CreatingReplica);
                time
            }
            Job::Follow { role, .. } => {
                let time = spell(2000, 30_000);
                self.members[node].pg.stopping = self.members[node].pg.running;
                self.set_state(node, PgState::Starting);
                self.members[node].pg.role = *role;
                time
            }
            Job::StartPrimary { timeout } => {
                let time = spell(5000, 60_000);
                self.set_state(node, PgState::Starting);
                if !self.members[node].pg.full {
                    self.check_whole(node);
                    // The postmaster lives from now on, whatever becomes of the daemon, and
                    // keeper and guardian are told of it at its fork.
                    let pg = &mut self.members[node].pg;
                    pg.started(false, Role::Primary);
                    pg.opening = true;
                    let incarnation = pg.incarnation;
                    let at = self.now + time;
                    self.at(at, Event::Postmaster { node, incarnation, what: Postmaster::Opens });
                }
                // Who waits for it does so for this long only.
                time.min(timeout.as_millis() as u64)
            }
            Job::Restart { release_sync, .. } => {
                self.members[node].disable_sync = *release_sync;
                10
            }
            Job::Demote { .. } => {
                let time = spell(1500, 40_000);
                self.members[node].pg.stopping = true;
                self.set_state(node, PgState::Stopping);
                time
            }
            // The pre_promote script, which may take its time.
            Job::Promote => hook,
            Job::Rewind { source } => {
                let time = spell(4000, 30_000);
                let from = self.source_index(node, Some(source));
                let pg = &self.members[node].pg;
                let writes = !pg.gap && !pg.full && from.is_some_and(|from| !self.server(from).recovery);
                // It writes from its beginning to its end.
                self.members[node].pg.torn |= writes;
                time
            }
            Job::CrashRecovery if self.config.hazards => spell(2000, 90_000),
            Job::CrashRecovery | Job::PostBootstrap | Job::CopySlots { .. } => spell(1000, 10_000),
        }
    }

    pub(super) fn job_step(&mut self, node: usize, ticket: u64, step: u32) {
        let Some(view) = self.members[node].slot.running().cloned() else { return };
        if self.members[node].job_ticket != ticket || !self.members[node].alive {
            return;
        }
        let result = match &view.job {
            _ if std::mem::take(&mut self.members[node].barred) => JobResult::Failed,
            Job::Demote { .. } if step == 0 && self.fails() => {
                self.members[node].pg.stopping = false;
                self.set_state(node, PgState::StopFailed);
                JobResult::Failed
            }
            Job::Demote { .. } if step == 0 => return self.shutdown_checkpoint(node, ticket),
            Job::Demote { .. } => {
                let lsn = Lsn::new(self.members[node].pg.lsn());
                self.members[node].pg.stopped(false);
                self.set_state(node, PgState::Stopped);
                self.disarm(node);
                JobResult::Stopped(Some(ShutdownCheckpoint { location: lsn, publish: lsn }))
            }
            Job::Bootstrap => self.bootstrap(node),
            Job::Clone { source, .. }
            | Job::Reinitialize { source, .. }
            | Job::ReinitializeDiverged { source, .. } => self.copy(node, source.as_ref(), Role::Replica),
            Job::BootstrapStandbyLeader { source } => self.copy(node, Some(source), Role::StandbyLeader),
            Job::Follow { source, role, .. } => self.run_as_standby(node, source.as_ref(), *role),
            Job::StartPrimary { .. } => self.run_as_primary(node),
            Job::Restart { .. } => {
                let Some(result) = self.restart_step(node, ticket, step, view.started_at) else { return };
                result
            }
            Job::Promote => {
                let Some(result) = self.promote_step(node, ticket, step) else { return };
                result
            }
            Job::Rewind { source } => self.rewind(node, source),
            Job::CrashRecovery => {
                if let Some(data) = &mut self.members[node].pg.data {
                    data.dirty = false;
                }
                JobResult::Done
            }
            Job::CopySlots { slots } => {
                self.copy_slots(node, slots);
                JobResult::Done
            }
            Job::PostBootstrap => JobResult::Done,
        };
        self.finish_job(node, result);
    }

    /// A promotion: the script before it, which a cycle may cancel; the order; the new timeline.
    fn promote_step(&mut self, node: usize, ticket: u64, step: u32) -> Option<JobResult> {
        if step == 0 {
            let hook_fails = self.config.rough && self.faults_on && self.rng.percent(10);
            if hook_fails && self.members[node].pg.running {
                return Some(JobResult::PrePromoteFailed);
            }
            if self.config.rough && self.faults_on && self.rng.percent(10) && self.members[node].pg.running {
                return Some(JobResult::NotPromoted);
            }
            let clock = self.clock(node);
            let server = self.members[node].server(&self.config);
            let member = &mut self.members[node];
            let may = member.lock.will_promote(clock, member.dynamic.is_paused(), &server).is_some();
            if !member.reference && !may {
                return Some(JobResult::Cancelled);
            }
            self.check_order(node);
            let long = if self.members[node].pg.slow { 25_000 } else { 1500 };
            let at = self.now + self.rng.between(75, long);
            self.members[node].pg.role = Role::Promoted;
            self.at(at, Event::Job { node, ticket, step: 1 });
            return None;
        }
        if self.members[node].pg.full {
            // The timeline's history file cannot be written.
            self.members[node].pg.crash();
        }
        if !self.members[node].pg.running {
            return Some(JobResult::Failed);
        }
        self.promote(node);
        self.members[node].pg.role = Role::Primary;
        Some(JobResult::Done)
    }

    /// PostgreSQL is promoted, whoever still wants it.
    pub(super) fn promote(&mut self, node: usize) {
        let branch = self.ledger.branch();
        self.members[node].pg.promote(branch);
        let number = self.members[node].pg.data.as_ref().map_or(0, |data| data.timeline);
        self.ledger.numbers.insert(branch, number);
        self.tell(node, "* promoted");
        self.check_history(node);
    }

    fn disarm(&mut self, node: usize) {
        if self.config.planted != Planted::ForgetsWatchdog {
            self.members[node].watchdog = None;
        }
    }

    /// A restart: the leader lets go of us first, then stop, then start.
    fn restart_step(&mut self, node: usize, ticket: u64, step: u32, started_at: Mono) -> Option<JobResult> {
        let now = self.now;
        if step == 0 {
            let waited = self.clock(node).since(started_at);
            let patience = self.members[node].me.timing.loop_wait * 2;
            if self.members[node].disable_sync && !self.is_released(node) && waited < patience {
                self.at(now + 300, Event::Job { node, ticket, step: 0 });
                return None;
            }
            self.members[node].pg.stopping = true;
            self.set_state(node, PgState::Restarting);
            let time = if self.members[node].pg.slow { 40_000 } else { 3000 };
            let at = now + self.rng.between(100, time);
            self.at(at, Event::Job { node, ticket, step: 1 });
            return None;
        }
        self.members[node].disable_sync = false;
        let clock = self.clock(node);
        let member = &self.members[node];
        let (paused, bootstrapping) = (member.dynamic.is_paused(), member.memory.bootstrap.running);
        let promised = member.lock.may_restart_primary(clock, paused, bootstrapping);
        let careless = member.reference || self.config.planted == Planted::RestartsDemoted;
        let may_write = promised || careless;
        if member.pg.full || member.half_made() || (!member.pg.recovery && !may_write) {
            return Some(self.no_start(node));
        }
        self.check_whole(node);
        let pg = &mut self.members[node].pg;
        let role = if pg.recovery { Role::Replica } else { Role::Primary };
        pg.started(pg.recovery, role);
        self.set_state(node, PgState::Running);
        if self.members[node].memory.bootstrap.running {
            self.recover_and_promote(node);
        }
        Some(JobResult::Done)
    }

    fn shutdown_checkpoint(&mut self, node: usize, ticket: u64) {
        let lsn = Lsn::new(self.members[node].pg.lsn() + 112);
        self.shutdown_position(node);
        self.members[node].pg.stopping = true;
        self.members[node].slot.shutdown_checkpoint(ShutdownCheckpoint { location: lsn, publish: lsn });
        self.disarm(node);
        let now = self.now;
        self.at(now + 5, Event::Wake { node, forced: true });
        let exit = now + self.rng.between(20, 2000);
        self.at(exit, Event::Job { node, ticket, step: 1 });
    }

    fn bootstrap(&mut self, node: usize) -> JobResult {
        let sysid = format!("{:019}", 7_000_000_000_000_000_000u64 + self.rng.number() % 1_000_000_000);
        let branch = self.ledger.branch();
        let pg = &mut self.members[node].pg;
        let (timeline, lsn) = (1, 16_777_216);
        let history = Rc::default();
        pg.slots.clear();
        pg.data = Some(Data { sysid: sysid.into(), timeline, branch, lsn, history, dirty: false });
        pg.started(self.config.custom_bootstrap, Role::Primary);
        self.set_state(node, PgState::Running);
        self.recover_and_promote(node);
        JobResult::Done
    }

    /// What a custom bootstrap has restored recovers to its target, and ends recovery.
    fn recover_and_promote(&mut self, node: usize) {
        let incarnation = self.members[node].pg.incarnation;
        if self.members[node].pg.recovery {
            let at = self.now + self.rng.between(1000, 60_000);
            self.at(at, Event::Postmaster { node, incarnation, what: Postmaster::Promotes });
        }
    }

    fn source_index(&self, node: usize, source: Option<&Source>) -> Option<usize> {
        let index = self.index_of(&source?.member.name)?;
        let reached = self.reaches_peer(node, index) && self.server(index).running;
        reached.then_some(index)
    }

    fn copy(&mut self, node: usize, source: Option<&Source>, role: Role) -> JobResult {
        let Some(from) = self.source_index(node, source) else {
            if self.members[node].half_made() {
                self.set_state(node, PgState::Stopped);
                return JobResult::Failed;
            }
            if self.members[node].pg.data.is_some() {
                self.run_as_standby(node, None, role);
                return JobResult::Failed;
            }
            let backup = self.backup.clone().filter(|_| source.is_none() && !self.members[node].pg.full);
            self.members[node].pg.data = backup;
            if self.members[node].pg.data.is_some() {
                self.members[node].pg.slots.clear();
                self.members[node].pg.gap = false;
                return self.run_as_standby(node, None, role);
            }
            self.set_state(node, PgState::Stopped);
            return JobResult::Failed;
        };
        if self.members[node].pg.full {
            self.members[node].pg.data = None;
            self.members[node].pg.torn = false;
            self.set_state(node, PgState::Stopped);
            return JobResult::Failed;
        }
        self.members[node].pg.data = self.server(from).data.clone();
        self.members[node].pg.torn = false;
        // Neither pg_basebackup nor pg_rewind brings or leaves slots.
        self.members[node].pg.slots.clear();
        self.members[node].pg.gap = false;
        self.run_as_standby(node, source, role)
    }

    /// The node's slots elsewhere stay where they are.
    pub(super) fn forget_data(&mut self, node: usize) {
        let lsn = Lsn::new(self.members[node].pg.lsn());
        self.rob(&member_slot_name(&self.members[node].me.name), lsn);
        self.members[node].pg.data = None;
        self.members[node].pg.torn = false;
    }

    fn run_as_standby(&mut self, node: usize, source: Option<&Source>, role: Role) -> JobResult {
        let index = source.and_then(|s| self.index_of(&s.member.name));
        if self.members[node].pg.data.is_none() {
            self.set_state(node, PgState::StartFailed);
            return JobResult::Failed;
        }
        if self.members[node].pg.full {
            return self.no_start(node);
        }
        self.check_whole(node);
        let pg = &mut self.members[node].pg;
        pg.started(true, role);
        pg.source = index;
        pg.callback_fired = true;
        self.set_state(node, PgState::Running);
        if self.config.planted != Planted::ForgetsWatchdog {
            self.members[node].watchdog = None;
        }
        JobResult::Done
    }

    /// The postmaster ends as it starts.
    fn no_start(&mut self, node: usize) -> JobResult {
        self.members[node].pg.crash();
        self.set_state(node, PgState::StartFailed);
        JobResult::Failed
    }

    fn run_as_primary(&mut self, node: usize) -> JobResult {
        if !self.members[node].pg.running || self.members[node].pg.full {
            return self.no_start(node);
        }
        if self.members[node].pg.opening {
            return JobResult::Unknown;
        }
        self.set_state(node, PgState::Running);
        JobResult::Done
    }

    fn rewind(&mut self, node: usize, source: &Source) -> JobResult {
        let from = self.source_index(node, Some(source)).filter(|from| !self.server(*from).recovery);
        let Some(from) = from else {
            if self.members[node].pg.torn {
                self.break_off_rewind(node);
                return JobResult::Failed;
            }
            return JobResult::Unknown;
        };
        let theirs = self.server(from);
        let mine = self.members[node].pg.data.as_ref();
        if mine.zip(theirs.data.as_ref()).is_some_and(|(mine, theirs)| mine.is_namesake_of(theirs)) {
            // pg_rewind would not tell them apart: nothing was written.
            self.members[node].pg.torn = false;
            return JobResult::Failed;
        }
        if self.members[node].pg.torn && self.members[node].pg.full {
            self.break_off_rewind(node);
            return JobResult::Failed;
        }
        if self.members[node].pg.gap || self.members[node].pg.full {
            // The checkpoint before the divergence is not to be had: nothing was written.
            self.members[node].pg.torn = false;
            return JobResult::Failed;
        }
        let data = theirs.data.clone();
        self.check_removal(node);
        self.forget_data(node);
        let pg = &mut self.members[node].pg;
        pg.data = data;
        pg.slots.clear();
        pg.recovery = true;
        JobResult::Done
    }

    /// pg_rewind ends with its daemon, its machine or its source: what is there is neither the one server nor the other.
    pub(super) fn break_off_rewind(&mut self, node: usize) {
        let working = self.is_job(node, |job| matches!(job, Job::Rewind { .. }));
        if !working || !self.members[node].pg.torn {
            return;
        }
        self.tell(node, "* the rewind is broken off");
        self.check_removal(node);
        let branch = self.ledger.branch();
        if let Some(data) = &mut self.members[node].pg.data {
            (data.branch, data.history) = (branch, Rc::default());
        }
        // pg_rewind works on a server that is stopped.
        self.members[node].pg.crash();
    }

    /// No server may be started on what is half made.
    fn check_whole(&mut self, node: usize) {
        if self.members[node].pg.torn {
            self.fail(11, format!("n{node} starts PostgreSQL on half-rewound data"));
        }
    }
}
