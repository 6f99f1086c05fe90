//! Random requests, decided by a seed: broken and unusual ones, that change nothing or the same on
//! both sides. No restart, switchover or change of a setting that matters comes out of them.

use crate::sim::Rng;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The bytes to send.
    pub bytes: Vec<u8>,
    /// Whether the client then says that it has ended.
    pub half_close: bool,
}

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "GET",
    "HEAD",
    "OPTIONS",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "get",
    "BREW",
    "GET_patroni",
    "TRACE",
    "G\u{e9}T",
];
const PATHS: &[&str] = &[
    "/",
    "/primary",
    "/master",
    "/leader",
    "/replica",
    "/read-only",
    "/read-only-sync",
    "/read-only-quorum",
    "/sync",
    "/async",
    "/quorum",
    "/health",
    "/liveness",
    "/readiness",
    "/patroni",
    "/cluster",
    "/history",
    "/config",
    "/metrics",
    "/failsafe",
    "/standby_leader",
    "/x-replica-y",
    "/unhealthy",
    "/PRIMARY",
    "/nowhere",
    "/switchover",
    "/..",
    "/../config",
    "/./patroni",
    "/config/../patroni",
    "/%63onfig",
    "/patroni%00",
    "*",
    "patroni",
    "http://h/config",
    "https://[::1]/patroni",
    "http://[/x",
    "//cluster",
    "////config//",
    "/patroni;a=b",
    "/patroni#x",
    "?x=1",
    "/\u{e9}",
    "/replica/leader",
    "/sync/",
    "/config/x/y",
    "/metrics/",
];
const QUERIES: &[&str] = &[
    "",
    "",
    "?lag=0",
    "?lag=-1",
    "?lag=1MB",
    "?lag=16MB",
    "?lag=1mb",
    "?lag=foo",
    "?lag=",
    "?lag=010",
    "?lag=0x3D0900",
    "?lag=4e6",
    "?lag=99999999999999999999",
    "?lag=-99999999999999999999",
    "?lag=.5GB",
    "?lag=3.1MB",
    "?lag=16%20MB",
    "?lag=+16MB",
    "?lag=1&lag=100MB",
    "?lag=nan",
    "?lag=inf",
    "?lag=%ff",
    "?lag=1%00",
    "?lag=1e",
    "?lag=1TB&",
    "?lag=9223372036854775807",
    "?lag=9223372036854775808",
    "?lag=1e19",
    "?lag=8388608TB",
    "?lag=0x",
    "?lag=08",
    "?lag=1_000",
    "?tag_x=1",
    "?tag_=x",
    "?tag_clonefrom=true",
    "?mode=write",
    "?mode=WRITE&lag=0",
    "?mode=write&lag=0",
    "?mode=apply&lag=1",
    "?replication_state=streaming",
    "?&&&",
    "?=",
    "?a=%zz",
    "?tag%5fx=1",
    "?%",
    "??lag=0",
    "?lag=0#frag",
    "?lag=0;mode=write",
];
const VERSIONS: &[&str] = &[
    " HTTP/1.0",
    " HTTP/1.0",
    " HTTP/1.1",
    " HTTP/1.1",
    " HTTP/0.9",
    " HTTP/2.0",
    " HTTP/1.999",
    " HTTP/x",
    " HTTP/1",
    " http/1.0",
    " HTTP/1.0 x",
    "",
    " ",
    " HTTP/-1.0",
    " HTTP/1.-1",
    " HTTP/ 1.0",
    " HTTP/1.1\t",
    " HTTP/01.0",
    " HTTP/1_0.0",
    " HTTP/1.1.1",
];
const ENDS: &[&str] = &["\r\n", "\r\n", "\r\n", "\n", "\r", ""];
const HEADERS: &[&str] = &[
    "Host: x\r\n",
    "Connection: keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "Transfer-Encoding: chunked\r\n",
    " folded\r\n",
    "no colon\r\n",
    ": empty\r\n",
    "A : b\r\n",
    "X: \u{e9}\r\n",
    "From x\r\n",
    "Content-Length\r\n",
    "Accept-Encoding: gzip\r\n",
    "Authorization: Basic x\r\n",
    "\tX: y\r\n",
    "A:\r\n",
];
/// Paths with a body, by method. No number is beyond all bounds (`1e400`): docs/compatibility.md.
const ACTS: &[(&str, &str)] = &[
    ("POST", "/switchover"),
    ("POST", "/switchover"),
    ("POST", "/failover"),
    ("POST", "/failover"),
    ("POST", "/restart"),
    ("POST", "/restart"),
    ("POST", "/failsafe"),
    ("POST", "/citus"),
    ("POST", "/mpp"),
    ("POST", "/sigterm"),
    ("PATCH", "/config"),
    ("PATCH", "/config"),
    ("PUT", "/nowhere"),
    ("DELETE", "/restart"),
    ("DELETE", "/switchover"),
    ("POST", "/nowhere"),
];
const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "1.5",
    "-0.0",
    "1e400",
    "-1e400",
    "NaN",
    "Infinity",
    "99999999999999999999",
    "1e3",
    "\"\"",
    "\"x\"",
    "\"null\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "[]",
    "{}",
    "[1]",
    "{\"a\": null}",
    "\"2030-01-01\"",
    "\"2030-01-01T00:00:00Z\"",
    "\"2020-01-01T00:00:00+00:00\"",
    "\"10:30\"",
    "\"tomorrow\"",
    "\"9.6\"",
    "\"9.6.1\"",
    "\"14.3\"",
    "\"1.2.3.4\"",
    "\" 9 . 6 \"",
    "\"5s\"",
    "\"1h\"",
    "\"5 min\"",
    "\"-5\"",
    "\"0\"",
    "\"replica\"",
    "\"standby_leader\"",
    "\"master\"",
    "\"node9\"",
    "\" \"",
    "\"\\u0000\"",
    "\"2030-01-01T00:00:00+25:00\"",
    "\"9999-12-31T23:59:59-23:59\"",
    "\"0001-01-01T00:00+01:00\"",
    "\"0x10\"",
    "\"010\"",
    "\"on\"",
    "\"yes\"",
    "[null, {\"b\": [[]]}]",
    "\"Jan 1 2030 10am UTC\"",
    "\"2030-13-01T00:00Z\"",
];

