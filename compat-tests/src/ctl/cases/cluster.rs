//! `pause`, `resume`, `remove`, `demote-cluster`, `promote-cluster`; and changes in a cluster of groups.

use super::{case, Case};
use crate::ctl::fake::Reply;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(pauses());
    cases.extend(removals());
    cases.extend(roles());
    cases.extend(citus());
    cases.extend(groups());
    cases
}

fn pauses() -> Vec<Case> {
    let mut cases = Vec::new();
    for command in ["pause", "resume"] {
        for scope in [
            "demo", "paused", "nosuch", "nobody", "headless", "ghost", "dead", "dead2", "badhost", "noapi",
            "noconfig", "badconf", "cit",
        ] {
            cases.push(case(&format!("{command} {scope}")));
        }
        cases.push(case(&format!("{command} --wait dead2")));
        cases.push(case(&format!("{command} cit --group 1")));
        cases.push(case(&format!("{command} cit")).config("citus:\n  group: 1\n  database: x\n"));
        let scope = if command == "pause" { "demo" } else { "paused" };
        for status in [200, 202, 401, 403, 409, 503, 0] {
            cases.push(case(&format!("{command} {scope}")).reply("PATCH", "config", status, "it says\nthis"));
        }
        // Nobody notices; some do; all do.
        cases.push(case(&format!("{command} {scope} --wait")).called("nobody alive"));
        let member = |name: &str, paused: bool| {
            let value = format!(
                r#"{{"conn_url":"postgres://10.0.0.9:5432/x","api_url":"http://REST1/patroni","role":"replica","pause":{paused},"n":1}}"#
            );
            (format!("service/{scope}/members/{name}"), value)
        };
        for noticed in [&["a", "b", "c"][..], &["a"], &[]] {
            let puts = ["a", "b", "c"]
                .iter()
                .map(|name| member(name, noticed.contains(name) == (command == "pause")))
                .collect();
            cases.push(
                case(&format!("{command} {scope} --wait")).called(&format!("{noticed:?} notice")).reply_of(
                    Reply { method: "PATCH", path: "config", status: 200, puts, ..Reply::default() },
                ),
            );
        }
    }
    cases
}

fn removals() -> Vec<Case> {
    let mut cases = Vec::new();
    for scope in ["demo", "nosuch", "headless", "nobody", "cit", "ghost"] {
        for answers in [
            String::new(),
            "\n\n".into(),
            "wrong\n".into(),
            format!("{scope}\nYes\n"),
            format!("{scope}\nYes I am aware\n"),
            format!("{scope}\nYes I am aware\na\n"),
            format!("{scope}\nYes I am aware\nb\n"),
            format!(" {scope}\nYes I am aware\na\n"),
            format!("\n{scope}\n\nYes I am aware\n\na\n"),
        ] {
            cases.push(case(&format!("remove {scope}")).stdin(&answers));
        }
    }
    for format in ["json", "tsv", "yaml", "pretty"] {
        cases.push(case(&format!("remove demo -f {format}")).stdin("x\n"));
    }
    cases.push(case("remove cit --group 1").stdin("cit\nYes I am aware\nc1b\n"));
    cases.push(case("remove cit --group 1 -f json").stdin("cit\n"));
    cases.push(
        case("remove cit").config("citus:\n  group: 1\n  database: x\n").stdin("cit\nYes I am aware\nc1b\n"),
    );
    cases.push(case("remove demo").tty(&[
        ("remove: ", "demo\r"),
        ("aware\": ", "Yes I am aware\r"),
        ("continue: ", "a\r"),
    ]));
    cases.push(case("remove demo").tty(&[("remove: ", "\u{3}")]));
    cases.push(case("remove demo").tty(&[
        ("remove: ", "\r"),
        ("remove: ", "demo\r"),
        ("aware\": ", "\u{4}"),
    ]));
    cases
}

