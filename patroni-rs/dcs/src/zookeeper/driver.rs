//! The session: one connection at a time, served by a thread of its own, so that neither a hung HA loop nor a hung
//! runtime stops what the lock keeper has to do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::sleep_until;

use super::connect::{self, Begin, NoWire, Wire};
use super::jute::In;
use super::line::{Broken, Exchange, Line, Reply};
use super::options::ways_to_say_who_we_are;
use super::proto::{self, xid, Code, Event, Head, Op, Session};
use super::shared::{Noticed, Shared};
use crate::grant;
use crate::retry::Backoff;

const LOG: &str = "kazoo.client";

/// A connection that has lasted so long was a good one.
const STABLE: Duration = Duration::from_secs(2);

/// Between two rounds over the servers: who asks has little time.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// What the driver is told.
pub enum Command {
    /// Ask.
    Exchange(Exchange),
    /// Go on without that session, which is left to end by itself, and get another one.
    Leave(i64),
    /// Connect anew, to whatever the options say now; the session goes on.
    Reconnect,
}

/// How a connection has ended.
enum End {
    /// Nobody is left who could ask.
    Quit,
    /// There is to be another one.
    Again,
    /// It broke.
    Dropped,
}

/// Serves the session until all senders of `commands` are gone. To be run in a thread of its own.
pub async fn run(shared: Arc<Shared>, commands: mpsc::UnboundedReceiver<Command>) {
    let mut driver = Driver { shared, commands, last_zxid: 0, seen: Instant::now(), before_reset: None };
    let mut backoff = Backoff::new();
    loop {
        let end = match driver.connected().await {
            Ok(Some(wire)) => {
                let began = Instant::now();
                let end = driver.serve(wire).await;
                if began.elapsed() > STABLE {
                    backoff = Backoff::new();
                }
                match end {
                    // A server that takes everybody and serves nobody is not asked without a pause.
                    End::Dropped if began.elapsed() <= STABLE => {
                        driver.rest(backoff.next().min(LONGEST_REST)).await
                    }
                    end => end,
                }
            }
            Ok(None) => driver.rest(backoff.next().min(LONGEST_REST)).await,
            Err(end) => end,
        };
        if matches!(end, End::Quit) {
            return;
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Command>,
    last_zxid: i64,
    /// A server was last heard.
    seen: Instant,
    /// The newest transaction that was known, where it had to be forgotten to get a connection.
    before_reset: Option<i64>,
}

impl Driver {
    /// What comes while there is no connection.
    fn refuse(&self, command: Option<Command>) -> Option<End> {
        match command {
            None => Some(End::Quit),
            Some(Command::Exchange(exchange)) => {
                let _ = exchange.sink.send(Err(Broken::NotSent));
                None
            }
            Some(Command::Leave(session)) => {
                self.leave(session);
                Some(End::Again)
            }
            Some(Command::Reconnect) => Some(End::Again),
        }
    }

    fn leave(&self, session: i64) {
        let mut state = self.shared.state();
        if state.session.as_ref().is_some_and(|s| s.id == session) {
            state.leave();
        }
    }

    async fn rest(&mut self, pause: Duration) -> End {
        let until = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return End::Again,
                command = self.commands.recv() => {
                    if let Some(end) = self.refuse(command) {
                        return end;
                    }
                }
            }
        }
    }

    /// One round over the servers. A session that nobody is alive for is not kept by connecting with it.
    async fn connected(&mut self) -> Result<Option<Wire>, End> {
        if self.shared.is_over() {
            // What comes now is a session without keys, for those who read.
            self.abandon();
        }
        let (shared, last_zxid) = (Arc::clone(&self.shared), self.last_zxid);
        let round = round(shared, last_zxid);
        tokio::pin!(round);
        let found = loop {
            tokio::select! {
                found = &mut round => break found,
                command = self.commands.recv() => {
                    if let Some(end) = self.refuse(command) {
                        return Err(end);
                    }
                }
            }
        };
        let wire = match found {
            Round::Connected(wire, session, asked) => {
                self.adopt(session, asked);
                Some(wire)
            }
            Round::Refused => {
                self.forget_past();
                None
            }
            Round::Nothing => None,
        };
        Ok(wire)
    }

    fn adopt(&mut self, session: Session, asked: Duration) {
        let new = {
            let mut state = self.shared.state();
            let new = state.session.as_ref().is_none_or(|known| known.id != session.id);
            state.asked = asked;
            state.session = Some(session.clone());
            new
        };
        tracing::info!(target: LOG, "Zookeeper connection established, state: CONNECTED");
        tracing::debug!(target: LOG, "{session:?}, new: {new}");
        self.seen = Instant::now();
        self.shared.link.send_replace(Some(session.id));
        self.shared.tell(Noticed::Connected(new));
    }

    /// Servers that do not know what we have seen close the connection without a word. For a while that is right: another
    /// one knows it. When none does for longer than a session lives, the store is an earlier one.
    fn forget_past(&mut self) {
        let session = self.shared.state().session.as_ref().map(|s| s.timeout);
        let lives = session.unwrap_or_else(|| self.shared.state().timing.ttl);
        if self.last_zxid > 0 && self.seen.elapsed() > lives {
            self.before_reset = Some(self.last_zxid);
            self.last_zxid = 0;
        }
    }

    fn heard(&mut self, zxid: i64) {
        self.seen = Instant::now();
        if zxid <= 0 {
            return;
        }
        if self.before_reset.take().is_some_and(|before| zxid < before) {
            self.shared.state().setbacks += 1;
            tracing::warn!(target: LOG, "ZooKeeper has lost transactions that were seen before");
        }
        self.last_zxid = self.last_zxid.max(zxid);
    }

    /// The HA loop hangs: its keys are to run out.
    fn abandon(&self) {
        let session = {
            let mut state = self.shared.state();
            state.attended = false;
            state.leave()
        };
        if let Some(session) = session {
            tracing::warn!(target: LOG, "The HA loop was not seen for a while: its session is left to end ({session:?})");
        }
    }

    async fn serve(&mut self, wire: Wire) -> End {
        let mut line = Line::new(wire);
        let end = self.talk(&mut line).await;
        self.shared.link.send_replace(None);
        line.lost();
        end
    }

    async fn talk(&mut self, line: &mut Line) -> End {
        loop {
            let Some(session) = self.shared.state().session.clone() else { return End::Again };
            if self.shared.is_over() {
                self.abandon();
                return End::Again;
            }
            let timing = self.shared.state().timing;
            let ping_at = line.sent + grant::ping_interval(&timing, session.timeout);
            let dead_at = line.oldest().map(|sent| sent + grant::patience(&timing));
            let next = dead_at.map_or(ping_at, |dead_at| dead_at.min(ping_at));
            tokio::select! {
                message = line.wire.receive() => match message {
                    Ok(Some(message)) => {
                        if let Err(why) = self.hear(line, &message) {
                            return self.dropped(&why);
                        }
                    }
                    Ok(None) => return self.dropped("socket connection broken"),
                    Err(error) => return self.dropped(&error.to_string()),
                },
                command = self.commands.recv() => {
                    if let Some(end) = self.obey(line, command, &session, grant::patience(&timing)).await {
                        return end;
                    }
                }
                () = sleep_until(next.into()) => {
                    let now = Instant::now();
                    if dead_at.is_some_and(|at| now >= at) {
                        return self.dropped("outstanding heartbeat ping not received");
                    }
                    if now >= ping_at {
                        line.pinged.get_or_insert(now);
                        if let Err(error) = line.send(&proto::ping(), grant::patience(&timing)).await {
                            return self.dropped(&error.to_string());
                        }
                    }
                }
            }
        }
    }

    fn dropped(&self, why: &str) -> End {
        tracing::warn!(target: LOG, "Connection dropped: {why}");
        tracing::warn!(target: LOG, "Transition to CONNECTING");
        tracing::info!(target: LOG, "Zookeeper connection lost");
        End::Dropped
    }

    /// A message of the server.
    fn hear(&mut self, line: &mut Line, message: &[u8]) -> Result<(), String> {
        let mut body = In::new(message);
        let head = Head::read(&mut body).map_err(|e| e.to_string())?;
        self.heard(head.zxid);
        match head.xid {
            xid::PING => line.pinged = None,
            xid::EVENT => {
                let event = Event::read(&mut body).map_err(|e| e.to_string())?;
                let chroot = self.shared.state().options.chroot.clone();
                let path = event.path.strip_prefix(chroot.as_str()).unwrap_or(&event.path);
                self.shared.tell(Noticed::Changed(path.to_owned()));
            }
            xid::AUTH => {}
            _ => return self.answered(line, head, &mut body),
        }
        Ok(())
    }

    fn answered(&self, line: &mut Line, head: Head, body: &mut In<'_>) -> Result<(), String> {
        let Some(pending) = line.pending.pop_front().filter(|pending| pending.xid == head.xid) else {
            return Err(format!("xids do not match, received {}", head.xid));
        };
        let result = match head.error {
            Some(code) => Err(code),
            None => Ok(pending.op.answer(body).map_err(|e| e.to_string())?),
        };
        let over = match (&pending.op, &result) {
            (Op::Close, Ok(_)) => Some("closed"),
            (_, Err(Code::SESSION_EXPIRED)) => Some("Session has expired"),
            _ => None,
        };
        if let Some(why) = over {
            tracing::info!(target: LOG, "Zookeeper session {why}");
            self.shared.end();
        }
        // The request is answered even if the connection is of no more use.
        let elsewhere = matches!(result, Err(Code::SESSION_MOVED | Code::NOT_READ_ONLY));
        line.answer(Reply { zxid: head.zxid, result });
        if elsewhere {
            return Err("this server does not serve the session".into());
        }
        Ok(())
    }

    async fn obey(
        &mut self,
        line: &mut Line,
        command: Option<Command>,
        session: &Session,
        patience: Duration,
    ) -> Option<End> {
        let exchange = match command {
            Some(Command::Exchange(exchange)) => exchange,
            None => return Some(End::Quit),
            Some(Command::Leave(id)) => {
                self.leave(id);
                return None;
            }
            Some(Command::Reconnect) => return Some(End::Again),
        };
        if Instant::now() >= exchange.deadline {
            return None;
        }
        if exchange.session.is_some_and(|id| id != session.id) {
            let _ = exchange.sink.send(Err(Broken::OtherSession));
            return None;
        }
        let frames = line.enqueue(exchange);
        if let Err(error) = line.send(&frames, patience).await {
            return Some(self.dropped(&error.to_string()));
        }
        None
    }
}

