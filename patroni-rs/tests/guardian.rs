//! The guardian as a process: told of a server and a promise, it stops the server at the end of it, and not before.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `CLOCK_BOOTTIME`, which promises are counted by.
fn boot_time() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    Duration::from(now)
}

/// Field 22 of `/proc/PID/stat`, behind the name in parentheses.
fn start_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

/// A record as `src/guardian/wire.rs` has it, of a server without a place, and of no lock.
fn word(server: u32, promise: Option<Duration>) -> Vec<u8> {
    let promise = promise.map_or(0, |at| at.as_nanos() as u64);
    [u64::from(server), start_ticks(server), promise, 0, 0, 0, 0]
        .iter()
        .flat_map(|field| field.to_ne_bytes())
        .collect()
}

/// In the background of a shell SIGQUIT is ignored.
fn server() -> Child {
    Command::new("env").args(["--default-signal=QUIT", "sleep", "60"]).spawn().unwrap()
}

fn guardian(dir: &std::path::Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patroni"));
    command.arg0("patroni: guardian").arg(dir).arg(dir.join("log"));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Has it ended within this time?
fn ends(child: &mut Child, within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_promise_that_ends_is_the_servers_end() {
    let dir = tempfile::tempdir().unwrap();
    // It only appends to a log.
    std::fs::write(dir.path().join("log"), "").unwrap();
    let (mut server, mut guardian) = (server(), guardian(dir.path()));
    let mut pipe = guardian.stdin.take().unwrap();
    // Nothing is promised, and the daemon is there: nothing happens.
    pipe.write_all(&word(server.id(), None)).unwrap();
    assert!(!ends(&mut server, Duration::from_millis(500)));
    let until = boot_time() + Duration::from_secs(1);
    pipe.write_all(&word(server.id(), Some(until))).unwrap();
    let stopped = ends(&mut server, Duration::from_secs(20));
    let late = boot_time() >= until;
    let ended = ends(&mut guardian, Duration::from_secs(20));
    for mut child in [guardian, server] {
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(late && stopped && ended, "not before, and then: {late} {stopped} {ended}");
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    assert!(log.contains("stopped immediately") || log.contains("killed"), "{log}");
}

#[test]
fn who_is_told_of_nothing_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut server, mut guardian) = (server(), guardian(dir.path()));
    drop(guardian.stdin.take());
    let ended = ends(&mut guardian, Duration::from_secs(20));
    let untouched = server.try_wait().unwrap().is_none();
    for mut child in [guardian, server] {
        let _ = child.kill();
        child.wait().unwrap();
    }
    assert!(ended && untouched, "{ended} {untouched}");
}
