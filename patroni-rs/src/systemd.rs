//! `sd_notify` (surface-config 7.6): one datagram, no library.
//!
//! READY, STOPPING and RELOADING are the reference's. The status line, the pleas for more time and the heartbeat for
//! `WatchdogSec=` are ours; they are sent without waiting, and nothing depends on them.

use std::future::Future;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::instance::locked;

/// What a start may take with systemd's consent, as long as the daemon is at work: then its own `TimeoutStartSec=` counts.
pub const START_PATIENCE: Duration = Duration::from_secs(300);

/// The same for a stop: the fence ends a primary's long before.
pub const STOP_PATIENCE: Duration = Duration::from_secs(600);

/// How often more time is asked for, and how much.
const ASK_AGAIN: Duration = Duration::from_secs(5);
const MORE_TIME: Duration = Duration::from_secs(20);

/// The status line is cut there: it is for people.
const STATUS_LENGTH: usize = 300;

/// Tells systemd, where it asked to be told.
pub fn notify(state: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        send(&path.to_string_lossy(), state, true);
    }
}

/// The same, or not at all where systemd is not keeping up.
fn mention(state: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        send(&path.to_string_lossy(), state, false);
    }
}

fn send(path: &str, state: &str, wait: bool) {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes()),
        None => SocketAddr::from_pathname(path),
    };
    // Nobody listens: nobody is told.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        if wait || socket.set_nonblocking(true).is_ok() {
            let _ = socket.send_to_addr(state.as_bytes(), &address);
        }
    }
}

/// The line that `systemctl status` shows; said again only when it is another one.
pub fn status(line: &str) {
    static SAID: Mutex<String> = Mutex::new(String::new());
    let line = status_line(line);
    let mut said = locked(&SAID);
    if *said != line {
        mention(&format!("STATUS={line}"));
        *said = line;
    }
}

fn status_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(STATUS_LENGTH).collect()
}

/// Does the work of a start or a stop, and asks for more time while it goes on, for `patience` at most.
pub async fn with_more_time<T>(patience: Duration, work: impl Future<Output = T>) -> T {
    let asks = async {
        let began = Instant::now();
        while began.elapsed() < patience {
            mention(&format!("EXTEND_TIMEOUT_USEC={}", MORE_TIME.as_micros()));
            tokio::time::sleep(ASK_AGAIN).await;
        }
        std::future::pending::<T>().await
    };
    tokio::select! {
        done = work => done,
        done = asks => done,
    }
}

/// Sends the heartbeat that `WatchdogSec=` waits for, twice in its time and only while `lives` says so. Ends at once
/// where systemd waits for none.
pub async fn beat(lives: impl Fn() -> bool) {
    let variable = |name: &str| std::env::var(name).ok();
    let own = std::process::id().to_string();
    let Some(time) = watchdog_time(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), &own) else { return };
    loop {
        if lives() {
            mention("WATCHDOG=1");
        }
        tokio::time::sleep(time / 2).await;
    }
}

/// How long systemd waits for a heartbeat of this process, if it does.
fn watchdog_time(microseconds: Option<String>, pid: Option<String>, own: &str) -> Option<Duration> {
    let time = microseconds?.parse().ok().filter(|n| *n > 0).map(Duration::from_micros)?;
    pid.is_none_or(|pid| pid == own).then_some(time)
}

/// A reload begins now, by the monotonic clock.
pub fn reloading() {
    notify(&reload_message());
}

fn reload_message() -> String {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| t.tv_sec() * 1_000_000 + t.tv_nsec() / 1000);
    format!("RELOADING=1\nMONOTONIC_USEC={now}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn datagrams_reach_either_kind_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("patroni-rs-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (socket, address) in [(by_path, path.display().to_string()), (by_name, format!("@{name}"))] {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            for state in ["READY=1", "STOPPING=1"] {
                send(&address, state, state == "READY=1");
                let mut buffer = [0; 100];
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer.get(..length), Some(state.as_bytes()));
            }
        }
        send("/nonexistent/socket", "READY=1", true);
    }

    /// A socket that is full takes nothing more, and holds nobody up.
    #[test]
    fn what_nobody_reads_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let _reader = UnixDatagram::bind(&path).unwrap();
        let began = Instant::now();
        (0..10_000).for_each(|_| send(&path.display().to_string(), "STATUS=x", false));
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn a_heartbeat_is_for_this_process_only() {
        let text = |t: &str| Some(t.to_owned());
        for (microseconds, pid, expected) in [
            (text("3000000"), None, Some(Duration::from_secs(3))),
            (text("3000000"), text("7"), Some(Duration::from_secs(3))),
            (text("3000000"), text("8"), None),
            (text("0"), None, None),
            (text("soon"), None, None),
            (None, text("7"), None),
        ] {
            assert_eq!(
                watchdog_time(microseconds.clone(), pid.clone(), "7"),
                expected,
                "{microseconds:?} {pid:?}"
            );
        }
    }

    #[test]
    fn a_status_is_one_short_line() {
        assert_eq!(status_line("no action.\nI am (a)"), "no action. I am (a)");
        assert_eq!(status_line(&"ä".repeat(1000)).chars().count(), STATUS_LENGTH);
    }

    /// systemd refuses a reload whose time is not after the last one's.
    #[test]
    fn a_reload_says_when_it_began() {
        let microseconds = || -> i64 {
            let message = reload_message();
            message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap()
        };
        let first = microseconds();
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!(microseconds() > first && first > 0);
    }
}
