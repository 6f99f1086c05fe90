//! The session that has our leader key and our member key locked (surface-dcs 12).

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use pyfmt::value::float_repr;
use tokio::sync::Mutex as AsyncMutex;

use super::api::{Api, Ask, Said};
use super::wire::{from_json, to_json, NewSession, SessionEntry, SessionId};
use crate::kv::{Effort, Failure, Session};
use crate::lock::Granted;

/// Consul's servers keep a session for that many times its TTL after the last renewal; the reference asks for half of the
/// ttl on account of it.
///
/// Documented is less: that a session is not ended *before* its TTL is over. But every server since sessions have TTLs
/// (0.4) waits for twice the TTL, a new leader of Consul begins anew with twice the TTL, and 1.8.7 was measured to
/// (docs/decisions/0013-consul-sessions.md, with what counting once the TTL would cost).
const TTL_MULTIPLIER: u32 = 2;

/// The session as it is known.
#[derive(Default)]
pub struct Sessions {
    state: Mutex<State>,
    /// Two refreshes at a time would make two sessions.
    refreshing: AsyncMutex<()>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    refreshed: Option<Instant>,
    /// What the leader key is locked by, if it is ours.
    of_leader: Option<String>,
}

impl Sessions {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// The id, if there is a session.
    pub fn id(&self) -> Option<String> {
        self.state().session.as_ref().and_then(|s| s.id.clone())
    }

    /// It has ended, or has the wrong TTL: the next refresh makes a new one.
    pub fn forget(&self) {
        self.state().session = None;
    }

    /// The next refresh renews whenever the last one was.
    pub fn expect_refresh(&self) {
        self.state().refreshed = None;
    }

    /// What the leader key is known to be locked by, if it is ours.
    pub fn of_leader(&self) -> Option<String> {
        self.state().of_leader.clone()
    }

    /// The leader key is locked by that session; None: that is not known, or the key is not ours.
    pub fn set_of_leader(&self, session: Option<String>) {
        self.state().of_leader = session;
    }

    /// The leader key is to run out: everything else of ours gets another session.
    pub fn leave_to_leader(&self) {
        let mut state = self.state();
        let id = state.session.as_ref().and_then(|s| s.id.clone());
        if id.is_some() && id == state.of_leader {
            state.session = None;
        }
    }

    /// Renews the session unless that was done within `loop_wait`, or always with `force`; makes one where there is none.
    ///
    /// # Errors
    /// See [`Api::call`].
    pub async fn refresh(
        &self,
        api: &Api,
        name: &str,
        force: bool,
        effort: Effort,
    ) -> Result<Session, Failure> {
        let _one_at_a_time = self.refreshing.lock().await;
        let timing = api.shared().timing();
        let (session, fresh) = {
            let state = self.state();
            let fresh = state.refreshed.is_some_and(|at| at.elapsed() < timing.loop_wait);
            (state.session.clone(), fresh)
        };
        if let Some(session) = session {
            if fresh && !force {
                return Ok(session);
            }
            let id = session.id.as_deref().unwrap_or_default();
            if let Some(granted) = renew(api, id, effort).await? {
                let session = Session { granted, ..session };
                let mut state = self.state();
                state.refreshed = Some(Instant::now());
                // Unless it was given up meanwhile.
                if state.session.as_ref().is_some_and(|s| s.id == session.id) {
                    state.session = Some(session.clone());
                }
                return Ok(session);
            }
            self.forget();
        }
        let session = create(api, name, timing.ttl, effort).await?;
        let mut state = self.state();
        (state.session, state.refreshed) = (Some(session.clone()), Some(Instant::now()));
        Ok(session)
    }
}

/// `15.0s`: half of the ttl, as Python writes it.
pub fn session_ttl(ttl: Duration) -> String {
    format!("{}s", float_repr(ttl.as_secs_f64() / 2.0))
}

