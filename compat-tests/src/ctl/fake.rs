//! Members' REST APIs that answer as they are told. All members share one port; each has an address of its own
//! (127.0.0.1, 127.0.0.2, ...), by which the server knows who was asked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::lab::Result;

/// An answer to one kind of request.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// The method.
    pub method: &'static str,
    /// The path, without the slash before it.
    pub path: &'static str,
    /// The last number of the address that was asked; `None` for any member.
    pub member: Option<u8>,
    /// The status; 0 closes the connection without an answer.
    pub status: u16,
    /// The body.
    pub body: String,
    /// Keys that change when this is answered.
    pub puts: Vec<(String, String)>,
    /// Answers only once; then the next that fits does.
    pub once: bool,
}

/// What the members answer when a case says nothing else.
const USUAL: &[(&str, &str, u16, &str)] = &[
    (
        "GET",
        "patroni",
        200,
        r#"{"state": "running", "role": "replica", "server_version": 150018, "patroni": {"version": "4.1.5", "scope": "demo"}}"#,
    ),
    ("POST", "reload", 202, "reload scheduled"),
    ("POST", "restart", 200, "restarted successfully"),
    ("DELETE", "restart", 200, "scheduled restart deleted"),
    ("POST", "reinitialize", 200, "reinitialize started"),
    ("POST", "switchover", 200, "Successfully switched over to \"b\""),
    ("POST", "failover", 200, "Successfully failed over to \"b\""),
    ("DELETE", "switchover", 200, "scheduled switchover deleted"),
    ("PATCH", "config", 200, r#"{"ttl": 30}"#),
];

/// What there is to answer, and what was asked.
#[derive(Debug, Default)]
struct Script {
    replies: Vec<Reply>,
    log: Vec<String>,
}

/// Carries out a reply's changes of keys.
pub type Puts = Arc<dyn Fn(&[(String, String)]) + Send + Sync>;

/// The server.
pub struct Fake {
    /// Its port.
    pub port: u16,
    script: Arc<Mutex<Script>>,
}

impl Fake {
    /// Starts to listen on all addresses of the loopback interface; ends with the program.
    ///
    /// # Errors
    /// No port.
    pub fn start(port: u16, puts: Puts) -> Result<Fake> {
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        let script: Arc<Mutex<Script>> = Arc::default();
        let shared = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, puts) = (Arc::clone(&shared), Arc::clone(&puts));
                std::thread::spawn(move || answer(stream, &script, &puts));
            }
        });
        Ok(Fake { port, script })
    }

    /// Takes the answers of a case and forgets what was asked before.
    pub fn play(&self, replies: &[Reply]) {
        if let Ok(mut script) = self.script.lock() {
            *script = Script { replies: replies.to_vec(), log: Vec::new() };
        }
    }

    /// What was asked since, one line each.
    pub fn asked(&self) -> String {
        self.script.lock().map(|script| script.log.join("\n")).unwrap_or_default()
    }
}

/// Reads one request and answers it. A client that goes away is of no interest.
fn answer(mut stream: TcpStream, script: &Mutex<Script>, puts: &Puts) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let Some(request) = read(&mut stream) else { return };
    let member = match stream.local_addr() {
        Ok(std::net::SocketAddr::V4(address)) => address.ip().octets()[3],
        _ => 0,
    };
    let Some((reply, changes)) = pick(&request, member, script) else { return };
    puts(&changes);
    let _ = stream.write_all(reply.as_bytes());
    let _ = stream.shutdown(Shutdown::Both);
}

/// A request: method, path, its line for the log.
struct Request {
    method: String,
    path: String,
    line: String,
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return request(head, body);
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// The headers count without their order and the names' case; `User-Agent` and `Host` do not.
fn request(head: &str, body: &str) -> Option<Request> {
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_string(), first.next()?.to_string());
    let mut headers: Vec<String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| format!("{}:{}", name.to_lowercase(), value.trim()))
        .filter(|line| !line.starts_with("user-agent:") && !line.starts_with("host:"))
        .collect();
    headers.sort();
    let line = format!("{method} {path} {} {body}", headers.join(" "));
    Some(Request { method, path, line })
}

/// The answer's bytes, and the keys that change with it.
fn pick(request: &Request, member: u8, script: &Mutex<Script>) -> Option<(String, Vec<(String, String)>)> {
    let mut script = script.lock().ok()?;
    script.log.push(format!("{member}: {}", request.line));
    let fits = |reply: &Reply| {
        reply.method == request.method
            && request.path == format!("/{}", reply.path)
            && reply.member.is_none_or(|number| number == member)
    };
    let found = script.replies.iter().position(fits);
    let (status, body, puts) = match found {
        Some(index) => {
            let reply = if script.replies[index].once {
                script.replies.remove(index)
            } else {
                script.replies[index].clone()
            };
            (reply.status, reply.body, reply.puts)
        }
        None => usual(request),
    };
    let text = match status {
        0 => String::new(),
        status => format!(
            "HTTP/1.0 {status} Status\r\nServer: BaseHTTP/0.6 Python/3.11.2\r\nContent-Type: text/html\r\n\r\n{body}"
        ),
    };
    Some((text, puts))
}

fn usual(request: &Request) -> (u16, String, Vec<(String, String)>) {
    let path = request.path.trim_start_matches('/');
    let found = USUAL.iter().find(|(method, usual, ..)| *method == request.method && *usual == path);
    let (status, body) = found.map_or((501, "Unsupported"), |(_, _, status, body)| (*status, *body));
    (status, body.to_string(), Vec::new())
}
