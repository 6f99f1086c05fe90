//! A member: the daemon's memory, its keeper, its server, its clock.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::keeper::Arm;
use patroni_core::ha::{
    DataDir, FailsafePing, LocalMember, Memory, Mono, PgStatus, PgView, Query, Role, ScheduledRestart,
    Unfinished, View, WatchdogView,
};
use patroni_core::model::{Cluster, Lsn};
use patroni_core::node::{Cycle, JobSlot, LeaderLock, Sent, Server as Seen};
use patroni_core::sync::Tracker;
use patroni_core::tags::Tags;
use patroni_core::timing::Timing;
use pyfmt::Value;

use super::asks::Task;
use super::config::Config;
use super::floor::{Flaws, Upper};
use super::guardian::Guardian;
use super::hazards::Dir;
use super::pg::Server;
use super::planted::Planted;
use super::slots::{Knowledge, VERSION};
use super::watches::Watch;

/// Node clocks begin here, so that one that is set back stays positive.
pub const BOOTED: u64 = 1_000_000;
/// Wall clocks begin here, microseconds.
pub const EPOCH_US: i64 = 1_700_000_000_000_000;

/// A cycle that waits for an answer.
#[derive(Debug)]
pub struct Running {
    /// How far it is.
    pub cycle: Cycle,
    /// The request that is being carried out.
    pub sent: Sent,
    /// Tells an answer that comes too late from the one waited for.
    pub ticket: u64,
    /// When it was sent, true time.
    pub asked: u64,
    /// What carries it out, if it is one for the DCS.
    pub task: Option<Task>,
}

