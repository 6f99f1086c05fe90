//! What every program of ours that runs on does first: its environment and its log.

use patroni_config::{Config, Environment};
use patroni_core::build_info;

use crate::log::{Log, Settings};
use crate::process;

/// PATRONI_* variables are taken out of the environment, so that no child sees
/// them (surface-dcs 1).
///
/// # Errors
/// One of them makes no sense.
#[allow(unsafe_code)]
pub fn read_environment() -> Result<Environment, String> {
    let variables = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.to_string_lossy().into_owned())));
    let environment = Environment::read(variables).map_err(|e| e.to_string())?;
    for name in &environment.read {
        // SAFETY: no other thread exists yet.
        unsafe { std::env::remove_var(name) };
    }
    Ok(environment)
}

/// Starts the log as the configuration wants it.
///
/// # Errors
/// It does not say how, or its file cannot be written.
pub fn start_log(config: &Config) -> Result<Log, String> {
    let log = Log::start()?;
    let settings = Settings::from_config(config.effective().get("log"), process::original_umask());
    let applied = settings.and_then(|(settings, warnings)| {
        log.apply(settings)?;
        for warning in warnings {
            tracing::warn!(target: "patroni.log", "{warning}");
        }
        Ok(())
    });
    if let Err(e) = applied {
        log.flush();
        return Err(e);
    }
    tracing::info!(target: "patroni_rs", "{}", build_info::line(patroni_net::tls_library()));
    process::announce_threads(config.effective());
    Ok(log)
}
