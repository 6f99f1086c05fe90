//! Answers that are lost on their way back, of requests that were carried out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// What befalls a transaction.
enum Trick {
    /// Its answer is lost, and the connection with it.
    Lost,
    /// Something else happens before it is carried out.
    Late(Box<dyn FnOnce() + Send>),
}

/// A proxy of the gateway, with a trick for one of the next transactions.
struct Lossy {
    url: String,
    next: Arc<Mutex<Option<(usize, Trick)>>>,
}

impl Lossy {
    fn before(etcd: &Etcd) -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to, next) = (etcd.url.trim_start_matches("http://").to_owned(), Arc::new(Mutex::new(None)));
        let proxy = Lossy { url, next: next.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                connect(&client, &server, next.clone());
            }
        });
        proxy
    }

    /// The answer to the n-th transaction from now is lost.
    fn loses(&self, nth: usize) {
        *self.next.lock().unwrap() = Some((nth, Trick::Lost));
    }

    /// The n-th transaction from now comes late.
    fn delays(&self, nth: usize, work: impl FnOnce() + Send + 'static) {
        *self.next.lock().unwrap() = Some((nth, Trick::Late(Box::new(work))));
    }

    /// There was such a transaction.
    fn has_played(&self) -> bool {
        self.next.lock().unwrap().is_none()
    }
}

fn connect(client: &TcpStream, server: &TcpStream, next: Arc<Mutex<Option<(usize, Trick)>>>) {
    let lost = Arc::new(AtomicBool::new(false));
    let ends = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from, to) = ends();
    let losing = lost.clone();
    pump(from, to, move |request| {
        if !request.windows(7).any(|part| part == b"/kv/txn") {
            return true;
        }
        let mut next = next.lock().unwrap();
        match next.take() {
            Some((1, Trick::Lost)) => losing.store(true, Ordering::SeqCst),
            Some((1, Trick::Late(work))) => work(),
            Some((n, trick)) => *next = Some((n - 1, trick)),
            None => {}
        }
        true
    });
    let (to, from) = ends();
    pump(from, to, move |_| !lost.load(Ordering::SeqCst));
}

/// Until one side ends, or `passes` says no.
fn pump(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if !passes(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

async fn through(proxy: &Lossy) -> Etcd3 {
    let mut config = config("n1", &[]);
    let host = proxy.url.trim_start_matches("http://");
    config.set("etcd3", Value::from_iter([("host", Value::from(host)), ("use_proxies", true.into())]));
    start_as(config).await
}

/// Asked again, it finds its own key in the way, and knows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_written_is_known_again() {
    let etcd = Etcd::single();
    let proxy = Lossy::before(&etcd);
    let dcs = through(&proxy).await;
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    proxy.loses(1);
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert!(proxy.has_played());
    assert_eq!(etcd.field(&key("leader"), "lease"), dcs.lease_id().unwrap());
    proxy.loses(1);
    let made = dcs.write_sync("n1", &[], 0, None).await.unwrap().unwrap();
    assert!(proxy.has_played());
    proxy.loses(1);
    let standbys = ["b".to_owned()];
    let changed = dcs.write_sync("n1", &standbys, 0, made.version.as_deref()).await.unwrap().unwrap();
    assert!(proxy.has_played());
    assert_eq!(changed.version, Some(etcd.field(&key("sync"), "mod_revision").to_string()));
    // What somebody else has written meanwhile is not ours: another value, or under another lease.
    proxy.loses(1);
    assert_eq!(dcs.write_sync("n1", &[], 0, made.version.as_deref()).await, Ok(None));
    assert!(proxy.has_played());
    for lease in [0, 1] {
        etcd.run(&["del", &key("leader")]);
        etcd.run(&["put", &key("leader"), if lease == 0 { "n1" } else { "n2" }]);
        proxy.loses(1);
        assert_eq!(dcs.acquire_leader(None).await, Ok(false), "{lease}");
        assert!(proxy.has_played());
    }
}

/// Whichever answer is lost, the key that a bootstrap has made is its own, and free of the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_known_again() {
    let etcd = Arc::new(Etcd::single());
    let proxy = Lossy::before(&etcd);
    let dcs = through(&proxy).await;
    for nth in 1..=2 {
        proxy.loses(nth);
        assert_eq!(dcs.initialize(true, "").await, Ok(true), "{nth}");
        assert!(proxy.has_played());
        assert_eq!(etcd.field(&key("initialize"), "lease"), 0);
        // It was said once.
        assert_eq!(dcs.initialize(true, "").await, Ok(false), "{nth}");
        assert_eq!(dcs.cancel_initialization().await, Ok(true));
    }
    // Somebody else's is none.
    etcd.run(&["put", &key("initialize"), ""]);
    for nth in 1..=2 {
        proxy.loses(nth);
        assert_eq!(dcs.initialize(true, "").await, Ok(false), "{nth}");
    }
    // Nor one that takes its place between our two steps, or that ends with another lease: two would make a cluster.
    for (anew, leased) in [(true, false), (true, true), (false, true)] {
        etcd.run(&["del", &key("initialize")]);
        let (other, place) = (etcd.clone(), key("initialize"));
        proxy.delays(2, move || {
            if anew {
                other.run(&["del", &place]);
            }
            let granted = other.run(&["lease", "grant", "60"]);
            let lease = granted.split_whitespace().nth(1).filter(|_| leased).unwrap_or("0");
            other.run(&["put", &format!("--lease={lease}"), &place, ""]);
        });
        assert_eq!(dcs.initialize(true, "").await, Ok(false), "{anew} {leased}");
        assert!(proxy.has_played());
    }
}
