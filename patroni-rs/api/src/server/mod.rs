//! The server: sockets, TLS, limits, on a thread and a runtime of its own, so that
//! it answers while the HA loop is blocked.

mod active;
mod conn;
mod dispatch;
mod link;
mod listener;
mod offline;
mod registry;
mod response_cache;
mod tls;

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{sync_channel, SyncSender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use patroni_net::NetError;
use pyfmt::Value;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::backend::Backend;
use crate::config::ConfigError;
use crate::snapshot::Snapshot;
use active::{watch_tls_files, ActiveConfig, Known};
use conn::Dates;
use listener::Listener;
use registry::{Budget, Registry};
use response_cache::ResponseCache;

pub use active::{Preparation, Prepared};
pub use offline::Offline;

/// Most connections at a time; fewer if few file descriptors are allowed.
const MAX_CONNECTIONS: usize = 1024;
/// Most names of members that are being resolved at a time.
const MAX_RESOLVERS: usize = 4;
/// Bytes for requests that are being received, of all connections together.
const REQUEST_MEMORY: usize = 32 * 1024 * 1024;
/// How often it is checked whether a burst of connections is over, whose memory can be given back.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// And whether there was one.
const BURST_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// So many connections are a burst.
const BURST: usize = 16;
/// How long [`RestServer::stop`] waits for requests that are being served.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// Why the server does not start or take a configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The section is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be bound, or the thread not started.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Certificates or keys are wrong.
    #[error(transparent)]
    Tls(#[from] NetError),
    /// The server has ended.
    #[error("REST API thread is not running")]
    Gone,
}

enum Command {
    Accept,
    Reload(Box<ActiveConfig>, SyncSender<Result<SocketAddr, StartError>>),
    Stop,
}

/// A running server. Dropping it stops it.
pub struct RestServer {
    commands: mpsc::UnboundedSender<Command>,
    address: SocketAddr,
    connection_string: String,
    known: Known,
    thread: Option<JoinHandle<()>>,
}

impl RestServer {
    /// Binds the port and starts the thread; connections wait in the kernel's queue
    /// until [`RestServer::accept`] (surface-api-ctl H23). `section` is `restapi`, with
    /// `auth` or `authentication` in it. **Blocks** on files and the resolver.
    ///
    /// # Errors
    /// See [`StartError`]; a failure to bind has been logged as the reference does.
    pub fn bind<B: Backend>(section: &Value, backend: Arc<B>) -> Result<RestServer, StartError> {
        log_pool_size(section);
        let active = ActiveConfig::load(section, None)?;
        let known = Known::of(section, &active);
        let connection_string = active.config.connection_string.clone();
        let (commands, inbox) = mpsc::unbounded_channel();
        let (ready, started) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(MAX_RESOLVERS)
            .build()?;
        let thread = std::thread::Builder::new().name("RestAPI".into()).spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                let listener = match Listener::bind(&active.config, active.address) {
                    Ok(listener) => listener,
                    Err(error) => return drop(ready.send(Err(error))),
                };
                if ready.send(listener.local_addr()).is_ok() {
                    Server::new(backend, listener, active).run(inbox).await;
                }
            });
            runtime.shutdown_background();
        })?;
        let address = started.recv().map_err(|_| StartError::Gone)??;
        Ok(RestServer { commands, address, connection_string, known, thread: Some(thread) })
    }

    /// [`RestServer::bind`] and [`RestServer::accept`].
    ///
    /// # Errors
    /// See [`RestServer::bind`].
    pub fn start<B: Backend>(section: &Value, backend: Arc<B>) -> Result<RestServer, StartError> {
        let server = RestServer::bind(section, backend)?;
        server.accept();
        Ok(server)
    }

    /// Starts to accept connections.
    pub fn accept(&self) {
        // A thread that has ended accepts nothing, and stop() will tell.
        let _ = self.commands.send(Command::Accept);
    }

    /// Address the server listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What is published as `api_url`.
    pub fn connection_string(&self) -> &str {
        &self.connection_string
    }

    /// Takes a new `restapi` section; certificates are read anew in any case. After
    /// an error the old configuration and socket stay in force (T4 is not copied).
    /// **Blocks** on files and the resolver.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn reload(&mut self, section: &Value) -> Result<(), StartError> {
        let prepared = Preparation { section: section.clone(), known: None }.run()?;
        self.adopt(prepared)
    }

    /// The first half of a reload that must not wait for a resolver: reading a new section. Names that are those of
    /// the section in force are not looked up again.
    pub fn prepare(&self, section: &Value) -> Preparation {
        let known = Some(&self.known).filter(|known| known.covers(section)).cloned();
        Preparation { section: section.clone(), known }
    }

    /// The same, with all names looked up.
    pub fn prepare_anew(&self, section: &Value) -> Preparation {
        Preparation { section: section.clone(), known: None }
    }

    /// The second half: as [`RestServer::reload`]. Waits for the server's thread alone.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn adopt(&mut self, prepared: Prepared) -> Result<(), StartError> {
        let Prepared { section, active } = prepared;
        let (known, connection_string) =
            (Known::of(&section, &active), active.config.connection_string.clone());
        let (reply, done) = sync_channel(1);
        self.commands.send(Command::Reload(active, reply)).map_err(|_| StartError::Gone)?;
        self.address = done.recv().map_err(|_| StartError::Gone)??;
        (self.connection_string, self.known) = (connection_string, known);
        Ok(())
    }

    /// Stops accepting, ends idle connections, and waits up to 10 s for requests that
    /// are being served. **Blocks.**
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let _ = self.commands.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// H20: the setting has no meaning here, but its value is announced.
fn log_pool_size(section: &Value) {
    let configured = section.get("thread_pool_size");
    let size = configured.map_or(Ok(Value::Int(5)), pyfmt::int::int).unwrap_or_else(|error| {
        let (shown, error) = (configured.map(Value::py_str).unwrap_or_default(), error.repr());
        tracing::warn!(
            target: "patroni.api",
            "Failed to parse restapi.thread_pool_size value \"{shown}\": {error}"
        );
        Value::Int(5)
    });
    let size = if pyfmt::int::clamped(&size) < 5 { Value::Int(5) } else { size };
    tracing::info!(target: "patroni.api", "REST API thread_pool_size = {size}");
}