/// Bodies that are no document, or an empty one.
const NO_DOCUMENTS: &[&str] = &[
    "[]",
    "[{}]",
    "5",
    "null",
    "\"x\"",
    "{",
    "",
    " ",
    "{}",
    "\u{ef}\u{bb}\u{bf}{}",
    "{\"a\":1}x",
    "{'a':1}",
    "{\"a\":1,}",
];

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from.get((rng.number() % from.len().max(1) as u64) as usize).copied().unwrap_or("")
}

/// The request of a seed.
pub fn request(seed: u64) -> Request {
    let mut rng = Rng::new(seed);
    match rng.number() % 10 {
        0..=2 => question(&mut rng),
        3 => strange_line(&mut rng),
        _ => act(&mut rng),
    }
}

/// A question, with unusual path, query and headers.
fn question(rng: &mut Rng) -> Request {
    let mut text = format!("{} {}{}", pick(rng, &METHODS[..5]), pick(rng, PATHS), pick(rng, QUERIES));
    text.push_str(if rng.percent(80) { " HTTP/1.1\r\n" } else { pick(rng, VERSIONS) });
    if !text.ends_with('\n') {
        text.push_str(pick(rng, ENDS));
    }
    for _ in 0..rng.number() % 3 {
        text.push_str(pick(rng, HEADERS));
    }
    text.push_str("\r\n");
    if rng.percent(10) {
        text.push_str("GET /liveness HTTP/1.0\r\n\r\n");
    }
    Request { bytes: latin1(&text), half_close: true }
}

/// A request line that nobody would send.
fn strange_line(rng: &mut Rng) -> Request {
    let space = pick(rng, &[" ", " ", "  ", "\t", "\u{a0}", ""]);
    let mut text = format!("{}{space}{}{}", pick(rng, METHODS), pick(rng, PATHS), pick(rng, VERSIONS));
    text.push_str(pick(rng, ENDS));
    match rng.number() % 12 {
        0 => text.insert_str(0, pick(rng, &["\r\n", " ", "\0", "\u{16}\u{3}\u{1}"])),
        1 => text.push_str(&"A: b\r\n".repeat(98 + (rng.number() % 5) as usize)),
        2 => text.push_str(&format!("A: {}\r\n", "x".repeat(65528 + (rng.number() % 8) as usize))),
        3 => text = format!("GET /{}{text}", "y".repeat(65520 + (rng.number() % 20) as usize)),
        4 => text.push_str(&text.clone()),
        _ => {}
    }
    for _ in 0..rng.number() % 4 {
        text.push_str(pick(rng, HEADERS));
    }
    text.push_str("\r\n");
    Request { bytes: latin1(&text), half_close: true }
}

