#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! Members of ours beside members of the reference's own making (PySyncObj in Python). Skipped where the reference is not
//! installed.

mod files;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use patroni_raft::kv::{Call, Conditions, Done, Item};
use patroni_raft::message::Reason;
use patroni_raft::node::{ask, Config, Node, Secret, MOST_ENTRIES};
use patroni_raft::pickle;
use pyfmt::{json, Value};

const PYTHON: &str = "/opt/patroni-rs/reference/bin/python";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/peer.py");
/// A busy machine.
const LONG: Duration = Duration::from_secs(40);

fn here() -> bool {
    Path::new(PYTHON).exists()
}

/// Ports outside of the kernel's own range, so that no connection has one of them.
fn ports<const N: usize>() -> [String; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 400).unwrap() * 25;
    std::array::from_fn(|_| loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return format!("127.0.0.1:{port}");
        }
    })
}

fn within<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that ends with the test, also a failed one: stopped, it would keep the output of the tests open for good.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A member in Python.
struct Python {
    child: Killed,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    fn start(own: &str, others: &[&String], directory: &Path, password: Option<&str>) -> Python {
        let mut config = Value::from_iter([
            ("self_addr", Value::from(own)),
            ("partner_addrs", Value::List(others.iter().map(|o| Value::from(o.as_str())).collect())),
            ("data_dir", directory.to_str().unwrap().into()),
            ("ttl", 30.into()),
            ("retry_timeout", 10.into()),
        ]);
        if let Some(password) = password {
            config.set("password", password);
        }
        let mut command = Command::new(PYTHON);
        let text = json::dumps_compact(&config);
        let command = command.args([SCRIPT, &text]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut python = Python { child: Killed(child), input, output };
        assert_eq!(python.line(), Value::from("started"));
        python
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        json::loads(&line).unwrap_or_else(|_| panic!("{line}"))
    }

    fn call(&mut self, name: &str, args: &str, kwargs: &str) -> Value {
        writeln!(self.input, r#"["{name}",{args},{kwargs}]"#).unwrap();
        self.line()
    }

    fn set(&mut self, key: &str, value: &str, kwargs: &str) -> bool {
        self.call("set", &format!(r#"["{key}","{value}"]"#), kwargs).truthy()
    }

    fn value(&mut self, key: &str) -> Option<String> {
        let item = self.call("get", &format!(r#"["{key}"]"#), "{}");
        item.get("value").and_then(Value::as_str).map(str::to_owned)
    }

    fn status(&mut self, key: &str) -> Value {
        self.call("status", "[]", "{}").get(key).cloned().unwrap()
    }

    fn leads(&mut self) -> bool {
        self.status("leads").truthy()
    }

    fn kill(self) {
        drop(self.child);
    }

    fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.0.id().to_string()]).status().unwrap();
    }

    /// Ends it as the daemon does.
    fn stop(mut self) {
        drop(self.input);
        self.child.0.wait().unwrap();
    }
}

/// What the reference's client of utility commands says.
fn admin(to: &str, command: &str, password: Option<&str>) -> Value {
    let mut arguments = vec![SCRIPT, to, command];
    arguments.extend(password);
    let output = Command::new(PYTHON).args(arguments).output().unwrap();
    json::loads(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
}

fn config(own: &str, others: &[&String], directory: &Path) -> Config {
    Config {
        own: Some(own.to_owned()),
        bind: None,
        partners: others.iter().map(|other| (*other).clone()).collect(),
        data_dir: directory.to_owned(),
        password: None,
        retry_timeout: Duration::from_secs(3),
        most_entries: MOST_ENTRIES,
    }
}

fn ours(own: &str, others: &[&String], directory: &Path) -> Node {
    Node::start(config(own, others, directory)).unwrap()
}

fn answer(node: &Node, call: &Call) -> Option<Result<Done, Reason>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = node.call(call);
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), answer).await }).ok()?.ok()
}

fn put(key: &str, value: &str, conditions: Conditions) -> Call {
    let updated = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let item = Item { value: value.into(), updated, created: updated, expire: None, index: 0 };
    Call::Set(key.into(), item, conditions)
}

/// Writes until it is done.
fn set(node: &Node, key: &str, value: &str) {
    let call = put(key, value, Conditions::default());
    within("a write of ours", || matches!(answer(node, &call), Some(Ok(Done::Set(_)))).then_some(()));
}

fn value(node: &Node, key: &str) -> Option<String> {
    node.view(|kv| kv.get(key).map(|item| item.value.to_string()))
}

fn ready(node: &Node) {
    within("ours is ready", || node.standing().ready.then_some(()));
}

