//! What the suites of several stores have in common.
#![allow(dead_code)] // none of them needs it all

use std::future::Future;
use std::process::{Child, Command};
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
