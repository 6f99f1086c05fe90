//! What the daemon says and ends with when it cannot start from its configuration. The reference ends with the same
//! exit code at each, after a traceback.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../config/tests/support/alone.rs"]
mod alone;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use pyfmt::{json, Value};
use regex::Regex;

const GOOD: &str = "
scope: batman
name: n1
etcd3: {host: '127.0.0.1:1'}
restapi: {listen: '127.0.0.1:0'}
postgresql:
  listen: 127.0.0.1:5432
  data_dir: data
  authentication: {superuser: {username: postgres}, replication: {username: rep}}
";

/// What is said when the DCS is looked for.
const SEARCHES: &str = "Failed to get list of machines|waiting on etcd|Selected new etcd";

/// Exit code, and all that was said on standard error. A daemon that goes so far as to look for its DCS is ended:
/// the code is None.
fn run(arguments: &[&str], environment: &BTreeMap<String, String>, work: &Path) -> (Option<i32>, String) {
    let searches = Regex::new(SEARCHES).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_patroni"))
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut stderr = daemon.stderr.take().unwrap();
    let mut buffer = [0; 4096];
    let mut waits = false;
    while let Ok(n @ 1..) = stderr.read(&mut buffer) {
        text.push_str(&String::from_utf8_lossy(buffer.get(..n).unwrap()));
        if !waits && searches.is_match(&text) {
            waits = true;
            daemon.kill().unwrap();
        }
    }
    (daemon.wait().unwrap().code().filter(|_| !waits), text)
}

/// Exit code, the last line without its time, and how many files were left in the working directory.
fn start(configuration: &str) -> (Option<i32>, String, usize) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    std::fs::write(&file, configuration).unwrap();
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let (code, text) = run(&[file.to_str().unwrap()], &BTreeMap::new(), &work);
    let last = text.lines().last().unwrap_or_default();
    let last = last.split_once("CRITICAL: ").map_or(last, |(_, message)| message).to_owned();
    (code, last, std::fs::read_dir(&work).unwrap().count())
}

#[test]
fn what_leads_to_an_empty_name_address_or_path_is_refused() {
    let postgresql = "Invalid \"postgresql\" config: expected";
    for (from, to, want) in [
        (
            "  data_dir: data\n",
            "",
            format!("{postgresql} the path of a directory for \"data_dir\", but it is not set"),
        ),
        (
            "  listen: 127.0.0.1:5432\n",
            "",
            format!("{postgresql} <HOST>:<PORT> for \"listen\", but it is not set"),
        ),
        (
            "data_dir: data",
            "data_dir: data\n  connect_address: 10.0.0.1:abc",
            format!("{postgresql} <HOST>:<PORT> for \"connect_address\", but got '10.0.0.1:abc'"),
        ),
        ("name: n1", "name: ''", "Invalid config: expected text for \"name\", but got ''".to_owned()),
        (
            "name: n1",
            "name: a/b",
            "Invalid config: expected text without a slash for \"name\", but got 'a/b'".to_owned(),
        ),
        (
            "name: n1",
            "name: n1\nwatchdog: required",
            "Invalid config: expected a mapping for \"watchdog\", but it is of type str".to_owned(),
        ),
        (
            "scope: batman\nname: n1",
            "",
            "Invalid config: expected text for \"name\", but it is not set".to_owned(),
        ),
    ] {
        assert!(GOOD.contains(from));
        assert_eq!(start(&GOOD.replace(from, to)), (Some(1), want, 0));
    }
    let (code, _, left) = start(GOOD);
    assert_eq!((code, left), (None, 0), "the others are one mistake away from one that starts");
}

#[test]
fn a_name_that_postgresql_does_not_show_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    std::fs::write(&file, GOOD.replace("name: n1", "name: 'a,b'")).unwrap();
    let (_, text) = run(&[file.to_str().unwrap()], &BTreeMap::new(), dir.path());
    assert_eq!(text.matches("this member can never be a synchronous standby").count(), 1, "{text}");
}

/// Whoever restarts what has failed must hear of it. (The reference's init ends with 0.)
#[test]
fn as_pid_1_it_ends_with_the_daemons_exit_code() {
    let alone = |program: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", program, "/no/such.yml"]).stdin(Stdio::null()).stdout(Stdio::null());
        unshare.stderr(Stdio::null()).status().ok().and_then(|status| status.code())
    };
    if alone("true") == Some(0) {
        assert_eq!(alone(env!("CARGO_BIN_EXE_patroni")), Some(1));
    }
}

/// Two ports on which nobody listens.
fn closed_ports() -> (u16, u16) {
    let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |at: usize| ports.get(at).unwrap().local_addr().unwrap().port();
    (port(0), port(1))
}

