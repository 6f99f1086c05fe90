//! Errors of the operating system as Python names and prints them.

use std::io::{Error, ErrorKind};

use nix::errno::Errno;

use crate::value::str_repr;

/// `strerror` of a Python `OSError`: the system's sentence, without Rust's `(os error N)`.
pub fn sentence(error: &Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| Errno::from_raw(code).desc().to_owned())
}

/// `str()` of it: `[Errno 13] Permission denied: '/path'`.
pub fn text(error: &Error, path: Option<&str>) -> String {
    let number = error.raw_os_error().map(|code| format!("[Errno {code}] ")).unwrap_or_default();
    let place = path.map(|path| format!(": {}", str_repr(path))).unwrap_or_default();
    format!("{number}{}{place}", sentence(error))
}

/// The name of its class.
pub fn class(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::AlreadyExists => "FileExistsError",
        ErrorKind::IsADirectory => "IsADirectoryError",
        ErrorKind::NotADirectory => "NotADirectoryError",
        ErrorKind::NotFound => "FileNotFoundError",
        ErrorKind::PermissionDenied => "PermissionError",
        _ => "OSError",
    }
}

/// Number and text of a `gaierror`, of an error of the resolver: Rust gives the text alone.
pub fn gaierror(error: &Error) -> (Option<i32>, String) {
    let text = error.to_string();
    let reason = text.rsplit(": ").next().unwrap_or_default();
    let number = match reason {
        "Name or service not known" => Some(-2),
        "Temporary failure in name resolution" => Some(-3),
        "Non-recoverable failure in name resolution" => Some(-4),
        "No address associated with hostname" => Some(-5),
        "Address family for hostname not supported" => Some(-9),
        _ => None,
    };
    (number, reason.to_owned())
}

/// `str()` of a `gaierror`; one of no known number is its text.
pub fn resolver(error: &Error) -> String {
    match gaierror(error) {
        (Some(number), reason) => format!("[Errno {number}] {reason}"),
        (None, reason) => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_pythons() {
        let denied = Error::from_raw_os_error(13);
        assert_eq!(text(&denied, Some("/d")), "[Errno 13] Permission denied: '/d'");
        assert_eq!(text(&denied, None), "[Errno 13] Permission denied");
        assert_eq!(class(&denied), "PermissionError");
        let unknown = Error::other("failed to lookup address information: Name or service not known");
        assert_eq!(resolver(&unknown), "[Errno -2] Name or service not known");
        assert_eq!(text(&Error::from(ErrorKind::TimedOut), Some("/d")), "timed out: '/d'");
    }
}
