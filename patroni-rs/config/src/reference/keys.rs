//! What the reference pages say of each key: what it is when it is not set, in which unit, when a change takes effect,
//! what it does. Types, limits and environment variables come from the validator and from the environment's reader.

/// When a changed value is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    /// Restart of the daemon.
    Start,
    /// SIGHUP, `patronictl reload`, `POST /reload`.
    Reload,
    /// In the whole cluster, with the next cycle.
    Dynamic,
    /// When the cluster is made, and never again.
    Once,
    /// By the next program that is started with it.
    Next,
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub path: &'static str,
    /// As in the file; empty: none.
    pub default: &'static str,
    pub unit: &'static str,
    pub applies: Applies,
    pub text: &'static str,
    /// The type of a key for which the validator has no rule.
    pub free: Option<&'static str>,
}

impl Row {
    const fn of(mut self, kind: &'static str) -> Row {
        self.free = Some(kind);
        self
    }
}

const fn row(
    path: &'static str,
    default: &'static str,
    unit: &'static str,
    applies: Applies,
    text: &'static str,
) -> Row {
    Row { path, default, unit, applies, text, free: None }
}
const fn s(path: &'static str, default: &'static str, text: &'static str) -> Row {
    row(path, default, "", Applies::Start, text)
}
const fn r(path: &'static str, default: &'static str, text: &'static str) -> Row {
    row(path, default, "", Applies::Reload, text)
}
const fn d(path: &'static str, default: &'static str, unit: &'static str, text: &'static str) -> Row {
    row(path, default, unit, Applies::Dynamic, text)
}
const fn o(path: &'static str, default: &'static str, text: &'static str) -> Row {
    row(path, default, "", Applies::Once, text)
}
const fn n(path: &'static str, default: &'static str, text: &'static str) -> Row {
    row(path, default, "", Applies::Next, text)
}

