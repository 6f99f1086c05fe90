//! The connections that the daemon keeps open (24-07 to 24-09).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;
use std::time::Duration;

use patroni_core::PgVersion;
use tokio::sync::Mutex;

use super::error::PgError;
use super::params::ConnParams;
use super::rows::Row;
use super::session::Session;

/// The server gives up after 2 s by `statement_timeout`; one that does not
/// even do that is given one more.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// What every connection has unless its parameters say otherwise.
pub(super) const DEFAULTS: [(&str, &str); 2] =
    [("connect_timeout", "3"), ("options", "-c statement_timeout=2000")];

const POOL_DEFAULTS: [(&str, &str); 3] = [
    ("connect_timeout", "3"),
    ("options", "-c statement_timeout=2000 -c pg_stat_statements.track=none"),
    ("fallback_application_name", "Patroni"),
];

/// Which of the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Connection {
    Heartbeat,
    RestApi,
}

impl Connection {
    fn name(self) -> &'static str {
        match self {
            Connection::Heartbeat => "heartbeat",
            Connection::RestApi => "restapi",
        }
    }
}

/// Named connections to the local server. They are opened when first needed
/// and again after they broke.
#[derive(Debug, Default)]
pub struct Pool {
    params: std::sync::RwLock<ConnParams>,
    sessions: [Mutex<Option<Arc<Session>>>; 2],
    server_version: AtomicU32,
}

impl Pool {
    /// A pool without an address.
    pub fn new() -> Pool {
        Pool::default()
    }

    /// Sets the address and login for connections to come; those that are open stay.
    pub fn set_params(&self, params: ConnParams) {
        let params = params.or_defaults(&POOL_DEFAULTS);
        match self.params.write() {
            Ok(mut current) => *current = params,
            Err(poisoned) => *poisoned.into_inner() = params,
        }
    }

    /// Parameters for connections to the local server, as last set.
    pub fn params(&self) -> ConnParams {
        match self.params.read() {
            Ok(params) => params.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    /// Version of the server last connected to, such as 150014; 0 before that.
    pub fn server_version(&self) -> PgVersion {
        PgVersion::from_num(self.server_version.load(Ordering::Relaxed))
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// See [`PgError`]; a connection that broke is opened anew by the next call.
    pub async fn query(&self, connection: Connection, sql: &str) -> Result<Vec<Row>, PgError> {
        let session = self.session(connection).await?;
        let result = session.query(sql, QUERY_TIMEOUT).await;
        match &result {
            Err(PgError::Timeout(_)) => self.forget(connection, &session).await,
            Err(_) if session.is_closed() => {
                self.forget(connection, &session).await;
                return Err(PgError::Connection("connection problems".to_owned()));
            }
            _ => {}
        }
        result
    }

    /// Is the REST API's own connection open as far as we have heard? A server that was
    /// killed has ended it before anybody asks again. True while it is being used to connect.
    pub fn is_restapi_open(&self) -> bool {
        match self.slot(Connection::RestApi).try_lock() {
            Ok(slot) => slot.as_ref().is_some_and(|session| !session.is_closed()),
            Err(_) => true,
        }
    }

    /// Runs a statement of the REST API: on its own connection, or on that of
    /// the HA loop when there is no other to be had.
    pub async fn query_restapi(&self, sql: &str) -> Result<Vec<Row>, PgError> {
        // Nothing is asked of a server that the HA loop cannot reach.
        self.session(Connection::Heartbeat).await?;
        match self.session(Connection::RestApi).await {
            Ok(_) => self.query(Connection::RestApi, sql).await,
            Err(error) => {
                tracing::debug!(target: "patroni.api", "restapi connection to postgres is not available: {error}");
                self.query(Connection::Heartbeat, sql).await
            }
        }
    }

    /// Closes all connections: the server that they led to is gone.
    pub async fn close_all(&self) {
        let mut closed = false;
        for slot in &self.sessions {
            // One whose server has ended counts: the reference does not hear of that until it asks (10-01).
            closed |= slot.lock().await.take().is_some();
        }
        if closed {
            tracing::info!(target: "patroni.postgresql.connection", "closed patroni connections to postgres");
        }
    }

    fn slot(&self, connection: Connection) -> &Mutex<Option<Arc<Session>>> {
        let [heartbeat, restapi] = &self.sessions;
        match connection {
            Connection::Heartbeat => heartbeat,
            Connection::RestApi => restapi,
        }
    }

    async fn session(&self, connection: Connection) -> Result<Arc<Session>, PgError> {
        let mut slot = self.slot(connection).lock().await;
        if let Some(session) = slot.as_ref().filter(|s| !s.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let name = connection.name();
        tracing::info!(
            target: "patroni.postgresql.connection",
            "establishing a new patroni {name} connection to postgres"
        );
        *slot = None;
        let params =
            self.params().with("application_name", format!("Patroni {name}")).with_safe_search_path();
        let session = Arc::new(Session::connect(&params).await?);
        self.server_version.store(session.server_version().num(), Ordering::Relaxed);
        *slot = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Closes a connection unless it has been replaced already.
    async fn forget(&self, connection: Connection, session: &Arc<Session>) {
        let mut slot = self.slot(connection).lock().await;
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *slot = None;
            let name = connection.name();
            tracing::info!(
                target: "patroni.postgresql.connection",
                "closed patroni {name} connection to postgres"
            );
        }
    }
}
