//! The event loop.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use patroni_core::ha::{self, Job, JobResult, Mono};
use patroni_core::model::Lsn;
use pyfmt::Value;

use super::commits::Ledger;
use super::config::Config;
use super::coverage::Coverage;
use super::dcs::{Kind, Store};
use super::events::{Event, Postmaster, Queued};
use super::node::{ms, Member};
use super::plan::Plan;
use super::planted::Planted;
use super::remote::{Remote, REMOTE};
use super::rng::Rng;

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Milliseconds.
    pub at: u64,
    /// The invariant's number in issue 9; 0 for what no number covers.
    pub invariant: u32,
    /// What happened.
    pub what: String,
    /// The last lines of the story.
    pub story: Vec<String>,
}

/// The simulated world.
pub struct World {
    pub(super) config: Config,
    pub(super) now: u64,
    pub(super) rng: Rng,
    pub(super) store: Store,
    pub(super) store_down: bool,
    pub(super) store_slow: bool,
    pub(super) members: Vec<Member>,
    pub(super) remote: Remote,
    /// A standby of outside.
    pub(super) stranger: super::strangers::Stranger,
    /// What the consumer of the logical slot has confirmed, and on which branch.
    pub(super) consumed: Option<(u64, u64)>,
    /// The newest backup.
    pub(super) backup: Option<super::pg::Data>,
    /// The cluster's own identifier, while `/initialize` has another.
    pub(super) own_sysid: Option<String>,
    pub(super) tickets: u64,
    pub(super) faults_on: bool,
    pub(super) ledger: Ledger,
    /// An operator has switched synchronous mode off.
    pub(super) sync_is_off: bool,
    /// The cluster is paused, since then; and when it was last.
    pub(super) paused_since: Option<u64>,
    pub(super) last_paused: u64,
    /// When the last pause began.
    pub(super) pause_began: u64,
    /// The longest ttl that was in force.
    pub(super) longest_ttl: u64,
    /// Whom operators have named as the next primary, and when the order last stood.
    pub(super) manual: BTreeMap<usize, u64>,
    /// When an operator's order last stood in the DCS.
    pub(super) ordered_at: u64,
    /// And when one to fail over, which may cost commits.
    pub(super) failover_at: u64,
    /// When the DCS went back to an earlier state: `/sync` may promise anything until the leader has seen it.
    pub(super) restored_at: Option<u64>,
    /// Slots that may be ahead of their owners, up to there: see `rob`.
    pub(super) robbed: BTreeMap<String, Lsn>,
    pub(super) last_fault: u64,
    pub(super) leader_since: u64,
    pub(super) healed_at: Option<u64>,
    pub(super) writable_since: Option<u64>,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    seed: u64,
    story: Vec<String>,
    pub(super) failure: Option<Failure>,
    pub(super) last_leader: String,
    /// Status lines and log lines seen.
    pub coverage: Coverage,
    /// Cycles run, for speed reports.
    pub cycles: u64,
    /// Promotions seen.
    pub promotions: u64,
    /// Losses that nobody can prevent: see `is_namesake`.
    pub namesakes: u64,
}

/// A session of ZooKeeper is of two to twenty of these: as it was asked for, or shortened.
const TICKS: [u64; 3] = [2000, 1000, 900];
/// Period of replication, writes and checks.
const BEAT: u64 = 100;

/// Runs a seed to its end.
///
/// # Errors
/// The first broken invariant.
pub fn run(seed: u64, config: &Config) -> Result<World, Failure> {
    run_plan(seed, config, &Plan::of(seed, &config.for_seed(seed)))
}

/// Runs a seed with other faults than its own.
///
/// # Errors
/// The first broken invariant.
pub fn run_plan(seed: u64, config: &Config, plan: &Plan) -> Result<World, Failure> {
    let mut world = World::new(seed, &config.for_seed(seed));
    for (at, fault) in &plan.faults {
        world.at(*at, Event::Fault(fault.clone()));
    }
    world.go(plan.end);
    match world.failure.take() {
        Some(failure) => Err(failure),
        None => Ok(world),
    }
}

