//! Nodes by DNS SRV records (RFC 2782), asked of the system's name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::options::node_url;

/// Service names in the order in which they are tried. Those of etcd's peer
/// protocol (`_etcd-server`) name other ports and are not supported here.
const SERVICES: [(&str, &str); 4] =
    [("-client-ssl", "https"), ("-client", "http"), ("-ssl", "https"), ("", "http")];

const SRV: u16 = 33;

/// The URLs that the first service with records gives.
pub async fn nodes(domain: &str, suffix: Option<&str>, timeout: Duration) -> Vec<String> {
    let servers = name_servers().await;
    for (service, protocol) in SERVICES {
        let suffix = suffix.map(|s| format!("-{s}")).unwrap_or_default();
        let name = format!("_etcd{service}{suffix}._tcp.{domain}");
        for server in &servers {
            let Ok(Some(found)) = tokio::time::timeout(timeout, ask(*server, &name)).await else { continue };
            if !found.is_empty() {
                return found.iter().map(|(host, port)| node_url(protocol, host, *port)).collect();
            }
            break;
        }
    }
    tracing::warn!(target: "patroni.dcs.etcd", "Can not resolve SRV for {domain}");
    Vec::new()
}

async fn name_servers() -> Vec<SocketAddr> {
    let text = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers.filter_map(|ip| ip.trim().parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// None: no answer, or one that cannot be read.
async fn ask(server: SocketAddr, name: &str) -> Option<Vec<(String, u16)>> {
    let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await.ok()?;
    socket.connect(server).await.ok()?;
    let id: u16 = rand::random();
    socket.send(&query(id, name)?).await.ok()?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        let answer = buffer.get(..length)?;
        if u16_at(answer, 0) == Some(id) {
            return records(answer);
        }
    }
}

/// A question with an EDNS buffer size, so that long lists fit.
fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).ok().filter(|n| (1..64).contains(n))?);
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, SRV as u8, 0, 1]);
    message.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    Some(message)
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

fn records(message: &[u8]) -> Option<Vec<(String, u16)>> {
    let (questions, answers) = (u16_at(message, 4)?, u16_at(message, 6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name_at(message, at)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = name_at(message, at)?.1;
        let (kind, length) = (u16_at(message, at)?, usize::from(u16_at(message, at + 8)?));
        let data = at + 10;
        if kind == SRV {
            found.push((name_at(message, data + 6)?.0, u16_at(message, data + 4)?));
        }
        at = data + length;
    }
    Some(found)
}

/// A name, and where it ends; pointers lead back only, and not for ever.
fn name_at(message: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut labels) = (start, None, Vec::new());
    for _ in 0..128 {
        match usize::from(*message.get(at)?) {
            0 => return Some((labels.join("."), end.unwrap_or(at + 1))),
            length @ 1..=63 => {
                labels.push(std::str::from_utf8(message.get(at + 1..at + 1 + length)?).ok()?);
                at += 1 + length;
            }
            high @ 192..=255 => {
                end = end.or(Some(at + 2));
                at = (high & 63) << 8 | usize::from(*message.get(at + 1)?);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_pointers() {
        let mut message = query(7, "_etcd._tcp.x").unwrap();
        message.truncate(message.len() - 11);
        message[7] = 1;
        message.extend([
            0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, 12, 0, 1, 0, 2, 0x09, 0x4b, 2, b'e', b'1', 0xc0, 23, 0,
        ]);
        assert_eq!(records(&message), Some(vec![("e1.x".into(), 2379)]));
        for cut in 12..message.len() - 3 {
            let _ = records(&message[..cut]);
        }
        assert_eq!(records(&message[..30]), None);
        let mut endless = message.clone();
        endless[12] = 0xc0;
        endless[13] = 12;
        assert_eq!(records(&endless), None);
    }

    #[tokio::test]
    async fn a_name_server() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (n, peer) = server.recv_from(&mut buffer).await.unwrap();
            let mut answer = buffer[..n - 11].to_vec();
            answer[7] = 1;
            answer[11] = 0;
            answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, 10, 0, 1, 0, 2, 0, 80, 2, b'e', b'2', 0]);
            server.send_to(&answer, peer).await.unwrap();
        });
        assert_eq!(ask(address, "_etcd-client._tcp.d.example").await, Some(vec![("e2".into(), 80)]));
    }
}
