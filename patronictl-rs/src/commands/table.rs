//! Every command, option and argument of patronictl (surface-api-ctl 11,
//! `ctl-help/`). Parsing, help, usage errors, completion and dispatch are all made from it.

use super::{
    doctor, edit_config, failover, flush, list, pause, query, reinit, reload, remove, restart, role_change,
    show,
};
use crate::click::spec::{Arg, Command, Group, Kind, Opt};
use crate::click::{CliError, Values};
use crate::context::Context;

/// Output formats of `list`, `history` and `remove`.
const FORMATS: &[&str] = &["pretty", "tsv", "json", "yaml", "yml"];
/// Roles that members can be chosen by.
const ROLES: &[&str] = &["leader", "primary", "standby-leader", "replica", "standby", "any"];

const GROUP_OPT: Opt = Opt::new("group", &["--group"], Kind::Int, "Citus group");
const FORMAT: Opt = Opt::new("format", &["--format", "-f"], Kind::Choice(FORMATS), "Output format");
const FORCE: Opt = Opt::new("force", &["--force"], Kind::Flag, "Do not ask for confirmation at any point");
const WATCH_2: Opt = Opt::new("W", &["-W"], Kind::Flag, "Auto update the screen every 2 seconds");
const WATCH: Opt =
    Opt::new("watch", &["-w", "--watch"], Kind::Float, "Auto update the screen every X seconds");
const CANDIDATE: Opt = Opt::new("candidate", &["--candidate"], Kind::Text, "The name of the candidate");

const fn role(help: &'static str) -> Opt {
    Opt::new("role", &["--role", "-r"], Kind::Choice(ROLES), help)
}

const fn wait(help: &'static str) -> Opt {
    Opt::new("wait", &["--wait"], Kind::Flag, help)
}

const fn arg(name: &'static str, required: bool, many: bool) -> Arg {
    Arg { name, required, many, choices: &[] }
}

const CLUSTER: Arg = arg("cluster_name", true, false);
const CLUSTER_OPTIONAL: Arg = arg("cluster_name", false, false);
const CLUSTERS: Arg = arg("cluster_names", false, true);
const MEMBERS: Arg = arg("member_names", false, true);
const TARGET: Arg = Arg { name: "target", required: true, many: false, choices: &["restart", "switchover"] };

const fn command(
    name: &'static str,
    help: &'static str,
    args: &'static [Arg],
    options: &'static [Opt],
) -> Command {
    Command { name, help, options, args }
}

const GROUP_ROOT: Command = command(
    "patronictl",
    "Command-line interface for interacting with Patroni.",
    &[],
    &[
        Opt::new("config_file", &["--config-file", "-c"], Kind::Text, "Configuration file"),
        Opt::new("dcs_url", &["--dcs-url", "--dcs", "-d"], Kind::Text, "The DCS connect url"),
        Opt::new(
            "insecure",
            &["-k", "--insecure"],
            Kind::Flag,
            "Allow connections to SSL sites without certs",
        ),
    ],
);

/// The program.
pub const GROUP: Group = Group { root: GROUP_ROOT, commands: &SPECS, additions: &[DOCTOR] };

/// The commands without what carries them out: parsing and help know nothing of that.
const SPECS: [Command; COMMANDS.len()] = {
    let mut specs = [GROUP_ROOT; COMMANDS.len()];
    let mut at = 0;
    while at < specs.len() {
        specs[at] = COMMANDS[at].1;
        at += 1;
    }
    specs
};

/// The command of that name, with what carries it out.
pub fn find(name: &str) -> Option<(Run, Command)> {
    COMMANDS.iter().chain(ADDITIONS).find(|(_, command)| command.name == name).copied()
}

/// What carries a command out.
pub type Run = fn(&mut Context, &Values) -> Result<(), CliError>;

/// Commands that the reference has not got: its help, its completion and its "did you mean" do not show them.
const ADDITIONS: &[(Run, Command)] = &[(doctor::run, DOCTOR)];

const DOCTOR: Command = command(
    "doctor",
    "Look at the cluster and tell what is wrong with it, and what to do; exit code 0: nothing, 1: warnings, 2: errors",
    &[CLUSTER_OPTIONAL],
    &[GROUP_OPT, FORMAT],
);