/// Tags that a seed gives to a member; the first can always lead.
fn tags(rng: &mut Rng, index: usize, config: &Config) -> Value {
    let mut tags = Value::map();
    if !config.tags || index == 0 {
        return tags;
    }
    match rng.between(0, 5) {
        0 => tags.set("nofailover", true),
        1 => tags.set("nosync", true),
        2 => tags.set("failover_priority", rng.between(0, 3)),
        3 => tags.set("sync_priority", rng.between(0, 3)),
        _ => {}
    }
    tags
}

impl World {
    fn new(seed: u64, config: &Config) -> World {
        let mut rng = Rng::new(seed);
        let members = (0..config.members)
            .map(|i| {
                let tags = tags(&mut rng, i, config);
                Member::new(i, config, &tags, rng.between(950, 1050))
            })
            .collect();
        let mut ledger = Ledger::default();
        let remote = Remote::new(config, ledger.branch());
        let mut world = World {
            config: config.clone(),
            now: 0,
            rng,
            store: Store::new(config.store, TICKS[seed as usize % TICKS.len()]),
            store_down: false,
            store_slow: false,
            members,
            remote,
            stranger: Default::default(),
            consumed: None,
            backup: None,
            own_sysid: None,
            tickets: 0,
            faults_on: !config.restores,
            ledger,
            sync_is_off: config.sync == super::config::SyncMode::Off,
            paused_since: None,
            last_paused: 0,
            pause_began: 0,
            longest_ttl: config.ttl,
            manual: BTreeMap::new(),
            ordered_at: 0,
            failover_at: 0,
            restored_at: None,
            robbed: BTreeMap::new(),
            last_fault: 0,
            leader_since: 0,
            healed_at: None,
            writable_since: None,
            queue: BinaryHeap::new(),
            sequence: 0,
            seed,
            story: Vec::new(),
            failure: None,
            last_leader: String::new(),
            coverage: Coverage::default(),
            cycles: 0,
            promotions: 0,
            namesakes: 0,
        };
        world.appoint_references(seed);
        world.appoint_restorers();
        for node in 0..config.members {
            let at = world.rng.between(0, 3000);
            world.at(at, Event::Wake { node, forced: true });
        }
        if config.store == Kind::Kubernetes {
            let names: Vec<String> = world.members.iter().map(|member| member.me.name.clone()).collect();
            names.iter().for_each(|name| world.store.make_pod(name));
        }
        for node in (0..config.members).filter(|_| config.store == Kind::ZooKeeper) {
            world.at(0, Event::Heartbeat { node });
        }
        world.at(BEAT, Event::Beat);
        world
    }

    /// Acknowledgements that clients got.
    pub fn acknowledged(&self) -> u64 {
        self.ledger.count
    }

