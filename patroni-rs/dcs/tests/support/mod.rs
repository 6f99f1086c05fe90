//! What the suites of several stores have in common.
#![allow(dead_code)] // none of them needs it all

use std::collections::HashSet;
use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use patroni_dcs::DcsError;

/// Operations that are tried once may fail on a busy machine: this one comes about in the end.
pub async fn soon<F: Future<Output = Result<bool, DcsError>>>(limit: Duration, operation: impl Fn() -> F) {
    let began = Instant::now();
    loop {
        let outcome = operation().await;
        if outcome == Ok(true) {
            return;
        }
        assert!(began.elapsed() < limit, "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A port that nobody listens on, and that is nobody's by chance while its server is started again: the kernel gives
/// connections a port above 32767.
pub fn free_port() -> u16 {
    static GIVEN: OnceLock<Mutex<HashSet<u16>>> = OnceLock::new();
    let mut given = GIVEN.get_or_init(Mutex::default).lock().unwrap();
    let start = std::process::id().wrapping_mul(97) % 12_000;
    let ports = (0..12_000).map(|step| 20_000 + ((start + step) % 12_000) as u16);
    let free = |port: &u16| !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = ports.into_iter().find(free).expect("a free port");
    given.insert(port);
    port
}

/// Sends a signal to a server.
pub fn signal(server: &Child, name: &str) {
    let pid = server.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

/// Kills a server, and waits for its end.
pub fn end(server: &mut Child) {
    let _ = server.kill();
    let _ = server.wait();
}
