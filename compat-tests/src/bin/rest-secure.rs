//! `rest-secure`: authentication, allowlist, headers, TLS, client certificates and their reload, on running
//! daemons: ours and the reference's are given the same `restapi` sections one after another, by SIGHUP, and
//! the same requests, and must answer the same. Prints what differs, and fails.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use compat_tests::diff::allow::{AllowList, REST};
use compat_tests::diff::{Pair, Side};
use compat_tests::lab::{wait_until, Result};
use compat_tests::program;
use compat_tests::rest::tls::{ask, certificates, Client};
use nix::sys::signal::Signal;
use openssl::ssl::SslVersion;
use pyfmt::{yaml, Value};

/// Two sides that differ are asked again so often.
const TRIES: usize = 4;

/// Every key that a section sets, so that the next one can remove it.
const KEYS: [&str; 12] = [
    "certfile",
    "keyfile",
    "keyfile_password",
    "cafile",
    "ciphers",
    "verify_client",
    "authentication",
    "allowlist",
    "allowlist_include_members",
    "server_tokens",
    "http_extra_headers",
    "https_extra_headers",
];

/// `restapi` sections, with the certificate that a client needs; `-` no TLS. CERTS is the directory.
const SECTIONS: [(&str, &str); 16] = [
    ("-", "authentication: {username: adm, password: 's:ec'}\nserver_tokens: ProductOnly\nhttp_extra_headers: {X-N: 5, Content-Type: x}\nhttps_extra_headers: {X-S: only}"),
    ("-", "allowlist: [10.0.0.0/8, 192.168.1.1]\nserver_tokens: minimal"),
    ("-", "allowlist: [127.0.0.0/8, '::1']\nserver_tokens: bogus"),
    ("-", "allowlist: [10.0.0.0/8]\nallowlist_include_members: true\nserver_tokens: ORIGINAL"),
    ("-", "allowlist: ['no such host.', 300.1.2.3]"),
    ("-", "allowlist_include_members: true"),
    ("", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.locked.key\nkeyfile_password: geheim\nhttps_extra_headers: {X-S: only, X-Section: over}"),
    ("", "certfile: CERTS/server.both.pem"),
    ("", "certfile: CERTS/self.pem\nkeyfile: CERTS/self.key"),
    ("", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\nciphers: ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"),
    ("", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\nverify_client: optional"),
    ("client", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\ncafile: CERTS/ca.pem\nverify_client: none"),
    ("client", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\ncafile: CERTS/ca.pem\nverify_client: Optional"),
    ("client", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\ncafile: CERTS/ca.pem\nverify_client: required\nauthentication: {username: adm, password: 's:ec'}\nallowlist: [127.0.0.1]"),
    ("client", "certfile: CERTS/server.pem\nkeyfile: CERTS/server.key\ncafile: CERTS/ca.pem\nverify_client: bogus"),
    ("-", "{}"),
];

/// Method, path, body.
const REQUESTS: [(&str, &str, &str); 20] = [
    ("GET", "/patroni", ""),
    ("GET", "/primary", ""),
    ("HEAD", "/primary", ""),
    ("OPTIONS", "/health", ""),
    ("GET", "/liveness", ""),
    ("GET", "/readiness", ""),
    ("GET", "/metrics", ""),
    ("GET", "/cluster", ""),
    ("GET", "/config", ""),
    ("GET", "/failsafe", ""),
    ("POST", "/reload", ""),
    ("POST", "/sigterm", ""),
    ("POST", "/mpp", "{\"a\": 1}"),
    ("POST", "/citus", "{\"a\": 1}"),
    ("PATCH", "/config", "{\"x\": 1}"),
    ("PATCH", "/config", "{\"x\": null}"),
    ("PUT", "/foo", ""),
    ("DELETE", "/restart", ""),
    ("POST", "/failsafe", "{}"),
    ("DELETE", "/failover", ""),
];

/// Base64 of `adm:s:ec` and others, after what names the scheme.
const CREDENTIALS: [&str; 6] = [
    "Authorization: Basic YWRtOnM6ZWM=\r\n",
    "AUTHORIZATION: Basic YWRtOnM6ZWM=\r\n",
    "Authorization: basic YWRtOnM6ZWM=\r\n",
    "Authorization: Basic YWRtOnM6ZWMx\r\n",
    "Authorization: Bearer x\r\n",
    "Authorization: Basic \r\n",
];

/// Authentication, allowlist, headers and TLS of both REST APIs.
#[derive(clap::Parser)]
struct Args {}

fn main() -> ExitCode {
    let Args {} = clap::Parser::parse();
    program::ended("rest-secure", "different answers", run())
}

/// What was compared.
struct Score {
    allow: AllowList,
    asked: usize,
    different: usize,
}

fn run() -> Result<usize> {
    let mut pair = Pair::new(15)?;
    let certs = pair.sides[0].lab.directory.join("certs");
    certificates(&certs)?;
    let mut score = Score { allow: AllowList::of_the_tree()?, asked: 0, different: 0 };
    for (number, (client, section)) in SECTIONS.iter().enumerate() {
        let own = (!client.is_empty()).then_some((certs.as_path(), *client));
        let client = (*client != "-").then_some(Client { certificate: own, ..Client::default() });
        for side in &mut pair.sides {
            apply(side, number, section, &certs, client)?;
        }
        for (method, path, body) in REQUESTS {
            score.compare(&pair, section, client, &request(method, path, "", body))?;
        }
        for credentials in CREDENTIALS {
            score.compare(&pair, section, client, &request("POST", "/reload", credentials, ""))?;
            score.compare(&pair, section, client, &request("DELETE", "/switchover", credentials, ""))?;
        }
        if client.is_some() {
            handshakes(&pair, section, &certs, &mut score)?;
        }
    }
    replacement(&mut pair, &certs, &mut score)?;
    println!("{} comparisons, {} different", score.asked, score.different);
    Ok(score.different)
}

/// Clients of other kinds.
fn handshakes(pair: &Pair, section: &str, certs: &Path, score: &mut Score) -> Result<()> {
    let requests = [request("GET", "/primary", "", ""), request("POST", "/reload", "", "")];
    score.compare(pair, section, None, &requests[0])?;
    let versions = [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    for version in versions.map(Some) {
        for name in [None, Some("client"), Some("rogue"), Some("self")] {
            let client = Client { certificate: name.map(|n| (certs, n)), version, ciphers: None };
            for request in &requests {
                score.compare(pair, section, Some(client), request)?;
            }
        }
    }
    for ciphers in ["ECDHE-RSA-AES256-GCM-SHA384", "AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305"] {
        let client = Client {
            certificate: Some((certs, "client")),
            version: Some(SslVersion::TLS1_2),
            ciphers: Some(ciphers),
        };
        score.compare(pair, section, Some(client), &requests[0])?;
    }
    Ok(())
}

/// A certificate that is replaced in its file: the reference wants SIGHUP, ours looks by itself.
fn replacement(pair: &mut Pair, certs: &Path, score: &mut Score) -> Result<()> {
    let put = |name: &str| -> Result<()> {
        for end in ["pem", "key"] {
            std::fs::copy(certs.join(format!("{name}.{end}")), certs.join(format!("live.{end}")))?;
            compat_tests::lab::host::give_away(&certs.join(format!("live.{end}")))?;
        }
        Ok(())
    };
    let section = "certfile: CERTS/live.pem\nkeyfile: CERTS/live.key";
    put("server")?;
    let client = Some(Client::default());
    for side in &mut pair.sides {
        apply(side, SECTIONS.len(), section, certs, client)?;
    }
    let question = request("GET", "/health", "", "");
    score.compare(pair, section, client, &question)?;
    let before = ask(pair.sides[0].lab.member("node0")?.rest, client, &question)?;
    put("next")?;
    let port = pair.sides[0].lab.member("node0")?.rest;
    wait_until("our server shows the new certificate", Duration::from_secs(15), || {
        let now = ask(port, client, &question)?;
        if now.split(']').next() == before.split(']').next() {
            return Err("the old one".into());
        }
        Ok(())
    })?;
    for side in &mut pair.sides {
        side.lab.member_mut("node0")?.signal_daemon(Signal::SIGHUP)?;
    }
    std::thread::sleep(Duration::from_secs(4));
    score.compare(pair, "replaced certificate", client, &question)
}

/// Gives a side the section, and waits until it is in force.
fn apply(
    side: &mut Side,
    number: usize,
    section: &str,
    certs: &Path,
    client: Option<Client<'_>>,
) -> Result<()> {
    let text = section.replace("CERTS", &certs.display().to_string());
    let mut over = yaml::load(&text)?;
    for key in KEYS {
        if over.get(key).is_none() {
            over.set(key, Value::Null);
        }
    }
    let mut headers =
        over.get("http_extra_headers").filter(|h| !h.is_null()).cloned().unwrap_or(Value::map());
    headers.set("X-Section", number.to_string());
    let member = side.lab.member_mut("node0")?;
    // What was there goes first: mappings would be merged.
    let empty: Value = KEYS.iter().map(|key| (*key, Value::Null)).collect();
    member.configure(&[("restapi", empty)].into_iter().collect())?;
    over.set("http_extra_headers", headers);
    member.configure(&[("restapi", over)].into_iter().collect())?;
    member.write_config()?;
    member.signal_daemon(Signal::SIGHUP)?;
    let port = member.rest;
    let mark = match text.contains("X-Section: over") {
        true => "X-Section: over\r\n".to_owned(),
        false => format!("X-Section: {number}\r\n"),
    };
    wait_until(&format!("section {number} is in force"), Duration::from_secs(30), || {
        let answer = ask(port, client, &request("GET", "/health", "", ""))?;
        if answer.contains(&mark) {
            return Ok(());
        }
        Err(answer.into())
    })
}

fn request(method: &str, path: &str, header: &str, body: &str) -> String {
    let length = match body {
        "" => String::new(),
        body => format!("Content-Length: {}\r\n", body.len()),
    };
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{header}{length}\r\n{body}")
}

impl Score {
    fn compare(
        &mut self,
        pair: &Pair,
        section: &str,
        client: Option<Client<'_>>,
        request: &str,
    ) -> Result<()> {
        self.asked += 1;
        let both = || -> Result<[String; 2]> {
            let one = |side: &Side| -> Result<String> {
                let answer = ask(side.lab.member("node0")?.rest, client, request)?;
                Ok(side.known.normalise(&answer))
            };
            Ok([one(&pair.sides[0])?, one(&pair.sides[1])?])
        };
        let line = request.lines().next().unwrap_or_default();
        let asked: Vec<&str> = line.split(' ').take(2).collect();
        let name = format!("{} on node0", asked.join(" "));
        let same = |answers: &[String; 2]| self.allow.same(REST, &name, answers);
        let mut answers = both()?;
        for _ in 1..TRIES {
            if same(&answers) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(700));
            answers = both()?;
        }
        if !same(&answers) {
            self.different += 1;
            println!("--- {section:?}, {client:?}: {request:?}");
            let [ours, theirs] = answers.map(|a| a.chars().take(700).collect::<String>());
            println!("ours:          {ours:?}\nthe reference: {theirs:?}");
        }
        Ok(())
    }
}
