//! Checks that connect to an address. A connection that succeeds proves that
//! somebody listens there, which is good or bad as the setting has it.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use patroni_core::parse::split_host_port;
use pyfmt::{oserror, Value};

/// The reference waits as long as the kernel does, two minutes and more.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Does somebody listen on `host:port` (port 1 when absent)?
pub(super) fn reachable(address: &Value) -> Result<(), String> {
    let Some(text) = address.as_str() else {
        return Err(format!("'{}' object has no attribute 'rsplit'", address.type_name()));
    };
    let (host, port) = split(text)?;
    for host in expand(vec![host])? {
        if !connects(&host, port)? {
            return Err(format!("{text} is not reachable"));
        }
    }
    Ok(())
}

/// Is `host:port`, or `host,host:port` if there may be `several` hosts, free to
/// be listened on?
pub(super) fn free(text: &str, several: bool, ignore_port: bool) -> Result<(), String> {
    let (hosts, port) = split(text)?;
    let hosts = if several { hosts.split(',').map(str::to_owned).collect() } else { vec![hosts] };
    for host in expand(hosts)? {
        if connects(&host, port)? && !ignore_port {
            return Err(format!("Port {port} is already in use."));
        }
    }
    Ok(())
}

fn split(text: &str) -> Result<(String, i64), String> {
    split_host_port(text, 1).map_err(|_| "contains a wrong value".to_owned())
}

/// `*` stands for the wildcard addresses of both families.
fn expand(hosts: Vec<String>) -> Result<Vec<String>, String> {
    if !hosts.iter().any(|h| h == "*") {
        return Ok(hosts);
    }
    if hosts.len() != 1 {
        return Err("expecting '*' alone".to_owned());
    }
    Ok(vec!["0.0.0.0".to_owned(), "::".to_owned()])
}

fn connects(host: &str, port: i64) -> Result<bool, String> {
    let addresses = resolve(host)?;
    let port = u16::try_from(port).map_err(|_| "connect_ex(): port must be 0-65535.".to_owned())?;
    let first = addresses.first().map(|address| SocketAddr::new(address.ip(), port));
    Ok(first.is_some_and(|address| TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()))
}

/// The addresses of a host; the error is that of Python's `socket.getaddrinfo`.
pub(crate) fn resolve(host: &str) -> Result<Vec<SocketAddr>, String> {
    if let Some(reason) = not_idna(host) {
        return Err(format!("encoding with 'idna' codec failed (UnicodeError: {reason})"));
    }
    let ascii = idna(host);
    let found = (ascii.as_str(), 0).to_socket_addrs().map_err(|e| oserror::resolver(&e))?;
    Ok(found.collect())
}

/// Why Python's `idna` codec refuses an ASCII name.
fn not_idna(host: &str) -> Option<&'static str> {
    let labels: Vec<&str> = host.split('.').collect();
    let (last, leading) = labels.split_last()?;
    if leading.iter().any(|l| l.is_empty() || l.len() >= 64) {
        return Some("label empty or too long");
    }
    (last.len() >= 64).then_some("label too long")
}

/// The name as it goes over the wire: Python encodes it before it asks.
fn idna(host: &str) -> String {
    let label = |label: &str| {
        if label.is_ascii() {
            return label.to_owned();
        }
        format!("xn--{}", punycode(&label.to_lowercase().replace('ß', "ss")))
    };
    host.split(['.', '\u{3002}', '\u{ff0e}', '\u{ff61}']).map(label).collect::<Vec<_>>().join(".")
}

/// A label of a host name in ASCII, without `xn--` (RFC 3492).
fn punycode(label: &str) -> String {
    let digit = |d: u32| char::from(if d < 26 { b'a' + d as u8 } else { b'0' + (d - 26) as u8 });
    let mut out: String = label.chars().filter(char::is_ascii).collect();
    let basic = out.len() as u32;
    let (mut handled, mut next, mut delta, mut bias) = (basic, 0x80_u32, 0_u32, 72_u32);
    if basic > 0 {
        out.push('-');
    }
    while let Some(smallest) = label.chars().map(u32::from).filter(|c| *c >= next).min() {
        delta = delta.saturating_add((smallest - next).saturating_mul(handled + 1));
        next = smallest;
        for c in label.chars().map(u32::from) {
            if c < next {
                delta += 1;
            }
            if c != next {
                continue;
            }
            let (mut q, mut k) = (delta, 36_u32);
            loop {
                let t = k.saturating_sub(bias).clamp(1, 26);
                if q < t {
                    break;
                }
                out.push(digit(t + (q - t) % (36 - t)));
                q = (q - t) / (36 - t);
                k += 36;
            }
            out.push(digit(q));
            bias = adapt(delta, handled + 1, handled == basic);
            delta = 0;
            handled += 1;
        }
        delta += 1;
        next += 1;
    }
    out
}

fn adapt(delta: u32, points: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / points;
    let mut k = 0;
    while delta > 455 {
        delta /= 35;
        k += 36;
    }
    k + 36 * delta / (delta + 38)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_use_and_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        assert_eq!(free(&address, false, false), Err(format!("Port {port} is already in use.")));
        assert_eq!(free(&address, false, true), Ok(()));
        assert_eq!(reachable(&address.as_str().into()), Ok(()));
        drop(listener);
        assert_eq!(free(&address, true, false), Ok(()));
        assert_eq!(reachable(&address.as_str().into()), Err(format!("{address} is not reachable")));
    }

    /// Each was asked of Python's codec.
    #[test]
    fn names_that_are_not_ascii() {
        for (host, want) in [
            ("größe.example", "xn--grsse-kua.example"),
            ("é", "xn--9ca"),
            ("Bücher", "xn--bcher-kva"),
            ("пг-узел", "xn----etbhhvt4a"),
            ("db。lan", "db.lan"),
        ] {
            assert_eq!(idna(host), want);
        }
    }

    #[test]
    fn wrong_addresses() {
        for (text, reason) in [
            ("127.0.0.1:70000", "connect_ex(): port must be 0-65535."),
            ("*,127.0.0.1:1", "expecting '*' alone"),
            ("127.0.0.1:x", "contains a wrong value"),
            ("a..b:1", "encoding with 'idna' codec failed (UnicodeError: label empty or too long)"),
        ] {
            assert_eq!(free(text, true, false), Err(reason.to_owned()), "{text}");
        }
        assert_eq!(reachable(&Value::Int(5)), Err("'int' object has no attribute 'rsplit'".to_owned()));
    }
}
