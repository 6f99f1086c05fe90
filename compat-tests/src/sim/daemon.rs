//! A daemon's life in the simulated world: cycles, shutdown, start. Around the engine is the driver that ships
//! (`patroni_core::node`); what is modelled here is time, latency and what befalls a daemon.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::{
    self, Answer, Ask, Level, LocalMember, Mono, PeerRequest, PgState, Request, Role, ServerRequest,
    Stopping, SyncNamesSet,
};
use patroni_core::model::{Lsn, ShutdownCheckpoint};
use patroni_core::node::{Cycle, Kind, Now, Question, Server, Start, Step};
use patroni_core::timing::Timing;

use super::events::{After, Event};
use super::node::{ms, Running};
use super::planted::Planted;
use super::world::World;

/// How long an orderly end waits for the job that runs.
const JOB_PATIENCE: u64 = 30_000;

/// See [`World::moment`].
struct Moment {
    at: Mono,
    me: Arc<LocalMember>,
    paused: bool,
    granted: Duration,
    server: Server,
}

impl Moment {
    fn now(&self) -> Now<'_> {
        Now {
            at: self.at,
            name: &self.me.name,
            paused: self.paused,
            timing: self.me.timing,
            granted: self.granted,
            server: self.server,
        }
    }
}

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
        let last = member.ending;
        if last && member.slot.running().is_some() {
            if now < member.due + JOB_PATIENCE {
                return self.at(now + 500, Event::Wake { node, forced: true });
            }
            self.break_off_rewind(node);
            self.members[node].slot.abandon();
        }
        let member = &mut self.members[node];
        member.due = now + member.me.timing.loop_wait.as_millis() as u64 * 1000 / member.rate;
        if last {
            member.lock.stop_goes_on(clock);
        }
        self.members[node].began_at = now;
        self.cycles += 1;
        let cycle = self.begin_cycle(node, if last { Kind::Shutdown } else { Kind::Cycle });
        self.advance(node, cycle);
    }

    fn begin_cycle(&mut self, node: usize, kind: Kind) -> Cycle {
        let member = &mut self.members[node];
        let me = member.me.clone();
        let cluster = member.memory.cluster.clone();
        let (ended, _) = member.slot.take_finished();
        let marks = member.memory.high_water.iter_mut();
        match self.config.planted {
            Planted::ForgetsWhoWasAhead => {
                marks.for_each(|mark| (mark.heard, mark.sync) = (None, Default::default()));
            }
            Planted::ForgetsPosition => {
                marks.for_each(|mark| (mark.timeline, mark.position) = Default::default());
            }
            _ => {}
        }
        member.server_before = member.server(&self.config);
        member.tell_time(self.now);
        member.lock_may_have_ended(self.now);
        member.watch.looked();
        member.seen = member.upper.cached_cluster().unwrap_or_default();
        let start = Start {
            ended,
            restarting: member.restarting.take(),
            cluster: cluster.as_deref(),
            name: &me.name,
        };
        Cycle::begin(kind, start, &mut member.memory, &mut member.lock)
    }

    /// What the driver is told about this moment.
    fn moment(&self, node: usize) -> Moment {
        let wished = self.config.planted == Planted::FencesByTheWish;
        let member = &self.members[node];
        Moment {
            at: self.clock(node),
            me: member.me.clone(),
            paused: member.dynamic.is_paused(),
            granted: if wished { Duration::MAX } else { member.upper.granted() },
            server: member.server(&self.config),
        }
    }

    /// Runs the cycle as far as it gets.
    fn advance(&mut self, node: usize, mut cycle: Cycle) {
        loop {
            let clock = self.clock(node);
            let (step, lines) = cycle.step(&mut self.members[node].memory, clock);
            for line in lines {
                if line.text.contains("BUG") || line.text.starts_with("Unexpected exception") {
                    self.fail(10, format!("n{node} says it is a bug: {}", line.text));
                }
                if line.level != Level::Debug {
                    self.tell(node, &line.text);
                }
            }
            match step {
                Step::Look => {
                    self.look_at_server(node);
                    self.observe_slots(node);
                    let careless = self.config.planted == Planted::CyclesOverHungServer;
                    let silent = self.members[node].silent() && !careless;
                    cycle.looked(self.members[node].view(self.now, clock), silent);
                }
                Step::Ask(question) => return self.ask(node, cycle, question),
                Step::Skipped(line) => {
                    self.say_status(node, &line);
                    return self.finish_cycle(node, cycle.kind(), None);
                }
                Step::Finished(decided) => {
                    let server = self.members[node].server(&self.config);
                    let member = &mut self.members[node];
                    member.slot.cycle_settled(&member.memory);
                    let finished = decided.settle(&member.memory, &mut member.lock, &server);
                    member.settled = true;
                    // What it does not recognise it cannot stop either.
                    let unseen = member.pg.running && !member.sees_server();
                    member.died_in_pause &= unseen || member.pg.orphans && member.looks_fail;
                    member.by_hand = member.by_hand.filter(|at| *at > member.began_at);
                    self.say_status(node, &finished.line);
                    return self.finish_cycle(node, cycle.kind(), finished.exit);
                }
            }
        }
    }

    fn say_status(&mut self, node: usize, line: &str) {
        self.tell(node, format!("= {line}"));
        self.coverage.line(line);
        if line.contains("BUG") {
            self.fail(10, format!("n{node}: {line}"));
        }
    }

    fn ask(&mut self, node: usize, cycle: Cycle, question: Question) {
        self.tickets += 1;
        let (ticket, asked) = (self.tickets, self.now);
        let moment = self.moment(node);
        let sent = cycle.sends(question, &moment.now(), &mut self.members[node].lock);
        if let Some(view) = cycle.view() {
            self.check_request(node, view, sent.request());
        }
        let task = match sent.request() {
            Request::Dcs(request) => Some(self.task(node, request, sent.may_spare())),
            Request::Peers(_) | Request::Server(_) | Request::Lock(_) | Request::Node(_) => None,
        };
        let effect = self.perform(node, sent.request());
        self.members[node].cycle = Some(Running { cycle, sent, ticket, asked, task });
        let Some((latency, answer, after)) = effect else { return self.run_task(node) };
        let at = self.now + latency;
        self.at(at, Event::Answer { node, ticket, answer: Box::new(answer), after });
    }

    fn finish_cycle(&mut self, node: usize, kind: Kind, exit: Option<i32>) {
        let (now, clock) = (self.now, self.clock(node));
        let member = &mut self.members[node];
        member.cycle = None;
        if kind == Kind::Shutdown || exit.is_some() {
            member.forget();
            member.alive = false;
            self.tell(node, "daemon ends");
            return self.at(now + 5000, Event::Boot { node });
        }
        self.new_configuration(node);
        let member = &mut self.members[node];
        let asked = member.lock.cycle_ended(clock);
        if !asked && member.leads_by_view() {
            member.upper.let_leader_run_out();
        }
        let wake_at = member.memory.wake_at;
        let soon = wake_at.map_or(u64::MAX, |at| self.when(node, at));
        let member = &mut self.members[node];
        let at_once = member.upper.cycle_over();
        let next = if at_once { now } else { member.due.min(soon) }.max(now + 10);
        let next = member.lock_ends_before(now, next).unwrap_or(next);
        member.due = next;
        let forced = member.ending;
        self.at(next, Event::Wake { node, forced });
    }

    /// A new dynamic configuration takes effect between two cycles.
    fn new_configuration(&mut self, node: usize) {
        let member = &mut self.members[node];
        let config = &member.memory.config;
        let seconds = |n: i64| ms(n.max(1) as u64 * 1000);
        let timing = Timing {
            ttl: seconds(config.ttl()),
            loop_wait: seconds(config.loop_wait()),
            retry_timeout: seconds(config.retry_timeout()),
        };
        if member.me.timing == timing {
            return;
        }
        let mut me = (*member.me).clone();
        me.timing = timing;
        member.upper.set_timing(timing);
        self.longest_ttl = self.longest_ttl.max(timing.ttl.as_millis() as u64);
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
        let current = self.members[node].cycle.as_ref().is_some_and(|c| c.ticket == ticket);
        if !current {
            return;
        }
        if let Answer::Cluster(Ok(cluster)) = &answer {
            self.members[node].dynamic = self.members[node].dynamic.updated_from(cluster);
            let asked = self.members[node].cycle.as_ref().map_or(0, |c| c.asked);
            let member = &mut self.members[node];
            // What it knows already is not read again.
            if !Arc::ptr_eq(&member.seen, cluster) {
                (member.loaded_at, member.told_of) = (asked, *member.upper.changes().borrow());
            }
            member.seen = cluster.clone();
        }
        if after == After::Checkpoint {
            self.shutdown_position(node);
        }
        let Some(answer) = self.as_of_now(node, answer.clone()) else {
            // Not yet: look again.
            let soon = if matches!(answer, Answer::SyncNames(_)) { 20 } else { 200 };
            let at = self.now + soon;
            return self.at(at, Event::Answer { node, ticket, answer: Box::new(answer), after });
        };
        let Some(Running { mut cycle, sent, .. }) = self.members[node].cycle.take() else { return };
        let late = self.members[node].reference;
        let mut moment = self.moment(node);
        if self.config.planted == Planted::ArmsAtTheEnd {
            moment.server = self.members[node].server_before;
        }
        let lock = &mut self.members[node].lock;
        if late {
            let came = (sent.request(), &answer);
            lock.answered(came, moment.at, false, &moment.now());
        }
        cycle.answered(sent, answer, &moment.now(), lock);
        self.advance(node, cycle);
    }

    /// Answers that tell how things are at the end of the question; None: wait on.
    fn as_of_now(&mut self, node: usize, answer: Answer) -> Option<Answer> {
        let cycle = self.members[node].cycle.as_ref()?;
        let (request, waited) = (cycle.sent.request().clone(), self.now - cycle.asked);
        match request {
            Request::Server(ServerRequest::SetSyncNames(asked))
                if asked.heard(&answer) != Some(&SyncNamesSet::NotWritten) =>
            {
                self.sync_names_taken(node, &asked.0, waited).map(|set| asked.reply(set))
            }
            Request::Server(ServerRequest::Probe(asked)) => {
                self.look_at_server(node);
                self.observe_slots(node);
                Some(asked.reply(Box::new(self.members[node].pg_view())))
            }
            Request::Server(ServerRequest::CurrentSync(asked)) => {
                let Some(state) = self.current_sync(node) else { return Some(asked.reply(None)) };
                let settled = !state.active.is_empty() && state.sync_confirmed == state.active;
                let over = waited >= asked.wait.map_or(0, |w| w.as_millis() as u64);
                (settled || over).then(|| asked.reply(Some(Box::new(state))))
            }
            Request::Peers(PeerRequest::ReleaseSync(asked)) => {
                self.members[node].disable_sync = true;
                (self.is_released(node) || waited >= 2 * self.config.loop_wait).then(|| asked.reply(()))
            }
            // Where no server was seen the answer is there already.
            Request::Server(ServerRequest::StopToCheckpoint(asked)) if asked.heard(&answer).is_none() => {
                let lsn = Lsn::new(self.members[node].pg.lsn());
                Some(asked.reply(Stopping {
                    checkpoint: Some(ShutdownCheckpoint { location: lsn, publish: lsn }),
                    exited: false,
                }))
            }
            Request::Dcs(_)
            | Request::Peers(_)
            | Request::Server(_)
            | Request::Lock(_)
            | Request::Node(_) => Some(answer),
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
        let server = self.members[node].server(&self.config);
        let member = &mut self.members[node];
        member.lock.cycle_begins(&member.memory);
        member.told_server = (server.number, server.quiet);
        self.members[node].started_in_pause = self.paused_since.is_some() && self.members[node].pg.writable();
        self.tell(node, "daemon starts");
        let now = self.now;
        self.at(now, Event::Wake { node, forced: true });
    }

    /// The daemon is gone, and nothing else. What PostgreSQL had begun goes on.
    pub(super) fn daemon_dies(&mut self, node: usize) {
        use super::events::Postmaster;
        let ordered = self.members[node].pg.role == Role::Promoted;
        let promoting = ordered && self.is_job(node, |job| *job == ha::Job::Promote);
        self.break_off_rewind(node);
        let member = &mut self.members[node];
        member.alive = false;
        let incarnation = member.pg.incarnation;
        let stopping = member.pg.stopping;
        member.forget();
        self.wake_guardians(node);
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
        member.guardians.clear();
        member.forget();
    }
}
