//! Options of the section `zookeeper` (surface-dcs 13).

use std::path::PathBuf;
use std::sync::Arc;

use patroni_net::{TlsOptions, Verify};
use pyfmt::Value;

use super::proto::Acl;
use crate::address;
use crate::DcsError;

const DEFAULT_PORT: u16 = 2181;

/// Who we say we are.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A scheme and what it takes, `digest` and `user:password`.
    Scheme(String, String),
    /// User and password for SASL DIGEST-MD5.
    Sasl(String, String),
}

/// Options of a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// The servers.
    pub hosts: Vec<(String, u16)>,
    /// Before each path; no slash at the end.
    pub chroot: String,
    /// TLS, if it is on.
    pub tls: Option<TlsOptions>,
    /// Told to the server after connecting, in this order.
    pub credentials: Vec<Credential>,
    /// Of all znodes that we make.
    pub acl: Arc<[Acl]>,
}

/// Shows no credentials.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("hosts", &self.hosts).field("tls", &self.tls).finish_non_exhaustive()
    }
}

fn bad(text: String) -> DcsError {
    DcsError::Config(text)
}

impl Options {
    /// Reads a section.
    ///
    /// # Errors
    /// No servers, or something that is not what it should be.
    pub fn from_section(section: &Value) -> Result<Options, DcsError> {
        let hosts = match section.get("hosts") {
            list @ Some(Value::List(_)) => address::hosts(list, "zookeeper.hosts").0.join(","),
            Some(hosts) if hosts.truthy() => hosts.py_str(),
            _ => String::new(),
        };
        let (hosts, chroot) = parse_hosts(&hosts)?;
        let on = |key: &str| section.get(key).map(Value::truthy);
        Ok(Options {
            hosts,
            chroot,
            tls: on("use_ssl").unwrap_or(false).then(|| tls(section)),
            credentials: credentials(section.get("auth_data"))?,
            acl: acl(section.get("set_acls"))?,
        })
    }
}

/// `host[:port],..[/chroot]`.
///
/// # Errors
/// No host, or a port that is no number.
pub fn parse_hosts(text: &str) -> Result<(Vec<(String, u16)>, String), DcsError> {
    if text.contains("://") {
        return Err(no_server(text));
    }
    let (hosts, chroot) = text.split_once('/').unwrap_or((text, ""));
    let hosts = hosts.split(',').map(parse_host).collect::<Result<Vec<_>, _>>()?;
    let chroot: String =
        chroot.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect();
    Ok((hosts, chroot))
}

fn no_server(text: &str) -> DcsError {
    let got = pyfmt::value::str_repr(text);
    bad(format!("expected <HOST>:<PORT> of a ZooKeeper server, but got {got}"))
}

fn parse_host(text: &str) -> Result<(String, u16), DcsError> {
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
        None => text.split_once(':').unwrap_or((text, "")),
    };
    if host.is_empty() {
        return Err(bad("ValueError: bad hostname".into()));
    }
    if !address::is_host(host) {
        return Err(no_server(text));
    }
    let port = match port {
        "" | "0" => DEFAULT_PORT,
        port => {
            port.parse().map_err(|_| bad(format!("ValueError: bad port of a ZooKeeper server: {text}")))?
        }
    };
    Ok((host.to_lowercase(), port))
}

/// kazoo does not check host names, and takes a certificate only together with a key.
fn tls(section: &Value) -> TlsOptions {
    let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
    let own = text("cert").zip(text("key"));
    let verify = section.get("verify").is_none_or(Value::truthy);
    TlsOptions {
        certfile: own.as_ref().map(|(cert, _)| PathBuf::from(cert)),
        keyfile: own.as_ref().map(|(_, key)| PathBuf::from(key)),
        keyfile_password: own.and(text("key_password")),
        cafile: text("cacert").map(PathBuf::from),
        verify: if verify { Verify::ChainOnly } else { Verify::Nothing },
        ..TlsOptions::default()
    }
}

