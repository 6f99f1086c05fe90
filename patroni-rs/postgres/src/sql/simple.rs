//! A connection that gives results as the server sent them: names and types of columns, bytes of values, command
//! tags. Its errors are libpq's, word for word, for those who show them to a person (`patronictl query`).

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{Message, RowDescriptionBody};
use postgres_protocol::message::frontend;

use super::error::{PgError, CLOSED};
use super::params::{ConnParams, SslMode, Target};
use super::passfile::path_for;
use super::protocol::{columns, server_error, ProtocolStream, RawRow};
use super::servers::Attempts;
use super::transport::{attempts, within, Encryption, Transport, NO_ANSWER};

/// No message is longer: PostgreSQL has no field over 1 GB.
const MESSAGE_MAX: usize = 1 << 30;

/// SQLSTATE of a setting that nobody knows. libpq takes it for the answer of a server before 9.0 to
/// `application_name`, and tries again without.
const UNKNOWN_SETTING: &str = "42704";

/// A column of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, in the encoding of the session.
    pub name: String,
    /// The OID of its type.
    pub kind: u32,
}

/// What one statement came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Rows.
    Rows {
        /// Their columns.
        columns: Vec<Column>,
        /// Their values.
        rows: Vec<RawRow>,
    },
    /// No rows; the command tag.
    Done(String),
    /// There was no statement.
    Empty,
    /// The server wants to copy. Nothing was read after that.
    Copy,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The parameters make no sense, or there is no such socket: nobody was asked.
    Bad(String),
    /// Somebody was asked.
    Failed(String),
    /// No answer in time.
    Timeout,
}

/// The connection. Dropping it closes it.
#[derive(Debug)]
pub struct SimpleClient {
    protocol: ProtocolStream,
}

/// How an attempt failed.
struct Failure {
    error: PgError,
    /// Another way of encryption may help.
    another_way: bool,
}

