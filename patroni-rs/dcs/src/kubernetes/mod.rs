//! Kubernetes (surface-dcs 14): the cluster in annotations of Endpoints or ConfigMaps, the members in those of Pods.
//!
//! The lock is an annotation among others, and nothing ends it on the server: everybody judges by his own clock since he
//! saw its last change. So this implements the upper floor itself, docs/decisions/0012 and 0016.
//!
//! Differences from the reference: each view is read from the API server's quorum, not from a cache; the watch only
//! wakes; what is decided on a view is compared with that view's version; an answer that tells nothing of the lock (401,
//! 403, a refused address) is no loss of it.
//!
//! [`Layout`] is all of that over an [`ObjectStore`]; the feature `stores` has the one that speaks to an API server.

#[cfg(feature = "stores")]
mod access;
#[cfg(feature = "stores")]
mod api;
mod dcs;
mod layout;
mod lock;
mod member;
#[cfg(feature = "stores")]
mod objects;
mod options;
mod port;
#[cfg(feature = "stores")]
mod renewer;
#[cfg(feature = "stores")]
mod servers;
mod subsets;
mod view;
#[cfg(feature = "stores")]
mod watch;
mod wire;
mod write;

pub use layout::Layout;
pub use lock::{renew, OurLock};
pub use port::{Annotations, Answer, Failure, ObjectStore, Scope, Which, Write};
pub use wire::{List, ManagedBy, Meta, Object, Subset, Texts};

/// A cluster at an API server of Kubernetes.
#[cfg(feature = "stores")]
pub type Kubernetes = Layout<objects::Objects>;

#[cfg(feature = "stores")]
impl Kubernetes {
    /// Makes a client, and, unless it is for patronictl, starts the watches. Asks nobody.
    ///
    /// # Errors
    /// The options make no client.
    pub fn start(
        settings: crate::Settings,
        config: &pyfmt::Value,
        section: &pyfmt::Value,
    ) -> Result<Kubernetes, crate::DcsError> {
        use std::sync::Arc;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let scope = Arc::new(Scope::of(&settings, config, section, &variable)?);
        let access = access::Access::find(&scope.options, &variable)?;
        let shared = Arc::new(api::Shared::new(access, &scope.options, settings.timing));
        let objects = Arc::new(objects::Objects::new(api::Api::new(shared)?, Arc::clone(&scope)));
        let watched = !settings.ctl;
        let mut layout = Layout::new(settings, scope, Arc::clone(&objects));
        if watched {
            layout.watchers = watch::start(&objects, layout.sink());
        }
        Ok(layout)
    }
}
