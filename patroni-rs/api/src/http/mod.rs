//! HTTP/1.0 as Python's `http.server` speaks it: bytes in, bytes out, no sockets.

pub mod head;
pub mod headers;
pub mod pages;
pub mod python;
pub mod response;
pub mod url;
