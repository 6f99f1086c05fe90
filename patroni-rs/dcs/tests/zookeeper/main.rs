#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! ZooKeeper and Exhibitor on real servers: what is theirs alone. What every store has to do: `tests/conformance`.

mod secured;
#[allow(dead_code)]
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::model::Leader;
use patroni_dcs::lock::Renewal;
use patroni_dcs::{open, Dcs, Timing};
use pyfmt::{json, Value};
use server::ZooKeeper;
use support::{free_port, soon};

const S: Duration = Duration::from_secs(1);
/// What is tried once comes about within this.
const SOON: Duration = Duration::from_secs(20);

fn config(name: &str, hosts: &str, more: &str) -> Value {
    let text = format!(
        r#"{{"scope":"batman","name":"{name}","ttl":5,"loop_wait":1,"retry_timeout":3,
            "zookeeper":{{"hosts":"{hosts}"{more}}}}}"#
    );
    json::loads(&text).unwrap()
}

async fn opened(config: &Value) -> Box<dyn Dcs> {
    tokio::time::timeout(40 * S, open(config)).await.expect("ZooKeeper is there").unwrap()
}

async fn node(name: &str, hosts: &str) -> Box<dyn Dcs> {
    opened(&config(name, hosts, "")).await
}

fn data(state: &str) -> Value {
    Value::from_iter([("conn_url", "postgres://h/postgres"), ("state", state)])
}

