//! The leader key (surface-dcs 6, 9).

use super::*;

impl<S: KvStore> Keys<S> {
    /// Creates the key under our session.
    pub(super) async fn try_acquire(&self) -> Result<bool, Failure> {
        let (effort, deadline) = self.lock_deadline();
        // Renewed in any case: the promise of the lock counts from this question, so the session must not be older.
        let session = self.session(true, effort).await?;
        self.enough_time(deadline, "attempt_to_acquire_leader timeout")?;
        match self.create_leader_key(&session, effort).await {
            Err(Failure::SessionGone(_)) => {
                self.store.forget_session();
                let words = self.store.words();
                let gone = format!("Our {} disappeared from {}.", words.session, words.store);
                if deadline <= self.store.now() {
                    return Err(Failure::Refused(format!("{gone} Deadline exceeded, giving up")));
                }
                self.error(&format!("{gone} Will try to get a new one and retry attempt"));
                let session = self.session(false, effort).await?;
                self.enough_time(deadline, "_do_attempt_to_acquire_leader timeout")?;
                self.create_leader_key(&session, effort).await
            }
            other => other,
        }
    }

    async fn create_leader_key(&self, session: &Session, effort: Effort) -> Result<bool, Failure> {
        let key = self.key("leader");
        let put = Put::new(&key, &self.settings.name).when(If::Absent).owned(session, None);
        let _writes = self.known.writes();
        let created = self.store.put(put, effort).await?.is_done();
        self.held(created.then_some(session));
        Ok(created)
    }

    /// By what was read last, is the key attached to the session that keys of ours are attached to? Asks nobody.
    pub(super) fn is_attached(&self, leader: &Leader) -> bool {
        let session = self.store.session_id();
        self.store.tells_all() && session.is_some() && session == leader.session
    }

    /// Renewing the session renews the key; only when the key is attached to another one, such as from before a restart, or
    /// has a TTL of its own, it has to be written.
    pub(super) async fn try_update(&self, leader: &Leader) -> Result<bool, Failure> {
        let (effort, deadline) = self.lock_deadline();
        let session = self.session(true, effort).await?;
        if session.owns(leader.session.as_deref()) {
            self.held(Some(&session));
            return Ok(true);
        }
        self.enough_time(deadline, "update_leader timeout")?;
        // Without an answer nobody knows what the key is attached to.
        if session.id.is_some() {
            self.held(None);
        }
        // A key that is gone is not made again, as the reference does: since it was read, another may have led, and be
        // gone as well (docs/safety.md S9). A node that wants it races for it.
        let (key, name) = (self.key("leader"), self.settings.name.as_str());
        let condition = If::Ours { value: name, version: Some(&leader.version) };
        let put = Put::new(&key, name).when(condition).owned(&session, leader.session.as_deref());
        let _writes = self.known.writes();
        let ours = self.store.put(put, effort).await?.is_done();
        self.held(ours.then_some(&session));
        Ok(ours)
    }

    /// Puts the leader key if there is none or it is ours. A request that is repeated at another node may be carried
    /// out late, so that it must not hit a later leader's.
    pub(super) async fn try_take(&self) -> Result<bool, Failure> {
        let effort = self.effort();
        let session = self.session(true, effort).await?;
        self.held(None);
        let (key, name) = (self.key("leader"), self.settings.name.as_str());
        let put = Put::new(&key, name).when(If::AbsentOr(name)).owned(&session, None);
        let _writes = self.known.writes();
        let ours = self.store.put(put, effort).await?.is_done();
        self.held(ours.then_some(&session));
        Ok(ours)
    }

    /// Deletes the key if it is ours.
    pub(super) async fn try_release(&self, leader: &Leader) -> Result<bool, Failure> {
        self.held(None);
        let version = Some(leader.version.as_str()).filter(|version| !version.is_empty());
        let condition = If::Ours { value: &self.settings.name, version };
        let _writes = self.known.writes();
        Ok(self.store.release(&self.key("leader"), condition, Effort::Once).await?.is_done())
    }

    fn held(&self, session: Option<&Session>) {
        let key = self.key("leader");
        let held = session.map(|session| Held { key: &key, value: &self.settings.name, session });
        self.store.set_leader(held);
    }

    fn lock_deadline(&self) -> (Effort, Instant) {
        let deadline = self.store.now() + self.store.timing().retry_timeout;
        (Effort::Until(deadline), deadline)
    }

    /// Too late to begin: the lock could change hands while the answer is on its way.
    fn enough_time(&self, deadline: Instant, text: &str) -> Result<(), Failure> {
        if deadline.saturating_duration_since(self.store.now()) < LEAST_TIME {
            return Err(Failure::Unknown(text.to_owned()));
        }
        Ok(())
    }
}
