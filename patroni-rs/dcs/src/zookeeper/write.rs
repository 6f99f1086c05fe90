//! Writes: what the lower floor's conditions are in operations of ZooKeeper.
//!
//! ZooKeeper compares versions only, and a new znode has version 0 whoever has made it. So a version does not tell one
//! leader key from the next, and a key whose owner is to change is replaced in one transaction that also says whose it
//! was: see [`Writer::replace`].

use std::sync::Arc;
use std::time::Instant;

use super::client::{failure, Client};
use super::proto::{Acl, Answer, Code, Op, Stat, ANY};
use crate::kv::{Failure, If, Put, Session, Written};

/// Writes with one deadline.
pub struct Writer<'a> {
    /// The session's handle.
    pub client: &'a Client,
    /// Until then.
    pub deadline: Instant,
    /// One attempt only.
    pub once: bool,
}

/// The answer to one operation, and whether an earlier attempt may be in its way.
struct Told {
    result: Result<Answer, Code>,
    repeated: bool,
}

/// A session id as the upper floor has it.
pub fn session_number(session: &Session) -> Result<i64, Failure> {
    let id = session.id.as_deref().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::Refused("not a session of ZooKeeper".into()))
}

fn version_number(version: &str) -> Result<i32, Failure> {
    // A negative one would be no condition.
    let number = version.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| Failure::Refused(format!("not a version of ZooKeeper: {version}")))
}

fn done(version: i32) -> Written {
    Written::Done(version.to_string())
}

fn garbled(what: &str) -> Failure {
    Failure::Unknown(format!("{what}: not the answer to what was asked"))
}