struct Server<B> {
    backend: Arc<B>,
    listener: Option<Listener>,
    active: Rc<RefCell<Rc<ActiveConfig>>>,
    registry: Rc<Registry>,
    busy_poll: Option<Rc<Registry>>,
    budget: Rc<Budget>,
    cache: Rc<ResponseCache<Snapshot>>,
    dates: Rc<Dates>,
    accepting: bool,
}

impl<B: Backend> Server<B> {
    fn new(backend: Arc<B>, listener: Listener, active: ActiveConfig) -> Server<B> {
        let registry = Registry::new(max_connections());
        // With one processor the client could not ask meanwhile.
        let many = std::thread::available_parallelism().is_ok_and(|n| n.get() > 1);
        Server {
            backend,
            listener: Some(listener),
            active: Rc::new(RefCell::new(Rc::new(active))),
            busy_poll: many.then(|| Rc::clone(&registry)),
            registry,
            budget: Budget::new(REQUEST_MEMORY),
            cache: Rc::default(),
            dates: Rc::default(),
            accepting: false,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let files = tokio::task::spawn_local(watch_tls_files(Rc::clone(&self.active)));
        let memory = tokio::task::spawn_local(release_idle_memory(Rc::clone(&self.registry)));
        loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Accept) => self.accepting = true,
                    Some(Command::Reload(active, reply)) => drop(reply.send(self.reload(*active))),
                    Some(Command::Stop) | None => break,
                },
                accepted = accept(self.listener.as_ref().filter(|_| self.accepting)) => match accepted {
                    Ok((tcp, peer)) => self.serve(tcp, peer),
                    Err(error) => self.pause(&error).await,
                },
            }
        }
        files.abort();
        memory.abort();
        self.listener = None;
        self.registry.evict_waiting();
        let _ = tokio::time::timeout(STOP_DEADLINE, self.registry.empty()).await;
    }

    fn serve(&self, tcp: TcpStream, peer: SocketAddr) {
        // With no place at all that many are being served, and this one is closed.
        let Some(ticket) = self.registry.admit(peer.ip().to_canonical()) else { return };
        let job = conn::Job {
            backend: Arc::clone(&self.backend),
            active: Rc::clone(&self.active.borrow()),
            newest: Rc::clone(&self.active),
            budget: Rc::clone(&self.budget),
            cache: Rc::clone(&self.cache),
            dates: Rc::clone(&self.dates),
            peer,
            busy_poll: self.busy_poll.clone(),
            ticket,
        };
        tokio::task::spawn_local(conn::serve(job, tcp));
    }

    /// Out of file descriptors: somebody who waits makes room.
    async fn pause(&self, error: &std::io::Error) {
        tracing::debug!(target: "patroni.api", "accept failed: {error}");
        self.registry.evict_one();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    fn reload(&mut self, active: ActiveConfig) -> Result<SocketAddr, StartError> {
        let old = Rc::clone(&self.active.borrow());
        if old.address != active.address {
            self.rebind(&old, &active)?;
        }
        *self.active.borrow_mut() = Rc::new(active);
        let listener = self.listener.as_ref().ok_or(StartError::Gone)?;
        Ok(listener.local_addr()?)
    }

    /// The new socket beside the old one; where the two exclude each other, the old
    /// one comes back if the new one cannot be had.
    fn rebind(&mut self, old: &ActiveConfig, new: &ActiveConfig) -> std::io::Result<()> {
        if old.address.port() == new.address.port() {
            self.listener = None;
        }
        match Listener::bind(&new.config, new.address) {
            Ok(listener) => {
                self.listener = Some(listener);
                Ok(())
            }
            Err(error) => {
                if self.listener.is_none() {
                    self.listener = Listener::bind(&old.config, old.address).ok();
                }
                Err(error)
            }
        }
    }
}

/// The heap keeps what a burst of clients needed, in pieces between what is still in use; when they have gone it is given
/// back to the system.
async fn release_idle_memory(registry: Rc<Registry>) {
    let mut highest = 0;
    loop {
        tokio::time::sleep(if highest >= BURST { MEMORY_CHECK_INTERVAL } else { BURST_CHECK_INTERVAL }).await;
        let (now, peak) = registry.high_water();
        highest = highest.max(peak);
        if highest >= BURST && now < BURST && peak < BURST {
            highest = 0;
            give_memory_back();
        }
    }
}

/// `malloc_trim(3)`: a call takes about a millisecond.
#[allow(unsafe_code)]
fn give_memory_back() {
    // SAFETY: it takes a number, is thread-safe, and touches free memory alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

async fn accept(listener: Option<&Listener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// A quarter of the file descriptors at most: the daemon needs the others.
fn max_connections() -> usize {
    let limit = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let soft = limit.map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX));
    (soft / 4).clamp(64, MAX_CONNECTIONS)
}