/// The ways to say who we are, one after the other. A connection may have any number of digests, of which each gives its
/// rights, so that those of before go along; but one user for SASL, which servers believe or not.
pub fn ways_to_say_who_we_are(now: &[Credential], former: &[Credential]) -> Vec<Vec<Credential>> {
    let is_sasl = |credential: &&Credential| matches!(credential, Credential::Sasl(..));
    let digests = former.iter().filter(|c| matches!(c, Credential::Scheme(scheme, _) if scheme == "digest"));
    let first: Vec<Credential> = now.iter().chain(digests).cloned().collect();
    let with = |sasl: &Credential| {
        let others = first.iter().filter(|c| !is_sasl(c));
        others.chain([sasl]).cloned().collect()
    };
    let more: Vec<_> = former.iter().filter(is_sasl).map(with).collect();
    [first].into_iter().chain(more).collect()
}

fn credentials(auth_data: Option<&Value>) -> Result<Vec<Credential>, DcsError> {
    let Some(map) = auth_data.filter(|v| v.truthy()) else { return Ok(Vec::new()) };
    let Value::Map(map) = map else {
        return Err(bad(
            "'auth_data' of the zookeeper section is not a mapping of schemes to credentials".into()
        ));
    };
    let credential = |(scheme, value): (&Value, &Value)| {
        let scheme = scheme.py_str();
        let text = value.py_str();
        if scheme != "sasl" {
            return Ok(Credential::Scheme(scheme, text));
        }
        match text.split_once(':').filter(|(_, password)| !password.contains(':')) {
            Some((user, password)) => Ok(Credential::Sasl(user.to_owned(), password.to_owned())),
            None => {
                Err(bad("'auth_data.sasl' of the zookeeper section is not of the form user:password".into()))
            }
        }
    };
    map.iter().map(credential).collect()
}

/// Principals of client certificates, and what each may; without any the whole world may everything.
fn acl(set_acls: Option<&Value>) -> Result<Arc<[Acl]>, DcsError> {
    let Some(map) = set_acls.filter(|v| v.truthy()) else {
        return Ok(Arc::new([Acl { permissions: 31, scheme: "world".into(), id: "anyone".into() }]));
    };
    let Value::Map(map) = map else {
        return Err(bad(
            "'set_acls' of the zookeeper section is not a mapping of principals to permissions".into()
        ));
    };
    let entry = |(principal, words): (&Value, &Value)| {
        let words = match words {
            Value::List(words) => words.iter().map(|word| word.py_str().to_uppercase()).collect::<Vec<_>>(),
            // Python walks over the letters of a text, of which none is a permission.
            _ => Vec::new(),
        };
        let permissions = words.iter().fold(0, |all, word| all | permission(word));
        Acl { permissions, scheme: "x509".into(), id: principal.py_str() }
    };
    Ok(map.iter().map(entry).collect())
}

