//! The store that a configuration names.

use patroni_core::stores::STORES;
use pyfmt::Value;

use crate::{Dcs, DcsError, Etcd3, Settings};

/// The stores of this build, in alphabetical order.
pub const AVAILABLE: [&str; 1] = ["etcd3"];

/// Connects to the store whose section is in the effective configuration; with
/// several, to the first in alphabetical order. Waits for it as long as it takes.
///
/// # Errors
/// No section, or one that makes no client. Also a section that would come first
/// but is of no store of this build: other nodes may use that one, and two stores
/// make two leaders.
pub async fn open(config: &Value) -> Result<Box<dyn Dcs>, DcsError> {
    let section = STORES.iter().find_map(|name| config.get(name).map(|section| (*name, section)));
    let settings = |section| Settings::from_config(config, section);
    match section {
        Some(("etcd3", section)) => Ok(Box::new(Etcd3::start(settings(section)?, section).await?)),
        _ => Err(DcsError::Config(format!(
            "Can not find suitable configuration of distributed configuration store\n\
             Available implementations: {}",
            AVAILABLE.join(", ")
        ))),
    }
}
