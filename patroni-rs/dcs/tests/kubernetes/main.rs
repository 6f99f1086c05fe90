#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]
//! The Kubernetes store against a real API server, and behind a proxy with faults. Skipped where scripts/setup built none.

mod bypass;
mod faults;
mod manifests;
mod proxy;
mod reference;
#[allow(dead_code)]
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use patroni_core::model::Leader;
use patroni_dcs::lock::{LockRenewer, Renewal};
use patroni_dcs::{Dcs, DcsError, Kubernetes as Store, Settings};
use pyfmt::{json, Value};
use server::Kubernetes;
use support::soon;

const S: Duration = Duration::from_secs(1);

static SHARED: LazyLock<Mutex<Kubernetes>> = LazyLock::new(|| Mutex::new(Kubernetes::start()));

/// A namespace of the shared API server, with Pods of these names. None: there is no API server here.
fn place(pods: &[&str]) -> Option<(Value, String)> {
    if server::program().is_none() {
        eprintln!("SKIPPED: no kube-apiserver here");
        return None;
    }
    let mut server = SHARED.lock().unwrap();
    let namespace = server.new_namespace();
    pods.iter().for_each(|pod| server.make_pod(&namespace, pod));
    let mut section = server.section(&namespace);
    section.set("use_endpoints", true);
    Some((section, namespace))
}

/// All of a kind in a namespace.
fn objects(namespace: &str, kind: &str) -> Vec<Value> {
    let list = SHARED.lock().unwrap().ask("GET", &format!("/api/v1/namespaces/{namespace}/{kind}"), "");
    list.get("items").and_then(Value::as_list).unwrap_or_default().to_vec()
}

/// On a busy machine everything takes its time.
fn open(name: &str, section: &Value) -> Arc<Store> {
    open_with(name, section, 60, 10)
}

fn open_with(name: &str, section: &Value, ttl: i64, retry_timeout: i64) -> Arc<Store> {
    let config = Value::from_iter([
        ("scope", Value::from("batman")),
        ("name", name.into()),
        ("ttl", ttl.into()),
        ("loop_wait", 1.into()),
        ("retry_timeout", retry_timeout.into()),
        ("kubernetes", section.clone()),
    ]);
    let settings = Settings::from_config(&config, section).unwrap();
    Arc::new(Store::start(settings, &config, section).unwrap())
}

async fn leader(store: &Store) -> Option<Leader> {
    store.get_cluster().await.unwrap().leader.clone()
}

async fn acquire(store: &Store) -> Result<bool, patroni_dcs::DcsError> {
    let seen = leader(store).await;
    store.acquire_leader(seen.as_ref()).await
}

