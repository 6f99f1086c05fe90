//! What the configuration files depend on, gathered at the moment of a call.

use std::sync::Arc;

use patroni_core::ha::{PgState, Role};
use patroni_postgres::files::{AvailableGucs, ConfigHandler, Facts};
use patroni_postgres::process::{blocking, probe};

use super::{locked, Instance, FILE_DEADLINE};

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
        work: impl FnOnce(&mut ConfigHandler, &Facts<'_>) -> R + Send + 'static,
    ) -> Result<R, String> {
        let available = self.available_gucs().await;
        let facts = self.facts();
        let config = self.config.clone();
        let run = move || {
            let facts = Facts { available: Some(&available), ..facts };
            Ok(work(&mut locked(&config), &facts))
        };
        blocking::run(FILE_DEADLINE, run).await.map_err(|e| e.to_string())
    }

    fn facts(&self) -> Facts<'static> {
        let b = locked(&self.believed);
        let version = patroni_postgres::files::effective_version(
            Some(b.server_version).filter(|v| *v > 0 && b.state == PgState::Running),
            b.binary_version,
            b.major_version,
        );
        Facts {
            running: b.state == PgState::Running,
            starting: b.state.is_starting(),
            primary: b.role == Role::Primary,
            promoted: b.role == Role::Promoted,
            custom_bootstrap: b.custom_bootstrap,
            keep_existing_recovery_conf: b.keep_existing_recovery_conf,
            hot_standby_feedback: b.hot_standby_feedback,
            callbacks_called: b.cb_called,
            use_slots: b.dynamic.use_slots(),
            synchronous_mode: b.dynamic.is_synchronous_mode(),
            synchronous_mode_strict: b.dynamic.is_synchronous_mode_strict(),
            version,
            available: None,
        }
    }
}
