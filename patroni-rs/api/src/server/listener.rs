//! The listening socket (surface-api-ctl T2, T3, H22).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::ApiConfig;

/// Shortest queue of connections not yet accepted. The reference's default of 5
/// would drop a health check that arrives with a burst of others. The kernel takes at
/// most `net.core.somaxconn`.
const MIN_BACKLOG: u32 = 4096;

/// The address to bind: IPv6 first if a socket can serve both families, else IPv4.
/// **Blocks** on the resolver for a name.
///
/// # Errors
/// The name cannot be resolved; it has been logged.
pub fn resolve(config: &ApiConfig) -> std::io::Result<SocketAddr> {
    address(config).inspect_err(|_| log_failure(config))
}

/// Binds the address of the configuration. Must run within a Tokio runtime.
///
/// # Errors
/// It cannot be bound; it has been logged.
pub fn bind(config: &ApiConfig, address: SocketAddr) -> std::io::Result<TcpListener> {
    let backlog = u32::try_from(config.request_queue_size).unwrap_or(0).max(MIN_BACKLOG);
    listen(address, backlog).inspect_err(|_| log_failure(config))
}

/// T3.
fn log_failure(config: &ApiConfig) {
    let (host, port) = (config.host.as_deref().unwrap_or("None"), config.port);
    tracing::error!(
        target: "patroni.api",
        "Couldn't start a service on '{host}:{port}', please check your `restapi.listen` configuration"
    );
}

fn address(config: &ApiConfig) -> std::io::Result<SocketAddr> {
    let dual_stack = TcpSocket::new_v6().is_ok();
    let mut found: Vec<SocketAddr> = match &config.host {
        Some(host) => (host.as_str(), config.port).to_socket_addrs()?.collect(),
        None => [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)]
            .map(|ip| SocketAddr::new(ip, config.port))
            .into(),
    };
    found.sort_by_key(|a| a.is_ipv4() == dual_stack);
    found.first().copied().ok_or_else(|| std::io::ErrorKind::AddrNotAvailable.into())
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Lets the kernel find out about dead clients. What it does not support is left.
pub fn set_options(stream: &TcpStream) {
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &(Duration::from_secs(10).as_millis() as u32));
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &3);
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &2);
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &3);
    let _ = stream.set_nodelay(true);
}
