//! One HA cycle: the order of questions, and nothing else (surface-ha-pg 3).
//!
//! The branches live here; what they decide is in the sibling modules, each
//! with one question. A cycle sees one [`View`] and works on a copy of
//! [`Memory`]; everything else it has to ask for.

use std::sync::Arc;

use super::ask::{self, Request};
use super::held_back::{HeldBack, Reason};
use super::memory::Memory;
use super::request::{DcsDown, RecoveryChange, SyncNames, SyncNamesSet};
use super::script::{Halt, Level, LogLine, Script, Step, Transcript};
use super::types::*;
use crate::model::{Cluster, Lsn, Member};

/// The end of a cycle.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The status line, with its `PAUSE: ` where due.
    pub line: String,
    /// What to remember.
    pub memory: Memory,
    /// The process must end with this code.
    pub exit: Option<i32>,
    /// Nobody leads, or this node has the lock, and it was not promoted: why.
    pub held_back: Option<HeldBack>,
}

/// How far a cycle got with the answers so far.
#[derive(Debug)]
pub enum Progress {
    /// Carry this out and come again.
    Ask(Box<Request>),
    /// Done.
    Finished(Box<Finished>),
}

/// The state of one run. Modules of this directory add their questions to it.
pub(super) struct Cycle<'a> {
    pub(super) v: &'a View,
    pub(super) io: Script<'a>,
    pub(super) m: Memory,
    pub(super) cluster: ClusterRef,
    pub(super) pg: PgView,
    pub(super) lease_until: Option<Mono>,
    pub(super) watchdog_running: bool,
    pub(super) job: Option<Job>,
    pub(super) scheduled_restart: Option<&'a ScheduledRestart>,
    pub(super) held_back: Option<HeldBack>,
}

/// Runs a cycle as far as the transcript allows, and the lines it says.
pub fn run(view: &View, memory: &Memory, transcript: &Transcript) -> (Progress, Vec<LogLine>) {
    let mut cycle = Cycle::new(view, memory, transcript);
    let progress = match cycle.run_to_line() {
        Ok(line) => cycle.finish(line, None),
        Err(Halt::Ask(request)) => Progress::Ask(request),
        Err(Halt::Exit(code)) => cycle.finish(String::new(), Some(code)),
        Err(Halt::Bug(why)) => {
            cycle.io.log(Level::Error, format!("Unexpected exception: {why}"));
            cycle.finish("Unexpected exception raised, please report it as a BUG".into(), None)
        }
        // These are handled where the cycle's end is written; here they only
        // come out of that end itself, which is best effort.
        Err(Halt::Dcs(_) | Halt::Pg | Halt::Stale) => cycle.finish("DCS is not accessible".into(), None),
    };
    (progress, std::mem::take(&mut cycle.io.lines))
}

