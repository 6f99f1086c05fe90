//! The handle of the session: asks, waits for a connection, and asks again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout_at;

use super::driver::{self, Command};
use super::line::{Broken, Exchange, Reply};
use super::options::Options;
use super::proto::{Code, Op};
use super::shared::Shared;
use crate::kv::Failure;
use crate::{DcsError, Timing};

/// Answers, and whether an earlier attempt may have been carried out, too.
pub struct Answers {
    /// One for each operation.
    pub replies: Vec<Reply>,
    /// An attempt was sent before, and its answer was lost.
    pub repeated: bool,
}

/// Cheap to clone; the session ends with the last one.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
}

/// Pause before a request is tried again that was refused while there was a connection.
const PAUSE: Duration = Duration::from_millis(100);

fn no_answer(repeated: bool) -> Failure {
    let text = if repeated { "the connection to ZooKeeper was lost" } else { "no connection to ZooKeeper" };
    Failure::Unknown(text.into())
}

impl Client {
    /// Starts the thread that serves the session; it connects at once.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(options: Options, timing: Timing, unattended: bool) -> Result<Client, DcsError> {
        let shared = Arc::new(Shared::new(options, timing, unattended));
        let (commands, receiver) = mpsc::unbounded_channel();
        let driven = Arc::clone(&shared);
        let serve = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(driver::run(driven, receiver)),
            Err(error) => tracing::error!(target: "kazoo.client", "no runtime: {error}"),
        };
        let started = std::thread::Builder::new().name("ZooKeeper".into()).spawn(serve);
        started.map_err(|e| DcsError::Config(format!("no thread for ZooKeeper: {e}")))?;
        Ok(Client { shared, commands })
    }

    /// What is shared with the session's thread.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Leaves that session to end by itself.
    pub fn leave(&self, session: i64) {
        let _ = self.commands.send(Command::Leave(session));
    }

    /// A server has said that this session has ended.
    pub fn ended(&self, session: i64) {
        self.shared.state().ended = Some(session);
        self.leave(session);
    }

    /// Connects anew, by the options that are in force.
    pub fn reconnect(&self) {
        let _ = self.commands.send(Command::Reconnect);
    }

    /// The id of the session, once it is connected.
    pub async fn connected(&self, deadline: Instant) -> Option<i64> {
        let mut link = self.shared.link.subscribe();
        let found = timeout_at(deadline.into(), link.wait_for(Option::is_some)).await;
        match found {
            Ok(Ok(id)) => *id,
            _ => None,
        }
    }

    /// The id of a session other than that one, once it is connected.
    pub async fn connected_other(&self, than: i64, deadline: Instant) -> Option<i64> {
        let mut link = self.shared.link.subscribe();
        let other = |id: &Option<i64>| id.is_some_and(|id| id != than);
        let found = timeout_at(deadline.into(), link.wait_for(other)).await;
        match found {
            Ok(Ok(id)) => *id,
            _ => None,
        }
    }

    async fn once(
        &self,
        ops: Vec<Op>,
        session: Option<i64>,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Broken> {
        let (sink, answer) = oneshot::channel();
        let command = Command::Exchange(Exchange { ops, session, deadline, sink });
        if self.commands.send(command).is_err() {
            return Err(Broken::NotSent);
        }
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(answer)) => answer,
            // It may be on its way.
            _ => Err(Broken::Lost),
        }
    }

    /// Asks until there is an answer, or until the deadline; once, if `once`. With `session` the requests are of that
    /// session or of none.
    ///
    /// # Errors
    /// No answer in time, or the session is another one.
    pub async fn ask(
        &self,
        ops: &[Op],
        session: Option<i64>,
        deadline: Instant,
        once: bool,
    ) -> Result<Answers, Failure> {
        let mut repeated = false;
        loop {
            match self.once(self.rooted(ops), session, deadline).await {
                Ok(replies) if !replies.iter().any(|reply| is_transient(&reply.result)) => {
                    return Ok(Answers { replies, repeated });
                }
                Err(Broken::OtherSession) => {
                    return Err(Failure::SessionGone("the session has ended".into()));
                }
                Err(Broken::NotSent) => {}
                Ok(_) | Err(Broken::Lost) => repeated = true,
            }
            if once && repeated || Instant::now() + PAUSE >= deadline {
                return Err(no_answer(repeated));
            }
            tokio::time::sleep(PAUSE).await;
            if self.connected(deadline).await.is_none() {
                return Err(no_answer(repeated));
            }
        }
    }

    /// The operations with the whole paths.
    fn rooted(&self, ops: &[Op]) -> Vec<Op> {
        let options = Arc::clone(&self.shared.state().options);
        let root = options.chroot.as_str();
        ops.iter().map(|op| under(root, op)).collect()
    }
}

fn under(root: &str, op: &Op) -> Op {
    let mut op = op.clone();
    if root.is_empty() {
        return op;
    }
    match &mut op {
        Op::Multi(ops) => ops.iter_mut().for_each(|op| *op = under(root, op)),
        Op::Create { path, .. }
        | Op::Delete { path, .. }
        | Op::Exists { path, .. }
        | Op::Get { path }
        | Op::Set { path, .. }
        | Op::Children { path, .. }
        | Op::Sync { path }
        | Op::Check { path, .. }
        | Op::AddWatch { path } => {
            *path = if path == "/" { root.to_owned() } else { format!("{root}{path}") };
        }
        Op::Close => {}
    }
    op
}

/// Answers that say "not now", or "not here".
fn is_transient<T>(result: &Result<T, Code>) -> bool {
    let transient = [Code(-1), Code(-4), Code(-7), Code(-127), Code::SESSION_MOVED, Code::NOT_READ_ONLY];
    result.as_ref().err().is_some_and(|code| transient.contains(code))
}

/// What an error of a server means, where it is not the answer to the question.
pub fn failure(code: Code, what: &str) -> Failure {
    let text = format!("{what}: {}", code.name());
    match code {
        Code::NO_AUTH | Code::AUTH_FAILED | Code::AUTH_REQUIRED => Failure::Denied(text),
        Code::SESSION_EXPIRED => Failure::SessionGone(text),
        code if is_transient::<()>(&Err(code)) => Failure::Unknown(text),
        _ => Failure::Refused(text),
    }
}
