//! The lock: an annotation of an object that also holds other things, with one resource version for all of it.
//!
//! Each write of it is a compare-and-set of a version at which the lock was seen to be free, or to be ours in the same
//! *term* (holder, number, beginning). Within a term the version moves by what the lock keeper, the HA loop and people
//! write; only another holder makes another term. So the keeper and the loop never take each other's renewals for the
//! loss of the lock, and nobody's renewal hits another's lock, however late it is carried out.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use patroni_core::mutex::locked;

use super::layout::DENIED_PAUSE;
use super::port::{Annotations, Failure, ObjectStore, Write};
use super::view::{iso_time, Record, Term};
use super::wire::{is_later, Object, Subset};
use crate::kv::Effort;
use crate::lock::{Granted, Renewal};

/// A write that has less time than this left is not begun.
const LEAST: Duration = Duration::from_millis(500);

/// The lock as we hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Of the object, as of the last answer.
    pub version: String,
    /// Ours.
    pub term: Term,
}

/// What the HA loop and the lock keeper know of the lock.
#[derive(Debug, Default)]
pub struct OurLock(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// The time that was written last: a renewal that changes nothing would be none.
    last_time: String,
}

impl OurLock {
    fn state<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut locked(&self.0))
    }

    /// As we hold it, if we do.
    pub fn held(&self) -> Option<Held> {
        self.state(|state| state.held.clone())
    }

    /// It is ours.
    pub fn won(&self, object: &Object, term: &Term) {
        let held = Held { version: object.version().to_owned(), term: term.clone() };
        self.state(|state| match &state.held {
            // The keeper may have renewed it since.
            Some(known) if known.term == *term && is_later(&known.version, &held.version) => {}
            _ => state.held = Some(held),
        });
    }

    /// It is not, or is about not to be: the keeper does not renew it any more.
    pub fn dropped(&self) -> Option<Held> {
        self.state(|state| state.held.take())
    }

    /// The object was seen: within our term its version counts from now on. False: we hold no such lock.
    pub fn seen(&self, object: &Object) -> bool {
        let term = Record::of(Some(object)).term();
        self.state(|state| match &mut state.held {
            Some(held) if held.term == term => {
                if is_later(object.version(), &held.version) {
                    object.version().clone_into(&mut held.version);
                }
                true
            }
            _ => false,
        })
    }

    /// The version to compare with: `seen`, or what it has become by our own doing since.
    fn version(&self, term: &Term, seen: &str) -> String {
        let held = self.held().filter(|held| held.term == *term && is_later(&held.version, seen));
        held.map_or_else(|| seen.to_owned(), |held| held.version)
    }

    /// That time, or one that was not written before.
    pub fn time(&self, mut now: SystemTime) -> String {
        self.state(|state| {
            let mut text = iso_time(now);
            if text == state.last_time {
                now += Duration::from_micros(1);
                text = iso_time(now);
            }
            state.last_time.clone_from(&text);
            text
        })
    }
}

/// What is written to hold the lock: in the reference's order.
pub fn annotations(term: &Term, ttl: Duration, now: &str) -> Annotations<'static> {
    let text = |text: &str| Some(text.to_owned());
    vec![
        ("leader", text(&term.holder)),
        ("ttl", Some(ttl.as_secs().to_string())),
        ("renewTime", text(now)),
        ("acquireTime", text(if term.acquire_time.is_empty() { now } else { &term.acquire_time })),
        ("transitions", text(if term.transitions.is_empty() { "0" } else { &term.transitions })),
    ]
}

/// A change of the leader object that only its holder makes.
pub struct Change<'a> {
    /// As it was seen when it was decided on.
    pub term: &'a Term,
    /// The object's version then.
    pub version: &'a str,
    /// What is to be written, by the time of the renewal.
    pub annotations: &'a (dyn Fn(&str) -> Annotations<'static> + Sync),
    /// See [`Write::subsets`].
    pub subsets: Option<Vec<Subset>>,
}

