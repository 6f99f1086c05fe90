//! What wakes the loop of a node, and its keeper.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Instant;

use patroni_core::model::{Leader, Lsn};
use patroni_dcs::Dcs;
use pyfmt::Value;

use super::cases::{acquire, cluster, data, leader, S, SOON};
use super::support::soon;
use super::{node, Server};

pub(super) async fn woken(dcs: &dyn Dcs, what: &str, change: impl std::future::Future<Output = ()>) {
    // What was before is over.
    while dcs.watch(false, S).await {}
    let waiting = async {
        let began = Instant::now();
        assert!(dcs.watch(true, 8 * S).await, "not woken by {what}");
        began.elapsed()
    };
    let (after, ()) = tokio::join!(waiting, async {
        tokio::time::sleep(S / 5).await;
        change.await;
    });
    assert!(after < 4 * S, "woken by {what} after {after:?}");
}

/// The leader as `b` sees it, once `a` has renewed the lock: a step takes a good part of a short ttl.
async fn renewed(a: &dyn Dcs, b: &dyn Dcs) -> Leader {
    let held = leader(b).await.unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
    leader(b).await.unwrap()
}

pub async fn what_wakes<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let gone = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&gone);
    a.on_lock_gone(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    assert_eq!(a.set_config(&Value::from_iter([("n", 1)]), None).await, Ok(true));
    cluster(&*b).await;
    woken(&*b, "a new leader", async { assert_eq!(acquire(&*a).await, Ok(true)) }).await;
    woken(&*b, "a status", async { assert_eq!(a.write_status(Lsn::new(5)).await, Ok(true)) }).await;
    renewed(&*a, &*b).await;
    woken(&*b, "another status", async { assert_eq!(a.write_status(Lsn::new(6)).await, Ok(true)) }).await;
    renewed(&*a, &*b).await;
    woken(&*b, "a configuration", async {
        assert_eq!(a.set_config(&Value::from_iter([("n", 2)]), None).await, Ok(true));
    })
    .await;
    cluster(&*b).await;
    let changes = b.changes();
    let before = *changes.borrow();
    soon(SOON, || async { a.touch_member(&data("running")).await }).await;
    let began = Instant::now();
    while *changes.borrow() == before {
        assert!(began.elapsed() < 5 * S, "the watch has not seen a member");
        tokio::time::sleep(S / 20).await;
    }
    let held = renewed(&*a, &*b).await;
    assert_eq!(gone.load(Ordering::Relaxed), 0, "it was never gone");
    woken(&*b, "no leader", async {
        soon(SOON, || async { a.delete_leader(Some(&held), None).await }).await;
    })
    .await;
    // The keeper of who held it hears of that, and has heard of nothing else.
    let began = Instant::now();
    while gone.load(Ordering::Relaxed) == 0 {
        assert!(began.elapsed() < 5 * S, "the keeper has not heard that the key is gone");
        tokio::time::sleep(S / 20).await;
    }
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    // The same again: a watch that was used once, of a key that is not there.
    cluster(&*b).await;
    woken(&*b, "the next leader", async { assert_eq!(acquire(&*a).await, Ok(true)) }).await;
}
