//! A linearizable key-value store with leases, as etcd is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use patroni_core::model::{Cluster, Node};

/// One key.
#[derive(Debug, Clone)]
struct Key {
    value: String,
    revision: u64,
    /// The revision that made it.
    created: u64,
    lease: Option<u64>,
}

/// The store. Times are milliseconds of true time.
#[derive(Debug, Default)]
pub struct Store {
    keys: BTreeMap<String, Key>,
    /// End and length.
    leases: BTreeMap<u64, (u64, u64)>,
    revision: u64,
    next_lease: u64,
    next_expiry: u64,
    snapshot: Option<Arc<Cluster>>,
    saved: Option<Saved>,
    /// How often it has gone back.
    setbacks: u64,
}

/// A backup: keys, leases, revision.
#[derive(Debug, Clone)]
struct Saved {
    keys: BTreeMap<String, Key>,
    leases: BTreeMap<u64, (u64, u64)>,
    revision: u64,
}

impl Store {
    /// Takes a backup.
    pub fn save(&mut self) {
        let (keys, leases) = (self.keys.clone(), self.leases.clone());
        self.saved = Some(Saved { keys, leases, revision: self.revision });
    }

    /// Goes back to it, if there is one: leases that it has begin anew, others are gone, and revisions are given a
    /// second time.
    pub fn restore(&mut self, now: u64) {
        let Some(saved) = self.saved.take() else { return };
        (self.keys, self.revision) = (saved.keys, saved.revision);
        self.leases = saved.leases.into_iter().map(|(id, (_, ttl))| (id, (now + ttl, ttl))).collect();
        self.next_expiry = now;
        self.snapshot = None;
        self.setbacks += 1;
    }

    /// Removes what has expired.
    pub fn expire(&mut self, now: u64) {
        if now < self.next_expiry {
            return;
        }
        self.leases.retain(|_, (until, _)| *until > now);
        self.next_expiry = self.leases.values().map(|(until, _)| *until).min().unwrap_or(u64::MAX);
        let leases = &self.leases;
        let before = self.keys.len();
        self.keys.retain(|_, key| key.lease.is_none_or(|l| leases.contains_key(&l)));
        if self.keys.len() != before {
            self.snapshot = None;
        }
    }

    /// A new lease.
    pub fn grant(&mut self, now: u64, ttl: u64) -> u64 {
        self.next_lease += 1;
        self.next_expiry = self.next_expiry.min(now + ttl);
        self.leases.insert(self.next_lease, (now + ttl, ttl));
        self.next_lease
    }

    /// Prolongs a lease by its length, if it is still there.
    pub fn keepalive(&mut self, lease: u64, now: u64) -> bool {
        match self.leases.get_mut(&lease) {
            Some((until, ttl)) => {
                *until = now + *ttl;
                true
            }
            None => false,
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.keys.get(key).map(|k| k.value.as_str())
    }

    /// The lease that a key hangs on.
    pub fn lease_of(&self, key: &str) -> Option<u64> {
        self.keys.get(key).and_then(|k| k.lease)
    }

    /// Writes without a condition.
    pub fn put(&mut self, key: &str, value: &str, lease: Option<u64>) {
        self.revision += 1;
        self.snapshot = None;
        let revision = self.revision;
        let created = self.created(key).unwrap_or(revision);
        self.keys.insert(key.to_owned(), Key { value: value.to_owned(), revision, created, lease });
    }

    /// Writes if the key is not there.
    pub fn create(&mut self, key: &str, value: &str, lease: Option<u64>) -> bool {
        if self.keys.contains_key(key) {
            return false;
        }
        self.put(key, value, lease);
        true
    }

    /// Writes if the version is the one given; None means without a condition.
    pub fn put_if(&mut self, key: &str, value: &str, version: Option<&str>) -> Option<String> {
        if let Some(version) = version {
            if self.version(key).as_deref() != Some(version) {
                return None;
            }
        }
        self.put(key, value, None);
        Some(self.revision.to_string())
    }

    /// The token for compare-and-set.
    pub fn version(&self, key: &str) -> Option<String> {
        self.keys.get(key).map(|k| k.revision.to_string())
    }

    /// The revision that made a key: tells one life of it from another.
    pub fn created(&self, key: &str) -> Option<u64> {
        self.keys.get(key).map(|k| k.created)
    }

    /// Deletes if the value is the one given.
    pub fn delete_if_value(&mut self, key: &str, value: &str) -> bool {
        let matches = self.get(key) == Some(value);
        if matches {
            self.snapshot = None;
            self.keys.remove(key);
        }
        matches
    }

    /// Deletes if the version is the one given; None means without a condition.
    pub fn delete_if(&mut self, key: &str, version: Option<&str>) -> bool {
        if version.is_some() && self.version(key).as_deref() != version {
            return false;
        }
        self.snapshot = None;
        self.keys.remove(key).is_some()
    }

    /// The whole cluster.
    pub fn cluster(&mut self) -> Arc<Cluster> {
        if let Some(snapshot) = &self.snapshot {
            return snapshot.clone();
        }
        let node = |key: &Key| Node {
            value: key.value.clone(),
            version: key.revision.to_string(),
            session: key.lease.map(|l| l.to_string()),
            modify_version: None,
        };
        let nodes = self.keys.iter().map(|(path, key)| (path.clone(), node(key))).collect();
        let cluster = Arc::new(Cluster { setbacks: self.setbacks, ..Cluster::from_nodes(&nodes) });
        self.snapshot = Some(cluster.clone());
        cluster
    }
}
