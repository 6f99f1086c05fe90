//! What is written to the objects that hold state.

use std::time::Instant;

use patroni_core::model::{Leader, Lsn, Status};
use pyfmt::Value;

use super::layout::Layout;
use super::lock::{annotations, change, whole, Change, Held};
use super::port::{Annotations, Failure, ObjectStore, Write};
use super::view::{Record, Term};
use super::wire::{self, Object};
use crate::dcs::Outcome;
use crate::keys::LEAST_TIME;
use crate::kv::Effort;

/// Of the failsafe mode; None where there is nothing to say.
pub fn failsafe_text(value: &Value) -> Option<String> {
    value.truthy().then(|| pyfmt::json::dumps_compact(value))
}

/// Position and slots as annotations: each with a spelling of its own.
fn status_annotations(status: &Status) -> Annotations<'static> {
    let slots = status.slots.as_ref().filter(|slots| !slots.is_empty());
    let slots = slots.map(|slots| {
        pyfmt::json::dumps_compact(&slots.iter().map(|(name, at)| (name.as_str(), *at)).collect::<Value>())
    });
    let retain: Vec<Value> = status.retain_slots.iter().map(|name| name.as_str().into()).collect();
    let retain = Some(retain).filter(|names| !names.is_empty());
    vec![
        ("optime", Some(status.last_lsn.bytes().to_string())),
        ("slots", slots),
        ("retain_slots", retain.map(|names| pyfmt::json::dumps(&names.into()))),
    ]
}

impl<O: ObjectStore> Layout<O> {
    /// Takes the lock at the version of the leader object at which it was seen to be free.
    pub(super) async fn try_acquire(&self, seen: Option<&Leader>) -> Result<bool, Failure> {
        let taken = seen.filter(|leader| !leader.name().is_empty() && leader.name() != self.settings.name);
        if taken.is_some() {
            return Ok(false);
        }
        let term = seen.and_then(|leader| leader.session.as_deref()).map(Term::of_text).unwrap_or_default();
        self.acquire_at(seen.map(|leader| leader.version.as_str()), &term).await
    }

    async fn acquire_at(&self, version: Option<&str>, before: &Term) -> Result<bool, Failure> {
        let (name, deadline) = (&self.names().leader, self.deadline());
        let left = || deadline.saturating_duration_since(self.objects.now());
        let effort = Effort::Until(deadline);
        let now = self.lock.time(self.objects.wall());
        let term = before.next(&self.settings.name, &now);
        let annotations = annotations(&term, whole(self.timing().ttl), &now);
        let mut version = version.map(str::to_owned);
        let object = loop {
            let mut write = Write::new(name, &annotations).at(version.as_deref());
            write.subsets = self.subsets();
            let written = match version {
                Some(_) => self.objects.patch(&write, effort).await,
                None => self.objects.create(&write, effort).await,
            };
            match written {
                Ok(object) => break object,
                Err(Failure::Conflict) if left() > LEAST_TIME => {}
                // Whose it is now is not known: it may have been an earlier attempt of ours that was carried out.
                Err(Failure::Conflict) => {
                    return Err(Failure::Unknown(format!("Concurrent update of {name}, and no time left")))
                }
                Err(Failure::Missing) => return Ok(false),
                Err(failure) => return Err(failure),
            }
            // Somebody was first; or an earlier attempt of ours was, whose answer was lost.
            let object = match self.objects.get(name, effort).await {
                Ok(object) => object,
                Err(Failure::Missing) => return Ok(false),
                Err(failure) => return Err(failure),
            };
            let same = |(name, text): &(&str, Option<String>)| object.annotation(name) == text.as_deref();
            if annotations.iter().all(same) {
                break object;
            }
            // Or the lock is as it was: nobody's, or our own that had run out by our clock, and what was written is
            // beside it, or was our lock keeper's renewal. A primary would give up for that.
            let free = before.holder.is_empty() || before.holder == self.settings.name;
            if !free || Record::of(Some(&object)).term() != *before {
                return Ok(false);
            }
            version = Some(object.version().to_owned());
        };
        self.lock.won(&object, &term);
        self.saw_leader(Some(&object));
        Ok(true)
    }

    /// The same on a view of its own: what was seen before a bootstrap is old.
    pub(super) async fn try_take(&self) -> Result<bool, Failure> {
        let object = match self.objects.get(&self.names().leader, self.effort()).await {
            Ok(object) => object,
            Err(Failure::Missing) => return self.acquire_at(None, &Term::default()).await,
            Err(failure) => return Err(failure),
        };
        let holder = self.saw_leader(Some(&object));
        if holder.is_some_and(|holder| holder != self.settings.name) {
            return Ok(false);
        }
        self.acquire_at(Some(object.version()), &Record::of(Some(&object)).term()).await
    }

