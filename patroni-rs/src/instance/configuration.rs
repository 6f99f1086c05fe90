//! What the configuration files depend on, gathered at the moment of a call.

use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use patroni_core::ha::{PgState, Role};
use patroni_core::mutex::locked;
use patroni_postgres::files::{AvailableGucs, ConfigHandler, ServerState};
use patroni_postgres::process::{blocking, probe};

use super::{Instance, FILE_DEADLINE};

/// The configuration: those who change it work on files, one at a time, and may hang; those who read it never wait.
pub(super) struct Configuration {
    changing: Mutex<ConfigHandler>,
    seen: ArcSwap<ConfigHandler>,
}

impl Configuration {
    pub(super) fn new(handler: ConfigHandler) -> Configuration {
        Configuration { seen: ArcSwap::from_pointee(handler.clone()), changing: Mutex::new(handler) }
    }

    /// As of the last change that has come to its end.
    pub(super) fn seen(&self) -> Arc<ConfigHandler> {
        self.seen.load_full()
    }

    fn change<R>(&self, work: impl FnOnce(&mut ConfigHandler) -> R) -> R {
        let mut handler = locked(&self.changing);
        let result = work(&mut handler);
        self.seen.store(Arc::new(handler.clone()));
        result
    }
}

impl Instance {
    /// What `postgres --describe-config` lists; asked once for each run of a server.
    async fn available_gucs(&self) -> Arc<AvailableGucs> {
        let mut cached = self.available.lock().await;
        if let Some(known) = &*cached {
            return known.clone();
        }
        match probe::available_gucs(&self.bin).await {
            Ok(names) => {
                let known = Arc::new(AvailableGucs::from_describe_config(&names.join("\n")));
                *cached = Some(known.clone());
                known
            }
            // Without the list no parameter can be told to be unknown.
            Err(_) => Arc::default(),
        }
    }

    /// Programs may have been replaced: ask them anew.
    pub(super) async fn forget_available_gucs(&self) {
        *self.available.lock().await = None;
    }

    /// Works on the configuration with the facts of the moment, off the runtime.
    ///
    /// # Errors
    /// The file system did not answer in time.
    pub(super) async fn with_config<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut ConfigHandler, &ServerState<'_>) -> R + Send + 'static,
    ) -> Result<R, String> {
        let available = self.available_gucs().await;
        let facts = self.server_state();
        let config = self.config.clone();
        let run = move || {
            let facts = ServerState { available: Some(&available), ..facts };
            Ok(config.change(|c| work(c, &facts)))
        };
        blocking::run(FILE_DEADLINE, run).await.map_err(|e| e.to_string())
    }

    fn server_state(&self) -> ServerState<'static> {
        let b = locked(&self.local_state);
        let version = patroni_postgres::files::effective_version(
            Some(b.server_version).filter(|v| v.is_known() && b.state == PgState::Running),
            b.binary_version,
            b.major_version,
        );
        ServerState {
            running: b.state == PgState::Running,
            starting: b.state.is_starting(),
            primary: b.role == Role::Primary,
            promoted: b.role == Role::Promoted,
            custom_bootstrap: b.custom_bootstrap,
            keep_existing_recovery_conf: b.keep_existing_recovery_conf,
            hot_standby_feedback: b.hot_standby_feedback,
            callbacks_called: b.callback_fired,
            use_slots: b.dynamic.use_slots(),
            synchronous_mode: b.dynamic.is_synchronous_mode(),
            synchronous_mode_strict: b.dynamic.is_synchronous_mode_strict(),
            version,
            available: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use patroni_postgres::files::Listening;
    use std::sync::mpsc;

    #[test]
    fn a_change_is_seen() {
        let mut section = pyfmt::Value::map();
        section.set("data_dir", "/nonexistent");
        section.set("listen", "127.0.0.1:5432");
        let handler =
            ConfigHandler::new(section, patroni_core::PgVersion::V15, &ServerState::default()).unwrap();
        let config = Configuration::new(handler);
        config.change(|c| c.take_addresses_of(&Listening { port: 7777, ..Listening::default() }));
        assert_eq!(config.seen().addresses().connection_string, "postgres://localhost:7777/postgres");
    }

    #[test]
    fn a_change_that_hangs_keeps_nobody_from_reading() {
        let mut section = pyfmt::Value::map();
        section.set("data_dir", "/nonexistent");
        section.set("listen", "127.0.0.1:5432");
        let handler =
            ConfigHandler::new(section, patroni_core::PgVersion::V15, &ServerState::default()).unwrap();
        let config = Arc::new(Configuration::new(handler));
        let (begun, has_begun) = mpsc::channel();
        let (go_on, waits) = mpsc::channel::<()>();
        let changing = config.clone();
        let change = std::thread::spawn(move || {
            changing.change(|_| {
                begun.send(()).unwrap();
                // A file system that does not answer.
                let _ = waits.recv();
            });
        });
        has_begun.recv().unwrap();
        let (told, answer) = mpsc::channel();
        let reading = config.clone();
        std::thread::spawn(move || told.send(reading.seen().postgresql_conf().to_owned()));
        let seen = answer.recv_timeout(std::time::Duration::from_secs(5));
        go_on.send(()).unwrap();
        change.join().unwrap();
        assert!(seen.unwrap().ends_with("postgresql.conf"));
    }
}
