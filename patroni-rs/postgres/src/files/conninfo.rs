//! Connection strings: reading libpq's two forms, and writing the one that
//! goes into `primary_conninfo` (surface-ha-pg 15.3-06, 15.4-04 to 15.4-06).

use indexmap::IndexMap;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::text::{escape_with, split_assignment};
use super::uri::parse_uri;

/// Connection parameters by keyword.
pub type Conninfo = IndexMap<String, String>;

/// Keywords of libpq 18, in the order of its documentation. An unknown one
/// makes libpq refuse the string.
pub(super) const LIBPQ_KEYWORDS: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "require_auth",
    "channel_binding",
    "connect_timeout",
    "client_encoding",
    "options",
    "application_name",
    "fallback_application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "replication",
    "gssencmode",
    "sslmode",
    "requiressl",
    "sslnegotiation",
    "sslcompression",
    "sslcert",
    "sslkey",
    "sslkeylogfile",
    "sslpassword",
    "sslcertmode",
    "sslrootcert",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "min_protocol_version",
    "max_protocol_version",
    "krbsrvname",
    "gsslib",
    "gssdelegation",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "target_session_attrs",
    "load_balance_hosts",
    "oauth_issuer",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_scope",
    "authtype",
];

/// Values that a connection has when the string does not name them; set on
/// both sides before connection strings are compared.
const DEFAULTS: [(&str, &str); 4] = [
    ("sslmode", "prefer"),
    ("gssencmode", "prefer"),
    ("channel_binding", "prefer"),
    ("sslnegotiation", "postgres"),
];

/// Keywords in the order in which they are written, with the first major
/// version of PostgreSQL that takes them.
const WRITTEN: [(&str, PgVersion); 19] = [
    ("dbname", PgVersion::UNKNOWN),
    ("user", PgVersion::UNKNOWN),
    ("password", PgVersion::UNKNOWN),
    ("host", PgVersion::UNKNOWN),
    ("port", PgVersion::UNKNOWN),
    ("sslmode", PgVersion::UNKNOWN),
    ("sslcompression", PgVersion::UNKNOWN),
    ("sslcert", PgVersion::UNKNOWN),
    ("sslkey", PgVersion::UNKNOWN),
    ("sslpassword", PgVersion::V13),
    ("sslrootcert", PgVersion::UNKNOWN),
    ("sslcrl", PgVersion::UNKNOWN),
    ("sslcrldir", PgVersion::V14),
    ("application_name", PgVersion::UNKNOWN),
    ("krbsrvname", PgVersion::UNKNOWN),
    ("gssencmode", PgVersion::V12),
    ("channel_binding", PgVersion::V13),
    ("target_session_attrs", PgVersion::V10),
    ("sslnegotiation", PgVersion::V17),
];

/// The version that introduced a keyword, as in [`WRITTEN`].
pub fn keyword_version(keyword: &str) -> PgVersion {
    WRITTEN.iter().find(|(k, _)| *k == keyword).map_or(PgVersion::UNKNOWN, |(_, version)| *version)
}

/// Writes `key=value` pairs separated by spaces, as far as `major_version`
/// knows the keywords. `passfile` takes the place of the password. Values are
/// never quoted: quotes, backslashes and white space get a backslash.
pub fn format_dsn(params: &Value, major_version: PgVersion) -> String {
    let with_passfile = params.get("passfile").is_some_and(Value::truthy);
    let pairs =
        WRITTEN.iter().filter(|(_, since)| major_version.at_least(*since)).filter_map(|(keyword, _)| {
            let keyword = if *keyword == "password" && with_passfile { "passfile" } else { *keyword };
            let value = params.get(keyword).filter(|v| !v.is_null())?.py_str();
            // Any white space ends a value.
            let special = |c: char| matches!(c, '\'' | '\\' | ' ' | '\t'..='\r');
            Some(format!("{keyword}={}", escape_with(&value, |c| special(c).then_some('\\'))))
        });
    pairs.collect::<Vec<_>>().join(" ")
}

