//! The DCS as commands use it: read the cluster once, write a key.

use std::collections::BTreeMap;
use std::rc::Rc;

use patroni_core::global_config::GlobalConfig;
use patroni_core::model::{Cluster, Node};
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

/// The keys of one cluster in the DCS.
pub struct Store {
    runtime: Rc<Runtime>,
    client: tokio::sync::Mutex<etcd_client::Client>,
    prefix: String,
    all_groups: bool,
    loop_wait: u64,
}

fn crash(e: impl std::fmt::Display) -> CliError {
    CliError::Crash(e.to_string())
}

impl Store {
    /// Connects to the configured DCS.
    pub fn open(runtime: Rc<Runtime>, config: &Value, all_groups: bool) -> Result<Store, CliError> {
        let Some(host) = config.at(&["etcd3", "host"]).map(Value::py_str) else {
            return Err(CliError::msg(
                "Can not find suitable configuration of distributed configuration store\n\
                 Available implementations: consul, etcd, etcd3, exhibitor, kubernetes, raft, zookeeper",
            ));
        };
        let client = runtime.block_on(etcd_client::Client::connect([host], None)).map_err(crash)?;
        let namespace = config.get("namespace").map_or_else(|| "service".into(), Value::py_str);
        let scope = config.get("scope").map(Value::py_str).unwrap_or_default();
        let mut prefix = format!("/{}/{scope}/", namespace.trim_matches('/'));
        if let Some(group) = config.at(&["citus", "group"]).filter(|_| !all_groups) {
            prefix.push_str(&format!("{group}/"));
        }
        let loop_wait = config.get("loop_wait").and_then(Value::as_i64).unwrap_or(10).unsigned_abs();
        Ok(Store { runtime, client: client.into(), prefix, all_groups, loop_wait })
    }

    /// Reads the cluster.
    pub fn view(&self) -> Result<View, CliError> {
        self.runtime.block_on(async {
            let options = etcd_client::GetOptions::new().with_prefix();
            let mut client = self.client.lock().await;
            let got = client.get(self.prefix.as_str(), Some(options)).await.map_err(crash)?;
            let mut groups: BTreeMap<i64, Vec<Node>> = BTreeMap::new();
            for kv in got.kvs() {
                let path = kv.key_str().map_err(crash)?.trim_start_matches(&self.prefix).to_owned();
                let value = kv.value_str().map_err(crash)?.to_owned();
                let (group, path) = match path.split_once('/') {
                    Some((g, rest)) if self.all_groups && g.parse::<i64>().is_ok() => {
                        (g.parse().unwrap_or(0), rest.to_owned())
                    }
                    _ => (0, path),
                };
                let node = Node { path, value, version: kv.mod_revision().to_string(), session: None };
                groups.entry(group).or_default().push(node);
            }
            let mut clusters: BTreeMap<i64, Cluster> =
                groups.into_iter().map(|(g, nodes)| (g, Cluster::from_nodes(&nodes))).collect();
            Ok(View { cluster: clusters.remove(&0).unwrap_or_default(), workers: clusters })
        })
    }

    /// `loop_wait` in seconds: of the dynamic configuration, else of the local one.
    pub fn loop_wait_of(&self, config: &GlobalConfig) -> u64 {
        let configured = config.get("loop_wait").as_i64().filter(|n| *n != 0);
        configured.map_or(self.loop_wait, |n| u64::try_from(n).unwrap_or(0))
    }

    /// Writes `/config` if it still has this version.
    pub fn write_config(&self, value: &str, version: &str) -> Result<bool, CliError> {
        self.put("config", value, Some(version))
    }

    /// Writes `/failover`.
    pub fn write_failover(&self, value: &str, version: Option<&str>) -> Result<(), CliError> {
        self.put("failover", value, version).map(|_| ())
    }

    fn put(&self, key: &str, value: &str, version: Option<&str>) -> Result<bool, CliError> {
        use etcd_client::{Compare, CompareOp, Txn, TxnOp};
        let key = format!("{}{key}", self.prefix);
        let mut txn = Txn::new();
        if let Some(version) = version {
            let revision = version.parse().unwrap_or(0);
            txn = txn.when([Compare::mod_revision(key.as_str(), CompareOp::Equal, revision)]);
        }
        let txn = txn.and_then([TxnOp::put(key, value, None)]);
        self.runtime.block_on(async {
            Ok(self.client.lock().await.txn(txn).await.map_err(crash)?.succeeded())
        })
    }

    /// Removes all keys of the cluster.
    pub fn delete_cluster(&self) -> Result<(), CliError> {
        self.runtime.block_on(async {
            let options = etcd_client::DeleteOptions::new().with_prefix();
            self.client.lock().await.delete(self.prefix.as_str(), Some(options)).await.map_err(crash)?;
            Ok(())
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A cluster of these keys and values, at versions 1, 2, ...
    pub fn view(keys: &[(&str, &str)]) -> View {
        let node = |(index, (path, value)): (usize, &(&str, &str))| Node {
            path: (*path).to_owned(),
            value: (*value).to_owned(),
            version: (index + 1).to_string(),
            session: None,
        };
        let nodes: Vec<Node> = keys.iter().enumerate().map(node).collect();
        View { cluster: Cluster::from_nodes(&nodes), workers: BTreeMap::new() }
    }
}
