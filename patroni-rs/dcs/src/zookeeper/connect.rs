//! A connection to one server: TCP or TLS, the greeting, and who we are.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use openssl::ssl::SslMode;
use patroni_net::{client_builder, TlsOptions, Verify};
use rand::seq::SliceRandom;
use rand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::jute::In;
use super::options::{Credential, Options};
use super::proto::{self, xid, Greeting, Head, Session};
use super::sasl::Exchange;

/// The longest message that is read, in bytes. Servers send at most 1 MB unless they are told otherwise.
const LONGEST: usize = 16 * 1024 * 1024;

/// A TCP or TLS stream.
trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection that speaks in messages.
pub struct Wire {
    stream: Pin<Box<dyn Stream>>,
    received: Vec<u8>,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoWire {
    /// The server says that the session has ended.
    Expired,
    /// It has closed the connection without a word: as it does with who has seen more than it, and when it has no quorum.
    Silent,
    /// It does not believe who we are.
    NotBelieved(String),
    /// Anything else; the text is for the log.
    Broken(String),
}

impl From<std::io::Error> for NoWire {
    fn from(error: std::io::Error) -> NoWire {
        NoWire::Broken(error.to_string())
    }
}

impl From<super::jute::Garbled> for NoWire {
    fn from(error: super::jute::Garbled) -> NoWire {
        NoWire::Broken(error.to_string())
    }
}

impl Wire {
    /// Sends a message.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn send(&mut self, frame: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// The next message; None: the server has closed the connection. May be cancelled, nothing is lost then.
    ///
    /// # Errors
    /// The connection is broken, or what comes is no message.
    pub async fn receive(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(message) = self.received_message()? {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn received_message(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let Some((head, _)) = self.received.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(i32::from_be_bytes(*head)).ok().filter(|length| *length <= LONGEST);
        let Some(length) = length else {
            return Err(std::io::Error::other("not a message of ZooKeeper"));
        };
        if self.received.len() < length + 4 {
            return Ok(None);
        }
        let rest = self.received.split_off(length + 4);
        let mut message = std::mem::replace(&mut self.received, rest);
        message.drain(..4);
        Ok(Some(message))
    }

    /// The next message, which has to come.
    async fn expect(&mut self) -> Result<Vec<u8>, NoWire> {
        self.receive().await?.ok_or(NoWire::Silent)
    }
}

/// The addresses of all servers, in an order of chance.
pub async fn addresses(hosts: &[(String, u16)], limit: Duration) -> Vec<(String, SocketAddr)> {
    let mut all = Vec::new();
    for (host, port) in hosts {
        let found = timeout(limit, tokio::net::lookup_host((host.as_str(), *port))).await;
        match found.unwrap_or_else(|_| Err(std::io::Error::other("timed out"))) {
            Ok(found) => all.extend(found.map(|address| (host.clone(), address))),
            Err(error) => tracing::warn!(target: "kazoo.client", "Cannot resolve {host}: {error}"),
        }
    }
    all.sort();
    all.dedup();
    all.shuffle(&mut rand::rng());
    all
}

/// What a connection begins with.
pub struct Begin<'a> {
    /// Options of the client.
    pub options: &'a Options,
    /// Who we say we are.
    pub credentials: &'a [Credential],
    /// The session that is to go on.
    pub session: Option<&'a Session>,
    /// The session timeout that is asked for.
    pub timeout: Duration,
    /// The newest transaction that was seen.
    pub last_zxid: i64,
}

/// Connects to that server and gets a session, within `limit`.
///
/// # Errors
/// See [`NoWire`].
pub async fn open(
    host: &str,
    address: SocketAddr,
    begin: &Begin<'_>,
    limit: Duration,
) -> Result<(Wire, Session), NoWire> {
    let opening = async {
        let mut wire = connect(host, address, begin.options.tls.as_ref()).await?;
        wire.send(&proto::connect(begin.session, begin.timeout, begin.last_zxid)).await?;
        let session = match Greeting::read(&mut In::new(&wire.expect().await?))? {
            Greeting::Welcome(session) => session,
            Greeting::Expired => return Err(NoWire::Expired),
            Greeting::ReadOnly => return Err(NoWire::Broken("the server has no quorum".into())),
        };
        for credential in begin.credentials {
            match credential {
                Credential::Scheme(scheme, text) => authenticate(&mut wire, scheme, text).await?,
                Credential::Sasl(user, password) => sasl(&mut wire, user, password).await?,
            }
        }
        Ok((wire, session))
    };
    timeout(limit, opening)
        .await
        .unwrap_or_else(|_| Err(NoWire::Broken(format!("no answer within {limit:?}"))))
}

async fn connect(host: &str, address: SocketAddr, tls: Option<&TlsOptions>) -> Result<Wire, NoWire> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let stream: Pin<Box<dyn Stream>> = match tls {
        None => Box::pin(tcp),
        Some(options) => Box::pin(encrypted(host, tcp, options).await?),
    };
    Ok(Wire { stream, received: Vec::new() })
}

/// The files are read anew for each connection, so that those that were replaced count. This thread serves nobody else.
async fn encrypted(
    host: &str,
    tcp: TcpStream,
    options: &TlsOptions,
) -> Result<tokio_openssl::SslStream<TcpStream>, NoWire> {
    let broken = |error: &dyn std::fmt::Display| NoWire::Broken(error.to_string());
    let mut builder = client_builder(options).map_err(|e| broken(&e))?;
    builder.set_mode(SslMode::RELEASE_BUFFERS);
    let mut config = builder.build().configure().map_err(|e| broken(&e))?;
    config.set_verify_hostname(options.verify == Verify::Full);
    let ssl = config.into_ssl(host).map_err(|e| broken(&e))?;
    let mut stream = tokio_openssl::SslStream::new(ssl, tcp).map_err(|e| broken(&e))?;
    Pin::new(&mut stream).connect().await.map_err(|e| broken(&e))?;
    Ok(stream)
}

/// The answer to a message that was sent before anything else was.
async fn answer(wire: &mut Wire, xid: i32) -> Result<(Head, Vec<u8>), NoWire> {
    loop {
        let message = match wire.expect().await {
            // That is how servers refuse who has authenticated badly.
            Err(NoWire::Silent) => {
                return Err(NoWire::NotBelieved("the server has closed the connection".into()))
            }
            other => other?,
        };
        let head = Head::read(&mut In::new(&message))?;
        if head.xid == xid {
            return Ok((head, message));
        }
    }
}

fn believed(head: &Head) -> Result<(), NoWire> {
    head.error.map_or(Ok(()), |code| Err(NoWire::NotBelieved(code.name().into())))
}

async fn authenticate(wire: &mut Wire, scheme: &str, credential: &str) -> Result<(), NoWire> {
    wire.send(&proto::auth(scheme, credential)).await?;
    believed(&answer(wire, xid::AUTH).await?.0)
}

async fn sasl(wire: &mut Wire, user: &str, password: &str) -> Result<(), NoWire> {
    let cnonce = format!("{:032x}", rand::rng().random::<u128>());
    let mut exchange = Exchange::new(user, password, cnonce);
    let mut token = Vec::new();
    for number in 1..=2 {
        wire.send(&proto::sasl(number, &token)).await?;
        let (head, message) = answer(wire, number).await?;
        believed(&head)?;
        let mut body = In::new(&message);
        Head::read(&mut body)?;
        let challenge = body.buffer()?;
        let not_believed = |e: super::sasl::SaslError| NoWire::NotBelieved(e.to_string());
        match number {
            1 => token = exchange.respond(challenge).map_err(not_believed)?,
            _ => exchange.check(challenge).map_err(not_believed)?,
        }
    }
    Ok(())
}
