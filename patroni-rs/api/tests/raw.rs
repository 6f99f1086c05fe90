//! The recorded replies of the reference, byte for byte (fixtures/rest/record.py).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use patroni_api::RestServer;
use pyfmt::Value;

/// What an answer says to a client that wants the connection kept open; the reference closes it.
fn without_keep_alive(reply: &str) -> String {
    let Some((head, rest)) = reply.split_once("Connection: keep-alive\r\n") else { return reply.to_owned() };
    let (head, _) = head.rsplit_once("Content-Length: ").unwrap();
    format!("{head}{rest}")
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn sent(value: &Value) -> Vec<u8> {
    match value {
        Value::List(parts) => parts.iter().flat_map(sent_part).collect(),
        other => latin1(other.as_str().unwrap()),
    }
}

fn sent_part(part: &Value) -> Vec<u8> {
    match part {
        Value::List(run) => latin1(run[0].as_str().unwrap()).repeat(run[1].as_i64().unwrap() as usize),
        other => latin1(other.as_str().unwrap()),
    }
}

/// As `normalise` in record.py.
fn normalise(reply: &[u8]) -> String {
    let mut text: String = reply.iter().map(|&b| char::from(b)).collect();
    if let Some(at) = text.find("\r\nDate: ") {
        let end = text[at + 2..].find("\r\n").unwrap() + at + 2;
        text.replace_range(at + 2..end, "Date: DATE");
    }
    for (start, name) in [("{\"state\": ", "<status>"), ("# HELP patroni_version ", "<metrics>")] {
        if let Some(at) = text.find(start) {
            text.replace_range(at.., name);
        }
    }
    if let Some(at) = text.find("{\"members\": ") {
        let end =
            ["], \"pause", "], \"sched", "], \"scope"].iter().filter_map(|e| text.find(e)).min().unwrap();
        text.replace_range(at..=end, "<members>");
    }
    text
}

#[test]
fn replies_are_those_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/rest/raw.json");
    let cases = common::value(&std::fs::read_to_string(path).unwrap());
    let section =
        common::value(r#"{"listen": "127.0.0.1:0", "auth": "u:p", "http_extra_headers": {"X-Num": 5}}"#);
    let server = RestServer::start(&section, common::Fake::new(common::primary())).unwrap();
    let mut wrong = Vec::new();
    for case in cases.as_list().unwrap() {
        let name = case.get("name").unwrap().as_str().unwrap();
        let expected = case.get("reply").unwrap().as_str().unwrap();
        let half_close = case.get("half_close").unwrap().truthy();
        let reply = common::talk(server.local_addr(), &sent(case.get("send").unwrap()), half_close);
        let found = without_keep_alive(&normalise(&reply));
        if found != expected {
            wrong.push(format!("{name}\n  expected {expected:?}\n  found    {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.as_list().unwrap().len(), wrong.join("\n"));
}