/// Reads a connection string, URI or `key=value`, with the values that sslmode,
/// gssencmode, channel_binding and sslnegotiation have by default. `None` if it
/// is empty or cannot be read.
///
/// As the reference does, a string that libpq refuses (an unknown keyword) is
/// read once more with any keyword allowed.
pub fn parse_dsn(text: &str) -> Option<Conninfo> {
    let mut parsed = parse_conninfo(text)?;
    for (keyword, value) in DEFAULTS {
        parsed.entry(keyword.to_owned()).or_insert_with(|| value.to_owned());
    }
    Some(parsed)
}

/// Reads a connection string without adding defaults.
pub fn parse_conninfo(text: &str) -> Option<Conninfo> {
    let parse = |strict| {
        let pairs = match text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
            Some(rest) => parse_uri(rest),
            None => parse_pairs(text, strict),
        };
        let known = |pairs: &Conninfo| pairs.keys().all(|k| LIBPQ_KEYWORDS.contains(&k.as_str()));
        pairs.filter(|pairs| !strict || known(pairs)).map(translate_requiressl).filter(|p| !p.is_empty())
    };
    parse(true).or_else(|| parse(false))
}

/// The `sslmode` that the old `requiressl` stands for.
fn required_sslmode(requiressl: &str) -> &'static str {
    if requiressl.starts_with('1') {
        "require"
    } else {
        "prefer"
    }
}

/// In the second reading `sslmode` wins over `requiressl`; libpq takes the last.
fn translate_requiressl(mut pairs: Conninfo) -> Conninfo {
    if let Some(require) = pairs.shift_remove("requiressl") {
        pairs.entry("sslmode".to_owned()).or_insert_with(|| required_sslmode(&require).to_owned());
    }
    pairs
}

/// `strict` is libpq's reading: an empty last value is allowed.
fn parse_pairs(text: &str, strict: bool) -> Option<Conninfo> {
    let mut pairs = Conninfo::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, value) = split_assignment(rest)?;
        if value.is_empty() && !strict {
            return None;
        }
        let (value, after) = take_value(value)?;
        if strict && keyword == "requiressl" {
            pairs.insert("sslmode".to_owned(), required_sslmode(&value).to_owned());
        } else {
            pairs.insert(keyword.to_owned(), value);
        }
        rest = after.trim_start();
    }
    Some(pairs)
}

/// One value, plain or in single quotes, with backslash escapes; and what
/// follows it. `None` if the closing quote is missing.
fn take_value(text: &str) -> Option<(String, &str)> {
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, chars.as_str())),
            c if !quoted && c.is_whitespace() => return Some((value, body.get(at..).unwrap_or_default())),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// Connection parameters of a member, from its data in the DCS and our
/// credentials for it (`auth`: a section of `postgresql.authentication`).
/// Empty if the member has no address. `options` and `connect_timeout` are not
/// taken from the credentials; `username` becomes `user`.
pub fn member_conn_kwargs(member_data: &Value, auth: Option<&Value>) -> Value {
    let mut kwargs: Value =
        [("host", Value::Null), ("port", Value::Null), ("dbname", Value::Null)].into_iter().collect();
    match member_data.get("conn_kwargs").filter(|v| v.truthy()) {
        Some(given) => extend(&mut kwargs, given, |_, _| true),
        None => {
            let Some(url) = member_data.get("conn_url").and_then(Value::as_str).filter(|u| !u.is_empty())
            else {
                return Value::map();
            };
            let address = super::uri::member_address(url);
            kwargs.set("host", address.host);
            kwargs.set("port", u32::from(address.port.unwrap_or(5432)));
            kwargs.set("dbname", address.dbname);
        }
    }
    let Some(auth @ Value::Map(_)) = auth else {
        return kwargs;
    };
    extend(&mut kwargs, auth, |k, v| !matches!(k, "options" | "connect_timeout") && !v.is_null());
    if auth.get("username").is_some() {
        if let Some(user) = kwargs.remove("username") {
            kwargs.set("user", user);
        }
    }
    kwargs
}

