//! The upper floor, which is shipped, over the client of a simulated store: keys, or the objects of Kubernetes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::timing::Timing;
use patroni_dcs::kubernetes::Layout;
use patroni_dcs::watch::Sink;
use patroni_dcs::{Dcs, Keys, Settings};

use super::{Client, Flaws, DIRECTORY};
use crate::sim::dcs::Kind;
use crate::sim::pods::{layout, Api};

/// The upper floor of one life of a daemon.
#[derive(Clone)]
pub enum Upper {
    /// Over keys.
    Keys(Arc<Keys<Client>>),
    /// Over the objects of Kubernetes.
    Objects(Arc<Layout<Api>>),
}

impl Upper {
    /// A daemon starts.
    pub fn new(name: &str, timing: Timing, kind: Kind, flaws: Flaws) -> Upper {
        let settings = Settings {
            name: name.to_owned(),
            scope: "sim".into(),
            root_path: DIRECTORY.into(),
            base_path: DIRECTORY.into(),
            timing,
            ctl: false,
        };
        let client = Client::new(name, timing, kind, flaws);
        match kind {
            Kind::Kubernetes => Upper::Objects(Arc::new(layout(settings, client))),
            _ => Upper::Keys(Arc::new(Keys::new(settings, "sim", client))),
        }
    }

    /// The client of the store below.
    pub fn store(&self) -> &Client {
        match self {
            Upper::Keys(keys) => keys.store(),
            Upper::Objects(layout) => layout.objects().client(),
        }
    }

    /// For a watch.
    pub fn sink(&self) -> Sink {
        match self {
            Upper::Keys(keys) => keys.sink(),
            Upper::Objects(layout) => layout.sink(),
        }
    }

    /// See [`Keys::cycle_over`].
    pub fn cycle_over(&self) -> bool {
        match self {
            Upper::Keys(keys) => keys.cycle_over(),
            Upper::Objects(layout) => layout.cycle_over(),
        }
    }

    /// See [`Keys::was_woken`].
    pub fn was_woken(&self) -> bool {
        match self {
            Upper::Keys(keys) => keys.was_woken(),
            Upper::Objects(layout) => layout.was_woken(),
        }
    }

    /// See [`Layout::lock_ends`]: other stores tell when the lock has ended.
    pub fn lock_ends(&self, following: bool, timeout: Duration) -> Option<Duration> {
        match self {
            Upper::Keys(_) => None,
            Upper::Objects(layout) => layout.lock_ends(following, timeout),
        }
    }

    /// See [`Layout::lock_has_ended`].
    pub fn lock_has_ended(&self) {
        if let Upper::Objects(layout) = self {
            layout.lock_has_ended();
        }
    }
}

impl Deref for Upper {
    type Target = dyn Dcs;

    fn deref(&self) -> &Self::Target {
        match self {
            Upper::Keys(keys) => &**keys,
            Upper::Objects(layout) => &**layout,
        }
    }
}

impl fmt::Debug for Upper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upper")
    }
}
