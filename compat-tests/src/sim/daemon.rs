//! A daemon's life in the simulated world: cycles, shutdown, start. It does what
//! `patroni::shell` does around the engine.

use std::sync::Arc;

use patroni_core::ha::{
    self, Answer, Level, LogLine, Memory, PgState, Progress, Request, Role, SyncNamesSet, Transcript, View,
};

use super::node::{ms, Running};
use super::planted::Planted;
use super::world::{After, Event, World};

/// How long an orderly end waits for the job that runs.
const JOB_PATIENCE: u64 = 30_000;

impl World {
    pub(super) fn wake(&mut self, node: usize, forced: bool) {
        let (now, clock) = (self.now, self.clock(node));
        let member = &mut self.members[node];
        if !member.alive || (!forced && now < member.due) {
            return;
        }
        if member.cycle.is_some() {
            // The cycle in progress may have decided already: look again after it.
            member.due = now;
            return;
        }
        for (job, result) in std::mem::take(&mut member.finished) {
            member.memory.job_finished(&job, &result);
        }
        if let Some(timeout) = member.restarting.take() {
            member.memory.recovering = true;
            member.memory.start_timeout = Some(timeout);
        }
        let last = member.ending;
        if last && member.job.is_some() {
            if now < member.due + JOB_PATIENCE {
                return self.at(now + 500, Event::Wake { node, forced: true });
            }
            self.break_off_rewind(node);
            self.members[node].job = None;
        }
        let member = &mut self.members[node];
        member.due = now + member.me.loop_wait.as_millis() as u64 * 1000 / member.rate;
        if last {
            member.keeper.cycle_ended(clock);
        }
        self.members[node].began_at = now;
        self.cycles += 1;
        self.look_at_server(node);
        self.observe_slots(node);
        let view = self.members[node].view(now, clock);
        self.advance(node, view, Transcript::default(), last);
    }

    /// Runs the engine as far as it gets.
    fn advance(&mut self, node: usize, view: View, mut transcript: Transcript, last: bool) {
        let memory = &self.members[node].memory;
        let engine: fn(&View, &Memory, &Transcript) -> (Progress, Vec<LogLine>) =
            if last { ha::run_shutdown } else { ha::run };
        let (progress, lines) = engine(&view, memory, &transcript);
        for line in transcript.fresh(lines) {
            if line.text.contains("BUG") || line.text.starts_with("Unexpected exception") {
                self.fail(10, format!("n{node} says it is a bug: {}", line.text));
            }
            if line.level != Level::Debug {
                self.tell(node, &line.text);
            }
        }
        match progress {
            Progress::Ask(request) => {
                self.tickets += 1;
                let ticket = self.tickets;
                self.check_request(node, &view, &request);
                let (latency, answer, after) = self.perform(node, &request);
                let asked = self.now;
                self.members[node].cycle =
                    Some(Running { view, transcript, request: *request, ticket, asked, last });
                let at = self.now + latency;
                self.at(at, Event::Answer { node, ticket, answer: Box::new(answer), after });
            }
            Progress::Finished(finished) => {
                self.tell(node, format!("= {}", finished.line));
                self.coverage.line(&finished.line);
                if finished.line.contains("BUG") {
                    self.fail(10, format!("n{node}: {}", finished.line));
                }
                let member = &mut self.members[node];
                let demotes = |(job, _): &(ha::Job, ha::JobResult)| matches!(job, ha::Job::Demote { .. });
                member.held = member.finished.iter().any(demotes) || finished.memory.demotion.is_some();
                self.finish_cycle(node, *finished, last);
            }
        }
    }

    fn finish_cycle(&mut self, node: usize, finished: ha::Finished, last: bool) {
        let (now, clock) = (self.now, self.clock(node));
        let member = &mut self.members[node];
        (member.cycle, member.pause_ends, member.takes_lead) = (None, false, false);
        member.memory = finished.memory;
        (member.settled, member.died_in_pause) = (true, false);
        member.by_hand = member.by_hand.filter(|at| *at > member.began_at);
        if last || finished.exit.is_some() {
            member.forget();
            member.alive = false;
            self.tell(node, "daemon ends");
            return self.at(now + 5000, Event::Boot { node });
        }
        self.new_configuration(node);
        let member = &mut self.members[node];
        member.keeper.cycle_ended(clock);
        let wake_at = member.memory.wake_at;
        let soon = wake_at.map_or(u64::MAX, |at| self.when(node, at));
        let member = &mut self.members[node];
        let next = member.due.min(soon).max(now + 10);
        member.due = next;
        let forced = member.ending;
        self.at(next, Event::Wake { node, forced });
    }

