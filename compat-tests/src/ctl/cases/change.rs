//! Commands that change something, with their questions.

use super::{case, Case};
use crate::ctl::fake::Reply;

/// The body of the page of an unknown method.
const UNSUPPORTED: &str = "<p>Error code explanation: 501 - Server does not support this operation.</p>";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(on_members());
    cases.extend(restarts());
    cases.extend(reinits());
    cases.extend(switchovers());
    cases.extend(failovers());
    cases.extend(flushes());
    cases.extend(pauses());
    cases.extend(removals());
    cases.extend(roles());
    cases.extend(citus());
    cases.extend(edits());
    cases.extend(edits_on_a_terminal());
    cases
}

/// What `reload`, `restart`, `reinit` and `flush ... restart` have in common.
fn on_members() -> Vec<Case> {
    let mut cases = Vec::new();
    for (before, after) in [("reload", ""), ("restart", ""), ("reinit", ""), ("flush", " restart")] {
        let line = |words: &str| case(&format!("{before} {words}{after}"));
        for words in [
            "demo --force",
            "demo a --force",
            "demo c a --force",
            "demo a zz --force",
            "demo zz --force",
            "demo b b --force",
            "nosuch --force",
            "nobody --force",
            "ghost --force",
            "headless --force",
            "demo --group 0 --force",
            "cit --group 1 --force",
            "dead --force",
            "dead2 --force",
            "badhost --force",
            "noapi --force",
            "nourl --force",
            "sched --force",
        ] {
            cases.push(line(words));
        }
        if before != "reinit" {
            for role in ["leader", "primary", "standby-leader", "replica", "standby", "any"] {
                cases.push(line(&format!("demo -r {role} --force")));
                cases.push(line(&format!("demo b -r {role} --force")));
            }
            cases.push(line("nosuch -r replica"));
            cases.push(line("standby -r primary --force"));
        } else {
            cases.push(line("alone"));
            cases.push(line("demo a"));
        }
        for answer in ["y\n", "n\n", "\n", "", "x\nYES\n", "No\n", " y \n", "y"] {
            cases.push(line("demo b").stdin(answer));
        }
        // Ctrl-C, Ctrl-D, wrong answers, on a terminal.
        for keys in ["\u{3}", "\u{4}", "n\r", "y\r", "x\rn\r"] {
            let wait = if before == "restart" { "[now]: " } else { "? [y/N]: " };
            cases.push(line("demo b").tty(&[(wait, keys)]));
        }
        for status in [200, 202, 204, 302, 400, 401, 403, 404, 409, 503] {
            let (method, path) = match before {
                "flush" => ("DELETE", "restart"),
                "reinit" => ("POST", "reinitialize"),
                other => ("POST", other),
            };
            cases.push(line("sched b --force").reply(method, path, status, "what\nthe body is é"));
            if matches!(status, 200 | 503) {
                cases.push(line("sched b --force").reply(method, path, status, ""));
            }
        }
    }
    cases.push(case("reload noconfig b --force").called("loop_wait of nothing"));
    cases.push(case("reload noconfig b --force").config("loop_wait: 7\n"));
    cases.push(case("reload empty --force"));
    cases
}