#[test]
fn ours_beside_two_of_the_reference() {
    if !here() {
        return;
    }
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let mut python = vec![
        Python::start(&a, &[&b, &c], directory.path(), None),
        Python::start(&b, &[&a, &c], directory.path(), None),
    ];
    let rust = ours(&c, &[&a, &b], directory.path());
    ready(&rust);
    for round in 0..3 {
        within("a write of the reference", || python[0].set("/k", &format!("p{round}"), "{}").then_some(()));
        within("read by ours", || (value(&rust, "/k")? == format!("p{round}")).then_some(()));
        set(&rust, "/r", &format!("r{round}"));
        within("read by the reference", || (python[1].value("/r")? == format!("r{round}")).then_some(()));
    }
    assert!(matches!(
        answer(&rust, &put("/r", "x", Conditions { exists: Some(false), ..Conditions::default() })),
        Some(Ok(Done::Refused))
    ));
    // The member of the reference that leads is killed: ours and the other one go on.
    let leading = usize::from(!python[0].leads());
    python.remove(leading).kill();
    set(&rust, "/after", "1");
    within("the other one has it", || (python[0].value("/after")? == "1").then_some(()));
    within("a write of the reference", || python[0].set("/after", "2", "{}").then_some(()));
    // And again alone with a new life of the one that was killed.
    let (own, other) = if leading == 0 { (&a, &b) } else { (&b, &a) };
    python.push(Python::start(own, &[other, &c], directory.path(), None));
    within("it has caught up", || (python[1].value("/after")? == "2").then_some(()));
    python.remove(0).kill();
    set(&rust, "/end", "1");
    within("read by the reference", || (python[0].value("/end")? == "1").then_some(()));
}

