//! A client of the physical replication protocol, for the two commands that
//! need no streaming: `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY` (PostgreSQL
//! documentation 54.4). `pg_hba.conf` knows such connections as `replication`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::error::PgError;
use super::params::{ConnParams, Target};
use super::protocol::{columns, server_error, ProtocolStream, RawRow};
use super::servers::Attempts;
use super::transport::{within, Encryption, Transport};

/// A server answers these commands from memory and one small file.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// No message that we wait for is longer; a history file is the largest.
const MESSAGE_MAX: usize = 64 << 20;

/// The answer to `IDENTIFY_SYSTEM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentifiedSystem {
    /// System identifier.
    pub sysid: String,
    /// Timeline; on a standby that of the last replayed record.
    pub timeline: u32,
    /// WAL position as text, `0/3000000`.
    pub xlogpos: String,
}

/// A connection with `replication=1`.
#[derive(Debug)]
pub struct ReplicationClient {
    protocol: ProtocolStream,
}

impl ReplicationClient {
    /// Connects and logs in, to the first server that can be reached.
    ///
    /// # Errors
    /// [`PgError::Server`] if the login is refused.
    pub async fn connect(params: &ConnParams) -> Result<ReplicationClient, PgError> {
        let (params, mut attempts) = Attempts::plan(params).await?;
        let params = params.or_defaults(&super::pool::DEFAULTS);
        while let Some((target, encryption)) = attempts.next() {
            let declined = AtomicBool::new(false);
            let attempt = ReplicationClient::attempt(&params, &target, encryption, &declined);
            match within(params.connect_timeout(), attempt).await {
                Ok(client) => return Ok(client),
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
    ) -> Result<ReplicationClient, PgError> {
        let transport = Transport::open(params, target, encryption).await?;
        declined.store(transport.declined(encryption), Ordering::Relaxed);
        let mut startup =
            vec![("database", "replication"), ("replication", "1"), ("client_encoding", "UTF8")];
        for (name, value) in
            [("options", params.given("options")), ("application_name", params.application_name())]
        {
            startup.extend(value.map(|v| (name, v)));
        }
        let mut protocol = ProtocolStream::new(transport, MESSAGE_MAX);
        protocol.log_in(params, target, &startup).await?;
        Ok(ReplicationClient { protocol })
    }

    /// System identifier, timeline and position.
    pub async fn identify_system(&mut self) -> Result<IdentifiedSystem, PgError> {
        let row = self.command("IDENTIFY_SYSTEM").await?;
        let text = |i: usize| {
            let column =
                row.get(i).and_then(|c| c.as_deref()).map(|b| String::from_utf8_lossy(b).into_owned());
            column.ok_or_else(|| PgError::Unexpected(format!("IDENTIFY_SYSTEM: no column {i}")))
        };
        let timeline = text(1)?;
        let timeline = timeline.parse().map_err(|_| PgError::Unexpected(format!("timeline {timeline}")))?;
        Ok(IdentifiedSystem { sysid: text(0)?, timeline, xlogpos: text(2)? })
    }

    /// The content of the history file of a timeline. Timeline 1 has none.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<String, PgError> {
        let row = self.command(&format!("TIMELINE_HISTORY {timeline}")).await?;
        let content = row.get(1).and_then(|c| c.as_deref());
        let content =
            content.ok_or_else(|| PgError::Unexpected("TIMELINE_HISTORY: no content".to_owned()))?;
        Ok(String::from_utf8_lossy(content).into_owned())
    }

    /// Runs a command that returns one row.
    async fn command(&mut self, command: &str) -> Result<RawRow, PgError> {
        within(COMMAND_TIMEOUT, async {
            self.protocol.send(|buf| frontend::query(command, buf)).await?;
            let (mut found, mut failure) = (None, None);
            loop {
                match self.protocol.receive().await? {
                    Message::DataRow(body) => found = Some(columns(&body)?),
                    Message::ErrorResponse(body) => failure = Some(server_error(body.fields())),
                    Message::ReadyForQuery(_) => break,
                    _ => {}
                }
            }
            match failure {
                Some(error) => Err(error),
                None => found.ok_or_else(|| PgError::Unexpected(format!("{command}: no row"))),
            }
        })
        .await
    }
}
