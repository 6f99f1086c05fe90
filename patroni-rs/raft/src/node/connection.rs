//! One connection: who is there, then messages in both directions.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::links::Event;
use crate::entry::address_parts;
use crate::fernet::Fernet;
use crate::message::Message;
use crate::pickle::Value;
use crate::wire::{frame_length, Broken, Secrets, FIRST_FRAME, LARGEST_FRAME};

/// Until the other side has said who it is.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Until a frame is written, and until the kernel gives up what is not confirmed.
const WRITE: Duration = Duration::from_millis(3500);
/// What may wait to be sent, in bytes; who is further behind is cut off, and begins anew.
const BACKLOG: usize = 128 * 1024 * 1024;

/// A stream with its secrets.
pub struct Talk {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    /// Its secrets.
    pub secrets: Secrets,
}

fn seconds() -> u64 {
    super::now().since_start().as_secs()
}

async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    secrets: &mut Secrets,
    most: usize,
) -> std::io::Result<Value> {
    let broken = |broken: Broken| std::io::Error::new(std::io::ErrorKind::InvalidData, broken.to_string());
    let mut header = [0; 4];
    reader.read_exact(&mut header).await?;
    let length = frame_length(header, most).map_err(broken)?;
    // As it comes: a length alone costs nothing.
    let mut data = Vec::new();
    let mut rest = reader.take(length as u64);
    rest.read_to_end(&mut data).await?;
    if data.len() < length {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    secrets.unpack(&data).map_err(broken)
}

impl Talk {
    /// Over a connection that has just been made.
    pub fn new(stream: TcpStream, fernet: Option<Arc<Fernet>>) -> Talk {
        let _ = stream.set_nodelay(true);
        let millis = u32::try_from(WRITE.as_millis()).unwrap_or(3500);
        let _ = nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpUserTimeout, &millis);
        let (reader, writer) = stream.into_split();
        Talk { reader, writer, secrets: Secrets::new(fernet) }
    }

    /// Sends a value.
    ///
    /// # Errors
    /// The connection's.
    pub async fn send(&mut self, value: &Value) -> std::io::Result<()> {
        let frame = self.secrets.pack(value, seconds());
        tokio::time::timeout(WRITE, self.writer.write_all(&frame)).await?
    }

    /// Waits for a value of somebody that is not known yet.
    ///
    /// # Errors
    /// The connection's; it is no value, or a large one.
    pub async fn receive(&mut self, most: usize) -> std::io::Result<Value> {
        read_frame(&mut self.reader, &mut self.secrets, most).await
    }

    /// The dialer's side of the exchange of keys.
    ///
    /// # Errors
    /// The connection's; the other side has another password.
    pub async fn dial_keys(&mut self) -> std::io::Result<()> {
        if self.secrets.fernet.is_some() {
            let key = self.secrets.ask_for_key();
            self.send(&key).await?;
            self.secrets.send_key = Some(self.receive(FIRST_FRAME).await?);
        }
        Ok(())
    }

    /// The other side of it.
    ///
    /// # Errors
    /// The connection's; the other side has another password.
    pub async fn accept_keys(&mut self) -> std::io::Result<()> {
        if self.secrets.fernet.is_some() {
            self.secrets.send_key = Some(self.receive(FIRST_FRAME).await?);
            let key = self.secrets.ask_for_key();
            self.send(&key).await?;
        }
        Ok(())
    }

    /// From now on messages: what is put into the channel is sent, what comes is told as an event of the connection `id`.
    /// Returns when the connection has ended, and why.
    pub async fn messages(
        self,
        mut outgoing: mpsc::UnboundedReceiver<Message>,
        backlog: Arc<AtomicUsize>,
        events: &mpsc::Sender<Event>,
        id: u64,
    ) -> std::io::Error {
        let Talk { mut reader, mut writer, secrets } = self;
        let mut incoming = secrets.clone();
        let reading = async {
            loop {
                let message = match read_frame(&mut reader, &mut incoming, LARGEST_FRAME).await {
                    Ok(value) => Message::of_value(&value),
                    Err(error) => return error,
                };
                // What is not known is passed over, as it is on the other side.
                if let Some(message) = message {
                    if events.send(Event::Message(id, message)).await.is_err() {
                        return std::io::Error::other("ended");
                    }
                }
            }
        };
        let writing = async {
            while let Some(message) = outgoing.recv().await {
                let frame = secrets.pack(&message.to_value(), seconds());
                backlog.fetch_sub(weight(&message), Ordering::Relaxed);
                match tokio::time::timeout(WRITE, writer.write_all(&frame)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error,
                    Err(_) => return std::io::ErrorKind::TimedOut.into(),
                }
            }
            std::io::Error::other("closed")
        };
        tokio::select! {
            error = reading => error,
            error = writing => error,
        }
    }
}

/// About how much a message weighs.
fn weight(message: &Message) -> usize {
    use crate::message::Body;
    64 + match message {
        Message::Append { body: Body::Entries { entries, .. }, .. } => {
            entries.iter().map(|entry| entry.command.len() + 32).sum()
        }
        Message::Append { body: Body::Dump(Some(chunk)), .. } => chunk.data.len(),
        Message::Command { command, .. } => command.len(),
        _ => 0,
    }
}

/// Where messages for a peer go.
#[derive(Debug, Clone)]
pub struct Outlet {
    to: mpsc::UnboundedSender<Message>,
    backlog: Arc<AtomicUsize>,
}

impl Outlet {
    /// An outlet, and what the connection needs of it.
    pub fn new() -> (Outlet, mpsc::UnboundedReceiver<Message>, Arc<AtomicUsize>) {
        let (to, from) = mpsc::unbounded_channel();
        let backlog = Arc::new(AtomicUsize::new(0));
        (Outlet { to, backlog: Arc::clone(&backlog) }, from, backlog)
    }

    /// False: the connection has ended, or the peer is too far behind.
    pub fn send(&self, message: Message) -> bool {
        let waiting = self.backlog.fetch_add(weight(&message), Ordering::Relaxed);
        waiting < BACKLOG && self.to.send(message).is_ok()
    }
}

/// Connects, IPv4 before IPv6 as PySyncObj does, each address with a share of the time.
///
/// # Errors
/// There is no such name, or nobody answers.
pub async fn connect(address: &str, limit: Duration) -> std::io::Result<TcpStream> {
    let (host, port) = address_parts(address).ok_or(std::io::ErrorKind::InvalidInput)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host, port))).await??;
    let mut addresses: Vec<_> = found.collect();
    addresses.sort_by_key(|address| !address.is_ipv4());
    addresses.dedup();
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
