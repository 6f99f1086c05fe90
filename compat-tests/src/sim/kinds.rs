//! The writes of each kind of store, as its client in `patroni-rs/dcs` makes them of the lower floor's conditions.

use patroni_dcs::kv::{Effort, Failure, If, Put, Written};

use super::dcs::{Cmp, Kind, On, Op};
use super::floor::{bare, Client};

fn number(version: &str) -> Result<u64, Failure> {
    version.parse().map_err(|_| Failure::Refused(format!("not a version: {version}")))
}

/// What a put would do, and on what.
fn op(put: &Put<'_>, on: On, when: Vec<Cmp>) -> Op {
    Op::Put { key: bare(put.key), value: put.value.to_owned(), on, when }
}

impl Client {
    pub(super) async fn put_as_kind(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        let forgotten = match (bare(put.key).as_str(), put.condition) {
            ("leader", If::Absent) => self.flaws().blind,
            ("sync", If::Absent) => self.flaws().stale_sync || self.flaws().sync_made_anyway,
            ("sync", _) => self.flaws().stale_sync,
            _ => false,
        };
        let put = if forgotten { put.when(If::Always) } else { put };
        let id = put.owner.and_then(|session| session.id.as_deref()?.parse().ok());
        let on = match (self.kind(), put.owner, id) {
            (Kind::Etcd2, Some(owner), _) => On::Ttl(owner.granted.ttl.as_millis() as u64),
            (_, _, Some(id)) => On::Session(id),
            _ => On::Nothing,
        };
        match self.kind() {
            Kind::Raft => self.put_raft(put, effort).await,
            Kind::Etcd3 => self.put_etcd3(put, on, effort).await,
            Kind::Etcd2 => self.put_etcd2(put, on, effort).await,
            Kind::Consul => self.put_consul(put, on, effort).await,
            Kind::ZooKeeper => self.put_zookeeper(put, on, effort).await,
            Kind::Kubernetes => Err(Failure::Refused("it has no keys".into())),
        }
    }

    /// A write was refused after an attempt whose answer was lost: was it that one that was in the way?
    async fn read_back(&self, put: &Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        let session = if let On::Session(id) = on { Some(id.to_string()) } else { None };
        let anyone = matches!(on, On::Ttl(_));
        let found = self.read(put.key, effort).await?;
        let ours = found.filter(|(node, _)| node.value == put.value && (anyone || node.session == session));
        Ok(ours.map_or(Written::Refused, |(node, _)| Written::Done(node.version)))
    }

    async fn put_etcd3(&self, put: Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        let when = etcd3(put.condition)?;
        let (written, repeated) = self.write(op(&put, on, when), effort).await?;
        let looked = matches!(put.condition, If::Absent | If::Version(_));
        if written.is_done() || !repeated || !looked {
            return Ok(written);
        }
        self.read_back(&put, on, effort).await
    }

    async fn put_etcd2(&self, put: Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        let when = match put.condition {
            If::Always => Vec::new(),
            If::Absent | If::AbsentOr(_) => vec![Cmp::Absent],
            If::Version(version) => vec![Cmp::Version(number(version)?)],
            If::Ours { value, .. } => vec![Cmp::Value(value.to_owned())],
        };
        let (written, repeated) = self.write(op(&put, on, when), effort).await?;
        if written.is_done() {
            return Ok(written);
        }
        match put.condition {
            If::AbsentOr(value) => {
                let ours = vec![Cmp::Value(value.to_owned())];
                Ok(self.write(op(&put, on, ours), effort).await?.0)
            }
            If::Absent if repeated && matches!(on, On::Ttl(_)) => {
                let ours = vec![Cmp::Value(put.value.to_owned())];
                Ok(self.write(op(&put, on, ours), effort).await?.0)
            }
            If::Version(_) if repeated => self.read_back(&put, on, effort).await,
            _ => Ok(Written::Refused),
        }
    }

    async fn put_consul(&self, put: Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        let when = match self.resolve(put.key, put.condition, effort).await? {
            None => return Ok(Written::Refused),
            Some(Resolved::Always) => Vec::new(),
            Some(Resolved::Absent) => match on {
                // Of our own session it is no race.
                On::Session(id) => vec![Cmp::FreeFor(id)],
                _ => vec![Cmp::Absent],
            },
            Some(Resolved::At(index)) => vec![Cmp::Version(index)],
        };
        let raced = matches!(when.as_slice(), [Cmp::FreeFor(_)]);
        let (written, repeated) = self.write(op(&put, on, when), effort).await?;
        if written.is_done() && !put.version_wanted {
            return Ok(Written::Done(String::new()));
        }
        if written.is_done() || (repeated && !raced) {
            // Consul does not tell the version.
            return self.read_back(&put, on, effort).await;
        }
        Ok(Written::Refused)
    }