/// A chapter: heading, what to know first, keys.
pub(super) type Chapter = (&'static str, &'static str, &'static [Row]);

pub(super) const CHAPTERS: &[Chapter] = &[
    (
        "The node",
        "",
        &[
            s("name", "", "Name of this member; unique in its cluster, without a slash."),
            s("scope", "", "Name of the cluster; a part of all keys in the DCS."),
            s("namespace", "service", "First part of all keys in the DCS.").of("text"),
            s("thread_pool_size", "5", "Only read: our threads do not depend on it. A value that is no number is warned of."),
            row("thread_stack_size", "524288", "bytes", Applies::Start, "Only read, as above."),
        ],
    ),
    (
        "Log",
        "All of it is used anew after a reload, if the file has changed.",
        &[
            r("log.type", "plain", "Lines of text, or one JSON object a line."),
            r("log.level", "INFO", "From which level on records are written. In capital letters."),
            r("log.traceback_level", "ERROR", "From which level on errors are followed by their details."),
            r("log.format", "%(asctime)s %(levelname)s: %(message)s", "Format in Python's style; for JSON a list of fields."),
            r("log.dateformat", "", "strftime format of the time; then there are no milliseconds."),
            r("log.static_fields", "", "Fields that are added to each JSON record."),
            row("log.max_queue_size", "1000", "records", Applies::Reload, "Records that may wait to be written; more are dropped, and counted."),
            r("log.dir", "", "Directory of patroni.log; without it the log goes to standard error."),
            row("log.file_num", "4", "files", Applies::Reload, "Rotated files that are kept."),
            row("log.file_size", "25000000", "bytes", Applies::Reload, "Size at which the file is rotated; 0: never."),
            r("log.mode", "0666 less the umask", "Rights of the file; set when it is opened."),
            r("log.loggers", "", "Levels of single loggers, by name."),
            r("log.deduplicate_heartbeat_logs", "false", "Does not repeat the line of an uneventful cycle."),
        ],
    ),
    (
        "REST API",
        "",
        &[
            r("restapi.listen", "", "Address and port that the API listens on; `*` or no host: all."),
            r("restapi.connect_address", "", "Address and port that other members and patronictl use."),
            r("restapi.authentication.username", "", "Basic authentication of unsafe requests."),
            r("restapi.authentication.password", "", "Its password."),
            r("restapi.certfile", "", "Certificate (PEM): the API then speaks TLS. A file that was replaced is noticed."),
            r("restapi.keyfile", "", "Its key (PEM), where the certificate's file does not hold it."),
            r("restapi.keyfile_password", "", "Password of the key."),
            r("restapi.cafile", "", "CA that clients' certificates are checked with."),
            r("restapi.ciphers", "", "Cipher string of OpenSSL."),
            r("restapi.verify_client", "none", "`required`: no request without a certificate; `optional`: no unsafe one."),
            r("restapi.allowlist", "", "Addresses, networks and names that may send unsafe requests. A list: text is ignored."),
            r("restapi.allowlist_include_members", "false", "Members of the cluster may, too."),
            r("restapi.http_extra_headers", "", "Headers of every answer."),
            r("restapi.https_extra_headers", "", "Headers of every answer over TLS; they win."),
            row("restapi.request_queue_size", "5", "connections", Applies::Start, "Backlog of the listening socket."),
            s("restapi.thread_pool_size", "5", "Only read: any number of connections is served."),
            r("restapi.server_tokens", "original", "What the header Server says."),
            r("restapi.status_page", "false", "A page for people at `/status`. An addition: the reference ignores it.").of("boolean"),
        ],
    ),
    (
        "Requests to the REST API",
        "What the daemon and patronictl use to speak to members.",
        &[
            r("ctl.insecure", "false", "patronictl does not check certificates."),
            r("ctl.cacert", "", "CA of the members' certificates; without it `restapi.cafile`."),
            r("ctl.certfile", "", "Certificate of the client."),
            r("ctl.keyfile", "", "Its key."),
            r("ctl.keyfile_password", "", "Password of the key."),
            r("ctl.authentication.username", "", "Basic authentication, instead of `restapi.authentication`.").of("text"),
            r("ctl.authentication.password", "", "Its password.").of("text"),
        ],
    ),
    (
        "Dynamic configuration",
        "`bootstrap.dcs` is written into the DCS when a cluster is made, and not read again. From then on the same keys, without \
         `bootstrap.dcs.`, are changed by `patronictl edit-config` or `PATCH /config`, for all members. In the local file \
         outside of `bootstrap` they mean nothing, but for those of `postgresql`.",
        &[
            d("bootstrap.dcs.ttl", "30", "s", "How long the leader lock holds without being renewed. `loop_wait + 2 * retry_timeout` must not be more; what is, is adjusted."),
            d("bootstrap.dcs.loop_wait", "10", "s", "Time between two cycles at most."),
            d("bootstrap.dcs.retry_timeout", "10", "s", "How long requests to the DCS and to PostgreSQL are repeated. A DCS that is away longer costs the lock."),
            d("bootstrap.dcs.maximum_lag_on_failover", "1048576", "bytes", "Replicas that are further behind do not become leader. No units."),
            d("bootstrap.dcs.maximum_lag_on_syncnode", "-1", "bytes", "A synchronous standby that is further behind is replaced; -1: never. No units."),
            d("bootstrap.dcs.check_timeline", "false", "", "Replicas on another timeline do not become leader.").of("boolean"),
            d("bootstrap.dcs.max_timelines_history", "0", "timelines", "How many are kept in the history; 0: all.").of("integer"),
            d("bootstrap.dcs.member_slots_ttl", "1800", "s", "How long the slot of a member that is gone is kept. Takes units (`30min`)."),
            d("bootstrap.dcs.primary_start_timeout", "300", "s", "How long a leader that starts or recovers keeps the lock. 0: it is given up at once, where a replica can take over. No units."),
            d("bootstrap.dcs.primary_stop_timeout", "0", "s", "With synchronous mode: how long a primary that gives up the lock may take to stop before it is killed; 0: as long as it needs. No units."),
            d("bootstrap.dcs.synchronous_mode", "false", "", "`true`: commits wait for standbys that Patroni chooses; `quorum`: for any of a number of them."),
            d("bootstrap.dcs.synchronous_mode_strict", "false", "", "Commits wait also when there is no synchronous standby."),
            d("bootstrap.dcs.synchronous_node_count", "1", "standbys", "How many commits wait for."),
            d("bootstrap.dcs.failsafe_mode", "false", "", "A primary without the DCS goes on as long as all members agree.").of("boolean"),
            d("bootstrap.dcs.pause", "false", "", "Maintenance: nothing is started, stopped or promoted. `patronictl pause`.").of("boolean"),
            d("bootstrap.dcs.slots", "", "", "Slots that always exist, by name; logical ones are copied to replicas.").of("mapping"),
            d("bootstrap.dcs.ignore_slots", "", "", "Slots that are left alone: a list of what they are known by (`name`, `type`, `database`, `plugin`).").of("list of mappings"),
            d("bootstrap.dcs.standby_cluster.host", "", "", "The cluster follows this server: a standby cluster."),
            d("bootstrap.dcs.standby_cluster.port", "", "", "Its port."),
            d("bootstrap.dcs.standby_cluster.restore_command", "", "", "The cluster is fed from an archive; with or without a host."),
            d("bootstrap.dcs.standby_cluster.primary_slot_name", "", "", "Slot on the remote server."),
            d("bootstrap.dcs.standby_cluster.create_replica_methods", "", "", "How the standby leader is made."),
            d("bootstrap.dcs.standby_cluster.archive_cleanup_command", "", "", "As PostgreSQL's."),
            d("bootstrap.dcs.standby_cluster.recovery_min_apply_delay", "", "", "As PostgreSQL's."),
            d("bootstrap.dcs.postgresql.use_slots", "true", "", "Replication slots for members. The local file cannot set it."),
            d("bootstrap.dcs.postgresql.use_pg_rewind", "false", "", "A former leader is rewound where it can be."),
            d("bootstrap.dcs.postgresql.pg_ctl_timeout", "60", "s", "How long a start, stop or restart is waited for."),
            d("bootstrap.dcs.postgresql.pg_hba", "", "", "Lines of pg_hba.conf; the local ones win."),
            d("bootstrap.dcs.postgresql.pg_ident", "", "", "Lines of pg_ident.conf; the local ones win."),
            d("bootstrap.dcs.postgresql.parameters.max_connections", "100", "", "Must agree in the cluster; only from here, and on the command line of the postmaster, as the following ones. A change needs a restart of PostgreSQL."),
            d("bootstrap.dcs.postgresql.parameters.max_locks_per_transaction", "64", "", "As above."),
            d("bootstrap.dcs.postgresql.parameters.max_prepared_transactions", "0", "", "As above."),
            d("bootstrap.dcs.postgresql.parameters.max_replication_slots", "10", "", "As above."),
            d("bootstrap.dcs.postgresql.parameters.max_wal_senders", "10", "", "As above."),
            d("bootstrap.dcs.postgresql.parameters.max_worker_processes", "8", "", "As above."),
            d("bootstrap.dcs.postgresql.parameters.wal_level", "hot_standby", "", "`hot_standby` (which means `replica`), `replica` or `logical`.").of("text"),
            d("bootstrap.dcs.postgresql.parameters.wal_log_hints", "on", "", "Needed by pg_rewind without checksums.").of("boolean"),
            d("bootstrap.dcs.postgresql.parameters.track_commit_timestamp", "off", "", "As PostgreSQL's.").of("boolean"),
            d("bootstrap.dcs.postgresql.parameters.wal_keep_size", "128MB", "MB", "As PostgreSQL's (13 and later; before, `wal_keep_segments`, 8).").of("integer, or text with a unit"),
        ],
    ),
    (
        "Making a cluster",
        "",
        &[
            o("bootstrap.method", "initdb", "How the first member is made; the section of that name has `command`."),
            o("bootstrap.initdb", "", "Options of initdb: words, or pairs."),
            o("bootstrap.post_bootstrap", "", "Program that runs once in the new cluster; gets a connection string.").of("text"),
            o("bootstrap.pg_hba", "", "Lines for pg_hba.conf of the new cluster, where `postgresql.pg_hba` is not set.").of("list of texts"),
            o("bootstrap.<method>.command", "", "Program that makes the data directory.").of("text"),
            o("bootstrap.<method>.no_params", "false", "No `--scope` and `--datadir` for it.").of("boolean"),
            o("bootstrap.<method>.keep_existing_recovery_conf", "false", "Recovery settings that the program left are used.").of("boolean"),
            o("bootstrap.<method>.recovery_conf", "", "Recovery settings for the first start (point-in-time recovery).").of("mapping"),
        ],
    ),
    (
        "PostgreSQL",
        "All keys but the addresses, `data_dir`, `config_dir`, `pgpass` and `authentication` may stand in the dynamic configuration, too; what the \
         local file has wins, key by key.",
        &[
            r("postgresql.listen", "", "Addresses, with commas, and the port that PostgreSQL listens on. Takes a restart of PostgreSQL."),
            r("postgresql.connect_address", "", "Address and port that others use."),
            r("postgresql.proxy_address", "", "Address of a pooler on this host, told to those who ask the API."),
            s("postgresql.data_dir", "", "PGDATA. Patroni makes, renames and removes it."),
            s("postgresql.config_dir", "the data directory", "Where postgresql.conf and its like are.").of("text"),
            s("postgresql.config_base_name", "postgresql", "Name of the configuration file without `.conf`.").of("text"),
            s("postgresql.bin_dir", "", "Directory of PostgreSQL's programs; without it PATH is searched."),
            n("postgresql.bin_name.pg_ctl", "pg_ctl", "Name of the program."),
            n("postgresql.bin_name.initdb", "initdb", "As above."),
            n("postgresql.bin_name.pg_controldata", "pg_controldata", "As above."),
            n("postgresql.bin_name.pg_basebackup", "pg_basebackup", "As above."),
            n("postgresql.bin_name.postgres", "postgres", "As above."),
            n("postgresql.bin_name.pg_isready", "pg_isready", "As above."),
            n("postgresql.bin_name.pg_rewind", "pg_rewind", "As above."),
            s("postgresql.pgpass", "~/pgpass", "Password file that Patroni writes.").of("text"),
            s("postgresql.database", "postgres", "Database that the daemon connects to.").of("text"),
            r("postgresql.authentication.superuser.username", "the user of the system", "Role that the daemon works with."),
            r("postgresql.authentication.superuser.password", "", "Its password; `sslmode`, `sslcert`, `sslkey`, `sslpassword`, `sslrootcert`, `sslcrl`, `sslcrldir`, `gssencmode`, `channel_binding` and `sslnegotiation` may stand beside it."),
            r("postgresql.authentication.replication.username", "", "Role for replication; made in a new cluster."),
            r("postgresql.authentication.replication.password", "", "Its password, as above."),
            r("postgresql.authentication.rewind.username", "", "Role for pg_rewind (PostgreSQL 11 and later); else the superuser."),
            r("postgresql.authentication.rewind.password", "", "Its password, as above."),
            r("postgresql.parameters", "", "Parameters of PostgreSQL, but for those that the dynamic configuration controls.").of("mapping"),
            r("postgresql.parameters.unix_socket_directories", "", "As PostgreSQL's; the daemon connects there, too."),
            r("postgresql.pg_hba", "", "Lines of pg_hba.conf: the whole file."),
            r("postgresql.pg_ident", "", "Lines of pg_ident.conf: the whole file."),
            r("postgresql.custom_conf", "", "A file that is included instead of `postgresql.base.conf`.").of("text"),
            r("postgresql.recovery_conf", "", "Further recovery settings of replicas.").of("mapping"),
            row("postgresql.pg_ctl_timeout", "60", "s", Applies::Reload, "How long a start, stop or restart is waited for."),
            r("postgresql.use_pg_rewind", "false", "A former leader is rewound where it can be."),
            r("postgresql.remove_data_directory_on_rewind_failure", "false", "A failed rewind makes way for a new copy.").of("boolean"),
            r("postgresql.remove_data_directory_on_diverged_timelines", "false", "A diverged timeline makes way for a new copy, without a rewind.").of("boolean"),
            r("postgresql.use_unix_socket", "false", "The daemon connects by the socket.").of("boolean"),
            r("postgresql.use_unix_socket_repl", "false", "Its replication connections, too.").of("boolean"),
            r("postgresql.krbsrvname", "", "Name of the Kerberos service, for PostgreSQL's programs.").of("text"),
            n("postgresql.create_replica_methods", "[basebackup]", "How replicas are made, in this order.").of("list of texts"),
            n("postgresql.basebackup", "", "Options of pg_basebackup: words, or pairs.").of("list or mapping"),
            n("postgresql.<method>.command", "", "Program that makes a copy; gets `--scope`, `--role`, `--datadir`, `--connstring`, and other keys of its section.").of("text"),
            n("postgresql.<method>.no_params", "false", "None of these for it.").of("boolean"),
            n("postgresql.<method>.no_leader", "false", "It works without a leader.").of("boolean"),
            n("postgresql.<method>.keep_data", "false", "The data directory is left as it is before it runs.").of("boolean"),
            n("postgresql.callbacks.on_start", "", "Program for this event; gets the event, the role and the cluster's name.").of("text"),
            n("postgresql.callbacks.on_stop", "", "As above.").of("text"),
            n("postgresql.callbacks.on_restart", "", "As above.").of("text"),
            n("postgresql.callbacks.on_reload", "", "As above.").of("text"),
            n("postgresql.callbacks.on_role_change", "", "As above.").of("text"),
            n("postgresql.pre_promote", "", "Program that runs before a promotion; if it fails, there is none.").of("text"),
            n("postgresql.before_stop", "", "Program that runs before PostgreSQL is stopped.").of("text"),
        ],
    ),
    (
        "Watchdog",
        "",
        &[
            r("watchdog.mode", "automatic", "`off`, `automatic` (used where there is one), `required` (no leader without it)."),
            r("watchdog.device", "/dev/watchdog", "The device; the daemon's user must be able to write to it."),
            row("watchdog.safety_margin", "5", "s", Applies::Reload, "It resets the node so long before the lock can have ended; -1: half of the ttl."),
        ],
    ),
    (
        "Tags",
        "Tags of other names are published as they are.",
        &[
            r("tags.nofailover", "false", "Never leader."),
            r("tags.failover_priority", "1", "Of equal candidates the one with more becomes leader; 0: never leader."),
            r("tags.noloadbalance", "false", "`GET /replica` says 503."),
            r("tags.clonefrom", "false", "Copies are taken from this member rather than from the leader."),
            r("tags.replicatefrom", "", "Name of the member that this one follows."),
            r("tags.nosync", "false", "Never a synchronous standby."),
            r("tags.sync_priority", "1", "Of equal candidates the one with more becomes a synchronous standby; 0: never."),
            r("tags.nostream", "false", "No streaming: fed from the archive."),
        ],
    ),
    (
        "etcd",
        "`etcd3` speaks the v3 API; `etcd`, with the same keys, v2.",
        &[
            s("etcd3.host", "", "Address and port of one server."),
            s("etcd3.hosts", "", "Addresses and ports: a list, or text with commas."),
            s("etcd3.url", "", "One server as a URL."),
            s("etcd3.proxy", "", "A proxy as a URL: members are not asked for."),
            s("etcd3.srv", "", "Domain whose SRV records name the servers."),
            s("etcd3.srv_suffix", "", "Suffix of the SRV records' names."),
            s("etcd3.use_proxies", "false", "`hosts` are proxies.").of("boolean"),
            s("etcd3.protocol", "http", "`http` or `https`."),
            r("etcd3.username", "", "User."),
            r("etcd3.password", "", "Its password."),
            s("etcd3.cacert", "", "CA of the servers' certificates."),
            s("etcd3.cert", "", "Certificate of the client."),
            s("etcd3.key", "", "Its key."),
        ],
    ),
    (
        "Consul",
        "",
        &[
            s("consul.host", "127.0.0.1:8500", "Address and port of the agent."),
            s("consul.url", "", "The same as a URL."),
            s("consul.port", "8500", "Port of the agent."),
            s("consul.scheme", "http", "`http` or `https`."),
            r("consul.token", "", "ACL token."),
            s("consul.verify", "true", "Certificates are checked."),
            s("consul.cacert", "", "CA of the agent's certificate."),
            s("consul.cert", "", "Certificate of the client."),
            s("consul.key", "", "Its key."),
            r("consul.dc", "", "Datacenter."),
            s("consul.checks", "", "Health checks that the session depends on."),
            r("consul.register_service", "false", "Members are registered as services."),
            r("consul.service_tags", "", "Tags of the service, besides role and name."),
            r("consul.service_check_interval", "5s", "How often Consul asks the REST API."),
            s("consul.service_check_tls_server_name", "", "Server name of that check."),
            r("consul.consistency", "default", "Consistency of reads."),
        ],
    ),
    (
        "ZooKeeper and Exhibitor",
        "",
        &[
            s("zookeeper.hosts", "", "Addresses and ports: a list, or text with commas."),
            s("zookeeper.use_ssl", "false", "TLS."),
            s("zookeeper.cacert", "", "CA of the servers' certificates."),
            s("zookeeper.cert", "", "Certificate of the client."),
            s("zookeeper.key", "", "Its key."),
            s("zookeeper.key_password", "", "Password of the key."),
            s("zookeeper.verify", "true", "Certificates are checked."),
            s("zookeeper.set_acls", "", "Rights of the keys that are made: principal and list of permissions."),
            s("zookeeper.auth_data", "", "Who we are, scheme by scheme."),
            s("exhibitor.hosts", "", "Addresses of Exhibitor."),
            s("exhibitor.port", "", "Its port."),
            row("exhibitor.poll_interval", "300", "s", Applies::Start, "How often it is asked for the servers."),
        ],
    ),
    (
        "Kubernetes",
        "",
        &[
            s("kubernetes.labels", "", "Labels of the cluster's pods and objects."),
            s("kubernetes.bypass_api_service", "false", "API servers are asked by their own addresses."),
            s("kubernetes.namespace", "default", "Namespace of the pods; a top-level `namespace` wins."),
            s("kubernetes.scope_label", "cluster-name", "Label with the cluster's name."),
            s("kubernetes.role_label", "role", "Label with the role."),
            s("kubernetes.leader_label_value", "primary", "Its value for the leader."),
            s("kubernetes.follower_label_value", "replica", "Its value for replicas."),
            s("kubernetes.standby_leader_label_value", "primary", "Its value for a standby leader."),
            s("kubernetes.tmp_role_label", "", "A second label with the role, while the values change."),
            s("kubernetes.use_endpoints", "false", "Endpoints instead of ConfigMaps."),
            s("kubernetes.pod_ip", "", "Address of this pod; needed with Endpoints."),
            s("kubernetes.ports.name", "", "Name of a port of the Service."),
            s("kubernetes.ports.port", "5432", "The port."),
            s("kubernetes.cacert", "", "CA of the API servers' certificate."),
            s("kubernetes.context", "kind-kind", "Context of the kubeconfig, outside of a cluster.").of("text"),
            s("kubernetes.retriable_http_codes", "", "Further HTTP codes after which requests are repeated."),
            s("kubernetes.bootstrap_labels", "", "Labels of a pod while it makes the cluster."),
        ],
    ),
    (
        "Raft and Citus",
        "This build has neither; the keys are read and validated.",
        &[
            s("raft.self_addr", "", "Address and port of this member."),
            s("raft.bind_addr", "", "Address that is listened on."),
            s("raft.partner_addrs", "", "Addresses of the others."),
            s("raft.data_dir", "", "Directory of the log."),
            s("raft.password", "", "Password of the traffic."),
            s("citus.database", "", "Database of Citus."),
            s("citus.group", "", "Group of this member; 0: coordinator."),
        ],
    ),
];
