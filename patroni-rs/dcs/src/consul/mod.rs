//! Consul over HTTP (surface-dcs 12).
//!
//! Differences from the reference: a key moves from one session to another in one transaction, whose answer counts; an
//! empty list counts as an empty cluster only for who may read; the watch is a blocking query of all keys, not of the
//! leader key alone.

mod answer;
mod api;
mod options;
mod renewer;
mod service;
mod session;
mod table;
mod watch;
mod wire;

use std::sync::Arc;

use patroni_core::model::Nodes;
use pyfmt::Value;

use crate::keys::Keys;
use crate::kv::{Effort, Failure, Held, If, KvStore, Put, Session, Words, Written};
use crate::lock::LockRenewer;
use crate::watch::Sink;
use crate::{DcsError, Settings, Timing};
use api::{Api, Shared};
use options::ConsulOptions;
use renewer::Renewer;
use service::Registration;
use session::Sessions;
use table::Table;

/// The store. Belongs to the tokio runtime it was made in.
pub struct Store {
    api: Arc<Api>,
    keys: Table,
    sessions: Arc<Sessions>,
    /// `<scope>-<member>`
    session_name: String,
    registration: Registration,
}

/// The cluster's keys in Consul.
pub type Consul = Keys<Store>;

impl Consul {
    /// Makes a client, and, unless it is for patronictl, gets a session and starts the watch. Waits for Consul as long as
    /// it takes.
    ///
    /// # Errors
    /// The options make no client.
    pub async fn start(settings: Settings, section: &Value) -> Result<Consul, DcsError> {
        let mut options = ConsulOptions::from_section(section, &variable)?;
        if settings.ctl && options.live.token.is_none() {
            // For `patronictl -d`, which leaves no room for a token. (The reference's daemon loses it at the first reload.)
            options.live.token = variable("CONSUL_HTTP_TOKEN");
        }
        let (scope, name) = (&settings.scope, &settings.name);
        let store = Store {
            registration: Registration::new(scope, name, &options),
            session_name: format!("{scope}-{name}"),
            api: Arc::new(Api::new(Arc::new(Shared::new(options, settings.timing)))?),
            keys: Table::new(settings.ctl),
            sessions: Arc::default(),
        };
        Ok(Keys::over(settings, "consul", store).await)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl KvStore for Store {
    fn words(&self) -> Words {
        Words {
            store: "Consul",
            session: "session",
            not_responding: "Consul is not responding properly",
            foreign_owner: None,
        }
    }

    crate::voice!("patroni.dcs.consul");

    fn timing(&self) -> Timing {
        self.api.shared().timing()
    }

    fn set_timing(&self, timing: Timing) -> bool {
        let before = self.api.shared().set_timing(timing);
        let ttl_changed = before.ttl != timing.ttl;
        if ttl_changed {
            self.sessions.forget();
        }
        ttl_changed
    }

    /// Not the servers: another Consul would be another cluster. What the next start would refuse is refused all the same.
    fn reload(&self, section: &Value) -> Result<(), DcsError> {
        let now = ConsulOptions::from_section(section, &variable)?.live;
        let before = self.api.shared().set_live_options(now.clone());
        self.registration.reloaded(&before, &now);
        Ok(())
    }

    async fn list(&self, prefix: &str, effort: Effort) -> Result<Nodes, Failure> {
        self.keys.list(&self.api, prefix, effort).await
    }

    async fn put(&self, put: Put<'_>, effort: Effort) -> Result<Written, Failure> {
        self.keys.put(&self.api, put, effort).await
    }

    async fn delete(&self, key: &str, condition: If<'_>, effort: Effort) -> Result<Written, Failure> {
        self.keys.delete(&self.api, key, condition, effort).await
    }

    async fn delete_all(&self, prefix: &str, effort: Effort) -> Result<Written, Failure> {
        self.keys.delete_all(&self.api, prefix, effort).await
    }

    async fn session(&self, force: bool, effort: Effort) -> Result<Session, Failure> {
        self.sessions.refresh(&self.api, &self.session_name, force, effort).await
    }

    fn session_id(&self) -> Option<String> {
        self.sessions.id()
    }

    fn forget_session(&self) {
        self.sessions.forget();
    }

    fn expect_refresh(&self) {
        self.sessions.expect_refresh();
    }

    fn set_leader(&self, leader: Option<Held<'_>>) {
        self.sessions.set_of_leader(leader.and_then(|held| held.session.id.clone()));
    }

    fn let_leader_run_out(&self) {
        self.sessions.leave_to_leader();
    }

    fn lock_session(&self) -> Option<String> {
        self.sessions.of_leader()
    }

    async fn end_session(&self, session: &str, effort: Effort) -> Result<bool, Failure> {
        session::end(&self.api, session, effort).await
    }

    fn renewer(&self) -> Box<dyn LockRenewer> {
        Box::new(Renewer::new(self.api.shared(), &self.sessions))
    }

    async fn watch(self: Arc<Self>, prefix: String, sink: Sink) {
        let api = Arc::clone(&self.api);
        drop(self);
        watch::run(api, prefix, sink).await;
    }

    async fn claim(&self, key: &str, effort: Effort) -> Result<bool, Failure> {
        self.keys.claim(&self.api, key, effort).await
    }

    async fn announce(&self, before: Option<&Value>, now: &Value) {
        self.registration.update(&self.api, before, now).await;
    }
}