/// What `--generate-config` says without a terminal.
fn generate(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> (Option<i32>, String) {
    let mut program = Command::new("setsid")
        .args(["--wait", env!("CARGO_BIN_EXE_patroni"), "--generate-config"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that asks for nothing may be gone already.
    let _ = program.stdin.take().unwrap().write_all(input.as_bytes());
    let ended = program.wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

/// The texts are those of the reference with psycopg 3, but for the warning of Python's getpass.
#[test]
fn a_generator_without_terminal_and_server() {
    let (one, two) = closed_ports();
    let refused = |host: &str, port: u16| {
        format!(
            "connection failed: connection to server at \"{host}\", port {port} failed: Connection refused\n\
             \tIs the server running on that host and accepting TCP/IP connections?"
        )
    };
    let asked = "Warning: Password input may be echoed.\nPlease enter the user password:";
    let failed = "Failed to establish PostgreSQL connection:";
    let port = one.to_string();
    let environment = [("PGHOST", "127.0.0.1"), ("PGPORT", port.as_str())];
    for (input, want) in [
        ("secret\n", format!("{asked}\n{failed} {}\n", refused("127.0.0.1", one))),
        ("", format!("{asked}Unexpected exception: \n")),
    ] {
        assert_eq!(generate(&[], &environment, input), (Some(1), want));
    }
    let dsn = format!("host=127.0.0.1,127.0.0.2 port={one},{two} user=postgres");
    let want = format!(
        "{failed} {second}\nMultiple connection attempts failed. All failures were:\n\
         - host: '127.0.0.1', port: '{one}', hostaddr: '127.0.0.1': {first}\n\
         - host: '127.0.0.2', port: '{two}', hostaddr: '127.0.0.2': {second}\n",
        first = refused("127.0.0.1", one),
        second = refused("127.0.0.2", two),
    );
    assert_eq!(generate(&["--dsn", &dsn], &[("PGPASSWORD", "x")], ""), (Some(1), want));
    for (dsn, want) in [
        ("host=127.0.0.1 nonsense=5", "invalid connection option \"nonsense\"\n"),
        (
            "host=127.0.0.1 port=abc",
            "connection is bad: invalid integer value \"abc\" for connection option \"port\"",
        ),
        ("host=127.0.0.1 port=70000", "connection is bad: invalid port number: \"70000\""),
    ] {
        let got = generate(&["--dsn", dsn], &[("PGPASSWORD", "x")], "");
        assert_eq!(got, (Some(1), format!("{failed} {want}\n")), "{dsn}");
    }
}

/// Configurations without which the reference dies once it has found its DCS, and we before we look for it.
const REFUSED_EARLIER: [&str; 2] = ["155-2c9-swarm-env", "176-xenit"];

/// What `corpus.py` keeps of what a daemon says before it looks for its DCS.
fn said_before(text: &str) -> Vec<String> {
    let searches = Regex::new(SEARCHES).unwrap();
    let time = Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ").unwrap();
    let class = Regex::new(r"^(CRITICAL: )?[\w.]+(Error|Exception): ").unwrap();
    let lines = text.lines().take_while(|line| !searches.is_match(line));
    // Who runs is an addition (docs/compatibility.md).
    let lines = lines.filter(|line| !line.contains("INFO: patroni-rs "));
    let lines = lines.map(|line| class.replace(&time.replace_all(line, ""), "").into_owned());
    lines.map(|line| line.strip_prefix("CRITICAL: ").map_or(line.clone(), str::to_owned)).collect()
}

/// Real configurations (`fixtures/config/corpus`) started, beside what the reference said (`corpus.py record`).
#[test]
fn corpus_started() {
    if !alone::is_here("corpus_started") {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/config");
    let recorded = std::fs::read_to_string(fixtures.join("recorded/corpus.json")).unwrap();
    let recorded = json::loads(&recorded).unwrap();
    let mut wrong = Vec::new();
    for (name, case) in recorded.as_map().unwrap() {
        let name = name.as_str().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().to_str().unwrap();
        assert!(Command::new(fixtures.join("layout.sh")).arg(place).status().unwrap().success());
        let programs = dir.path().join("root/usr/lib/postgresql/15");
        std::fs::create_dir_all(&programs).unwrap();
        symlink(dir.path().join("bin"), programs.join("bin")).unwrap();
        let here = |value: &Value| value.py_str().replace("@TMP@", place);
        let started = |key: &str| case.at(&["started", key]).and_then(Value::as_map).unwrap().clone();
        for (file, text) in &started("files") {
            let path = dir.path().join(file.py_str());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, here(text)).unwrap();
        }
        let environment =
            started("environment").iter().map(|(key, value)| (key.py_str(), here(value))).collect();
        let argument = case.get("argument").map(Value::py_str).filter(|file| !file.is_empty());
        let argument = argument.map(|file| dir.path().join(file).to_str().unwrap().to_owned());
        let (code, text) =
            run(&argument.iter().map(String::as_str).collect::<Vec<_>>(), &environment, dir.path());
        let said = said_before(&text.replace(place, "@TMP@"));
        let got = (code.map_or(Value::from("waits"), Value::from), said);
        let lines = case.at(&["start", "said"]).and_then(Value::as_list).unwrap();
        let want = (case.at(&["start", "code"]).unwrap().clone(), lines.iter().map(Value::py_str).collect());
        if got != want && !is_our_refusal(name, &got, &want) {
            wrong.push(format!("{name}\n  got {got:?}\n want {want:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// One line with the key in place of a KeyError (docs/compatibility.md).
fn is_our_refusal(name: &str, got: &(Value, Vec<String>), want: &(Value, Vec<String>)) -> bool {
    let (last, before) = got.1.split_last().unwrap();
    let missing = ["'name'", "'scope'"].iter().any(|key| want.1.last().is_some_and(|line| line == key));
    let theirs = if missing { want.1.split_last().unwrap().1 } else { &want.1[..] };
    let expected = got.0 == Value::from(1) && last.starts_with("Invalid ") && before == theirs;
    expected && (missing || (want.0 == Value::from("waits") && REFUSED_EARLIER.contains(&name)))
}

/// As the reference says it, for either way to name the nodes.
#[test]
fn a_host_that_nobody_knows() {
    if !alone::is_here("a_host_that_nobody_knows") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("patroni.yml");
    for hosts in ["host: nohost:2379", "hosts: ['nohost:2379']"] {
        std::fs::write(&file, GOOD.replace("host: '127.0.0.1:1'", hosts)).unwrap();
        let (code, text) = run(&[file.to_str().unwrap()], &BTreeMap::new(), dir.path());
        let want = "WARNING: failed to resolve host nohost: [Errno -2] Name or service not known";
        assert!(code.is_none() && text.contains(want), "{hosts}: {text}");
    }
}
