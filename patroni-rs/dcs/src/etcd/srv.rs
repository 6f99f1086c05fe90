//! Nodes by DNS SRV records (RFC 2782), asked of the system's name servers.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use patroni_net::{ClientOptions, HttpClient, TlsOptions, Verify};
use pyfmt::{json, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::options::node_url;

/// Service names in the order in which they are tried. Those of etcd's peer protocol name other ports: who listens there
/// is asked for the members.
const SERVICES: [&str; 6] = ["-client-ssl", "-client", "-ssl", "", "-server-ssl", "-server"];

/// A name server that has not answered by then is left for the next.
const PATIENCE: Duration = Duration::from_secs(2);

const SRV: u16 = 33;
/// Of the flags in the header of an answer.
const TRUNCATED: u16 = 0x200;
/// A code of an answer.
const NO_SUCH_NAME: u16 = 3;

/// Whom to ask for names, and how a name is completed that does not end with a dot (resolv.conf(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    patience: Duration,
}

impl Resolver {
    /// That of the system.
    pub async fn of_system() -> Resolver {
        let read = |path| async move { tokio::fs::read_to_string(path).await.unwrap_or_default() };
        Resolver::parse(&read("/etc/resolv.conf").await, &read("/proc/sys/kernel/hostname").await)
    }

    fn parse(text: &str, host: &str) -> Resolver {
        let domain = host.trim().split_once('.').map(|(_, domain)| domain.to_owned());
        let search = domain.into_iter().collect();
        let mut resolver = Resolver { servers: Vec::new(), search, ndots: 1, patience: PATIENCE };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(
                    words.next().and_then(|ip| ip.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)),
                ),
                // The last one counts.
                Some("search") => resolver.search = words.map(str::to_owned).collect(),
                Some("domain") => resolver.search = words.next().map(str::to_owned).into_iter().collect(),
                Some("options") => {
                    words
                        .filter_map(|word| word.strip_prefix("ndots:")?.parse().ok())
                        .for_each(|given| resolver.ndots = given);
                }
                _ => {}
            }
        }
        resolver
    }

    /// The names to ask for, one after the other.
    fn full_names(&self, name: &str) -> Vec<String> {
        let mut names = Vec::new();
        if !name.ends_with('.') {
            names.extend(self.search.iter().map(|suffix| format!("{name}.{suffix}")));
        }
        let dots = name.matches('.').count();
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, name.to_owned());
        names
    }

    /// The records of a name; none where nobody has any.
    async fn records(&self, name: &str, deadline: Instant) -> Vec<(String, u16)> {
        'names: for name in self.full_names(name) {
            for server in &self.servers {
                let left = deadline.saturating_duration_since(Instant::now());
                match tokio::time::timeout(left.min(self.patience), ask(*server, &name)).await {
                    Ok(Some(Found::Records(found))) => return found,
                    Ok(Some(Found::NoSuchName)) => continue 'names,
                    // The next server may know.
                    Ok(None) | Err(_) => {}
                }
            }
        }
        Vec::new()
    }
}

/// The URLs that the first service with records gives, which takes no longer than `timeout`.
pub async fn nodes(
    resolver: &Resolver,
    domain: &str,
    suffix: Option<&str>,
    timeout: Duration,
) -> Vec<String> {
    let deadline = Instant::now() + timeout;
    for service in SERVICES {
        let protocol = if service.ends_with("-ssl") { "https" } else { "http" };
        let suffix = suffix.map(|s| format!("-{s}")).unwrap_or_default();
        let name = format!("_etcd{service}{suffix}._tcp.{domain}");
        let found = resolver.records(&name, deadline).await;
        let mut urls: Vec<String> =
            found.iter().map(|(host, port)| node_url(protocol, host, *port)).collect();
        if service.starts_with("-server") {
            urls = members(&urls, deadline.saturating_duration_since(Instant::now())).await;
        }
        if !urls.is_empty() {
            return urls;
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

/// What a name server says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    /// Its records; none where it has others.
    Records(Vec<(String, u16)>),
    NoSuchName,
}

/// None: no answer, or one that does not say.
async fn ask(server: SocketAddr, name: &str) -> Option<Found> {
    let local = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).await.ok()?;
    socket.connect(server).await.ok()?;
    let id: u16 = rand::random();
    let query = query(id, name)?;
    socket.send(&query).await.ok()?;
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.ok()?;
        let answer = buffer.get(..length)?;
        if u16_at(answer, 0) == Some(id) {
            return match u16_at(answer, 2)? & TRUNCATED {
                0 => found(answer),
                _ => found(&ask_by_tcp(server, &query).await?),
            };
        }
    }
}

