//! The cluster to simulate.

use pyfmt::Value;

use super::dcs::Kind;
use super::planted::Planted;
use super::rng::Rng;

/// `synchronous_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SyncMode {
    Off,
    On,
    Quorum,
}

impl SyncMode {
    /// As in the dynamic configuration.
    pub fn value(self) -> Value {
        match self {
            SyncMode::Off => false.into(),
            SyncMode::On => true.into(),
            SyncMode::Quorum => "quorum".into(),
        }
    }
}

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
    /// `synchronous_mode` at the beginning.
    pub sync: SyncMode,
    /// `synchronous_mode_strict`.
    pub strict: bool,
    /// `synchronous_node_count`.
    pub node_count: i64,
    /// `failsafe_mode`.
    pub failsafe: bool,
    /// `check_timeline`.
    pub check_timeline: bool,
    /// Every node has a watchdog, and it is required.
    pub watchdog: bool,
    /// Every node has a guardian, as is the default.
    pub guardian: bool,
    /// `nofailover`, `nosync` and priorities on some members.
    pub tags: bool,
    /// Operators pause, restart, reinitialize and change the configuration.
    pub operators: bool,
    /// `maximum_lag_on_failover`, bytes.
    pub maximum_lag: u64,
    /// How long the faults go on.
    pub faults_for: u64,
    /// So many in a hundred of the writes of `/sync` may be carried out after their sender gave up (half are).
    pub late_writes: u64,
    /// How long after its sender has given up a request is carried out at the latest.
    pub late_by: u64,
    /// Full disks, WAL gaps, lost watches, broken watchdogs, `pre_promote` that fails.
    pub rough: bool,
    /// Some members follow the reference's timing.
    pub mixed: bool,
    /// What befalls few clusters: see `hazards.rs`.
    pub hazards: bool,
    /// `primary_start_timeout`, seconds.
    pub start_timeout: u64,
    /// The cluster is made by a custom bootstrap method, which recovers for a while.
    pub custom_bootstrap: bool,
    /// Logical slots of the dynamic configuration.
    pub logical: bool,
    /// Nodes stand still with all their clocks.
    pub stun: bool,
    /// A standby cluster of a remote server, which operators may make independent.
    pub standby: bool,
    /// Servers that cannot be seen: see `unseen.rs`.
    pub unseen: bool,
    /// Nothing happens but backups and restores of the DCS, with switchovers in between.
    pub restores: bool,
    /// Nothing happens but standbys of outside under a member's name, and leaders that die.
    pub strangers: bool,
    /// Nothing happens but leaders that die just as a switchover to a member that is not in `/sync` is ordered.
    pub orders: bool,
    /// Servers that run and do not answer: see `silent.rs`.
    pub silent: bool,
    /// The kind of store.
    pub store: Kind,
    /// Answers of the store are lost, and requests carried out late, more often.
    pub lossy: bool,
    /// Of Raft: who leads it is of the reference, and ends keys by its wall clock, which is so many milliseconds ahead of the
    /// members'. Nothing: of ours, which counts the ttl.
    pub leader_ahead: u64,
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
            sync: SyncMode::Off,
            strict: false,
            node_count: 1,
            failsafe: false,
            check_timeline: false,
            watchdog: false,
            guardian: true,
            tags: false,
            operators: true,
            maximum_lag: 100_000,
            faults_for: 600_000,
            late_writes: 1,
            late_by: 5000,
            rough: false,
            mixed: false,
            hazards: false,
            start_timeout: 300,
            custom_bootstrap: false,
            logical: false,
            stun: false,
            standby: false,
            unseen: false,
            restores: false,
            strangers: false,
            orders: false,
            store: Kind::Etcd3,
            lossy: false,
            planted: Planted::Nothing,
            silent: false,
            leader_ahead: 0,
        }
    }
}

