//! A connected stream, encrypted or not: what comes before the startup message.

use std::future::{ready, Ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use super::error::{chain, PgError};
use super::params::{ConnParams, SslMode, Target};
use super::tls;

/// How one attempt treats encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Plain,
    /// If the server can.
    IfOffered,
    Required,
}

/// The attempts that a mode makes with one server, in order. The next one is
/// made when the server refuses the login or the handshake fails.
pub(super) fn attempts(mode: SslMode, target: &Target) -> &'static [Encryption] {
    use Encryption::{IfOffered, Plain, Required};
    match (target, mode) {
        // TLS is never spoken on sockets.
        (Target::Unix(_), _) | (_, SslMode::Disable) => &[Plain],
        (_, SslMode::Allow) => &[Plain, Required],
        (_, SslMode::Prefer) => &[IfOffered, Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Required],
    }
}

/// libpq's words for a server that is no PostgreSQL.
pub(super) const NO_ANSWER: &str = "received invalid response to SSL negotiation";

/// The stream under a connection.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<SslStream<TcpStream>>),
}

impl Transport {
    /// Connects to one server. A name is tried with all its addresses.
    pub(super) async fn open(
        params: &ConnParams,
        target: &Target,
        encryption: Encryption,
    ) -> Result<Transport, PgError> {
        Transport::reach(params, target).await?.secured(params, target, encryption).await
    }

    /// The connection to a server, on which nothing was said yet.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(super) async fn reach(params: &ConnParams, target: &Target) -> Result<Transport, PgError> {
        let (host, addr, port) = match target {
            Target::Unix(path) => {
                let hint = "locally and accepting connections on that socket";
                let stream =
                    UnixStream::connect(path).await.map_err(|e| unreachable(&target.shown(), hint, &e))?;
                check_peer(params, &stream)?;
                return Ok(Transport::Unix(stream));
            }
            Target::Tcp { host, addr, port } => (host.as_str(), *addr, *port),
        };
        let stream = match addr {
            Some(ip) => TcpStream::connect((ip, port)).await,
            None => TcpStream::connect((host, port)).await,
        };
        let hint = "on that host and accepting TCP/IP connections";
        let stream = stream.map_err(|e| unreachable(&target.shown(), hint, &e))?;
        stream.set_nodelay(true)?;
        keep_alive(&stream);
        Ok(Transport::Tcp(stream))
    }

    /// The connection after the negotiation of encryption.
    ///
    /// # Errors
    /// The two sides do not agree.
    pub(super) async fn secured(
        self,
        params: &ConnParams,
        target: &Target,
        encryption: Encryption,
    ) -> Result<Transport, PgError> {
        match (self, target) {
            (Transport::Tcp(stream), Target::Tcp { host, .. }) if encryption != Encryption::Plain => {
                encrypt(params, host, stream, encryption).await
            }
            (transport, _) => Ok(transport),
        }
    }

    fn binding(&self) -> Option<Vec<u8>> {
        match self {
            Transport::Tls(stream) => tls::end_point(stream.ssl()),
            _ => None,
        }
    }

    /// Was TLS asked for, and is not to be had?
    pub(super) fn declined(&self, encryption: Encryption) -> bool {
        encryption == Encryption::IfOffered && !self.is_tls()
    }

    /// Is it encrypted?
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Transport::Tls(_))
    }

    /// The channel binding for SCRAM, in the terms of postgres-protocol.
    pub(super) fn scram_binding(&self) -> Option<Vec<u8>> {
        self.binding()
    }
}

/// libpq's words.
fn unreachable(server: &str, hint: &str, error: &io::Error) -> PgError {
    let reason = match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    };
    PgError::Connection(format!(
        "connection to server {server} failed: {reason}\n\tIs the server running {hint}?"
    ))
}

/// `requirepeer`: only a server of that user gets our password.
fn check_peer(params: &ConnParams, stream: &UnixStream) -> Result<(), PgError> {
    let Some(wanted) = params.given("requirepeer") else { return Ok(()) };
    let uid = stream.peer_cred()?.uid();
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    if user.as_deref() == Some(wanted) {
        return Ok(());
    }
    let found = user.unwrap_or_else(|| uid.to_string());
    Err(PgError::Connection(format!(
        "requirepeer specifies \"{wanted}\", but actual peer user name is \"{found}\""
    )))
}

/// libpq turns keepalives on; a peer that vanished must not be waited for.
fn keep_alive(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt::KeepAlive};
    if let Err(error) = setsockopt(stream, KeepAlive, &true) {
        tracing::debug!(target: "patroni.postgresql.connection", "could not set keepalive: {error}");
    }
}

async fn encrypt(
    params: &ConnParams,
    host: &str,
    mut stream: TcpStream,
    encryption: Encryption,
) -> Result<Transport, PgError> {
    let direct = params.given("sslnegotiation") == Some("direct");
    if !direct {
        let mut request = BytesMut::new();
        frontend::ssl_request(&mut request);
        stream.write_all(&request).await?;
        let answer = stream.read_u8().await?;
        match (answer, encryption) {
            (b'S', _) => {}
            (b'N', Encryption::IfOffered) => return Ok(Transport::Tcp(stream)),
            (other, _) if !matches!(other, b'N' | b'E') => {
                let byte = char::from(other);
                return Err(PgError::Connection(format!("{NO_ANSWER}: {byte}")));
            }
            _ => {
                return Err(PgError::Connection(
                    "server does not support SSL, but SSL was required".to_owned(),
                ))
            }
        }
    }
    let (owned, name) = (params.clone(), host.to_owned());
    let mode = params.sslmode()?;
    let mut ssl = tokio::task::spawn_blocking(move || tls::session(&owned, mode, &name))
        .await
        .map_err(|e| PgError::Connection(e.to_string()))??;
    if direct {
        ssl.set_alpn_protos(b"\x0apostgresql").map_err(|e| PgError::Connection(chain(&e)))?;
    }
    let mut stream = SslStream::new(ssl, stream).map_err(|e| PgError::Connection(chain(&e)))?;
    Pin::new(&mut stream).connect().await.map_err(|e| {
        if let Some(text) = tls::mismatch(stream.ssl(), host) {
            return PgError::Connection(text);
        }
        // libpq gives OpenSSL's reason, and no more.
        let reason = e.ssl_error().and_then(|stack| stack.errors().first()?.reason().map(str::to_owned));
        let reason = reason.unwrap_or_else(|| match chain(&e).as_str() {
            "unexpected EOF" => "unexpected eof while reading".to_owned(),
            other => other.to_owned(),
        });
        PgError::Connection(format!("SSL error: {reason}"))
    })?;
    Ok(Transport::Tls(Box::new(stream)))
}

/// Runs `work`, but no longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    work: impl std::future::Future<Output = Result<T, PgError>>,
) -> Result<T, PgError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(PgError::Timeout(limit)),
    }
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self, s => Pin::new(s).poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}

impl TlsStream for Transport {
    fn channel_binding(&self) -> ChannelBinding {
        self.binding().map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

/// Tells tokio-postgres that the stream is as secure as it will get.
pub(super) struct Negotiated;

impl TlsConnect<Transport> for Negotiated {
    type Stream = Transport;
    type Error = io::Error;
    type Future = Ready<io::Result<Transport>>;

    fn connect(self, stream: Transport) -> Self::Future {
        ready(Ok(stream))
    }
}
