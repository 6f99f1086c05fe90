//! One connection: read a request, answer it, close (surface-api-ctl H1), unless the client wants it kept open.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openssl::ssl::SslContext;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::active::ActiveConfig;
use super::dispatch::{respond, BodySource, Exchange};
use super::link::{Link, Session};
use super::registry::{Budget, MemoryReservation, Registry, Ticket};
use super::response_cache::ResponseCache;
use super::tls;
use crate::actions::body::{Length, MAX_BODY};
use crate::backend::Backend;
use crate::http::head::{Head, HeadReader, Progress};
use crate::http::response::{Frame, Response};
use crate::snapshot::Snapshot;

/// For the TLS handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// For the next request on a connection that was kept open.
const KEPT_DEADLINE: Duration = Duration::from_secs(5);
/// For the whole head.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// For the whole body.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// For the client to take the answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(20);
/// For the rest of a request that was answered early.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection task is given.
pub struct Job<B> {
    /// The daemon.
    pub backend: Arc<B>,
    /// Configuration and TLS.
    pub active: Rc<ActiveConfig>,
    /// Those in force by now.
    pub newest: Rc<RefCell<Rc<ActiveConfig>>>,
    /// Memory for requests.
    pub budget: Rc<Budget>,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Answers of the last moment.
    pub cache: Rc<ResponseCache<Snapshot>>,
    /// For `Date`.
    pub dates: Rc<Dates>,
    /// Where there is a processor to spare for a client that asks without a pause.
    pub busy_poll: Option<Rc<Registry>>,
    /// Its place.
    pub ticket: Ticket,
}

/// The value of `Date`, made once a second.
#[derive(Default)]
pub struct Dates(RefCell<(i64, Rc<str>)>);

impl Dates {
    fn now(&self) -> Rc<str> {
        let now = jiff::Timestamp::now();
        let (second, text) = &mut *self.0.borrow_mut();
        if *second != now.as_second() {
            *second = now.as_second();
            *text = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string().into();
        }
        Rc::clone(text)
    }
}

/// Serves a connection until it ends or has to make room.
pub async fn serve<B: Backend>(job: Job<B>, tcp: TcpStream) {
    let evicted = job.ticket.evicted();
    tokio::select! {
        () = evicted.notified() => {
            tracing::debug!(target: "patroni.api", "Connection from {} was closed to make room", job.peer);
        }
        () = run(&job, tcp) => {}
    }
}

async fn run<B: Backend>(job: &Job<B>, tcp: TcpStream) {
    match &job.active.tls {
        None => session(job, Link::new(tcp, job.busy_poll.clone()), false).await,
        // What few connections need is not in the task of every one.
        Some(context) => Box::pin(encrypted(job, context, tcp)).await,
    }
}

async fn encrypted<B: Backend>(job: &Job<B>, context: &SslContext, tcp: TcpStream) {
    let handshake = async {
        let tcp = Link::new(tcp, None).watched().map_err(|e| e.to_string())?;
        tls::accept(context, tcp).await
    };
    let failure = match timeout(HANDSHAKE_DEADLINE, handshake).await {
        Ok(Ok((stream, verified))) => return session(job, stream, verified).await,
        Ok(Err(error)) => error,
        Err(_) => "timed out".to_owned(),
    };
    let peer = job.peer;
    tracing::debug!(
        target: "patroni.api",
        "Connection from {}:{} was reset during the SSL handshake: {failure}", peer.ip(), peer.port()
    );
}

/// Requests and their answers: one, or as many as a client asks that wants the connection to stay open.
pub(super) async fn session<B: Backend, S: Session>(job: &Job<B>, mut stream: S, verified: bool) {
    let (mut received, mut deadline) = (Vec::new(), HEAD_DEADLINE);
    while let Some(rest) = exchange(job, &mut stream, verified, received, deadline).await {
        (received, deadline) = (rest, KEPT_DEADLINE);
        // Whoever asks without a pause does not keep others waiting.
        tokio::task::consume_budget().await;
    }
}

