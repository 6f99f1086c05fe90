//! One query at a time, shared by all that ask: while it runs ([`SingleFlight`]), or
//! before it begins ([`Batched`]).

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{timeout_at, Instant};

/// Lets any number of requests cost one status query at a time.
///
/// An answer is never older than the request that gets it, save for the time that
/// the query was already on its way.
pub struct SingleFlight<T> {
    flight: Mutex<Option<Flight<T>>>,
}

struct Flight<T> {
    started: Instant,
    result: watch::Receiver<Option<T>>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> SingleFlight<T> {
        SingleFlight { flight: Mutex::new(None) }
    }
}

impl<T: Clone + 'static> SingleFlight<T> {
    /// The result of the query on its way, or of a new one. None when it takes
    /// longer than `deadline` since it started: while one hangs no other is started,
    /// and nobody but the first waits for it. Must be called within a `LocalSet`; a
    /// caller that goes away does not end the query.
    pub async fn get<F, Q>(&self, deadline: Duration, query: F) -> Option<T>
    where
        F: FnOnce() -> Q,
        Q: Future<Output = T> + 'static,
    {
        let (started, mut result) = self.join(query);
        let wait = timeout_at(started + deadline, result.wait_for(Option::is_some));
        let ended = wait.await.is_ok_and(|end| end.is_ok());
        ended.then(|| result.borrow().clone()).flatten()
    }

    fn join<F, Q>(&self, query: F) -> (Instant, watch::Receiver<Option<T>>)
    where
        F: FnOnce() -> Q,
        Q: Future<Output = T> + 'static,
    {
        let mut flight = patroni_core::mutex::locked(&self.flight);
        // An error means that the sender is gone: the query has ended.
        if let Some(old) = flight.as_ref().filter(|f| f.result.has_changed().is_ok()) {
            return (old.started, old.result.clone());
        }
        let (sender, result) = watch::channel(None);
        let running = query();
        tokio::task::spawn_local(async move {
            sender.send_replace(Some(running.await));
        });
        let started = Instant::now();
        *flight = Some(Flight { started, result: result.clone() });
        (started, result)
    }
}

/// Lets any number of requests share reads of the DCS, none of which began before the
/// request that gets it had come: as fresh as a read of one's own.
pub struct Batched<T> {
    begun: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, T)>>,
}

impl<T> Default for Batched<T> {
    fn default() -> Batched<T> {
        Batched { begun: AtomicU64::new(0), last: tokio::sync::Mutex::new(None) }
    }
}

impl<T: Clone> Batched<T> {
    /// The result of a read that began after the call. Waits for the one on its way, if
    /// there is one, then begins the next or shares it. A caller that goes away ends its
    /// read; those who wait begin another.
    pub async fn get<Q: Future<Output = T>>(&self, read: impl FnOnce() -> Q) -> T {
        let seen = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((number, value)) = last.as_ref() {
            if *number > seen {
                return value.clone();
            }
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let value = read().await;
        *last = Some((number, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;
    use tokio::time::sleep;

    const LONG: Duration = Duration::from_secs(3);

    fn run(test: impl Future<Output = ()>) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    #[test]
    fn callers_share_a_query() {
        run(async {
            let flight = Rc::new(SingleFlight::<u32>::default());
            let count = Rc::new(Cell::new(0));
            let ask = || {
                let (flight, count) = (Rc::clone(&flight), Rc::clone(&count));
                tokio::task::spawn_local(async move {
                    let query = || async move {
                        count.set(count.get() + 1);
                        sleep(Duration::from_millis(10)).await;
                        count.get()
                    };
                    flight.get(LONG, query).await
                })
            };
            let first = ask();
            tokio::task::yield_now().await;
            let others = [ask(), ask()];
            first.abort();
            for task in others {
                assert_eq!(task.await.unwrap(), Some(1));
            }
            assert_eq!(ask().await.unwrap(), Some(2));
        });
    }

    #[test]
    fn one_that_hangs_is_waited_for_once() {
        run(async {
            let flight = SingleFlight::<u32>::default();
            let started = Instant::now();
            assert_eq!(flight.get(LONG, std::future::pending).await, None);
            assert_eq!(started.elapsed(), LONG);
            assert_eq!(flight.get(LONG, || async { 1 }).await, None);
            assert_eq!(started.elapsed(), LONG);
        });
    }

    #[test]
    fn batched_reads_begin_after_their_callers_came() {
        run(async {
            let reads = Rc::new(Batched::<u32>::default());
            let count = Rc::new(Cell::new(0));
            let ask = || {
                let (reads, count) = (Rc::clone(&reads), Rc::clone(&count));
                tokio::task::spawn_local(async move {
                    let read = || async move {
                        count.set(count.get() + 1);
                        let number = count.get();
                        sleep(Duration::from_millis(10)).await;
                        number
                    };
                    reads.get(read).await
                })
            };
            let first = ask();
            sleep(Duration::from_millis(1)).await;
            let (second, third, dropped) = (ask(), ask(), ask());
            assert_eq!(first.await.unwrap(), 1);
            dropped.abort();
            assert_eq!((second.await.unwrap(), third.await.unwrap()), (2, 2));
            let cut = ask();
            sleep(Duration::from_millis(1)).await;
            cut.abort();
            assert_eq!(ask().await.unwrap(), 4);
        });
    }
}