/// What one round over the servers has brought.
enum Round {
    /// With the timeout that was asked for.
    Connected(Wire, Session, Duration),
    /// All that could be reached have closed the connection without a word.
    Refused,
    Nothing,
}

async fn round(shared: Arc<Shared>, last_zxid: i64) -> Round {
    let (options, former, timing) = {
        let state = shared.state();
        (Arc::clone(&state.options), state.former.clone(), state.timing)
    };
    let ways = ways_to_say_who_we_are(&options.credentials, &former);
    let limit = grant::patience(&timing);
    let addresses = connect::addresses(&options.hosts, limit).await;
    if addresses.is_empty() {
        tracing::warn!(target: LOG, "No host resolved. Reconnecting");
    }
    let (mut silent, mut others) = (0, 0);
    for (host, address) in addresses {
        let (ip, port, ssl) =
            (address.ip(), address.port(), if options.tls.is_some() { "True" } else { "False" });
        tracing::info!(target: LOG, "Connecting to {host}({ip}):{port}, use_ssl: {ssl}");
        let mut ways = ways.iter().map(Vec::as_slice);
        let Some(mut credentials) = ways.next() else { continue };
        let mut ended = false;
        loop {
            let (session, asked) = {
                let state = shared.state();
                let asked = if state.session.is_some() { state.asked } else { state.timing.ttl };
                (state.session.clone(), asked)
            };
            let session = session.as_ref();
            let begin = Begin { options: &options, credentials, session, timeout: asked, last_zxid };
            match connect::open(&host, address, &begin, limit).await {
                Ok((wire, session)) => return Round::Connected(wire, session, asked),
                // Once more, for a new one.
                Err(NoWire::Expired) if session.is_some() && !ended => {
                    tracing::warn!(target: LOG, "Session has expired");
                    shared.end();
                    ended = true;
                    continue;
                }
                Err(NoWire::Expired) => others += 1,
                Err(NoWire::Silent) => {
                    silent += 1;
                    tracing::warn!(target: LOG, "Connection dropped: socket connection broken");
                }
                Err(NoWire::NotBelieved(text)) => {
                    tracing::error!(target: LOG, "AUTH_FAILED closing: {text}");
                    if let Some(before) = ways.next() {
                        tracing::error!(target: LOG, "Going on with the credentials before");
                        credentials = before;
                        continue;
                    }
                    others += 1;
                }
                Err(NoWire::Broken(text)) => {
                    others += 1;
                    tracing::warn!(target: LOG, "Connection dropped: {text}");
                }
            }
            break;
        }
    }
    if silent > 0 && others == 0 {
        Round::Refused
    } else {
        Round::Nothing
    }
}