/// One request and its answer. None: the connection has ended; else what was received behind the request.
async fn exchange<B: Backend, S: Session>(
    job: &Job<B>,
    stream: &mut S,
    verified: bool,
    received: Vec<u8>,
    deadline: Duration,
) -> Option<Vec<u8>> {
    let mut reservation = job.budget.reserve();
    let mut reader = HeadReader::after(received);
    let mut started = Instant::now();
    let read = timeout(deadline, read_head(stream, &mut reader, &mut reservation, &mut started)).await;
    // The configuration may have changed while the connection was kept open; a handshake was one of the old.
    let kept = deadline == KEPT_DEADLINE;
    let active = if kept { Rc::clone(&job.newest.borrow()) } else { Rc::clone(&job.active) };
    if (job.active.tls.is_some() || active.tls.is_some()) && !Rc::ptr_eq(&job.active, &active) {
        return None;
    }
    let (head, response, unread, rest) = match read {
        Err(_) | Ok(Progress::Silent | Progress::More) => return None,
        Ok(Progress::Refused(error)) => (error.head, Response::Page(error.page), true, None),
        Ok(Progress::Done(head)) if acts(&head) && !job.ticket.set_busy(true) => {
            (head, Response::page(503), true, None)
        }
        Ok(Progress::Done(head)) => {
            let received = reader.into_rest();
            let mut source =
                Source { stream: &mut *stream, received, reservation: &mut reservation, job, done: false };
            let exchange = Exchange {
                config: &active.config,
                head: &head,
                peer: job.peer,
                verified,
                cache: &job.cache,
                body: &mut source,
            };
            let response = respond(&*job.backend, exchange).await;
            let unread = !source.done && head.headers.get("content-length").is_some_and(|n| n != "0");
            let rest = std::mem::take(&mut source.received);
            job.ticket.set_busy(false);
            let keep = stays_open(&head, &response, &active.config.extra_headers);
            (head, response, unread, keep.then_some(rest))
        }
    };
    drop(reservation);
    log_answer(job.peer, &head, &response, started);
    if let Err(error) = send(job, &active, stream, &head, &response, unread, rest.is_some()).await {
        let peer = job.peer;
        tracing::debug!(target: "patroni.api", "Connection from {}:{} was reset: {error}", peer.ip(), peer.port());
        return None;
    }
    rest
}

/// Does the connection stay open after the answer? Only for a client that asks for it in so many words (the reference
/// never does, surface-api-ctl H1): others may wait for the end of the connection. Whoever also says `close` waits for
/// it. And only after a head that everybody reads alike: behind any other one a proxy may see the rest of its body where we would see the next request.
fn stays_open(head: &Head, response: &Response, extra: &[(String, String)]) -> bool {
    let asks = |wish: &str| {
        let mut tokens = head.headers.all("connection").flat_map(|line| line.split(','));
        tokens.any(|token| token.trim().eq_ignore_ascii_case(wish))
    };
    let wants = asks("keep-alive") && !asks("close");
    let bodiless =
        ["content-length", "transfer-encoding"].iter().all(|name| head.headers.get(name).is_none());
    let told = |name: &str| {
        ["content-length", "connection", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own))
    };
    let plain = matches!(response, Response::Full(_) | Response::StatusOnly(_))
        && !extra.iter().any(|(name, _)| told(name));
    wants && bodiless && plain && head.plain && head.command == "GET" && !head.http09
}

/// May the request have an effect? Then it is not sent away while it is served; one
/// that only asks may be.
fn acts(head: &Head) -> bool {
    !matches!(head.command.as_str(), "GET" | "HEAD" | "OPTIONS")
}

async fn read_head<S: AsyncRead + Unpin>(
    stream: &mut S,
    reader: &mut HeadReader,
    reservation: &mut MemoryReservation,
    started: &mut Instant,
) -> Progress {
    let mut waits = reader.is_empty();
    loop {
        if !std::mem::take(&mut waits) {
            match reader.advance(false) {
                Progress::More => {}
                other => return other,
            }
        }
        let buffer = reader.buffer();
        let room = buffer.len().clamp(512, 16384);
        buffer.reserve(room);
        if !reservation.grow(buffer.capacity()) {
            return Progress::Silent;
        }
        let first = buffer.is_empty();
        let Ok(count) = stream.read_buf(buffer).await else { return Progress::Silent };
        if first {
            *started = Instant::now();
        }
        if count == 0 {
            return reader.advance(true);
        }
    }
}

