//! Help, usage errors, configuration, environment.

use std::time::Duration;

use super::{case, Case, Input};
use crate::diff::cli::COMMANDS;

/// Command lines that are wrong, or whose parsing is particular.
const USAGE: &[&str] = &[
    "",
    "--help",
    "list --help extra --nope",
    "--nope",
    "--insecur list",
    "-x list",
    "lis",
    "foo",
    "-- --foo",
    "-k",
    "--config-file",
    "--help list",
    "list --form json",
    "list -x",
    "list --format",
    "list -f",
    "list -f nope",
    "list -f JSON",
    "list --format=json demo",
    "list -fjson demo",
    "list -ef json demo",
    "list demo -ef json",
    "list -fjson -ftsv demo",
    "list --extended=1",
    "list -w abc",
    "list -w 0 demo",
    "list --group x",
    "list --group 1.0",
    "list --group ''",
    "list --group ' 1 ' cit",
    "list --group 9223372036854775807 demo",
    "list -- demo",
    "list --timestamp=x",
    "topology -e",
    "history demo extra",
    "history demo x y",
    "history -f x demo",
    "reload",
    "reinit",
    "restart",
    "remove",
    "flush",
    "flush demo",
    "flush demo a",
    "flush demo a b switch",
    "flush restart",
    "dsn --role x demo",
    "dsn -r LEADER",
    "dsn -m",
    "query -f /nonexistent/x",
    "query -f /",
    "query -f /etc/shadow -c x",
    "query",
    "query -c x -f /dev/null",
    "edit-config -s",
    "restart --rol any demo",
    "switchover --master a",
    "switchover --leade a",
    "demote-cluster --port x --host y",
    "demote-cluster",
    "demote-cluster --port 0",
    "pause --wai",
    "version demo --nope",
    "list -é",
    "list --é",
    "lïst",
    "list -W5",
    "list -",
    "list demo -- --help",
    "show-confg",
    "re",
    "res",
    "remov",
    "switch",
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for command in COMMANDS {
        cases.push(case(&format!("{command} --help")));
        for columns in ["20", "40", "60", "200"] {
            cases.push(case(&format!("{command} --help")).env("COLUMNS", columns));
        }
        for columns in [20, 40, 100] {
            cases.push(case(&format!("{command} --help")).tty_of(columns, &[]));
        }
        cases.push(case(&format!("{command} --nope")));
    }
    for columns in [20, 40, 70, 200] {
        cases.push(case("--help").tty_of(columns, &[]));
        cases.push(case("").tty_of(columns, &[]));
        cases.push(case("list --nope").tty_of(columns, &[]));
        cases.push(case("restart").tty_of(columns, &[]));
    }
    cases.extend(USAGE.iter().map(|line| case(line)));
    cases.extend(configuration());
    cases.extend(environment());
    cases.extend(completion());
    cases
}

