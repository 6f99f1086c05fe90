//! `reload`, `restart`, `reinit` and `flush ... restart`: commands for chosen members.

use super::{case, Case};
use crate::ctl::fake::Reply;

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(on_members());
    cases.extend(restarts());
    cases.extend(reinits());
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
