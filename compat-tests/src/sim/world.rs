//! The event loop, and what must never happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use patroni_core::ha::keeper::Next;
use patroni_core::ha::{self, Answer, Job, JobResult, Level, Progress, Request, Transcript};
use pyfmt::Value;

use super::dcs::Store;
use super::faults::{Fault, Plan};
use super::node::{mono, Member, Running};
use super::rng::Rng;

/// A cluster to simulate. Durations are milliseconds.
#[derive(Debug, Clone)]
pub struct Config {
    /// Members.
    pub members: usize,
    /// `ttl`.
    pub ttl: u64,
    /// `loop_wait`.
    pub loop_wait: u64,
    /// `retry_timeout`.
    pub retry_timeout: u64,
    /// How long the faults go on.
    pub faults_for: u64,
    /// A defect to find.
    pub planted: Planted,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            members: 3,
            ttl: 30_000,
            loop_wait: 10_000,
            retry_timeout: 10_000,
            faults_for: 600_000,
            planted: Planted::Nothing,
        }
    }
}

/// Deliberate defects: the simulation has to find each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The production engine.
    Nothing,
    /// Demotion is decided and not carried out, and nothing fences.
    NoDemotion,
    /// The keeper renews although the loop has stopped.
    RenewsForever,
    /// The lock is taken without comparing.
    TakesLockBlindly,
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Milliseconds.
    pub at: u64,
    /// What happened.
    pub what: String,
    /// The last lines of the story.
    pub story: Vec<String>,
}

/// Something that happens at its time.
#[derive(Debug)]
pub(super) enum Event {
    Wake { node: usize, forced: bool },
    Answer { node: usize, ticket: u64, answer: Box<Answer>, after: After },
    Keeper { node: usize },
    Thaw { node: usize },
    Job { node: usize, ticket: u64, step: u32 },
    Beat,
    Fault(Fault),
}

/// What becomes true when an answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Stopped { immediate: bool },
}

struct Queued(u64, u64, Event);
impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// The simulated world.
pub struct World {
    pub(super) config: Config,
    pub(super) dynamic: Value,
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) store: Store,
    pub(super) store_down: bool,
    pub(super) members: Vec<Member>,
    pub(super) tickets: u64,
    pub(super) faults_on: bool,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    seed: u64,
    story: Vec<String>,
    failure: Option<Failure>,
    last_leader: String,
    healed_at: Option<u64>,
    writable_since: Option<u64>,
    /// Cycles run, for speed reports.
    pub cycles: u64,
    /// Promotions seen.
    pub promotions: u64,
}

/// Period of replication, writes and checks.
const BEAT: u64 = 100;

/// Runs a seed to its end.
///
/// # Errors
/// The first broken invariant.
pub fn run(seed: u64, config: &Config) -> Result<World, Failure> {
    let mut world = World::new(seed, config);
    let plan = Plan::of(seed, config);
    for (at, fault) in plan.faults {
        world.at(at, Event::Fault(fault));
    }
    world.go(plan.end);
    match world.failure.take() {
        Some(failure) => Err(failure),
        None => Ok(world),
    }
}

impl World {
    fn new(seed: u64, config: &Config) -> World {
        let dynamic: Value = [
            ("ttl", config.ttl / 1000),
            ("loop_wait", config.loop_wait / 1000),
            ("retry_timeout", config.retry_timeout / 1000),
        ]
        .into_iter()
        .collect();
        let members = (0..config.members)
            .map(|i| Member::new(i, config.ttl, config.loop_wait, config.retry_timeout, &dynamic))
            .collect();
        let mut world = World {
            config: config.clone(),
            dynamic,
            now: 0,
            rng: Rng::new(seed),
            store: Store::default(),
            store_down: false,
            members,
            tickets: 0,
            faults_on: true,
            queue: BinaryHeap::new(),
            sequence: 0,
            seed,
            story: Vec::new(),
            failure: None,
            last_leader: String::new(),
            healed_at: None,
            writable_since: None,
            cycles: 0,
            promotions: 0,
        };
        for node in 0..config.members {
            let at = world.rng.between(0, 3000);
            world.at(at, Event::Wake { node, forced: true });
        }
        world.at(BEAT, Event::Beat);
        world
    }

