//! Answers that are lost on their way back, of requests that were carried out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

use super::*;

/// A proxy of the gateway: the answer to a transaction may be lost, and the connection with it.
struct Lossy {
    url: String,
    /// That of the n-th from now; 0: none.
    loses: Arc<AtomicUsize>,
}

impl Lossy {
    fn before(etcd: &Etcd) -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to, loses) = (etcd.url.trim_start_matches("http://").to_owned(), Arc::new(AtomicUsize::new(0)));
        let counter = loses.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&to) else { continue };
                connect(&client, &server, counter.clone());
            }
        });
        Lossy { url, loses }
    }

    fn loses(&self, nth: usize) {
        self.loses.store(nth, Ordering::SeqCst);
    }

    /// It was asked for that transaction.
    fn has_lost(&self) -> bool {
        self.loses.load(Ordering::SeqCst) == 0
    }
}

fn connect(client: &TcpStream, server: &TcpStream, loses: Arc<AtomicUsize>) {
    let lost = Arc::new(AtomicBool::new(false));
    let ends = || (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (from, to) = ends();
    let losing = lost.clone();
    pump(from, to, move |request| {
        let asked = request.windows(7).any(|part| part == b"/kv/txn");
        let last = |n: usize| n.checked_sub(1);
        if asked && loses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, last) == Ok(1) {
            losing.store(true, Ordering::SeqCst);
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
    assert!(proxy.has_lost());
    assert_eq!(etcd.field(&key("leader"), "lease"), dcs.lease_id().unwrap());
    proxy.loses(1);
    let made = dcs.write_sync("n1", &[], 0, None).await.unwrap().unwrap();
    assert!(proxy.has_lost());
    proxy.loses(1);
    let standbys = ["b".to_owned()];
    let changed = dcs.write_sync("n1", &standbys, 0, made.version.as_deref()).await.unwrap().unwrap();
    assert!(proxy.has_lost());
    assert_eq!(changed.version, Some(etcd.field(&key("sync"), "mod_revision").to_string()));
    // What somebody else has written meanwhile is not ours: another value, or under another lease.
    proxy.loses(1);
    assert_eq!(dcs.write_sync("n1", &[], 0, made.version.as_deref()).await, Ok(None));
    assert!(proxy.has_lost());
    for lease in [0, 1] {
        etcd.run(&["del", &key("leader")]);
        etcd.run(&["put", &key("leader"), if lease == 0 { "n1" } else { "n2" }]);
        proxy.loses(1);
        assert_eq!(dcs.acquire_leader(None).await, Ok(false), "{lease}");
        assert!(proxy.has_lost());
    }
}

/// Whichever answer is lost, the key that a bootstrap has made is its own, and free of the lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_known_again() {
    let etcd = Etcd::single();
    let proxy = Lossy::before(&etcd);
    let dcs = through(&proxy).await;
    for nth in 1..=2 {
        proxy.loses(nth);
        assert_eq!(dcs.initialize(true, "").await, Ok(true), "{nth}");
        assert!(proxy.has_lost());
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
}
