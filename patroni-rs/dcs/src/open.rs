//! The store that a configuration names.

use patroni_core::stores::STORES;
use pyfmt::Value;

use crate::{Consul, Dcs, DcsError, Etcd2, Etcd3, Keys, Kubernetes, Raft, Settings, ZooKeeper};

/// The stores of this build, in alphabetical order: all that the reference has.
pub const AVAILABLE: [&str; 7] = STORES;

/// The section that names the store.
fn section(config: &Value) -> Option<(&'static str, &Value)> {
    STORES.iter().find_map(|name| config.get(name).map(|section| (*name, section)))
}

/// What is to be said of a configuration whose store is none of this build; None: it is.
pub fn unavailable(config: &Value) -> Option<String> {
    let (name, _) = section(config).filter(|(name, _)| !AVAILABLE.contains(name))?;
    Some(format!(
        "This build cannot run the store of the section {name}. Available implementations: {}",
        AVAILABLE.join(", ")
    ))
}

/// Connects to the store whose section is in the effective configuration; with
/// several, to the first in alphabetical order. Waits for it as long as it takes.
///
/// # Errors
/// No section, or one that makes no client. Also a section that would come first
/// but is of no store of this build: other nodes may use that one, and two stores
/// make two leaders.
pub async fn open(config: &Value) -> Result<Box<dyn Dcs>, DcsError> {
    let settings = |section| Settings::from_config(config, section);
    match section(config) {
        Some(("consul", section)) => Ok(Box::new(Consul::start(settings(section)?, section).await?)),
        Some(("etcd", section)) => Ok(Box::new(Etcd2::start(settings(section)?, section).await?)),
        Some(("etcd3", section)) => Ok(Box::new(Etcd3::start(settings(section)?, section).await?)),
        Some(("exhibitor", section)) => {
            let settings = settings(section)?;
            let store = ZooKeeper::start_by_exhibitor(&settings, section).await?;
            Ok(Box::new(Keys::over(settings, "exhibitor", store).await))
        }
        Some(("kubernetes", section)) => {
            Ok(Box::new(Kubernetes::start(settings(section)?, config, section)?))
        }
        Some(("raft", section)) => Ok(Box::new(Raft::start(settings(section)?, section).await?)),
        Some(("zookeeper", section)) => {
            let settings = settings(section)?;
            let store = ZooKeeper::start(&settings, section).await?;
            Ok(Box::new(Keys::over(settings, "zookeeper", store).await))
        }
        _ => Err(DcsError::Config(format!(
            "Can not find suitable configuration of distributed configuration store\n\
             Available implementations: {}",
            AVAILABLE.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_build_cannot_run() {
        let of =
            |names: &[&str]| unavailable(&Value::from_iter(names.iter().map(|name| (*name, Value::map()))));
        assert!(of(&["etcd3"]).is_none() && of(&["etcd"]).is_none() && of(&[]).is_none());
        assert!(of(&["raft"]).is_none());
        // The first in alphabetical order counts.
        assert!(of(&["etcd3", "kubernetes"]).is_none());
        assert!(of(&["consul"]).is_none());
    }
}