    /// The story of the run so far.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Queued(time.max(self.now), self.sequence, event)));
    }

    pub(super) fn tell(&mut self, node: usize, text: impl AsRef<str>) {
        self.story.push(format!("{:>9.3} n{node} {}", self.now as f64 / 1000.0, text.as_ref()));
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            let from = self.story.len().saturating_sub(80);
            let story = self.story.get(from..).unwrap_or_default().to_vec();
            self.failure = Some(Failure { seed: self.seed, at: self.now, what: what.into(), story });
        }
    }

    fn go(&mut self, end: u64) {
        while self.failure.is_none() {
            let Some(Reverse(Queued(time, _, event))) = self.queue.pop() else { break };
            if time > end {
                break;
            }
            self.now = time;
            self.store.expire(time);
            self.handle(event);
            self.check_safety();
            self.notice_leader();
        }
        if self.failure.is_none() {
            self.check_liveness();
        }
    }

    fn handle(&mut self, event: Event) {
        let node = match &event {
            Event::Wake { node, .. }
            | Event::Answer { node, .. }
            | Event::Keeper { node }
            | Event::Job { node, .. } => Some(*node),
            Event::Beat | Event::Fault(_) | Event::Thaw { .. } => None,
        };
        if let Some(node) = node {
            let hung = self.members[node].hung_until;
            if self.members[node].frozen() {
                let thawed = self.members[node].frozen_until;
                return self.at(thawed + 1, event);
            }
            // A hung loop neither starts nor continues; the keeper is not part of it.
            if hung > self.now && matches!(event, Event::Wake { .. } | Event::Answer { .. }) {
                return self.at(hung + 1, event);
            }
        }
        match event {
            Event::Wake { node, forced } => self.wake(node, forced),
            Event::Answer { node, ticket, answer, after } => self.answered(node, ticket, *answer, after),
            Event::Keeper { node } => self.keep(node),
            Event::Thaw { node } => self.thaw(node),
            Event::Job { node, ticket, step } => self.job_step(node, ticket, step),
            Event::Beat => self.beat(),
            Event::Fault(fault) => self.apply_fault(fault),
        }
        if let Some(node) = node {
            self.rearm(node);
        }
    }

    fn wake(&mut self, node: usize, forced: bool) {
        let now = self.now;
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
        member.due = now + self.config.loop_wait;
        self.cycles += 1;
        let view = self.members[node].view(now);
        self.advance(node, view, Transcript::default());
    }

    /// Runs the engine as far as it gets.
    fn advance(&mut self, node: usize, view: ha::View, mut transcript: Transcript) {
        let (progress, lines) = ha::run(&view, &self.members[node].memory, &transcript);
        for line in transcript.fresh(lines) {
            if line.text.contains("BUG") || line.text.starts_with("Unexpected exception") {
                self.fail(format!("n{node} says it is a bug: {}", line.text));
            }
            if line.level != Level::Debug {
                self.tell(node, &line.text);
            }
        }
        match progress {
            Progress::Ask(request) => {
                self.tickets += 1;
                let ticket = self.tickets;
                let (latency, answer, after) = self.perform(node, &request);
                self.members[node].cycle = Some(Running { view, transcript, request: *request, ticket });
                let at = self.now + latency;
                self.at(at, Event::Answer { node, ticket, answer: Box::new(answer), after });
            }
            Progress::Finished(finished) => {
                self.tell(node, format!("= {}", finished.line));
                if finished.line.contains("BUG") {
                    self.fail(format!("n{node}: {}", finished.line));
                }
                self.finish_cycle(node, *finished);
            }
        }
    }

    fn finish_cycle(&mut self, node: usize, finished: ha::Finished) {
        let now = self.now;
        let member = &mut self.members[node];
        member.cycle = None;
        member.memory = finished.memory;
        member.keeper.cycle_ended(mono(now));
        if finished.exit.is_some() {
            let dynamic = self.dynamic.clone();
            let member = &mut self.members[node];
            member.forget(&dynamic);
            self.tell(node, "daemon ends");
            return self.at(now + 5000, Event::Wake { node, forced: true });
        }
        let wake_at = member.memory.wake_at.map(|at| at.as_millis() as u64);
        let next = member.due.min(wake_at.unwrap_or(u64::MAX)).max(now + 10);
        member.due = next;
        self.at(next, Event::Wake { node, forced: false });
    }

    fn answered(&mut self, node: usize, ticket: u64, answer: Answer, after: After) {
        if let After::Stopped { immediate } = after {
            self.members[node].pg.stopped(immediate);
            self.set_state(node, ha::PgState::Stopped);
        }
        let Some(cycle) = self.members[node].cycle.take_if(|c| c.ticket == ticket) else { return };
        let Running { view, mut transcript, request, .. } = cycle;
        // The view of PostgreSQL at the end of a cycle is the newest.
        let answer = match request {
            Request::Probe => Answer::Pg(Box::new(self.members[node].pg_view(self.now))),
            _ => answer,
        };
        transcript.record(request, answer, mono(self.now));
        self.advance(node, view, transcript);
    }

    fn keep(&mut self, node: usize) {
        let now = self.now;
        self.members[node].keeper_at = 0;
        if !self.members[node].alive {
            return;
        }
        match self.members[node].keeper.next(mono(now)) {
            Next::Idle | Next::WaitUntil(_) => {}
            Next::Fence => {
                self.tell(node, "! keeper fences PostgreSQL");
                if self.config.planted != Planted::NoDemotion {
                    self.members[node].pg.crash();
                }
                self.at(now + 10, Event::Wake { node, forced: true });
            }
            Next::Renew => {
                let ttl = self.config.ttl;
                let reachable = self.reaches_dcs(node);
                let renewed = match self.members[node].lease {
                    Some(lease) if reachable => self.store.keepalive(lease, now, ttl),
                    _ => false,
                };
                let member = &mut self.members[node];
                if renewed {
                    member.keeper.lease_confirmed(mono(now));
                } else {
                    member.keeper.renewal_failed(mono(now));
                }
            }
        }
    }

    /// A frozen node runs again. The keeper's alarm went off meanwhile, so it is
    /// the first to act; nothing is committed before.
    fn thaw(&mut self, node: usize) {
        if self.members[node].frozen_until > self.now {
            return;
        }
        self.members[node].frozen_until = 0;
        self.keep(node);
        self.rearm(node);
    }

    /// After whatever happened to a node: its keeper looks again.
    fn rearm(&mut self, node: usize) {
        let now = self.now;
        let forever = self.config.planted == Planted::RenewsForever;
        let member = &mut self.members[node];
        let armed = member.armed();
        member.keeper.arm(armed);
        if forever {
            member.keeper.cycle_ended(mono(now));
        }
        let at = match member.keeper.clone().next(mono(now)) {
            Next::Idle => return,
            Next::WaitUntil(at) => (at.as_millis() as u64).max(now + 1),
            Next::Fence | Next::Renew => now,
        };
        // One alarm at a time; an earlier one replaces a later one.
        if member.keeper_at <= now || at < member.keeper_at {
            member.keeper_at = at;
            self.at(at, Event::Keeper { node });
        }
    }

    fn beat(&mut self) {
        let now = self.now;
        for node in 0..self.members.len() {
            let frozen = self.members[node].frozen();
            if self.members[node].pg.writable() && !frozen {
                let bytes = self.rng.between(0, 500);
                if let Some(data) = &mut self.members[node].pg.data {
                    data.lsn += bytes;
                }
            }
            self.replicate(node);
        }
        self.at(now + BEAT, Event::Beat);
    }

    fn replicate(&mut self, node: usize) {
        let pg = &self.members[node].pg;
        let Some(source) = pg.source.filter(|_| pg.running && pg.recovery) else { return };
        let up = |i: usize| {
            let m = &self.members[i];
            m.pg.running && !m.frozen() && !m.cut_from_peers
        };
        if !up(node) || !up(source) {
            return;
        }
        let (Some(mine), Some(theirs)) = (&pg.data, self.members[source].pg.data.clone()) else { return };
        if !mine.is_prefix_of(&theirs) {
            return;
        }
        let slow = self.rng.percent(10);
        if let Some(mine) = self.members[node].pg.data.as_mut().filter(|_| !slow) {
            *mine = super::pg::Data { dirty: true, ..theirs };
        }
    }

    // ---- invariants ----

    fn check_safety(&mut self) {
        let writable: Vec<usize> = (0..self.members.len())
            .filter(|i| self.members[*i].pg.writable() && !self.members[*i].frozen())
            .collect();
        if writable.len() > 1 {
            self.fail(format!("two writable primaries: {writable:?}"));
        }
        let patience = self.config.loop_wait + self.config.retry_timeout + self.config.ttl;
        let now = self.now;
        let kept = self.members.iter().position(|m| {
            let hung = m.hung_until > now && now > m.hung_since + patience && !m.frozen();
            hung && m.alive && m.keeper.lease_until().is_some_and(|until| until > mono(now))
        });
        if let Some(node) = kept {
            self.fail(format!("n{node} keeps the lock although its loop has hung for long"));
        }
        match (writable.first(), self.writable_since) {
            (Some(_), None) => self.writable_since = Some(self.now),
            (None, _) => self.writable_since = None,
            _ => {}
        }
    }

    pub(super) fn check_promotion(&mut self, node: usize) {
        self.promotions += 1;
        let member = &self.members[node];
        let name = member.me.name.clone();
        let promised = member.keeper.lease_until().is_some_and(|until| until > mono(self.now));
        if !promised {
            self.fail(format!("n{node} begins a promotion without a lock that is promised to it"));
        }
        if self.store.get("leader").is_some_and(|owner| owner != name) {
            self.fail(format!("n{node} begins a promotion while another owns the lock"));
        }
    }

    fn notice_leader(&mut self) {
        let leader = self.store.get("leader").unwrap_or_default().to_owned();
        if leader == self.last_leader {
            return;
        }
        self.story.push(format!("{:>9.3} -- leader key: '{leader}'", self.now as f64 / 1000.0));
        self.last_leader = leader;
        // Watches wake everybody who can be reached.
        for node in 0..self.members.len() {
            if self.reaches_dcs(node) {
                let at = self.now + self.rng.between(2, 40);
                self.at(at, Event::Wake { node, forced: true });
            }
        }
    }

    pub(super) fn healed(&mut self) {
        self.faults_on = false;
        self.healed_at = Some(self.now);
    }

    fn check_liveness(&mut self) {
        let patience = self.config.ttl + 6 * self.config.loop_wait + 30_000;
        let Some(healed_at) = self.healed_at else { return };
        match self.writable_since {
            Some(since) if since <= healed_at + patience => {}
            Some(since) => self.fail(format!("writable only {} ms after the last fault", since - healed_at)),
            None => self.fail("no writable primary although all faults have ended"),
        }
        let streaming =
            self.members.iter().filter(|m| m.pg.running && m.pg.recovery && m.pg.source.is_some());
        let streaming = streaming.count();
        if streaming + 1 < self.members.len() && self.failure.is_none() {
            self.fail(format!("only {streaming} standbys have a source after all faults have ended"));
        }
    }

    pub(super) fn finish_job(&mut self, node: usize, result: JobResult) {
        let now = self.now;
        if let Some((view, _)) = self.members[node].job.take() {
            self.tell(node, format!("  job {} -> {result:?}", view.job.name()));
            self.members[node].finished.push((view.job, result));
            self.at(now + 5, Event::Wake { node, forced: true });
        }
    }

    pub(super) fn reaches_dcs(&self, node: usize) -> bool {
        !self.store_down && !self.members[node].cut_from_dcs
    }

    pub(super) fn reaches_peer(&self, from: usize, to: usize) -> bool {
        let (a, b) = (&self.members[from], &self.members[to]);
        !a.cut_from_peers && !b.cut_from_peers && b.alive && !b.frozen()
    }

    pub(super) fn index_of(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|m| m.me.name == name)
    }

    pub(super) fn set_state(&mut self, node: usize, state: ha::PgState) {
        self.members[node].pg.state = state;
        self.members[node].pg.state_since = self.now;
    }

    pub(super) fn is_job(&self, node: usize, matches: impl Fn(&Job) -> bool) -> bool {
        self.members[node].job.as_ref().is_some_and(|(view, _)| matches(&view.job))
    }
}