    /// Renews the lock, with the status in the same write.
    pub(super) async fn try_update(
        &self,
        leader: &Leader,
        status: Option<&Status>,
        failsafe: Option<&Value>,
    ) -> Result<bool, Failure> {
        let term = leader.session.as_deref().map(Term::of_text).unwrap_or_default();
        // A lock that is gone is not made again, docs/safety.md S9: a node that wants it races for it.
        if leader.name() != self.settings.name || term.holder != self.settings.name {
            return Ok(false);
        }
        let ttl = whole(self.timing().ttl);
        let written = |now: &str| {
            let mut all = annotations(&term, ttl, now);
            if let Some(status) = status.filter(|s| s.last_lsn.is_known()) {
                all.extend(status_annotations(status));
            }
            if let Some(failsafe) = failsafe {
                all.push(("failsafe", failsafe_text(failsafe)));
            }
            all
        };
        let (version, deadline) = (leader.version.as_str(), self.deadline());
        let mut wanted = Change { term: &term, version, annotations: &written, subsets: self.subsets() };
        let mut changed = self.change(&wanted, deadline).await;
        if let (Err(Failure::Refused(text)), Some(_)) = (&changed, &wanted.subsets) {
            // An address that Kubernetes does not take is no reason to lose the lock.
            self.error(&format!("Unexpected error from Kubernetes API: {text}"));
            wanted.subsets = None;
            changed = self.change(&wanted, deadline).await;
        }
        let changed = changed.map_err(|failure| match failure {
            // Nothing was written, and nothing was said of the lock.
            Failure::Refused(text) => Failure::Unknown(text),
            other => other,
        })?;
        match &changed {
            Some(object) => {
                self.lock.won(object, &term);
                self.saw_leader(Some(object));
            }
            None => drop(self.lock.dropped()),
        }
        Ok(changed.is_some())
    }

    async fn change(&self, wanted: &Change<'_>, deadline: Instant) -> Result<Option<Object>, Failure> {
        change(&*self.objects, &self.names().leader, &self.lock, wanted, deadline, Effort::Until).await
    }

    /// Gives the lock up, if it is ours.
    pub(super) async fn try_release(
        &self,
        leader: &Leader,
        held: Option<Held>,
        last_lsn: Option<Lsn>,
    ) -> Result<bool, Failure> {
        let term = leader.session.as_deref().map(Term::of_text).unwrap_or_default();
        if term.holder != self.settings.name {
            return Ok(false);
        }
        let written = |_: &str| {
            let optime = last_lsn.map(|lsn| ("optime", Some(lsn.bytes().to_string())));
            [("leader", None)].into_iter().chain(optime).collect()
        };
        let there =
            self.seen().leader.as_ref().and_then(|o| o.subsets.as_ref()).is_some_and(|s| !s.is_empty());
        let subsets = (self.scope().options.use_endpoints && there).then(Vec::new);
        let held = held.filter(|held| held.term == term && wire::is_later(&held.version, &leader.version));
        let version = held.map_or_else(|| leader.version.clone(), |held| held.version);
        let wanted = Change { term: &term, version: &version, annotations: &written, subsets };
        // The fence does not wait for it: half the time is enough, and without it the lock runs out.
        let deadline = self.objects.now() + self.timing().retry_timeout / 2;
        let released = self.change(&wanted, deadline).await?;
        let object = match released {
            Some(object) => object,
            // Given up by an earlier attempt whose answer was lost?
            None => match self.objects.get(&self.names().leader, Effort::Until(deadline)).await {
                Ok(object) if Record::of(Some(&object)).term() == term.given_up() => object,
                _ => return Ok(false),
            },
        };
        self.saw_leader(Some(&object));
        Ok(true)
    }

    /// Annotations of the leader object that are not the lock, whoever holds it.
    pub(super) async fn write_beside_lock(&self, annotations: Annotations<'_>) -> Result<(), Failure> {
        // An object that is gone is not made without a lock in it.
        let write = Write::new(&self.names().leader, &annotations);
        let object = self.objects.patch(&write, Effort::Once).await?;
        self.saw_leader(Some(&object));
        Ok(())
    }

