//! Answers under pressure: silent, slow and broken clients; a backend that hangs.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::resource::{getrlimit, setrlimit, Resource};
use patroni_api::RestServer;

fn server(snapshot: patroni_api::Snapshot) -> RestServer {
    RestServer::start(&common::value(r#"{"listen": "127.0.0.1:0"}"#), common::Fake::new(snapshot)).unwrap()
}

#[test]
fn silent_connections_delay_nobody() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16384), hard).unwrap();
    let (server, quiet) = (server(common::primary()), server(common::primary()));
    let mut silent = Vec::new();
    let (mut times, mut usual) = (Vec::new(), Vec::new());
    let check = |server: &RestServer| {
        let started = Instant::now();
        let reply = common::talk(server.local_addr(), b"GET /health HTTP/1.0\r\n\r\n", false);
        assert!(reply.starts_with(b"HTTP/1.0 200 OK\r\n"));
        started.elapsed()
    };
    for i in 0..2000 {
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        match i % 3 {
            0 => {}
            1 => stream.write_all(b"G").unwrap(),
            _ => stream.write_all(b"POST /mpp HTTP/1.0\r\nContent-Length: 1000\r\n\r\n{").unwrap(),
        }
        silent.push(stream);
        if i % 50 == 49 {
            times.push(check(&server));
            usual.push(check(&quiet));
        }
    }
    // Others may hold the processor, and then for both servers; silence holds one of them.
    times.sort();
    usual.sort();
    let [time, usual] = [&times, &usual].map(|times| times[times.len() * 9 / 10]);
    assert!(time < Duration::from_millis(50).max(usual * 3), "{time:?}, usually {usual:?}");
    assert!(times[times.len() - 1] < Duration::from_secs(2), "{times:?}");
}

#[test]
fn a_backend_that_hangs_does_not_silence_it() {
    let fake = common::Fake::new(common::primary());
    fake.hang();
    let server = RestServer::start(&common::value(r#"{"listen": "127.0.0.1:0"}"#), fake).unwrap();
    let get = |path: &str| {
        let started = Instant::now();
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        (common::talk(server.local_addr(), request.as_bytes(), false), started.elapsed())
    };
    let (reply, time) = get("/liveness");
    assert_eq!(
        (reply.as_slice(), time < Duration::from_secs(1)),
        (b"HTTP/1.0 200 OK\r\n\r\n".as_slice(), true)
    );
    let (reply, time) = get("/primary");
    assert!(reply.starts_with(b"HTTP/1.0 200 OK\r\n") && time < Duration::from_secs(4), "{time:?}");
    let (reply, _) = get("/cluster");
    assert_eq!(reply, b"");
}

/// A lease that ends while PostgreSQL hangs ends in the answers, too.
#[test]
fn leadership_ends_with_its_promise() {
    let mut snapshot = common::primary();
    snapshot.lease_until = Some(Instant::now() + Duration::from_millis(1500));
    let fake = common::Fake::new(snapshot);
    fake.hang();
    let server = RestServer::start(&common::value(r#"{"listen": "127.0.0.1:0"}"#), fake).unwrap();
    let code = |path: &str| {
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        String::from_utf8_lossy(&common::talk(server.local_addr(), request.as_bytes(), false))[9..12]
            .to_owned()
    };
    // The query hangs for longer than the promise holds: it is judged when it is answered.
    for path in ["/primary", "/leader", "/read-write", "/read-only"] {
        assert_eq!(code(path), "503", "{path}");
    }
}

/// Readers that never read, and questions that hang, make room for the others.
#[test]
fn hanging_questions_and_lazy_readers_delay_nobody() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(16384), hard).unwrap();
    let fake = common::Fake::new(common::primary());
    fake.hang();
    let server = RestServer::start(&common::value(r#"{"listen": "127.0.0.1:0"}"#), fake).unwrap();
    let crowd: Vec<TcpStream> = (0..1500)
        .map(|i| {
            let mut stream = TcpStream::connect(server.local_addr()).unwrap();
            let path = if i % 2 == 0 { "/primary" } else { "/cluster" };
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
            stream
        })
        .collect();
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let started = Instant::now();
            let reply = common::talk(server.local_addr(), b"GET /liveness HTTP/1.0\r\n\r\n", false);
            assert_eq!(reply, b"HTTP/1.0 200 OK\r\n\r\n");
            started.elapsed()
        })
        .collect();
    // The first ones share the processor with the crowd that is still coming in.
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_millis(50), "{times:?}");
    drop(crowd);
}

/// Random damage to requests: always an answer or a close, never a dead server.
#[test]
fn broken_requests() {
    let server = server(common::replica());
    let seeds: [&[u8]; 4] = [
        b"GET /replica?lag=10MB&tag_x=%41 HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n",
        b"POST /switchover HTTP/1.0\r\nContent-Length: 45\r\n\r\n{\"leader\": \"a\", \"scheduled_at\": \"2030-01-01\"}",
        b"PATCH /config HTTP/1.0\r\nContent-Length: 18\r\n\r\n{\"a\": {\"b\": null}}",
        b"POST /restart HTTP/1.0\r\nContent-Length: 31\r\n\r\n{\"schedule\": \"2030-01-01T10:00\"}",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |n: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) as usize) % n
    };
    for round in 0..1500 {
        let mut data = seeds[round % seeds.len()].to_vec();
        for _ in 0..=random(6) {
            let at = random(data.len());
            match random(4) {
                0 => data[at] = random(256) as u8,
                1 => data.insert(at, b"\r\n \t/%[]{}\":;\0\xff"[random(15)]),
                2 if data.len() > 2 => drop(data.remove(at)),
                _ => data.truncate(at.max(1)),
            }
        }
        common::talk(server.local_addr(), &data, true);
    }
    assert!(common::talk(server.local_addr(), b"HEAD /health HTTP/1.0\r\n\r\n", false)
        .starts_with(b"HTTP/1.0 200"));
}