#[test]
fn ours_leads_the_reference() {
    if !here() {
        return;
    }
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (ours(&a, &[&b, &c], directory.path()), ours(&b, &[&a, &c], directory.path()));
    within("one of ours leads", || (one.standing().leads || two.standing().leads).then_some(()));
    let mut python = Python::start(&c, &[&a, &b], directory.path(), None);
    within("the reference is ready", || python.status("ready").truthy().then_some(()));
    assert!(python.set("/lock", "p", r#"{"prevExist":false,"ttl":3}"#));
    assert!(!python.set("/lock", "q", r#"{"prevExist":false}"#));
    assert!(python.set("/lock", "p", r#"{"prevValue":"p","ttl":2}"#));
    assert_eq!(value(&one, "/lock").or(value(&two, "/lock")).as_deref(), Some("p"));
    // Ended by our leader.
    within("the lock has ended", || python.value("/lock").is_none().then_some(()));
    within("the lock has ended here", || value(&two, "/lock").is_none().then_some(()));
    assert!(python.set("/gone", "p", "{}"));
    assert!(python.call("delete", r#"["/gone"]"#, "{}").truthy());
    // Large values, in both directions.
    let large = "x".repeat(200_000);
    assert!(python.set("/large", &large, "{}"));
    within("read by ours", || (value(&one, "/large")?.len() == 200_000).then_some(()));
    set(&two, "/large2", &large);
    within("read by the reference", || (python.value("/large2")?.len() == 200_000).then_some(()));
    // Utility commands.
    let members = admin(&a, r#"["members"]"#, None);
    assert_eq!(members.as_list().unwrap().len(), 3, "{members:?}");
    let status = admin(&a, r#"["status"]"#, None);
    assert_eq!(status.get("partner_nodes_count").and_then(Value::as_i64), Some(2), "{status:?}");
    let leader = if one.standing().leads { &a } else { &b };
    assert_eq!(admin(leader, r#"["add","127.0.0.1:9"]"#, None), Value::from("SUCCESS ADD 127.0.0.1:9"));
    within("the reference knows", || (python.status("others").as_list()?.len() == 3).then_some(()));
    assert_eq!(admin(leader, r#"["remove","127.0.0.1:9"]"#, None), Value::from("SUCCESS REMOVE 127.0.0.1:9"));
    within("the reference knows", || (python.status("others").as_list()?.len() == 2).then_some(()));
    drop((one, two));
    within("nobody leads", || (!python.set("/x", "1", r#"{"timeout":1}"#)).then_some(()));
}

#[test]
fn a_majority_of_ours_alone_elects_and_a_minority_does_not() {
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let mut nodes = vec![
        (a.clone(), ours(&a, &[&b, &c], directory.path())),
        (b.clone(), ours(&b, &[&a, &c], directory.path())),
        (c.clone(), ours(&c, &[&a, &b], directory.path())),
    ];
    nodes.iter().for_each(|(_, node)| ready(node));
    set(&nodes[0].1, "/k", "1");
    let leading = nodes.iter().position(|(_, node)| node.standing().leads).unwrap();
    nodes.remove(leading).1.join();
    let began = Instant::now();
    within("another one leads", || nodes.iter().any(|(_, node)| node.standing().leads).then_some(()));
    println!("elected after {:?}", began.elapsed());
    set(&nodes[0].1, "/k", "2");
    nodes.remove(0).1.join();
    let alone = &nodes[0].1;
    within("it does not lead", || (!alone.standing().leads).then_some(()));
    assert!(!matches!(answer(alone, &put("/k", "3", Conditions::default())), Some(Ok(_))));
}

#[test]
fn files_change_hands() {
    if !here() {
        return;
    }
    let [a] = ports();
    let directory = tempfile::tempdir().unwrap();
    let mut python = Python::start(&a, &[], directory.path(), None);
    within("it leads", || python.set("/one", "1", "{}").then_some(()));
    python.stop();
    let rust = ours(&a, &[], directory.path());
    within("ours has it", || (value(&rust, "/one")? == "1").then_some(()));
    set(&rust, "/two", "2");
    rust.join();
    let mut python = Python::start(&a, &[], directory.path(), None);
    within("the reference has both", || {
        (python.value("/one")? == "1" && python.value("/two")? == "2").then_some(())
    });
    // With a dump of the reference.
    python.call("dump", "[]", "{}");
    let dump = directory.path().join(format!("{a}.dump"));
    within("the dump", || dump.exists().then_some(()));
    within("a write", || python.set("/three", "3", "{}").then_some(()));
    python.kill();
    let rust = Node::start(Config { most_entries: 20, ..config(&a, &[], directory.path()) }).unwrap();
    within("ours has it", || (value(&rust, "/three")? == "3").then_some(()));
    assert_eq!(value(&rust, "/one").as_deref(), Some("1"));
    // And one of ours.
    let before = std::fs::read(&dump).unwrap();
    for number in 0..40 {
        set(&rust, "/four", &number.to_string());
    }
    within("our dump", || (std::fs::read(&dump).ok()? != before).then_some(()));
    set(&rust, "/five", "5");
    rust.join();
    let mut python = Python::start(&a, &[], directory.path(), None);
    within("the reference has all", || (python.value("/five")? == "5").then_some(()));
    assert_eq!(python.value("/one").as_deref(), Some("1"));
    assert_eq!(python.value("/four").as_deref(), Some("39"));
}

#[test]
fn dumps_are_sent() {
    if !here() {
        return;
    }
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    // To ours.
    let mut python = Python::start(&a, &[], directory.path(), None);
    within("it leads", || python.set("/one", "1", "{}").then_some(()));
    for number in 0..5 {
        assert!(python.set("/n", &number.to_string(), "{}"));
    }
    python.call("dump", "[]", "{}");
    within("the dump", || directory.path().join(format!("{a}.dump")).exists().then_some(()));
    assert!(python.set("/two", "2", "{}"));
    let rust = Node::start(Config { most_entries: 20, ..config(&b, &[&a], directory.path()) }).unwrap();
    within("ours has it", || (value(&rust, "/two")? == "2").then_some(()));
    assert_eq!(value(&rust, "/one").as_deref(), Some("1"));
    within("it is a member", || (python.status("others").as_list()?.len() == 1).then_some(()));
    // From ours: it leads once the other one has been away for a moment.
    for number in 0..40 {
        set(&rust, "/n", &number.to_string());
    }
    within("our dump", || directory.path().join(format!("{b}.dump")).exists().then_some(()));
    if python.leads() {
        assert_eq!(admin(&a, r#"["transfer",""]"#, None), Value::from("SUCCESS TRANSFER "));
    }
    within("ours leads", || rust.standing().leads.then_some(()));
    let mut third = Python::start(&c, &[&b], directory.path(), None);
    within("it has all", || (third.value("/n")? == "39" && third.value("/one")? == "1").then_some(()));
}

#[test]
fn with_a_password() {
    if !here() {
        return;
    }
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let secret = |text: &str| Some(Secret(text.into()));
    let mut python = Python::start(&a, &[&b], directory.path(), Some("secret"));
    let rust =
        Node::start(Config { password: secret("secret"), ..config(&b, &[&a], directory.path()) }).unwrap();
    ready(&rust);
    set(&rust, "/one", "1");
    within("the reference has it", || (python.value("/one")? == "1").then_some(()));
    assert_eq!(admin(&b, r#"["members"]"#, Some("secret")).as_list().map(<[Value]>::len), Some(2));
    // Others are not let in, nor told anything.
    assert!(admin(&b, r#"["members"]"#, Some("other")).as_str().unwrap().starts_with("error"));
    assert!(admin(&b, r#"["members"]"#, None).as_str().unwrap().starts_with("error"));
    let stranger =
        Node::start(Config { password: secret("other"), ..config(&c, &[&a, &b], directory.path()) }).unwrap();
    let reader = Config { own: None, password: secret("other"), ..config(&c, &[&a, &b], directory.path()) };
    let reader = Node::start(reader).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!stranger.standing().ready && !reader.standing().ready);
    assert_eq!((value(&stranger, "/one"), value(&reader, "/one")), (None, None));
    set(&rust, "/one", "2");
}

#[test]
fn a_reader_follows_and_asks() {
    if !here() {
        return;
    }
    let [a, b] = ports();
    let directory = tempfile::tempdir().unwrap();
    let mut python = Python::start(&a, &[&b], directory.path(), None);
    let rust = ours(&b, &[&a], directory.path());
    ready(&rust);
    let reader = || Config { own: None, ..config("x:1", &[&a, &b], directory.path()) };
    let ctl = Node::start(reader()).unwrap();
    ready(&ctl);
    set(&ctl, "/ctl", "1");
    within("both have it", || (python.value("/ctl")? == "1" && value(&rust, "/ctl")? == "1").then_some(()));
    // It has no vote: with one of two members nothing goes on.
    drop(rust);
    std::thread::sleep(Duration::from_secs(1));
    assert!(!matches!(answer(&ctl, &put("/ctl", "2", Conditions::default())), Some(Ok(_))));
}

/// A node of the reference asks once to be let in. Another change that is on its way is no reason to refuse it.
#[test]
fn who_is_to_come_or_go_waits_for_the_change_before() {
    if !here() {
        return;
    }
    let [a, b, c] = ports();
    let directory = tempfile::tempdir().unwrap();
    let mut python = Python::start(&b, &[&a], directory.path(), None);
    let rust = ours(&a, &[&b], directory.path());
    ready(&rust);
    within("ours leads", || {
        if python.leads() {
            admin(&b, r#"["transfer",""]"#, None);
        }
        rust.standing().leads.then_some(())
    });
    set(&rust, "/k", "1");
    // Without it there is no majority: the first change stays on its way.
    python.signal("-STOP");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let change = |what: &'static str| {
        let (a, command) = (a.clone(), [what, &c].map(pickle::Value::str).to_vec());
        runtime.spawn(async move { ask(&a, None, pickle::Value::List(command), LONG).await.unwrap() })
    };
    let length = || {
        let question = pickle::Value::List(vec![pickle::Value::str("status")]);
        let status = runtime.block_on(ask(&a, None, question, LONG)).unwrap();
        status.get("log_len").and_then(pickle::Value::as_int)
    };
    let before = length();
    let add = change("add");
    // A removal that comes first would be refused at once: nobody of that name is a member.
    within("the first change is in the log", || (length() > before).then_some(()));
    let remove = change("remove");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!add.is_finished() && !remove.is_finished());
    python.signal("-CONT");
    let said = |asked: tokio::task::JoinHandle<pickle::Value>| runtime.block_on(asked).unwrap();
    assert_eq!(said(add), pickle::Value::str(&format!("SUCCESS ADD {c}")));
    assert_eq!(said(remove), pickle::Value::str(&format!("SUCCESS REMOVE {c}")));
    // What is so already is refused at once, as there.
    assert_eq!(said(change("remove")), pickle::Value::str(&format!("FAIL REMOVE {c}")));
}

#[test]
fn what_makes_no_sense_does_no_harm() {
    let [a, b] = ports();
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (ours(&a, &[&b], directory.path()), ours(&b, &[&a], directory.path()));
    ready(&one);
    ready(&two);
    let connect = || std::net::TcpStream::connect(&a).unwrap();
    let mut open = Vec::new();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], &100_000_000i32.to_ne_bytes(), &[0; 64]] {
        let mut stream = connect();
        stream.write_all(bytes).unwrap();
        open.push(stream);
    }
    // Somebody says that it is a member, and sends a hundred megabytes.
    let frame = |value: &patroni_raft::pickle::Value| patroni_raft::wire::Secrets::default().pack(value, 0);
    let mut liar = connect();
    liar.write_all(&frame(&patroni_raft::pickle::Value::str("10.9.9.9:1"))).unwrap();
    let mut member = connect();
    member.write_all(&frame(&patroni_raft::pickle::Value::str("readonly"))).unwrap();
    member.write_all(&100_000_000i32.to_ne_bytes()).unwrap();
    let _ = member.write_all(&vec![7; 1_000_000]);
    set(&one, "/k", "1");
    within("the other one has it", || (value(&two, "/k")? == "1").then_some(()));
}
