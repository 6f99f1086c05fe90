//! `switchover` and `failover`, and what `flush` takes back.

use super::{case, Case};
use crate::ctl::fake::Reply;

/// The body of the page of an unknown method.
const UNSUPPORTED: &str = "<p>Error code explanation: 501 - Server does not support this operation.</p>";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(switchovers());
    cases.extend(failovers());
    cases.extend(flushes());
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