async fn leader(dcs: &dyn Dcs) -> Option<Leader> {
    dcs.get_cluster().await.unwrap().leader.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shortened_session_shortens_the_promise() {
    if !server::is_there() {
        return;
    }
    let server = ZooKeeper::single();
    let a = node("a", &server.host()).await;
    assert_eq!(a.acquire_leader(None).await, Ok(true));
    assert!(a.granted() < 5 * S && a.granted() > 3 * S, "{:?}", a.granted());
    let owner = leader(&*a).await.unwrap().session;
    // Twenty ticks of half a second are the most that it gives.
    a.set_timing(Timing { ttl: 60 * S, loop_wait: S, retry_timeout: 3 * S });
    assert!(a.watch(false, 10 * S).await, "a new ttl is for the next cycle, which begins at once");
    let held = leader(&*a).await.unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
    let held = leader(&*a).await.unwrap();
    assert_ne!(held.session, owner, "the key is attached to the session with the new ttl");
    assert!(a.granted() < 10 * S && a.granted() > 8 * S, "{:?}", a.granted());
    let mut renewer = a.renewer().unwrap();
    let answer = std::thread::spawn(move || renewer.renew(2 * S)).join().unwrap();
    let Renewal::Until(granted) = answer else { panic!("{answer:?}") };
    assert!(granted.ttl < 10 * S, "{granted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_a_peer_holds_is_not_taken() {
    if !server::is_there() {
        return;
    }
    let server = ZooKeeper::single();
    let (a, b) = (node("a", &server.host()).await, node("b", &server.host()).await);
    assert_eq!(b.acquire_leader(None).await, Ok(true));
    let theirs = leader(&*a).await.unwrap();
    // The reference deletes the peer's key and takes it.
    assert_eq!(a.update_leader(&theirs, None, None).await, Ok(false));
    assert_eq!(leader(&*a).await.unwrap().name(), "b");
    // Nor a namesake's, whose key came after the one that was read.
    let held = leader(&*b).await.unwrap();
    assert_eq!(b.delete_leader(Some(&held), None).await, Ok(true));
    let namesake = node("b", &server.host()).await;
    assert_eq!(namesake.acquire_leader(None).await, Ok(true));
    assert_eq!(b.update_leader(&held, None, None).await, Ok(false));
    let now = leader(&*a).await.unwrap();
    assert_eq!(namesake.update_leader(&now, None, None).await, Ok(true));
    assert_eq!(leader(&*a).await.unwrap().session, now.session);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_under_a_session_that_was_left_is_given_up() {
    if !server::is_there() {
        return;
    }
    let server = ZooKeeper::single();
    let a = node("a", &server.host()).await;
    assert_eq!(a.acquire_leader(None).await, Ok(true));
    let held = leader(&*a).await.unwrap();
    // With a ttl of 5 s the key lives for as long; the new session is not the one that it is attached to.
    a.let_leader_run_out();
    tokio::time::sleep(S / 2).await;
    assert_eq!(leader(&*a).await.unwrap().session, held.session);
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    assert_eq!(leader(&*a).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_loses_one_and_its_quorum() {
    if !server::is_there() {
        return;
    }
    let mut servers = ZooKeeper::ensemble(3);
    let hosts = servers.iter().map(ZooKeeper::host).collect::<Vec<_>>().join(",");
    // The loop is away while a server starts.
    let mut config = config("a", &hosts, "");
    config.set("ttl", 10);
    config.set("loop_wait", 30);
    config.set("retry_timeout", 5);
    let a = opened(&config).await;
    soon(SOON, || async { a.touch_member(&data("running")).await }).await;
    assert_eq!(a.acquire_leader(None).await, Ok(true));
    let owner = leader(&*a).await.unwrap().session;
    // Whoever it is connected to, and the leader of the ensemble: one after the other each is away for a while.
    for (n, server) in servers.iter_mut().enumerate() {
        server.kill();
        let began = Instant::now();
        let mut answered = false;
        while began.elapsed() < 10 * S && !answered {
            let held = a.get_cluster().await.ok().and_then(|cluster| cluster.leader.clone());
            match held {
                Some(held) => answered = a.update_leader(&held, None, None).await == Ok(true),
                None => tokio::time::sleep(S / 10).await,
            }
        }
        assert!(answered, "server {n} is away, and two are there");
        server.restart();
    }
    soon(SOON, || async { Ok(a.get_cluster().await.is_ok()) }).await;
    let held = leader(&*a).await;
    assert_eq!(held.as_ref().and_then(|held| held.session.clone()), owner, "the session went on");
    // One of three answers nothing that the quorum would have to know, not even what it knows.
    servers[0].kill();
    servers[1].kill();
    assert!(a.get_cluster().await.is_err());
    assert!(a.update_leader(&held.unwrap(), None, None).await.is_err());
    servers[0].restart();
    soon(SOON, || async { Ok(a.get_cluster().await.is_ok()) }).await;
}

/// An Exhibitor that answers what the test says.
struct Exhibitor {
    port: u16,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

fn exhibitor(answer: &str) -> Exhibitor {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, asked) = (Arc::new(Mutex::new(answer.to_owned())), Arc::new(AtomicUsize::new(0)));
    let (said, count) = (answer.clone(), asked.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 2000];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.starts_with("GET /exhibitor/v1/cluster/list HTTP/1.1\r\n"), "{request}");
            count.fetch_add(1, Ordering::SeqCst);
            let body = said.lock().unwrap().clone();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes());
        }
    });
    Exhibitor { port, answer, asked }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhibitor_tells_where_the_servers_are() {
    if !server::is_there() {
        return;
    }
    let server = ZooKeeper::single();
    let list = |port: u16| format!(r#"{{"servers":["127.0.0.1"],"port":{port}}}"#);
    let exhibitor = exhibitor(&list(free_port()));
    let text = format!(
        r#"{{"scope":"batman","name":"a","ttl":5,"loop_wait":1,"retry_timeout":3,
            "exhibitor":{{"hosts":["127.0.0.1"],"port":{},"poll_interval":1}}}}"#,
        exhibitor.port
    );
    // It names a server that is not there, and another one later: nobody has to start us again.
    *exhibitor.answer.lock().unwrap() = list(server.port);
    let a = opened(&json::loads(&text).unwrap()).await;
    assert_eq!(a.acquire_leader(None).await, Ok(true));
    let asked = exhibitor.asked.load(Ordering::SeqCst);
    tokio::time::sleep(S + S / 5).await;
    assert_eq!(leader(&*a).await.map(|leader| leader.name().to_owned()).as_deref(), Some("a"));
    assert_eq!(exhibitor.asked.load(Ordering::SeqCst), asked + 1);
    // Nonsense changes nothing.
    for nonsense in ["", "[]", r#"{"servers":[],"port":1}"#] {
        *exhibitor.answer.lock().unwrap() = nonsense.to_owned();
        tokio::time::sleep(S + S / 5).await;
        assert!(a.get_cluster().await.is_ok(), "{nonsense}");
    }
}
