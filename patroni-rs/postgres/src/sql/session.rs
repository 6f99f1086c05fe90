//! One connection for SQL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patroni_core::PgVersion;
use tokio::task::AbortHandle;
use tokio_postgres::config::{ChannelBinding, Config, SslMode as TokioSslMode, SslNegotiation};
use tokio_postgres::{CancelToken, Client, SimpleQueryMessage};

use super::error::{chain, PgError};
use super::params::{ConnParams, Target};
use super::passfile::password_for;
use super::rows::Row;
use super::servers::Attempts;
use super::transport::{within, Encryption, Negotiated, Transport};

/// How long a request to cancel a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that runs statements by the simple query protocol, each in a
/// transaction of its own. Dropping it closes it.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: AbortHandle,
    server_version: PgVersion,
    params: ConnParams,
    target: Target,
    encryption: Encryption,
}

impl Session {
    /// Connects to the first server that lets us in, as libpq does: only a
    /// server that cannot be reached makes us try the next one.
    pub async fn connect(params: &ConnParams) -> Result<Session, PgError> {
        let (params, mut attempts) = Attempts::plan(params).await?;
        while let Some((target, encryption)) = attempts.next() {
            let declined = AtomicBool::new(false);
            let attempt = Session::attempt(&params, &target, encryption, &declined);
            match within(params.connect_timeout(), attempt).await {
                Ok(session) if params.wants_read_write() && session.read_only().await? => {
                    attempts.unsuitable("session is read-only");
                }
                Ok(session) => return Ok(session),
                Err(error) => attempts.failed(error, declined.load(Ordering::Relaxed)),
            }
        }
        Err(attempts.error())
    }

    async fn attempt(
        params: &ConnParams,
        target: &Target,
        encryption: Encryption,
        declined: &AtomicBool,
    ) -> Result<Session, PgError> {
        let transport = Transport::open(params, target, encryption).await?;
        declined.store(transport.declined(encryption), Ordering::Relaxed);
        let encryption = if transport.is_tls() { Encryption::Required } else { Encryption::Plain };
        let config = config(params, target, encryption).await?;
        let (client, connection) = config.connect_raw(transport, Negotiated).await?;
        let server_version =
            connection.parameter("server_version").map(PgVersion::of_server).unwrap_or_default();
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(target: "patroni.postgresql.connection", "connection ended: {}", chain(&error));
            }
        });
        let (params, target) = (params.clone(), target.clone());
        Ok(Session { client, driver: driver.abort_handle(), server_version, params, target, encryption })
    }

    async fn read_only(&self) -> Result<bool, PgError> {
        let rows = self.query("SHOW transaction_read_only", self.params.connect_timeout()).await?;
        Ok(rows.first().and_then(|r| r.text(0)) == Some("on"))
    }

    /// The server's version, such as 150018 or 90624.
    pub fn server_version(&self) -> PgVersion {
        self.server_version
    }

    /// Has the server or the network ended it?
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// [`PgError::Timeout`] after `limit`: the statement is cancelled, but
    /// nobody knows what became of it, so the session is closed.
    pub async fn query(&self, sql: &str, limit: Duration) -> Result<Vec<Row>, PgError> {
        match tokio::time::timeout(limit, self.client.simple_query(sql)).await {
            Ok(Ok(messages)) => Ok(messages.iter().filter_map(row).collect()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                self.cancel();
                Err(PgError::Timeout(limit))
            }
        }
    }

    /// Asks the server to stop, on a connection beside this one, and closes this one.
    fn cancel(&self) {
        let token = self.client.cancel_token();
        let (params, target, encryption) = (self.params.clone(), self.target.clone(), self.encryption);
        let driver = self.driver.clone();
        tokio::spawn(async move {
            let request = send_cancel(&params, &target, encryption, token);
            if let Err(error) = within(CANCEL_TIMEOUT, request).await {
                tracing::debug!(target: "patroni.postgresql.connection", "could not cancel: {error}");
            }
            driver.abort();
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver sends a polite goodbye once the client is gone; a peer
        // that does not listen must not keep it alive.
        let driver = self.driver.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(CANCEL_TIMEOUT).await;
                driver.abort();
            });
        } else {
            driver.abort();
        }
    }
}

async fn send_cancel(
    params: &ConnParams,
    target: &Target,
    encryption: Encryption,
    token: CancelToken,
) -> Result<(), PgError> {
    let transport = Transport::open(params, target, encryption).await?;
    Ok(token.cancel_query_raw(transport, Negotiated).await?)
}

async fn config(params: &ConnParams, target: &Target, encryption: Encryption) -> Result<Config, PgError> {
    let mut config = Config::new();
    let user = params.given("user").ok_or_else(|| PgError::Config("no user given".to_owned()))?;
    config.user(user);
    if let Some(dbname) = params.dbname() {
        config.dbname(dbname);
    }
    if let Some(password) = password_for(params, target).await {
        config.password(password);
    }
    let options = params.session_options();
    if !options.is_empty() {
        config.options(options);
    }
    if let Some(name) = params.application_name() {
        config.application_name(name);
    }
    config.channel_binding(match params.given("channel_binding") {
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        _ => ChannelBinding::Prefer,
    });
    if encryption == Encryption::Plain {
        config.ssl_mode(TokioSslMode::Disable);
    } else {
        // The handshake is behind us; this makes tokio-postgres take the stream as it is.
        config.ssl_mode(TokioSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    }
    Ok(config)
}

fn row(message: &SimpleQueryMessage) -> Option<Row> {
    match message {
        SimpleQueryMessage::Row(row) => {
            Some(Row::new((0..row.len()).map(|i| row.try_get(i).ok().flatten().map(str::to_owned)).collect()))
        }
        _ => None,
    }
}
