//! What is lost, refused and late between us and the API server.

use super::proxy::{Fault, Proxy};
use super::*;

/// A store behind a proxy.
async fn behind(section: &Value, name: &str) -> (Arc<Store>, Proxy) {
    let url = SHARED.lock().unwrap().url.clone();
    let proxy = Proxy::before(&url).await;
    server::add_context(&proxy.url, &proxy.url, server::ADMIN);
    let mut section = section.clone();
    section.set("context", proxy.url.as_str());
    (open_with(name, &section, 60, 8), proxy)
}

const LOCK: &str = "/endpoints/batman";

/// Answers that may come from a server that is being restarted, upgraded, or is busy, and from what is in between.
fn transient() -> Vec<Fault> {
    let answer = Fault::Answer;
    vec![
        answer(401, "", ""),
        answer(403, "", r#"{"kind":"Status","message":"endpoints is forbidden","code":403}"#),
        answer(429, "Retry-After: 1\r\n", "busy"),
        answer(500, "", ""),
        answer(502, "", "<html>"),
        answer(503, "Retry-After: 1\r\n", ""),
        answer(504, "", ""),
        answer(200, "", "<html>a login page</html>"),
        Fault::Swallow,
        Fault::Late(S * 60),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transient_answer_is_no_loss_of_the_lock() {
    let Some((section, _)) = place(&["a"]) else { return };
    let (a, proxy) = behind(&section, "a").await;
    assert_eq!(acquire(&a).await, Ok(true));
    let mut renewer = a.renewer();
    for fault in transient() {
        // Once: it is tried again, in reading and in writing.
        proxy.fault("GET", "/endpoints?labelSelector", fault.clone(), 1);
        let held = leader(&a).await.unwrap();
        assert_eq!(held.name(), "a", "{fault:?}");
        proxy.fault("PATCH", LOCK, fault.clone(), 1);
        let renewed = a.update_leader(&held, None, None).await;
        assert_eq!(renewed, Ok(true), "{fault:?}");
        proxy.heal();
        // For as long as it takes: nobody knows.
        proxy.fault("PATCH", LOCK, fault.clone(), 1000);
        if matches!(fault, Fault::Answer(200 | 401 | 429 | 503, ..)) {
            let renewed = a.update_leader(&held, None, None).await;
            assert!(renewed.is_err(), "{fault:?} {renewed:?}");
        }
        let answer = renew(&mut renewer, S / 2);
        assert!(matches!(answer, Renewal::NoAnswer(_)), "{fault:?} {answer:?}");
        proxy.heal();
        let answer = renew(&mut renewer, 8 * S);
        assert!(matches!(answer, Renewal::Until(_)), "{fault:?} {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers() {
    let Some((section, namespace)) = place(&["a", "b"]) else { return };
    let ((a, proxy), b) = (behind(&section, "a").await, open("b", &section));
    // The race for the bootstrap: whose it is can be found out.
    proxy.fault("POST", "/endpoints", Fault::Swallow, 1);
    assert_eq!(a.initialize(true, "").await, Ok(true));
    assert_eq!(b.initialize(true, "").await, Ok(false));
    assert_eq!(a.initialize(false, "7").await, Ok(true));
    assert_eq!(a.get_cluster().await.unwrap().initialize.as_deref(), Some("7"));
    // The lock, made and taken.
    proxy.fault("POST", "/endpoints", Fault::Swallow, 1);
    assert_eq!(acquire(&a).await, Ok(true));
    proxy.fault("PATCH", LOCK, Fault::Swallow, 1);
    assert_eq!(
        a.delete_leader(leader(&a).await.as_ref(), Some(patroni_core::model::Lsn::new(5))).await,
        Ok(true)
    );
    assert!(leader(&b).await.unwrap().name().is_empty());
    proxy.fault("PATCH", LOCK, Fault::Swallow, 1);
    assert_eq!(acquire(&a).await, Ok(true));
    let held = leader(&a).await.unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
    // What others are promised.
    proxy.fault("POST", "/endpoints", Fault::Swallow, 1);
    let state = a.write_sync("a", &["b".into()], 0, None).await.unwrap().expect("written");
    proxy.fault("PATCH", "/endpoints/batman-sync", Fault::Swallow, 1);
    let state = a.write_sync("a", &[], 0, state.version.as_deref()).await.unwrap().expect("written");
    assert_eq!(b.get_cluster().await.unwrap().sync.version, state.version);
    assert_eq!(b.write_sync("b", &[], 0, Some("1")).await.unwrap(), None);
    // The labels of Pods are not lost either.
    proxy.fault("PATCH", "/pods/a", Fault::Swallow, 1);
    let data = Value::from_iter([("state", "running"), ("role", "primary")]);
    assert_eq!(a.touch_member(&data).await, Ok(false));
    let began = Instant::now();
    while a.touch_member(&data).await != Ok(true) {
        assert!(began.elapsed() < 30 * S);
    }
    let pods = objects(&namespace, "pods");
    assert_eq!(pods[0].at(&["metadata", "labels", "role"]), Some(&Value::from("primary")));
}

/// An address that Kubernetes refuses makes no leader, and costs none the lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_address() {
    let Some((section, _)) = place(&["a"]) else { return };
    let mut bad = section.clone();
    bad.set("pod_ip", "127.0.0.1");
    let a = open("a", &bad);
    assert_eq!(acquire(&a).await, Ok(false));
    assert_eq!(acquire(&open("a", &section)).await, Ok(true));
    let held = leader(&a).await.unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
}

async fn wakes(store: &Store, what: &str, change: impl std::future::Future<Output = ()>) {
    while store.watch(false, S / 2).await {}
    let (woken, ()) = tokio::join!(store.watch(false, 30 * S), async {
        tokio::time::sleep(S / 5).await;
        change.await;
    });
    assert!(woken, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_end() {
    let Some((section, _)) = place(&["a", "b"]) else { return };
    let b = open("b", &section);
    assert_eq!(b.set_config(&Value::from_iter([("n", 0)]), None).await, Ok(true));
    assert_eq!(acquire(&b).await, Ok(true));
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","message":"too old resource version","reason":"Expired","code":410}}
"#;
    let cases = [
        ("nothing", None),
        ("410", Some(Fault::Answer(410, "", "{}"))),
        ("410 in the stream", Some(Fault::Answer(200, "", gone))),
        ("401", Some(Fault::Answer(401, "", ""))),
        ("500", Some(Fault::Answer(500, "", ""))),
        ("an end at once", Some(Fault::Answer(200, "", ""))),
        ("no JSON", Some(Fault::Answer(200, "", "<html>\n"))),
        (
            "an unknown event",
            Some(Fault::Answer(
                200,
                "",
                "{\"type\":\"X\",\"object\":{\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
            )),
        ),
        ("silence", Some(Fault::Silent)),
    ];
    for (n, (what, fault)) in (1i64..).zip(cases) {
        let url = SHARED.lock().unwrap().url.clone();
        let proxy = Proxy::before(&url).await;
        server::add_context(&proxy.url, &proxy.url, server::ADMIN);
        if let Some(fault) = fault {
            proxy.fault("GET", "watch=True", fault, 2);
        }
        let mut section = section.clone();
        section.set("context", proxy.url.as_str());
        // Silence for the ttl is too long.
        let a = open_with("a", &section, 12, 10);
        a.get_cluster().await.unwrap();
        let began = Instant::now();
        // Until both watches have got over it.
        while proxy.count("watch=True") < 4 && what != "nothing" {
            assert!(began.elapsed() < 90 * S, "{what}");
            tokio::time::sleep(S / 10).await;
        }
        wakes(&a, what, async {
            assert_eq!(b.set_config(&Value::from_iter([("n", n)]), None).await, Ok(true))
        })
        .await;
    }
}
