//! The configuration in force: how a `restapi` section is read, and how its certificates are followed.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use openssl::ssl::SslContext;
use patroni_net::server_context;
use pyfmt::Value;

use super::tls::FileFingerprint;
use super::{listener, StartError};
use crate::access::IpNet;
use crate::config::ApiConfig;

/// How often the files of the TLS context are looked at.
const TLS_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Where there are none: a reload may name some.
const NO_TLS_CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// Configuration in force, with its TLS context.
pub(super) struct ActiveConfig {
    pub(super) config: ApiConfig,
    pub(super) tls: Option<SslContext>,
    /// State of the files that `tls` was made of.
    pub(super) fingerprint: Option<FileFingerprint>,
    pub(super) address: SocketAddr,
}

/// A `restapi` section as it was looked up: where to listen, and the networks of its allowlist.
#[derive(Clone)]
pub(super) struct Known {
    section: Value,
    address: SocketAddr,
    allowlist: Vec<IpNet>,
}

impl Known {
    pub(super) fn of(section: &Value, active: &ActiveConfig) -> Known {
        Known {
            section: section.clone(),
            address: active.address,
            allowlist: active.config.allowlist.clone(),
        }
    }

    /// Has this one the same names to be looked up?
    pub(super) fn covers(&self, section: &Value) -> bool {
        ["listen", "allowlist"].iter().all(|key| self.section.get(key) == section.get(key))
    }
}

/// A section that is being read for [`RestServer::adopt`](super::RestServer::adopt).
pub struct Preparation {
    pub(super) section: Value,
    pub(super) known: Option<Known>,
}

/// A section that has been read.
pub struct Prepared {
    pub(super) section: Value,
    pub(super) active: Box<ActiveConfig>,
}

impl Preparation {
    /// Are all its names known?
    pub fn is_known(&self) -> bool {
        self.known.is_some()
    }

    /// **Blocks** on files, and on the resolver for names that are not known.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn run(self) -> Result<Prepared, StartError> {
        let active = Box::new(ActiveConfig::load(&self.section, self.known)?);
        Ok(Prepared { section: self.section, active })
    }
}

impl ActiveConfig {
    /// **Blocks** on files, and on the resolver unless the names are known.
    pub(super) fn load(section: &Value, known: Option<Known>) -> Result<ActiveConfig, StartError> {
        let (config, address) = match known {
            Some(known) => (ApiConfig::with_allowlist(section, known.allowlist)?, Some(known.address)),
            None => (ApiConfig::from_value(section)?, None),
        };
        // Looked at first: a file that changes meanwhile is then read again.
        let fingerprint = config.tls.as_ref().map(FileFingerprint::of);
        let tls = config.tls.as_ref().map(server_context).transpose()?;
        let address = address.map_or_else(|| listener::resolve(&config), Ok)?;
        Ok(ActiveConfig { config, tls, fingerprint, address })
    }
}

/// A certificate that was replaced is used for the next connections, without a reload
/// (the reference wants one, T10). Files that make no context, because they are just
/// being written or do not belong together, change nothing.
pub(super) async fn watch_tls_files(active: Rc<RefCell<Rc<ActiveConfig>>>) {
    let mut refused: Option<FileFingerprint> = None;
    let mut before: Option<FileFingerprint> = None;
    loop {
        let has_files = active.borrow().config.tls.is_some();
        tokio::time::sleep(if has_files { TLS_CHECK_INTERVAL } else { NO_TLS_CHECK_INTERVAL }).await;
        let old = Rc::clone(&active.borrow());
        let Some(options) = old.config.tls.clone() else { continue };
        let files = options.clone();
        let Ok(fingerprint) = tokio::task::spawn_blocking(move || FileFingerprint::of(&files)).await else {
            return;
        };
        let fingerprint = Some(fingerprint);
        // Only what has stayed the same between two looks is complete.
        let still = std::mem::replace(&mut before, fingerprint.clone()) == fingerprint;
        if !still || fingerprint == old.fingerprint || fingerprint == refused {
            continue;
        }
        let Ok(built) = tokio::task::spawn_blocking(move || server_context(&options)).await else { return };
        if !Rc::ptr_eq(&old, &active.borrow()) {
            continue;
        }
        match built {
            Ok(context) => {
                let (config, address) = (old.config.clone(), old.address);
                *active.borrow_mut() =
                    Rc::new(ActiveConfig { config, tls: Some(context), fingerprint, address });
                tracing::info!(target: "patroni.api", "REST API certificate has changed and is in use");
            }
            Err(error) => {
                tracing::warn!(target: "patroni.api", "REST API keeps its certificate, the new one: {error}");
                refused = fingerprint;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_known_is_not_looked_up_again() {
        let section = |listen: &str, header: &str| {
            let text = format!(
                r#"{{"listen":"{listen}","allowlist":["no.such.host.invalid"],"http_extra_headers":{{"X":"{header}"}}}}"#
            );
            pyfmt::json::loads(&text).unwrap()
        };
        let address: SocketAddr = "127.0.0.3:8008".parse().unwrap();
        let allowlist = vec![IpNet::host(address.ip())];
        let known = Known { section: section("no.such.host.invalid:8008", "1"), address, allowlist };
        let run = |section: Value, known: Option<Known>| {
            let known = known.filter(|known| known.covers(&section));
            Preparation { section, known }
                .run()
                .map(|prepared| (prepared.active.address, prepared.active.config))
        };
        // Something else of the section has changed.
        let (found, config) = run(section("no.such.host.invalid:8008", "2"), Some(known.clone())).unwrap();
        assert_eq!((found, config.allowlist.len()), (address, 1));
        // The name itself, or nothing is known: it is looked up, and there is none.
        assert!(run(section("no.such.host.invalid:8009", "1"), Some(known)).is_err());
        assert!(run(section("no.such.host.invalid:8008", "1"), None).is_err());
    }
}
