//! `sd_notify` (surface-config 7.6): one datagram, no library.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells systemd, where it asked to be told.
pub fn notify(state: &str) {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        send(&path.to_string_lossy(), state);
    }
}

fn send(path: &str, state: &str) {
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name.as_bytes()),
        None => SocketAddr::from_pathname(path),
    };
    // Nobody listens: nobody is told.
    if let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) {
        let _ = socket.send_to_addr(state.as_bytes(), &address);
    }
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
                send(&address, state);
                let mut buffer = [0; 100];
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer.get(..length), Some(state.as_bytes()));
            }
        }
        send("/nonexistent/socket", "READY=1");
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
