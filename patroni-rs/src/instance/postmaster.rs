//! The postmaster: found, remembered until its end is proven, and fenced (docs/safety.md, "What gives up the lock").

use std::sync::atomic::Ordering;

use patroni_core::ha::PgState;
use patroni_core::mutex::locked;
use patroni_postgres::process::evidence::{self, End, Place};
use patroni_postgres::process::fence::{fence, Fenced};
use patroni_postgres::process::{blocking, pending, Postmaster};

use super::Instance;

impl Instance {
    /// The live postmaster, if there is one. One that was seen and whose end nobody can prove counts as live. Where it has
    /// ended by itself, what it has left behind is ended here; until that is proven, keeper and guardian hear nothing of
    /// its end.
    pub async fn postmaster(&self) -> Option<Postmaster> {
        let known = locked(&self.local_state).postmaster;
        if let Some(known) = known.filter(Postmaster::is_running) {
            return Some(known);
        }
        let found = match Postmaster::find(&self.data_dir).await {
            Ok(found) => found,
            Err(e) => {
                tracing::debug!(target: "patroni.postgresql.postmaster", "Nobody can tell whether PostgreSQL runs: {e}");
                return None;
            }
        };
        locked(&self.local_state).start_time = None;
        match found {
            Some(server) => {
                self.note_postmaster(server, self.place_now().await.ok().flatten());
                self.learn_addresses(server).await;
            }
            None => {
                self.forget_available_gucs().await;
                if let Some(ended) = known {
                    self.end_remains(Some(ended)).await;
                }
            }
        }
        found
    }

    /// A server that we have not started listens where it was told to then: there it is asked, and published, until it
    /// is started anew.
    pub(crate) async fn learn_addresses(&self, server: Postmaster) {
        let making =
            matches!(self.state(), PgState::InitDb | PgState::CustomBootstrap | PgState::CreatingReplica);
        if server.single_user || making {
            return;
        }
        let dir = self.data_dir.clone();
        let listening = match blocking::run(blocking::FILE_DEADLINE, move || server.listening(&dir)).await {
            Ok(found) => found,
            Err(e) => {
                tracing::debug!(target: "patroni.postgresql.postmaster", "Nobody can tell where PostgreSQL listens: {e}");
                return;
            }
        };
        let Some(listening) = listening else { return };
        if self.config().addresses_of(&listening).is_some() {
            let _ = self.with_config(move |c, _| c.take_addresses_of(&listening)).await;
            self.refresh_connections();
        }
    }

    /// The data directory as it is; None: there is none, for certain.
    pub(super) async fn place_now(&self) -> std::io::Result<Option<Place>> {
        let dir = self.data_dir.clone();
        let look = move || match Place::of(&dir) {
            Ok(place) => Ok(Some(place)),
            Err(e) if evidence::is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        };
        blocking::run(blocking::FILE_DEADLINE, look).await
    }

    /// Proves that nothing is left of a server whose postmaster has ended, by ending it. Only then is that one forgotten.
    async fn end_remains(&self, ended: Option<Postmaster>) -> bool {
        let known = locked(&self.local_state).place;
        let place = match known {
            Some(place) => Ok(Some(place)),
            None => self.place_now().await,
        };
        let proven = match place {
            Ok(Some(place)) => {
                let look = move || Ok(evidence::end_remains(&place, evidence::KILL_PATIENCE, false));
                matches!(blocking::run(blocking::FILE_DEADLINE, look).await, Ok(End::Proven(_)))
            }
            Ok(None) => true,
            Err(_) => false,
        };
        if proven {
            self.forget_postmaster(ended);
        }
        proven
    }

    /// Nothing of the server that ran here is left: proven, or made so. What gives up the leader lock asks this last
    /// (docs/safety.md, "What gives up the lock").
    pub async fn is_proven_gone(&self) -> bool {
        // First: what has come to its end by now is found below.
        if pending::is_any() || self.postmaster().await.is_some() {
            return false;
        }
        let known = locked(&self.local_state).postmaster;
        self.end_remains(known).await
    }

    /// As if this process were the postmaster that was started just now.
    #[cfg(test)]
    #[allow(clippy::expect_used)]
    pub fn pretend_postmaster(&self, pid: u32) {
        let process = patroni_postgres::process::proc::Process::find(pid as i32).expect("it runs");
        self.note_postmaster(Postmaster { process, single_user: false }, None);
    }

    /// As if its last row had shown a primary.
    #[cfg(test)]
    pub fn pretend_that_it_writes(&self) {
        self.writes.store(true, Ordering::SeqCst);
    }

    pub(super) fn note_postmaster(&self, postmaster: Postmaster, place: Option<Place>) {
        evidence::hold(&postmaster.process);
        {
            let mut local_state = locked(&self.local_state);
            local_state.postmaster = Some(postmaster);
            local_state.place = place;
        }
        let process = Some(postmaster.process).filter(|_| !postmaster.single_user);
        let other = self.guard.set_postmaster(process, place);
        if other {
            self.writes.store(false, Ordering::SeqCst);
        }
        if let Some(tell) = self.on_postmaster.get().filter(|_| other && process.is_some()) {
            tell();
        }
    }

    /// Its end is proven. Another one may have been started since.
    fn forget_postmaster(&self, ended: Option<Postmaster>) {
        let mut local_state = locked(&self.local_state);
        if local_state.postmaster == ended {
            (local_state.postmaster, local_state.place) = (None, None);
            self.writes.store(false, Ordering::SeqCst);
            self.guard.set_postmaster(None, None);
        }
    }

    /// The postmaster last seen, for the fence: no file is read for it. It may have ended without a proof that nothing
    /// of it is left.
    pub fn known_postmaster(&self) -> Option<Postmaster> {
        locked(&self.local_state).postmaster
    }

    /// Stops the postmaster last seen, and what is left of it: the lock keeper's way out. No memory of the
    /// job is asked.
    pub fn fence(&self) -> Fenced {
        let (server, place) = {
            let local_state = locked(&self.local_state);
            (local_state.postmaster, local_state.place)
        };
        server.map_or(Fenced::Nothing, |server| fence(&server.process, place.as_ref()))
    }
}
