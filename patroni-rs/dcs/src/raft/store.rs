//! The lower floor over a member.

use std::time::Instant;

use patroni_core::model::{Node as Key, Nodes};
use patroni_core::mutex::locked;
use patroni_raft::kv::{Call, Conditions, Done, Item};
use patroni_raft::message::Reason;
use patroni_raft::node::Answer;
use tokio::sync::broadcast::error::RecvError;

use super::renewer::{self, Renewer};
use super::*;
use crate::kv::{Effort, Failure, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::{Granted, LockRenewer};
use crate::watch::Sink;

/// An operation that is tried once: the reference gives the status 1 s and the member key 2 s.
const ONCE: Duration = Duration::from_secs(2);
/// One attempt: a leader that is cut off takes commands, and nothing becomes of them.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What was written for the claim to the bootstrap, as far as it may be there.
#[derive(Debug, Default)]
pub(super) struct Claim {
    /// With a ttl: whoever dies of it leaves nothing behind.
    made: Vec<Item>,
    /// And without.
    freed: Vec<Item>,
}

/// What became of an attempt.
enum Outcome {
    Done(Done),
    /// Nothing was done, and nothing will be.
    Nothing,
    /// It may have been done, or may be yet.
    Unknown,
}

fn conditions(condition: If<'_>) -> Result<Conditions, Failure> {
    let none = Conditions::default();
    Ok(match condition {
        If::Always => none,
        If::Absent | If::AbsentOr(_) => Conditions { exists: Some(false), ..none },
        If::Version(version) => {
            let index =
                version.parse().map_err(|_| Failure::Refused(format!("not a version: {version:?}")))?;
            Conditions { index: Some(index), ..none }
        }
        If::Ours { value, .. } => Conditions { value: Some(value.into()), ..none },
    })
}

/// Was that written by this attempt of ours? No two have the same moment.
#[allow(clippy::float_cmp)]
fn same_write(sent: &Item, found: &Item) -> bool {
    sent.updated == found.updated && sent.value == found.value
}

fn one_of(sent: &[Item], found: &Item) -> bool {
    sent.iter().any(|sent| same_write(sent, found))
}

fn version(item: &Item) -> Written {
    Written::Done(item.index.to_string())
}

impl Store {
    fn deadline(effort: Effort) -> Instant {
        effort.deadline(ONCE)
    }

    async fn attempt(&self, deadline: Instant, ask: impl Fn() -> Answer) -> Outcome {
        let until = deadline.min(Instant::now() + ATTEMPT);
        match tokio::time::timeout_at(until.into(), ask()).await {
            Ok(Ok(Ok(done))) => Outcome::Done(done),
            Ok(Ok(Err(reason))) if reason.nothing_done() => Outcome::Nothing,
            Ok(Ok(Err(Reason::LeaderChanged | Reason::Unknown))) | Ok(Err(_)) | Err(_) => Outcome::Unknown,
            Ok(Ok(Err(_))) => Outcome::Nothing,
        }
    }

    fn no_answer(&self) -> Failure {
        let standing = self.node.standing();
        Failure::Unknown(match (standing.broken, standing.leader) {
            (Some(why), _) => why,
            (None, Some(leader)) => format!("no answer of a majority (leader: {leader})"),
            (None, None) => "there is no leader".into(),
        })
    }

    async fn pause(&self, deadline: Instant) -> Result<(), Failure> {
        if Instant::now() + PAUSE >= deadline {
            return Err(self.no_answer());
        }
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    /// Until everything that was committed before this call is here.
    async fn up_to_date(&self, deadline: Instant) -> Result<(), Failure> {
        while !matches!(self.attempt(deadline, || self.node.barrier()).await, Outcome::Done(_)) {
            self.pause(deadline).await?;
        }
        Ok(())
    }

    /// Until it is known that a lock would live for a while.
    async fn may_hold(&self, deadline: Instant) -> Result<(), Failure> {
        loop {
            match self.clocks.lock(self.timing().ttl) {
                Lock::Lives(_) => return Ok(()),
                Lock::Ended => {
                    return Err(Failure::Unknown("the clock of Raft's leader ends our lock at once".into()))
                }
                Lock::Unknown => self.pause(deadline).await?,
            }
        }
    }

    /// For how long a lock of ours lives that was written just now. Where that is not known, as long as is promised in
    /// the worst case.
    fn lives(&self) -> Duration {
        let ttl = self.timing().ttl;
        match self.clocks.lock(ttl) {
            Lock::Lives(span) => span,
            Lock::Ended | Lock::Unknown => skew::measured(ttl),
        }
    }

    async fn set(&self, put: &Put<'_>, when: Conditions, deadline: Instant) -> Result<Written, Failure> {
        let ttl = put.owner.map(|_| self.timing().ttl);
        let done = self.write(put, ttl, when, deadline, &mut Vec::new()).await?;
        Ok(done.map_or(Written::Refused, |item| version(&item)))
    }

    /// What is there of ours afterwards; None: refused. `sent` gets the attempts of which nobody knows what became of them:
    /// whoever asks again with them is told.
    async fn write(
        &self,
        put: &Put<'_>,
        ttl: Option<Duration>,
        when: Conditions,
        deadline: Instant,
        sent: &mut Vec<Item>,
    ) -> Result<Option<Item>, Failure> {
        loop {
            if !sent.is_empty() {
                self.up_to_date(deadline).await?;
                let found = self.node.view(|kv| kv.get(put.key).cloned());
                if let Some(found) = found.filter(|found| one_of(sent, found)) {
                    return Ok(Some(found));
                }
            }
            let call = renewer::set(&self.node.asker(), put.key, put.value, ttl, when.clone());
            match self.attempt(deadline, || self.node.call(&call)).await {
                Outcome::Done(Done::Set(item)) => return Ok(Some(item)),
                Outcome::Done(_) => {
                    let found = self.node.view(|kv| kv.get(put.key).cloned());
                    return Ok(found.filter(|found| one_of(sent, found)));
                }
                Outcome::Nothing => {}
                Outcome::Unknown => match call {
                    Call::Set(_, item, _) => sent.push(item),
                    _ => return Err(self.no_answer()),
                },
            }
            self.pause(deadline).await?;
        }
    }

    /// First with a ttl, then without: who dies in between, or never hears what became of it, leaves no claim of nobody's.
    async fn try_claim(&self, key: &str, deadline: Instant, claim: &mut Claim) -> Result<bool, Failure> {
        let put = Put::new(key, "");
        let mut made = None;
        if !(claim.made.is_empty() && claim.freed.is_empty()) {
            self.up_to_date(deadline).await?;
            let found = self.node.view(|kv| kv.get(key).cloned());
            if found.as_ref().is_some_and(|found| one_of(&claim.freed, found)) {
                return Ok(true);
            }
            made = found.filter(|found| one_of(&claim.made, found));
        }
        let made = match made {
            Some(made) => made,
            None => {
                let (ttl, absent) = (self.timing().ttl, conditions(If::Absent)?);
                let made = self.write(&put, Some(ttl), absent, deadline, &mut claim.made).await?;
                let Some(made) = made else { return Ok(false) };
                claim.made.push(made.clone());
                made
            }
        };
        let ours = Conditions { index: Some(made.index), ..Conditions::default() };
        Ok(self.write(&put, None, ours, deadline, &mut claim.freed).await?.is_some())
    }

    async fn call(&self, call: &Call, deadline: Instant) -> Result<Done, Failure> {
        loop {
            match self.attempt(deadline, || self.node.call(call)).await {
                Outcome::Done(done) => return Ok(done),
                // Done twice is as good as once: what is deleted is named by its version, or by a condition.
                Outcome::Nothing | Outcome::Unknown => self.pause(deadline).await?,
            }
        }
    }
}

fn written(done: &Done) -> Written {
    match done {
        Done::Refused => Written::Refused,
        Done::Set(item) => version(item),
        Done::Yes => Written::Done(String::new()),
    }
}

impl KvStore for Store {
    fn words(&self) -> Words {
        Words {
            store: "Raft",
            session: "ttl",
            not_responding: "Raft is not responding properly",
            foreign_owner: None,
        }
    }

    crate::voice!("patroni.dcs.raft");

    fn timing(&self) -> Timing {
        *locked(&self.timing)
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let before = std::mem::replace(&mut *locked(&self.timing), timing);
        self.node.measure_leader(&self.clocks.name, skew::measured(timing.ttl));
        before.ttl != timing.ttl
    }

    /// The reference takes no new options of this section either.
    fn reload(&self, _: &Value) -> Result<(), DcsError> {
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, Failure> {
        self.up_to_date(Self::deadline(effort)).await?;
        let key = |item: &Item| Key {
            value: item.value.to_string(),
            version: item.index.to_string(),
            modify_version: None,
            session: None,
        };
        Ok(self.node.view(|kv| {
            let name = |full: &str| full.strip_prefix(prefix).map(str::to_owned);
            kv.below(prefix).filter_map(|(full, item)| Some((name(full)?, key(item)))).collect()
        }))
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let deadline = Self::deadline(effort);
        if put.owner.is_some() && put.key.ends_with("/leader") {
            self.may_hold(deadline).await?;
        }
        let done = self.set(&put, conditions(put.condition)?, deadline).await?;
        match put.condition {
            If::AbsentOr(value) if !done.is_done() => {
                self.set(&put, conditions(If::Ours { value, version: None })?, deadline).await
            }
            _ => Ok(done),
        }
    }

    /// Of what is there: at a deletion of what is not there all members of the reference stop, forever.
    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        let when = Conditions { exists: Some(true), ..conditions(condition)? };
        let done = self.call(&Call::Delete(key.into(), when), Self::deadline(effort)).await?;
        match (condition, written(&done)) {
            (If::Always, Written::Refused) => Ok(Written::Done(String::new())),
            (_, written) => Ok(written),
        }
    }

    /// As the key is now, and no other: a deletion that is carried out late must not hit the lock that we have won again.
    async fn release(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        let If::Ours { value, .. } = condition else { return self.delete(key, condition, effort).await };
        let deadline = Self::deadline(effort);
        self.up_to_date(deadline).await?;
        // Once more where a renewal came in between.
        for _ in 0..2 {
            let Some(item) = self.node.view(|kv| kv.get(key).cloned()).filter(|item| *item.value == *value)
            else {
                break;
            };
            let when = Conditions { exists: Some(true), value: Some(value.into()), index: Some(item.index) };
            if self.call(&Call::Delete(key.into(), when), deadline).await? != Done::Refused {
                return Ok(Written::Done(String::new()));
            }
        }
        Ok(Written::Refused)
    }

    async fn delete_all(&self, prefix: &str, effort: Effort) -> Result<Written, Failure> {
        Ok(written(&self.call(&Call::DeleteAll(prefix.into()), Self::deadline(effort)).await?))
    }

    async fn session(&self, _: bool, _: Effort) -> Result<Session, Failure> {
        Ok(Session { id: None, granted: Granted { ttl: self.lives() } })
    }

    fn grants(&self) -> Option<Duration> {
        Some(self.lives())
    }

    fn session_id(&self) -> Option<String> {
        None
    }

    fn forget_session(&self) {}

    fn expect_refresh(&self) {}

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let mut claim = std::mem::take(&mut *locked(&self.claim));
        let claimed = self.try_claim(key, Self::deadline(effort), &mut claim).await;
        // Who is told has nothing to ask any more.
        if claimed.is_err() {
            *locked(&self.claim) = claim;
        }
        claimed
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        *locked(&self.leader) = leader.map(|held| (held.key.to_owned(), held.value.to_owned()));
    }

    fn let_leader_run_out(&self) {}

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(Renewer::new(Arc::clone(&self.leader), self.clocks.clone(), Arc::clone(&self.timing)))
    }

    async fn watch(self: Arc<Self>, prefix: String, mut sink: Sink) {
        let order = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
        let mut changes = self.node.changes();
        loop {
            let keys: Vec<(String, String, i64)> = self.node.view(|kv| {
                let name = |full: &str| full.strip_prefix(&prefix).map(str::to_owned);
                let keys = kv.below(&prefix);
                keys.filter_map(|(full, item)| Some((name(full)?, item.value.to_string(), order(item.index))))
                    .collect()
            });
            sink.listed(&keys);
            loop {
                match changes.recv().await {
                    Ok(change) => {
                        if let Some(name) = change.key.strip_prefix(&prefix) {
                            sink.changed(name, change.value.as_deref(), order(change.index));
                        }
                    }
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return std::future::pending().await,
                }
            }
        }
    }
}