fn roles() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in [
        "demote-cluster --host h",
        "demote-cluster --port 5433",
        "demote-cluster --restore-command 'cp %f %p'",
        "demote-cluster --primary-slot-name s",
        "demote-cluster --host ''",
        "demote-cluster --host h --port 1 --restore-command r --primary-slot-name s",
        "promote-cluster",
    ] {
        for scope in ["demo", "standby", "headless", "ghost", "nosuch", "dead", "master", "cit", "nourl"] {
            // Answers with an error, or it would wait forever.
            cases.push(case(&format!("{line} {scope} --force")).reply("PATCH", "config", 503, "not\nnow"));
        }
        for answers in ["y\n", "n\n", "", "z\n\n"] {
            cases.push(case(&format!("{line} demo")).reply("PATCH", "config", 400, "").stdin(answers));
            cases.push(case(&format!("{line} standby")).reply("PATCH", "config", 0, "").stdin(answers));
        }
    }
    let leader = |name: &str, role: &str, state: &str| {
        (
            format!("service/{name}/members/a"),
            format!(r#"{{"conn_url":"postgres://10.0.0.1:5432/x","role":"{role}","state":"{state}"}}"#),
        )
    };
    let done = |scope: &str, role: &str| Reply {
        method: "PATCH",
        path: "config",
        status: 200,
        puts: vec![leader(scope, role, "running")],
        ..Reply::default()
    };
    cases.push(case("demote-cluster demo --host h --force").reply_of(done("demo", "standby_leader")));
    cases.push(case("promote-cluster standby --force").reply_of(done("standby", "primary")));
    cases.push(
        case("promote-cluster standby").tty(&[("[y/N]: ", "y\r")]).reply_of(done("standby", "primary")),
    );
    let mut follow = case("demote-cluster demo --host h --force").called("moves").lines(14);
    follow.replies.push(Reply {
        method: "PATCH",
        path: "config",
        status: 200,
        puts: vec![
            leader("demo", "replica", "stopping"),
            ("service/demo/leader".into(), "b".into()),
            ("service/demo/members/b".into(), r#"{"role":"standby_leader","state":"running"}"#.into()),
        ],
        ..Reply::default()
    });
    cases.push(follow);
    cases.push(case("demote-cluster demo --host h --force").lines(12));
    cases
}

/// Every command with each kind of group, whatever the configuration's own group is. (Looking: `look.rs`.)
fn groups() -> Vec<Case> {
    const SECTIONS: [&str; 3] =
        ["", "citus:\n  group: 0\n  database: citus\n", "citus:\n  group: 1\n  database: citus\n"];
    const COMMANDS: [&str; 21] = [
        "reload cit --force",
        "reload cit -r primary --force",
        "restart cit --force",
        "restart cit c1a c0b --force",
        "restart cit -r leader --any --force",
        "reinit cit c1a --force",
        "reinit cit c0b --force",
        "flush cit switchover",
        "flush cit restart --force",
        "failover cit --force",
        "failover cit --candidate c0b --force",
        "switchover cit --force",
        "switchover cit --leader c1b --candidate c1a --scheduled 2131-01-01T00:00Z --force",
        "pause cit",
        "resume cit",
        "edit-config cit -s ttl=20 --force",
        "edit-config onlyw -s ttl=20 --force",
        "promote-cluster cit --force",
        "remove cit",
        "query cit -c 'select 1' -d postgres",
        "dsn cit -r standby",
    ];
    let mut cases = Vec::new();
    for command in COMMANDS {
        for group in ["", "--group 0", "--group 1", "--group 2", "--group 9", "--group -1", "--group x"] {
            for section in SECTIONS {
                let line = format!("{command} {group}");
                let one = case(line.trim_end()).stdin("1\ncit\nYes I am aware\nc1b\n");
                cases.push(if section.is_empty() { one } else { one.config(section) });
            }
        }
    }
    // A group that is asked for at a terminal, or not. What is waited for ends no other line: who types into a program that
    // ends is echoed or not.
    for section in SECTIONS {
        for (command, steps) in [
            ("failover cit", [("roup: ", "2\r"), ("[]: ", "\r")]),
            ("switchover cit", [("roup: ", "2\r"), ("[]: ", "\r")]),
            ("remove cit", [("to remove: ", "ci\u{7f}it\r"), ("aware\": ", "No\r")]),
            ("reinit cit c1a", [("/N]: ", "nn\u{7f}\r"), ("/N]: ", "n\r")]),
            ("restart cit", [("[now]: ", "\r"), ("/N]: ", "n\r")]),
        ] {
            let one = case(command).tty(&steps);
            cases.push(if section.is_empty() { one } else { one.config(section) });
        }
    }
    cases
}

/// Changes in a cluster of groups.
fn citus() -> Vec<Case> {
    let mut cases = Vec::new();
    let coordinator = "citus:\n  group: 0\n  database: citus\n";
    for line in [
        "reload cit --force",
        "reload cit c1a --force",
        "reload cit c1a --group 0 --force",
        "reload cit -r leader --force",
        "restart cit -r replica --force",
        "reinit cit c1a --force",
        "flush cit switchover",
        "flush cit --group 1 switchover",
        "flush cit restart --force",
        "switchover cit --force",
        "switchover cit --group 1 --force",
        "switchover cit --group 2 --force",
        "failover cit --candidate c1a --force",
        "failover cit --group 1 --candidate c1a --force",
        "failover cit --group 2 --candidate c2a --force",
        "pause cit",
        "pause cit --group 1",
        "edit-config cit -s ttl=20 --force",
        "edit-config cit --group 1 -s ttl=20 --force",
        "edit-config cit --group 9 -s ttl=20 --force",
        "promote-cluster cit --force",
        "demote-cluster cit --host h",
    ] {
        cases.push(case(line));
        cases.push(case(line).config(coordinator));
    }
    for answers in ["1\n\n\n\ny\n", "x\n1\n\n\n\ny\n", "\n", "9\n", "2\n", "1\n\nc1a\n2131-01-01T00:00Z\ny\n"]
    {
        cases.push(case("switchover cit").config(coordinator).stdin(answers));
        cases.push(case("failover cit").config(coordinator).stdin(answers));
    }
    cases.push(case("switchover cit").config(coordinator).tty(&[
        ("group: ", "x\r"),
        ("group: ", "1\r"),
        ("]: ", "\r"),
        ("]: ", "c1a\r"),
        ("]: ", "\r"),
        ("]: ", "y\r"),
    ]));
    cases
}
