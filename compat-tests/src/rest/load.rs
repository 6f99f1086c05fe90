//! A load generator: each request on a new connection, or on one that is kept open as long as the server keeps it.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::lab::Result;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a run measured.
#[derive(Debug, Clone, Default)]
pub struct Measured {
    /// How many answers there were.
    pub answers: usize,
    /// Answers per second.
    pub rate: f64,
    /// The time that half of them were faster than.
    pub median: Duration,
    /// The time that 99 of 100 were faster than.
    pub p99: Duration,
    /// Requests without a whole answer.
    pub failed: usize,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// Those that make a new connection for each request, as HAProxy's checks do.
    New,
    /// Those that want their connections kept open, and make new ones where the server closes them.
    Kept,
}

impl Clients {
    fn request(self, path: &str) -> Vec<u8> {
        match self {
            Clients::New => format!("GET {path} HTTP/1.0\r\n\r\n").into_bytes(),
            Clients::Kept => {
                format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n").into_bytes()
            }
        }
    }
}

/// Asks 127.0.0.1:`port` for `path`, `connections` at a time, for as long as that.
///
/// # Errors
/// Nothing was answered at all.
pub fn run(
    clients: Clients,
    port: u16,
    path: &str,
    connections: usize,
    period: Duration,
) -> Result<Measured> {
    let request = clients.request(path);
    if connections == 1 {
        return alone(port, &request, period);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request: Rc<[u8]> = request.into();
    let times = Rc::new(RefCell::new(Vec::new()));
    let failed = Rc::new(RefCell::new(0));
    let began = Instant::now();
    let until = began + period;
    LocalSet::new().block_on(&runtime, async {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                let (request, times, failed) = (Rc::clone(&request), Rc::clone(&times), Rc::clone(&failed));
                tokio::task::spawn_local(async move {
                    let (mut buffer, mut kept) = (Vec::with_capacity(16384), None);
                    while Instant::now() < until {
                        let sent = Instant::now();
                        match timeout(PATIENCE, ask(&mut kept, port, &request, &mut buffer)).await {
                            Ok(Ok(())) => times.borrow_mut().push(sent.elapsed()),
                            _ => *failed.borrow_mut() += 1,
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            // A panic in there has been reported.
            let _ = client.await;
        }
    });
    let failed = *failed.borrow();
    measured(times.take(), failed, began)
}

/// A client that does nothing but wait for its answer.
fn alone(port: u16, request: &[u8], period: Duration) -> Result<Measured> {
    let mut buffer = Vec::with_capacity(16384);
    let (mut times, mut failed, mut kept) = (Vec::new(), 0, None);
    let began = Instant::now();
    while began.elapsed() < period {
        let sent = Instant::now();
        buffer.clear();
        match ask_and_wait(&mut kept, port, request, &mut buffer) {
            Ok(()) => times.push(sent.elapsed()),
            Err(_) => failed += 1,
        }
    }
    measured(times, failed, began)
}

fn ask_and_wait(
    kept: &mut Option<std::net::TcpStream>,
    port: u16,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream
        }
    };
    stream.write_all(request)?;
    let mut piece = [0; 16384];
    loop {
        let count = stream.read(&mut piece)?;
        buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        if count == 0 {
            return good(buffer);
        }
        if is_whole(buffer) {
            *kept = Some(stream);
            return good(buffer);
        }
    }
}

/// Is this a whole answer on a connection that stays open?
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default());
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    let stays = head.contains("\r\nConnection: keep-alive");
    stays && length.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn measured(mut times: Vec<Duration>, failed: usize, began: Instant) -> Result<Measured> {
    let seconds = began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    let (Some(median), Some(p99)) = (at(50), at(99)) else { return Err("no answer".into()) };
    let answers = times.len();
    Ok(Measured { answers, rate: answers as f64 / seconds, median, p99, failed })
}

/// A server that does nothing but accept, read, and write `answer`: faster than it nobody can be with
/// these clients on this machine. It keeps connections open if `answer` says so. Runs to the end of the process;
/// gives its port.
///
/// # Errors
/// No port, or no thread.
pub fn simplest_server(answer: Vec<u8>) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    let stays = is_whole(&answer);
    let answer: std::sync::Arc<[u8]> = answer.into();
    std::thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = std::sync::Arc::clone(&answer);
            if stays {
                // Without a thread it would not be served; nobody is left to be told.
                let _ = std::thread::Builder::new().spawn(move || while once(&stream, &answer) {});
            } else {
                once(&stream, &answer);
            }
        }
    })?;
    Ok(port)
}

/// One request and its answer. A client that goes away is none of its business.
fn once(mut stream: &std::net::TcpStream, answer: &[u8]) -> bool {
    let count = stream.read(&mut [0; 4096]).unwrap_or(0);
    count > 0 && stream.write_all(answer).is_ok()
}

fn good(answer: &[u8]) -> std::io::Result<()> {
    if answer.starts_with(b"HTTP/1.0 200") {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

async fn ask(
    kept: &mut Option<TcpStream>,
    port: u16,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    buffer.clear();
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?,
    };
    stream.write_all(request).await?;
    while stream.read_buf(buffer).await? > 0 {
        if is_whole(buffer) {
            *kept = Some(stream);
            break;
        }
    }
    good(buffer)
}
