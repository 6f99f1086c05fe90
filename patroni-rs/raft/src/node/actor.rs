//! The thread: everything that happens to the machine, one thing after the other.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Mono;
use patroni_core::mutex::locked;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use super::carry::Wish;
use super::connection::Outlet;
use super::links::{listen, Event, Links, Name};
use super::{now, utility, wall, Config, Input, Shared, Standing};
use crate::entry::Entry;
use crate::fernet::Fernet;
use crate::journal::{Journal, Meta};
use crate::kv::{Done, Kv};
use crate::machine::{Machine, Origin, Peer, Start, Token};
use crate::message::{Message, Reason};
use crate::pickle::Value;

/// After something has gone wrong with the files or the port.
const AGAIN: Duration = Duration::from_secs(1);
/// A machine that is busy gets its tick at the latest so long after it wanted it.
const LATE: Duration = Duration::from_millis(200);
/// The members are asked at most for so long who they are.
const ASK: Duration = Duration::from_secs(3);

/// One life: from the opening of the files to the next error.
pub(super) struct Actor<'a> {
    pub config: &'a Config,
    pub shared: &'a Shared,
    pub machine: Machine,
    pub journal: Option<Journal>,
    pub answers: HashMap<Token, oneshot::Sender<Result<Done, Reason>>>,
    pub next_token: Token,
    pub peers: HashMap<Peer, (u64, Outlet, AbortHandle)>,
    pub connections: HashMap<u64, Peer>,
    pub readers: u64,
    pub wishes: Vec<Wish>,
    pub links: Links,
    pub dialers: HashMap<Arc<str>, AbortHandle>,
    pub tasks: JoinSet<()>,
    pub dumped: Mono,
    /// The highest term that this process has stored.
    pub highest: &'a Cell<u64>,
    pub started: Mono,
}

/// The thread's whole life.
pub(super) fn run(config: Config, mut inputs: mpsc::UnboundedReceiver<Input>, shared: Arc<Shared>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return broken(&shared, &format!("there is no runtime: {error}")),
    };
    runtime.block_on(async {
                let fernet = match config.password.as_ref().map(|password| Fernet::of_password(&password.0)).transpose() {
            Ok(fernet) => fernet.map(Arc::new),
            Err(error) => return broken(&shared, &format!("there is no key: {error}")),
        };
        let mut said = String::new();
        let highest = Cell::new(0);
        while !shared.stop.load(Ordering::Relaxed) {
            let Err(error) = live(&config, fernet.as_ref(), &mut inputs, &shared, &highest).await else { return };
            let text = error.to_string();
            broken(&shared, &text);
            if std::mem::replace(&mut said, text.clone()) != text {
                tracing::error!(target: "patroni.dcs.raft", "this member takes no part until it is mended: {text}");
            }
            // Whoever asks now is told at once.
            let pause = tokio::time::sleep(AGAIN);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    input = inputs.recv() => match input {
                        Some(Input::Propose(_, answer)) => {
                            let _ = answer.send(Err(Reason::MissingLeader));
                        }
                        None => return,
                    },
                }
            }
        }
    });
}

fn broken(shared: &Shared, why: &str) {
    shared.standing.send_replace(Standing { broken: Some(why.to_owned()), ..Standing::default() });
}

