//! Renewing the lock for the lock keeper, over the session's own connection and thread.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;

use super::client::Client;
use super::proto::{Answer, Code, Op, ANY};
use crate::grant;
use crate::kv::{Failure, Held};
use crate::lock::{Granted, LockRenewer, Renewal};

/// The leader key as we hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurLock {
    key: String,
    value: String,
    session: Option<String>,
}

impl OurLock {
    /// The session that it is attached to.
    pub fn session(&self) -> Option<i64> {
        self.session.as_deref().and_then(|id| id.parse().ok())
    }

    /// A copy of its own.
    pub fn of(held: &Held<'_>) -> OurLock {
        OurLock { key: held.key.to_owned(), value: held.value.to_owned(), session: held.session.id.clone() }
    }
}

/// What both the HA loop and the lock keeper know.
pub type SharedLock = Arc<Mutex<Option<OurLock>>>;

/// Proves that the session was alive after this was called: a transaction that changes nothing goes through the leader of
/// the ensemble and its quorum, and is refused where the session has ended. (A heartbeat proves nothing: the server
/// answers it by itself, also when it is cut off.)
///
/// # Errors
/// No answer, or the session has ended.
pub async fn prove(client: &Client, path: &str, session: i64, deadline: Instant) -> Result<Granted, Failure> {
    let check = Op::Multi(vec![Op::Check { path: path.to_owned(), version: ANY }]);
    let mut answers = client.ask(&[check], Some(session), deadline, false).await?;
    let result = answers.replies.pop().map(|reply| reply.result);
    let code = match result {
        Some(Ok(Answer::Multi(answers))) => answers.into_iter().find_map(Result::err),
        Some(Err(code)) => Some(code),
        _ => return Err(Failure::Unknown("not the answer to what was asked".into())),
    };
    match code {
        // Whether the key is there, and may be read, is another question.
        None | Some(Code::NO_NODE | Code::NO_AUTH | Code::BAD_VERSION) => {}
        Some(code) => {
            let failure = super::client::failure(code, "session");
            if matches!(failure, Failure::SessionGone(_)) {
                client.ended(session);
            }
            return Err(failure);
        }
    }
    granted(client, session).ok_or_else(|| Failure::SessionGone("the session has ended".into()))
}

/// What this session is good for; None: it is not ours any more.
pub fn granted(client: &Client, session: i64) -> Option<Granted> {
    let state = client.shared().state();
    let known = state.session.as_ref().filter(|known| known.id == session)?;
    let lived = grant::Session { asked: state.asked, granted: known.timeout };
    Some(grant::promise(lived, &state.timing))
}

/// See [`LockRenewer`].
pub struct Renewer {
    client: Client,
    lock: SharedLock,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Renewer {
    /// For that session.
    pub fn new(client: Client, lock: SharedLock) -> Renewer {
        Renewer { client, lock, runtime: None }
    }
}

impl Drop for Renewer {
    fn drop(&mut self) {
        // May be dropped in another runtime, which cannot wait for this one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl LockRenewer for Renewer {
    fn renew(&mut self, limit: Duration) -> Renewal {
        let deadline = Instant::now() + limit;
        let lock = locked(&self.lock).clone();
        let Some(lock) = lock else {
            return Renewal::NoAnswer("which session it is is not known".into());
        };
        let Some(session) = lock.session() else {
            return Renewal::NoAnswer("not a session of ZooKeeper".into());
        };
        if self.runtime.is_none() {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(error) => return Renewal::NoAnswer(error.to_string()),
            }
        }
        let Some(runtime) = &self.runtime else { return Renewal::NoAnswer("no runtime".into()) };
        // Only who has the session may keep it alive by this: one that was left is not connected any more.
        self.client.shared().state().alive = Instant::now();
        let renewing = renew(&self.client, &lock, session, deadline);
        runtime.block_on(async {
            let answer = tokio::time::timeout_at(deadline.into(), renewing).await;
            answer.unwrap_or_else(|_| Renewal::NoAnswer(format!("no answer within {limit:?}")))
        })
    }
}

async fn renew(client: &Client, lock: &OurLock, session: i64, deadline: Instant) -> Renewal {
    let granted = match prove(client, &lock.key, session, deadline).await {
        Ok(granted) => granted,
        Err(Failure::SessionGone(_)) => return gone(client, session),
        Err(other) => return Renewal::NoAnswer(other.text().to_owned()),
    };
    // The session lives; but is the key still there, and under it?
    let get = Op::Get { path: lock.key.clone() };
    let answer = client.ask(&[get], Some(session), deadline, false).await;
    match answer.map(|mut answers| answers.replies.pop().map(|reply| reply.result)) {
        Ok(Some(Ok(Answer::Value(value, stat)))) => {
            let ours = stat.owner == session && value == lock.value.as_bytes();
            if ours {
                Renewal::Until(granted)
            } else {
                Renewal::Gone
            }
        }
        Ok(Some(Err(Code::NO_NODE))) => Renewal::Gone,
        Ok(Some(Err(code))) => Renewal::NoAnswer(code.name().into()),
        Ok(_) => Renewal::NoAnswer("not the answer to what was asked".into()),
        Err(Failure::SessionGone(_)) => gone(client, session),
        Err(other) => Renewal::NoAnswer(other.text().to_owned()),
    }
}

/// A session that we have left (for another ttl, or because the loop hung) has not ended for that: the lock that hangs
/// on it is promised as before.
fn gone(client: &Client, session: i64) -> Renewal {
    if client.shared().state().ended == Some(session) {
        return Renewal::Gone;
    }
    Renewal::NoAnswer("the session was left, and the key is not moved to the new one yet".into())
}
