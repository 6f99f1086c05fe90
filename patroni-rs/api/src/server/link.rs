//! A client's TCP connection, with as few calls into the kernel as an answer takes:
//! most requests are there when the connection is accepted, and their answers fit into
//! the kernel's buffer, so that nothing has to be waited for. Only what does have to
//! wait is registered with the runtime.

use std::io;
use std::net::{Shutdown, TcpStream as StdStream};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use nix::sys::socket::{recv, send, MsgFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// See the module. What is written goes out with the end of the connection, in one
/// packet where it fits: it must be flushed or shut down after the last byte.
pub enum Link {
    /// As accepted.
    Fresh(StdStream),
    /// Registered with the runtime.
    Watched(TcpStream),
    /// Lost on the way from the one to the other.
    Lost,
}

impl Link {
    /// The connection, registered with the runtime.
    ///
    /// # Errors
    /// The system refuses.
    pub fn watched(self) -> io::Result<TcpStream> {
        match self {
            Link::Fresh(stream) => {
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream)
            }
            Link::Watched(stream) => Ok(stream),
            Link::Lost => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn watch(&mut self) -> io::Result<&mut TcpStream> {
        *self = Link::Watched(std::mem::replace(self, Link::Lost).watched()?);
        match self {
            Link::Watched(stream) => Ok(stream),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// The kernel's flag for data that more will follow.
const MORE: MsgFlags = MsgFlags::from_bits_retain(nix::libc::MSG_MORE);

/// Without waiting, whatever the socket's mode. The end of the connection follows.
fn push(socket: &impl AsRawFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(send(socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL | MORE)?)
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Link::Fresh(stream) = &*self {
            match recv(stream.as_raw_fd(), buffer.initialize_unfilled(), MsgFlags::MSG_DONTWAIT) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(nix::Error::EAGAIN) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Pin::new(self.watch()?).poll_read(context, buffer)
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Link::Fresh(stream) = &*self {
            match push(stream, bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
        let stream = self.watch()?;
        loop {
            ready!(stream.poll_write_ready(context))?;
            match stream.try_io(Interest::WRITABLE, || push(stream, bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// What was written goes out now, the connection stays: setting the option pushes it (tcp(7)).
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pushed = match &*self {
            Link::Fresh(stream) => stream.set_nodelay(true),
            Link::Watched(stream) => stream.set_nodelay(true),
            Link::Lost => Ok(()),
        };
        Poll::Ready(pushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Link::Fresh(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Link::Watched(stream) => Pin::new(stream).poll_shutdown(context),
            Link::Lost => Poll::Ready(Ok(())),
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
                let mut link = Link::Fresh(accepted);
                let mut question = [0; 8];
                link.read_exact(&mut question).await.unwrap();
                let watched = matches!(link, Link::Watched(_));
                link.write_all(&vec![b'x'; 20_000_000]).await.unwrap();
                link.shutdown().await.unwrap();
                watched
            });
            assert_eq!((client.join().unwrap(), watched), (20_000_000, late));
        }
    }
}
