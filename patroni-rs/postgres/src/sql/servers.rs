//! Which servers are tried in which order, and what a failure means: the loop that all
//! connections share (libpq's `PQconnectPoll`, PostgreSQL documentation 34.1.1.3).

use rand::seq::SliceRandom;

use super::error::PgError;
use super::params::{ConnParams, SslMode, Target};
use super::service;
use super::transport::{attempts, Encryption};

/// The attempts of one connection, in order.
#[derive(Debug)]
pub(super) struct Attempts {
    servers: std::vec::IntoIter<Target>,
    mode: SslMode,
    /// The server that is tried, and what is left to try with it.
    current: Option<(Target, std::slice::Iter<'static, Encryption>)>,
    last: PgError,
}

impl Attempts {
    /// Completes the parameters as libpq does (service file, environment, name of the system's
    /// user), and plans the attempts.
    ///
    /// # Errors
    /// [`PgError::Config`] if the parameters make no sense or ask for what we cannot do.
    pub(super) async fn plan(params: &ConnParams) -> Result<(ConnParams, Attempts), PgError> {
        let params = service::applied(params).await?.completed();
        if params.given("gssencmode") == Some("require") {
            return Err(PgError::Config("gssencmode \"require\" is not supported by this build".to_owned()));
        }
        let mode = params.sslmode()?;
        let mut servers = params.targets()?;
        match params.given("load_balance_hosts") {
            Some("random") => servers.shuffle(&mut rand::rng()),
            None | Some("disable") => {}
            Some(other) => {
                return Err(PgError::Config(format!("invalid load_balance_hosts value: \"{other}\"")));
            }
        }
        let last = PgError::Config("no host given".to_owned());
        Ok((params, Attempts { servers: servers.into_iter(), mode, current: None, last }))
    }

    /// The next attempt: the same server in another way, or the next server. A server that
    /// answered and refused the login ends it all, unless it is only starting up (57P03).
    pub(super) fn next(&mut self) -> Option<(Target, Encryption)> {
        if let Some((target, rest)) = &mut self.current {
            if let Some(encryption) = rest.next() {
                return Some((target.clone(), *encryption));
            }
            if self.last.sqlstate().is_some_and(|code| code != "57P03") {
                return None;
            }
        }
        let target = self.servers.next()?;
        let mut rest = attempts(self.mode, &target).iter();
        let encryption = *rest.next()?;
        self.current = Some((target.clone(), rest));
        Some((target, encryption))
    }

    /// Takes note of why an attempt failed. `connect_timeout` is for the whole of a server: one
    /// that let it pass is not asked again without TLS. Nor is one that has `declined` TLS, and has refused what came
    /// without it: the answer would be the same, and the server's log would have each refusal twice.
    pub(super) fn failed(&mut self, error: PgError, declined: bool) {
        if let Some((_, rest)) = self.current.as_mut().filter(|_| declined) {
            *rest = std::slice::Iter::default();
        }
        self.last = match error {
            PgError::Timeout(_) => {
                self.current = None;
                PgError::Connection(format!("timeout expired: {error}"))
            }
            other => other,
        };
    }

    /// The server let us in, but it is not what was asked for.
    pub(super) fn unsuitable(&mut self, why: &str) {
        self.current = None;
        self.last = PgError::Connection(why.to_owned());
    }

    /// Why the last attempt failed.
    pub(super) fn error(self) -> PgError {
        self.last
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    /// How an attempt ends.
    #[derive(Clone, Copy)]
    enum End {
        Away,
        Slow,
        Refused(&'static str),
        /// The same after `N` for an answer to the question for TLS.
        Declined(&'static str),
    }

    /// Ports of the attempts made, with `+` for TLS, when each ends in `end`.
    async fn made(pairs: &[(&str, &str)], end: End) -> String {
        let params: ConnParams = pairs.iter().copied().collect();
        let (_, mut attempts) = Attempts::plan(&params).await.unwrap();
        let mut made = Vec::new();
        while let Some((target, encryption)) = attempts.next() {
            let Target::Tcp { port, .. } = target else { panic!("{target:?}") };
            made.push(format!("{port}{}", if encryption == Encryption::Plain { "" } else { "+" }));
            let declined = matches!(end, End::Declined(_)) && encryption == Encryption::IfOffered;
            let error = match end {
                End::Away => PgError::Connection("refused".into()),
                End::Slow => PgError::Timeout(Duration::from_secs(3)),
                End::Refused(code) | End::Declined(code) => {
                    PgError::Server { code: code.into(), message: "no".into(), detail: None }
                }
            };
            attempts.failed(error, declined);
        }
        assert!(!matches!(attempts.error(), PgError::Timeout(_)));
        made.join(" ")
    }

    #[tokio::test]
    async fn servers_and_encryption_in_order() {
        let two = [("host", "127.0.0.1,127.0.0.1"), ("port", "1,2"), ("user", "u")];
        let with = |mode| [&two[..], &[("sslmode", mode)]].concat();
        for (mode, end, expected) in [
            ("disable", End::Away, "1 2"),
            ("prefer", End::Away, "1+ 1 2+ 2"),
            ("allow", End::Away, "1 1+ 2 2+"),
            ("require", End::Away, "1+ 2+"),
            ("prefer", End::Slow, "1+ 2+"),
            ("prefer", End::Refused("28P01"), "1+ 1"),
            ("prefer", End::Refused("57P03"), "1+ 1 2+ 2"),
            ("prefer", End::Declined("28P01"), "1+"),
            ("prefer", End::Declined("57P03"), "1+ 2+"),
            ("allow", End::Declined("28P01"), "1 1+"),
            ("verify-full", End::Refused("28000"), "1+"),
        ] {
            assert_eq!(made(&with(mode), end).await, expected, "{mode}");
        }
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused() {
        for bad in [("gssencmode", "require"), ("load_balance_hosts", "x"), ("sslmode", "x")] {
            let params: ConnParams = [("host", "h"), bad].into_iter().collect();
            assert!(matches!(Attempts::plan(&params).await, Err(PgError::Config(_))), "{bad:?}");
        }
        let many: ConnParams = [("host", "a,b,c"), ("load_balance_hosts", "random")].into_iter().collect();
        let (_, attempts) = Attempts::plan(&many).await.unwrap();
        assert_eq!(attempts.servers.len(), 3);
    }
}