fn configuration() -> Vec<Case> {
    let list = || case("list demo");
    vec![
        case("-c /nonexistent list"),
        case("-c '' list").no_config(),
        case("-c /etc list").no_config(),
        case("--help").no_config(),
        case("list").no_config(),
        case("list demo").no_config(),
        case("show-config").no_config(),
        case("dsn").no_config(),
        case("version").no_config(),
        case("version demo").no_config(),
        case("list").config("scope: demo\n"),
        case("list"),
        case("topology"),
        case("history"),
        case("show-config"),
        case("edit-config -s a=1"),
        case("pause"),
        case("switchover"),
        case("failover"),
        case("dsn"),
        case("query -c 'select 1'"),
        case("promote-cluster"),
        case("demote-cluster --host x"),
        list().config("NODCSfoo: bar\n"),
        list().config("NODCS[1, 2\n"),
        list().config("NODCS- a\n- b\n"),
        list().config("NODCStext\n"),
        list().config("NODCS\n"),
        list().config("NODCSetcd3:\n  host: 127.0.0.1:ETCD\n"),
        list().config("NODCSetcd3:\n  url: http://127.0.0.1:ETCD\nnamespace: nothing\n"),
        list().config("NODCSetcd3: {}\n"),
        list().config("NODCSetcd3:\n"),
        list().config("NODCSfoo: 1\n").called("no DCS"),
        list().config("ctl:\n  insecure: true\n"),
        list().config("ctl:\n"),
        list().config("ctl: text\n"),
        list().config("citus:\n  group: 0\n  database: citus\n"),
        list().config("log:\n  level: DEBUG\n"),
        list().config("loop_wait: 3\n"),
        case("-d etcd3://127.0.0.1:ETCD list demo"),
        case("-d etcd3://127.0.0.1:ETCD/SPACE/service list demo").no_config(),
        case("-d etcd3://127.0.0.1:ETCD/SPACE/service/ list demo").no_config(),
        case("--dcs etcd3://127.0.0.1:ETCD/SPACE/service show-config demo").no_config(),
        case("--dcs-url=etcd3://127.0.0.1:ETCD/SPACE/service show-config demo").no_config(),
        case("-d zk://h list demo"),
        case("-d kubernetes:// list demo"),
        case("-d raft://x list demo"),
        case("-d etcd3://h:x list demo"),
        case("-d etcd3://h:99999 list demo"),
        case("-d etcd3://[::1 list demo"),
        case("list demo").no_config().env("DCS_URL", "etcd3://127.0.0.1:ETCD/SPACE/service"),
        case("list demo").env("DCS_URL", "").called("empty"),
        case("list demo").no_config().env("PATRONICTL_CONFIG_FILE", "/nonexistent"),
        case("list demo").no_config().env("PATRONICTL_CONFIG_FILE", ""),
        case("list")
            .no_config()
            .file("mine.yml", "scope: demo\nnamespace: /SPACE/service\netcd3: {host: 127.0.0.1:ETCD}\n")
            .env("PATRONICTL_CONFIG_FILE", "HOMEDIR/mine.yml"),
        case("-k version demo"),
        case("version demo").config("ctl:\n  authentication:\n    username: u\n    password: 'p:q'\n"),
        case("reload demo --force").config("ctl:\n  authentication:\n    username: u\n    password: 'p:q'\n"),
        case("reload demo --force")
            .config("restapi:\n  authentication:\n    username: ru\n    password: rp\n"),
        case("reload demo --force").config("ctl:\n  authentication:\n    username: u\n"),
        case("reload demo --force").config("ctl:\n  certfile: /nonexistent.crt\n"),
        case("reload demo --force").config("ctl:\n  cacert: /nonexistent.crt\n"),
        case("reload plainapi --force").config("ctl:\n  cacert: /nonexistent.crt\n"),
        case("version plainapi"),
        case("-k version plainapi"),
    ]
}