/// The commands, sorted by name, each with what carries it out.
const COMMANDS: &[(Run, Command)] = &[
    (
        role_change::demote,
        command(
            "demote-cluster",
            "Demote cluster to a standby cluster",
            &[CLUSTER_OPTIONAL],
            &[
                FORCE,
                Opt::new("host", &["--host"], Kind::Text, "Address of the remote node"),
                Opt::new("port", &["--port"], Kind::Int, "Port of the remote node"),
                Opt::new(
                    "restore_command",
                    &["--restore-command"],
                    Kind::Text,
                    "Command to restore WAL records from the remote primary",
                ),
                Opt::new(
                    "primary_slot_name",
                    &["--primary-slot-name"],
                    Kind::Text,
                    "Name of the slot on the remote node to use for replication",
                ),
            ],
        ),
    ),
    (
        show::dsn,
        command(
            "dsn",
            "Generate a dsn for the provided member, defaults to a dsn of the leader",
            &[CLUSTER_OPTIONAL],
            &[
                role("Give a dsn of any member with this role"),
                Opt::new("member", &["--member", "-m"], Kind::Text, "Generate a dsn for this member"),
                GROUP_OPT,
            ],
        ),
    ),
    (
        edit_config::run,
        command("edit-config", "Edit cluster configuration", &[CLUSTER_OPTIONAL], EDIT_CONFIG),
    ),
    (
        failover::failover,
        command("failover", "Failover to a replica", &[CLUSTER_OPTIONAL], &[GROUP_OPT, CANDIDATE, FORCE]),
    ),
    (
        flush::run,
        command(
            "flush",
            "Discard scheduled events",
            &[CLUSTER, MEMBERS, TARGET],
            &[GROUP_OPT, role("Flush only members with this role"), FORCE],
        ),
    ),
    (
        show::history,
        command(
            "history",
            "Show the history of failovers/switchovers",
            &[CLUSTER_OPTIONAL],
            &[GROUP_OPT, FORMAT],
        ),
    ),
    (
        list::list,
        command(
            "list",
            "List the Patroni members for a given Patroni",
            &[CLUSTERS],
            &[
                GROUP_OPT,
                Opt::new("extended", &["--extended", "-e"], Kind::Flag, "Show some extra information"),
                Opt::new("timestamp", &["--timestamp", "-t"], Kind::Flag, "Print timestamp"),
                FORMAT,
                WATCH_2,
                WATCH,
            ],
        ),
    ),
    (
        pause::pause,
        command(
            "pause",
            "Disable auto failover",
            &[CLUSTER_OPTIONAL],
            &[GROUP_OPT, wait("Wait until pause is applied on all nodes")],
        ),
    ),
    (
        role_change::promote,
        command("promote-cluster", "Promote cluster, make it run standalone", &[CLUSTER_OPTIONAL], &[FORCE]),
    ),
    (query::run, command("query", "Query a Patroni PostgreSQL member", &[CLUSTER_OPTIONAL], QUERY)),
    (
        reinit::run,
        command(
            "reinit",
            "Reinitialize cluster member",
            &[CLUSTER, MEMBERS],
            &[
                GROUP_OPT,
                FORCE,
                Opt::new("from_leader", &["--from-leader"], Kind::Flag, "Get basebackup from leader"),
                wait("Wait until reinitialization completes"),
            ],
        ),
    ),
    (
        reload::run,
        command(
            "reload",
            "Reload cluster member configuration",
            &[CLUSTER, MEMBERS],
            &[GROUP_OPT, role("Reload only members with this role"), FORCE],
        ),
    ),
    (remove::run, command("remove", "Remove cluster from DCS", &[CLUSTER], &[GROUP_OPT, FORMAT])),
    (restart::run, command("restart", "Restart cluster member", &[CLUSTER, MEMBERS], RESTART)),
    (
        pause::resume,
        command(
            "resume",
            "Resume auto failover",
            &[CLUSTER_OPTIONAL],
            &[GROUP_OPT, wait("Wait until pause is cleared on all nodes")],
        ),
    ),
    (show::config, command("show-config", "Show cluster configuration", &[CLUSTER_OPTIONAL], &[GROUP_OPT])),
    (failover::switchover, command("switchover", "Switchover to a replica", &[CLUSTER_OPTIONAL], SWITCHOVER)),
    (
        list::topology,
        command(
            "topology",
            "Prints ASCII topology for given cluster",
            &[CLUSTERS],
            &[GROUP_OPT, WATCH_2, WATCH],
        ),
    ),
    (
        show::version,
        command(
            "version",
            "Output version of patronictl command or a running Patroni instance",
            &[CLUSTER_OPTIONAL, MEMBERS],
            &[GROUP_OPT],
        ),
    ),
];

const EDIT_CONFIG: &[Opt] = &[
    GROUP_OPT,
    Opt::new("quiet", &["--quiet", "-q"], Kind::Flag, "Do not show changes"),
    Opt::many("set", &["--set", "-s"], "Set specific configuration value. Can be specified multiple times"),
    Opt::many(
        "pg",
        &["--pg", "-p"],
        "Set specific PostgreSQL parameter value. Shorthand for -s postgresql.parameters. \
         Can be specified multiple times",
    ),
    Opt::new("apply", &["--apply"], Kind::Text, "Apply configuration from file. Use - for stdin."),
    Opt::new(
        "replace",
        &["--replace"],
        Kind::Text,
        "Apply configuration from file, replacing existing configuration. Use - for stdin.",
    ),
    FORCE,
];