fn restarts() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in [
        "--pending",
        "--pending --scheduled 2131-01-01T00:00:00+00:00",
        "--timeout 10",
        "--timeout ''",
        "--timeout x",
        "--pg-version 9.5.2",
        "--pg-version 15.1",
        "--pg-version 9.6",
        "--pg-version 15",
        "--pg-version ''",
        "--pg-version a.b",
        "--pg-version 1.2.3.4",
        "--pg-version 10.1.1",
        "--scheduled now",
        "--scheduled NOW",
        "--scheduled ''",
        "--scheduled tomorrow",
        "--scheduled 1893456000",
        "--scheduled 2131-13-01",
        "--scheduled 2131-01-01",
        "--scheduled '2131-01-01 00:00'",
        "--scheduled 2131-01-01T00:00:00.123456",
        "--scheduled 2131-01-01T10:00-3",
        "--scheduled 2131-01-01T10:00Z",
        "--scheduled 'Jan 1 2131 10am UTC'",
        "--scheduled 'Jan 1 2131 10am CET'",
        "--scheduled T25:00",
        "--scheduled '2131-07-01 12:00 +05:30'",
        "--scheduled '2131-01-01T10:00:00+0530' --pg-version 15.1 --timeout 3 --pending",
        "--scheduled 01/02/2131",
        "--scheduled 31/12/2131",
        "--scheduled 99999999999999999999",
        "--scheduled ' '",
    ] {
        for scope in ["sched", "pending"] {
            cases.push(case(&format!("restart {scope} b c {words} --force")));
        }
    }
    for zone in ["Europe/Berlin", "America/St_Johns", "Asia/Kolkata"] {
        cases.push(case("restart demo b --force --scheduled 2131-07-01T12:00").env("TZ", zone));
        cases.push(case("restart demo b --force --scheduled 2030-07-01T12:00").env("TZ", zone));
        cases.push(case("restart demo b --force --scheduled '2031-01-01 12:00 CET'").env("TZ", zone));
    }
    cases.push(case("restart paused b --scheduled 2131-01-01 --force"));
    cases.push(case("restart alone --any --force"));
    cases.push(case("restart nosuch --any --pending --force"));
    cases.push(case("restart demo --pending --force"));
    cases.push(case("restart sched b --scheduled 2131-01-01T00:00Z --force").reply(
        "DELETE",
        "restart",
        404,
        "no restarts",
    ));
    for answers in [
        "now\ny\n\n",
        "\n\n",
        "\ny\n9.5\n",
        "\ny\n15.2\n",
        "nope\n",
        "2131-01-01T00:00Z\ny\n\n",
        "2131-01-01T00:00Z\nn\n",
        "2131-01-01\ny\n",
    ] {
        cases.push(case("restart demo b").stdin(answers));
        cases.push(case("restart demo --pending").stdin(answers));
        cases.push(case("restart paused b").stdin(answers));
    }
    cases.push(case("restart demo b c").tty(&[
        ("[now]: ", "\r"),
        ("[y/N]: ", "maybe\r"),
        ("[y/N]: ", "y\r"),
        ("[]: ", "\r"),
    ]));
    cases.push(case("restart demo b").tty(&[
        ("[now]: ", "2131-01-01T00:00Z\r"),
        ("[y/N]: ", "y\r"),
        ("[]: ", "15.3\r"),
    ]));
    cases.push(case("restart demo b").tty(&[("[now]: ", "\r"), ("[y/N]: ", "y\r"), ("[]: ", "\u{3}")]));
    cases.push(case("restart demo b").tty(&[("[now]: ", "ab\u{7f}\u{15}now\r"), ("[y/N]: ", "\u{4}")]));
    cases
}

