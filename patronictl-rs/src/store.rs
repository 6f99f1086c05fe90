//! The DCS as commands use it: read the cluster once, write a key.

use std::collections::BTreeMap;
use std::rc::Rc;

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::Cluster;
use patroni_core::stores::STORES;
use patroni_core::timing::Timing;
use patroni_dcs::{open, Dcs, DcsError};
use pyfmt::Value;
use tokio::runtime::Runtime;

use crate::click::CliError;

/// A cluster as it was read; in Citus mode without a group also the others.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The cluster: in Citus mode that of the coordinator or the chosen group.
    pub cluster: Cluster,
    /// The worker groups.
    pub workers: BTreeMap<i64, Cluster>,
}

/// The dynamic configuration of a cluster as patronictl sees it.
pub fn global_config(cluster: &Cluster) -> GlobalConfig {
    GlobalConfig::default().updated_from(cluster)
}

/// The keys of one cluster in the DCS. The methods block until there is an answer.
pub struct Store {
    runtime: Rc<Runtime>,
    dcs: Box<dyn Dcs>,
    loop_wait: u64,
    /// Whether the workers' groups are read as well.
    coordinator: bool,
}

impl Store {
    /// Connects to the DCS of the configuration, which names the cluster in
    /// `scope`; the coordinator of a Citus cluster sees all groups. Tries for as
    /// long as it takes, as the reference does.
    ///
    /// # Errors
    /// No DCS is configured.
    pub fn open(runtime: Rc<Runtime>, config: &Value, coordinator: bool) -> Result<Store, CliError> {
        check_configured(config)?;
        let mut config = config.clone();
        config.set("patronictl", true);
        let dcs = runtime.block_on(open(&config)).map_err(open_error)?;
        let default = Timing::default_seconds("loop_wait");
        let loop_wait = config.get("loop_wait").and_then(Value::as_i64).unwrap_or(default);
        Ok(Store { runtime, dcs, loop_wait: u64::try_from(loop_wait).unwrap_or(0), coordinator })
    }

    /// Reads the cluster.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn view(&self) -> Result<View, CliError> {
        if self.coordinator {
            let mut workers = self.runtime.block_on(self.dcs.get_groups()).map_err(read_error)?;
            let cluster = workers.remove(&0).unwrap_or_default();
            return Ok(View { cluster, workers });
        }
        let cluster = self.runtime.block_on(self.dcs.get_cluster()).map_err(read_error)?;
        Ok(View { cluster: (*cluster).clone(), workers: BTreeMap::new() })
    }

    /// `loop_wait` in seconds: of the dynamic configuration, else of the local one.
    pub fn loop_wait_of(&self, config: &GlobalConfig) -> u64 {
        let configured = config.get("loop_wait").as_i64().filter(|n| *n != 0);
        configured.map_or(self.loop_wait, |n| u64::try_from(n).unwrap_or(0))
    }

    /// Writes `/config` if it still has this version; says whether it had.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn write_config(&self, value: &Value, version: &str) -> Result<bool, CliError> {
        self.runtime.block_on(self.dcs.set_config(value, Some(version))).map_err(read_error)
    }

    /// Writes `/failover`; with a version only if that is still the current one.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn write_failover(&self, value: &str, version: Option<&str>) -> Result<(), CliError> {
        self.runtime.block_on(self.dcs.set_failover(value, version)).map(|_| ()).map_err(read_error)
    }

    /// Removes all keys of the cluster.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn delete_cluster(&self) -> Result<(), CliError> {
        self.runtime.block_on(self.dcs.delete_cluster()).map(|_| ()).map_err(read_error)
    }
}

/// Is there a section for a DCS at all?
///
/// # Errors
/// There is none.
pub fn check_configured(config: &Value) -> Result<(), CliError> {
    if STORES.iter().any(|name| config.get(name).is_some()) {
        return Ok(());
    }
    Err(CliError::msg(format!(
        "Can not find suitable configuration of distributed configuration store\nAvailable implementations: {}",
        STORES.join(", ")
    )))
}

/// Of a section that makes no client the reference dies with a traceback.
fn open_error(error: DcsError) -> CliError {
    match error {
        DcsError::Config(text) if text.starts_with("Neither ") => {
            CliError::Crash(format!("Exception: {text}"))
        }
        error => CliError::msg(error.to_string()),
    }
}

/// What the reference dies of with a traceback.
fn read_error(error: DcsError) -> CliError {
    CliError::Crash(format!("patroni.exceptions.DCSError: {error}"))
}

#[cfg(test)]
pub mod tests {
    use patroni_core::model::{Node, Nodes};

    use super::*;

    /// A cluster of these keys and values, at versions 1, 2, ...
    pub fn view(keys: &[(&str, &str)]) -> View {
        let node = |(index, (path, value)): (usize, &(&str, &str))| {
            let version = (index + 1).to_string();
            ((*path).to_owned(), Node { value: (*value).to_owned(), version, ..Node::default() })
        };
        let nodes: Nodes = keys.iter().enumerate().map(node).collect();
        View { cluster: Cluster::from_nodes(&nodes), workers: BTreeMap::new() }
    }
}
