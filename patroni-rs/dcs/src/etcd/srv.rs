//! Nodes by DNS SRV records (RFC 2782), asked of the system's name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use patroni_net::{ClientOptions, HttpClient, TlsOptions, Verify};
use pyfmt::{json, Value};
use tokio::net::UdpSocket;

use super::options::node_url;

/// Service names in the order in which they are tried. Those of etcd's peer protocol name other ports: who listens there
/// is asked for the members.
const SERVICES: [&str; 6] = ["-client-ssl", "-client", "-ssl", "", "-server-ssl", "-server"];

/// A name server that has not answered by then is left for the next.
const PATIENCE: Duration = Duration::from_secs(2);

const SRV: u16 = 33;

/// The URLs that the first service with records gives, which takes no longer than `timeout`.
pub async fn nodes(
    servers: &[SocketAddr],
    domain: &str,
    suffix: Option<&str>,
    timeout: Duration,
) -> Vec<String> {
    let deadline = Instant::now() + timeout;
    let left = || deadline.saturating_duration_since(Instant::now());
    for service in SERVICES {
        let protocol = if service.ends_with("-ssl") { "https" } else { "http" };
        let suffix = suffix.map(|s| format!("-{s}")).unwrap_or_default();
        let name = format!("_etcd{service}{suffix}._tcp.{domain}");
        for server in servers {
            let answer = tokio::time::timeout(left().min(PATIENCE), ask(*server, &name)).await;
            let Ok(Some(found)) = answer else { continue };
            let mut urls: Vec<String> =
                found.iter().map(|(host, port)| node_url(protocol, host, *port)).collect();
            if service.starts_with("-server") {
                urls = members(&urls, left()).await;
            }
            if !urls.is_empty() {
                return urls;
            }
            break;
        }
    }
    tracing::warn!(target: "patroni.dcs.etcd", "Can not resolve SRV for {domain}");
    Vec::new()
}

/// The client URLs of the members that the first of these peers tells of. As in the reference no certificate is
/// checked: what is found is asked over a connection that checks them.
async fn members(peers: &[String], timeout: Duration) -> Vec<String> {
    let tls = TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
    let Ok(client) = HttpClient::lazy(&ClientOptions { tls, basic_auth: None }) else { return Vec::new() };
    let each = timeout / u32::try_from(peers.len().max(1)).unwrap_or(u32::MAX);
    for peer in peers {
        let url = format!("{peer}/members");
        match client.request("GET", &url, &[], Vec::new(), each).await {
            Ok(answer) if answer.status < 400 => match client_urls(&answer.text()) {
                Some(urls) if !urls.is_empty() => return urls,
                _ => tracing::error!(target: "patroni.dcs.etcd", "GET {url}: no list of members"),
            },
            Ok(answer) => tracing::debug!(target: "patroni.dcs.etcd", "GET {url}: {}", answer.status),
            Err(e) => tracing::error!(target: "patroni.dcs.etcd", "GET {url}: {e}"),
        }
    }
    Vec::new()
}

/// Of a list of members as etcd's peers give it.
fn client_urls(text: &str) -> Option<Vec<String>> {
    let members = json::loads(text).ok()?;
    let of = |member: &Value| member.get("clientURLs").and_then(Value::as_list).map(<[Value]>::to_vec);
    let urls = members.as_list()?.iter().filter_map(of).flatten();
    Some(urls.filter_map(|url| url.as_str().map(str::to_owned)).collect())
}

/// Those of the system.
pub async fn name_servers() -> Vec<SocketAddr> {
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

    /// A name server that knows one name, and answers all others with no records.
    async fn knows(name: &'static str, host: &'static str, port: u16) -> SocketAddr {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((n, peer)) = server.recv_from(&mut buffer).await {
                let asked = name_at(&buffer[..n], 12).unwrap().0;
                let mut answer = buffer[..n - 11].to_vec();
                answer[11] = 0;
                if asked == name {
                    answer[7] = 1;
                    let labels =
                        host.split('.').map(|l| [vec![l.len() as u8], l.as_bytes().to_vec()].concat());
                    let target: Vec<u8> = labels.flatten().collect();
                    answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, target.len() as u8 + 7, 0, 1, 0, 2]);
                    answer.extend(port.to_be_bytes());
                    answer.extend(target);
                    answer.push(0);
                }
                server.send_to(&answer, peer).await.unwrap();
            }
        });
        address
    }

    /// Answers every request for the members with that body, as long as the test runs.
    fn serves(body: &'static str) -> u16 {
        use std::io::{Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).unwrap_or(0);
                let known = buffer[..n].starts_with(b"GET /members ");
                let status = if known { "200 OK" } else { "404 Not Found" };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        port
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_of_peers_alone() {
        let timeout = Duration::from_secs(5);
        let members = r#"[{"id":1,"name":"a","clientURLs":["http://a:2379"]},{"id":2,"clientURLs":["http://b:2379","http://c:1"]}]"#;
        let port = serves(members);
        let want = ["http://a:2379", "http://b:2379", "http://c:1"];
        let server = knows("_etcd-server._tcp.d.example", "127.0.0.1", port).await;
        assert_eq!(nodes(&[server], "d.example", None, timeout).await, want);
        let server = knows("_etcd-server-x._tcp.d.example", "127.0.0.1", port).await;
        assert_eq!(nodes(&[server], "d.example", Some("x"), timeout).await, want);
        assert!(nodes(&[server], "d.example", None, timeout).await.is_empty());
        // Nobody there who knows: no nodes, in time.
        for port in [serves("{}"), serves("[]"), serves("x"), 1] {
            let server = knows("_etcd-server._tcp.d.example", "127.0.0.1", port).await;
            assert!(nodes(&[server], "d.example", None, timeout).await.is_empty());
        }
        // A client's name goes before, and is not asked for members.
        let server = knows("_etcd-client-ssl._tcp.d.example", "e", 7).await;
        assert_eq!(nodes(&[server], "d.example", None, timeout).await, ["https://e:7"]);
        // A name server that is silent is left.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let both = [silent.local_addr().unwrap(), server];
        assert_eq!(nodes(&both, "d.example", None, timeout).await, ["https://e:7"]);
        let began = Instant::now();
        assert!(nodes(&both[..1], "d.example", None, Duration::from_secs(1)).await.is_empty());
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