    /// A new dynamic configuration takes effect between two cycles.
    fn new_configuration(&mut self, node: usize) {
        let clock = self.clock(node);
        let member = &mut self.members[node];
        let config = &member.memory.config;
        let seconds = |n: i64| ms(n.max(1) as u64 * 1000);
        let timing = (seconds(config.ttl()), seconds(config.loop_wait()), seconds(config.retry_timeout()));
        if (member.me.ttl, member.me.loop_wait, member.me.retry_timeout) == timing {
            return;
        }
        let mut me = (*member.me).clone();
        (me.ttl, me.loop_wait, me.retry_timeout) = timing;
        if me.ttl != member.me.ttl {
            // The lease of the old length is not renewed any more.
            member.lease = None;
        }
        member.keeper.set_timing(me.ttl, me.loop_wait, me.retry_timeout, clock);
        self.longest_ttl = self.longest_ttl.max(me.ttl.as_millis() as u64);
        self.members[node].me = Arc::new(me);
    }

    pub(super) fn answered(&mut self, node: usize, ticket: u64, answer: Answer, after: After) {
        if let After::Stopped { immediate, incarnation } = after {
            if self.members[node].pg.incarnation == incarnation {
                self.members[node].pg.stopped(immediate);
                self.members[node].pg.orphans = false;
                self.set_state(node, PgState::Stopped);
                if self.config.planted != Planted::ForgetsWatchdog {
                    self.members[node].watchdog = None;
                }
            }
        }
        let clock = self.clock(node);
        let current = self.members[node].cycle.as_ref().is_some_and(|c| c.ticket == ticket);
        if !current {
            return;
        }
        if let Answer::Cluster(Ok(cluster)) = &answer {
            self.members[node].dynamic = self.members[node].dynamic.updated_from(cluster);
            let asked = self.members[node].cycle.as_ref().map_or(0, |c| c.asked);
            self.members[node].loaded_at = asked;
            let clock = self.clock(node);
            let member = &mut self.members[node];
            let sent = member.clock(asked);
            member.keeper.cluster_read(sent);
            member.pause_ends |= !member.dynamic.is_paused()
                && cluster.leader_name() == Some(member.me.name.as_str())
                && member.keeper.may_start_writing(clock);
        }
        match after {
            After::Held { sent } => {
                let sent = self.lease_from(node, sent);
                self.members[node].keeper.lease_confirmed(sent);
            }
            After::Lost => self.members[node].keeper.lease_dropped(),
            After::Checkpoint => self.shutdown_position(node),
            After::Nothing | After::Stopped { .. } => {}
        }
        let Some(answer) = self.as_of_now(node, answer.clone()) else {
            // Not yet: look again.
            let soon = if matches!(answer, Answer::SyncNames(_)) { 20 } else { 200 };
            let at = self.now + soon;
            return self.at(at, Event::Answer { node, ticket, answer: Box::new(answer), after });
        };
        let Some(cycle) = self.members[node].cycle.take() else { return };
        let Running { view, mut transcript, request, last, .. } = cycle;
        transcript.record(request, answer, clock);
        self.advance(node, view, transcript, last);
    }

