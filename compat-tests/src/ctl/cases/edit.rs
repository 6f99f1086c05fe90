//! `edit-config`.

use super::{case, Case};

/// An editor that changes one value.
const EDITOR: &str = "#!/bin/sh\nsed -i 's/ttl: 30/ttl: 25/' \"$1\"\n";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(edits());
    cases.extend(edits_on_a_terminal());
    cases
}

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
    // Anchors: what is the same object in the file is written once in the diff.
    for name in ["anchors.yml", "merge.yml", "same.yml"] {
        for line in ["--apply HOMEDIR/", "--replace HOMEDIR/"] {
            cases.push(files(case(&format!("edit-config demo {line}{name} --force"))));
        }
    }
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
        .file("anchors.yml", "a: &a\n  x: [1, 2]\nb: *a\nc: &s [&t {k: v}, *t]\nd: *s\nttl: &n 30\nloop_wait: *n\n")
        .file("merge.yml", "base: &b\n  list: [1, {a: 1}]\n  n: 1\nmore:\n  <<: *b\n  n: 2\npostgresql: *b\n")
        .file("same.yml", "postgresql: &p\n  use_pg_rewind: true\nother: *p\n")
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
