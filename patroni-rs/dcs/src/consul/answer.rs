//! What an answer of Consul means.

use patroni_net::{NetError, Response};

use super::wire::{from_json, TxnErrors};
use crate::kv::Failure;

/// An answer that is none of the failures, or what speaks against it.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// 200.
    Good,
    /// 404: there is no such key or session (or we may not see it).
    NotFound,
    /// 409: the conditions of a transaction did not hold.
    Refused,
    /// Worth another try; the text is for the log. It may have been carried out.
    Again(String),
    /// It would be the same again.
    Final(Failure),
}

/// What an agent in client mode puts in front of a server's words.
const FORWARDED: &str = "rpc error making call: ";

/// The text of an error, whichever agent has passed it on. (The reference looks at the beginning of the body, and so
/// does not recognise what an agent in client mode tells it.)
fn bare(body: &str) -> &str {
    let mut text = body.trim();
    while let Some(rest) = text.strip_prefix(FORWARDED) {
        text = rest;
    }
    text
}

/// What a response means.
pub fn meaning(response: &Response) -> Meaning {
    let body = response.text();
    let text = bare(&body);
    let said = || format!("{} {text}", response.status);
    match response.status {
        200 => Meaning::Good,
        404 => Meaning::NotFound,
        409 => conflict(&response.body),
        401 | 403 => Meaning::Final(Failure::Denied(said())),
        500 if text.starts_with("invalid session") => Meaning::Final(Failure::SessionGone(said())),
        500 if text.starts_with("Invalid Session TTL") => Meaning::Final(Failure::Refused(said())),
        // The agent is leaving Consul's cluster (its orderly stop), which has ended our session; or it has just come. Who
        // tried again would keep a primary running for as long, while others take the lock.
        500 if text.starts_with("Missing node registration") => Meaning::Final(Failure::Refused(said())),
        // Too many requests; no leader, servers that are not reached, a proxy that has lost the agent.
        429 | 500..=599 => Meaning::Again(said()),
        _ => Meaning::Final(Failure::Refused(said())),
    }
}

fn conflict(body: &[u8]) -> Meaning {
    let errors = match from_json::<TxnErrors>(body) {
        Ok(errors) => errors,
        Err(failure) => return Meaning::Final(failure),
    };
    let mut refused = false;
    for what in errors.texts().map(bare) {
        refused = true;
        if what.contains("Permission denied") || what.contains("ACL not found") {
            return Meaning::Final(Failure::Denied(what.to_owned()));
        }
        if what.starts_with("invalid session") {
            return Meaning::Final(Failure::SessionGone(what.to_owned()));
        }
    }
    if refused {
        Meaning::Refused
    } else {
        Meaning::Final(Failure::Unknown("a refusal of Consul without a reason".into()))
    }
}

/// What it means that there was no response.
pub fn silence(error: &NetError) -> Meaning {
    match error {
        NetError::Connection(_) | NetError::Timeout => Meaning::Again(error.to_string()),
        // Nothing was sent, or what came back is of no use.
        NetError::File { .. } | NetError::Tls { .. } | NetError::InvalidRequest(_) => {
            Meaning::Final(Failure::Unknown(error.to_string()))
        }
        NetError::TooLong(_) => Meaning::Final(Failure::Unknown(error.to_string())),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Response {
        Response { status, headers: Default::default(), body: body.to_owned().into() }
    }

    #[test]
    fn what_real_agents_say() {
        let gone = |text: &str| Meaning::Final(Failure::SessionGone(text.into()));
        let denied = |text: &str| Meaning::Final(Failure::Denied(text.into()));
        // Seen on 1.8.7: a server, then an agent in client mode.
        for (status, body, want) in [
            (200, "true", Meaning::Good),
            (404, "", Meaning::NotFound),
            (404, "Session id '1' not found", Meaning::NotFound),
            (500, "invalid session \"1111\"", gone("500 invalid session \"1111\"")),
            (500, "rpc error making call: invalid session \"1111\"", gone("500 invalid session \"1111\"")),
            (
                500,
                "rpc error making call: rpc error making call: invalid session \"1111\"",
                gone("500 invalid session \"1111\""),
            ),
            (
                500,
                "rpc error making call: Invalid Session TTL '5000000000', must be between [10s=24h0m0s]",
                Meaning::Final(Failure::Refused(
                    "500 Invalid Session TTL '5000000000', must be between [10s=24h0m0s]".into(),
                )),
            ),
            (
                500,
                "rpc error making call: Missing node registration",
                Meaning::Final(Failure::Refused("500 Missing node registration".into())),
            ),
            (403, "Permission denied", denied("403 Permission denied")),
            (403, "rpc error making call: Permission denied", denied("403 Permission denied")),
            (500, "No cluster leader", Meaning::Again("500 No cluster leader".into())),
            (500, "No known Consul servers", Meaning::Again("500 No known Consul servers".into())),
            (429, "Your IP is issuing too many concurrent connections", {
                Meaning::Again("429 Your IP is issuing too many concurrent connections".into())
            }),
            (502, "<html>", Meaning::Again("502 <html>".into())),
            (400, "Missing key name", Meaning::Final(Failure::Refused("400 Missing key name".into()))),
        ] {
            assert_eq!(meaning(&response(status, body)), want, "{status} {body}");
        }
    }

    #[test]
    fn transactions_that_were_not_carried_out() {
        let errors = |what: &str| format!(r#"{{"Results":null,"Errors":[{{"OpIndex":0,"What":"{what}"}}]}}"#);
        let of = |what: &str| meaning(&response(409, &errors(what)));
        assert_eq!(of("current modify index 3 does not match requested index 2"), Meaning::Refused);
        assert_eq!(of("Permission denied"), Meaning::Final(Failure::Denied("Permission denied".into())));
        assert!(matches!(of("invalid session \\\"1\\\""), Meaning::Final(Failure::SessionGone(_))));
        assert!(matches!(meaning(&response(409, "?")), Meaning::Final(Failure::Unknown(_))));
    }
}
