//! The listening socket (surface-api-ctl T2, T3, H22).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;

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

/// A socket that listens; what it accepts is not registered with the runtime.
pub struct Listener(AsyncFd<TcpListener>);

impl Listener {
    /// Binds the address of the configuration. Must run within a Tokio runtime.
    ///
    /// # Errors
    /// It cannot be bound; it has been logged.
    pub fn bind(config: &ApiConfig, address: SocketAddr) -> std::io::Result<Listener> {
        let backlog = u32::try_from(config.request_queue_size).unwrap_or(0).max(MIN_BACKLOG);
        let bound = listen(address, backlog).and_then(register);
        bound.map(Listener).inspect_err(|_| log_failure(config))
    }

    /// The next connection.
    ///
    /// # Errors
    /// The system has none to give, for example no file descriptors.
    pub async fn accept(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
                return accepted;
            }
        }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }
}

/// Says that the address cannot be listened on (T3).
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

#[allow(unsafe_code)]
fn register(listener: TcpListener) -> std::io::Result<AsyncFd<TcpListener>> {
    // SAFETY: the listener owns its descriptor as long as it lives, and is given away with it.
    Ok(unsafe { AsyncFd::register(listener)? })
}

fn listen(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    set_options(&socket);
    socket.bind(address)?;
    socket.listen(backlog)?.into_std()
}

/// Lets the kernel find out about dead clients (H22): what is accepted has the options of
/// the socket that listened. What is not supported is left.
fn set_options(socket: &impl AsFd) {
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(socket, sockopt::TcpUserTimeout, &(Duration::from_secs(10).as_millis() as u32));
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &3);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &2);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &3);
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use nix::sys::socket::getsockopt;

    #[test]
    fn accepted_sockets_inherit_the_options() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(async { listen("127.0.0.1:0".parse().unwrap(), 5) }).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(getsockopt(&accepted, sockopt::KeepAlive).unwrap());
        assert!(getsockopt(&accepted, sockopt::TcpNoDelay).unwrap());
        assert_eq!(getsockopt(&accepted, sockopt::TcpUserTimeout).unwrap(), 10_000);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepIdle).unwrap(), 3);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepInterval).unwrap(), 2);
        assert_eq!(getsockopt(&accepted, sockopt::TcpKeepCount).unwrap(), 3);
    }
}
