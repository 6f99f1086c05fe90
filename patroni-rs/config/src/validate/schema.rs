//! The schema of the local configuration.

use patroni_core::stores::STORES;

use super::leaf::Check;

/// What a value has to be.
#[derive(Debug)]
pub(super) enum Rule {
    /// Text.
    Str,
    /// An integer, or a boolean.
    Int,
    /// A boolean.
    Bool,
    /// Any mapping, in the words for a value.
    Dict,
    /// Something to be computed.
    Check(Check),
    /// A mapping with these keys; others are not looked at.
    Map(&'static [(Key, Rule)]),
    /// A list, not empty, of such items.
    List(&'static Rule),
    /// One of these.
    Or(&'static [Rule]),
    /// One rule for each of the names that the key lists.
    Case(&'static [(&'static str, Rule)]),
    /// The directory of PostgreSQL's binaries.
    BinDir,
}

/// Which keys a rule is for.
#[derive(Debug)]
pub(super) enum Key {
    /// It must be there.
    Req(&'static str),
    /// It may be there.
    Opt(&'static str),
    /// It may be there, and is added with the empty text when it is not.
    OptEmpty(&'static str),
    /// At least one of them must be there.
    AnyOf(&'static [&'static str]),
    /// At most one of them may be there.
    AtMostOne(&'static [&'static str]),
}

use Key::{AnyOf, AtMostOne, Opt, OptEmpty, Req};
use Rule::{Bool, Case, Dict, Int, List, Map, Or, Str};

const fn check(check: Check) -> Rule {
    Rule::Check(check)
}

/// An integer, written as such, within bounds.
const fn int(min: i64, max: i64) -> Rule {
    check(Check::Integer { min, max, unit: None, multiple_of: 1, strict: true })
}

/// An integer, possibly as text, within bounds.
const fn number(min: i64, max: i64) -> Rule {
    check(Check::Integer { min, max, unit: None, multiple_of: 1, strict: false })
}

const ANY: i64 = i64::MAX;
const PORT: Rule = int(i64::MIN, 65535);
const LISTEN: Rule = check(Check::Listen);
const CONNECT_ADDRESS: Rule = check(Check::ConnectAddress);
const REACHABLE: Rule = check(Check::Reachable);
const BINARY: Rule = check(Check::Binary);
const TEXTS: Rule = List(&Str);
const HOSTS: Rule = Or(&[check(Check::ReachableCsv), List(&REACHABLE)]);

/// The whole configuration.
pub(super) const ROOT: &Rule = &Map(&[
    (Req("name"), Str),
    (Req("scope"), Str),
    (Opt("thread_pool_size"), int(5, ANY)),
    (
        Opt("thread_stack_size"),
        check(Check::Integer { min: 65536, max: ANY, unit: Some("B"), multiple_of: 65536, strict: true }),
    ),
    (Opt("log"), LOG),
    (Opt("ctl"), CTL),
    (Req("restapi"), RESTAPI),
    (Opt("bootstrap"), BOOTSTRAP),
    (AnyOf(&STORES), DCS),
    (Opt("citus"), Map(&[(Req("database"), Str), (Req("group"), int(0, ANY))])),
    (Req("postgresql"), POSTGRESQL),
    (
        Opt("watchdog"),
        Map(&[
            (Opt("mode"), check(Check::WatchdogMode)),
            (Opt("device"), Str),
            (Opt("safety_margin"), int(-1, ANY)),
        ]),
    ),
    (Opt("tags"), TAGS),
]);

const LOG: Rule = Map(&[
    (Opt("type"), check(Check::Word(&["plain", "json"]))),
    (Opt("level"), check(Check::Word(&["DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL"]))),
    (Opt("traceback_level"), check(Check::WordAnyCase(&["debug", "error"]))),
    (Opt("format"), check(Check::LogFormat)),
    (Opt("dateformat"), Str),
    (Opt("static_fields"), Dict),
    (Opt("max_queue_size"), Int),
    (Opt("dir"), Str),
    (Opt("file_num"), Int),
    (Opt("file_size"), Int),
    (Opt("mode"), int(0, 511)),
    (Opt("loggers"), Dict),
    (Opt("deduplicate_heartbeat_logs"), Bool),
]);

const CTL: Rule = Map(&[
    (Opt("insecure"), Bool),
    (Opt("cacert"), Str),
    (Opt("certfile"), Str),
    (Opt("keyfile"), Str),
    (Opt("keyfile_password"), Str),
]);

const RESTAPI: Rule = Map(&[
    (Opt("thread_pool_size"), int(5, ANY)),
    (Req("listen"), LISTEN),
    (Req("connect_address"), CONNECT_ADDRESS),
    (Opt("authentication"), Map(&[(Req("username"), Str), (Req("password"), Str)])),
    (Opt("certfile"), Str),
    (Opt("keyfile"), Str),
    (Opt("keyfile_password"), Str),
    (Opt("cafile"), Str),
    (Opt("ciphers"), Str),
    (Opt("verify_client"), check(Check::Word(&["none", "optional", "required"]))),
    (Opt("allowlist"), TEXTS),
    (Opt("allowlist_include_members"), Bool),
    (Opt("http_extra_headers"), Dict),
    (Opt("https_extra_headers"), Dict),
    (Opt("request_queue_size"), int(0, 4096)),
    (Opt("server_tokens"), check(Check::WordAnyCase(&["minimal", "productonly", "original"]))),
]);

const BOOTSTRAP: Rule =
    Map(&[(Req("dcs"), BOOTSTRAP_DCS), (Opt("initdb"), List(&Or(&[Str, Dict]))), (Opt("method"), Str)]);

const BOOTSTRAP_DCS: Rule = Map(&[
    (Opt("ttl"), number(20, ANY)),
    (Opt("loop_wait"), number(1, ANY)),
    (Opt("retry_timeout"), number(3, ANY)),
    (Opt("maximum_lag_on_failover"), number(0, ANY)),
    (Opt("maximum_lag_on_syncnode"), number(-1, ANY)),
    (
        Opt("member_slots_ttl"),
        check(Check::Integer { min: 0, max: ANY, unit: Some("s"), multiple_of: 1, strict: false }),
    ),
    (
        Opt("postgresql"),
        Map(&[
            (
                Opt("parameters"),
                Map(&[
                    (Opt("max_connections"), number(1, 262_143)),
                    (Opt("max_locks_per_transaction"), number(10, 2_147_483_647)),
                    (Opt("max_prepared_transactions"), number(0, 262_143)),
                    (Opt("max_replication_slots"), number(0, 262_143)),
                    (Opt("max_wal_senders"), number(0, 262_143)),
                    (Opt("max_worker_processes"), number(0, 262_143)),
                ]),
            ),
            (Opt("use_pg_rewind"), Bool),
            (Opt("pg_hba"), TEXTS),
            (Opt("pg_ident"), TEXTS),
            (Opt("pg_ctl_timeout"), number(0, ANY)),
            (Opt("use_slots"), Bool),
        ]),
    ),
    (Opt("primary_start_timeout"), number(0, ANY)),
    (Opt("primary_stop_timeout"), number(0, ANY)),
    (
        Opt("standby_cluster"),
        Map(&[
            (
                AnyOf(&["host", "port", "restore_command"]),
                Case(&[("host", Str), ("port", PORT), ("restore_command", Str)]),
            ),
            (Opt("primary_slot_name"), Str),
            (Opt("create_replica_methods"), TEXTS),
            (Opt("archive_cleanup_command"), Str),
            (Opt("recovery_min_apply_delay"), Str),
        ]),
    ),
    (Opt("synchronous_mode"), check(Check::SynchronousMode)),
    (Opt("synchronous_mode_strict"), Bool),
    (Opt("synchronous_node_count"), number(1, ANY)),
]);

const DCS: Rule = Case(&[
    ("consul", CONSUL),
    ("etcd", ETCD),
    ("etcd3", ETCD),
    ("exhibitor", Map(&[(Req("hosts"), TEXTS), (Req("port"), PORT), (Opt("poll_interval"), int(1, ANY))])),
    (
        "raft",
        Map(&[
            (Req("self_addr"), CONNECT_ADDRESS),
            (Opt("bind_addr"), LISTEN),
            (Req("partner_addrs"), check(Check::ReachableList)),
            (Opt("data_dir"), Str),
            (Opt("password"), Str),
        ]),
    ),
    (
        "zookeeper",
        Map(&[
            (Req("hosts"), HOSTS),
            (Opt("use_ssl"), Bool),
            (Opt("cacert"), Str),
            (Opt("cert"), Str),
            (Opt("key"), Str),
            (Opt("key_password"), Str),
            (Opt("verify"), Bool),
            (Opt("set_acls"), Dict),
            (Opt("auth_data"), Dict),
        ]),
    ),
    ("kubernetes", KUBERNETES),
]);

const CONSUL: Rule = Map(&[
    (AnyOf(&["host", "url"]), Case(&[("host", REACHABLE), ("url", Str)])),
    (Opt("port"), PORT),
    (Opt("scheme"), Str),
    (Opt("token"), Str),
    (Opt("verify"), Bool),
    (Opt("cacert"), Str),
    (Opt("cert"), Str),
    (Opt("key"), Str),
    (Opt("dc"), Str),
    (Opt("checks"), TEXTS),
    (Opt("register_service"), Bool),
    (Opt("service_tags"), TEXTS),
    (Opt("service_check_interval"), Str),
    (Opt("service_check_tls_server_name"), Str),
    (Opt("consistency"), check(Check::Word(&["default", "consistent", "stale"]))),
]);

const ETCD: Rule = Map(&[
    (
        AnyOf(&["host", "hosts", "srv", "srv_suffix", "url", "proxy"]),
        Case(&[
            ("host", REACHABLE),
            ("hosts", HOSTS),
            ("srv", Str),
            ("srv_suffix", Str),
            ("url", Str),
            ("proxy", Str),
        ]),
    ),
    (Opt("protocol"), Str),
    (Opt("username"), Str),
    (Opt("password"), Str),
    (Opt("cacert"), Str),
    (Opt("cert"), Str),
    (Opt("key"), Str),
]);

const KUBERNETES: Rule = Map(&[
    (Req("labels"), Map(&[])),
    (Opt("bypass_api_service"), Bool),
    (Opt("namespace"), Str),
    (Opt("scope_label"), Str),
    (Opt("role_label"), Str),
    (Opt("leader_label_value"), Str),
    (Opt("follower_label_value"), Str),
    (Opt("standby_leader_label_value"), Str),
    (Opt("tmp_role_label"), Str),
    (Opt("use_endpoints"), Bool),
    (Opt("pod_ip"), Or(&[check(Check::Ipv4), check(Check::Ipv6)])),
    (Opt("ports"), List(&Map(&[(Req("name"), Str), (Req("port"), PORT)]))),
    (Opt("cacert"), Str),
    (Opt("retriable_http_codes"), Or(&[Int, List(&Int)])),
    (Opt("bootstrap_labels"), Dict),
]);

const USER: Rule = Map(&[(Req("username"), Str), (Opt("password"), Str)]);

const POSTGRESQL: Rule = Map(&[
    (Req("listen"), check(Check::ListenHosts)),
    (Req("connect_address"), CONNECT_ADDRESS),
    (Opt("proxy_address"), CONNECT_ADDRESS),
    (
        Req("authentication"),
        Map(&[(Req("replication"), USER), (Req("superuser"), USER), (Opt("rewind"), USER)]),
    ),
    (Req("data_dir"), check(Check::DataDir)),
    (
        Opt("bin_name"),
        Map(&[
            (Opt("pg_ctl"), BINARY),
            (Opt("initdb"), BINARY),
            (Opt("pg_controldata"), BINARY),
            (Opt("pg_basebackup"), BINARY),
            (Opt("postgres"), BINARY),
            (Opt("pg_isready"), BINARY),
            (Opt("pg_rewind"), BINARY),
        ]),
    ),
    (OptEmpty("bin_dir"), Rule::BinDir),
    (Opt("parameters"), Map(&[(Opt("unix_socket_directories"), Str)])),
    (Opt("pg_hba"), TEXTS),
    (Opt("pg_ident"), TEXTS),
    (Opt("pg_ctl_timeout"), number(0, ANY)),
    (Opt("use_pg_rewind"), Bool),
]);

const TAGS: Rule = Map(&[
    (
        AtMostOne(&["nofailover", "failover_priority"]),
        Case(&[("nofailover", Bool), ("failover_priority", int(0, ANY))]),
    ),
    (Opt("clonefrom"), Bool),
    (Opt("noloadbalance"), Bool),
    (Opt("replicatefrom"), Str),
    (AtMostOne(&["nosync", "sync_priority"]), Case(&[("nosync", Bool), ("sync_priority", int(0, ANY))])),
    (Opt("nostream"), Bool),
]);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use patroni_core::tags;

    use super::*;

    fn names(rule: &Rule) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        match rule {
            Map(keys) => {
                for (key, _) in *keys {
                    match key {
                        Req(name) | Opt(name) | OptEmpty(name) => found.extend([*name]),
                        AnyOf(names) | AtMostOne(names) => found.extend(names.iter().copied()),
                    }
                }
            }
            Case(cases) => found.extend(cases.iter().map(|(name, _)| *name)),
            _ => {}
        }
        found
    }

    #[test]
    fn what_is_listed_elsewhere_has_a_rule() {
        assert_eq!(names(&TAGS), tags::TAGS.iter().map(|tag| tag.name).collect());
        assert_eq!(names(&DCS), STORES.into_iter().collect());
    }
}