/// A member.
#[derive(Debug)]
pub struct Member {
    /// Who it is.
    pub me: Arc<LocalMember>,
    /// The engine's memory.
    pub memory: Memory,
    /// The dynamic configuration of the newest view of the cluster.
    pub dynamic: GlobalConfig,
    /// The leader lock, as the node holds it.
    pub lock: LeaderLock,
    /// The server that it was told of last, and whether nobody can write there any more.
    pub told_server: (u64, bool),
    /// The server as it was when the cycle in progress began.
    pub server_before: Seen,
    /// Of this life of the daemon and of earlier ones.
    pub guardians: Vec<Guardian>,
    /// The daemon stands still until then (SIGSTOP); PostgreSQL and the guardian run.
    pub stopped_until: u64,
    /// The daemon does not recognise the server of this number, which it has not started itself.
    pub unrecognised: Option<u64>,
    /// The last one of which this was so.
    pub mistaken: Option<u64>,
    /// Nobody can tell whether a process runs.
    pub looks_fail: bool,
    /// It takes a look that fails for the server's end (a planted defect).
    pub careless: bool,
    /// The job that runs may not touch the data directory.
    pub barred: bool,
    /// It waits for the answer to a renewal.
    pub renewing: bool,
    /// One that takes several requests.
    pub keeping: Option<super::pods::Keeping>,
    /// When the lock of somebody else runs out by its clock, and it wakes.
    pub lock_ends_at: Option<u64>,
    /// The choice of synchronous standbys.
    pub tracker: Tracker,
    /// What it knows of replication slots.
    pub slots: Knowledge,
    /// PostgreSQL.
    pub pg: Server,
    /// The cycle in progress.
    pub cycle: Option<Running>,
    /// The job in progress.
    pub slot: JobSlot,
    /// Its number: tells a step of it from one of a job before.
    pub job_ticket: u64,
    /// An operator has promoted its PostgreSQL manually, then; until a cycle has seen it.
    pub by_hand: Option<u64>,
    /// A restart that waits for its time.
    pub scheduled: Option<ScheduledRestart>,
    /// A restart on request has begun.
    pub restarting: Option<Duration>,
    /// It asks to be left alone as synchronous standby.
    pub disable_sync: bool,
    /// The upper floor of the DCS.
    pub upper: Upper,
    /// Its watch.
    pub watch: Watch,
    /// When the leader key was its own last, before it was another's; and when it was not, before it was its own.
    pub had_lock_at: u64,
    /// See above.
    pub lacked_lock_at: u64,
    /// What is wrong with the lower one on purpose.
    pub flaws: Flaws,
    /// The cluster that requests go by: as read last, while that stands.
    pub seen: Arc<Cluster>,
    /// The daemon lives.
    pub alive: bool,
    /// The daemon is to end in order.
    pub ending: bool,
    /// The daemon has finished a cycle since it was started.
    pub settled: bool,
    /// How its guardian was last told that the fence is armed.
    pub told_arm: Arm,
    /// Its daemon died in a pause, when no guardian watches.
    pub died_in_pause: bool,
    /// The whole node does not run until then (SIGSTOP of the machine).
    pub frozen_until: u64,
    /// The daemon's HA loop hangs until then (dead disk); its keeper runs.
    pub hung_until: u64,
    /// Since when.
    pub hung_since: u64,
    /// It cannot reach the DCS.
    pub cut_from_dcs: bool,
    /// The member of the DCS that it talks to is slow.
    pub slow_dcs: bool,
    /// Its watches see what happens from then on.
    pub watch_from: u64,
    /// Its requests reach the DCS, and no answer comes back.
    pub deaf_to_dcs: bool,
    /// It cannot reach its peers.
    pub cut_from_peers: bool,
    /// Its watches of the DCS are silent.
    pub no_watch: bool,
    /// Its watchdog cannot be activated.
    pub broken_watchdog: bool,
    /// It follows the reference's timing: see `reference.rs`.
    pub reference: bool,
    /// Packets to these nodes are lost.
    pub no_way_to: Vec<usize>,
    /// Last failsafe ping.
    pub failsafe_ping: Option<FailsafePing>,
    /// When the watchdog was fed, if it is armed.
    pub watchdog: Option<u64>,
    /// Counts lives of the daemon, so that late events are told from current ones.
    pub generation: u64,
    /// When the next cycle is due.
    pub due: u64,
    /// When the keeper looks next.
    pub keeper_at: u64,
    /// Its clock stands still, with the whole node, since then.
    pub clock_stands: Option<u64>,
    /// For how long it has stood still before.
    pub clock_lost: u64,
    /// Its keeper may take until then to find out what it missed.
    pub doubt_until: u64,
    /// Its clock runs at so many thousandths of true speed.
    pub rate: u64,
    /// Somebody has set its wall clock by so many milliseconds.
    pub wall_step: i64,
    /// When the newest cycle began.
    pub began_at: u64,
    /// Its daemon was started over a running primary in a pause, and knows nothing of who led meanwhile.
    pub started_in_pause: bool,
    /// The branch that an operator has made here manually.
    pub hand_branch: Option<u64>,
    /// When the cluster was last read.
    pub loaded_at: u64,
    /// And so many changes its watch had told of.
    pub told_of: u64,
    /// Standby of a known leader without WAL receiver, since then.
    pub thirsty_since: Option<u64>,
    /// The server that does not answer, and since when.
    pub silent: Option<(u64, u64)>,
    /// Planted: the mark beside half-made data is not looked at.
    pub forgets_mark: bool,
}