impl Writer<'_> {
    async fn ask(&self, op: Op, session: Option<i64>) -> Result<Told, Failure> {
        let mut answers = self.client.ask(&[op], session, self.deadline, self.once).await?;
        let reply = answers.replies.pop().ok_or_else(|| garbled("ZooKeeper"))?;
        Ok(Told { result: reply.result, repeated: answers.repeated })
    }

    /// What is in the key, as of everything that this connection has seen and done.
    pub async fn get(&self, key: &str) -> Result<Option<(String, Stat)>, Failure> {
        let ops = [Op::Sync { path: key.to_owned() }, Op::Get { path: key.to_owned() }];
        let mut answers = self.client.ask(&ops, None, self.deadline, false).await?;
        match answers.replies.pop().map(|reply| reply.result) {
            Some(Ok(Answer::Value(value, stat))) => {
                Ok(Some((String::from_utf8_lossy(&value).into_owned(), stat)))
            }
            Some(Err(Code::NO_NODE)) => Ok(None),
            Some(Err(code)) => Err(failure(code, key)),
            _ => Err(garbled(key)),
        }
    }

    fn acl(&self) -> Arc<[Acl]> {
        Arc::clone(&self.client.shared().state().options.acl)
    }

    fn creation(&self, key: &str, value: &str, owner: Option<i64>) -> Op {
        let (path, value) = (key.to_owned(), value.as_bytes().to_vec());
        Op::Create { path, value, acl: self.acl(), ephemeral: owner.is_some() }
    }

    /// The directories above a key, as far up as they are missing: one may have the right to make them in the lowest only.
    async fn make_directories(&self, key: &str) -> Result<(), Failure> {
        let mut missing = Vec::new();
        for (end, _) in key.rmatch_indices('/').filter(|(at, _)| *at > 0) {
            let directory = key.get(..end).unwrap_or_default();
            if self.make_directory(directory).await? {
                break;
            }
            missing.push(directory);
        }
        for directory in missing.into_iter().rev() {
            self.make_directory(directory).await?;
        }
        Ok(())
    }

    /// False: the directory above is missing.
    async fn make_directory(&self, directory: &str) -> Result<bool, Failure> {
        match self.ask(self.creation(directory, "", None), None).await?.result {
            Ok(_) | Err(Code::NODE_EXISTS) => Ok(true),
            Err(Code::NO_NODE) => Ok(false),
            Err(code) => Err(failure(code, directory)),
        }
    }

    /// Makes a key that is not there. None: there is one. One that an earlier attempt of ours has made counts.
    async fn create(&self, key: &str, value: &str, owner: Option<i64>) -> Result<Option<Written>, Failure> {
        let mut told = self.ask(self.creation(key, value, owner), owner).await?;
        let mut repeated = told.repeated;
        if told.result == Err(Code::NO_NODE) {
            self.make_directories(key).await?;
            told = self.ask(self.creation(key, value, owner), owner).await?;
            repeated |= told.repeated;
        }
        match told.result {
            Ok(_) => Ok(Some(done(0))),
            Err(Code::NODE_EXISTS) if repeated => {
                let found = self.get(key).await?;
                let ours = found.filter(|(known, stat)| known == value && stat.owner == owner.unwrap_or(0));
                Ok(ours.map(|(_, stat)| done(stat.version)))
            }
            Err(Code::NODE_EXISTS) => Ok(None),
            Err(code) => Err(failure(code, key)),
        }
    }

    /// A new value for a key that has this version ([`ANY`]: whatever it has). None: there is no such key.
    async fn set(
        &self,
        key: &str,
        value: &str,
        version: i32,
    ) -> Result<Option<Result<Stat, Written>>, Failure> {
        let op = Op::Set { path: key.to_owned(), value: value.as_bytes().to_vec(), version };
        let told = self.ask(op, None).await?;
        match told.result {
            Ok(Answer::Stat(stat)) => Ok(Some(Ok(stat))),
            Ok(_) => Err(garbled(key)),
            Err(Code::NO_NODE) => Ok(None),
            Err(Code::BAD_VERSION) if told.repeated => {
                let found = self.get(key).await?;
                let ours = found
                    .filter(|(known, stat)| known == value && Some(stat.version) == version.checked_add(1));
                Ok(Some(ours.map(|(_, stat)| stat).ok_or(Written::Refused)))
            }
            Err(Code::BAD_VERSION) => Ok(Some(Err(Written::Refused))),
            Err(code) => Err(failure(code, key)),
        }
    }

    /// Deletes a key of that version. None: there is none.
    async fn remove(&self, key: &str, version: i32) -> Result<Option<Written>, Failure> {
        let told = self.ask(Op::Delete { path: key.to_owned(), version }, None).await?;
        match told.result {
            Ok(_) => Ok(Some(done(0))),
            Err(Code::NO_NODE) if told.repeated => Ok(Some(done(0))),
            Err(Code::NO_NODE) => Ok(None),
            Err(Code::BAD_VERSION) => Ok(Some(Written::Refused)),
            Err(code) => Err(failure(code, key)),
        }
    }

    /// Puts a key that was found with `found` in the hands of another session, or of none, in one transaction.
    ///
    /// Its owner may have ended since, and another node may have made the key anew, at the same version. Nothing in
    /// ZooKeeper forbids the transaction then; but the answer says whose key it was. If it was not `found`'s, we have
    /// robbed somebody who may already write under it: then nobody is to have the lock for as long as he may believe that
    /// he has it. So the key stays, under a session that is left to end by itself, and for us it is a refusal.
    pub async fn replace(
        &self,
        key: &str,
        value: &str,
        found: &Stat,
        owner: Option<i64>,
    ) -> Result<Written, Failure> {
        let next = found.version.checked_add(1).unwrap_or(ANY);
        let ops = vec![
            Op::Set { path: key.to_owned(), value: value.as_bytes().to_vec(), version: found.version },
            Op::Delete { path: key.to_owned(), version: next },
            self.creation(key, value, owner),
        ];
        let told = self.ask(Op::Multi(ops), owner).await?;
        let answers = match told.result {
            Ok(Answer::Multi(answers)) => answers,
            Ok(_) => return Err(garbled(key)),
            Err(code) => return Err(failure(code, key)),
        };
        match answers.as_slice() {
            [Ok(Answer::Stat(before)), Ok(_), Ok(_)] => {
                if before.czxid == found.czxid {
                    return Ok(done(0));
                }
                tracing::error!(
                    target: "patroni.dcs.zookeeper",
                    "{key} was made anew by session {:#x} in the same instant; nobody gets it before that one must have noticed",
                    before.owner
                );
                if let Some(owner) = owner {
                    self.client.leave(owner);
                }
                Ok(Written::Refused)
            }
            answers => self.not_replaced(key, value, answers, owner, told.repeated).await,
        }
    }

    async fn not_replaced(
        &self,
        key: &str,
        value: &str,
        answers: &[Result<Answer, Code>],
        owner: Option<i64>,
        repeated: bool,
    ) -> Result<Written, Failure> {
        // The first is the reason, the others are rolled back: 0, or "runtime inconsistency" after it.
        let codes = answers.iter().filter_map(|answer| answer.as_ref().err().copied());
        let reason = codes.into_iter().find(|code| !matches!(code.0, 0 | -2));
        match reason {
            Some(Code::NO_NODE | Code::BAD_VERSION | Code::NODE_EXISTS) if repeated => {
                let found = self.get(key).await?;
                let ours = found.filter(|(known, stat)| known == value && stat.owner == owner.unwrap_or(0));
                Ok(ours.map_or(Written::Refused, |(_, stat)| done(stat.version)))
            }
            Some(Code::NO_NODE | Code::BAD_VERSION | Code::NODE_EXISTS) => Ok(Written::Refused),
            Some(code) => Err(failure(code, key)),
            None => Err(garbled(key)),
        }
    }

    /// A key that is there, found as `found`, gets this value and this owner.
    async fn change(
        &self,
        put: &Put<'_>,
        found: &(String, Stat),
        owner: Option<i64>,
    ) -> Result<Written, Failure> {
        let (value, stat) = found;
        if stat.owner != owner.unwrap_or(0) {
            // As the reference says it.
            match put.key {
                key if owner.is_none() => {
                    tracing::debug!(target: "patroni.dcs.zookeeper", "{key} is set free")
                }
                key if key.ends_with("/leader") => tracing::warn!(
                    target: "patroni.dcs.zookeeper", "Recreating the leader ZNode due to ownership mismatch"
                ),
                _ => tracing::warn!(
                    target: "patroni.dcs.zookeeper", "Recreating the member ZNode due to ownership mismatch"
                ),
            }
            return self.replace(put.key, put.value, stat, owner).await;
        }
        if value == put.value && owner.is_some() {
            // Ours as it is. To write it again would wake everybody.
            return Ok(done(stat.version));
        }
        match self.set(put.key, put.value, stat.version).await? {
            Some(Ok(stat)) => Ok(done(stat.version)),
            Some(Err(written)) => Ok(written),
            None => Ok(Written::Refused),
        }
    }

    /// See [`KvStore::put`](crate::kv::KvStore::put).
    pub async fn put(&self, put: &Put<'_>) -> Result<Written, Failure> {
        let owner = put.owner.map(session_number).transpose()?;
        match put.condition {
            If::Absent => Ok(self.create(put.key, put.value, owner).await?.unwrap_or(Written::Refused)),
            If::Always => self.put_always(put, owner).await,
            If::Version(version) if owner.is_none() => {
                match self.set(put.key, put.value, version_number(version)?).await? {
                    Some(Ok(stat)) => Ok(done(stat.version)),
                    Some(Err(written)) => Ok(written),
                    None => Ok(Written::Refused),
                }
            }
            If::Version(version) => {
                let version = version_number(version)?;
                match self.get(put.key).await?.filter(|(_, stat)| stat.version == version) {
                    Some(found) => self.change(put, &found, owner).await,
                    None => Ok(Written::Refused),
                }
            }
            If::Ours { value, .. } => match self.get(put.key).await? {
                Some(found) if found.0 == value && self.is_seen(put, &found.1, owner) => {
                    self.change(put, &found, owner).await
                }
                _ => Ok(Written::Refused),
            },
            If::AbsentOr(value) => {
                if let Some(written) = self.create(put.key, put.value, owner).await? {
                    return Ok(written);
                }
                match self.get(put.key).await? {
                    Some(found) if found.0 == value => self.change(put, &found, owner).await,
                    _ => Ok(Written::Refused),
                }
            }
        }
    }

    /// A key with our value but with the owner that it had when it was seen, or with ours. Another one is a namesake.
    fn is_seen(&self, put: &Put<'_>, stat: &Stat, owner: Option<i64>) -> bool {
        let seen = put.seen_owner.and_then(|seen| seen.parse().ok());
        seen.is_none_or(|seen: i64| stat.owner == seen) || owner == Some(stat.owner)
    }

    async fn put_always(&self, put: &Put<'_>, owner: Option<i64>) -> Result<Written, Failure> {
        // Others may make and delete it meanwhile.
        for _ in 0..3 {
            let known = put.seen_owner.and_then(|seen| seen.parse::<i64>().ok());
            let ours = owner.is_none() || known == owner;
            if !ours {
                if let Some(written) = self.create(put.key, put.value, owner).await? {
                    return Ok(written);
                }
                let Some(found) = self.get(put.key).await? else { continue };
                match self.change(put, &found, owner).await? {
                    Written::Refused => continue,
                    written => return Ok(written),
                }
            }
            match self.set(put.key, put.value, ANY).await? {
                Some(Ok(stat)) if stat.owner == owner.unwrap_or(0) => return Ok(done(stat.version)),
                Some(Ok(stat)) => {
                    if let written @ Written::Done(_) = self.replace(put.key, put.value, &stat, owner).await?
                    {
                        return Ok(written);
                    }
                }
                Some(Err(_)) => {}
                None => {
                    if let Some(written) = self.create(put.key, put.value, owner).await? {
                        return Ok(written);
                    }
                }
            }
        }
        Err(Failure::Unknown(format!("{}: somebody else makes and deletes it at the same time", put.key)))
    }

    /// See [`KvStore::delete`](crate::kv::KvStore::delete).
    pub async fn delete(&self, key: &str, condition: If<'_>) -> Result<Written, Failure> {
        let version = match condition {
            If::Always => ANY,
            If::Absent => return Ok(Written::Refused),
            If::Version(version) => version_number(version)?,
            If::Ours { value, .. } | If::AbsentOr(value) => match self.get(key).await? {
                Some((known, stat)) if known == value => stat.version,
                _ => return Ok(Written::Refused),
            },
        };
        let missing = if matches!(condition, If::Always) { done(0) } else { Written::Refused };
        Ok(self.remove(key, version).await?.unwrap_or(missing))
    }

    /// See [`KvStore::delete_all`](crate::kv::KvStore::delete_all): the deepest first.
    pub async fn delete_all(&self, directory: &str) -> Result<Written, Failure> {
        // Others may write below it meanwhile.
        for _ in 0..5 {
            let mut all = vec![directory.to_owned()];
            let mut next = 0;
            while let Some(path) = all.get(next).cloned() {
                next += 1;
                all.extend(self.children(&path).await?.into_iter().map(|name| format!("{path}/{name}")));
            }
            let mut again = false;
            for path in all.iter().rev() {
                match self.ask(Op::Delete { path: path.clone(), version: ANY }, None).await?.result {
                    Ok(_) | Err(Code::NO_NODE) => {}
                    Err(Code::NOT_EMPTY) => again = true,
                    Err(code) => return Err(failure(code, path)),
                }
            }
            if !again {
                return Ok(done(0));
            }
        }
        Err(Failure::Unknown(format!("{directory}: somebody else writes below it at the same time")))
    }

    async fn children(&self, path: &str) -> Result<Vec<String>, Failure> {
        match self.ask(Op::Children { path: path.to_owned(), watch: false }, None).await?.result {
            Ok(Answer::Children(names, _)) => Ok(names),
            Err(Code::NO_NODE) => Ok(Vec::new()),
            Ok(_) => Err(garbled(path)),
            Err(code) => Err(failure(code, path)),
        }
    }

    /// See [`KvStore::claim`](crate::kv::KvStore::claim): ephemeral first, by which we know it again, and then set free.
    /// `claimed`: this session has made it before, and nobody knows whether it was set free.
    pub async fn claim(&self, key: &str, session: i64, claimed: bool) -> Result<bool, Failure> {
        if self.create(key, "", Some(session)).await?.is_none() {
            match self.get(key).await? {
                Some((_, stat)) if stat.owner == session => {}
                // While the session lives nobody else can have set it free.
                Some((value, stat)) => return Ok(claimed && stat.owner == 0 && value.is_empty()),
                None => return Ok(false),
            }
        }
        let ops = vec![Op::Delete { path: key.to_owned(), version: 0 }, self.creation(key, "", None)];
        let told = self.ask(Op::Multi(ops), Some(session)).await?;
        match told.result {
            Ok(Answer::Multi(answers)) if answers.iter().all(Result::is_ok) => Ok(true),
            Ok(Answer::Multi(_)) if told.repeated => {
                let found = self.get(key).await?;
                Ok(found.is_some_and(|(value, stat)| stat.owner == 0 && value.is_empty()))
            }
            Ok(_) => Ok(false),
            Err(code) => Err(failure(code, key)),
        }
    }
}
