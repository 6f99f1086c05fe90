//! One exchange without sockets: the same code from the bytes of a request to those of
//! its answer, for fuzzing and tests.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use pyfmt::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::active::ActiveConfig;
use super::conn::{session, Job};
use super::link::Session;
use super::registry::{Budget, Registry};
use super::REQUEST_MEMORY;
use crate::backend::Backend;
use crate::config::{ApiConfig, ConfigError};

/// A server without a socket.
pub struct Offline<B> {
    backend: Arc<B>,
    active: Rc<ActiveConfig>,
    registry: Rc<Registry>,
    budget: Rc<Budget>,
}

impl<B: Backend> Offline<B> {
    /// `section` is `restapi`. **Blocks** on the resolver for names in `allowlist`.
    ///
    /// # Errors
    /// The section is wrong.
    pub fn new(section: &Value, backend: Arc<B>) -> Result<Offline<B>, ConfigError> {
        let config = ApiConfig::from_value(section)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let active = Rc::new(ActiveConfig { config, tls: None, fingerprint: None, address });
        Ok(Offline { backend, active, registry: Registry::new(1), budget: Budget::new(REQUEST_MEMORY) })
    }

    /// Everything that the server sends to a client that sent `request` and then nothing
    /// more; empty: it closes without an answer. `verified`: the client showed a
    /// certificate that was verified. Needs a Tokio runtime with time.
    pub async fn answer(&self, peer: SocketAddr, verified: bool, request: &[u8]) -> Vec<u8> {
        let Some(ticket) = self.registry.admit(peer.ip()) else { return Vec::new() };
        let job = Job {
            backend: Arc::clone(&self.backend),
            active: Rc::clone(&self.active),
            newest: Rc::new(RefCell::new(Rc::clone(&self.active))),
            budget: Rc::clone(&self.budget),
            cache: Rc::default(),
            dates: Rc::default(),
            peer,
            busy_poll: None,
            ticket,
        };
        let mut stream = Script { request, answer: Vec::new() };
        session(&job, &mut stream, verified).await;
        stream.answer
    }
}

/// A connection in memory.
struct Script<'a> {
    request: &'a [u8],
    answer: Vec<u8>,
}

impl Session for Script<'_> {}

impl AsyncRead for Script<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let count = self.request.len().min(buffer.remaining());
        let (now, later) = self.request.split_at(count);
        buffer.put_slice(now);
        self.request = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.answer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