fn permission(word: &str) -> i32 {
    match word {
        "READ" => 1,
        "WRITE" => 2,
        "CREATE" => 4,
        "DELETE" => 8,
        "ADMIN" => 16,
        "ALL" => 31,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn section(json: &str) -> Value {
        pyfmt::json::loads(json).unwrap()
    }

    #[test]
    fn hosts() {
        for (text, hosts, chroot) in [
            ("a:2181,b:2182", vec![("a", 2181), ("b", 2182)], ""),
            ("A , b:1/x/y/", vec![("a", 2181), ("b", 1)], "/x/y"),
            ("[::1]:99,[fe80::2]", vec![("::1", 99), ("fe80::2", 2181)], ""),
        ] {
            let hosts: Vec<_> = hosts.into_iter().map(|(host, port)| (host.to_owned(), port)).collect();
            assert_eq!(parse_hosts(text), Ok((hosts, chroot.to_owned())), "{text}");
        }
        for text in ["", "a:2181,", ":1", "a:b", "a:99999"] {
            assert!(parse_hosts(text).is_err(), "{text}");
        }
        let list = Options::from_section(&section(r#"{"hosts":["a:1","b"]}"#)).unwrap();
        assert_eq!(list.hosts, [("a".to_owned(), 1), ("b".to_owned(), 2181)]);
        assert_eq!((list.tls, list.credentials.len(), list.acl.len()), (None, 0, 1));
    }

    #[test]
    fn what_is_no_server() {
        let mixed = Options::from_section(&section(r#"{"hosts":[null,"a:1",5,true," "]}"#)).unwrap();
        assert_eq!(mixed.hosts, [("a".to_owned(), 1)]);
        for bad in [
            r#"{"hosts":[null,5]}"#,
            r#"{"hosts":"http://a:1"}"#,
            r#"{"hosts":["a:1","https://b"]}"#,
            r#"{"hosts":"[127.0.0.1:2181]"}"#,
        ] {
            assert!(Options::from_section(&section(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls_as_kazoo_has_it() {
        let tls = |json: &str| Options::from_section(&section(json)).unwrap().tls;
        let all =
            tls(r#"{"hosts":"a","use_ssl":true,"cacert":"ca","cert":"c","key":"k","key_password":"p"}"#)
                .unwrap();
        assert_eq!(
            (all.verify, all.cafile, all.certfile),
            (Verify::ChainOnly, Some("ca".into()), Some("c".into()))
        );
        assert_eq!((all.keyfile, all.keyfile_password.as_deref()), (Some("k".into()), Some("p")));
        let none = tls(r#"{"hosts":"a","use_ssl":true,"verify":false,"cert":"c"}"#).unwrap();
        assert_eq!((none.verify, none.certfile), (Verify::Nothing, None));
        assert_eq!(tls(r#"{"hosts":"a","cacert":"ca"}"#), None);
        // From the environment it is text.
        assert!(tls(r#"{"hosts":"a","use_ssl":"true"}"#).is_some());
    }

    #[test]
    fn who_we_are_after_changes() {
        let digest = |text: &str| Credential::Scheme("digest".into(), text.into());
        let sasl = |user: &str| Credential::Sasl(user.into(), "p".into());
        let ip = Credential::Scheme("ip".into(), "x".into());
        let ways = ways_to_say_who_we_are;
        assert!(ways(&[], &[]) == vec![vec![]]);
        assert!(ways(&[digest("a")], &[]) == vec![vec![digest("a")]]);
        assert!(ways(&[digest("b")], &[digest("a"), ip.clone()]) == vec![vec![digest("b"), digest("a")]]);
        let former = [sasl("b"), digest("a"), sasl("a")];
        let want = vec![
            vec![sasl("c"), ip.clone(), digest("a")],
            vec![ip.clone(), digest("a"), sasl("b")],
            vec![ip.clone(), digest("a"), sasl("a")],
        ];
        assert!(ways(&[sasl("c"), ip], &former) == want);
    }

    #[test]
    fn who_we_are_and_who_may() {
        let options = Options::from_section(&section(
            r#"{"hosts":"a","auth_data":{"digest":"u:p","sasl":"u:q"},
                "set_acls":{"CN=a":["create","READ","Write"],"CN=b":["ALL"],"CN=c":"ALL"}}"#,
        ))
        .unwrap();
        let want =
            [Credential::Scheme("digest".into(), "u:p".into()), Credential::Sasl("u".into(), "q".into())];
        assert!(options.credentials == want);
        assert!(!format!("{options:?}").contains("u:p"));
        let acl: Vec<_> =
            options.acl.iter().map(|acl| (acl.id.as_str(), acl.scheme.as_str(), acl.permissions)).collect();
        assert_eq!(acl, [("CN=a", "x509", 7), ("CN=b", "x509", 31), ("CN=c", "x509", 0)]);
        for bad in [r#"{"sasl":"u"}"#, r#"{"sasl":"u:p:q"}"#, r#""text""#] {
            assert!(
                Options::from_section(&section(&format!(r#"{{"hosts":"a","auth_data":{bad}}}"#))).is_err()
            );
        }
    }
}
