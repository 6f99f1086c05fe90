//! Who may call protected endpoints (surface-api-ctl T8, T12 to T17).

use std::net::IpAddr;

use patroni_net::VerifyClient;

use crate::config::ApiConfig;
use crate::credentials::Credentials;
use crate::http::response::{Full, Response};

/// A network of `allowlist`; host bits may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

impl IpNet {
    /// One address.
    pub fn host(address: IpAddr) -> IpNet {
        IpNet { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// `address/prefix`, or for IPv4 `address/netmask` and `address/hostmask`,
    /// as `ipaddress.ip_network(text, False)`.
    pub fn parse(text: &str) -> Option<IpNet> {
        let (address, suffix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits = !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit());
        let prefix = match (digits, address) {
            (true, _) => suffix.parse::<u8>().ok()?,
            (false, IpAddr::V4(_)) => mask_prefix(u32::from(suffix.parse::<std::net::Ipv4Addr>().ok()?))?,
            (false, IpAddr::V6(_)) => return None,
        };
        (prefix <= IpNet::host(address).prefix).then_some(IpNet { address, prefix })
    }

    /// Is the address in this network? Families never match each other.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix);
                u32::from(net).checked_shr(shift) == u32::from(ip).checked_shr(shift)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix);
                u128::from(net).checked_shr(shift) == u128::from(ip).checked_shr(shift)
            }
            _ => false,
        }
    }
}

/// Prefix length of a netmask, or of its inverse.
fn mask_prefix(mask: u32) -> Option<u8> {
    let ones = mask.leading_ones();
    if mask.count_ones() == ones {
        return u8::try_from(ones).ok();
    }
    let zeros = mask.leading_zeros();
    (mask.count_zeros() == zeros).then(|| u8::try_from(zeros).ok()).flatten()
}

/// What a client shows of itself.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Source address.
    pub ip: IpAddr,
    /// It showed a client certificate that was verified.
    pub verified: bool,
    /// `Authorization`, if sent.
    pub authorization: Option<&'a str>,
}

/// Checks source address, certificate and password, in this order (T13).
/// `members`: addresses of the members where they count (T14, T16), else None.
///
/// # Errors
/// The refusal to send.
pub fn check(config: &ApiConfig, caller: Caller<'_>, members: Option<&[IpAddr]>) -> Result<(), Response> {
    let limited = !config.allowlist.is_empty() || members.is_some();
    let known = || {
        config.allowlist.iter().any(|net| net.contains(caller.ip))
            || members.is_some_and(|list| list.contains(&caller.ip))
    };
    if limited && !known() {
        return Err(Response::text(403, "Access is denied"));
    }
    let asked = config.tls.as_ref().is_some_and(|tls| tls.verify_client != VerifyClient::None);
    if asked && !caller.verified {
        return Err(Response::text(403, "client certificate required"));
    }
    match &config.auth {
        Some(ours) => check_password(ours, caller.authorization).map_err(unauthorized),
        None => Ok(()),
    }
}

fn check_password(ours: &Credentials, header: Option<&str>) -> Result<(), &'static str> {
    let header = header.ok_or("no auth header received")?;
    let given = header.strip_prefix("Basic ").ok_or("not authenticated")?;
    if ours.are(given) {
        Ok(())
    } else {
        Err("not authenticated")
    }
}

fn unauthorized(reason: &str) -> Response {
    Response::Full(Box::new(Full {
        code: 401,
        content_type: "text/html",
        headers: vec![("WWW-Authenticate", "Basic realm=\"Patroni\"".to_owned())],
        body: reason.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use pyfmt::Value;

    #[test]
    fn networks() {
        for (net, ip, expected) in [
            ("10.0.0.1/8", "10.9.9.9", Some(true)),
            ("10.0.0.0/8", "11.0.0.1", Some(false)),
            ("0.0.0.0/0", "1.2.3.4", Some(true)),
            ("0.0.0.0/0", "::1", Some(false)),
            ("::/0", "::1", Some(true)),
            ("fe80::/10", "fe81::1", Some(true)),
            ("10.0.0.0/255.0.0.0", "10.1.1.1", Some(true)),
            ("10.0.0.0/0.255.255.255", "10.1.1.1", Some(true)),
            ("10.0.0.0/255.0.255.0", "10.1.1.1", None),
            ("10.0.0.0/33", "10.1.1.1", None),
            ("bad/cidr", "10.1.1.1", None),
            ("127.0.0.1/32", "::ffff:127.0.0.1", Some(false)),
        ] {
            let found = IpNet::parse(net).map(|n| n.contains(ip.parse().unwrap()));
            assert_eq!(found, expected, "{net} {ip}");
        }
    }

    #[test]
    fn order_of_checks() {
        let base = Value::from_iter([("listen", Value::from("127.0.0.1:1"))]);
        let with = |key: &str, value: Value| {
            let mut section = base.clone();
            section.set(key, value);
            section.set("auth", "u:p");
            ApiConfig::from_value(&section).unwrap()
        };
        let nets = with("allowlist", Value::List(vec!["10.0.0.0/8".into()]));
        let open = with("allowlist", Value::List(vec![]));
        let certs = {
            let mut section =
                Value::from_iter([("listen", "127.0.0.1:1"), ("certfile", "/c"), ("auth", "u:p")]);
            section.set("verify_client", "required");
            ApiConfig::from_value(&section).unwrap()
        };
        let ip: IpAddr = "10.1.1.1".parse().unwrap();
        let other: IpAddr = "192.168.1.1".parse().unwrap();
        let ok = Some("Basic dTpw");
        for (config, ip, verified, authorization, members, expected) in [
            (&nets, other, false, ok, None, Some((403, "Access is denied"))),
            (&nets, ip, false, ok, None, None),
            (&nets, other, false, ok, Some(vec![other]), None),
            (&open, other, false, ok, Some(vec![]), Some((403, "Access is denied"))),
            (&open, other, false, ok, None, None),
            (&open, ip, false, None, None, Some((401, "no auth header received"))),
            (&open, ip, false, Some("basic dTpw"), None, Some((401, "not authenticated"))),
            (&open, ip, false, Some("Basic dTpx"), None, Some((401, "not authenticated"))),
            (&certs, ip, false, None, None, Some((403, "client certificate required"))),
            (&certs, ip, true, None, None, Some((401, "no auth header received"))),
            (&certs, ip, true, ok, None, None),
        ] {
            let found = check(config, Caller { ip, verified, authorization }, members.as_deref());
            let found = found.err().map(|r| match r {
                Response::Full(f) => (f.code, f.body),
                other => panic!("{other:?}"),
            });
            assert_eq!(found, expected.map(|(c, t)| (c, t.to_owned())));
        }
    }
}