    /// Takes annotations away, if they are there.
    pub(super) async fn clear(&self, name: &str, annotations: Annotations<'_>) -> Result<(), Failure> {
        match self.objects.patch(&Write::new(name, &annotations), self.effort()).await {
            Ok(_) | Err(Failure::Missing) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn write(
        &self,
        name: &str,
        annotations: Annotations<'_>,
        version: Option<&str>,
        effort: Effort,
    ) -> Result<Object, Failure> {
        let write = Write::new(name, &annotations).at(version);
        match version {
            Some(_) => self.objects.patch(&write, effort).await,
            None => self.objects.put(&write, effort).await,
        }
    }

    pub(super) async fn put_config(&self, annotations: Annotations<'_>, version: Option<&str>) -> Outcome {
        let version = version.filter(|v| !v.is_empty());
        let written = self.write(&self.names().config, annotations, version, Effort::Once).await;
        self.best_effort(written)
    }

    /// The new version. Without a version there was no such object, and it is made: written without a condition it could
    /// undo what a leader since has promised in it. A conflict with what we have written ourselves, in an attempt whose
    /// answer was lost, is none.
    pub(super) async fn put_sync(
        &self,
        annotations: Annotations<'_>,
        version: Option<&str>,
    ) -> Result<String, Failure> {
        let effort = self.effort();
        let write = Write::new(&self.names().sync, &annotations).at(version);
        let written = match version {
            Some(_) => self.objects.patch(&write, effort).await,
            None => self.objects.create(&write, effort).await,
        };
        match written {
            Ok(object) => Ok(object.version().to_owned()),
            Err(Failure::Conflict) => {
                let object = self.objects.get(&self.names().sync, effort).await?;
                let same = |(name, text): &(&str, Option<String>)| object.annotation(name) == text.as_deref();
                // What takes the state away is nobody's own.
                let ours = annotations.iter().any(|(_, text)| text.is_some()) && annotations.iter().all(same);
                if ours {
                    Ok(object.version().to_owned())
                } else {
                    Err(Failure::Conflict)
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// The race for the bootstrap with `create_new`: one of many who write the same wins. The name under which the server
    /// remembers the write tells who it was, should the answer be lost.
    pub(super) async fn try_initialize(&self, create_new: bool, sysid: &str) -> Result<bool, Failure> {
        let effort = self.effort();
        let name = &self.names().config;
        self.make_service().await;
        let annotations = vec![("initialize", Some(sysid.to_owned()))];
        if !create_new {
            return self.objects.put(&Write::new(name, &annotations), effort).await.map(|_| true);
        }
        let manager = format!("Patroni-{:016x}", self.objects.nonce());
        let there = match self.objects.get(name, effort).await {
            Ok(object) if object.annotation("initialize").is_some() => return Ok(false),
            Ok(object) => Some(object),
            Err(Failure::Missing) => None,
            Err(failure) => return Err(failure),
        };
        let version = there.as_ref().map(Object::version);
        let write = Write { manager: Some(&manager), ..Write::new(name, &annotations).at(version) };
        let written = match version {
            Some(_) => self.objects.patch(&write, effort).await,
            None => self.objects.create(&write, effort).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(Failure::Conflict | Failure::Unknown(_)) => {
                let object = self.objects.get(name, self.effort()).await?;
                Ok(wrote_initialize(&object, &manager))
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Was it written under that name, and by nobody since?
fn wrote_initialize(object: &Object, manager: &str) -> bool {
    let wrote = |by: &wire::ManagedBy| by.manager == manager && by.wrote("initialize");
    object.annotation("initialize").is_some()
        && object.metadata.managed_fields.as_deref().unwrap_or_default().iter().any(wrote)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        let slots = [("m1".to_owned(), Lsn::new(5)), ("m0".to_owned(), Lsn::new(4))].into_iter().collect();
        let status = Status {
            last_lsn: Lsn::new(7),
            slots: Some(slots),
            retain_slots: vec!["m0".into(), "m1".into()],
        };
        let text: Vec<String> = status_annotations(&status)
            .into_iter()
            .map(|(name, value)| format!("{name}={}", value.unwrap_or_else(|| "null".into())))
            .collect();
        assert_eq!(text, ["optime=7", r#"slots={"m1":5,"m0":4}"#, r#"retain_slots=["m0", "m1"]"#]);
        let nothing =
            Status { last_lsn: Lsn::new(7), slots: Some(indexmap_empty()), retain_slots: Vec::new() };
        assert_eq!(status_annotations(&nothing)[1..], [("slots", None), ("retain_slots", None)]);
        assert_eq!(failsafe_text(&Value::map()), None);
        let urls = Value::from_iter([("m0", "u")]);
        assert_eq!(failsafe_text(&urls).as_deref(), Some(r#"{"m0":"u"}"#));
    }

    fn indexmap_empty<T: Default>() -> T {
        T::default()
    }

    #[test]
    fn who_has_claimed_the_bootstrap() {
        let object = |manager: &str, annotations: &str| -> Object {
            let text = format!(
                r#"{{"metadata":{{"name":"c","annotations":{annotations},"managedFields":[
                    {{"manager":"Patroni","fieldsV1":{{"f:metadata":{{"f:labels":{{}}}}}}}},
                    {{"manager":"{manager}","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:initialize":{{}}}}}}}}}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        for (manager, annotations, ours) in [
            ("Patroni-1", r#"{"initialize":""}"#, true),
            ("Patroni-2", r#"{"initialize":""}"#, false),
            ("Patroni-1", "{}", false),
        ] {
            assert_eq!(wrote_initialize(&object(manager, annotations), "Patroni-1"), ours, "{manager}");
        }
    }
}
