//! A running member (or reader): a thread of its own, whatever happens to the rest of the process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use patroni_core::ha::Mono;
use patroni_core::mutex::locked;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::clock::{Ahead, LeaderClock};
use crate::kv::{Call, Change, Done, Kv};
use crate::message::Reason;

mod actor;
mod carry;
mod connection;
mod links;
mod utility;

pub use utility::{ask, ask_members};

/// Changes that a slow reader may be behind before it has to look for itself.
const CHANGES: usize = 1024;

/// Entries of a journal, before a dump takes their place.
pub const MOST_ENTRIES: u64 = 5000;

/// How a member is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our address, `host:port`, as the others know it; None: a reader, which has no vote and no files.
    pub own: Option<String>,
    /// Where to listen instead, `host:port`.
    pub bind: Option<String>,
    /// Addresses of others.
    pub partners: Vec<String>,
    /// Where the files are; empty: the working directory.
    pub data_dir: PathBuf,
    /// For the encryption; None: there is none.
    pub password: Option<Secret>,
    /// How long the others are asked for the members at the start.
    pub retry_timeout: Duration,
    /// The journal is made shorter when it has more entries. (PySyncObj's number is [`MOST_ENTRIES`].)
    pub most_entries: u64,
}

/// A password: it is not printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What became of a command; None of it: the member was stopped.
pub type Answer = oneshot::Receiver<Result<Done, Reason>>;

/// How a member stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// It has everything that the leader had committed when it was heard first.
    pub ready: bool,
    /// It has everything that its own files know to be committed.
    pub replayed: bool,
    /// It leads.
    pub leads: bool,
    /// Who leads, as far as it knows.
    pub leader: Option<Arc<str>>,
    /// The leader is of our own making: it ends keys by its own monotonic clock.
    pub alike: bool,
    /// Why it takes no part; it tries again.
    pub broken: Option<String>,
    /// The last entry that was applied.
    pub applied: u64,
}

enum Input {
    Propose(Arc<[u8]>, oneshot::Sender<Result<Done, Reason>>),
}

struct Shared {
    kv: Mutex<Kv>,
    clock: Mutex<LeaderClock>,
    changes: broadcast::Sender<Change>,
    standing: watch::Sender<Standing>,
    stop: AtomicBool,
}

/// A running member. It ends when this is dropped.
pub struct Node {
    input: Option<mpsc::UnboundedSender<Input>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// For those who only ask: what a [`Node`] can do, without its life.
#[derive(Clone)]
pub struct Asker {
    input: mpsc::WeakUnboundedSender<Input>,
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({:?})", self.standing())
    }
}

/// Now by the wall clock, in seconds since 1970.
pub fn wall() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |time| time.as_secs_f64())
}

/// Now, by the clock that counts suspended time.
pub fn now() -> Mono {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from);
    Mono::at(time.unwrap_or_default())
}

impl Node {
    /// Starts a member. Its files are opened, and its port is bound, in its thread: what fails there is tried again.
    ///
    /// # Errors
    /// An address is none, or there is no thread.
    pub fn start(config: Config) -> Result<Node, String> {
        let addresses = config.own.iter().chain(&config.bind).chain(&config.partners);
        for address in addresses {
            if !crate::entry::is_address(address) {
                return Err(format!("{address} is not an address: host:port"));
            }
        }
        let (input, inputs) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            kv: Mutex::new(Kv::default()),
            clock: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
            standing: watch::Sender::new(Standing::default()),
            stop: AtomicBool::new(false),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || actor::run(config, inputs, theirs))
            .map_err(|e| e.to_string())?;
        Ok(Node { input: Some(input), shared, thread: Some(thread) })
    }

    /// For others that want to propose something.
    pub fn asker(&self) -> Asker {
        let input = match &self.input {
            Some(input) => input.downgrade(),
            None => mpsc::unbounded_channel().0.downgrade(),
        };
        Asker { input, shared: Arc::clone(&self.shared) }
    }

    /// Calls a replicated function.
    pub fn call(&self, call: &Call) -> Answer {
        self.asker().call(call)
    }

    /// Answers when a majority has confirmed an entry that was made after this call, and everything before it has been
    /// applied here: what is read afterwards is not old.
    pub fn barrier(&self) -> Answer {
        self.asker().propose(crate::entry::no_op())
    }

    /// Looks at the dictionary.
    pub fn view<R>(&self, look: impl FnOnce(&Kv) -> R) -> R {
        look(&locked(&self.shared.kv))
    }

    /// The clock of a leader of the reference is measured from now on: see [`LeaderClock::measure`].
    pub fn measure_leader(&self, name: &str, life: Duration) {
        locked(&self.shared.clock).measure(name, life);
    }

    /// Changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        self.shared.standing.borrow().clone()
    }

    /// The same, to wait for.
    pub fn watch_standing(&self) -> watch::Receiver<Standing> {
        self.shared.standing.subscribe()
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.input = None;
    }

    /// Ends it, and waits until its files are closed.
    pub fn join(mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Asker {
    /// As [`Standing::alike`].
    pub fn leader_is_alike(&self) -> bool {
        self.shared.standing.borrow().alike
    }

    /// Looks at the dictionary.
    pub fn view<R>(&self, look: impl FnOnce(&Kv) -> R) -> R {
        look(&locked(&self.shared.kv))
    }

    /// The leader's address, if it is of the reference.
    pub fn leader(&self) -> Option<Arc<str>> {
        locked(&self.shared.clock).leader().map(Arc::clone)
    }

    /// How far the wall clock of the leader, if that is of the reference, is ahead of ours.
    pub fn leader_ahead(&self) -> Ahead {
        locked(&self.shared.clock).ahead(now(), wall())
    }

    /// Calls a replicated function.
    pub fn call(&self, call: &Call) -> Answer {
        self.propose(call.command())
    }

    fn propose(&self, command: Arc<[u8]>) -> Answer {
        let (answer, answered) = oneshot::channel();
        if let Some(input) = self.input.upgrade() {
            let _ = input.send(Input::Propose(command, answer));
        }
        answered
    }
}