/// Opens the files, joins, and goes on until something breaks. Ok: it is to end.
async fn live(
    config: &Config,
    fernet: Option<&Arc<Fernet>>,
    inputs: &mut mpsc::UnboundedReceiver<Input>,
    shared: &Shared,
    highest: &Cell<u64>,
) -> io::Result<()> {
    let own: Option<Arc<str>> = config.own.as_deref().map(Arc::from);
    let listener = match &own {
        Some(own) => Some(listen(own, config.bind.as_deref()).await.map_err(|e| {
            io::Error::new(
                e.kind(),
                format!("cannot listen at {}: {e}", config.bind.as_deref().unwrap_or(own)),
            )
        })?),
        None => None,
    };
    let (journal, found) = match &own {
        Some(own) => {
            let directory = &config.data_dir;
            std::fs::create_dir_all(directory)?;
            let (journal, found) = Journal::open(&directory.join(&**own))?;
            if found.meta.term < highest.get() {
                // A directory that is not mounted, or was restored: this member has promised more than it knows there.
                let directory = directory.display();
                return Err(io::Error::other(format!(
                    "what is in {directory} is older than what was written there"
                )));
            }
            (Some(journal), Some(found))
        }
        None => (None, None),
    };
    let asked: Vec<String> =
        config.partners.iter().filter(|partner| own.as_deref() != Some(partner.as_str())).cloned().collect();
    let members = utility::ask_members(&asked, fernet, config.retry_timeout.min(ASK)).await;
    let mut others: BTreeSet<Arc<str>> = match &members {
        Some((_, members)) => members.iter().map(|member| Arc::from(member.as_str())).collect(),
        None => asked.iter().map(|partner| Arc::from(partner.as_str())).collect(),
    };
    let start = now();
    let mut kv = Kv::default();
    let (mut applied, mut dump_bytes) = (1, None);
    let (entries, meta) = match found {
        Some(found) => {
            if let Some(dump) = found.dump {
                let unknown = || io::Error::other("the dump holds what is not known here");
                kv = Kv::of_value(&dump.data, start).ok_or_else(unknown)?;
                (applied, dump_bytes) = (dump.last.index, found.dump_bytes);
                if members.is_none() {
                    others = dump.members;
                }
            }
            (found.entries, found.meta)
        }
        None => (vec![Entry::first()], Meta { term: 0, voted: None, commit: 1 }),
    };
    others.retain(|other| own.as_ref() != Some(other));
    *locked(&shared.kv) = kv;
    let seed = rand::random();
    let machine = Machine::new(
        Start { own: own.clone(), others, entries, applied, meta, dump: dump_bytes, seed },
        start,
    );
    let (links, events) = Links::new(fernet.cloned());
    let mut actor = Actor {
        config,
        shared,
        machine,
        journal,
        answers: HashMap::new(),
        next_token: 0,
        peers: HashMap::new(),
        connections: HashMap::new(),
        readers: 0,
        wishes: Vec::new(),
        links,
        dialers: HashMap::new(),
        tasks: JoinSet::new(),
        dumped: start,
        highest,
        started: start,
    };
    if let Some(listener) = listener {
        actor.tasks.spawn(actor.links.clone().accept(listener));
    }
    if let (Some(own), Some((teller, known))) = (own, members) {
        if !known.iter().any(|member| member == &*own) {
            actor.join_cluster(teller, own.to_string());
        }
    }
    actor.live(inputs, events).await
}

