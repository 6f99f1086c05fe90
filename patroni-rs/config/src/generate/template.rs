//! What both generators start from: defaults, this host's address, and what the
//! environment sets.

use patroni_core::parse::patch_config;
use patroni_core::tags::{Sample, Tag, TAGS};
use pyfmt::Value;

use super::FIXME;
use crate::config::{Check, Config};
use crate::effective::default_config;
use crate::env::Environment;
use crate::error::Result;
use crate::python::child_mut;
use crate::validate::resolve;

/// Name and address of this host.
#[derive(Debug, Clone)]
pub struct HostAddress {
    /// The host's name.
    pub name: String,
    /// Its first address, IPv4 before IPv6.
    pub ip: String,
}

impl HostAddress {
    /// Asks the system; what it does not know has to be filled in manually, and
    /// a warning is logged.
    pub fn of_this_host() -> HostAddress {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
        let found = name.map_err(|e| e.to_string()).and_then(|name| {
            let mut addresses = resolve(&name)?;
            addresses.sort_by_key(|a| a.is_ipv6());
            let ip = addresses.first().map(|a| a.ip().to_string()).ok_or("no address")?;
            Ok(HostAddress { name, ip })
        });
        found.unwrap_or_else(|e: String| {
            tracing::warn!(target: "root", "Failed to obtain address: {e}");
            HostAddress { name: FIXME.to_owned(), ip: FIXME.to_owned() }
        })
    }
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    entries.into_iter().collect()
}

fn user(name: &str) -> Value {
    map([("username", name.into()), ("password", FIXME.into())])
}

/// The template, with the values of the environment on top.
pub(super) fn template(environment: &Environment, host: &HostAddress) -> Result<Value> {
    let api = Value::from(format!("{}:8008", host.ip));
    let postgres = Value::from(format!("{}:5432", host.ip));
    let mut template = map([
        ("scope", FIXME.into()),
        ("name", host.name.as_str().into()),
        ("restapi", map([("connect_address", api.clone()), ("listen", api)])),
        (
            "log",
            map([
                ("type", "plain".into()),
                ("level", "INFO".into()),
                ("traceback_level", "ERROR".into()),
                ("format", "%(asctime)s %(levelname)s: %(message)s".into()),
                ("max_queue_size", 1000.into()),
            ]),
        ),
        (
            "postgresql",
            map([
                ("data_dir", FIXME.into()),
                ("connect_address", postgres.clone()),
                ("listen", postgres),
                ("bin_dir", "".into()),
                (
                    "authentication",
                    map([("superuser", user("postgres")), ("replication", user("replicator"))]),
                ),
            ]),
        ),
        ("tags", TAGS.iter().filter_map(sample).collect()),
    ]);
    patch_config(&mut template, &from_environment(environment)?);
    Ok(template)
}

fn sample(tag: &Tag) -> Option<(&'static str, Value)> {
    match tag.sample {
        Sample::Absent => None,
        Sample::Flag(flag) => Some((tag.name, flag.into())),
        Sample::Number(number) => Some((tag.name, number.into())),
    }
}

fn from_environment(environment: &Environment) -> Result<Value> {
    let mut config = Config::load("", environment, &Check::Nothing)?.local().clone();
    let mut dynamic = default_config();
    dynamic.remove("standby_cluster");
    if config.get("bootstrap").is_none() {
        config.set("bootstrap", Value::map());
    }
    if let Some(bootstrap) = child_mut(&mut config, "bootstrap") {
        bootstrap.set("dcs", dynamic);
    }
    Ok(config)
}
