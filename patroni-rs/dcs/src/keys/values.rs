//! The keys that are attached to nothing (surface-dcs 2.2, 2.3).

use patroni_core::model::status_value;

use super::*;

impl<S: KvStore> Keys<S> {
    pub(super) async fn put(&self, name: &str, value: &str, effort: Effort) -> Result<bool, Failure> {
        let _writes = self.known.writes();
        Ok(self.store.put(Put::new(&self.key(name), value), effort).await?.is_done())
    }

    /// Puts a key, with a version only if that is still the current one.
    pub(super) async fn put_version(
        &self,
        name: &str,
        value: &str,
        version: Option<&str>,
    ) -> Result<bool, Failure> {
        let condition = version.map_or(If::Always, If::Version);
        let key = self.key(name);
        let _writes = self.known.writes();
        Ok(self.store.put(Put::new(&key, value).when(condition), Effort::Once).await?.is_done())
    }

    /// Without a version the key was not there. Written without a condition, as the reference does, it could undo what a
    /// leader since has promised in it. The new version.
    pub(super) async fn put_sync(
        &self,
        text: &str,
        version: Option<&str>,
    ) -> Result<Option<String>, Failure> {
        let condition = version.map_or(If::Absent, If::Version);
        let key = self.key("sync");
        let put = Put::new(&key, text).when(condition).with_version();
        let _writes = self.known.writes();
        Ok(self.store.put(put, self.effort()).await?.version())
    }

    /// The race for the bootstrap with `create_new` and no `sysid`.
    pub(super) async fn try_initialize(&self, create_new: bool, sysid: &str) -> Result<bool, Failure> {
        let (key, effort) = (self.key("initialize"), self.effort());
        if !create_new {
            return self.put("initialize", sysid, effort).await;
        }
        let _writes = self.known.writes();
        if sysid.is_empty() {
            return self.store.claim(&key, effort).await;
        }
        Ok(self.store.put(Put::new(&key, sysid).when(If::Absent), effort).await?.is_done())
    }

    /// What a leader publishes with its renewal.
    pub(super) async fn publish(&self, status: Option<&Status>, failsafe: Option<&Value>) {
        if let Some(status) = status.filter(|s| s.last_lsn.is_known()) {
            self.publish_status(status).await;
        }
        if let Some(failsafe) = failsafe {
            self.publish_failsafe(failsafe).await;
        }
    }

    /// Writes `/status` if it has changed, and `/optime/leader` where legacy members need it.
    pub(super) async fn publish_status(&self, status: &Status) -> bool {
        let mut ok = true;
        if self.published.status_differs(status) {
            ok = self.best_effort(self.put("status", &status_value(status), Effort::Once).await) == Ok(true);
            if ok {
                self.published.status_written(status);
            }
        }
        if self.published.legacy_lsn_due(status.last_lsn, self.store.now()) {
            let text = status.last_lsn.bytes().to_string();
            ok &= self.best_effort(self.put("optime/leader", &text, Effort::Once).await) == Ok(true);
        }
        ok
    }

    /// Writes `/failsafe` if it has changed.
    pub(super) async fn publish_failsafe(&self, value: &Value) -> bool {
        if !self.published.failsafe_differs(value) {
            return true;
        }
        let text = pyfmt::json::dumps_compact(value);
        let written = self.best_effort(self.put("failsafe", &text, Effort::Once).await) == Ok(true);
        if written {
            self.published.failsafe_written(value);
        }
        written
    }
}
