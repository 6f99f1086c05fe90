//! Which credentials a connection is made with, and what follows when etcd refuses them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;

use super::{Client, Pool};
use crate::etcd::wire::{Failure, Manner, Wire};
use crate::etcd::EtcdOptions;

/// For so long credentials that etcd has refused come after those it accepted before.
const REFUSAL_COUNTS: Duration = Duration::from_secs(60);

impl<W: Wire> Pool<W> {
    /// After a refusal for want of authentication: logs it; the next connection gets a new token, with the credentials
    /// that are in force by then. False: there are none.
    pub(super) fn note_refusal(&self, refusal: &Failure) -> bool {
        locked(&self.state).clients.clear();
        let known = self.options().credentials.is_some();
        let text = match refusal {
            Failure::Token(text) if known => format!("Invalid auth token: {text}"),
            Failure::Password(text) if known => {
                format!("{} authentication failed: {text}", self.common.wire.name())
            }
            _ => "Username or password not set, authentication is not possible".into(),
        };
        self.complain(|| text);
        known
    }

    /// A connection with the credentials in force; if etcd does not accept them (a typing error, or it is told of a
    /// new password later than we), with those that it accepted last. Each password costs etcd time, and a busy one may
    /// need longer for two of them than an attempt lasts: after a refusal the others go first, for a while.
    pub(super) async fn connect(
        &self,
        url: &str,
        options: &Arc<EtcdOptions>,
        manner: Manner,
    ) -> Result<Client<W::Conn>, Failure> {
        let (first, second) = match self.former(options) {
            Some(old) if self.was_refused(options) => (old, Some(Arc::clone(options))),
            old => (Arc::clone(options), old),
        };
        let text = match self.connect_with(url, &first, manner).await {
            Err(Failure::Password(text)) => text,
            other => return other,
        };
        let Some(second) = second else { return Err(Failure::Password(text)) };
        let client =
            self.connect_with(url, &second, manner).await.map_err(|_| Failure::Password(text.clone()))?;
        if first == *options {
            self.goes_on_with_former(&text);
        }
        Ok(client)
    }

    /// Takes note of what etcd says of these credentials, also when nobody waits for the rest any more.
    async fn connect_with(
        &self,
        url: &str,
        options: &Arc<EtcdOptions>,
        manner: Manner,
    ) -> Result<Client<W::Conn>, Failure> {
        let wire = &self.common.wire;
        match wire.connect(url, options, manner).await {
            Ok(conn) => {
                if wire.shows_credentials(None) {
                    self.note_accepted(options);
                }
                Ok(Client { conn, options: Arc::clone(options) })
            }
            Err(failure) => {
                if matches!(failure, Failure::Password(_)) {
                    *locked(&self.common.refused) = Some((Arc::clone(options), Instant::now()));
                }
                Err(failure)
            }
        }
    }

    /// Has etcd refused these credentials a moment ago?
    pub(super) fn was_refused(&self, options: &EtcdOptions) -> bool {
        let refused = locked(&self.common.refused);
        refused.as_ref().is_some_and(|(refused, at)| {
            refused.credentials == options.credentials && at.elapsed() < REFUSAL_COUNTS
        })
    }

    pub(super) fn note_accepted(&self, options: &Arc<EtcdOptions>) {
        let mut accepted = locked(&self.common.accepted);
        if !accepted.as_ref().is_some_and(|known| Arc::ptr_eq(known, options)) {
            *accepted = Some(Arc::clone(options));
        }
    }

    /// These options with the credentials that etcd has accepted last, if those are others.
    pub(super) fn former(&self, options: &Arc<EtcdOptions>) -> Option<Arc<EtcdOptions>> {
        let accepted = locked(&self.common.accepted).clone()?;
        let credentials = accepted.credentials.clone();
        (credentials != options.credentials)
            .then(|| Arc::new(EtcdOptions { credentials, ..(**options).clone() }))
    }

    pub(super) fn goes_on_with_former(&self, text: &str) {
        self.complain(|| {
            let name = self.common.wire.name();
            format!("{name} authentication failed, going on with the credentials before: {text}")
        });
    }
}