/// The body of a request, read when a handler asks for it.
struct Source<'a, B, S> {
    stream: &'a mut S,
    received: Vec<u8>,
    reservation: &'a mut MemoryReservation,
    job: &'a Job<B>,
    done: bool,
}

impl<B: Backend, S: AsyncRead + Unpin> BodySource for &mut Source<'_, B, S> {
    async fn read(&mut self, length: Length) -> Result<Vec<u8>, Response> {
        // A slow sender may be sent away; once the body is there the work is done.
        self.job.ticket.set_busy(false);
        let limit = match length {
            Length::Nothing => 0,
            Length::Exactly(n) => n,
            Length::ToEnd => MAX_BODY + 1,
        };
        let filled = timeout(BODY_DEADLINE, self.fill(limit)).await;
        match filled {
            Ok(result) => result?,
            Err(_) => return Err(Response::page(408)),
        }
        if !self.job.ticket.set_busy(true) {
            return Err(Response::page(503));
        }
        if length == Length::ToEnd && self.received.len() > MAX_BODY {
            return Err(Response::page(413));
        }
        self.done = true;
        self.received.truncate(limit);
        Ok(std::mem::take(&mut self.received))
    }
}

impl<B, S: AsyncRead + Unpin> Source<'_, B, S> {
    async fn fill(&mut self, limit: usize) -> Result<(), Response> {
        while self.received.len() < limit {
            let room = self.received.len().clamp(1024, 65536);
            self.received.reserve(room);
            if !self.reservation.grow(self.received.capacity()) {
                return Err(Response::page(503));
            }
            match self.stream.read_buf(&mut self.received).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(Response::Drop(error.to_string())),
            }
        }
        Ok(())
    }
}

async fn send<B, S: Session>(
    job: &Job<B>,
    active: &ActiveConfig,
    stream: &mut S,
    head: &Head,
    response: &Response,
    unread: bool,
    keep: bool,
) -> std::io::Result<()> {
    let date = job.dates.now();
    let config = &active.config;
    let frame = Frame {
        server: &config.server,
        date: &date,
        extra: &config.extra_headers,
        http09: head.http09,
        head: head.command == "HEAD",
        keep,
    };
    let Some(bytes) = response.encode(frame) else { return Ok(()) };
    stream.stays_open(keep);
    let write = async {
        stream.write_all(&bytes).await?;
        match keep {
            true => stream.flush().await,
            false => stream.shutdown().await,
        }
    };
    timeout(WRITE_DEADLINE, write).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?;
    if unread {
        // Closing with unread data would make the kernel reset the connection and
        // the client lose the answer (P28).
        Box::pin(linger(stream)).await;
    }
    Ok(())
}

/// Reads what a client still sends, for a moment.
pub(super) async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let discard = async {
        let mut scratch = vec![0; 4096];
        let mut left = MAX_BODY;
        while let Ok(count @ 1..) = stream.read(&mut scratch).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    // Whether it ended or not is the same to us.
    let _ = timeout(LINGER, discard).await;
}

/// The access log: a warning for a connection that is dropped without an answer, else a line at DEBUG (H17, H19).
fn log_answer(peer: SocketAddr, head: &Head, response: &Response, started: Instant) {
    let ip = peer.ip();
    let ms = || started.elapsed().as_secs_f64() * 1000.0;
    if let Response::Drop(reason) = response {
        let port = peer.port();
        tracing::warn!(target: "patroni.api", "Exception happened during processing of request from {ip}:{port}");
        tracing::warn!(target: "patroni.api", "{reason}");
        return;
    }
    if let Response::Page(page) = response {
        let (code, message) = (page.code, &page.message);
        tracing::debug!(
            target: "patroni.api",
            "API thread: {ip} - - code {code}, message {message} latency: {:.3} ms", ms()
        );
    }
    let (line, code) = (&head.line, response.code().unwrap_or(0));
    tracing::debug!(target: "patroni.api", "API thread: {ip} - - \"{line}\" {code} - latency: {:.3} ms", ms());
}