/// A duration in milliseconds.
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Member {
    /// A fresh member with an empty disk.
    pub fn new(index: usize, config: &Config, tags: &Value, rate: u64) -> Member {
        let me = Arc::new(LocalMember {
            name: format!("n{index}"),
            conn_url: format!("postgres://n{index}:5432/postgres"),
            api_url: format!("http://n{index}:8008/patroni"),
            proxy_url: None,
            tags: Tags::from_value(tags),
            can_bootstrap: true,
            has_no_leader_method: false,
            no_leader_methods: Vec::new(),
            reinit_on_diverged: config.rough && index.is_multiple_of(2),
            reinit_on_failed_rewind: index.is_multiple_of(2),
            user_sync_names: None,
            dynamic_config: config.dynamic(),
            timing: Timing {
                ttl: ms(config.ttl),
                loop_wait: ms(config.loop_wait),
                retry_timeout: ms(config.retry_timeout),
            },
        });
        let flaws = Flaws::of(config);
        let upper = Upper::new(&me.name, me.timing, config.store, flaws);
        let watch = Watch::new(&upper);
        Member {
            memory: Memory::new(GlobalConfig::new(config.dynamic())),
            dynamic: GlobalConfig::new(config.dynamic()),
            lock: LeaderLock::new(me.timing, false),
            told_server: (0, false),
            server_before: Seen {
                number: 0,
                role: Role::Uninitialized,
                promoting: false,
                writes: false,
                quiet: false,
            },
            guardians: Vec::new(),
            stopped_until: 0,
            renewing: false,
            keeping: None,
            lock_ends_at: None,
            tracker: Tracker::default(),
            slots: Knowledge::default(),
            me,
            pg: Server::new(),
            cycle: None,
            slot: JobSlot::default(),
            job_ticket: 0,
            by_hand: None,
            scheduled: None,
            restarting: None,
            disable_sync: false,
            upper,
            watch,
            had_lock_at: 0,
            lacked_lock_at: 0,
            flaws,
            seen: Arc::default(),
            alive: true,
            ending: false,
            settled: false,
            unrecognised: None,
            mistaken: None,
            looks_fail: false,
            careless: config.planted == super::planted::Planted::TakesFailureForEnd,
            barred: false,
            told_arm: Arm::Unknown,
            died_in_pause: false,
            frozen_until: 0,
            clock_stands: None,
            clock_lost: 0,
            doubt_until: 0,
            hung_until: 0,
            hung_since: 0,
            cut_from_dcs: false,
            slow_dcs: false,
            watch_from: 0,
            deaf_to_dcs: false,
            cut_from_peers: false,
            no_watch: false,
            broken_watchdog: false,
            reference: false,
            no_way_to: Vec::new(),
            failsafe_ping: None,
            watchdog: None,
            generation: 0,
            due: 0,
            keeper_at: 0,
            rate,
            wall_step: 0,
            began_at: 0,
            started_in_pause: false,
            hand_branch: None,
            loaded_at: 0,
            told_of: 0,
            thirsty_since: None,
            silent: None,
            forgets_mark: config.planted == Planted::ForgetsMark,
        }
    }

    /// The daemon ends and forgets everything; PostgreSQL's fate is the caller's.
    pub fn forget(&mut self) {
        self.stopped_until = 0;
        self.died_in_pause = self.memory.config.is_paused() || (self.died_in_pause && !self.settled);
        self.memory = Memory::new(GlobalConfig::new(self.me.dynamic_config.clone()));
        self.lock = LeaderLock::new(self.me.timing, self.memory.config.is_paused());
        (self.told_server, self.told_arm) = ((0, false), Arm::Unknown);
        self.renewing = false;
        (self.keeping, self.lock_ends_at) = (None, None);
        self.tracker = Tracker::default();
        self.slots = Knowledge::default();
        self.cycle = None;
        self.slot = JobSlot::default();
        self.scheduled = None;
        self.restarting = None;
        self.disable_sync = false;
        self.upper = Upper::new(&self.me.name, self.me.timing, self.upper.store().kind(), self.flaws);
        self.watch = Watch::new(&self.upper);
        self.seen = Arc::default();
        self.ending = false;
        self.settled = false;
        self.failsafe_ping = None;
        self.loaded_at = 0;
        self.generation += 1;
        self.pg.callback_fired = false;
    }

    /// Its monotonic clock.
    pub fn clock(&self, now: u64) -> Mono {
        let run = self.clock_stands.unwrap_or(now).saturating_sub(self.clock_lost);
        Mono::at(ms(BOOTED + run * self.rate / 1000))
    }

    /// When its clock will show `at`, true time.
    pub fn true_time(&self, at: Mono) -> u64 {
        (at.since_start().as_millis() as u64).saturating_sub(BOOTED) * 1000 / self.rate + self.clock_lost + 1
    }

    /// What a cycle decides on.
    pub fn view(&self, now: u64, clock: Mono) -> View {
        View {
            now: clock,
            wall_us: EPOCH_US + (now as i64 + self.wall_step) * 1000,
            me: self.me.clone(),
            pg: self.pg_view(),
            job: self.slot.running().cloned(),
            lease_until: self.lock.until(clock),
            watchdog: WatchdogView { running: self.watchdog.is_some(), healthy: true },
            failsafe_ping: self.failsafe_ping.clone(),
            disable_sync: self.disable_sync,
            scheduled_restart: self.scheduled.clone(),
        }
    }

    /// PostgreSQL as the monitoring query would show it.
    pub fn pg_view(&self) -> PgView {
        let pg = &self.pg;
        let query = match &pg.data {
            Some(data) if self.sees_server() && !pg.opening && !pg.state.is_starting() && !self.silent() => {
                Query::Row(Box::new(PgStatus {
                    is_primary: !pg.recovery,
                    timeline: if pg.recovery { 0 } else { data.timeline },
                    wal_position: Lsn::new(data.lsn),
                    replayed: pg.recovery.then_some(Lsn::new(data.lsn)),
                    received: pg.recovery.then_some(Lsn::new(data.lsn)),
                    received_timeline: (pg.recovery && pg.receiving).then_some(data.timeline),
                    control_timeline: Some(data.timeline),
                    slots: self.slots.published.clone(),
                    ..PgStatus::default()
                }))
            }
            _ => Query::Unreachable,
        };
        PgView {
            state: pg.state,
            role: pg.role,
            running: self.sees_server(),
            query,
            data_dir: match (&pg.data, pg.dir) {
                (_, Dir::Inaccessible) => DataDir::Inaccessible("simulated".into()),
                (Some(_), _) if self.half_made() && !pg.running && self.slot.running().is_none() => {
                    DataDir::HalfMade(Unfinished::Rewind)
                }
                (Some(_), _) => DataDir::Present,
                (None, _) => DataDir::Empty,
            },
            sysid: pg
                .data
                .as_ref()
                .filter(|_| pg.dir == Dir::Sound)
                .map(|d| d.sysid.to_string())
                .unwrap_or_default(),
            sysid_problem: String::new(),
            state_since: self.clock(pg.state_since),
            callback_fired: pg.callback_fired,
            server_version: VERSION,
            major_version: VERSION,
            pending_restart_reason: Value::map(),
            postmaster_start_time: None,
        }
    }

    /// Does the mark beside the data say that a rewind was broken off?
    pub fn half_made(&self) -> bool {
        self.pg.torn && !self.forgets_mark
    }

    /// The daemon sees the server that runs. One that was seen is as before while looks fail, by the descriptor that is
    /// kept of it.
    pub fn sees_server(&self) -> bool {
        let known = self.unrecognised != Some(self.pg.incarnation);
        self.pg.running && known && !(self.careless && self.looks_fail)
    }

    /// An earlier daemon's guardian may hold a promise about the server that nobody has been able to renew.
    pub fn was_mistaken(&self) -> bool {
        self.mistaken == Some(self.pg.incarnation)
    }

    /// The daemon stands still (and PostgreSQL does not).
    pub fn stopped(&self, now: u64) -> bool {
        self.stopped_until > now
    }

    /// A primary that people have made.
    pub fn leads_by_hand(&self) -> bool {
        let branch = self.pg.data.as_ref().map(|data| data.branch);
        self.pg.writable() && self.hand_branch.is_some() && self.hand_branch == branch
    }

    /// By the cluster that it has read last it has the lock.
    pub fn leads_by_view(&self) -> bool {
        self.memory.cluster.as_ref().is_some_and(|c| c.leader_name() == Some(self.me.name.as_str()))
    }

    /// Its server runs, and does not answer.
    pub fn silent(&self) -> bool {
        self.pg.running && self.silent.is_some_and(|(server, _)| server == self.pg.incarnation)
    }

    /// The whole node stands still.
    pub fn frozen(&self) -> bool {
        self.frozen_until > 0
    }

    /// The server, as far as the fence is concerned. One whose end is not proven is known by its number until then.
    pub fn server(&self, config: &Config) -> Seen {
        let known = self.sees_server() || self.pg.orphans;
        // Sessions end as a stop begins, in this model.
        let quiet = self.pg.running && self.pg.stopping && config.planted != Planted::FencesStops;
        Seen {
            number: if known { self.pg.incarnation } else { 0 },
            role: self.pg.role,
            // The role is that of a promoted server from the moment when the order goes out.
            promoting: false,
            writes: known && !self.pg.recovery,
            quiet,
        }
    }
}
