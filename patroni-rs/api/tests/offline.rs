//! The server without sockets gives the same bytes as the one with them.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::net::SocketAddr;

use patroni_api::{Offline, RestServer};

#[test]
fn same_bytes_as_over_a_socket() {
    let section = common::value(r#"{"listen": "127.0.0.1:0", "auth": "u:p"}"#);
    let server = RestServer::start(&section, common::Fake::new(common::replica())).unwrap();
    let offline = Offline::new(&section, common::Fake::new(common::replica())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let peer: SocketAddr = "127.0.0.1:4711".parse().unwrap();
    let without_date = |bytes: Vec<u8>| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect::<String>()
    };
    for request in [
        "",
        "GET",
        "GET /patroni HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /metrics",
        "HEAD /replica HTTP/1.0\r\n\r\n",
        "POST /restart HTTP/1.0\r\n\r\n",
        "POST /restart HTTP/1.0\r\nAuthorization: Basic dTpw\r\nContent-Length: 9\r\n\r\n{\"x\": 5}",
        "PATCH /config HTTP/1.0\r\nAuthorization: Basic dTpw\r\nContent-Length: 2\r\n\r\n[]",
    ] {
        let live = common::talk(server.local_addr(), request.as_bytes(), true);
        let dead = runtime.block_on(offline.answer(peer, false, request.as_bytes()));
        assert_eq!(without_date(live), without_date(dead), "{request:?}");
    }
}