impl<'a> Cycle<'a> {
    pub(super) fn new(view: &'a View, memory: &Memory, transcript: &'a Transcript) -> Cycle<'a> {
        let mut m = memory.clone();
        m.wake_at = None;
        Cycle {
            v: view,
            io: Script::new(transcript, view.now),
            cluster: m.cluster.clone().unwrap_or_else(|| Arc::new(Cluster::default())),
            m,
            pg: view.pg.clone(),
            lease_until: view.lease_until,
            watchdog_running: view.watchdog.running,
            job: view.job.as_ref().map(|j| j.job.clone()),
            scheduled_restart: view.scheduled_restart.as_ref(),
            held_back: None,
        }
    }

    fn finish(&mut self, line: String, exit: Option<i32>) -> Progress {
        let line = if self.is_paused() { format!("PAUSE: {line}") } else { line };
        let held_back = self.held_back.take();
        Progress::Finished(Box::new(Finished { line, memory: self.m.clone(), exit, held_back }))
    }

    /// The cycle with its error paths and its end (surface-ha-pg 3-16, 3-17).
    fn run_to_line(&mut self) -> Step<String> {
        let line = match self.cycle() {
            Err(Halt::Dcs(_)) => {
                self.io.log(Level::Error, "Error communicating with DCS");
                return match self.handle_dcs_error() {
                    Err(Halt::Dcs(_) | Halt::Pg | Halt::Stale) => Ok("DCS is not accessible".into()),
                    other => other,
                };
            }
            Err(Halt::Pg) => "Error communicating with PostgreSQL. Will try again later".to_owned(),
            Err(Halt::Stale) => {
                "not taking the leader lock because this cycle has stood still for too long".to_owned()
            }
            Err(halt @ (Halt::Exit(_) | Halt::Bug(_))) => {
                self.end()?;
                return Err(halt);
            }
            other => other?,
        };
        self.end()?;
        Ok(line)
    }

    fn end(&mut self) -> Step<()> {
        if self.is_leader() {
            self.m.failsafe.ended();
        }
        self.touch_member()
    }

    fn cycle(&mut self) -> Step<String> {
        self.load_cluster()?;
        self.note_pause()?;
        if !self.cluster.has_member(&self.v.me.name) {
            self.touch_member()?;
        }
        self.restore_missing_keys()?;
        if self.pg.running
            && self.job.is_none()
            && self.m.demotion.as_ref().is_some_and(|d| d.heirs_asked.is_some())
        {
            // Somebody has started the server again while the others were asked: nothing is given away.
            self.m.demotion = None;
        }
        if self.m.demotion.as_ref().is_some_and(|d| d.stopped.is_some()) && self.job.is_none() {
            return self.finish_demotion();
        }
        if self.job.is_some() {
            return self.long_action_in_progress();
        }
        if let Some(line) = self.starting_instance()? {
            return Ok(line);
        }
        if self.m.bootstrap.running {
            return self.post_bootstrap();
        }
        if self.m.start.recovering {
            if let Some(line) = self.after_recovery()? {
                return Ok(line);
            }
        }
        if !self.pg.running && self.cluster.is_unlocked() {
            self.held_back(Reason::NotRunning, None, &[]);
        }
        if self.pg.data_dir != DataDir::Present {
            return self.without_data_dir();
        }
        if let Some(line) = self.check_system_identifier()? {
            return Ok(line);
        }
        if !self.pg.running {
            if let Some(line) = self.not_running()? {
                return Ok(line);
            }
            return self.recover();
        }
        let line = if self.cluster.is_unlocked() {
            self.without_leader()?
        } else {
            let line = self.with_leader()?;
            self.scheduled_restart()?.unwrap_or(line)
        };
        self.reconcile_slots(line)
    }

    /// Slots, and the first `on_start` of a server that ran before us (surface-ha-pg 3-15).
    fn reconcile_slots(&mut self, line: String) -> Step<String> {
        let promoting = matches!(self.job, Some(Job::Promote));
        if (self.job.is_some() && !promoting) || self.pg.state.is_starting() {
            return Ok(line);
        }
        let copy = self.sync_slots(false)?;
        if !self.pg.callback_fired {
            if !promoting && !self.pg.is_primary() {
                self.arm_rewind_check()?;
            }
            self.call(Callback::OnStart)?;
        }
        if promoting || copy.is_empty() || self.cluster.leader.is_none() {
            return Ok(line);
        }
        let names = pyfmt::Value::List(copy.iter().map(|s| s.as_str().into()).collect()).py_repr();
        Ok(match self.start_job(Job::CopySlots { slots: copy })? {
            None => format!("Copying logical slots {names} from the primary"),
            Some(_) => line,
        })
    }

    pub(super) fn sync_slots(&mut self, dcs_failed: bool) -> Step<Vec<String>> {
        // Slots are not held against a cluster that was never seen.
        if self.cluster.is_empty() || dcs_failed && !self.is_failsafe_mode() {
            return Ok(Vec::new());
        }
        let cluster = if dcs_failed { self.failsafe_cluster() } else { self.cluster.clone() };
        let missing = self.io.ask(ask::SyncSlots { cluster, dcs_failed })?;
        Ok(if self.failsafe_is_active() { Vec::new() } else { missing })
    }

    /// Steps 1 to 2 of a cycle: the view of the cluster, and who holds the lock in it.
    pub(super) fn load_cluster(&mut self) -> Step<()> {
        let cluster = self.io.ask(ask::LoadCluster)??;
        self.note_superseded(&cluster);
        self.note_setback(&cluster);
        if !cluster.is_unlocked() || self.m.old_cluster.is_none() {
            self.m.old_cluster = Some(cluster.clone());
        }
        if !cluster.is_unlocked() || cluster.failover.is_none() {
            self.m.candidate_waited_for = None;
        }
        self.m.failsafe.listed(cluster.failsafe.clone());
        self.m.config = self.m.config.updated_from(&cluster);
        self.cluster = self.with_failsafe_leader(cluster);
        self.m.cluster = Some(self.cluster.clone());
        if !self.has_lock_quietly() {
            self.m.lock.not_ours(!self.cluster.is_unlocked());
            self.drop_lease()?;
        }
        Ok(())
    }

    /// Between two looks at the cluster others have led, and this node, which led before, does not know it yet.
    fn note_superseded(&mut self, cluster: &Cluster) {
        let led = self.cluster.leader_name() == Some(self.name());
        let known = cluster.timeline();
        if led && cluster.leader_name() != Some(self.name()) && known > self.cluster.timeline() {
            self.m.superseded_by = Some(known);
        }
    }

    /// Step 2: what the first cycle after a pause has to recheck.
    fn note_pause(&mut self) -> Step<()> {
        if !self.is_paused() || !self.pg.is_primary() {
            self.m.superseded_by = None;
        }
        if self.is_paused() {
            self.watchdog_disable()?;
            self.m.was_paused = true;
        } else if std::mem::take(&mut self.m.was_paused) {
            self.io.ask(ask::AfterPause)?;
            // A question that nobody could answer in the pause stays open. (The reference forgets it: docs/safety.md,
            // `hazards-quorum` 1108.)
            let open = self.m.rewind.state.is_needed() && !self.pg.is_primary();
            if open {
                self.m.rewind.check_due();
            } else {
                self.m.rewind.forget();
            }
        }
        Ok(())
    }

    /// Step 4: a leader whose `/initialize` or `/config` is gone writes it again.
    fn restore_missing_keys(&mut self) -> Step<()> {
        if !self.has_lock_quietly() {
            return Ok(());
        }
        if !sysid_valid(self.cluster.initialize.as_deref()) && sysid_valid(Some(&self.pg.sysid)) {
            let create_new = self.cluster.initialize.is_none();
            self.io.ask(ask::Initialize { create_new, sysid: self.pg.sysid.clone() })?;
        }
        if !self.cluster.config.as_ref().is_some_and(|c| c.data.truthy()) {
            self.io.ask(ask::SetConfig(self.v.me.dynamic_config.clone()))?;
            self.load_cluster()?;
        }
        Ok(())
    }

    // ---- small words that the modules share ----

    pub(super) fn name(&self) -> &'a str {
        &self.v.me.name
    }

    pub(super) fn is_paused(&self) -> bool {
        self.m.config.is_paused()
    }

    pub(super) fn is_standby_cluster(&self) -> bool {
        self.m.config.is_standby_cluster()
    }

    pub(super) fn is_synchronous_mode(&self) -> bool {
        self.m.config.is_synchronous_mode()
    }

    pub(super) fn is_failsafe_mode(&self) -> bool {
        self.m.config.failsafe_mode()
    }

    pub(super) fn check_timeline(&self) -> bool {
        self.m.config.check_timeline()
    }

    /// The promise of the lock holds.
    pub(super) fn is_leader(&self) -> bool {
        self.lease_until.is_some_and(|until| until > self.io.now())
    }

    pub(super) fn has_lock_quietly(&self) -> bool {
        self.cluster.leader_name() == Some(self.name())
    }

    pub(super) fn has_lock(&mut self) -> bool {
        let owner = self.cluster.leader_name().unwrap_or("None").to_owned();
        let text = format!("Lock owner: {owner}; I am {}", self.name());
        self.io.log(Level::Info, text);
        self.has_lock_quietly()
    }

    pub(super) fn log(&mut self, text: impl Into<String>) {
        self.io.log(Level::Info, text);
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.io.log(Level::Warning, text);
    }

    /// None when it was started, else the line that says why not.
    pub(super) fn start_job(&mut self, job: Job) -> Step<Option<String>> {
        let name = job.name();
        Ok(match self.io.ask(ask::StartJob(job.clone()))? {
            Ok(()) => {
                self.job = Some(job);
                None
            }
            Err(running) => Some(format!("Failed to run {name}, {running} is already in progress")),
        })
    }

    pub(super) fn set_role(&mut self, role: Role) -> Step<()> {
        if self.pg.role != role {
            self.io.ask(ask::SetRole(role))?;
            self.pg.role = role;
        }
        Ok(())
    }

    pub(super) fn set_state(&mut self, state: PgState) -> Step<()> {
        if self.pg.state != state {
            self.io.ask(ask::SetState(state))?;
            self.pg.state = state;
        }
        Ok(())
    }

    pub(super) fn call(&mut self, callback: Callback) -> Step<()> {
        self.pg.callback_fired = true;
        self.io.ask(ask::Call(callback))
    }

    pub(super) fn watchdog_disable(&mut self) -> Step<()> {
        if self.watchdog_running {
            // One that stays armed is tried again.
            self.watchdog_running = !self.io.ask(ask::WatchdogDisable)?;
        }
        Ok(())
    }

    pub(super) fn drop_lease(&mut self) -> Step<()> {
        self.m.sync.lock_lost();
        self.m.lock.dropped();
        if self.lease_until.take().is_some() {
            self.io.ask(ask::DropLease)?;
        }
        Ok(())
    }

    /// The last question was for the lock, and it is ours: from when it was asked,
    /// not from when the answer came.
    pub(super) fn lease_held(&mut self) {
        self.lease_until = Some(self.io.asked() + self.v.me.timing.ttl);
    }

    /// What the monitoring statement said; a PostgreSQL that does not answer ends the cycle.
    pub(super) fn row(&self) -> Step<&PgStatus> {
        self.pg.row().ok_or(Halt::Pg)
    }

    /// `synchronous_standby_names`, and whether the server goes by it.
    pub(super) fn sync_names(&mut self, names: SyncNames) -> Step<SyncNamesSet> {
        self.io.ask(ask::SetSyncNames(names))
    }

    /// The position to publish; asks nothing new.
    pub(super) fn last_operation(&self) -> Step<Lsn> {
        Ok(self.row()?.wal_position)
    }

    /// The peers' answers; a round may end before all have answered.
    pub(super) fn poll(
        &mut self,
        members: Vec<Member>,
        decisive: Option<StopPolling>,
    ) -> Step<Vec<PeerStatus>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        self.io.ask(ask::Peers { members, decisive })
    }

    pub(super) fn recovery_change(&mut self, source: Option<Source>) -> Step<RecoveryChange> {
        // Not "nothing has to change": the next cycle looks again.
        self.io.ask(ask::CheckRecovery(source))?.ok_or(Halt::Pg)
    }
}

/// `initialize` holds a system identifier: at least ten digits (surface-ha-pg 1-04).
pub fn sysid_valid(sysid: Option<&str>) -> bool {
    sysid.is_some_and(|s| s.len() >= 10 && s.bytes().all(|b| b.is_ascii_digit()))
}

/// So that adapters can say it without knowing the modules.
impl From<DcsDown> for Halt {
    fn from(down: DcsDown) -> Halt {
        Halt::Dcs(down)
    }
}