/// Makes a change of the leader object, called `name`, as long as the lock is ours in that term, whatever else is written
/// to the object meanwhile. None: it is not ours any more.
///
/// # Errors
/// See [`Failure`]: whether it is ours is not known. Never [`Failure::Conflict`] or [`Failure::Missing`].
pub async fn change<O: ObjectStore>(
    objects: &O,
    name: &str,
    lock: &OurLock,
    change: &Change<'_>,
    deadline: Instant,
    effort: impl Fn(Instant) -> Effort,
) -> Result<Option<Object>, Failure> {
    let left = || deadline.saturating_duration_since(objects.now());
    let mut version = lock.version(change.term, change.version);
    loop {
        let annotations = (change.annotations)(&lock.time(objects.wall()));
        let mut write = Write::new(name, &annotations).at(Some(&version));
        write.subsets.clone_from(&change.subsets);
        let pause = match objects.patch(&write, effort(deadline)).await {
            Ok(object) => return Ok(Some(object)),
            Err(Failure::Missing) => return Ok(None),
            Err(Failure::Conflict) => {
                let newer = lock.version(change.term, &version);
                if newer != version {
                    version = newer;
                } else {
                    let object = match objects.get(name, effort(deadline)).await {
                        Ok(object) => object,
                        Err(Failure::Missing) => return Ok(None),
                        Err(failure) => return Err(failure),
                    };
                    if Record::of(Some(&object)).term() != *change.term {
                        return Ok(None);
                    }
                    object.version().clone_into(&mut version);
                }
                Duration::ZERO
            }
            // A right, or a token, that is being replaced.
            Err(Failure::Denied(text)) if left() > DENIED_PAUSE + LEAST => {
                tracing::debug!(target: "patroni.dcs.kubernetes", "not let in: {text}");
                DENIED_PAUSE
            }
            Err(failure) => return Err(failure),
        };
        if left() < LEAST {
            return Err(Failure::Unknown(format!("Concurrent update of {name}, and no time left")));
        }
        if !pause.is_zero() {
            objects.pause(pause).await;
        }
    }
}

/// What a renewal of the lock asks, for the lock keeper: as it is held, until `deadline`.
///
/// # Errors
/// Nobody knows what became of it, and why (for the log).
pub async fn renew<O: ObjectStore>(
    objects: &O,
    name: &str,
    lock: &OurLock,
    deadline: Instant,
) -> Result<Renewal, String> {
    let Some(held) = lock.held() else {
        return Err("the lock is not ours, as far as is known".into());
    };
    let ttl = whole(objects.timing().ttl);
    let written = |now: &str| annotations(&held.term, ttl, now);
    let wanted = Change { term: &held.term, version: &held.version, annotations: &written, subsets: None };
    let answer = change(objects, name, lock, &wanted, deadline, Effort::Hurried).await;
    let answer = answer.map_err(|failure| failure.text())?;
    let ours = match &answer {
        Some(object) => lock.seen(object),
        None => lock.held().is_some_and(|now| now.term == held.term),
    };
    match (ours, answer) {
        (false, _) => Err("the HA loop has given the lock up meanwhile".into()),
        (true, None) => Ok(Renewal::Gone),
        (true, Some(_)) => Ok(Renewal::Until(Granted { ttl })),
    }
}

/// The ttl as it is written.
pub fn whole(ttl: Duration) -> Duration {
    Duration::from_secs(ttl.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn object(version: &str, leader: &str, number: &str) -> Object {
        let text = format!(
            r#"{{"metadata":{{"name":"demo","resourceVersion":"{version}",
                "annotations":{{"leader":"{leader}","acquireTime":"t","transitions":"{number}"}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn term(number: &str) -> Term {
        Term { transitions: number.into(), acquire_time: "t".into(), holder: "a".into() }
    }

    #[test]
    fn the_version_moves_within_a_term() {
        let lock = OurLock::default();
        assert_eq!((lock.held(), lock.seen(&object("5", "a", "1"))), (None, false));
        assert_eq!(lock.version(&term("1"), "5"), "5");
        lock.won(&object("5", "a", "1"), &term("1"));
        let version = || lock.held().unwrap().version;
        // A renewal by the other of the two.
        assert!(lock.seen(&object("7", "a", "1")));
        assert_eq!((version().as_str(), lock.version(&term("1"), "5").as_str()), ("7", "7"));
        // What was answered earlier, and comes later.
        assert!(lock.seen(&object("6", "a", "1")));
        lock.won(&object("6", "a", "1"), &term("1"));
        assert_eq!(version(), "7");
        // A view that is newer than what we have written.
        assert_eq!(lock.version(&term("1"), "9"), "9");
        // Another term, or another holder, moves nothing.
        assert!(!lock.seen(&object("11", "a", "2")) && !lock.seen(&object("12", "b", "1")));
        assert_eq!((version().as_str(), lock.version(&term("2"), "5").as_str()), ("7", "5"));
        lock.won(&object("20", "a", "2"), &term("2"));
        assert_eq!(lock.dropped(), Some(Held { version: "20".into(), term: term("2") }));
        assert_eq!(lock.held(), None);
    }

    #[test]
    fn no_time_is_written_twice() {
        let lock = OurLock::default();
        let times: Vec<String> = (0..1000).map(|_| lock.time(SystemTime::now())).collect();
        assert!(times.windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_holds_a_lock() {
        let written = annotations(&term("3"), Duration::from_millis(20_900), "now");
        let written: Vec<String> =
            written.into_iter().map(|(name, value)| format!("{name}={}", value.unwrap())).collect();
        assert_eq!(written, ["leader=a", "ttl=20", "renewTime=now", "acquireTime=t", "transitions=3"]);
    }
}
