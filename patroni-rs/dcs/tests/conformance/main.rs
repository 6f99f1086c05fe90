#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! What every store has to do, on its real server: one set of tests, a line for each store.
//!
//! A new store implements [`Server`] in a file of its own, and gets all [`cases`] by a line of `conformance!`.

mod cases;
#[path = "../consul/server.rs"]
#[allow(dead_code)]
mod consul_server;
mod consuls;
#[path = "../etcd3/server.rs"]
#[allow(dead_code)]
mod etcd;
mod etcds;
#[path = "../kubernetes/server.rs"]
#[allow(dead_code)]
mod kubernetes_server;
mod kuberneteses;
mod rafts;
mod secured;
#[path = "../support/mod.rs"]
mod support;
mod wakes;
#[path = "../zookeeper/server.rs"]
#[allow(dead_code)]
mod zookeeper;
mod zookeepers;

use std::time::Duration;

use patroni_dcs::{open, Dcs};
use pyfmt::Value;

/// A running server of a store; ends when it is dropped.
pub trait Server: Sized {
    /// Members are there before Patroni is, and after it.
    const MEMBERS_STAY: bool = false;

    /// Is it installed? scripts/setup leaves out what it cannot get.
    fn is_here() -> bool {
        true
    }

    /// Starts one, or shares one with others, to whom it does nothing.
    fn start() -> Self;

    /// Starts one that may be stopped.
    fn start_alone() -> Self {
        Self::start()
    }

    /// Before a node of this name uses it.
    fn welcome(&self, _name: &str) {}

    /// A name of a node that needs care.
    fn odd_name(&self) -> &'static str {
        "n\u{fc} 1%+&="
    }

    /// Name and content of the section of the configuration.
    fn section(&self) -> (&'static str, Value);

    /// Stops it with SIGSTOP, or lets it go on.
    fn freeze(&self, stop: bool);

    /// Kills it, and starts it with the data that it had.
    fn restart(&mut self);

    /// The shortest ttl in seconds that it takes.
    fn ttl(&self) -> u64 {
        5
    }

    /// How long a lock may outlive its ttl: a store is free to be late.
    fn grace(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// The configuration of a node.
pub fn config(server: &impl Server, name: &str) -> Value {
    let (section, content) = server.section();
    let ttl = i64::try_from(server.ttl()).unwrap();
    Value::from_iter([
        ("scope", Value::from("batman")),
        ("name", name.into()),
        ("ttl", ttl.into()),
        ("loop_wait", 1.into()),
        ("retry_timeout", 3.into()),
        (section, content),
    ])
}

/// A node's store.
pub async fn node(server: &impl Server, name: &str) -> Box<dyn Dcs> {
    server.welcome(name);
    let config = config(server, name);
    let opened = tokio::time::timeout(Duration::from_secs(40), open(&config)).await;
    opened.expect("the store is there").unwrap()
}

macro_rules! conformance {
    ($store:ident, $server:ty: $($case:ident),* $(,)?) => {
        conformance! { $store, $server, cfg(test): $($case),* }
    };
    ($store:ident, $server:ty, $attribute:meta: $($case:ident),* $(,)?) => {
        mod $store {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                #[$attribute]
                async fn $case() {
                    if <$server as super::Server>::is_here() {
                        super::cases::$case::<$server>().await;
                    } else {
                        eprintln!("SKIPPED: {} is not here", stringify!($store));
                    }
                }
            )*
        }
    };
    (all $store:ident, $server:ty, $attribute:meta) => {
        conformance! { $store, $server, $attribute:
            the_life_of_a_cluster, versions_decide, one_of_many_gets_the_lock, a_lock_ends_and_wakes,
            the_keeper_keeps_the_lock, a_restarted_node_keeps_its_lock, the_lock_of_who_has_died, what_is_anothers_stays, what_wakes,
            silence_is_no_refusal, a_restarted_store, odd_values, patronictl,
        }
    };
    ($($store:ident: $server:ty),* $(,)?) => {
        $(conformance! { all $store, $server, cfg(test) })*
    };
}

conformance! {
    consul: super::consuls::Server,
    consul_client_agent: super::consuls::Behind,
    etcd3: super::etcds::Grpc,
    etcd3_gateway: super::etcds::Gateway,
    etcd2: super::etcds::V2,
    kubernetes_endpoints: super::kuberneteses::Endpoints,
    kubernetes_configmaps: super::kuberneteses::ConfigMaps,
    zookeeper_single: super::zookeepers::Single,
    zookeeper_ensemble: super::zookeepers::Ensemble,
}

// Three members each, and minutes: not in CI.
conformance! { all raft_of_the_reference, super::rafts::Reference, ignore = "long: --include-ignored (scripts/test-stores)" }

conformance! { raft_of_ours, super::rafts::Ours, ignore = "long: --include-ignored (scripts/test-stores)":
    the_life_of_a_cluster, versions_decide, one_of_many_gets_the_lock, a_lock_ends_and_wakes,
    the_keeper_keeps_the_lock, a_restarted_node_keeps_its_lock, the_lock_of_who_has_died, what_is_anothers_stays, what_wakes,
    a_restarted_store, odd_values, patronictl,
}

/// Other versions of a server that is tested in full: what depends on how it speaks; the rest takes minutes, and has a
/// name of its own.
macro_rules! versions {
    ($($store:ident, $rest:ident: $server:ty),* $(,)?) => { $(
        conformance! { $store, $server:
            the_life_of_a_cluster, versions_decide, a_lock_ends_and_wakes, what_wakes, odd_values,
        }
        conformance! { $rest, $server, ignore = "long: --include-ignored (scripts/test-stores)":
            one_of_many_gets_the_lock, the_keeper_keeps_the_lock, a_restarted_node_keeps_its_lock,
            what_is_anothers_stays, silence_is_no_refusal, a_restarted_store, patronictl,
        }
    )* };
}

versions! {
    etcd35, etcd35_rest: super::etcds::Grpc35,
    etcd35_split, etcd35_split_rest: super::etcds::Split35,
    etcd35_v2, etcd35_v2_rest: super::etcds::V2of35,
    etcd36, etcd36_rest: super::etcds::Grpc36,
    etcd36_split, etcd36_split_rest: super::etcds::Split36,
    etcd37, etcd37_rest: super::etcds::Grpc37,
    etcd37_split, etcd37_split_rest: super::etcds::Split37,
}
