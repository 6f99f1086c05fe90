//! What is logged of requests (surface-api-ctl H17, H19).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use patroni_api::RestServer;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // The exception follows the message, in the log as in the event.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            "exc" => write!(self.0, "\n{value:?}"),
            _ => Ok(()),
        };
    }
}

impl<S: tracing::Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut message = Message(format!("{} ", event.metadata().level()));
        event.record(&mut message);
        assert_eq!(event.metadata().target(), "patroni.api");
        self.0.lock().unwrap().push(message.0);
    }
}

/// Latencies and ports are not the same twice.
fn normalise(line: &str) -> String {
    let line = line.split(" latency: ").next().unwrap();
    match line.split_once("processing of request from 127.0.0.1:") {
        Some((before, _)) => format!("{before}processing of request from 127.0.0.1:PORT"),
        None => line.to_owned(),
    }
}

#[test]
fn lines() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.clone())).unwrap();
    let section = r#"{"listen": "127.0.0.1:0", "thread_pool_size": "x", "allowlist": ["a/b", "nosuchhost.invalid"],
        "server_tokens": "Foo"}"#;
    let server = RestServer::start(&common::value(section), common::Fake::new(common::primary())).unwrap();
    for request in [
        "GET /liveness?x HTTP/1.1\r\n\r\n",
        "FOO / HTTP/1.0\r\n\r\n",
        "GET http://[/ HTTP/1.0\r\n\r\n",
        "POST /mpp HTTP/1.0\r\nContent-Length: x\r\n\r\n",
        "\r\n",
    ] {
        common::talk(server.local_addr(), request.as_bytes(), true);
    }
    let body = r#"{"leader": "pg1", "scheduled_at": "x"}"#;
    let request = format!("POST /switchover HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    common::talk(server.local_addr(), request.as_bytes(), true);
    server.stop();
    let found: Vec<String> = lines.0.lock().unwrap().iter().map(|l| normalise(l)).collect();
    let expected = [
        r#"WARN Failed to parse restapi.thread_pool_size value "x": ValueError("invalid literal for int() with base 10: 'x'")"#,
        "INFO REST API thread_pool_size = 5",
        r#"ERROR Invalid value "a/b" in the allowlist: ValueError("'a/b' does not appear to be an IPv4 or IPv6 network")"#,
        "ERROR Failed to resolve nosuchhost.invalid: ",
        "WARN restapi.server_tokens is set to \"Foo\". Patroni will not modify the Server header. \
         Valid values are: \"Minimal\", \"ProductOnly\".",
        "DEBUG API thread: 127.0.0.1 - - \"GET /liveness?x HTTP/1.1\" 200 -",
        "DEBUG API thread: 127.0.0.1 - - code 501, message Unsupported method ('FOO')",
        "DEBUG API thread: 127.0.0.1 - - \"FOO / HTTP/1.0\" 501 -",
        "WARN Exception happened during processing of request from 127.0.0.1:PORT",
        "WARN ValueError: Invalid IPv6 URL",
        "ERROR Bad request\nValueError: invalid literal for int() with base 10: 'x'",
        "DEBUG API thread: 127.0.0.1 - - code 400, message Bad Request",
        "DEBUG API thread: 127.0.0.1 - - \"POST /mpp HTTP/1.0\" 400 -",
        "INFO received switchover request with leader=pg1 candidate=None scheduled_at=x",
        "ERROR Invalid scheduled switchover time: x\nUnknown string format: x",
        "DEBUG API thread: 127.0.0.1 - - \"POST /switchover HTTP/1.0\" 422 -",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        // The resolver's reason depends on the machine.
        assert!(
            found.starts_with(expected) && (found == expected || expected.ends_with(": ")),
            "{found}\n{expected}"
        );
    }
}
