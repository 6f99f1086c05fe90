//! Answers that clients ask for faster than anything changes: each stands for others of its kind for a moment.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::model::Cluster;

use crate::http::head::Head;
use crate::http::response::Response;

/// How long an answer stands for others, at most: state that a request looks at is no older than that.
const AGE: Duration = Duration::from_millis(1);
/// Most answers at a time.
const MOST: usize = 8;

/// What an answer was made of: a request, a state of this node, a view of the cluster.
pub struct CacheKey<'a, S> {
    /// The request; only its method and its target count.
    pub head: &'a Head,
    /// The state.
    pub snapshot: &'a Arc<S>,
    /// The end of the promise of the leader lock in it.
    pub lease_until: Option<Instant>,
    /// The view, where it is not that of the state.
    pub cluster: Option<&'a Arc<Cluster>>,
    /// The moment.
    pub now: Instant,
}

struct Entry<S> {
    method: String,
    target: String,
    snapshot: Arc<S>,
    cluster: Option<Arc<Cluster>>,
    until: Instant,
    response: Response,
}

impl<S> Entry<S> {
    fn is(&self, key: &CacheKey<'_, S>) -> bool {
        self.cluster.as_ref().map(Arc::as_ptr) == key.cluster.map(Arc::as_ptr)
            && Arc::ptr_eq(&self.snapshot, key.snapshot)
            && key.now < self.until
            && self.target == key.head.target
            && self.method == key.head.command
    }
}

/// The answers of the last moment, made of states `S`.
pub struct ResponseCache<S>(RefCell<Vec<Entry<S>>>);

impl<S> Default for ResponseCache<S> {
    fn default() -> ResponseCache<S> {
        ResponseCache(RefCell::default())
    }
}

impl<S> ResponseCache<S> {
    /// An answer made a moment ago of the same, or a new one. Only good ones are kept; and none longer than the promise
    /// of the leader lock that it may rest on.
    pub fn answer(&self, key: &CacheKey<'_, S>, make: impl FnOnce() -> Response) -> Response {
        if let Some(found) = self.0.borrow().iter().find(|entry| entry.is(key)) {
            return found.response.clone();
        }
        let response = make();
        if response.code() == Some(200) {
            let lease = key.lease_until.filter(|until| *until > key.now);
            let until = lease.unwrap_or(key.now + AGE).min(key.now + AGE);
            let mut entries = self.0.borrow_mut();
            entries.retain(|entry| key.now < entry.until);
            if entries.len() < MOST {
                entries.push(Entry {
                    method: key.head.command.clone(),
                    target: key.head.target.clone(),
                    snapshot: Arc::clone(key.snapshot),
                    cluster: key.cluster.map(Arc::clone),
                    until,
                    response: response.clone(),
                });
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Request<'a> = (&'a str, &'a Arc<u8>, Option<&'a Arc<Cluster>>, Instant);

    fn head(target: &str) -> Head {
        Head { command: "GET".into(), target: target.into(), ..Head::default() }
    }

    /// How often an answer had to be made for these requests.
    fn times_made(lease_until: Option<Instant>, requests: &[Request<'_>]) -> usize {
        let cache = ResponseCache::default();
        let count = std::cell::Cell::new(0);
        for (target, snapshot, cluster, now) in requests {
            let head = head(target);
            let request = CacheKey { head: &head, snapshot, lease_until, cluster: *cluster, now: *now };
            cache.answer(&request, || {
                count.set(count.get() + 1);
                Response::StatusOnly(if *target == "/bad" { 503 } else { 200 })
            });
        }
        count.get()
    }

    #[test]
    fn an_answer_stands_for_others_of_its_kind_and_moment() {
        let now = Instant::now();
        let later = now + AGE;
        let (one, other) = (Arc::new(1), Arc::new(1));
        let (view, read) = (Arc::new(Cluster::default()), Arc::new(Cluster::default()));
        for (times, requests) in [
            (1, vec![("/a", &one, None, now), ("/a", &one, None, now)]),
            (2, vec![("/a", &one, None, now), ("/a?lag=1", &one, None, now)]),
            (2, vec![("/a", &one, None, now), ("/a", &other, None, now)]),
            (2, vec![("/a", &one, None, now), ("/a", &one, None, later)]),
            (2, vec![("/bad", &one, None, now), ("/bad", &one, None, now)]),
            (1, vec![("/a", &one, Some(&view), now), ("/a", &one, Some(&view), now)]),
            (2, vec![("/a", &one, Some(&view), now), ("/a", &one, Some(&read), now)]),
        ] {
            assert_eq!(times_made(None, &requests), times, "{requests:?}");
        }
    }

    #[test]
    fn no_answer_outlives_the_promise_of_the_lock() {
        let now = Instant::now();
        let (leader, lease_until) = (Arc::new(1), Some(now + AGE / 4));
        let at = |part: u32| ("/primary", &leader, None, now + AGE * part / 8);
        assert_eq!(times_made(lease_until, &[at(0), at(1)]), 1);
        assert_eq!(times_made(lease_until, &[at(0), at(2)]), 2);
    }
}