/// For an answer that no datagram can hold.
async fn ask_by_tcp(server: SocketAddr, query: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await.ok()?;
    stream.write_all(&[&u16::try_from(query.len()).ok()?.to_be_bytes(), query].concat()).await.ok()?;
    let mut answer = vec![0; usize::from(stream.read_u16().await.ok()?)];
    stream.read_exact(&mut answer).await.ok()?;
    Some(answer).filter(|answer| answer.get(..2) == query.get(..2))
}

/// A server that fails or refuses says nothing of the name.
fn found(answer: &[u8]) -> Option<Found> {
    match u16_at(answer, 2)? & 15 {
        0 => records(answer).map(Found::Records),
        NO_SUCH_NAME => Some(Found::NoSuchName),
        _ => None,
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

/// A name, and where it ends; pointers lead back only, and not forever.
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
        let found = ask(address, "_etcd-client._tcp.d.example").await;
        assert_eq!(found, Some(Found::Records(vec![("e2".into(), 80)])));
    }

    #[test]
    fn names_are_completed_as_resolv_conf_says() {
        let server = "nameserver 10.0.0.1\n";
        let domain = "_etcd._tcp.x";
        for (text, host, servers, names) in [
            (server, "db1", 1, &[domain][..]),
            (server, "db1.corp.example\n", 1, &[domain, "_etcd._tcp.x.corp.example"]),
            (
                "search a.example b.example\nnameserver 10.0.0.1\nnameserver ::1\nnameserver x",
                "db1.y",
                2,
                &[domain, "_etcd._tcp.x.a.example", "_etcd._tcp.x.b.example"],
            ),
            // As in a pod of Kubernetes.
            (
                "search ns.svc.local svc.local\nnameserver 10.0.0.1\noptions ndots:5 edns0",
                "pod",
                1,
                &["_etcd._tcp.x.ns.svc.local", "_etcd._tcp.x.svc.local", domain],
            ),
            // The last of them counts.
            (
                "search a\ndomain b.example\n# nameserver 1.1.1.1\n;search c",
                "h",
                0,
                &[domain, "_etcd._tcp.x.b.example"],
            ),
            ("domain b.example\nsearch a c\n", "h", 0, &[domain, "_etcd._tcp.x.a", "_etcd._tcp.x.c"]),
        ] {
            let resolver = Resolver::parse(text, host);
            assert_eq!(resolver.servers.len(), servers, "{text}");
            assert_eq!(resolver.full_names(domain), names, "{text}");
            assert_eq!(resolver.full_names("_etcd._tcp.x."), ["_etcd._tcp.x."], "{text}");
        }
    }

    /// What a name server of ours says to a question about `name`: the record, or `code`.
    fn says(question: &[u8], name: &str, host: &str, port: u16, code: u8) -> Vec<u8> {
        let mut answer = question[..question.len() - 11].to_vec();
        answer[11] = 0;
        if name_at(question, 12).unwrap().0 != name {
            answer[3] = code;
            return answer;
        }
        answer[7] = 1;
        let labels = host.split('.').map(|l| [vec![l.len() as u8], l.as_bytes().to_vec()].concat());
        let target: Vec<u8> = labels.flatten().collect();
        answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 9, 0, target.len() as u8 + 7, 0, 1, 0, 2]);
        answer.extend(port.to_be_bytes());
        answer.extend(target);
        answer.push(0);
        answer
    }

    /// A name server that knows one name; by UDP it says so only where `by_udp`, else that it is too long.
    async fn serves_names(
        name: &'static str,
        host: &'static str,
        port: u16,
        code: u8,
        by_udp: bool,
    ) -> SocketAddr {
        // A port of UDP may be somebody's by TCP just then.
        let (server, tcp) = loop {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = tokio::net::TcpListener::bind(server.local_addr().unwrap()).await {
                break (server, tcp);
            }
        };
        let address = server.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((n, peer)) = server.recv_from(&mut buffer).await {
                let mut answer = says(&buffer[..n], name, host, port, code);
                if !by_udp {
                    answer.truncate(n - 11);
                    (answer[2], answer[7]) = (0x82, 0);
                }
                server.send_to(&answer, peer).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                let answer = says(&question, name, host, port, code);
                stream.write_u16(answer.len() as u16).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        address
    }

    /// A name server that knows one name, and answers all others with no records.
    async fn knows(name: &'static str, host: &'static str, port: u16) -> Resolver {
        with(&[serves_names(name, host, port, 0, true).await], &[])
    }

    fn with(servers: &[SocketAddr], search: &[&str]) -> Resolver {
        let search = search.iter().map(|s| (*s).to_owned()).collect();
        // A server that answers is not left, however busy the machine is.
        let patience = Duration::from_secs(60);
        Resolver { servers: servers.to_vec(), search, ndots: 1, patience }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn other_names_other_servers_and_long_answers() {
        let timeout = Duration::from_secs(60);
        let name = "_etcd-client._tcp.x.b.example";
        let none = 3;
        let knows = serves_names(name, "e", 7, none, true).await;
        // Only with what is searched through; a server without such a name says so of each.
        let ask = |resolver: Resolver| async move { nodes(&resolver, "x", None, timeout).await };
        assert_eq!(ask(with(&[knows], &["a.example", "b.example"])).await, ["http://e:7"]);
        assert!(ask(with(&[knows], &["a.example"])).await.is_empty());
        // A server that fails (2) or refuses (5) says nothing: the next one is asked.
        for code in [2, 5] {
            let fails = serves_names("other", "e", 7, code, true).await;
            assert_eq!(ask(with(&[fails, knows], &["b.example"])).await, ["http://e:7"], "{code}");
        }
        // One that says no is believed.
        let no = serves_names("other", "e", 7, none, true).await;
        assert!(ask(with(&[no, knows], &["b.example"])).await.is_empty());
        // Too long for a datagram: by TCP.
        let long = serves_names(name, "e", 7, none, false).await;
        assert_eq!(ask(with(&[long], &["b.example"])).await, ["http://e:7"]);
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
        let timeout = Duration::from_secs(60);
        let members = r#"[{"id":1,"name":"a","clientURLs":["http://a:2379"]},{"id":2,"clientURLs":["http://b:2379","http://c:1"]}]"#;
        let port = serves(members);
        let want = ["http://a:2379", "http://b:2379", "http://c:1"];
        let server = knows("_etcd-server._tcp.d.example", "127.0.0.1", port).await;
        assert_eq!(nodes(&server, "d.example", None, timeout).await, want);
        let server = knows("_etcd-server-x._tcp.d.example", "127.0.0.1", port).await;
        assert_eq!(nodes(&server, "d.example", Some("x"), timeout).await, want);
        assert!(nodes(&server, "d.example", None, timeout).await.is_empty());
        // Nobody there who knows: no nodes, in time.
        for port in [serves("{}"), serves("[]"), serves("x"), 1] {
            let server = knows("_etcd-server._tcp.d.example", "127.0.0.1", port).await;
            assert!(nodes(&server, "d.example", None, timeout).await.is_empty());
        }
        // A client's name goes before, and is not asked for members.
        let server = knows("_etcd-client-ssl._tcp.d.example", "e", 7).await;
        assert_eq!(nodes(&server, "d.example", None, timeout).await, ["https://e:7"]);
        // A name server that is silent is left.
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let silent = silent.local_addr().unwrap();
        let patience = Duration::from_millis(500);
        let both = Resolver { patience, ..with(&[silent, server.servers[0]], &[]) };
        assert_eq!(nodes(&both, "d.example", None, timeout).await, ["https://e:7"]);
        let began = Instant::now();
        assert!(nodes(&with(&[silent], &[]), "d.example", None, Duration::from_secs(1)).await.is_empty());
        assert!(began.elapsed() < Duration::from_secs(4));
    }
}
