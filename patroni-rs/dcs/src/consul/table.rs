//! Reading and writing keys. Requests are the reference's, where they say what has to be said; where they do not (a key
//! that moves from one session to another, a claim whose answer was lost), it is a transaction or a mark.

use std::sync::atomic::{AtomicU64, Ordering};

use patroni_core::model::Nodes;
use rand::Rng;

use super::api::{bare, Api, Ask, Reply, Said};
use super::options::Consistency;
use super::wire::{from_json, nodes, Entry, Txn, TxnResults};
use crate::kv::{Effort, Failure, If, Put, Session, Written};

/// The keys of one Consul.
pub struct Table {
    /// patronictl: nothing but consistent reads.
    ctl: bool,
    /// What a claim of ours to the bootstrap is marked with, while nobody knows what came of it; else 0.
    claim: AtomicU64,
}

impl Table {
    /// Nothing claimed.
    pub fn new(ctl: bool) -> Table {
        Table { ctl, claim: AtomicU64::new(0) }
    }

    /// Everything below a prefix.
    pub async fn list(&self, api: &Api, prefix: &str, effort: Effort) -> Result<Nodes, Failure> {
        let options = api.shared().live_options();
        let consistency = match options.consistency {
            _ if self.ctl => Consistency::Consistent,
            // What a server has that has lost the others may be hours old. The HA loop would decide by it.
            Consistency::Stale => Consistency::Default,
            other => other,
        };
        let ask = Ask::key("GET", prefix).with("recurse", "1").in_dc(&options).consistent(consistency);
        for _ in 0..2 {
            let reply = api.call(&ask, effort).await?;
            let found = entries(&reply)?;
            let nodes = nodes(&found, bare(prefix));
            if !nodes.is_empty() {
                return Ok(nodes);
            }
            // A list without the right to read is as empty as that of a new cluster; a single key is not.
            if self.get(api, &format!("{prefix}leader"), effort).await?.is_none() {
                return Ok(nodes);
            }
        }
        Err(Failure::Denied(format!("the keys below {prefix} can be read but not listed")))
    }

    /// One key, as it is now.
    async fn get(&self, api: &Api, key: &str, effort: Effort) -> Result<Option<Entry>, Failure> {
        let ask =
            Ask::key("GET", key).in_dc(&api.shared().live_options()).consistent(Consistency::Consistent);
        Ok(entries(&api.call(&ask, effort).await?)?.into_iter().next())
    }

    /// Writes a key.
    pub async fn put(&self, api: &Api, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        match self.resolve(api, put.key, put.condition, effort).await? {
            Resolved::Refused => Ok(Written::Refused),
            Resolved::Always => match put.owner {
                Some(owner) => self.lock_anyway(api, &put, owner, effort).await,
                None if put.seen_owner.is_some() => self.replace(api, &put, None, effort).await,
                None => self.plain(api, &put, None, effort).await,
            },
            Resolved::Absent => match put.owner {
                Some(owner) => self.acquire(api, &put, owner, effort).await,
                None => self.plain(api, &put, Some(0), effort).await,
            },
            Resolved::At(index) if put.owner.is_some() || put.seen_owner.is_some() => {
                if put.owner.is_some() {
                    let text = "Recreating the leader key due to session mismatch";
                    tracing::warn!(target: "patroni.dcs.consul", "{text}");
                }
                self.replace(api, &put, Some(index), effort).await
            }
            Resolved::At(index) => self.plain(api, &put, Some(index), effort).await,
        }
    }