impl Actor<'_> {
    /// Until we are a member. A leader refuses while another one is on its way in.
    fn join_cluster(&mut self, teller: String, own: String) {
        let fernet = self.links.fernet.clone();
        let limit = self.config.retry_timeout.max(Duration::from_secs(1));
        self.tasks.spawn(async move {
            loop {
                let _ = utility::ask_to_join(&teller, &own, fernet.clone(), limit).await;
                let asked = utility::ask_members(std::slice::from_ref(&teller), fernet.as_ref(), limit).await;
                if asked.is_some_and(|(_, members)| members.contains(&own)) {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    async fn live(
        &mut self,
        inputs: &mut mpsc::UnboundedReceiver<Input>,
        mut events: mpsc::Receiver<Event>,
    ) -> io::Result<()> {
        let effects = self.machine.tick(now());
        self.carry_out(effects)?;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.dial();
            self.tell();
            self.measure()?;
            self.grant_wishes()?;
            let wait = self.machine.wake_at().since(now()).clamp(Duration::from_millis(5), AGAIN);
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.happened(event)?,
                    None => return Err(io::Error::other("its tasks have ended")),
                },
                input = inputs.recv() => match input {
                    Some(Input::Propose(command, answer)) => self.propose(command, answer)?,
                    None => break,
                },
                _ = second.tick() => self.every_second()?,
                () = tokio::time::sleep(wait) => {}
            }
            // What has come is looked at before the clock: it may be the leader's, and we have slept.
            let late = now().since(self.machine.wake_at());
            if now() >= self.machine.wake_at() && (events.is_empty() || late > LATE) {
                let effects = self.machine.tick(now());
                self.carry_out(effects)?;
                self.expire()?;
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.sync()?;
            journal.tidy()?;
        }
        Ok(())
    }

    fn propose(
        &mut self,
        command: Arc<[u8]>,
        answer: oneshot::Sender<Result<Done, Reason>>,
    ) -> io::Result<()> {
        self.next_token += 1;
        self.answers.insert(self.next_token, answer);
        let effects = self.machine.propose(command, Origin::Here(self.next_token), now());
        self.carry_out(effects)
    }

    /// How far is the clock of a leader of the reference ahead?
    fn measure(&mut self) -> io::Result<()> {
        if !self.machine.is_ready() {
            return Ok(());
        }
        let term = self.machine.numbers().term;
        let leader = self.machine.leader().filter(|_| !self.machine.leader_is_alike());
        let probe = locked(&self.shared.clock).tick(now(), wall(), leader.map(|leader| (leader, term)));
        let Some(call) = probe else { return Ok(()) };
        self.next_token += 1;
        let effects = self.machine.propose(call.command(), Origin::Here(self.next_token), now());
        self.carry_out(effects)
    }

    /// A leader ends what nobody has written for its ttl.
    fn expire(&mut self) -> io::Result<()> {
        if !self.machine.is_leader() {
            return Ok(());
        }
        let due = locked(&self.shared.kv).due(now());
        for call in due {
            self.next_token += 1;
            let effects = self.machine.propose(call.command(), Origin::Here(self.next_token), now());
            self.carry_out(effects)?;
        }
        Ok(())
    }

    fn every_second(&mut self) -> io::Result<()> {
        if let Some(journal) = &mut self.journal {
            journal.tidy()?;
        }
        // Nobody waits for these any more.
        let gone: Vec<Token> =
            self.answers.iter().filter(|(_, answer)| answer.is_closed()).map(|(token, _)| *token).collect();
        for token in gone {
            self.answers.remove(&token);
            self.machine.forget(token);
        }
        let ended: Vec<Peer> = self
            .peers
            .iter()
            .filter(|(peer, (_, outlet, _))| matches!(peer, Peer::Member(_)) && !outlet.send(Message::Ping))
            .map(|(peer, _)| peer.clone())
            .collect();
        for peer in ended {
            self.close(&peer);
            self.gone(&peer)?;
        }
        self.dump_if_due()
    }

    /// Who is to dial whom: the one with the greater address. A reader dials all.
    fn dial(&mut self) {
        let own = self.config.own.as_deref();
        let wanted = |other: &Arc<str>| own.is_none_or(|own| own > &**other);
        let others = self.machine.others();
        let hello = Value::str(own.unwrap_or("readonly"));
        self.dialers.retain(|member, task| {
            let stays = others.contains(member);
            if !stays {
                task.abort();
            }
            stays
        });
        let new: Vec<_> =
            others.iter().filter(|o| wanted(o) && !self.dialers.contains_key(*o)).cloned().collect();
        for member in new {
            let task = self.tasks.spawn(self.links.clone().dial(Arc::clone(&member), hello.clone()));
            self.dialers.insert(member, task);
        }
    }

    fn tell(&self) {
        let standing = Standing {
            ready: self.machine.is_ready(),
            replayed: self.config.own.is_some() && self.machine.is_replayed(),
            leads: self.machine.is_leader(),
            leader: self.machine.leader().cloned(),
            alike: self.machine.leader_is_alike(),
            broken: None,
            applied: self.machine.numbers().applied,
        };
        self.shared.standing.send_if_modified(|old| {
            let new = *old != standing;
            if new {
                *old = standing;
            }
            new
        });
    }

    fn happened(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Hello(id, name, outlet, task) => self.hello(id, name, outlet, task),
            Event::Message(id, message) => match self.connections.get(&id).cloned() {
                Some(peer) => {
                    let effects = self.machine.receive(&peer, message, now());
                    self.carry_out(effects)
                }
                None => Ok(()),
            },
            Event::Gone(id) => match self.connections.get(&id).cloned() {
                Some(peer) => {
                    self.close(&peer);
                    self.gone(&peer)
                }
                None => Ok(()),
            },
            Event::Utility(command, answer) => self.utility(&command, answer),
        }
    }

    fn hello(&mut self, id: u64, name: Name, outlet: Outlet, task: AbortHandle) -> io::Result<()> {
        let peer = match name {
            Name::Member(name) if self.machine.others().contains(&name) => Peer::Member(name),
            Name::Member(name) => {
                tracing::debug!(target: "patroni.dcs.raft", "{name} is no member: its connection is closed");
                task.abort();
                return Ok(());
            }
            Name::Reader => {
                self.readers += 1;
                Peer::Reader(self.readers)
            }
        };
        if self.peers.contains_key(&peer) {
            self.close(&peer);
            self.gone(&peer)?;
        }
        self.peers.insert(peer.clone(), (id, outlet, task));
        self.connections.insert(id, peer.clone());
        let effects = self.machine.connected(peer, now());
        self.carry_out(effects)
    }

    /// Ends the connection. The machine hears of it by [`Actor::gone`].
    pub(super) fn close(&mut self, peer: &Peer) {
        if let Some((id, _, task)) = self.peers.remove(peer) {
            task.abort();
            self.connections.remove(&id);
        }
    }

    pub(super) fn gone(&mut self, peer: &Peer) -> io::Result<()> {
        let effects = self.machine.disconnected(peer, now());
        self.carry_out(effects)
    }
}
