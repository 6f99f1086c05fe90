//! What an error of etcd or of the way to it means for us (surface-dcs 9, 10).

use etcd_client::Error;
use tonic::Code;

pub use crate::etcd::wire::Failure;

/// Does this answer to an authentication say that there is none to be done?
pub fn auth_not_enabled(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(s) if s.message() == "etcdserver: authentication is not enabled")
}

/// Texts go before codes, as several meanings share a code.
pub fn classify(error: &Error) -> Failure {
    match error {
        Error::GRpcStatus(status) => {
            // Only errors that arose on our side have a source.
            let local = std::error::Error::source(status).is_some();
            from_status(status.code(), status.message(), local)
        }
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::OpenSsl(_) | Error::InvalidMetadataValue(_) => {
            Failure::Refused(error.to_string())
        }
        other => Failure::Node(other.to_string()),
    }
}

/// What a status means; `local`: it arose on our side.
pub fn from_status(code: Code, message: &str, local: bool) -> Failure {
    let message = message.trim();
    let text = format!("<{code:?} error: '{message}', code: {}>", i32::from(code));
    match message {
        "etcdserver: requested lease not found" => Failure::LeaseNotFound,
        "etcdserver: authentication failed, invalid user ID or password" => Failure::Password(text),
        "etcdserver: user name is empty"
        | "etcdserver: revision of auth store is old"
        | "etcdserver: permission denied"
        | "etcdserver: invalid auth token" => Failure::Token(text),
        "context deadline exceeded" => Failure::Busy(text),
        // https://github.com/etcd-io/etcd/issues/21671
        "not a primary lessor" if code == Code::Unknown => Failure::Node(text),
        // Unavailable up to etcd 3.5. Others can serve it, so this one is left.
        "etcdserver: rpc not supported for learner" => Failure::Node(text),
        _ if local => Failure::Node(text),
        _ => match code {
            Code::Unavailable => Failure::Node(text),
            Code::DeadlineExceeded | Code::FailedPrecondition => Failure::Busy(text),
            Code::PermissionDenied | Code::Unauthenticated => Failure::Token(text),
            _ => Failure::Refused(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        let is = |code, message: &str, want: fn(String) -> Failure| {
            let got = from_status(code, message, false);
            assert_eq!(got, want(got.text().to_owned()), "{message}");
        };
        assert_eq!(
            from_status(Code::NotFound, "etcdserver: requested lease not found", false),
            Failure::LeaseNotFound
        );
        is(Code::NotFound, "something else", Failure::Refused);
        is(Code::InvalidArgument, "etcdserver: user name is empty", Failure::Token);
        is(Code::InvalidArgument, "etcdserver: revision of auth store is old", Failure::Token);
        is(
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            Failure::Password,
        );
        is(Code::InvalidArgument, "other", Failure::Refused);
        is(Code::PermissionDenied, "etcdserver: permission denied", Failure::Token);
        is(Code::Unauthenticated, "etcdserver: invalid auth token", Failure::Token);
        is(Code::FailedPrecondition, "etcdserver: authentication is not enabled", Failure::Busy);
        is(Code::DeadlineExceeded, "x", Failure::Busy);
        is(Code::Unknown, "context deadline exceeded", Failure::Busy);
        is(Code::Unavailable, "etcdserver: request timed out", Failure::Node);
        is(Code::Unknown, "not a primary lessor", Failure::Node);
        is(Code::FailedPrecondition, "etcdserver: rpc not supported for learner", Failure::Node);
        is(Code::Unavailable, "etcdserver: rpc not supported for learner", Failure::Node);
        is(Code::Unknown, "x", Failure::Refused);
        is(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Failure::Refused);
        assert!(matches!(from_status(Code::Unknown, "transport error", true), Failure::Node(_)));
        assert_eq!(
            from_status(Code::Unavailable, " x ", false).text(),
            "<The service is currently unavailable error: 'x', code: 14>"
                .replace("The service is currently unavailable", "Unavailable")
        );
    }
}