    /// What a condition means for Consul, which compares versions only.
    async fn resolve(
        &self,
        api: &Api,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> Result<Resolved, Failure> {
        let (value, version, or_absent) = match condition {
            If::Always => return Ok(Resolved::Always),
            If::Absent => return Ok(Resolved::Absent),
            If::Version(version) => return Resolved::at(version),
            If::Ours { value, version } => (value, version.map(Resolved::at).transpose()?, false),
            If::AbsentOr(value) => (value, None, true),
        };
        Ok(match self.get(api, key, effort).await? {
            None if or_absent => Resolved::Absent,
            Some(entry) if entry.text() == value => {
                let found = Resolved::At(entry.modify_index);
                if version.is_none_or(|version| version == found) {
                    found
                } else {
                    Resolved::Refused
                }
            }
            _ => Resolved::Refused,
        })
    }

    /// A write without a session.
    async fn plain(
        &self,
        api: &Api,
        put: &Put<'_>,
        index: Option<u64>,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let mut ask = Ask::key("PUT", put.key);
        if let Some(index) = index {
            ask = ask.with("cas", index.to_string());
        }
        let ask = ask.in_dc(&api.shared().live_options()).body(put.value);
        let reply = api.call(&ask, effort).await?;
        let done = truth(&reply)?;
        if !done && !reply.repeated {
            return Ok(Written::Refused);
        }
        if done && !put.version_wanted {
            return Ok(Written::Done(String::new()));
        }
        // Consul does not tell the version. And it may be our own first attempt, whose answer was lost, that is in the way.
        self.read_back(api, put, effort).await
    }

    async fn read_back(&self, api: &Api, put: &Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let found = self.get(api, put.key, effort).await?;
        let owner = put.owner.and_then(|s| s.id.as_deref());
        let ours = found.filter(|entry| entry.text() == put.value && entry.owner() == owner);
        Ok(ours.map_or(Written::Refused, |entry| Written::Done(entry.modify_index.to_string())))
    }

    /// The race for a lock. Of our own session it is no race: who has it already gets it again, also after a lost answer.
    async fn acquire(
        &self,
        api: &Api,
        put: &Put<'_>,
        owner: &Session,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let id = owner.id.as_deref().unwrap_or_default();
        let ask = Ask::key("PUT", put.key).with("acquire", id).in_dc(&api.shared().live_options());
        let reply = api.call(&ask.body(put.value), effort).await?;
        if !truth(&reply)? {
            return Ok(Written::Refused);
        }
        if put.version_wanted {
            return self.read_back(api, put, effort).await;
        }
        Ok(Written::Done(String::new()))
    }

    /// A key of ours alone, whatever session has it.
    async fn lock_anyway(
        &self,
        api: &Api,
        put: &Put<'_>,
        owner: &Session,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let moves = put.seen_owner.is_some() && !owner.owns(put.seen_owner);
        if !moves {
            let written = self.acquire(api, put, owner, effort).await?;
            if written.is_done() {
                return Ok(written);
            }
        }
        self.replace(api, put, None, effort).await
    }

    /// Deletes a key and makes it again, in one step: a lock cannot be moved to another session. (The reference does it
    /// in two, and does not look whether it was first in the second one.)
    async fn replace(
        &self,
        api: &Api,
        put: &Put<'_>,
        index: Option<u64>,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let key = bare(put.key);
        let mut txn = Txn::default();
        if let Some(index) = index {
            txn = txn.check(key, index);
        }
        txn = txn.delete(key);
        txn = match put.owner {
            Some(owner) => txn.lock(key, put.value, owner.id.as_deref().unwrap_or_default()),
            None => txn.set(key, put.value),
        };
        let ask = Ask::agent("PUT", "/v1/txn").in_dc(&api.shared().live_options()).body(txn.body()?);
        let reply = api.call(&ask, effort).await?;
        match reply.said {
            Said::Yes => Ok(Written::Done(from_json::<TxnResults>(&reply.body)?.version())),
            Said::Refused if reply.repeated => self.read_back(api, put, effort).await,
            Said::Refused => Ok(Written::Refused),
            Said::NotFound => Err(Failure::Refused("this Consul knows no transactions".into())),
        }
    }

    /// Deletes a key.
    pub async fn delete(
        &self,
        api: &Api,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let ask = Ask::key("DELETE", key);
        let ask = match self.resolve(api, key, condition, effort).await? {
            Resolved::Always => ask,
            Resolved::At(index) => ask.with("cas", index.to_string()),
            // There is nothing to delete.
            Resolved::Absent | Resolved::Refused => return Ok(Written::Refused),
        };
        let reply = api.call(&ask.in_dc(&api.shared().live_options()), effort).await?;
        Ok(if truth(&reply)? { Written::Done(String::new()) } else { Written::Refused })
    }

    /// Deletes everything below a prefix.
    pub async fn delete_all(&self, api: &Api, prefix: &str, effort: Effort) -> Result<Written, Failure> {
        let ask = Ask::key("DELETE", prefix).with("recurse", "1").in_dc(&api.shared().live_options());
        let reply = api.call(&ask, effort).await?;
        Ok(if truth(&reply)? { Written::Done(String::new()) } else { Written::Refused })
    }

    /// The race for the bootstrap. All write the same empty value, so ours is marked, in the flags of the key, which
    /// nobody reads and the next write resets: by that it is known again if an answer was lost. (Not by a session: a
    /// bootstrap may take longer than Consul is away.)
    pub async fn claim(&self, api: &Api, key: &str, effort: Effort) -> Result<bool, Failure> {
        let pending = self.claim.load(Ordering::Relaxed);
        let mark = if pending == 0 { u64::from(rand::rng().random_range(1..=u32::MAX)) } else { pending };
        self.claim.store(mark, Ordering::Relaxed);
        let ask = Ask::key("PUT", key).with("cas", "0").with("flags", mark.to_string());
        let reply = api.call(&ask.in_dc(&api.shared().live_options()), effort).await?;
        let mut ours = truth(&reply)?;
        if !ours && (reply.repeated || pending != 0) {
            let found = self.get(api, key, effort).await?;
            ours = found.is_some_and(|entry| entry.flags == mark && entry.text().is_empty());
        }
        self.claim.store(0, Ordering::Relaxed);
        Ok(ours)
    }
}

/// A condition in Consul's terms.
#[derive(Debug, PartialEq, Eq)]
enum Resolved {
    Always,
    Absent,
    At(u64),
    /// It does not hold.
    Refused,
}

impl Resolved {
    fn at(version: &str) -> Result<Resolved, Failure> {
        let index = version.parse().map_err(|_| Failure::Refused(format!("not a version: {version}")))?;
        // For Consul 0 would mean that there is no such key.
        Ok(if index == 0 { Resolved::Refused } else { Resolved::At(index) })
    }
}

fn entries(reply: &Reply) -> Result<Vec<Entry>, Failure> {
    match reply.said {
        Said::Yes => from_json(&reply.body),
        // Consul's has no body; a proxy's page is no empty cluster.
        Said::NotFound if reply.body.is_empty() && reply.index.is_some() => Ok(Vec::new()),
        Said::NotFound | Said::Refused => Err(Failure::Unknown("unexpected answer of Consul".into())),
    }
}

/// `true` or `false`; anything else is not Consul's.
fn truth(reply: &Reply) -> Result<bool, Failure> {
    if reply.is_true() {
        return Ok(true);
    }
    from_json::<bool>(&reply.body)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reply(said: Said, body: &str, index: Option<u64>) -> Reply {
        Reply { said, body: body.as_bytes().to_vec(), index, repeated: false }
    }

    #[test]
    fn versions() {
        assert_eq!(Resolved::at("12"), Ok(Resolved::At(12)));
        assert_eq!(Resolved::at("0"), Ok(Resolved::Refused));
        assert!(Resolved::at("").is_err());
    }

    #[test]
    fn only_consuls_own_404_is_an_empty_cluster() {
        assert_eq!(entries(&reply(Said::NotFound, "", Some(1))).unwrap().len(), 0);
        assert!(entries(&reply(Said::NotFound, "", None)).is_err());
        assert!(entries(&reply(Said::NotFound, "<html>", Some(1))).is_err());
        assert!(entries(&reply(Said::Yes, "<html>", None)).is_err());
    }

    #[test]
    fn true_false_and_neither() {
        assert_eq!(truth(&reply(Said::Yes, "true\n", None)), Ok(true));
        assert_eq!(truth(&reply(Said::Yes, "false", None)), Ok(false));
        assert!(truth(&reply(Said::Yes, "", None)).is_err());
        assert!(truth(&reply(Said::NotFound, "", None)).is_err());
    }
}
