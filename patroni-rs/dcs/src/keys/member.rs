//! Our member key (surface-dcs 2.1).

use patroni_core::parse::deep_compare;

use super::*;

impl<S: KvStore> Keys<S> {
    /// Writes the key if it has changed, is attached to another session, or has a TTL of its own.
    pub(super) async fn try_touch(&self, data: &Value) -> Result<bool, Failure> {
        let session = self.session(false, self.effort()).await?;
        let cluster = self.published.cluster(self.store.now());
        let member = cluster.as_ref().and_then(|c| c.get_member(&self.settings.name, false));
        let owned = member.filter(|m| session.owns(m.session.as_deref()) || session.id.is_none());
        self.store.announce(owned.map(|m| &m.data), data).await;
        if session.id.is_some() && owned.is_some_and(|m| deep_compare(data, &m.data)) {
            return Ok(true);
        }
        let (key, text) = (self.settings.member_key(), pyfmt::json::dumps_compact(data));
        let put = Put::new(&key, &text).owned(&session, member.and_then(|m| m.session.as_deref()));
        let _writes = self.known.writes();
        match self.store.put(put, Effort::Once).await {
            Err(Failure::SessionGone(_)) => {
                self.store.forget_session();
                let words = self.store.words();
                let (session, store) = (words.session, words.store);
                Err(Failure::Refused(format!(
                    "Our {session} disappeared from {store}, can not \"touch_member\""
                )))
            }
            other => other.map(|written| written.is_done()),
        }
    }
}
