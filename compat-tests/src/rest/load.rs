//! A load generator for a server that closes the connection after each answer.

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

/// Asks 127.0.0.1:`port` for `path`, `connections` at a time, for as long as that, each on a new connection.
///
/// # Errors
/// Nothing was answered at all.
pub fn run(port: u16, path: &str, connections: usize, period: Duration) -> Result<Measured> {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n").into_bytes();
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
                    let mut buffer = Vec::with_capacity(16384);
                    while Instant::now() < until {
                        let sent = Instant::now();
                        match timeout(PATIENCE, ask(port, &request, &mut buffer)).await {
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
    let (mut times, mut failed) = (Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < period {
        let sent = Instant::now();
        buffer.clear();
        match ask_and_wait(port, request, &mut buffer) {
            Ok(()) => times.push(sent.elapsed()),
            Err(_) => failed += 1,
        }
    }
    measured(times, failed, began)
}

fn ask_and_wait(port: u16, request: &[u8], buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut stream = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    stream.read_to_end(buffer)?;
    good(buffer)
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
/// these clients on this machine. Runs to the end of the process; gives its port.
///
/// # Errors
/// No port, or no thread.
pub fn simplest_server(answer: &'static [u8]) -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::Builder::new().spawn(move || {
        let mut buffer = [0; 4096];
        for mut stream in listener.incoming().flatten() {
            // A client that goes away is none of its business.
            let _ = stream.read(&mut buffer).and_then(|_| stream.write_all(answer));
        }
    })?;
    Ok(port)
}

fn good(answer: &[u8]) -> std::io::Result<()> {
    if answer.starts_with(b"HTTP/1.0 200") {
        Ok(())
    } else {
        Err(std::io::ErrorKind::InvalidData.into())
    }
}

async fn ask(port: u16, request: &[u8], buffer: &mut Vec<u8>) -> std::io::Result<()> {
    buffer.clear();
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    stream.write_all(request).await?;
    while stream.read_buf(buffer).await? > 0 {}
    good(buffer)
}
