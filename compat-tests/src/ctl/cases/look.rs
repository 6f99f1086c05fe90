//! Commands that only look, on every cluster of the world, in every format.

use super::{case, Case};

/// Every cluster of the world, and one that is not there.
pub const SCOPES: &[&str] = &[
    "demo", "paused", "sync", "quorum", "standby", "master", "headless", "ghost", "alone", "nobody", "init",
    "noid", "noconfig", "dead", "badhost", "noapi", "nourl", "odd", "sched", "manual", "pending", "日本",
    "ports", "samehost", "casc", "tags", "old", "hist", "badhist", "badconf", "yaml", "empty", "cit",
    "nosuch", "LONG",
];

/// What citus sections there are.
const CITUS: &[&str] = &[
    "",
    "citus:\n  group: 0\n  database: citus\n",
    "citus:\n  group: 1\n  database: citus\n",
    "citus:\n  group: x\n  database: citus\n",
    "citus:\n  group: 1\n",
    "citus:\n  database: citus\n",
    "citus: {}\n",
];

fn scope(name: &str) -> String {
    if name == "LONG" {
        "a".repeat(200)
    } else {
        name.to_owned()
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for name in SCOPES {
        let name = scope(name);
        for options in [
            "",
            "-e",
            "-f json",
            "-f tsv",
            "-f yaml",
            "-f yml",
            "-f pretty -e",
            "-e -f json",
            "-e -f tsv",
            "-t",
        ] {
            cases.push(case(&format!("list {name} {options}")));
        }
        for line in
            ["topology", "history", "show-config", "dsn", "version", "list --group 0", "topology --group 1"]
        {
            cases.push(case(&format!("{line} {name}")));
        }
        for format in ["json", "tsv", "yaml", "pretty"] {
            cases.push(case(&format!("history {name} -f {format}")));
        }
        for role in ["leader", "primary", "standby-leader", "replica", "standby", "any"] {
            cases.push(case(&format!("dsn {name} -r {role}")));
        }
    }
    for columns in [20, 40, 200] {
        for line in ["list demo", "topology odd", "list 日本", "history demo", "show-config yaml"] {
            cases.push(case(line).tty_of(columns, &[]));
        }
    }
    for line in [
        "dsn demo -m b",
        "dsn demo -m zz",
        "dsn demo -m b -r any",
        "dsn demo -m ''",
        "dsn odd -m j",
        "dsn odd -m d",
        "dsn odd -m e",
        "list demo paused nosuch",
        "topology demo paused",
        "list demo demo",
        "list ''",
        "list demo/",
        "list ../demo",
        "version demo a",
        "version demo a zz c",
        "version demo zz",
        "version ''",
        "history ''",
        "show-config ''",
    ] {
        cases.push(case(line));
    }
    cases.extend(watching());
    cases.extend(versions());
    cases.extend(citus());
    cases
}

fn watching() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in [
        "list demo -w 0.3",
        "list demo -W",
        "topology demo -w 0.2",
        "list demo -W -w 0.1",
        "list demo paused -w 0.2 -t",
    ] {
        cases.push(case(line).lines(14));
    }
    cases.push(case("list demo -w -1").lines(14));
    // Twice on the screen, then Ctrl-C.
    for line in ["list demo -w 0.3", "topology demo -W"] {
        cases.push(case(line).tty(&[(" c  ", ""), ("Cluster: demo", ""), (" c  ", "\u{3}")]));
    }
    cases
}

fn versions() -> Vec<Case> {
    let of = |status, body| case("version demo").reply("GET", "patroni", status, body);
    vec![
        of(200, "{}"),
        of(200, "not json"),
        of(200, ""),
        of(200, "[]"),
        of(503, r#"{"patroni": {"version": "3.0"}, "server_version": 90624}"#),
        of(200, r#"{"patroni": {"version": null}, "server_version": 0}"#),
        of(200, r#"{"patroni": null}"#),
        of(200, r#"{"patroni": {"version": "1"}, "server_version": "x"}"#),
        of(200, "\u{feff}{}"),
        of(0, ""),
        case("version dead").called("refused"),
        case("version dead2"),
        case("version badhost"),
    ]
}

fn citus() -> Vec<Case> {
    let mut cases = Vec::new();
    for config in CITUS {
        for line in [
            "list cit",
            "list cit --group 0",
            "list cit --group 1",
            "list cit --group 9",
            "list cit --group -1",
            "list cit -e",
            "list cit -f json",
            "list cit -f tsv",
            "list cit -f yaml",
            "list cit --group 1 -f json",
            "list cit --group 1 -f tsv",
            "topology cit",
            "topology cit --group 1",
            "list onlyw",
            "topology onlyw",
            "list demo cit",
            "list nosuch",
            "dsn cit",
            "dsn cit -r any",
            "dsn cit -r replica",
            "dsn cit -m c1b",
            "dsn cit -m c1b --group 0",
            "dsn cit --group 1",
            "dsn cit --group 2",
            "version cit",
            "version cit --group 1",
            "version cit c1a c2a",
            "history cit",
            "history cit --group 1",
            "show-config cit",
            "show-config cit --group 1",
        ] {
            let one = case(line);
            cases.push(if config.is_empty() { one } else { one.config(config) });
        }
    }
    cases
}
