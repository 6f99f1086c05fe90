//! Reading a JSON body (surface-api-ctl H25 to H28).

use pyfmt::{int, json, Value};

use crate::http::head::Head;
use crate::http::response::Response;
use crate::route::Body;

/// Longest body; the reference has no limit.
pub const MAX_BODY: usize = 2 * 1024 * 1024;

/// How much is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// Nothing: the body is absent where it may be.
    Nothing,
    /// So many bytes, fewer if the client stops sending.
    Exactly(usize),
    /// Until the client stops sending.
    ToEnd,
}

/// The length by the headers.
///
/// # Errors
/// The error page to send.
pub fn length(head: &Head, body: Body) -> Result<Length, Response> {
    let optional = body == Body::Optional;
    let Some(text) = head.headers.get("content-length") else {
        return if optional { Ok(Length::Nothing) } else { Err(Response::page(411)) };
    };
    match int::parse(if text.is_empty() { "0" } else { text }) {
        Ok(Value::Int(0)) if optional => Ok(Length::Nothing),
        Ok(Value::Int(n)) if n < 0 => Ok(Length::ToEnd),
        Ok(Value::Int(n)) => match usize::try_from(n) {
            Ok(n) if n <= MAX_BODY => Ok(Length::Exactly(n)),
            _ => Err(Response::page(413)),
        },
        Ok(_) => Err(bad("OverflowError: Python int too large to convert to C ssize_t")),
        Err(e) => Err(bad(&e.to_string())),
    }
}

/// The document of a body that was read.
///
/// # Errors
/// The error page to send: not UTF-8, not JSON, not an object, or an empty one
/// where something is asked for.
pub fn document(bytes: &[u8], body: Body) -> Result<Value, Response> {
    let text = std::str::from_utf8(bytes).map_err(|e| bad(&format!("UnicodeDecodeError: {e}")))?;
    let value = json::loads(text).map_err(|e| bad(&format!("JSONDecodeError: {e}")))?;
    match &value {
        Value::Map(m) if !m.is_empty() || body == Body::Optional => Ok(value),
        _ => Err(Response::page(400)),
    }
}

fn bad(reason: &str) -> Response {
    tracing::error!(target: "patroni.api", exc = %reason, "Bad request");
    Response::page(400)
}
