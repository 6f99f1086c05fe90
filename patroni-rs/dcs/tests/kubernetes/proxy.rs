//! Stands before an API server, in plain HTTP, and makes what a real one and what is in between make: refusals, answers
//! that are lost, watches that end, stay silent, or are too old.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use patroni_net::{ClientOptions, HttpClient, TlsOptions, Verify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is done to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It is not passed on, and answered so: status, header lines, body.
    Answer(u16, &'static str, &'static str),
    /// It is passed on, and the connection is closed in the answer's place.
    Swallow,
    /// It is passed on later.
    Late(Duration),
    /// A watch that begins and never tells anything.
    Silent,
}

/// Which requests, how often.
#[derive(Debug, Clone)]
struct Rule {
    method: &'static str,
    part: String,
    fault: Fault,
    times: usize,
}

/// The proxy; ends with the runtime that it was made in.
#[derive(Clone)]
pub struct Proxy {
    /// `http://127.0.0.1:port`
    pub url: String,
    rules: Arc<Mutex<VecDeque<Rule>>>,
    /// What was asked: method and URL.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// In front of that URL.
    pub async fn before(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let proxy = Proxy { url, rules: Arc::default(), asked: Arc::default() };
        let tls = TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
        let http = HttpClient::lasting(&ClientOptions { tls, basic_auth: None }).unwrap();
        let (this, server) = (proxy.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (this, server, http) = (this.clone(), server.clone(), http.clone());
                tokio::spawn(async move { this.serve(client, &server, &http).await });
            }
        });
        proxy
    }

    /// The next so many requests with this method, and this in their URL, have that fault.
    pub fn fault(&self, method: &'static str, part: &str, fault: Fault, times: usize) {
        self.rules.lock().unwrap().push_back(Rule { method, part: part.into(), fault, times });
    }

    /// No faults any more.
    pub fn heal(&self) {
        self.rules.lock().unwrap().clear();
    }

    /// How many requests had this in their method and URL.
    pub fn count(&self, part: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| asked.contains(part)).count()
    }

    fn rule(&self, method: &str, url: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|r| r.times > 0 && r.method == method && url.contains(&r.part))?;
        rule.times -= 1;
        Some(rule.fault.clone())
    }

    async fn serve(&self, mut client: TcpStream, server: &str, http: &HttpClient) -> Option<()> {
        let mut buffer = Vec::new();
        loop {
            let (head, body) = request(&mut client, &mut buffer).await?;
            let mut words = head.lines().next()?.split(' ').map(str::to_owned);
            let (method, url) = (words.next()?, words.next()?);
            self.asked.lock().unwrap().push(format!("{method} {url}"));
            let fault = self.rule(&method, &url);
            if let Some(Fault::Answer(status, lines, body)) = fault {
                let answer =
                    format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {}\r\n\r\n{body}", body.len());
                client.write_all(answer.as_bytes()).await.ok()?;
                continue;
            }
            if let Some(Fault::Late(time)) = fault {
                tokio::time::sleep(time).await;
            }
            let header = |name: &str| {
                let line = head.lines().find(|l| l.to_lowercase().starts_with(&format!("{name}:")))?;
                Some(line.split_once(':')?.1.trim().to_owned())
            };
            let (authorization, kind) = (header("authorization"), header("content-type"));
            let mut headers = Vec::new();
            headers.extend(authorization.iter().map(|v| ("Authorization", v.as_str())));
            headers.extend(kind.iter().map(|v| ("Content-Type", v.as_str())));
            let target = format!("{server}{url}");
            if url.contains("watch=True") {
                client.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.ok()?;
                if let Some(Fault::Silent) = fault {
                    tokio::time::sleep(Duration::from_secs(600)).await;
                }
                let limit = Duration::from_secs(10);
                let mut stream = http.stream(&method, &target, &headers, "", limit).await.ok()?;
                while let Ok(Some(chunk)) = stream.chunk().await {
                    client.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.ok()?;
                    client.write_all(&chunk).await.ok()?;
                    client.write_all(b"\r\n").await.ok()?;
                }
                client.write_all(b"0\r\n\r\n").await.ok()?;
                continue;
            }
            let answer =
                http.request(&method, &target, &headers, body, Duration::from_secs(20)).await.ok()?;
            if let Some(Fault::Swallow) = fault {
                return None;
            }
            let head =
                format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n\r\n", answer.status, answer.body.len());
            client.write_all(head.as_bytes()).await.ok()?;
            client.write_all(&answer.body).await.ok()?;
        }
    }
}

/// The next request: its head, and its body. None: the connection has ended.
async fn request(client: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(String, Vec<u8>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head
                .lines()
                .find_map(|l| l.to_lowercase().strip_prefix("content-length:").map(str::to_owned));
            let length = length.and_then(|l| l.trim().parse::<usize>().ok()).unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                let rest = buffer.split_off(end + 4 + length);
                let body = buffer.split_off(end + 4);
                *buffer = rest;
                return Some((head, body));
            }
        }
        let mut piece = [0; 16384];
        let n = client.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        buffer.extend_from_slice(&piece[..n]);
    }
}
