//! Which credentials a connection is made with, and what follows when etcd refuses them.

use std::sync::Arc;

use patroni_core::mutex::locked;

use super::{Client, Pool};
use crate::etcd::wire::{Failure, Manner, Wire};
use crate::etcd::EtcdOptions;

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
    /// new password later than we), with those that it accepted last.
    pub(super) async fn connect(
        &self,
        url: &str,
        options: &Arc<EtcdOptions>,
        manner: Manner,
    ) -> Result<Client<W::Conn>, Failure> {
        let wire = &self.common.wire;
        let text = match wire.connect(url, options, manner).await {
            Ok(conn) => {
                if wire.shows_credentials(None) {
                    self.note_accepted(options);
                }
                return Ok(Client { conn, options: Arc::clone(options) });
            }
            Err(Failure::Password(text)) => text,
            Err(failure) => return Err(failure),
        };
        let Some(old) = self.former(options) else { return Err(Failure::Password(text)) };
        let conn = wire.connect(url, &old, manner).await.map_err(|_| Failure::Password(text.clone()))?;
        self.goes_on_with_former(&text);
        Ok(Client { conn, options: old })
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
