//! A client's TCP connection, with as few calls into the kernel as an answer takes:
//! most requests are there when the connection is accepted, and their answers fit into
//! the kernel's buffer, so that nothing has to be waited for. Only what does have to
//! wait is registered with the runtime.

use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{ready, Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::socket::{recv, send, MsgFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::registry::Registry;

/// A client whose next request came within this is expected to ask again as soon.
const SOON: Duration = Duration::from_micros(100);
/// How long it is waited for without the runtime: to be woken takes longer than anything else that an answer needs.
const SPIN: Duration = Duration::from_micros(60);

/// What a connection is to a session.
pub trait Session: AsyncRead + AsyncWrite + Unpin {
    /// Does it stay open after what is written next? Else the end follows at once.
    fn stays_open(&mut self, _stays: bool) {}
}

impl<S: Session> Session for &mut S {
    fn stays_open(&mut self, stays: bool) {
        (**self).stays_open(stays);
    }
}

/// See the module. What is written goes out with the end of the connection, in one
/// packet where it fits, and must be shut down after the last byte; at once if it stays open.
pub struct Link {
    socket: Socket,
    /// It stays open after what is written.
    stays: bool,
    /// What is written to it does not wait for acknowledgements.
    prompt: bool,
    /// Tells whether this is the only connection; none where nobody may be waited for.
    registry: Option<Rc<Registry>>,
    /// Since when the client is waited for.
    since: Option<Instant>,
    /// It asked soon the last time.
    eager: bool,
}

enum Socket {
    /// As accepted.
    Fresh(StdStream),
    /// Registered with the runtime.
    Watched(TcpStream),
    /// Lost on the way from the one to the other.
    Lost,
}

impl Link {
    /// A connection as it was accepted. With a registry, a client that asks request after request on the only connection
    /// is waited for by looking again and again, each time for less than a tenth of a millisecond.
    pub fn new(stream: StdStream, registry: Option<Rc<Registry>>) -> Link {
        let socket = Socket::Fresh(stream);
        Link { socket, stays: false, prompt: false, registry, since: None, eager: false }
    }

    /// The connection, registered with the runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn watched(self) -> io::Result<TcpStream> {
        self.socket.watched()
    }

    fn watch(&mut self) -> io::Result<&mut TcpStream> {
        self.socket = Socket::Watched(std::mem::replace(&mut self.socket, Socket::Lost).watched()?);
        match &mut self.socket {
            Socket::Watched(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Something has come.
    fn came(&mut self, since: Instant) {
        (self.eager, self.since) = (since.elapsed() < SOON, None);
    }
}

impl Socket {
    fn watched(self) -> io::Result<TcpStream> {
        match self {
            Socket::Fresh(stream) => {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
            Socket::Watched(stream) => Ok(stream),
            Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn number(&self) -> io::Result<RawFd> {
        match self {
            Socket::Fresh(stream) => Ok(stream.as_raw_fd()),
            Socket::Watched(stream) => Ok(stream.as_raw_fd()),
            Socket::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The kernel's flag for data that more will follow.
const MORE: MsgFlags = MsgFlags::from_bits_retain(nix::libc::MSG_MORE);

/// Without waiting, whatever the socket's mode.
fn push(socket: &impl AsRawFd, bytes: &[u8], stays: bool) -> io::Result<usize> {
    let more = if stays { MsgFlags::empty() } else { MORE };
    Ok(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | more)?)
}

impl Session for Link {
    fn stays_open(&mut self, stays: bool) {
        self.stays = stays;
        if stays && !self.prompt {
            // One that refuses this is only slower.
            self.prompt = match &self.socket {
                Socket::Fresh(stream) => stream.set_nodelay(true).is_ok(),
                Socket::Watched(stream) => stream.set_nodelay(true).is_ok(),
                Socket::Lost => false,
            };
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let link = &mut *self;
        let since = *link.since.get_or_insert_with(Instant::now);
        let socket = link.socket.number()?;
        loop {
            match recv(socket, buffer.initialize_unfilled(), MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    buffer.advance(count);
                    link.came(since);
                    return Poll::Ready(Ok(()));
                }
                Err(nix::Error::EAGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
            let alone = link.registry.as_ref().is_some_and(|registry| registry.has_one());
            if !link.eager || !alone || since.elapsed() > SPIN {
                break;
            }
            std::hint::spin_loop();
        }
        link.eager = false;
        let polled = Pin::new(link.watch()?).poll_read(context, buffer);
        if polled.is_ready() {
            link.came(since);
        }
        polled
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Socket::Fresh(stream) = &self.socket {
            match push(stream, bytes, self.stays) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        let stays = self.stays;
        let stream = self.watch()?;
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || push(stream, bytes, stays)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Fresh(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Socket::Watched(stream) => Pin::new(stream).poll_shutdown(context),
            Socket::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Asks and answers, with the request there at once or later, and an answer that is
    /// bigger than what the kernel takes at a time.
    #[test]
    fn both_ways() {
        for late in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = std::thread::spawn(move || {
                let mut stream = StdStream::connect(address).unwrap();
                if late {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                stream.write_all(b"question").unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).unwrap();
                answer.len()
            });
            let (accepted, _) = listener.accept().unwrap();
            if !late {
                accepted.peek(&mut [0; 8]).unwrap();
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let watched = runtime.block_on(async move {
                let mut link = Link::new(accepted, None);
                let mut question = [0; 8];
                link.read_exact(&mut question).await.unwrap();
                let watched = matches!(link.socket, Socket::Watched(_));
                link.write_all(&vec![b'x'; 20_000_000]).await.unwrap();
                link.shutdown().await.unwrap();
                watched
            });
            assert_eq!((client.join().unwrap(), watched), (20_000_000, late));
        }
    }
}
