//! A changed configuration reaches every part of the daemon.

use std::sync::Arc;

use patroni_api::RestServer;

use super::daemon::{api_section, watchdog_config};
use super::shared::Shared;
use crate::log::Settings;

/// SIGHUP or `POST /reload`: reads the files again, and applies them.
pub async fn local(shared: &Arc<Shared>, api: &mut RestServer, sighup: bool) {
    let reader = shared.clone();
    let changed =
        tokio::task::spawn_blocking(move || reader.change_config(patroni_config::Config::reload_local)).await;
    if matches!(changed, Ok(Some(true))) {
        reload_log(shared);
        let effective = shared.with_config(|c| c.effective().clone());
        if let Err(e) = shared.dcs.reload(&effective) {
            tracing::error!(target: "patroni.dcs", "{e}");
        }
    }
    apply(shared, api, sighup).await;
}

fn reload_log(shared: &Shared) {
    let section = shared.with_config(|c| c.effective().get("log").cloned());
    let umask = crate::process::original_umask();
    match Settings::from_config(section.as_ref(), umask) {
        Ok((settings, warnings)) => {
            if let Err(e) = shared.log.apply(settings) {
                tracing::error!(target: "patroni.log", "{e}");
            }
            shared.instance.guard.set_log_file(shared.log.file());
            for warning in warnings {
                tracing::warn!(target: "patroni.log", "{warning}");
            }
        }
        Err(e) => tracing::error!(target: "patroni.__main__", "Failed to reload config_file: {e}"),
    }
}

/// Everything that depends on the effective configuration.
pub async fn apply(shared: &Arc<Shared>, api: &mut RestServer, sighup: bool) {
    let section = api_section(shared);
    let reloaded = tokio::task::block_in_place(|| api.reload(&section));
    if let Err(e) = reloaded {
        tracing::error!(target: "patroni.__main__", "Failed to reload the REST API: {e}");
    }
    let config = shared.with_config(watchdog_config);
    shared.with_watchdog(move |w| w.reload_config(config)).await;
    let postgresql = shared.with_config(|c| c.get("postgresql").clone());
    let dynamic = shared.with_config(|c| patroni_core::global_config::GlobalConfig::new(c.dynamic().clone()));
    shared.instance.set_dynamic(dynamic);
    if let Err(e) = shared.instance.reload_config(postgresql, sighup).await {
        tracing::error!(target: "patroni.postgresql.config", "{e}");
    }
    shared.refresh(api.connection_string().to_owned());
}