    /// What a condition means for Consul, which compares versions only. None: it does not hold.
    async fn resolve(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> Result<Option<Resolved>, Failure> {
        let (value, version, or_absent) = match condition {
            If::Always => return Ok(Some(Resolved::Always)),
            If::Absent => return Ok(Some(Resolved::Absent)),
            If::Version(version) => return Ok(Some(Resolved::At(number(version)?))),
            If::Ours { value, version } => (value, version, false),
            If::AbsentOr(value) => (value, None, true),
        };
        Ok(match self.read(key, effort).await? {
            None if or_absent => Some(Resolved::Absent),
            Some((node, _)) if node.value == value && version.is_none_or(|seen| seen == node.version) => {
                Some(Resolved::At(number(&node.version)?))
            }
            _ => None,
        })
    }

    async fn put_zookeeper(&self, put: Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        match put.condition {
            If::Absent => self.create(&put, on, effort).await,
            If::Always => Ok(self.write(op(&put, on, Vec::new()), effort).await?.0),
            If::Version(version) => {
                let (written, repeated) =
                    self.write(op(&put, on, vec![Cmp::Version(number(version)?)]), effort).await?;
                if written.is_done() || !repeated {
                    return Ok(written);
                }
                let found = self.read(put.key, effort).await?;
                let next = (number(version)? + 1).to_string();
                let ours = found.filter(|(node, _)| node.value == put.value && node.version == next);
                Ok(ours.map_or(Written::Refused, |(node, _)| Written::Done(node.version)))
            }
            If::Ours { value, .. } => self.change(&put, value, on, effort).await,
            If::AbsentOr(value) => match self.create(&put, on, effort).await? {
                Written::Refused => self.change(&put, value, on, effort).await,
                written => Ok(written),
            },
        }
    }

    async fn create(&self, put: &Put<'_>, on: On, effort: Effort) -> Result<Written, Failure> {
        let (written, repeated) = self.write(op(put, on, vec![Cmp::Absent]), effort).await?;
        if written.is_done() || !repeated {
            return Ok(written);
        }
        self.read_back(put, on, effort).await
    }

    /// A key that is there with our value, and with the owner that it was seen with or ours.
    async fn change(&self, put: &Put<'_>, value: &str, on: On, effort: Effort) -> Result<Written, Failure> {
        let Some((node, made)) = self.read(put.key, effort).await? else { return Ok(Written::Refused) };
        let session = if let On::Session(id) = on { Some(id.to_string()) } else { None };
        let known = put.seen_owner.is_none_or(|seen| node.session.as_deref() == Some(seen));
        if node.value != value || !(known || node.session == session) {
            return Ok(Written::Refused);
        }
        if node.session == session && node.value == put.value {
            return Ok(Written::Done(node.version));
        }
        // One transaction that tells whose key it was.
        let when = vec![Cmp::Version(number(&node.version)?), Cmp::MadeBefore(made + 1)];
        let (written, repeated) = self.write(op(put, on, when), effort).await?;
        if written.is_done() || !repeated {
            return Ok(written);
        }
        self.read_back(put, on, effort).await
    }

    pub(super) async fn delete_as_kind(
        &self,
        key: &str,
        condition: If<'_>,
        effort: Effort,
    ) -> Result<Written, Failure> {
        let when = match (self.kind(), condition) {
            (_, If::Always) => Vec::new(),
            (Kind::Etcd3, other) => etcd3(other)?,
            (Kind::Etcd2 | Kind::Raft, If::Ours { value, .. }) => vec![Cmp::Value(value.to_owned())],
            (Kind::Raft, If::Version(version)) => vec![Cmp::Version(number(version)?)],
            (_, other) => match self.resolve(key, other, effort).await? {
                Some(Resolved::At(version)) => vec![Cmp::Version(version)],
                _ => return Ok(Written::Refused),
            },
        };
        Ok(self.write(Op::Delete { key: bare(key), when }, effort).await?.0)
    }
}

/// A condition in Consul's terms.
enum Resolved {
    Always,
    Absent,
    At(u64),
}

fn etcd3(condition: If<'_>) -> Result<Vec<Cmp>, Failure> {
    Ok(match condition {
        If::Always => Vec::new(),
        If::Absent => vec![Cmp::Absent],
        If::AbsentOr(value) => vec![Cmp::AbsentOr(value.to_owned())],
        If::Version(version) => vec![Cmp::Version(number(version)?)],
        If::Ours { value, version } => {
            let made = version.and_then(|version| number(version).ok()).map(|seen| Cmp::MadeBefore(seen + 1));
            std::iter::once(Cmp::Value(value.to_owned())).chain(made).collect()
        }
    })
}