impl SimpleClient {
    /// Connects to the server of the parameters; to one, for lists of hosts are the caller's.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn connect(params: &ConnParams) -> Result<SimpleClient, Refusal> {
        let bad = |error: PgError| Refusal::Bad(error.to_string());
        let params = Attempts::plan(params).await.map_err(bad)?.0;
        params.check().map_err(bad)?;
        let mode = params.sslmode().map_err(bad)?;
        let targets = params.targets().map_err(bad)?;
        let Some(target) = targets.first() else { return Err(Refusal::Bad("no host given".to_owned())) };
        let work = SimpleClient::try_all(&params, mode, target);
        let limited = within(params.connect_timeout(), async { Ok(work.await) });
        limited.await.unwrap_or(Err(Refusal::Timeout))
    }

    /// Tries the ways of encryption. All their errors are told.
    async fn try_all(params: &ConnParams, mode: SslMode, target: &Target) -> Result<SimpleClient, Refusal> {
        let mut told: Vec<String> = Vec::new();
        let mut ways = attempts(mode, target).iter();
        let mut way = ways.next();
        let mut named = true;
        while let Some(encryption) = way {
            let transport = match Transport::reach(params, target).await {
                Ok(transport) => transport,
                // Nobody is there for another way either.
                Err(error) if matches!(target, Target::Unix(_)) => {
                    return Err(Refusal::Bad(error.to_string()))
                }
                Err(error) => return Err(Refusal::Failed(error.to_string())),
            };
            let failure = match SimpleClient::log_in(transport, params, target, *encryption, named).await {
                Ok(client) => return Ok(client),
                Err(failure) => failure,
            };
            told.push(format!(
                "connection to server {} failed: {}",
                target.shown(),
                words(params, &failure.error)
            ));
            if named && failure.error.sqlstate() == Some(UNKNOWN_SETTING) {
                named = false;
            } else if failure.another_way {
                way = ways.next();
            } else {
                break;
            }
        }
        Err(Refusal::Failed(told.join("\n")))
    }

    async fn log_in(
        transport: Transport,
        params: &ConnParams,
        target: &Target,
        encryption: Encryption,
        named: bool,
    ) -> Result<SimpleClient, Failure> {
        let transport = transport.secured(params, target, encryption).await.map_err(|error| {
            // A server that is gone, or is none, needs not be asked in another way.
            let lost = matches!(&error, PgError::Connection(t) if t == CLOSED || t.starts_with(NO_ANSWER));
            Failure { error, another_way: !lost }
        })?;
        // Where TLS was offered and the server has none, the other way is this one.
        let exhausted = encryption == Encryption::IfOffered && !matches!(transport, Transport::Tls(_));
        let options = params.session_options();
        let mut startup = vec![("database", params.dbname().unwrap_or_default())];
        let more = [
            ("options", Some(options.as_str()).filter(|o| !o.is_empty())),
            ("application_name", params.application_name().filter(|_| named)),
            ("client_encoding", params.given("client_encoding")),
        ];
        startup.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let mut protocol = ProtocolStream::new(transport, MESSAGE_MAX);
        let result = protocol.log_in(params, target, &startup).await;
        if let Err(error) = result {
            // What the server refuses before it knows us, it may grant on the other way. Once it asked for a
            // password that we do not have, it makes no difference.
            let another_way =
                matches!(error, PgError::Server { .. }) && !protocol.authenticated && !exhausted;
            return Err(Failure { error, another_way });
        }
        let mut client = SimpleClient { protocol };
        client.check_session(params).await.map_err(|error| Failure { error, another_way: false })?;
        Ok(client)
    }

    /// `target_session_attrs`.
    async fn check_session(&mut self, params: &ConnParams) -> Result<(), PgError> {
        let Some(wanted) = params.given("target_session_attrs") else { return Ok(()) };
        let why = match wanted {
            "read-write" if self.is_on("transaction_read_only").await? => "session is read-only",
            "read-only" if !self.is_on("transaction_read_only").await? => "session is not read-only",
            "primary" if self.is_on("in_hot_standby").await? => "server is in hot standby mode",
            "standby" if !self.is_on("in_hot_standby").await? => "server is not in hot standby mode",
            _ => return Ok(()),
        };
        Err(PgError::Connection(why.to_owned()))
    }

    async fn is_on(&mut self, setting: &str) -> Result<bool, PgError> {
        let outcomes = self.run(&format!("SHOW {setting}")).await?;
        let Some(Outcome::Rows { rows, .. }) = outcomes.first() else { return Ok(false) };
        Ok(rows.first().and_then(|row| row.first()).is_some_and(|value| value.as_deref() == Some(b"on")))
    }

    /// What the server last reported of a setting.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.protocol.settings.get(name).map(String::as_str)
    }

    /// Runs statements and gives what each came to. Takes as long as they do.
    ///
    /// # Errors
    /// [`PgError::Server`] of the one that failed; the connection is lost.
    pub async fn run(&mut self, sql: &str) -> Result<Vec<Outcome>, PgError> {
        self.protocol.send(|buf| frontend::query(sql, buf)).await?;
        let (mut outcomes, mut failure) = (Vec::new(), None);
        let mut current: Option<(Vec<Column>, Vec<RawRow>)> = None;
        loop {
            match self.protocol.receive().await {
                Ok(Message::RowDescription(body)) => current = Some((described(&body)?, Vec::new())),
                Ok(Message::DataRow(body)) => {
                    if let Some((_, rows)) = &mut current {
                        rows.push(columns(&body)?);
                    }
                }
                Ok(Message::CommandComplete(body)) => outcomes.push(match current.take() {
                    Some((columns, rows)) => Outcome::Rows { columns, rows },
                    None => Outcome::Done(body.tag()?.to_owned()),
                }),
                Ok(Message::EmptyQueryResponse) => outcomes.push(Outcome::Empty),
                Ok(Message::CopyInResponse(_) | Message::CopyOutResponse(_)) => {
                    outcomes.push(Outcome::Copy);
                    return Ok(outcomes);
                }
                Ok(Message::ErrorResponse(body)) => failure = Some(server_error(body.fields())),
                Ok(Message::ReadyForQuery(_)) => break,
                Ok(_) => {}
                // The server's last words say more than that it is gone.
                Err(error) => return Err(failure.unwrap_or(error)),
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(outcomes),
        }
    }
}

fn described(body: &RowDescriptionBody) -> Result<Vec<Column>, PgError> {
    let mut fields = body.fields();
    let mut columns = Vec::new();
    while let Some(field) = fields.next()? {
        columns.push(Column { name: field.name().to_owned(), kind: field.type_oid() });
    }
    Ok(columns)
}

fn words(params: &ConnParams, error: &PgError) -> String {
    match error {
        PgError::Server { code, .. } => {
            // A wrong password that nobody gave came from the file.
            let file = path_for(params).filter(|_| code == "28P01" && params.given("password").is_none());
            let file = file.map(|path| format!("\npassword retrieved from file \"{}\"", path.display()));
            format!("FATAL:  {error}{}", file.unwrap_or_default())
        }
        error => error.to_string(),
    }
}