fn renew(renewer: &mut Option<Box<dyn LockRenewer>>, limit: Duration) -> Renewal {
    let mut taken = renewer.take().unwrap();
    let (answer, back) = std::thread::spawn(move || (taken.renew(limit), taken)).join().unwrap();
    *renewer = Some(back);
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_decided_on_an_old_view_takes_no_lock() {
    let Some((section, _)) = place(&[]) else { return };
    let (a, b) = (open_with("a", &section, 5, 10), open_with("b", &section, 5, 10));
    assert_eq!(acquire(&a).await, Ok(true));
    let mut renewer = a.renewer();
    // b looks on until the lock has run out by its clock.
    let began = Instant::now();
    let seen = loop {
        let seen = leader(&b).await.unwrap();
        if seen.name().is_empty() {
            break seen;
        }
        assert!(began.elapsed() < 40 * S);
        tokio::time::sleep(S / 10).await;
    };
    assert!(began.elapsed() > 4 * S, "{:?}", began.elapsed());
    // a renews after all, and somebody else at b (its REST API) sees it: what b has decided on is as it was.
    assert!(matches!(renew(&mut renewer, 8 * S), Renewal::Until(_)));
    assert_eq!(leader(&b).await.unwrap().name(), "a");
    assert_eq!(b.acquire_leader(Some(&seen)).await, Ok(false));
    assert_eq!(b.acquire_leader(None).await, Ok(false));
    let held = leader(&a).await.unwrap();
    assert_eq!((held.name(), a.update_leader(&held, None, None).await), ("a", Ok(true)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_beside_a_lock_that_is_free_is_no_loss_of_it() {
    let Some((section, namespace)) = place(&[]) else { return };
    let a = open_with("a", &section, 5, 10);
    let note = |text: &str| {
        let path = format!("/api/v1/namespaces/{namespace}/endpoints/batman");
        let body = format!(r#"{{"metadata":{{"annotations":{{"note":"{text}"}}}}}}"#);
        tokio::task::block_in_place(|| SHARED.lock().unwrap().ask("PATCH", &path, &body));
    };
    assert_eq!(acquire(&a).await, Ok(true));
    // After an outage a primary finds that its own lock has run out by its clock.
    let began = Instant::now();
    let seen = loop {
        let seen = leader(&a).await.unwrap();
        if seen.name().is_empty() {
            break seen;
        }
        assert!(began.elapsed() < 40 * S);
        tokio::time::sleep(S / 10).await;
    };
    // Its lock keeper finds the API server back at the same moment.
    assert!(matches!(renew(&mut a.renewer(), 8 * S), Renewal::Until(_)));
    assert_eq!(a.acquire_leader(Some(&seen)).await, Ok(true));
    // One that was given up, and people write beside it.
    let held = leader(&a).await.unwrap();
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    let seen = leader(&a).await.unwrap();
    note("1");
    assert_eq!(a.acquire_leader(Some(&seen)).await, Ok(true));
    // Taken by another one meanwhile, it is not free.
    let held = leader(&a).await.unwrap();
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    let seen = leader(&a).await.unwrap();
    let b = open_with("b", &section, 5, 10);
    assert_eq!(acquire(&b).await, Ok(true));
    assert_eq!(a.acquire_leader(Some(&seen)).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keeper_and_the_loop_do_not_race() {
    let Some((section, namespace)) = place(&["a"]) else { return };
    let a = open("a", &section);
    assert_eq!(acquire(&a).await, Ok(true));
    let held = leader(&a).await.unwrap();
    let mut renewer = a.renewer().unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let keeper = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let (mut renewed, mut other) = (0, Vec::new());
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                match renewer.renew(8 * S) {
                    Renewal::Until(granted) => {
                        assert_eq!(granted.ttl, 60 * S);
                        renewed += 1;
                    }
                    answer => other.push(answer),
                }
            }
            (renewed, other)
        })
    };
    let began = Instant::now();
    let mut updated = 0;
    while began.elapsed() < 5 * S {
        // By a view that is as old as it gets, and beside what people write.
        assert_eq!(a.update_leader(&held, None, None).await, Ok(true), "after {updated}");
        updated += 1;
        if updated % 5 == 0 {
            assert_eq!(a.write_status(patroni_core::model::Lsn::new(updated)).await, Ok(true));
            let path = format!("/api/v1/namespaces/{namespace}/endpoints/batman");
            let body = format!(r#"{{"metadata":{{"annotations":{{"note":"{updated}"}}}}}}"#);
            tokio::task::block_in_place(|| SHARED.lock().unwrap().ask("PATCH", &path, &body));
        }
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let (renewed, other) = keeper.join().unwrap();
    assert!(other.iter().all(|answer| matches!(answer, Renewal::NoAnswer(_))), "{other:?}");
    assert!(renewed > 5 && updated > 5, "{renewed} {updated} {other:?}");
    // Given up in the middle of renewals: it stays so.
    let mut renewer = a.renewer();
    assert!(matches!(renew(&mut renewer, 8 * S), Renewal::Until(_)));
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    assert!(matches!(renew(&mut renewer, 8 * S), Renewal::NoAnswer(_)));
    assert!(leader(&a).await.unwrap().name().is_empty());
    // Taken again is another term: what was decided in the first one is no renewal of it.
    assert_eq!(acquire(&a).await, Ok(true));
    assert_eq!(a.update_leader(&held, None, None).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_gone_is_no_lock() {
    let Some((section, namespace)) = place(&[]) else { return };
    let a = open("a", &section);
    assert_eq!(acquire(&a).await, Ok(true));
    let (held, mut renewer) = (leader(&a).await.unwrap(), a.renewer());
    let path = format!("/api/v1/namespaces/{namespace}/endpoints/batman");
    SHARED.lock().unwrap().ask("DELETE", &path, "");
    assert_eq!(renew(&mut renewer, 8 * S), Renewal::Gone);
    assert_eq!(a.write_status(patroni_core::model::Lsn::new(5)).await, Ok(false));
    assert_eq!(a.update_leader(&held, None, None).await, Ok(false));
    assert_eq!(leader(&a).await, None);
    assert_eq!(acquire(&a).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_without_rights_says_so() {
    let Some((mut section, _)) = place(&[]) else { return };
    section.set("context", format!("{}-weak", section.get("context").unwrap()));
    let a = open("a", &section);
    assert!(a.get_cluster().await.is_err());
    assert!(a.acquire_leader(None).await.is_err(), "nothing is learnt of the lock");
    assert_eq!(a.initialize(true, "").await, Ok(false));
    assert_eq!(a.touch_member(&Value::map()).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn citus_groups_share_a_namespace() {
    let Some((section, namespace)) = place(&[]) else { return };
    let group = |number: i64, ctl: bool| {
        let citus = Value::from_iter([("database", Value::from("d")), ("group", number.into())]);
        let mut config = Value::from_iter([
            ("scope", Value::from("batman")),
            ("name", format!("n{number}").into()),
            ("citus", citus),
            ("kubernetes", section.clone()),
            ("ttl", 5.into()),
        ]);
        config.set("patronictl", ctl);
        let settings = Settings::from_config(&config, &section).unwrap();
        Store::start(settings, &config, &section).unwrap()
    };
    let (zero, one) = (group(0, false), group(1, false));
    assert_eq!((acquire(&zero).await, acquire(&one).await), (Ok(true), Ok(true)));
    assert_eq!(leader(&zero).await.unwrap().name(), "n0");
    let groups = zero.get_groups().await.unwrap();
    let leaders: Vec<_> = groups.iter().map(|(n, cluster)| (*n, cluster.leader_name().unwrap())).collect();
    assert_eq!(leaders, [(0, "n0"), (1, "n1")]);
    // Nobody renews the lock of the other group: its leader is dead, and none for whoever looks on.
    soon(20 * S, || async {
        let groups = zero.get_groups().await?;
        let other = groups.get(&1).ok_or_else(|| DcsError::Unreachable("no group 1".into()))?;
        Ok(other.leader_name().is_none())
    })
    .await;
    assert!(zero.get_groups().await.unwrap()[&1].is_unlocked());
    let names: Vec<String> = objects(&namespace, "endpoints")
        .iter()
        .map(|o| o.at(&["metadata", "name"]).unwrap().py_str())
        .collect();
    assert_eq!(names, ["batman-0", "batman-1"]);
    // One group is removed, not all of them.
    assert_eq!(group(1, true).delete_cluster().await, Ok(true));
    assert_eq!((leader(&zero).await.is_some(), leader(&one).await), (true, None));
}