fn reinits() -> Vec<Case> {
    let busy = "reinitialize already in progress";
    let mut cases = vec![
        case("reinit demo b --from-leader --force"),
        case("reinit demo b --wait --force"),
        case("reinit alone --force"),
        case("reinit pairless"),
        case("reinit ports").stdin("b\ny\n"),
        case("reinit ports").stdin("a\n"),
        case("reinit ports").stdin("\n"),
        case("reinit ports").stdin("b\nn\n"),
        case("reinit ports").stdin(""),
        case("reinit ports").tty(&[("[]: ", "b\r"), ("[y/N]: ", "y\r")]),
        case("reinit ports").tty(&[("[]: ", "\u{3}")]),
        case("reinit demo b").reply("POST", "reinitialize", 503, busy).stdin("y\nn\n"),
        case("reinit demo b --force").reply("POST", "reinitialize", 503, busy),
        case("reinit demo b --wait --force").reply("POST", "reinitialize", 503, "no"),
    ];
    for answers in ["y\ny\n", "y\n", "y\nx\ny\n"] {
        let mut one = case("reinit demo b").stdin(answers);
        one.replies.push(Reply {
            once: true,
            status: 503,
            method: "POST",
            path: "reinitialize",
            body: busy.into(),
            ..Reply::default()
        });
        cases.push(one);
    }
    for last in ["running", "stopped", "start failed"] {
        let mut one = case("reinit demo b --wait --force").reply(
            "GET",
            "patroni",
            200,
            &format!(r#"{{"state": "{last}"}}"#),
        );
        let creating = Reply {
            once: true,
            status: 200,
            method: "GET",
            path: "patroni",
            body: r#"{"state": "creating replica"}"#.into(),
            ..Reply::default()
        };
        one.replies.insert(0, creating);
        cases.push(one);
    }
    cases.push(case("reinit demo b c --wait --force"));
    cases.push(case("reinit demo b --wait --force").reply("GET", "patroni", 200, "junk"));
    cases.push(case("reinit demo b --wait --force").reply("GET", "patroni", 0, ""));
    cases
}

fn switchovers() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in [
        "demo",
        "demo --leader a --candidate b",
        "demo --primary a",
        "demo --leader b",
        "demo --leader zz",
        "demo --leader ''",
        "demo --candidate a",
        "demo --candidate zz",
        "demo --candidate ''",
        "demo --scheduled 2131-01-01T00:00:00+00:00",
        "demo --scheduled 2131-01-01T00:00",
        "demo --scheduled now",
        "demo --scheduled junk",
        "paused",
        "paused --scheduled 2131-01-01",
        "alone",
        "nobody",
        "nosuch",
        "headless",
        "ghost",
        "ghost --candidate b",
        "nofail",
        "tags --candidate b",
        "standby",
        "sync --candidate c",
        "dead",
        "dead --candidate c",
        "dead --candidate c --scheduled 2131-01-01T00:00:00+02:00",
        "dead2",
        "badhost",
        "noapi",
        "sched",
        "manual",
        "noconfig",
        "日本",
        "odd",
    ] {
        cases.push(case(&format!("switchover {words} --force")));
    }
    for answers in [
        "",
        "\n",
        "a\nb\nnow\ny\n",
        "\n\n\ny\n",
        "\n\n\nn\n",
        "\n\n\n\n",
        "b\n",
        "\na\n",
        "\nzz\n",
        "\nb\njunk\n",
        "\nb\n2131-01-01T00:00:00+00:00\ny\n",
        "\nb\n2131-01-01T00:00:00+00:00\nn\n",
        "\nb\n\nperhaps\nyes\n",
        "\nb\n",
    ] {
        for scope in ["demo", "standby", "paused"] {
            cases.push(case(&format!("switchover {scope}")).stdin(answers));
        }
    }
    cases.push(case("switchover demo").tty(&[
        ("Primary [a]: ", "\r"),
        ("[]: ", "b\r"),
        ("[now]: ", "\r"),
        ("[y/N]: ", "y\r"),
    ]));
    cases.push(case("switchover demo").tty_of(
        20,
        &[
            ("Primary [a]: ", "\r"),
            ("[]: ", "b\r"),
            ("[now]: ", "\r"),
            ("[y/N]: ", "x\r"),
            ("[y/N]: ", "n\r"),
        ],
    ));
    cases.push(case("switchover demo").tty(&[("Primary [a]: ", "\u{3}")]));
    cases.push(case("switchover demo").tty(&[("Primary [a]: ", "\u{4}")]));
    cases.push(case("switchover demo").tty(&[("Primary [a]: ", "\r"), ("[]: ", "\u{3}")]));
    cases.push(case("switchover demo").tty(&[
        ("Primary [a]: ", "\r"),
        ("[]: ", "b\r"),
        ("[now]: ", "\r"),
        ("[y/N]: ", "\u{3}"),
    ]));
    cases.push(case("switchover standby").tty(&[
        ("Standby Leader [a]: ", "\r"),
        ("[]: ", "b\r"),
        ("[now]: ", "\r"),
        ("[y/N]: ", "y\r"),
    ]));
    for status in [200, 202, 302, 400, 401, 404, 409, 412, 501, 503] {
        cases.push(case("switchover demo --force").reply("POST", "switchover", status, "the body\nof it"));
        cases.push(case("failover demo --candidate b --force").reply("POST", "failover", status, "the body"));
    }
    cases.push(case("switchover demo --force").reply("POST", "switchover", 501, UNSUPPORTED));
    cases.push(
        case("switchover demo --force")
            .reply("POST", "switchover", 501, UNSUPPORTED)
            .reply("POST", "failover", 503, "no"),
    );
    cases.push(case("failover demo --candidate b --force").reply("POST", "failover", 501, UNSUPPORTED));
    cases.push(case("switchover demo --force").reply("POST", "switchover", 0, ""));
    cases
}