/// Copies the entries that `keep` accepts.
pub(super) fn extend(target: &mut Value, source: &Value, keep: impl Fn(&str, &Value) -> bool) {
    for (key, value) in source.as_map().into_iter().flatten() {
        let key = key.py_str();
        if keep(&key, value) {
            target.set(&key, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Option<Conninfo> {
        Some(list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn strings_are_read_as_libpq_reads_them() {
        // Recorded from libpq 18; the lines marked with a comment are the reference's second reading.
        for (text, expected) in [
            ("host= port=5", pairs(&[("host", "port=5")])),
            ("host=", pairs(&[("host", "")])),
            ("host='a b' user=x\\ y", pairs(&[("host", "a b"), ("user", "x y")])),
            ("requiressl=1", pairs(&[("sslmode", "require")])),
            ("requiressl=0 host=a", pairs(&[("host", "a"), ("sslmode", "prefer")])),
            ("requiressl=1 sslmode=disable", pairs(&[("sslmode", "disable")])),
            ("host=a\thost=b", pairs(&[("host", "b")])),
            ("host='it\\'s'", pairs(&[("host", "it's")])),
            ("", None),
            ("  ", None),
            ("host='a", None),
            ("1", None),
            ("Host=a", None),
            ("foo=bar", pairs(&[("foo", "bar")])), // second reading
            ("host = a b=c", pairs(&[("host", "a"), ("b", "c")])), // second reading
            ("host=a foo = ", None),
        ] {
            assert_eq!(parse_conninfo(text), expected, "{text}");
        }
    }

    #[test]
    fn defaults_are_added() {
        let dsn = parse_dsn("host=a sslmode=require").unwrap();
        assert_eq!(dsn.get("sslmode").map(String::as_str), Some("require"));
        assert_eq!(dsn.get("channel_binding").map(String::as_str), Some("prefer"));
        assert_eq!(dsn.get("sslnegotiation").map(String::as_str), Some("postgres"));
    }

    #[test]
    fn keywords_are_written_in_order_and_by_version() {
        let params: Value = [
            ("sslnegotiation", Value::from("postgres")),
            ("channel_binding", "prefer".into()),
            ("gssencmode", "prefer".into()),
            ("host", "h".into()),
            ("port", 5432.into()),
            ("user", Value::Null),
            ("password", "a'b\\c d".into()),
            ("dbname", "postgres".into()),
        ]
        .into_iter()
        .collect();
        let base = "dbname=postgres password=a\\'b\\\\c\\ d host=h port=5432";
        for (version, expected) in [
            (PgVersion::V11, base.to_owned()),
            (PgVersion::V12, format!("{base} gssencmode=prefer")),
            (PgVersion::V13, format!("{base} gssencmode=prefer channel_binding=prefer")),
            (
                PgVersion::V17,
                format!("{base} gssencmode=prefer channel_binding=prefer sslnegotiation=postgres"),
            ),
        ] {
            assert_eq!(format_dsn(&params, version), expected);
        }
        let spaces: Value = [("password", "a\tb\nc\u{b}d\u{c}e\rf"), ("host", "h")].into_iter().collect();
        let text = format_dsn(&spaces, PgVersion::V15);
        assert_eq!(parse_conninfo(&text), pairs(&[("password", "a\tb\nc\u{b}d\u{c}e\rf"), ("host", "h")]));
        let mut with_file = params.clone();
        with_file.set("passfile", "/p g");
        assert!(format_dsn(&with_file, PgVersion::V11).starts_with("dbname=postgres passfile=/p\\ g host=h"));
    }

    #[test]
    fn member_parameters() {
        let data: Value = [("conn_url", "postgres://H1.example:5433/pg")].into_iter().collect();
        let auth: Value =
            [("username", "rep"), ("password", "x"), ("options", "-c a"), ("sslmode", "require")]
                .into_iter()
                .collect();
        let kwargs = member_conn_kwargs(&data, Some(&auth));
        assert_eq!(
            kwargs.py_repr(),
            "{'host': 'h1.example', 'port': 5433, 'dbname': 'pg', 'password': 'x', 'sslmode': 'require', \
             'user': 'rep'}"
        );
        assert_eq!(member_conn_kwargs(&Value::map(), Some(&auth)), Value::map());
    }
}