impl Config {
    /// The clusters of CI: their names, for `SIM_PROFILE`, and what they are.
    pub fn profiles() -> Vec<(&'static str, Config)> {
        let base = Config::default();
        let short = Config { ttl: 20_000, loop_wait: 3_000, retry_timeout: 4_000, ..base.clone() };
        vec![
            ("async", base.clone()),
            ("faults-only", Config { operators: false, ..base.clone() }),
            ("sync", Config { sync: SyncMode::On, ..base.clone() }),
            ("strict", Config { sync: SyncMode::On, strict: true, ..base.clone() }),
            ("sync-two", Config { sync: SyncMode::On, node_count: 2, members: 5, ..base.clone() }),
            ("quorum", Config { sync: SyncMode::Quorum, ..base.clone() }),
            ("quorum-two", Config { sync: SyncMode::Quorum, node_count: 2, members: 5, ..base.clone() }),
            ("failsafe", Config { failsafe: true, ..base.clone() }),
            ("watchdog", Config { watchdog: true, ..base.clone() }),
            ("unguarded", Config { guardian: false, ..base.clone() }),
            ("tags", Config { tags: true, members: 4, ..base.clone() }),
            ("timeline", Config { check_timeline: true, ..base.clone() }),
            ("pair", Config { members: 2, ..base.clone() }),
            ("short", Config { members: 5, ..short }),
            ("mixed", Config { mixed: true, ..base.clone() }),
            ("mixed-sync", Config { mixed: true, sync: SyncMode::On, ..base.clone() }),
            ("rough", Config { rough: true, ..base.clone() }),
            ("rough-quorum", Config { rough: true, sync: SyncMode::Quorum, watchdog: true, ..base.clone() }),
            ("standby", Config { standby: true, ..base.clone() }),
            ("rough-standby", Config { standby: true, rough: true, members: 4, ..base.clone() }),
            ("hazards", Config { hazards: true, watchdog: true, ..base.clone() }),
            ("hazards-quorum", Config { hazards: true, sync: SyncMode::Quorum, members: 4, ..base.clone() }),
            ("logical", Config { logical: true, ..base.clone() }),
            ("unseen", Config { unseen: true, ..base.clone() }),
            (
                "unseen-quorum",
                Config { unseen: true, sync: SyncMode::Quorum, watchdog: true, ..base.clone() },
            ),
            ("restored", Config { restores: true, maximum_lag: 20_000, ..base.clone() }),
            ("restored-sync", Config { restores: true, sync: SyncMode::On, ..base.clone() }),
            ("restored-quorum", Config { restores: true, sync: SyncMode::Quorum, ..base.clone() }),
            (
                "restored-unseen",
                Config { restores: true, sync: SyncMode::On, store: Kind::Consul, ..base.clone() },
            ),
            (
                "restored-unseen-quorum",
                Config { restores: true, sync: SyncMode::Quorum, store: Kind::Consul, ..base.clone() },
            ),
            ("strangers", Config { strangers: true, sync: SyncMode::On, ..base.clone() }),
            ("strangers-quorum", Config { strangers: true, sync: SyncMode::Quorum, ..base.clone() }),
            ("ordered", Config { orders: true, sync: SyncMode::On, ..base.clone() }),
            ("ordered-quorum", Config { orders: true, sync: SyncMode::Quorum, ..base.clone() }),
            ("stun", Config { stun: true, ..base.clone() }),
            ("silent", Config { silent: true, ..base.clone() }),
            ("etcd3", Config { lossy: true, failsafe: true, ..base.clone() }),
            ("idle", Config { lossy: true, rough: true, loop_wait: 1000, ..base.clone() }),
            ("idle-quorum", Config { stun: true, sync: SyncMode::Quorum, loop_wait: 1000, ..base.clone() }),
            ("etcd2", Config { store: Kind::Etcd2, lossy: true, ..base.clone() }),
            ("consul", Config { store: Kind::Consul, lossy: true, sync: SyncMode::On, ..base.clone() }),
            ("raft", Config { store: Kind::Raft, lossy: true, ..base.clone() }),
            (
                "raft-quorum",
                Config { store: Kind::Raft, lossy: true, sync: SyncMode::Quorum, ..base.clone() },
            ),
            ("raft-skewed", Config { store: Kind::Raft, lossy: true, leader_ahead: 9_000, ..base.clone() }),
            ("zookeeper", Config { store: Kind::ZooKeeper, lossy: true, ..base.clone() }),
            ("kubernetes", Config { store: Kind::Kubernetes, lossy: true, failsafe: true, ..base.clone() }),
            (
                "kubernetes-stun",
                Config {
                    store: Kind::Kubernetes,
                    lossy: true,
                    stun: true,
                    sync: SyncMode::On,
                    ..base.clone()
                },
            ),
            ("any", Config { members: 0, ..base }),
        ]
    }

    /// With what the seed decides: a cluster of no members gets 1 to 7, and any features.
    #[must_use]
    pub fn for_seed(&self, seed: u64) -> Config {
        if self.hazards {
            let mut rng = Rng::new(seed ^ 0x5a27_0000);
            let start_timeout = [0, 10, 20, 300][rng.between(0, 3) as usize];
            return Config { start_timeout, custom_bootstrap: rng.percent(30), ..self.clone() };
        }
        if self.restores {
            return Config { members: 2 + seed as usize % 2, ..self.clone() };
        }
        if self.members > 0 {
            return self.clone();
        }
        let mut rng = Rng::new(seed ^ 0xc1_u64.rotate_left(40));
        let sync = [SyncMode::Off, SyncMode::On, SyncMode::Quorum][rng.between(0, 2) as usize];
        Config {
            members: rng.between(1, 7) as usize,
            sync,
            strict: rng.percent(30),
            node_count: rng.between(1, 3) as i64,
            failsafe: rng.percent(30),
            check_timeline: rng.percent(30),
            watchdog: rng.percent(20),
            tags: rng.percent(30),
            mixed: rng.percent(30),
            stun: rng.percent(30),
            ..self.clone()
        }
    }

    /// The dynamic configuration.
    pub fn dynamic(&self) -> Value {
        let mut config = Value::map();
        config.set("ttl", self.ttl / 1000);
        config.set("loop_wait", self.loop_wait / 1000);
        config.set("retry_timeout", self.retry_timeout / 1000);
        config.set("maximum_lag_on_failover", self.maximum_lag);
        config.set("synchronous_mode", self.sync.value());
        config.set("synchronous_mode_strict", self.strict);
        config.set("synchronous_node_count", self.node_count);
        config.set("failsafe_mode", self.failsafe);
        config.set("check_timeline", self.check_timeline);
        config.set("primary_start_timeout", self.start_timeout);
        if self.standby {
            config.set("standby_cluster", super::remote::standby_cluster());
        }
        super::slots::configure(&mut config, self.logical);
        config
    }
}