fn failovers() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in [
        "demo",
        "demo --candidate a",
        "demo --candidate b",
        "demo --candidate zz",
        "demo --candidate ''",
        "paused --candidate b",
        "alone --candidate a",
        "nosuch --candidate a",
        "headless --candidate a",
        "headless",
        "ghost --candidate b",
        "nofail --candidate b",
        "sync --candidate b",
        "sync --candidate c",
        "quorum --candidate c",
        "dead --candidate c",
        "dead2 --candidate b",
        "noapi --candidate b",
    ] {
        cases.push(case(&format!("failover {words} --force")));
    }
    for answers in
        ["", "\n", "b\ny\n", "b\nn\n", "a\n", "zz\n", "c\ny\ny\n", "c\nn\n", "c\ny\nn\n", "b\nq\ny\n"]
    {
        for scope in ["demo", "sync", "quorum", "headless", "standby"] {
            cases.push(case(&format!("failover {scope}")).stdin(answers));
        }
    }
    cases.push(case("failover sync").tty(&[("[]: ", "c\r"), ("[y/N]: ", "y\r"), ("[y/N]: ", "n\r")]));
    cases.push(case("failover sync").tty(&[("[]: ", "\u{4}")]));
    cases
}

fn flushes() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in [
        "demo",
        "sched",
        "sched a",
        "odd --force",
        "manual",
        "nosuch",
        "cit",
        "cit --group 1",
        "sched -r replica",
    ] {
        cases.push(case(&format!("flush {words} switchover")));
    }
    for status in [200, 202, 404, 409, 503, 0] {
        cases.push(case("flush sched switchover").reply("DELETE", "switchover", status, "body"));
        let mut leader = case("flush sched switchover").called("leader only");
        leader.replies.push(Reply {
            member: Some(1),
            method: "DELETE",
            path: "switchover",
            status,
            body: "one".into(),
            ..Reply::default()
        });
        cases.push(leader);
    }
    cases.push(
        case("flush dead switchover")
            .key("service/dead/failover", r#"{"leader":"a","scheduled_at":"2131-01-01T00:00:00+02:00"}"#),
    );
    cases.push(
        case("flush dead2 switchover")
            .key("service/dead2/failover", r#"{"leader":"a","scheduled_at":"2131-01-01T00:00:00+02:00"}"#),
    );
    cases.push(
        case("flush demo switchover").key("service/demo/failover", r#"{"leader":"a","scheduled_at":"junk"}"#),
    );
    cases.push(case("list demo").key("service/demo/failover", r#"{"leader":"a","scheduled_at":"junk"}"#));
    cases.push(case("list demo").key("service/demo/failover", "a:b"));
    cases.push(case("list demo").key("service/demo/failover", "junk"));
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
            // Answers with an error, or it would wait for ever.
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

const EDITOR: &str = "#!/bin/sh\nsed -i 's/ttl: 30/ttl: 25/' \"$1\"\n";

fn edits() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in [
        "-s ttl=20",
        "-s ttl=30",
        "-s ttl=",
        "-s ttl=null",
        "-s ttl=~",
        "-s a.b.c=1",
        "-s a.b.c=1 -s a.b.c=",
        "-s postgresql.parameters.a.b=2",
        "-p a.b=2",
        "-p ' x = 1'",
        "-p x",
        "-s x",
        "-s ''",
        "-s =1",
        "-s a=b=c",
        "-s ttl.x=1",
        "-s a=010",
        "-s a=0x10",
        "-s a=1e3",
        "-s a=yes",
        "-s 'a=[1, {b: c}]'",
        "-s 'a={b: 1}'",
        "-s a=2001-01-01",
        "-s 'a=\"x\"'",
        "-s 'a=: :'",
        "-s a=[",
        "-s a=é",
        "-s a=1.5 -s b=1e-7 -s c=.inf",
        "-s postgresql=",
        "-s postgresql.parameters=",
        "-s postgresql.parameters.max_connections=",
        "-s ttl=1 -p max_connections=5 -q",
        "--apply HOMEDIR/apply.yml",
        "--replace HOMEDIR/apply.yml",
        "--replace HOMEDIR/apply.yml --apply HOMEDIR/more.yml -s z=1",
        "--apply HOMEDIR/nope.yml",
        "--apply HOMEDIR/bad.yml",
        "--apply HOMEDIR/list.yml",
        "--apply HOMEDIR/empty.yml",
        "--replace HOMEDIR/empty.yml",
        "--apply HOMEDIR/latin.yml",
        "--apply HOMEDIR/text.yml",
        "--apply HOMEDIR",
        "--apply ''",
        "-s ttl=20 --quiet",
    ] {
        for (force, answer) in [(" --force", ""), ("", "y\n"), ("", "n\n")] {
            let line = format!("edit-config demo {words}{force}");
            let line = if words.starts_with("--apply ''") { format!("{line} -s q=1") } else { line };
            cases.push(files(case(&line)).stdin(answer));
        }
    }
    for text in [
        "ttl: 11\n",
        "",
        "a: [\n",
        "postgresql:\n  parameters:\n    a.b: null\n",
        "loop_wait: null\nnew: {a: null, b: 1}\n",
        "maximum_lag_on_failover: '1048576'\n",
    ] {
        for option in ["--apply", "--replace"] {
            cases.push(case(&format!("edit-config demo {option} -")).stdin(text));
            cases.push(case(&format!("edit-config demo {option} - --force")).stdin(text));
            cases.push(case(&format!("edit-config demo {option} - -q")).stdin(text));
        }
    }
    for scope in ["nosuch", "noconfig", "badconf", "empty", "yaml", "paused", "cit", "日本"] {
        cases.push(case(&format!("edit-config {scope} -s ttl=20 --force")));
    }
    cases.push(case("edit-config cit --group 1 -s x=1 --force").key("service/cit/1/config", "{}"));
    for editor in [
        "HOMEDIR/edit.sh",
        "HOMEDIR/fail.sh",
        "HOMEDIR/remove.sh",
        "HOMEDIR/bad.sh",
        "HOMEDIR/empty.sh",
        "HOMEDIR/list.sh",
        "HOMEDIR/kill.sh",
        "HOMEDIR/show.sh",
        "HOMEDIR/edit.sh -x",
        "/nonexistent",
        "/etc/passwd",
        "true",
        "false",
        "",
    ] {
        for answer in ["y\n", "n\n"] {
            cases.push(files(case("edit-config demo")).env("EDITOR", editor).stdin(answer));
        }
    }
    cases.push(files(case("edit-config demo -q")).env("EDITOR", "HOMEDIR/edit.sh").stdin("y\n"));
    cases.push(files(case("edit-config 日本 --force")).env("EDITOR", "HOMEDIR/show.sh"));
    cases.push(files(case("edit-config yaml --force")).env("EDITOR", "HOMEDIR/show.sh"));
    cases.push(files(case("edit-config demo")).env("PATH", "/nonexistent"));
    // Somebody else changes the configuration while the editor runs.
    cases.push(
        files(case("edit-config demo --force"))
            .file("other.sh", "#!/bin/sh\nsed -i 's/ttl: 30/ttl: 25/' \"$1\"\netcdctl --endpoints=127.0.0.1:ETCD put /SPACE/service/demo/config '{}' >/dev/null\n")
            .env("EDITOR", "HOMEDIR/other.sh"),
    );
    cases
}

fn files(case: Case) -> Case {
    case.file("apply.yml", "ttl: 10\npostgresql:\n  parameters:\n    a.b: 7\n    c: 'on'\nnew:\n  x: 1\n")
        .file("more.yml", "ttl: null\nmore: é\n")
        .file("bad.yml", "a: [1\n")
        .file("list.yml", "- 1\n")
        .file("text.yml", "text\n")
        .file("empty.yml", "")
        .file("latin.yml", "a: ü\n")
        .file("edit.sh", EDITOR)
        .file("fail.sh", "#!/bin/sh\nexit 3\n")
        .file("remove.sh", "#!/bin/sh\nrm \"$1\"\n")
        .file("bad.sh", "#!/bin/sh\necho 'a: [' >\"$1\"\n")
        .file("empty.sh", "#!/bin/sh\n: >\"$1\"\n")
        .file("list.sh", "#!/bin/sh\necho '- 1' >\"$1\"\n")
        .file("kill.sh", "#!/bin/sh\nkill -9 $$\n")
        .file("show.sh", "#!/bin/sh\necho \"$1\" | sed s,/tmp/,T/,\nstat -c %a \"$1\"\ncat \"$1\"\necho 'ttl: 99 # comment' >>\"$1\"\n")
}

/// The coloured diff, through a pager that shows what it was given.
fn edits_on_a_terminal() -> Vec<Case> {
    let mut cases = Vec::new();
    let pager = |case: Case| {
        files(case)
            .file("less", "#!/bin/sh\necho \"pager: $(basename \"$0\") $*\"\ncat\n")
            .file("mine", "#!/bin/sh\necho \"mine: $*\"\ncat\n")
    };
    let path = "HOMEDIR:/usr/bin:/bin";
    for words in [
        "-s ttl=20",
        "-s ttl=",
        "-s ttl=200 -s loop_wait=7 -s maximum_lag_on_failover=1048577",
        "-s a=1 -s zz.b=2 -p c=3",
        "-s postgresql=",
        "-s 'new=some longer text with words' -s ttl=30s",
        "--replace HOMEDIR/apply.yml",
        "-s ttl=20 -q",
        "-s ttl=30",
        "-s é=日本",
    ] {
        cases.push(
            pager(case(&format!("edit-config demo {words}"))).env("PATH", path).tty(&[("[y/N]: ", "n\r")]),
        );
        cases.push(
            pager(case(&format!("edit-config demo {words} --force"))).env("PATH", path).tty_of(40, &[]),
        );
    }
    for (name, value) in [
        ("PAGER", "HOMEDIR/mine"),
        ("PAGER", "mine"),
        ("PAGER", "cat"),
        ("PAGER", "nope"),
        ("PAGER", "mine -x"),
        ("PAGER", "less"),
        ("PAGER", ""),
        ("LESS", "-X"),
        ("LESS", ""),
        ("NO_COLOR", "1"),
        ("TERM", "dumb"),
    ] {
        cases.push(
            pager(case("edit-config demo -s ttl=20 --force")).env("PATH", path).env(name, value).tty(&[]),
        );
    }
    cases.push(case("edit-config demo -s ttl=20 --force").env("PATH", "/nonexistent").tty(&[]));
    cases.push(case("edit-config yaml -s a=no -s s=short --force").env("PAGER", "cat").tty(&[]));
    cases.push(
        pager(case("edit-config demo"))
            .env("PATH", path)
            .env("EDITOR", "HOMEDIR/edit.sh")
            .tty(&[("[y/N]: ", "y\r")]),
    );
    cases.push(
        pager(case("edit-config demo"))
            .env("PATH", path)
            .env("EDITOR", "HOMEDIR/edit.sh")
            .tty(&[("[y/N]: ", "\u{3}")]),
    );
    for line in [
        "a: 1 b: 2 c: three|a: 1 b: 3 c: three",
        "The Quick BROWN fox_jumps|The Quick BROWN dog_jumps",
        "aaa bbb|bbb aaa",
        "x|completely different words here",
        "aXbYc|aXbZc",
        "tab\\there|tab\\tthere",
        "1 2 3 4 5|1 3 5 7",
        "é ü|é ö",
    ] {
        let (old, new) = line.split_once('|').unwrap_or((line, ""));
        cases.push(
            pager(case(&format!("edit-config demo -s 'v={new}' --force")))
                .env("PATH", path)
                .key("service/demo/config", &format!(r#"{{"a":1,"v":"{old}","z":2}}"#))
                .tty(&[]),
        );
    }
    cases
}