/// A request with a body.
fn act(rng: &mut Rng) -> Request {
    let acts = (rng.number() % ACTS.len() as u64) as usize;
    let (method, path) = ACTS.get(acts).copied().unwrap_or(("POST", "/"));
    let mut body = document(rng, path).into_bytes();
    if rng.percent(20) {
        let whole = body.clone();
        spoil(rng, &mut body);
        // Damage to the filter's name would leave a restart that nothing refuses.
        if path == "/restart" && !body.windows(FILTER.len()).any(|name| name == FILTER) {
            body = whole;
        }
    }
    // What a length that lies cuts off must not become a request that works.
    let lies = path != "/restart" || method != "POST";
    let length = body.len();
    let header = match rng.number() % 20 {
        0 if lies => String::new(),
        1 if lies => "Content-Length: 0\r\n".into(),
        2 if lies => "Content-Length:\r\n".into(),
        3 => "Content-Length: x\r\n".into(),
        4 => "Content-Length: -1\r\n".into(),
        5 => format!("Content-Length: +{length}\r\n"),
        6 => format!("Content-Length: {}\r\n", length + 7),
        7 if lies => format!("Content-Length: {}\r\n", length.saturating_sub(1)),
        8 => format!("content-length:{length}\r\nContent-Length: 1\r\n"),
        9 if lies => "Transfer-Encoding: chunked\r\n".into(),
        10 => format!("Content-Length: {length}.0\r\n"),
        11 => format!("Content-Length: \u{b2}{length}\r\n"),
        12 if lies => format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n", length / 2),
        _ => format!("Content-Length: {length}\r\n"),
    };
    let extra = if rng.percent(15) { pick(rng, &HEADERS[..4]) } else { "" };
    let tail = pick(rng, &["", "", "", "/x", "?a=b"]);
    let mut bytes = latin1(&format!("{method} {path}{tail} HTTP/1.1\r\n{extra}{header}\r\n"));
    bytes.extend_from_slice(&body);
    Request { bytes, half_close: true }
}

/// The filter by which every restart is refused (see [`document`]).
const FILTER: &[u8] = b"\"restart_pending\"";

fn document(rng: &mut Rng, path: &str) -> String {
    // No filter is a restart.
    if path != "/restart" && rng.percent(8) {
        return pick(rng, NO_DOCUMENTS).into();
    }
    let keys: &[&str] = match path {
        "/switchover" | "/failover" => &["leader", "candidate", "member", "scheduled_at", "x"],
        "/restart" => &["schedule", "role", "postgres_version", "timeout", "x"],
        "/failsafe" => &["name", "conn_url", "api_url", "slots"],
        "/config" => &["x1", "x2", "x3"],
        _ => &["type", "group", "leader", "timeout", "cooldown"],
    };
    let mut entries = Vec::new();
    for _ in 0..=rng.number() % 4 {
        let (key, value) = (pick(rng, keys), pick(rng, VALUES));
        entries.push(format!("\"{key}\": {value}"));
    }
    match path {
        // Without a pending restart this filter refuses whatever the others permit.
        "/restart" => entries.push(format!("\"restart_pending\": {}", pick(rng, VALUES))),
        "/switchover" if rng.percent(50) => {
            entries.push("\"leader\": \"node0\", \"candidate\": \"node0\"".into())
        }
        // A known candidate of a failover would get the lock.
        "/failover" if rng.percent(30) => entries.push("\"candidate\": \"node9\"".into()),
        _ => {}
    }
    format!("{{{}}}", entries.join(pick(rng, &[", ", ",", " ,\n"])))
}

/// Damages a body so that it is no document any more, or is one still.
fn spoil(rng: &mut Rng, body: &mut Vec<u8>) {
    let at = (rng.number() % (body.len() as u64 + 1)) as usize;
    match rng.number() % 4 {
        0 => body.insert(at, 0xff),
        1 => body.insert(
            at,
            pick(rng, &["{", "}", "\"", ",", "\\", "\t", "/"]).as_bytes().first().copied().unwrap_or(0),
        ),
        2 => body.extend_from_slice(b"\xc3\x28"),
        _ => {
            body.extend_from_slice(b" {}");
        }
    }
}

fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides() {
        assert_eq!(request(7), request(7));
        assert_ne!(request(7), request(8));
    }

    /// A request for a restart always has the filter that refuses it, or no document at all.
    #[test]
    fn restarts_are_refused() {
        for seed in 0..3000 {
            let bytes = request(seed).bytes;
            let text = String::from_utf8_lossy(&bytes);
            if text.starts_with("POST /restart") && text.contains("{\"") {
                assert!(text.contains("restart_pending"), "{text}");
            }
        }
    }
}
