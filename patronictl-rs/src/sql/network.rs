//! Addresses and networks, as Python's `ipaddress` prints them.

use std::net::Ipv6Addr;

use super::object::Object;

/// Of `inet`: an interface if its network is told.
pub fn inet(text: &str) -> Object {
    let class = match (text.contains(':'), text.contains('/')) {
        (false, false) => "IPv4Address",
        (false, true) => "IPv4Interface",
        (true, false) => "IPv6Address",
        (true, true) => "IPv6Interface",
    };
    Object::called(class, python(text))
}

/// Of `cidr`.
pub fn cidr(text: &str) -> Object {
    let class = if text.contains(':') { "IPv6Network" } else { "IPv4Network" };
    Object::called(class, python(text))
}

/// Python writes all of an IPv6 address in hexadecimal.
fn python(text: &str) -> String {
    let (address, rest) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    match address.parse::<Ipv6Addr>() {
        Ok(address) => format!("{}{rest}", compressed(address.segments())),
        Err(_) => text.to_owned(),
    }
}

/// `::` for the first of the longest runs of zeros, of two at least.
fn compressed(parts: [u16; 8]) -> String {
    let run = |start: usize| parts.iter().skip(start).take_while(|part| **part == 0).count();
    let mut best = (0, 0);
    for start in 0..parts.len() {
        let length = run(start);
        if length > 1 && length > best.1 {
            best = (start, length);
        }
    }
    let hex = |parts: &[u16]| parts.iter().map(|part| format!("{part:x}")).collect::<Vec<_>>().join(":");
    match best {
        (_, 0) => hex(&parts),
        (start, length) => {
            let (before, after) = (parts.get(..start), parts.get(start + length..));
            format!("{}::{}", hex(before.unwrap_or_default()), hex(after.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (object, repr) in [
            (inet("10.0.0.1"), "IPv4Address('10.0.0.1')"),
            (inet("10.0.0.1/8"), "IPv4Interface('10.0.0.1/8')"),
            (inet("::ffff:1.2.3.4"), "IPv6Address('::ffff:102:304')"),
            (inet("1:0:2::3/64"), "IPv6Interface('1:0:2::3/64')"),
            (inet("1:0:2:3:4:5:6:7"), "IPv6Address('1:0:2:3:4:5:6:7')"),
            (cidr("2001:db8::/32"), "IPv6Network('2001:db8::/32')"),
            (cidr("10.0.0.0/8"), "IPv4Network('10.0.0.0/8')"),
        ] {
            assert_eq!(object.repr(), repr);
        }
    }
}
