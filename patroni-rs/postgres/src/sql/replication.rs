//! A client of the physical replication protocol, for the two commands that
//! need no streaming: `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY` (PostgreSQL
//! documentation 54.4). `pg_hba.conf` knows such connections as `replication`.

use std::time::Duration;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, ScramSha256, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::error::PgError;
use super::params::{ConnParams, Target};
use super::passfile::password_for;
use super::servers::Attempts;
use super::wire::{within, Encryption, Wire};

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
    wire: Wire,
    buffer: BytesMut,
}

/// Column values of one row; history files are bytes, not text.
type RawRow = Vec<Option<Vec<u8>>>;

impl ReplicationClient {
    /// Connects and logs in, to the first server that can be reached.
    ///
    /// # Errors
    /// [`PgError::Server`] if the login is refused.
    pub async fn connect(params: &ConnParams) -> Result<ReplicationClient, PgError> {
        let (params, mut attempts) = Attempts::plan(params).await?;
        let params = params.or_defaults(&super::pool::DEFAULTS);
        while let Some((target, encryption)) = attempts.next() {
            let attempt = ReplicationClient::attempt(&params, &target, encryption);
            match within(params.connect_timeout(), attempt).await {
                Ok(client) => return Ok(client),
                Err(error) => attempts.failed(error),
            }
        }
        Err(attempts.error())
    }

    async fn attempt(
        params: &ConnParams,
        target: &Target,
        encryption: Encryption,
    ) -> Result<ReplicationClient, PgError> {
        let wire = Wire::open(params, target, encryption).await?;
        let mut client = ReplicationClient { wire, buffer: BytesMut::new() };
        let user = params.given("user").ok_or_else(|| PgError::Config("no user given".to_owned()))?;
        let mut startup = vec![("user", user), ("database", "replication"), ("replication", "1")];
        startup.push(("client_encoding", "UTF8"));
        for (name, value) in
            [("options", params.given("options")), ("application_name", params.application_name())]
        {
            startup.extend(value.map(|v| (name, v)));
        }
        client.send(|buf| frontend::startup_message(startup, buf)).await?;
        let password = password_for(params, target).await;
        client.log_in(user, password.as_deref(), params.given("channel_binding")).await?;
        Ok(client)
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
            self.send(|buf| frontend::query(command, buf)).await?;
            let (mut found, mut failure) = (None, None);
            loop {
                match self.receive().await? {
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

    /// Answers the server until it is ready.
    async fn log_in(
        &mut self,
        user: &str,
        password: Option<&str>,
        binding: Option<&str>,
    ) -> Result<(), PgError> {
        let required =
            || password.ok_or_else(|| PgError::Connection("fe_sendauth: no password supplied".to_owned()));
        let mut bound = false;
        loop {
            match self.receive().await? {
                Message::AuthenticationOk if binding == Some("require") && !bound => {
                    return Err(PgError::Connection(
                        "channel binding required, but server authenticated client without channel binding"
                            .into(),
                    ));
                }
                Message::AuthenticationCleartextPassword => {
                    let password = required()?;
                    self.send(|buf| frontend::password_message(password.as_bytes(), buf)).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    let hash = md5_hash(user.as_bytes(), required()?.as_bytes(), body.salt());
                    self.send(|buf| frontend::password_message(hash.as_bytes(), buf)).await?;
                }
                Message::AuthenticationSasl(body) => bound = self.scram(&body, required()?, binding).await?,
                Message::ErrorResponse(body) => return Err(server_error(body.fields())),
                Message::ReadyForQuery(_) => return Ok(()),
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::ParameterStatus(_)
                | Message::NoticeResponse(_) => {}
                _ => return Err(PgError::Connection("authentication method not supported".to_owned())),
            }
        }
    }

    /// SCRAM-SHA-256 (RFC 7677). Whether it was bound to the TLS channel.
    async fn scram(
        &mut self,
        body: &AuthenticationSaslBody,
        password: &str,
        binding: Option<&str>,
    ) -> Result<bool, PgError> {
        let mut offered = Vec::new();
        let mut mechanisms = body.mechanisms();
        while let Some(name) = mechanisms.next()? {
            offered.push(name.to_owned());
        }
        let end_point = if binding == Some("disable") { None } else { self.wire.scram_binding() };
        let plus = offered.iter().any(|m| m == SCRAM_SHA_256_PLUS);
        let (mechanism, channel) = match end_point {
            Some(hash) if plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)),
            Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
            None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        };
        if !offered.iter().any(|m| m == mechanism) {
            return Err(PgError::Connection(
                "none of the server's SASL authentication mechanisms are supported".into(),
            ));
        }
        let mut scram = ScramSha256::new(password.as_bytes(), channel);
        self.send(|buf| frontend::sasl_initial_response(mechanism, scram.message(), buf)).await?;
        match self.receive().await? {
            Message::AuthenticationSaslContinue(body) => scram.update(body.data())?,
            other => return Err(refused(other)),
        }
        self.send(|buf| frontend::sasl_response(scram.message(), buf)).await?;
        match self.receive().await? {
            Message::AuthenticationSaslFinal(body) => scram.finish(body.data())?,
            other => return Err(refused(other)),
        }
        Ok(mechanism == SCRAM_SHA_256_PLUS)
    }

    async fn send(
        &mut self,
        message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), PgError> {
        let mut buffer = BytesMut::new();
        message(&mut buffer)?;
        self.wire.write_all(&buffer).await?;
        self.wire.flush().await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<Message, PgError> {
        loop {
            if let Some(message) = Message::parse(&mut self.buffer)? {
                return Ok(message);
            }
            if self.buffer.len() > MESSAGE_MAX {
                return Err(PgError::Connection("message is too long".to_owned()));
            }
            if self.wire.read_buf(&mut self.buffer).await? == 0 {
                return Err(PgError::Connection("server closed the connection unexpectedly".to_owned()));
            }
        }
    }
}

fn refused(message: Message) -> PgError {
    match message {
        Message::ErrorResponse(body) => server_error(body.fields()),
        _ => PgError::Connection("unexpected message during authentication".to_owned()),
    }
}

fn columns(body: &postgres_protocol::message::backend::DataRowBody) -> Result<RawRow, PgError> {
    let (bytes, mut ranges) = (body.buffer(), body.ranges());
    let mut row = Vec::new();
    while let Some(range) = ranges.next()? {
        row.push(range.and_then(|r| bytes.get(r)).map(<[u8]>::to_vec));
    }
    Ok(row)
}

fn server_error(mut fields: ErrorFields<'_>) -> PgError {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), None);
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            b'D' => detail = Some(value),
            _ => {}
        }
    }
    PgError::Server { code, message, detail }
}