    /// Answers that tell how things are at the end of the question; None: wait on.
    fn as_of_now(&mut self, node: usize, answer: Answer) -> Option<Answer> {
        let cycle = self.members[node].cycle.as_ref()?;
        let (request, waited) = (cycle.request.clone(), self.now - cycle.asked);
        match request {
            Request::SetSyncNames(names) if answer != Answer::SyncNames(SyncNamesSet::NotWritten) => {
                self.sync_names_taken(node, &names, waited)
            }
            Request::Probe => {
                self.look_at_server(node);
                self.observe_slots(node);
                Some(Answer::Pg(Box::new(self.members[node].pg_view())))
            }
            Request::CurrentSync { wait } => {
                let Some(state) = self.current_sync(node) else { return Some(Answer::Sync(None)) };
                let settled = !state.active.is_empty() && state.sync_confirmed == state.active;
                let over = waited >= wait.map_or(0, |w| w.as_millis() as u64);
                (settled || over).then_some(Answer::Sync(Some(state)))
            }
            Request::ReleaseSync => {
                self.members[node].disable_sync = true;
                (self.is_released(node) || waited >= 2 * self.config.loop_wait).then_some(Answer::Done)
            }
            // Where no server was seen the answer is there already.
            Request::StopToCheckpoint { .. } if answer == Answer::Done => {
                let lsn = self.members[node].pg.lsn();
                Some(Answer::Stopping { locations: Some((lsn, lsn)), exited: false })
            }
            _ => Some(answer),
        }
    }

    /// The shutdown checkpoint is the last record.
    pub(super) fn shutdown_position(&mut self, node: usize) {
        if let Some(data) = &mut self.members[node].pg.data {
            data.lsn += 112;
        }
    }

    /// The leader does not count on this standby (any more).
    pub(super) fn is_released(&mut self, node: usize) -> bool {
        if !self.reaches_dcs(node) {
            return true;
        }
        let cluster = self.store.cluster();
        let leads = cluster.leader.as_ref().is_some_and(|l| cluster.sync.leader_matches(l.name()));
        !(leads && cluster.sync.matches(&self.members[node].me.name, false))
    }

    /// The daemon starts. Without a DCS it waits for one and touches nothing.
    pub(super) fn boot(&mut self, node: usize) {
        if self.members[node].alive {
            return;
        }
        if !self.reaches_dcs(node) || self.members[node].deaf_to_dcs {
            let at = self.now + 5000;
            return self.at(at, Event::Boot { node });
        }
        self.look_at_server(node);
        let pg = &self.members[node].pg;
        let running = self.members[node].sees_server();
        let role = match (&pg.data, pg.recovery, running) {
            (None, ..) => Role::Uninitialized,
            (_, true, _) => Role::Replica,
            (_, false, true) => Role::Primary,
            (_, false, false) => Role::Demoted,
        };
        let state = match (running, pg.opening) {
            (true, true) => PgState::Starting,
            (true, false) => PgState::Running,
            _ => PgState::Stopped,
        };
        self.members[node].pg.role = role;
        self.set_state(node, state);
        self.members[node].alive = true;
        let dynamic = self.store.cluster().config.as_ref().map(|c| c.data.clone());
        if let Some(dynamic) = dynamic {
            let config = patroni_core::global_config::GlobalConfig::new(dynamic);
            self.members[node].dynamic = config.clone();
            self.members[node].memory.config = config;
            self.new_configuration(node);
        }
        self.members[node].started_in_pause = self.paused_since.is_some() && self.members[node].pg.writable();
        self.tell(node, "daemon starts");
        let now = self.now;
        self.at(now, Event::Wake { node, forced: true });
    }

    /// The daemon is gone, and nothing else. What PostgreSQL had begun goes on.
    pub(super) fn daemon_dies(&mut self, node: usize) {
        use super::world::Postmaster;
        let ordered = self.members[node].pg.role == Role::Promoted;
        let promoting = ordered && self.is_job(node, |job| *job == ha::Job::Promote);
        self.break_off_rewind(node);
        let member = &mut self.members[node];
        member.alive = false;
        let incarnation = member.pg.incarnation;
        let stopping = member.pg.stopping;
        member.forget();
        let what = match (stopping, promoting) {
            (true, _) => Postmaster::Exits,
            (_, true) => Postmaster::Promotes,
            _ => return,
        };
        let at = self.now + self.rng.between(50, 1500);
        self.at(at, Event::Postmaster { node, incarnation, what });
    }

    /// The machine is gone.
    pub(super) fn node_dies(&mut self, node: usize) {
        self.break_off_rewind(node);
        let member = &mut self.members[node];
        member.pg.crash();
        member.alive = false;
        member.watchdog = None;
        member.forget();
    }
}