    /// The story of the run so far.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    /// A number that no other story has (FNV-1a of its lines): what changes no decision changes no story.
    pub fn fingerprint(&self) -> u64 {
        let bytes = self.story.iter().flat_map(|line| line.bytes().chain([b'\n']));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    pub(super) fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Queued(time.max(self.now), self.sequence, event)));
    }

    pub(super) fn tell(&mut self, node: usize, text: impl AsRef<str>) {
        self.story.push(format!("{:>9.3} n{node} {}", self.now as f64 / 1000.0, text.as_ref()));
    }

    pub(super) fn tell_all(&mut self, text: impl AsRef<str>) {
        self.story.push(format!("{:>9.3} -- {}", self.now as f64 / 1000.0, text.as_ref()));
    }

    pub(super) fn fail(&mut self, invariant: u32, what: impl Into<String>) {
        if self.failure.is_none() {
            let lines = std::env::var("SIM_STORY").ok().and_then(|lines| lines.parse().ok()).unwrap_or(150);
            let from = self.story.len().saturating_sub(lines);
            let story = self.story.get(from..).unwrap_or_default().to_vec();
            self.failure =
                Some(Failure { seed: self.seed, at: self.now, invariant, what: what.into(), story });
        }
    }

    /// A node's monotonic clock; with the planted defect, one that people set.
    pub(super) fn clock(&self, node: usize) -> Mono {
        let member = &self.members[node];
        let clock = member.clock(self.now);
        match (self.config.planted, member.wall_step) {
            (Planted::WallClock, step) if step < 0 => clock - ms(step.unsigned_abs()),
            (Planted::WallClock, step) => clock + ms(step.unsigned_abs()),
            _ => clock,
        }
    }

    /// When a node's clock will show `at`.
    pub(super) fn when(&self, node: usize, at: Mono) -> u64 {
        let member = &self.members[node];
        let step = if self.config.planted == Planted::WallClock { member.wall_step } else { 0 };
        // Not before: what is due a nanosecond after this millisecond is due in the next.
        let at = at.since_start().as_nanos().div_ceil(1_000_000);
        let at = (at as i64 - step).max(0) as u64;
        member.true_time(Mono::at(ms(at)))
    }

    fn go(&mut self, end: u64) {
        while self.failure.is_none() {
            let Some(Reverse(Queued(time, _, event))) = self.queue.pop() else { break };
            if time > end {
                break;
            }
            self.now = time;
            self.end_keys(time);
            self.handle(event);
            self.tell_watches();
            self.check_safety();
            self.notice_leader();
            self.notice_order();
        }
        if self.failure.is_none() {
            self.check_liveness();
        }
    }

    fn handle(&mut self, event: Event) {
        let node = match &event {
            Event::Wake { node, .. }
            | Event::Answer { node, .. }
            | Event::Said { node, .. }
            | Event::Kept { node, .. }
            | Event::Told { node, .. }
            | Event::Heartbeat { node }
            | Event::Keeper { node }
            | Event::Renewed { node, .. }
            | Event::Fence { node, .. }
            | Event::Guardian { node }
            | Event::Postmaster { node, .. }
            | Event::Boot { node }
            | Event::FillGap { node }
            | Event::Job { node, .. } => Some(*node),
            Event::Beat | Event::Fault(_) | Event::Thaw { .. } | Event::Late { .. } => None,
        };
        if let Some(node) = node {
            let hung = self.members[node].hung_until;
            if self.members[node].frozen() {
                let thawed = self.members[node].frozen_until;
                return self.at(thawed + 1, event);
            }
            // A stopped daemon does nothing; PostgreSQL and the guardian are not part of it.
            let stopped = self.members[node].stopped_until;
            if stopped > self.now && !matches!(event, Event::Guardian { .. } | Event::Postmaster { .. }) {
                return self.at(stopped + 1, event);
            }
            // A hung loop neither starts nor continues; the keeper is not part of it.
            if hung > self.now
                && matches!(event, Event::Wake { .. } | Event::Answer { .. } | Event::Said { .. })
            {
                return self.at(hung + 1, event);
            }
        }
        match event {
            Event::Wake { node, forced } => self.wake(node, forced),
            Event::Answer { node, ticket, answer, after } => self.answered(node, ticket, *answer, after),
            Event::Said { node, ticket, id, said } => self.said(node, ticket, id, said.map(|said| *said)),
            Event::Kept { node, sent, id, said } => self.kept(node, sent, id, said.map(|said| *said)),
            Event::Told { node, generation, changes } => self.told(node, generation, changes),
            Event::Heartbeat { node } => self.heartbeat(node),
            Event::Late { node, generation, op } => self.late(node, generation, &op),
            Event::Keeper { node } => self.keep(node),
            Event::Renewed { node, generation, sent, outcome } => {
                self.renewed(node, generation, sent, outcome)
            }
            Event::Fence { node, incarnation } => self.fence(node, incarnation),
            Event::Guardian { node } => self.guard(node),
            Event::Thaw { node } => self.thaw(node),
            Event::Job { node, ticket, step } => self.job_step(node, ticket, step),
            Event::Postmaster { node, incarnation, what } => self.postmaster(node, incarnation, what),
            Event::Boot { node } => self.boot(node),
            Event::FillGap { node } => self.fill_gap(node),
            Event::Beat => self.beat(),
            Event::Fault(fault) => self.apply_fault(fault),
        }
        if let Some(node) = node {
            self.rearm(node);
        }
    }

    // ---- the servers ----

    fn beat(&mut self) {
        let now = self.now;
        self.remote_writes();
        self.back_up();
        for node in 0..self.members.len() {
            let pg = &self.members[node].pg;
            if pg.writable() && !pg.full && !self.members[node].frozen() {
                let bytes = self.rng.between(0, 500);
                if let Some(data) = &mut self.members[node].pg.data {
                    data.lsn += bytes;
                }
            }
            self.replicate(node);
        }
        self.consume();
        self.stranger_connects();
        self.acknowledge();
        self.tend_watches();
        self.watch_the_watchdogs();
        self.check_receivers();
        self.at(now + BEAT, Event::Beat);
    }

    fn postmaster(&mut self, node: usize, incarnation: u64, what: Postmaster) {
        if self.members[node].pg.incarnation != incarnation || !self.members[node].pg.running {
            return;
        }
        match what {
            Postmaster::Exits => self.members[node].pg.stopped(false),
            Postmaster::Promotes => self.promote(node),
            Postmaster::Opens => {
                self.members[node].pg.opening = false;
                if self.members[node].slot.running().is_none() && self.members[node].pg.state.is_starting() {
                    self.set_state(node, ha::PgState::Running);
                }
            }
            Postmaster::Reloads => {
                self.members[node].pg.reloaded();
                self.check_sync_promise();
            }
        }
    }

    // ---- words that the modules share ----

    fn notice_leader(&mut self) {
        if self.store.get("leader").unwrap_or_default() == self.last_leader {
            return;
        }
        let leader = self.store.get("leader").unwrap_or_default().to_owned();
        self.tell_all(format!("leader key: '{leader}'"));
        let before = std::mem::replace(&mut self.last_leader, leader);
        let (now, after) = (self.now, self.last_leader.clone());
        for member in &mut self.members {
            if member.me.name == before {
                member.had_lock_at = now;
            }
            if member.me.name == after {
                member.lacked_lock_at = now;
            }
        }
        self.leader_since = now;
    }

    /// An operator's request wakes everybody who can be reached.
    pub(super) fn wake_all(&mut self) {
        for node in 0..self.members.len() {
            let member = &self.members[node];
            let watches = !member.deaf_to_dcs && !member.no_watch && member.watch_from <= self.now;
            if self.reaches_dcs(node) && watches {
                let at = self.now + self.rng.between(2, 40);
                self.at(at, Event::Wake { node, forced: true });
            }
        }
    }

    pub(super) fn finish_job(&mut self, node: usize, result: JobResult) {
        let now = self.now;
        if let Some(view) = self.members[node].slot.running() {
            let name = view.job.name();
            self.tell(node, format!("  job {name} -> {}", shown(&result)));
            self.members[node].slot.finish(result);
            self.at(now + 5, Event::Wake { node, forced: true });
        }
    }

    /// Does the leader key name this member?
    pub(super) fn has_lock(&self, node: usize) -> bool {
        self.store.get("leader") == Some(self.members[node].me.name.as_str())
    }

    pub(super) fn index_of(&self, name: &str) -> Option<usize> {
        let remote = (name == super::remote::NAME).then_some(REMOTE);
        remote.or_else(|| self.members.iter().position(|m| m.me.name == name))
    }

    pub(super) fn set_state(&mut self, node: usize, state: ha::PgState) {
        self.members[node].pg.state = state;
        self.members[node].pg.state_since = self.now;
    }

    pub(super) fn is_job(&self, node: usize, matches: impl Fn(&Job) -> bool) -> bool {
        self.members[node].slot.runs(matches)
    }
}

/// How a job ended, in the story: the words of recorded fingerprints, however the types are called.
fn shown(result: &JobResult) -> String {
    match result {
        JobResult::Stopped(Some(at)) => {
            format!("Stopped(Some(({}, {})))", at.location.bytes(), at.publish.bytes())
        }
        other => format!("{other:?}"),
    }
}