const QUERY: &[Opt] = &[
    GROUP_OPT,
    Opt::new("format", &["--format"], Kind::Text, "Output format (pretty, tsv, json, yaml)"),
    Opt::new("file", &["--file", "-f"], Kind::File, "Execute the SQL commands from this file"),
    Opt::new("password", &["--password"], Kind::Flag, "force password prompt"),
    Opt::new("username", &["-U", "--username"], Kind::Text, "database user name"),
    WATCH_2,
    WATCH,
    role("The role of the query"),
    Opt::new("member", &["--member", "-m"], Kind::Text, "Query a specific member"),
    Opt::new("delimiter", &["--delimiter"], Kind::Text, "The column delimiter"),
    Opt::new("command", &["--command", "-c"], Kind::Text, "The SQL commands to execute"),
    Opt::new("dbname", &["-d", "--dbname"], Kind::Text, "database name to connect to"),
];

const RESTART: &[Opt] = &[
    GROUP_OPT,
    role("Restart only members with this role"),
    Opt::new("any", &["--any"], Kind::Flag, "Restart a single member only"),
    Opt::new(
        "scheduled",
        &["--scheduled"],
        Kind::Text,
        "Timestamp of a scheduled restart in unambiguous format (e.g. ISO 8601)",
    ),
    Opt::new(
        "version",
        &["--pg-version"],
        Kind::Text,
        "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)",
    ),
    Opt::new("pending", &["--pending"], Kind::Flag, "Restart if pending"),
    Opt::new(
        "timeout",
        &["--timeout"],
        Kind::Text,
        "Return error and fail over if necessary when restarting takes longer than this.",
    ),
    FORCE,
];

const SWITCHOVER: &[Opt] = &[
    GROUP_OPT,
    Opt::new("leader", &["--leader", "--primary"], Kind::Text, "The name of the current leader"),
    CANDIDATE,
    Opt::new(
        "scheduled",
        &["--scheduled"],
        Kind::Text,
        "Timestamp of a scheduled switchover in unambiguous format (e.g. ISO 8601)",
    ),
    FORCE,
    Opt::new("check", &["--check"], Kind::Flag, "Do nothing: tell who could lead, who not and why").hidden(),
    Opt::new("format", &["--format", "-f"], Kind::Choice(FORMATS), "Output format of --check").hidden(),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The kinds that an accessor of [`Values`] finds; an option of another kind, or a name that is in no table, gives
    /// nothing, without a word.
    fn declared(accessor: &str, name: &str) -> bool {
        let of_option = |opt: &Opt| match accessor {
            "flag" => opt.kind == Kind::Flag,
            "text" => matches!(opt.kind, Kind::Text | Kind::Choice(_)) && !opt.multiple,
            "many" => opt.multiple,
            "int" => opt.kind == Kind::Int,
            "float" => opt.kind == Kind::Float,
            "bytes" => opt.kind == Kind::File,
            other => panic!("values.{other}() is new: which kinds does it find?"),
        };
        let of_argument = |arg: &Arg| match accessor {
            "text" => !arg.many,
            "many" => arg.many,
            _ => false,
        };
        std::iter::once(&GROUP.root).chain(GROUP.commands).chain(GROUP.additions).any(|command| {
            command.options.iter().any(|opt| opt.name == name && of_option(opt))
                || command.args.iter().any(|arg| arg.name == name && of_argument(arg))
        })
    }

    fn sources(directory: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            if entry.path().is_dir() {
                sources(&entry.path(), found);
            } else {
                found.push(std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }

    #[test]
    fn values_are_asked_for_by_names_of_the_table() {
        let mut files = Vec::new();
        sources(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
        let mut asked = 0;
        for text in &files {
            for call in text.split("values.").skip(1) {
                let Some((accessor, rest)) = call.split_once("(\"") else { continue };
                let Some((name, _)) = rest.split_once('"') else { continue };
                let reads =
                    !["", "put"].contains(&accessor) && accessor.chars().all(|c| c.is_ascii_lowercase());
                if reads {
                    assert!(
                        declared(accessor, name),
                        "values.{accessor}(\"{name}\"): no such option or argument"
                    );
                    asked += 1;
                }
            }
        }
        assert!(asked > 50, "the sources are read: {asked}");
    }

    #[test]
    fn commands_are_sorted_and_found() {
        let names: Vec<&str> = GROUP.commands.iter().map(|command| command.name).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(names.iter().all(|name| find(name).is_some_and(|(_, command)| command.name == *name)));
        assert!(find("no-such-command").is_none());
    }
}
