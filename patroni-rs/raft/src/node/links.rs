//! Connections, made and accepted: the tasks around the actor.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, Semaphore};
use tokio::task::JoinSet;

use super::connection::{connect, Outlet, Talk, HANDSHAKE};
use crate::entry::address_parts;
use crate::fernet::Fernet;
use crate::message::Message;
use crate::pickle::Value;
use crate::wire::FIRST_FRAME;

/// Between two attempts to reach a member. (PySyncObj: 5 s.)
const RETRY: Duration = Duration::from_secs(1);
/// Connections of those who have not said who they are.
const STRANGERS: usize = 64;
/// Messages that wait for the actor: who sends more waits.
const WAITING: usize = 256;

/// What the tasks tell the actor.
pub enum Event {
    /// Somebody is there, and says who it is; the number is the connection's.
    Hello(u64, Name, Outlet, tokio::task::AbortHandle),
    /// A message over that connection.
    Message(u64, Message),
    /// It has ended.
    Gone(u64),
    /// A utility command.
    Utility(Vec<Value>, oneshot::Sender<Value>),
}

/// Who is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// A member that says so, or that we have dialled.
    Member(Arc<str>),
    /// One without a vote.
    Reader,
}

/// What all tasks share.
#[derive(Clone)]
pub struct Links {
    /// To the actor.
    pub events: mpsc::Sender<Event>,
    /// The key.
    pub fernet: Option<Arc<Fernet>>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

impl Links {
    /// The links, and what they tell.
    pub fn new(fernet: Option<Arc<Fernet>>) -> (Links, mpsc::Receiver<Event>) {
        let (events, told) = mpsc::channel(WAITING);
        (Links { events, fernet, next: Arc::default() }, told)
    }

    /// Messages of a connection, until it ends.
    async fn talk(&self, talk: Talk, name: Name, task: tokio::task::AbortHandle) {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (outlet, outgoing, backlog) = Outlet::new();
        if self.events.send(Event::Hello(id, name.clone(), outlet, task)).await.is_err() {
            return;
        }
        let error = talk.messages(outgoing, backlog, &self.events, id).await;
        if error.kind() == std::io::ErrorKind::InvalidData {
            tracing::warn!(target: "patroni.dcs.raft", "the connection with {name:?} is closed: {error}");
        }
        let _ = self.events.send(Event::Gone(id)).await;
    }

    /// Dials a member again and again; `own` is what we say of ourselves.
    pub async fn dial(self, member: Arc<str>, own: Value) {
        let mut said = false;
        loop {
            let shaken = tokio::time::timeout(HANDSHAKE, async {
                let mut talk = Talk::new(connect(&member, HANDSHAKE).await?, self.fernet.clone());
                talk.dial_keys().await?;
                talk.send(&own).await?;
                Ok::<_, std::io::Error>(talk)
            });
            match shaken.await {
                Ok(Ok(talk)) => {
                    said = false;
                    let (links, name) = (self.clone(), Name::Member(Arc::clone(&member)));
                    let mut tasks = JoinSet::new();
                    let (give, given) = oneshot::channel();
                    let task = tasks.spawn(async move {
                        if let Ok(task) = given.await {
                            links.talk(talk, name, task).await;
                        }
                    });
                    let _ = give.send(task);
                    tasks.join_next().await;
                }
                Ok(Err(error)) if !said && error.kind() == std::io::ErrorKind::InvalidData => {
                    said = true;
                    tracing::warn!(target: "patroni.dcs.raft", "{member} does not understand us: {error}");
                }
                _ => {}
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Accepts connections, as long as it is let.
    pub async fn accept(self, listener: TcpListener) {
        let strangers = Arc::new(Semaphore::new(STRANGERS));
        let mut tasks = JoinSet::new();
        loop {
            let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = tasks.join_next() => continue,
            };
            let Ok((stream, _)) = accepted else {
                // No descriptors left, perhaps.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let links = self.clone();
            let (give, given) = oneshot::channel();
            let task = tasks.spawn(async move {
                let greeted = tokio::time::timeout(HANDSHAKE, links.greet(stream)).await;
                drop(permit);
                if let (Ok(Some((talk, name))), Ok(task)) = (greeted, given.await) {
                    links.talk(talk, name, task).await;
                }
            });
            let _ = give.send(task);
        }
    }

    /// Who is there? Utility commands are answered meanwhile.
    async fn greet(&self, stream: TcpStream) -> Option<(Talk, Name)> {
        let mut talk = Talk::new(stream, self.fernet.clone());
        talk.accept_keys().await.ok()?;
        loop {
            match talk.receive(FIRST_FRAME).await.ok()? {
                Value::Str(name) if *name == *"readonly" => return Some((talk, Name::Reader)),
                Value::Str(name) => return Some((talk, Name::Member(name))),
                Value::List(command) => {
                    let (answer, answered) = oneshot::channel();
                    self.events.send(Event::Utility(command, answer)).await.ok()?;
                    let answer = answered.await.ok()?;
                    talk.send(&answer).await.ok()?;
                }
                _ => return None,
            }
        }
    }
}

/// Listens where the configuration says, or at our own port everywhere.
///
/// # Errors
/// The port is in use, or the name is not ours.
pub async fn listen(own: &str, bind: Option<&str>) -> std::io::Result<TcpListener> {
    let (host, port) = address_parts(bind.unwrap_or(own)).ok_or(std::io::ErrorKind::InvalidInput)?;
    let host = match bind {
        Some(_) => host.trim_start_matches('[').trim_end_matches(']'),
        None if host.contains(':') => "::",
        None => "0.0.0.0",
    };
    let mut addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.collect();
    addresses.sort_by_key(|address| !address.is_ipv4());
    let address = addresses.first().ok_or(std::io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(*address)?;
    socket.listen(64)
}
