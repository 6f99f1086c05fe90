//! The lower floor of this store: objects with annotations and a version, and what becomes of a request for one. Above it
//! is [`Layout`](super::Layout), which the simulation runs over objects of its own (docs/decisions/0018).

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pyfmt::Value;

use super::lock::OurLock;
use super::options::Options;
use super::view::Names;
use super::wire::{List, Object, Subset};
use crate::kv::Effort;
use crate::lock::LockRenewer;
use crate::{DcsError, Settings, Timing};

/// Why there is no object in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// 409: the version is another one, or there is such an object already.
    Conflict,
    /// 404: there is no such object.
    Missing,
    /// 410: the version is too old for a watch.
    TooOld,
    /// 401 and 403: we are not let in. Nothing was done, nothing was learnt.
    Denied(String),
    /// Another refusal, which would come again: nothing was done.
    Refused(String),
    /// No usable answer in time: it may have been done.
    Unknown(String),
}

impl Failure {
    /// For the log.
    pub fn text(&self) -> String {
        match self {
            Failure::Conflict => "409 Conflict".into(),
            Failure::Missing => "404 Not Found".into(),
            Failure::TooOld => "410 Gone".into(),
            Failure::Denied(text) | Failure::Refused(text) | Failure::Unknown(text) => text.clone(),
        }
    }
}

/// Annotations to be written; None takes one away.
pub type Annotations<'a> = Vec<(&'a str, Option<String>)>;

/// What does not change: whose objects, and how they are called.
#[derive(Debug)]
pub struct Scope {
    /// As configured.
    pub options: Options,
    /// Of the objects.
    pub names: Names,
    /// Of this node: also that of its Pod.
    pub name: String,
}

impl Scope {
    /// By the configuration and the store's section in it. `environment` looks up a variable.
    ///
    /// # Errors
    /// There are no labels, or a port is no number.
    pub fn of(
        settings: &Settings,
        config: &Value,
        section: &Value,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Scope, DcsError> {
        let options = Options::from_section(settings, config, section, environment)?;
        let names = Names::of(&settings.scope, settings.group(), options.use_endpoints);
        Ok(Scope { options, names, name: settings.name.clone() })
    }

    /// The kind that holds the state.
    pub fn kind(&self) -> &'static str {
        if self.options.use_endpoints {
            "endpoints"
        } else {
            "configmaps"
        }
    }
}

/// Which objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The Endpoints or ConfigMaps that hold the state.
    State,
    /// The members.
    Pods,
}

/// What is written to an object.
#[derive(Debug)]
pub struct Write<'a> {
    /// Of the object.
    pub name: &'a str,
    /// Those that are named, the others stay.
    pub annotations: &'a Annotations<'a>,
    /// Only if the object is still at this version.
    pub version: Option<&'a str>,
    /// In the place of all that there are; None: they stay.
    pub subsets: Option<Vec<Subset>>,
    /// Under which name the server is to remember the write; None: ours.
    pub manager: Option<&'a str>,
}

impl<'a> Write<'a> {
    /// Annotations, without a condition.
    pub fn new(name: &'a str, annotations: &'a Annotations<'a>) -> Write<'a> {
        Write { name, annotations, version: None, subsets: None, manager: None }
    }

    /// On the condition of a version.
    pub fn at(self, version: Option<&'a str>) -> Write<'a> {
        Write { version, ..self }
    }
}

/// The answer to a request.
pub type Answer<T> = Result<T, Failure>;

/// Reads and writes the objects of one cluster. What is asked is repeated as its [`Effort`] says, so that a write may
/// have been carried out by an attempt before the one that was answered.
pub trait ObjectStore: Send + Sync + 'static {
    /// The durations in force.
    fn timing(&self) -> Timing;

    /// New ones; the old ones.
    fn set_timing(&self, timing: Timing) -> Timing;

    /// A new section of the configuration.
    fn reload(&self, section: &Value);

    /// What time it is, by the clock that deadlines, and the end of others' locks, are told in.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// What time it is for people: nothing is decided by it.
    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// A number that nobody else has.
    fn nonce(&self) -> u64;

    /// Waits.
    fn pause(&self, pause: Duration) -> impl Future<Output = ()> + Send;

    /// A view is about to be read.
    fn prepare(&self) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// All of one sort as they are now, never from a cache: what was written by anybody before is in it.
    fn list(&self, which: Which, effort: Effort) -> impl Future<Output = Answer<List>> + Send;

    /// One that holds state, as it is now.
    fn get(&self, name: &str, effort: Effort) -> impl Future<Output = Answer<Object>> + Send;

    /// Changes one, and tells what it is then.
    fn patch(&self, write: &Write<'_>, effort: Effort) -> impl Future<Output = Answer<Object>> + Send;

    /// Makes one that is not there.
    fn create(&self, write: &Write<'_>, effort: Effort) -> impl Future<Output = Answer<Object>> + Send;

    /// Changes our own Pod: its labels, and what it says of us.
    fn patch_pod(
        &self,
        labels: &[(String, Option<String>)],
        status: &str,
        effort: Effort,
    ) -> impl Future<Output = Answer<Object>> + Send;

    /// Makes the Service that keeps Kubernetes from taking the Endpoints of the configuration for left over.
    fn create_service(&self, effort: Effort) -> impl Future<Output = Answer<()>> + Send;

    /// Deletes all that hold state; with Citus those of that group.
    fn delete_all(&self, group: Option<&str>, effort: Effort) -> impl Future<Output = Answer<()>> + Send;

    /// What renews the lock beside the HA loop, with connections of its own: by [`renew`](super::lock::renew).
    fn renewer(&self, lock: Arc<OurLock>) -> Option<Box<dyn LockRenewer>>;

    /// Changes one, or makes it. A conflict only with a version in the write.
    fn put(&self, write: &Write<'_>, effort: Effort) -> impl Future<Output = Answer<Object>> + Send {
        async move {
            // Between the two it may have been deleted, or made.
            for _ in 0..3 {
                match self.patch(write, effort).await {
                    Err(Failure::Missing) if write.version.is_none() => {}
                    other => return other,
                }
                match self.create(write, effort).await {
                    Err(Failure::Conflict) => {}
                    other => return other,
                }
            }
            Err(Failure::Conflict)
        }
    }
}