/// What a session with this TTL lives at least.
fn granted(session_ttl: &str) -> Result<Granted, Failure> {
    let seconds = session_ttl.strip_suffix('s').and_then(|text| text.parse::<f64>().ok());
    let ttl = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).filter(|ttl| !ttl.is_zero());
    let ttl = ttl.ok_or_else(|| Failure::Unknown(format!("not a TTL of ours: {session_ttl}")))?;
    Ok(Granted { ttl: ttl * TTL_MULTIPLIER })
}

async fn create(api: &Api, name: &str, ttl: Duration, effort: Effort) -> Result<Session, Failure> {
    let ttl = session_ttl(ttl);
    let options = api.shared().options();
    let new = NewSession {
        name,
        checks: &options.checks,
        lockdelay: "0.001s",
        behavior: "delete",
        ttl: ttl.clone(),
    };
    let ask = Ask::agent("PUT", "/v1/session/create").in_dc(&api.shared().live_options());
    let reply = api.call(&ask.body(to_json(&new)?), effort).await?;
    if reply.said != Said::Yes {
        return Err(Failure::Unknown("no session in the answer of Consul".into()));
    }
    let id = from_json::<SessionId>(&reply.body)?.id;
    Ok(Session { id: Some(id), granted: granted(&ttl)? })
}

/// Renews a session. None: it does not exist any more.
///
/// # Errors
/// See [`Api::call`].
pub async fn renew(api: &Api, id: &str, effort: Effort) -> Result<Option<Granted>, Failure> {
    let ask = Ask::agent("PUT", &format!("/v1/session/renew/{id}")).in_dc(&api.shared().live_options());
    let reply = api.call(&ask, effort).await?;
    match reply.said {
        Said::Yes => {
            let sessions: Vec<SessionEntry> = from_json(&reply.body)?;
            sessions.first().map(|session| granted(&session.ttl)).transpose()
        }
        // A proxy's 404 is none of Consul's: the lock would be given up for it.
        Said::NotFound if is_about_sessions(&reply.body) => Ok(None),
        Said::NotFound | Said::Refused => {
            Err(Failure::Unknown(String::from_utf8_lossy(&reply.body).into_owned()))
        }
    }
}

/// Ends a session, whoever made it, with the keys that it has locked. Consul says yes as well where there is none.
///
/// # Errors
/// See [`Api::call`].
pub async fn end(api: &Api, id: &str, effort: Effort) -> Result<bool, Failure> {
    let ask = Ask::agent("PUT", &format!("/v1/session/destroy/{id}")).in_dc(&api.shared().live_options());
    Ok(api.call(&ask, effort).await?.said == Said::Yes)
}

/// `Session id '..' not found`
fn is_about_sessions(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body).to_lowercase();
    text.contains("session") && text.contains("not found")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_and_what_is_granted() {
        let ms = Duration::from_millis;
        for (ttl, text) in [(30_000, "15.0s"), (25_000, "12.5s"), (20_000, "10.0s")] {
            assert_eq!(session_ttl(ms(ttl)), text);
            assert_eq!(granted(text).unwrap().ttl, ms(ttl));
        }
        for bad in ["", "15", "1m30s", "-1.0s", "0.0s", "NaNs"] {
            assert!(granted(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_session_that_is_gone() {
        assert!(is_about_sessions(b"Session id '1111' not found"));
        assert!(!is_about_sessions(b"404 page not found"));
    }

    #[test]
    fn a_leader_key_that_runs_out_keeps_its_session() {
        let sessions = Sessions::default();
        let session = |id: &str| Session { id: Some(id.into()), granted: Granted { ttl: Duration::ZERO } };
        sessions.state().session = Some(session("a"));
        sessions.set_of_leader(Some("b".into()));
        sessions.leave_to_leader();
        assert_eq!(sessions.id().as_deref(), Some("a"));
        sessions.set_of_leader(Some("a".into()));
        sessions.leave_to_leader();
        assert_eq!((sessions.id(), sessions.of_leader().as_deref()), (None, Some("a")));
    }
}
