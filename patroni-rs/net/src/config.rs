//! What a client of Patroni's REST API takes from the configuration.

use std::path::PathBuf;

use pyfmt::Value;

use crate::{TlsOptions, Verify};

/// Options of an [`HttpClient`](crate::HttpClient).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// TLS.
    pub tls: TlsOptions,
    /// `user:password` for HTTP basic authentication.
    pub basic_auth: Option<String>,
}

/// Shows everything but the passwords.
impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientOptions").field("tls", &self.tls).finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// The options for requests to other nodes, from the sections `ctl` and, for
    /// `auth` and the CA, `restapi` (surface-api-ctl). `restapi.auth` is what the
    /// effective configuration has: `user:password` in one text. `insecure` (an
    /// option of patronictl) goes over `ctl.insecure`.
    ///
    /// With a client certificate, `insecure` still checks the server's chain and
    /// spares only its name; without one, it checks nothing.
    pub fn for_peers(config: &Value, insecure: Option<bool>) -> ClientOptions {
        let text =
            |section: &str, key: &str| config.at(&[section, key]).filter(|v| v.truthy()).map(Value::py_str);
        let insecure = insecure.unwrap_or_else(|| config.at(&["ctl", "insecure"]).is_some_and(Value::truthy));
        let certfile = text("ctl", "certfile").map(PathBuf::from);
        let (keyfile, keyfile_password) = match certfile {
            Some(_) => (text("ctl", "keyfile").map(PathBuf::from), text("ctl", "keyfile_password")),
            None => (None, None),
        };
        let verify = match (insecure, &certfile) {
            (false, _) => Verify::Full,
            (true, Some(_)) => Verify::ChainOnly,
            (true, None) => Verify::Nothing,
        };
        let cafile = text("ctl", "cacert").or_else(|| text("restapi", "cafile")).map(PathBuf::from);
        let tls = TlsOptions { certfile, keyfile, keyfile_password, cafile, verify, ..TlsOptions::default() };
        ClientOptions { tls, basic_auth: text("ctl", "auth").or_else(|| text("restapi", "auth")) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(json: &str, insecure: Option<bool>) -> ClientOptions {
        ClientOptions::for_peers(&pyfmt::json::loads(json).unwrap(), insecure)
    }

    #[test]
    fn sections() {
        let o = options(
            r#"{"ctl":{"keyfile":"k","insecure":true},"restapi":{"auth":"u:p","cafile":"ca","certfile":"x"}}"#,
            None,
        );
        assert_eq!(o.basic_auth.as_deref(), Some("u:p"));
        assert_eq!(o.tls.cafile, Some("ca".into()));
        assert_eq!((o.tls.certfile, o.tls.keyfile), (None, None));
        assert_eq!(o.tls.verify, Verify::Nothing);
        let with_cert = r#"{"ctl":{"certfile":"c","keyfile":"k","cacert":"own","auth":"a:b"},"restapi":{"cafile":"ca","auth":"u:p"}}"#;
        let o = options(with_cert, Some(true));
        assert_eq!((o.tls.keyfile, o.tls.cafile), (Some("k".into()), Some("own".into())));
        assert_eq!((o.tls.verify, o.basic_auth.as_deref()), (Verify::ChainOnly, Some("a:b")));
        assert_eq!(options("{}", None), ClientOptions::default());
        assert_eq!(options(r#"{"ctl":{"insecure":true}}"#, Some(false)).tls.verify, Verify::Full);
    }
}