fn environment() -> Vec<Case> {
    let mut cases = vec![
        case("list demo").env("LOGLEVEL", "nonsense"),
        case("list demo").env("LOGLEVEL", "debug"),
        case("list demo").env("LOGLEVEL", "INFO"),
        case("list").env("LOGLEVEL", "ERROR"),
        case("list").env("PATRONI_LOG_LEVEL", "CRITICAL"),
        case("list").env("LOGLEVEL", "ERROR").env("PATRONI_LOGLEVEL", "WARNING"),
        case("list").env("PATRONI_SCOPE", "demo"),
        case("list").env("PATRONI_NAMESPACE", "/SPACE/service"),
        case("list demo")
            .no_config()
            .env("PATRONI_ETCD3_HOSTS", "127.0.0.1:ETCD")
            .env("PATRONI_NAMESPACE", "/SPACE/service"),
        case("list demo")
            .no_config()
            .env("PATRONI_ETCD3_HOST", "127.0.0.1:ETCD")
            .env("PATRONI_NAMESPACE", "/SPACE/service"),
        case("list demo")
            .no_config()
            .env("PATRONI_ETCD3_URL", "http://127.0.0.1:ETCD")
            .env("PATRONI_NAMESPACE", "/SPACE/service"),
        case("reload demo --force").env("PATRONI_CTL_USERNAME", "a").env("PATRONI_CTL_PASSWORD", "b"),
        case("reload demo --force").env("PATRONI_RESTAPI_USERNAME", "a").env("PATRONI_RESTAPI_PASSWORD", "b"),
        case("list demo").env("NO_COLOR", "1").tty(&[]),
        case("list demo").env("TERM", "dumb").tty(&[]),
        case("list demo").env("TERM", "").tty(&[]),
        case("list 日本").env("LC_ALL", "C"),
        case("list 日本").env("LC_ALL", "POSIX").env("PYTHONIOENCODING", ""),
        case("list -t demo").env("TZ", "Asia/Kolkata"),
        case("list -t demo").env("TZ", "nonsense"),
        case("list demo").env("HOME", "/nonexistent"),
        case("list demo").no_config().env("XDG_CONFIG_HOME", "/nonexistent"),
    ];
    for command in
        ["list demo", "--help", "list --help", "show-config yaml", "history demo -f json", "version demo"]
    {
        let mut closed = case(command).called("closed stdout");
        closed.input = Input::ClosedStdout;
        cases.push(closed);
    }
    for url in ["etcd3://127.0.0.1:1", "etcd3://127.0.0.1:1,127.0.0.1:2"] {
        let mut unreachable = case(&format!("-d {url} list demo")).called("unreachable, 4 s");
        unreachable.input = Input::For(Duration::from_secs(4));
        cases.push(unreachable);
    }
    cases
}

/// click's own protocol of completion.
fn completion() -> Vec<Case> {
    let mut cases = Vec::new();
    for shell in ["bash", "zsh", "fish"] {
        let source = format!("{shell}_source");
        cases.push(case("").env("_PATRONICTL_COMPLETE", &source).no_config());
        cases.push(case("list --nope").env("_PATRONICTL_COMPLETE", &source));
        for words in [
            "patronictl ",
            "patronictl l",
            "patronictl re",
            "patronictl zz",
            "patronictl -",
            "patronictl --",
            "patronictl --d",
            "patronictl -c ",
            "patronictl -k ",
            "patronictl -k l",
            "patronictl list ",
            "patronictl list -",
            "patronictl list --",
            "patronictl list --f",
            "patronictl list -f ",
            "patronictl list -f js",
            "patronictl list --format ",
            "patronictl list --format=",
            "patronictl list --format=t",
            "patronictl list -e --",
            "patronictl list -f json -",
            "patronictl flush demo ",
            "patronictl flush demo re",
            "patronictl restart demo --role ",
            "patronictl restart demo -r s",
            "patronictl restart demo --",
            "patronictl query -f ",
            "patronictl query -f x",
            "patronictl edit-config -s a=1 --s",
            "patronictl edit-config --apply ",
            "patronictl nope ",
            "patronictl list -- -",
            "patronictl list demo -",
            "patronictl list 'a b",
            "patronictl list \"",
        ] {
            let count = words.split(' ').count() - 1;
            let complete = case("")
                .no_config()
                .env("_PATRONICTL_COMPLETE", &format!("{shell}_complete"))
                .env("COMP_WORDS", words);
            // bash and zsh tell the number of the word, fish the word.
            let last = words.rsplit(' ').next().unwrap_or_default();
            let cword = if shell == "fish" { last.to_owned() } else { count.to_string() };
            cases.push(complete.env("COMP_CWORD", &cword));
        }
    }
    for instruction in ["bash", "bash_nope", "nope_source", "source", "source_bash", "complete", "_", ""] {
        cases.push(case("").env("_PATRONICTL_COMPLETE", instruction));
    }
    cases.push(case("").env("_PATRONICTL_COMPLETE", "bash_complete"));
    cases
}
