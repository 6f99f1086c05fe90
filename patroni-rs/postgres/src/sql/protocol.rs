//! The protocol of PostgreSQL spoken by ourselves (PostgreSQL documentation 53): startup, login, messages. For
//! what tokio-postgres does not do: replication connections, and results as the server sent them.

use std::collections::HashMap;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, ScramSha256, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
};
use postgres_protocol::message::backend::{AuthenticationSaslBody, DataRowBody, ErrorFields, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth::Accepted;
use super::error::{PgError, CLOSED};
use super::params::{ConnParams, Target};
use super::passfile::password_for;
use super::transport::Transport;

/// Column values of one row; not all of them are text.
pub type RawRow = Vec<Option<Vec<u8>>>;

/// A connection on which messages go back and forth.
#[derive(Debug)]
pub(super) struct ProtocolStream {
    transport: Transport,
    buffer: BytesMut,
    longest: usize,
    /// Has the server let us in?
    pub(super) authenticated: bool,
    /// What the server reports of its settings.
    pub(super) settings: HashMap<String, String>,
}

impl ProtocolStream {
    /// On a connection on which nothing was said yet; without messages over `longest` bytes.
    pub(super) fn new(transport: Transport, longest: usize) -> ProtocolStream {
        ProtocolStream {
            transport,
            buffer: BytesMut::new(),
            longest,
            authenticated: false,
            settings: HashMap::new(),
        }
    }

    /// Sends the startup message and answers the server until it is ready.
    ///
    /// # Errors
    /// [`PgError::Server`] if the login is refused, [`PgError::Connection`] if we cannot go on.
    pub(super) async fn log_in(
        &mut self,
        params: &ConnParams,
        target: &Target,
        startup: &[(&str, &str)],
    ) -> Result<(), PgError> {
        let user = params.given("user").ok_or_else(|| PgError::Config("no user given".to_owned()))?;
        let startup = std::iter::once(("user", user)).chain(startup.iter().copied());
        self.send(|buf| frontend::startup_message(startup, buf)).await?;
        let password = password_for(params, target).await;
        let accepted = Accepted::parse(params.given("require_auth"))?;
        self.answer(user, password.as_deref(), params.given("channel_binding"), &accepted).await
    }

    async fn answer(
        &mut self,
        user: &str,
        password: Option<&str>,
        binding: Option<&str>,
        accepted: &Accepted,
    ) -> Result<(), PgError> {
        let required =
            || password.ok_or_else(|| PgError::Connection("fe_sendauth: no password supplied".to_owned()));
        let (mut bound, mut asked) = (false, false);
        loop {
            match self.receive().await? {
                Message::AuthenticationOk if binding == Some("require") && !bound => {
                    return Err(PgError::Connection(
                        "channel binding required, but server authenticated client without channel binding"
                            .into(),
                    ));
                }
                Message::AuthenticationOk => {
                    if !asked {
                        accepted.check_none()?;
                    }
                    self.authenticated = true;
                }
                Message::AuthenticationCleartextPassword => {
                    accepted.check("password", "a cleartext password")?;
                    asked = true;
                    let password = required()?;
                    self.send(|buf| frontend::password_message(password.as_bytes(), buf)).await?;
                }
                Message::AuthenticationMd5Password(body) => {
                    accepted.check("md5", "a hashed password")?;
                    asked = true;
                    let hash = md5_hash(user.as_bytes(), required()?.as_bytes(), body.salt());
                    self.send(|buf| frontend::password_message(hash.as_bytes(), buf)).await?;
                }
                Message::AuthenticationSasl(body) => {
                    accepted.check_sasl()?;
                    asked = true;
                    bound = self.scram(&body, required, binding, accepted).await?;
                }
                Message::ErrorResponse(body) => return Err(server_error(body.fields())),
                Message::ReadyForQuery(_) => return Ok(()),
                Message::BackendKeyData(_) | Message::ParameterStatus(_) | Message::NoticeResponse(_) => {}
                _ => return Err(PgError::Connection("authentication method not supported".to_owned())),
            }
        }
    }

    /// SCRAM-SHA-256 (RFC 7677). Whether it was bound to the TLS channel.
    async fn scram<'p>(
        &mut self,
        body: &AuthenticationSaslBody,
        password: impl Fn() -> Result<&'p str, PgError>,
        binding: Option<&str>,
        accepted: &Accepted,
    ) -> Result<bool, PgError> {
        let mut offered = Vec::new();
        let mut mechanisms = body.mechanisms();
        while let Some(name) = mechanisms.next()? {
            offered.push(name.to_owned());
        }
        if binding == Some("require") && !self.transport.is_tls() {
            return Err(PgError::Connection("channel binding required, but SSL not in use".into()));
        }
        let end_point = if binding == Some("disable") { None } else { self.transport.scram_binding() };
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
        accepted.check("scram-sha-256", &format!("{mechanism} authentication"))?;
        let mut scram = ScramSha256::new(password()?.as_bytes(), channel);
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

    /// Sends one message.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn send(
        &mut self,
        message: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), PgError> {
        let mut buffer = BytesMut::new();
        message(&mut buffer)?;
        self.transport.write_all(&buffer).await?;
        self.transport.flush().await?;
        Ok(())
    }

    /// The next message; reports of settings are noted on the way.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) async fn receive(&mut self) -> Result<Message, PgError> {
        loop {
            if let Some(message) = Message::parse(&mut self.buffer)? {
                if let Message::ParameterStatus(body) = &message {
                    self.settings.insert(body.name()?.to_owned(), body.value()?.to_owned());
                }
                return Ok(message);
            }
            if self.buffer.len() > self.longest {
                return Err(PgError::Connection("message is too long".to_owned()));
            }
            if self.transport.read_buf(&mut self.buffer).await? == 0 {
                return Err(PgError::Connection(CLOSED.to_owned()));
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

/// The values of a row.
///
/// # Errors
/// The message is broken.
pub(super) fn columns(body: &DataRowBody) -> Result<RawRow, PgError> {
    let (bytes, mut ranges) = (body.buffer(), body.ranges());
    let mut row = Vec::new();
    while let Some(range) = ranges.next()? {
        row.push(range.and_then(|r| bytes.get(r)).map(<[u8]>::to_vec));
    }
    Ok(row)
}

/// An error as the server tells it.
pub(super) fn server_error(mut fields: ErrorFields<'_>) -> PgError {
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
