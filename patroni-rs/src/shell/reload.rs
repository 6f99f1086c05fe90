//! A changed configuration reaches every part of the daemon (surface-config 1.60 to 1.62).

use std::sync::Arc;
use std::time::Duration;

use patroni_api::{Preparation, Prepared, RestServer};
use patroni_config::Config;
use pyfmt::Value;

use super::daemon::watchdog_config;
use super::shared::Shared;
use crate::log::Settings;

/// How long the HA loop waits for the names and files of the REST API's section.
const REST_LIMIT: Duration = Duration::from_secs(3);

/// SIGHUP or `POST /reload`: reads the files again, and applies them. A configuration that a part refuses is
/// given up as a whole, and the old one stays in force.
pub async fn local(shared: &Arc<Shared>, api: &mut RestServer, sighup: bool) {
    let before = shared.with_config(Config::clone);
    let reader = shared.clone();
    let changed = tokio::task::spawn_blocking(move || reader.change_config(Config::reload_local)).await;
    let changed = matches!(changed, Ok(Some(true)));
    if changed {
        let refusal = shared.with_config(Config::refusal);
        if let Err(reason) = refusal.map_or(Ok(()), Err).and_then(|()| reload_log(shared)) {
            refused(shared, &reason);
            let _ = shared.dcs.reload(before.effective());
            shared.change_config(|config| *config = before);
            return;
        }
    }
    let Err(refusal) = apply_parts(shared, api, sighup, changed).await else { return };
    refused(shared, &refusal.reason);
    if changed {
        let _ = shared.dcs.reload(before.effective());
        shared.change_config(|config| *config = before);
        // For what took the new one before the refusal. Nothing is wrong with the old one but the world around it,
        // and the next reload will say so.
        let mut again = reload_log(shared);
        if again.is_ok() && refusal.rest_api_has_it {
            again = apply_parts(shared, api, false, true).await.map_err(|e| e.reason);
        }
        if let Err(e) = again {
            tracing::debug!(target: "patroni.__main__", "the configuration in force before: {e}");
        }
    }
}

/// Why a configuration cannot be used, and how far it came.
struct Refusal {
    reason: String,
    rest_api_has_it: bool,
}

impl Refusal {
    fn early(reason: String) -> Refusal {
        Refusal { reason, rest_api_has_it: false }
    }

    fn late(reason: String) -> Refusal {
        Refusal { reason, rest_api_has_it: true }
    }
}

/// The files as they are now may have what lets the DCS answer (a new password, another certificate), and the next cycle
/// may not come before it does. So the store is told before everything else, without a word: whatever is wrong with
/// the files is told by [`local`].
pub async fn tell_dcs(shared: Arc<Shared>) {
    let before = shared.with_config(Config::clone);
    let read = tokio::task::spawn_blocking(move || before.peek_local()).await;
    if let Ok(Some(effective)) = read {
        let _ = shared.dcs.reload(&effective);
    }
}

/// A new dynamic configuration: everything that depends on the effective one.
pub async fn apply(shared: &Arc<Shared>, api: &mut RestServer) {
    if let Err(refusal) = apply_parts(shared, api, false, false).await {
        refused(shared, &refusal.reason);
    }
}

fn refused(shared: &Shared, reason: &str) {
    let file = shared.with_config(|c| c.config_file().unwrap_or("None").to_owned());
    tracing::error!(target: "patroni.__main__", exc = %reason, "Failed to reload config_file={file}");
}

/// The parts in the reference's order; `changed`: the local configuration is another one.
async fn apply_parts(
    shared: &Arc<Shared>,
    api: &mut RestServer,
    sighup: bool,
    changed: bool,
) -> Result<(), Refusal> {
    let section = shared
        .with_config(|c| c.effective().get("restapi").cloned())
        .ok_or_else(|| Refusal::early("KeyError: 'restapi'".to_owned()))?;
    // It keeps its old configuration when it refuses a new one.
    rest_api(api, &section, sighup).await.map_err(Refusal::early)?;
    let config = shared.with_config(watchdog_config);
    shared.with_watchdog(move |w| w.reload_config(config)).await;
    let postgresql: Value = shared.with_config(|c| c.get("postgresql").clone());
    let dynamic = shared.with_config(|c| patroni_core::global_config::GlobalConfig::new(c.dynamic().clone()));
    shared.instance.set_dynamic(dynamic);
    let reloaded = shared.instance.reload_config(postgresql, sighup).await;
    // The rest of the daemon reads timeouts and tags whatever PostgreSQL said.
    shared.refresh(api.connection_string().to_owned());
    reloaded.map_err(Refusal::late)?;
    if changed {
        let effective = shared.with_config(|c| c.effective().clone());
        shared.dcs.reload(&effective).map_err(|e| Refusal::late(e.to_string()))?;
    }
    Ok(())
}

/// The REST API takes its section. Files and resolver are asked beside the HA loop, and not waited for longer than
/// [`REST_LIMIT`]; names that are known are looked up again for a SIGHUP alone, and it does no harm if that fails.
async fn rest_api(api: &mut RestServer, section: &Value, sighup: bool) -> Result<(), String> {
    let known = api.prepare(section);
    let first = if sighup { api.prepare_anew(section) } else { api.prepare(section) };
    let mut prepared = prepare(first).await;
    if prepared.is_err() && sighup && known.is_known() {
        prepared = prepare(known).await;
    }
    let prepared = prepared?;
    tokio::task::block_in_place(|| api.adopt(prepared)).map_err(|e| e.to_string())
}

async fn prepare(preparation: Preparation) -> Result<Prepared, String> {
    let reading = tokio::task::spawn_blocking(move || preparation.run());
    match tokio::time::timeout(REST_LIMIT, reading).await {
        Ok(Ok(read)) => read.map_err(|e| e.to_string()),
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => {
            Err(format!("the names and files of the restapi section do not answer within {REST_LIMIT:?}"))
        }
    }
}

fn reload_log(shared: &Shared) -> Result<(), String> {
    let section = shared.with_config(|c| c.effective().get("log").cloned());
    let (settings, warnings) = Settings::from_config(section.as_ref(), crate::process::original_umask())?;
    shared.log.apply(settings)?;
    shared.instance.guard.set_log_file(shared.log.file());
    for warning in warnings {
        tracing::warn!(target: "patroni.log", "{warning}");
    }
    Ok(())
}
