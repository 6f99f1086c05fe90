//! Raft without a store, as `patroni-rs/dcs/src/raft` uses it: keys with a ttl of their own, in a dictionary that each node
//! has a copy of. What is read is confirmed by a majority first; whether a write of unknown fate was done is told by the
//! moment that it bears; the lock is given up as it is now, and no later one.

use std::time::Duration;

use patroni_dcs::kv::{Effort, Failure, If, KvStore, Put, Written};
use patroni_dcs::lock::Granted;
use patroni_dcs::skew::{self, Ahead, Leader, Lock};

use super::super::dcs::{Cmp, On, Op, Said};
use super::{bare, Client, LEAST};

/// One attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A write that is there: its version, and its moment.
type Found = (u64, u64);

/// What was written for a claim, as far as it may be there: first with a ttl, then without.
#[derive(Debug, Default, Clone)]
pub(super) struct Claim {
    made: Vec<u64>,
    freed: Vec<u64>,
}

fn conditions(condition: If<'_>) -> Result<Vec<Cmp>, Failure> {
    Ok(match condition {
        If::Always => Vec::new(),
        If::Absent | If::AbsentOr(_) => vec![Cmp::Absent],
        If::Version(version) => {
            vec![Cmp::Version(version.parse().map_err(|_| Failure::Refused("no version".into()))?)]
        }
        If::Ours { value, .. } => vec![Cmp::Value(value.to_owned())],
    })
}

impl Client {
    /// What is there, and its moment.
    async fn found(&self, key: &str, effort: Effort) -> Result<Option<Found>, Failure> {
        let found = self.read(key, effort).await?;
        Ok(found.map(|(node, moment)| (node.version.parse().unwrap_or(0), moment)))
    }

    async fn write_raft(
        &self,
        put: &Put<'_>,
        ttl: Option<u64>,
        when: &[Cmp],
        effort: Effort,
        sent: &mut Vec<u64>,
    ) -> Result<Option<Found>, Failure> {
        let until = match effort {
            Effort::Until(at) | Effort::Hurried(at) => at,
            _ => self.now() + ATTEMPT,
        };
        loop {
            if !sent.is_empty() {
                let found = self.found(put.key, Effort::Until(until)).await?;
                if let Some(found) = found.filter(|(_, moment)| sent.contains(moment)) {
                    return Ok(Some(found));
                }
            }
            let left = until.saturating_duration_since(self.now());
            if left < LEAST {
                return Err(Failure::Unknown("no answer of a majority".into()));
            }
            let moment = self.nonce();
            let (key, value) = (bare(put.key), put.value.to_owned());
            let op = Op::Put { key, value, on: On::Moment(ttl, moment), when: when.to_vec() };
            match self.once(op, ATTEMPT.min(left)).await {
                Some(Said::Done(version)) => return Ok(Some((version, moment))),
                Some(_) if sent.is_empty() => return Ok(None),
                Some(_) => {
                    let found = self.found(put.key, Effort::Until(until)).await?;
                    return Ok(found.filter(|(_, moment)| sent.contains(moment)));
                }
                None if self.flaws().knows_no_moment => {}
                None => sent.push(moment),
            }
        }
    }

    /// What a lock is good for, by the clock of who leads Raft.
    pub(super) fn lock_raft(&self) -> Lock {
        let (ttl, ahead) = (self.timing().ttl, Duration::from_millis(self.flaws().leader_ahead));
        let leader = if ahead >= skew::measured(ttl) { Leader::Far } else { Leader::By(ahead.as_secs_f64()) };
        Ahead { leader, other: 0.0 }.lock(ttl)
    }

    /// See [`KvStore::grants`].
    pub(super) fn granted_raft(&self) -> Granted {
        let ttl = self.timing().ttl;
        match self.lock_raft() {
            Lock::Lives(ttl) => Granted { ttl },
            Lock::Ended | Lock::Unknown => Granted { ttl: skew::measured(ttl) },
        }
    }

    pub(in super::super) async fn put_raft(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        if put.owner.is_some() && bare(put.key) == "leader" && self.lock_raft() == Lock::Ended {
            return Err(Failure::Unknown("the clock of Raft's leader ends our lock at once".into()));
        }
        let ttl = put.owner.map(|_| self.timing().ttl.as_millis() as u64);
        let when = conditions(put.condition)?;
        let mut done = self.write_raft(&put, ttl, &when, effort, &mut Vec::new()).await?;
        if let (If::AbsentOr(value), None) = (put.condition, &done) {
            let ours = [Cmp::Value(value.to_owned())];
            done = self.write_raft(&put, ttl, &ours, effort, &mut Vec::new()).await?;
        }
        Ok(done.map_or(Written::Refused, |(version, _)| Written::Done(version.to_string())))
    }

    pub(super) async fn claim_raft(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        let mut claim = std::mem::take(&mut self.state().claims);
        let claimed = self.try_claim_raft(key, effort, &mut claim).await;
        if claimed.is_err() {
            self.state().claims = claim;
        }
        claimed
    }

    async fn try_claim_raft(&self, key: &str, effort: Effort, claim: &mut Claim) -> Result<bool, Failure> {
        let put = Put::new(key, "");
        let mut made = None;
        if !(claim.made.is_empty() && claim.freed.is_empty()) {
            let found = self.found(key, effort).await?;
            if found.is_some_and(|(_, moment)| claim.freed.contains(&moment)) {
                return Ok(true);
            }
            made = found.filter(|(_, moment)| claim.made.contains(moment));
        }
        let made = match made {
            Some(made) => made,
            None => {
                let ttl = Some(self.timing().ttl.as_millis() as u64);
                let made = self.write_raft(&put, ttl, &[Cmp::Absent], effort, &mut claim.made).await?;
                let Some(made) = made else { return Ok(false) };
                claim.made.push(made.1);
                made
            }
        };
        let ours = [Cmp::Version(made.0)];
        Ok(self.write_raft(&put, None, &ours, effort, &mut claim.freed).await?.is_some())
    }

    /// As the key is now: a deletion that is carried out late must not hit the lock that we have won again.
    pub(super) async fn release_raft(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let If::Ours { value, .. } = condition else { return self.delete(key, condition, effort).await };
        for _ in 0..2 {
            let Some((node, _)) = self.read(key, effort).await?.filter(|(node, _)| node.value == value)
            else {
                break;
            };
            let version = Cmp::Version(node.version.parse().unwrap_or(0));
            let when = vec![Cmp::Value(value.to_owned()), version];
            let done = self.write(Op::Delete { key: bare(key), when }, effort).await?.0;
            if done.is_done() {
                return Ok(done);
            }
        }
        Ok(Written::Refused)
    }
}
