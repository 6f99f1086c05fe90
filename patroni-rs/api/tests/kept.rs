//! Connections that a client wants kept open.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use patroni_api::RestServer;

const ASK: &[u8] = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n";

fn server(section: &str) -> RestServer {
    RestServer::start(&common::value(section), common::Fake::new(common::primary())).unwrap()
}

fn connect(server: &RestServer) -> TcpStream {
    let stream = TcpStream::connect(server.local_addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

/// Reads one answer by its length; what is received behind it stays.
fn answer(stream: &mut TcpStream, received: &mut Vec<u8>) -> String {
    loop {
        let text: String = received.iter().map(|b| char::from(*b)).collect();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            if body.len() >= length {
                let whole = head.len() + 4 + length;
                let rest = received.split_off(whole);
                *received = rest;
                return text[..whole].to_owned();
            }
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "ended after {text:?}");
        received.extend_from_slice(&piece[..count]);
    }
}

#[test]
fn many_requests_on_one_connection() {
    let server = server(r#"{"listen": "127.0.0.1:0"}"#);
    let (mut stream, mut received) = (connect(&server), Vec::new());
    for _ in 0..300 {
        stream.write_all(ASK).unwrap();
        let reply = answer(&mut stream, &mut received);
        assert!(reply.starts_with("HTTP/1.0 200 OK\r\n") && reply.contains("\r\nConnection: keep-alive\r\n"));
    }
    // All at once, and in pieces.
    stream.write_all(&ASK.repeat(20)).unwrap();
    (0..20).for_each(|_| drop(answer(&mut stream, &mut received)));
    for piece in ASK.chunks(7) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    answer(&mut stream, &mut received);
    // A status line alone says how long it is.
    stream.write_all(b"GET /liveness HTTP/1.1\r\nConnection: Keep-Alive, x\r\n\r\n").unwrap();
    let alone = answer(&mut stream, &mut received);
    assert_eq!(alone, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
    // Without the wish it is the last.
    stream.write_all(b"GET /health HTTP/1.1\r\n\r\n").unwrap();
    let mut last = String::new();
    stream.read_to_string(&mut last).unwrap();
    assert!(last.starts_with("HTTP/1.0 200 OK\r\n") && !last.contains("Content-Length"), "{last}");
}

#[test]
fn others_are_closed_as_before() {
    let server = server(r#"{"listen": "127.0.0.1:0"}"#);
    for request in [
        "GET /health HTTP/1.1\r\n\r\n",
        "HEAD /health HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
        "GET /health HTTP/0.9\r\nConnection: keep-alive\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: keep-alive, close\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: Close,keep-alive\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: close\r\nconnection: keep-alive\r\n\r\n",
        "GET /health HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
        "GET /nowhere HTTP/2.0\r\nConnection: keep-alive\r\n\r\n",
        "PUT /nowhere HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let started = Instant::now();
        let reply = common::talk(server.local_addr(), request.as_bytes(), false);
        let text: String = reply.iter().map(|b| char::from(*b)).collect();
        assert!(!text.contains("keep-alive"), "{request:?} {text:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{request:?}");
    }
}

#[test]
fn one_request_is_never_two() {
    let server = server(r#"{"listen": "127.0.0.1:0"}"#);
    let inner = "GET /liveness HTTP/1.1\r\nX-Inner: yes\r\n\r\n";
    let length = inner.len();
    for odd in [
        format!("no colon\r\nContent-Length: {length}\r\n"),
        format!("X: y\r\n Content-Length: {length}\r\nContent-Length : {length}\r\n"),
        format!("Content-Length\t: {length}\r\n"),
        format!("Content-Length :{length}\r\n"),
        format!("X: y\r\n\tz\r\nContent-Length : {length}\r\n"),
        format!("X: \u{1}\r\nContent-Length\u{b}: {length}\r\n"),
        format!("X: y\rContent-Length: {length}\r\n"),
        format!("\u{7f}Content-Length: {length}\r\n"),
        format!(" Content-Length: {length}\r\n"),
        format!("X: y\nContent-Length : {length}\n"),
        "Transfer-Encoding : chunked\r\n".to_owned(),
    ] {
        for (before, after) in [("Connection: keep-alive\r\n", ""), ("", "Connection: keep-alive\r\n")] {
            let request = format!("GET /health HTTP/1.1\r\n{before}{odd}{after}\r\n{inner}");
            let reply = common::talk(server.local_addr(), request.as_bytes(), false);
            let text: String = reply.iter().map(|b| char::from(*b)).collect();
            assert_eq!(text.matches("HTTP/1.0 ").count(), 1, "{request:?} {text:?}");
        }
    }
    for line in [
        "GET  /health HTTP/1.1\r\n",
        "GET /health HTTP/1.1\n",
        "GET\t/health HTTP/1.1\r\n",
        "GET /health HTTP/01.1\r\n",
    ] {
        let request = format!("{line}Connection: keep-alive\r\n\r\n{inner}");
        let reply = common::talk(server.local_addr(), request.as_bytes(), false);
        let text: String = reply.iter().map(|b| char::from(*b)).collect();
        assert_eq!(text.matches("HTTP/1.0 ").count(), 1, "{request:?} {text:?}");
    }
}

#[test]
fn the_newest_configuration_counts() {
    let mut server = server(r#"{"listen": "127.0.0.1:0"}"#);
    let (mut stream, mut received) = (connect(&server), Vec::new());
    stream.write_all(ASK).unwrap();
    assert!(!answer(&mut stream, &mut received).contains("X-New"));
    let section = r#"{"listen": "127.0.0.1:0", "http_extra_headers": {"X-New": "y"}}"#;
    server.reload(&common::value(section)).unwrap();
    // Also for a connection that was waiting meanwhile.
    stream.write_all(ASK).unwrap();
    assert!(answer(&mut stream, &mut received).contains("X-New: y"));
}

#[test]
fn silence_ends_it_and_so_does_a_stop() {
    let server = server(r#"{"listen": "127.0.0.1:0"}"#);
    let ended = |stream: &mut TcpStream| match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    let (mut idle, mut other, mut received) = (connect(&server), connect(&server), Vec::new());
    idle.write_all(ASK).unwrap();
    answer(&mut idle, &mut received);
    let started = Instant::now();
    assert!(ended(&mut idle) && started.elapsed() < Duration::from_secs(9));
    other.write_all(ASK).unwrap();
    answer(&mut other, &mut received);
    let started = Instant::now();
    server.stop();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(ended(&mut other));
}
