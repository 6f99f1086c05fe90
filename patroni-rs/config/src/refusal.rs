//! What the daemon does not start with, although it could be taken for something: an empty name, address or path,
//! and a section of another type, which would switch off what it stands for. The reference dies of an exception at
//! each; here it is a line with the key, its value and what is expected.

use patroni_core::parse::is_empty_host;
use pyfmt::Value;

use crate::config::Config;

/// What a key has to hold.
#[derive(Clone, Copy)]
enum Want {
    /// Text that is not blank.
    Text(&'static str),
    /// As `Text`, or nothing.
    TextOrNothing(&'static str),
    /// `hosts:port` or hosts alone.
    Address,
    /// As `Address`, or nothing.
    AddressOrNothing,
    /// Text that is not blank, such as a path, or nothing.
    TextOrFalse,
    /// Hosts of a store: text, or a list with a text in it; or nothing.
    Hosts,
    /// A mapping, or nothing.
    Section,
}

/// In the order in which the reference looks at them.
const RULES: [(&[&str], Want); 24] = [
    (&["consul"], Want::Section),
    (&["consul", "host"], Want::AddressOrNothing),
    (&["consul", "url"], Want::TextOrFalse),
    (&["etcd"], Want::Section),
    (&["etcd", "hosts"], Want::Hosts),
    (&["etcd", "host"], Want::AddressOrNothing),
    (&["etcd", "url"], Want::TextOrFalse),
    (&["etcd3"], Want::Section),
    (&["etcd3", "hosts"], Want::Hosts),
    (&["etcd3", "host"], Want::AddressOrNothing),
    (&["etcd3", "url"], Want::TextOrFalse),
    (&["ctl"], Want::Section),
    (&["name"], Want::Text("text")),
    (&["namespace"], Want::TextOrNothing("text")),
    (&["scope"], Want::Text("text")),
    (&["watchdog"], Want::Section),
    (&["postgresql", "data_dir"], Want::Text("the path of a directory")),
    (&["postgresql", "listen"], Want::Address),
    (&["postgresql", "connect_address"], Want::AddressOrNothing),
    (&["postgresql", "proxy_address"], Want::AddressOrNothing),
    (&["postgresql", "config_dir"], Want::TextOrFalse),
    (&["postgresql", "pgpass"], Want::TextOrFalse),
    (&["postgresql", "recovery_conf"], Want::Section),
    (&["tags"], Want::Section),
];

impl Config {
    /// Why the daemon cannot run with this configuration; None when it can. Only what would go wrong without a word
    /// is looked at: the parts of the daemon refuse the rest on their own.
    pub fn refusal(&self) -> Option<String> {
        RULES.iter().find_map(|(path, want)| {
            // An empty value at the top has become a mapping in the effective configuration.
            let value = self.effective().at(path);
            let written = self.local().at(path).or(value);
            want.refuses(if path.len() == 1 { written.or(value) } else { value })
                .then(|| line(path, written, *want))
        })
    }
}

impl Want {
    fn refuses(self, value: Option<&Value>) -> bool {
        let Some(value) = value else { return matches!(self, Want::Text(_) | Want::Address) };
        match self {
            Want::Text(_) | Want::TextOrNothing(_) => is_blank(value),
            Want::Address => !is_address(value),
            Want::AddressOrNothing => value.truthy() && !is_address(value),
            Want::TextOrFalse => value.truthy() && is_blank(value),
            Want::Hosts => match value {
                Value::Null | Value::Str(_) | Value::Map(_) => false,
                // The store passes over what is no host beside others, and says so.
                Value::List(hosts) => hosts.iter().all(is_blank),
                _ => true,
            },
            Want::Section => value.truthy() && value.as_map().is_none(),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Want::Text(what) | Want::TextOrNothing(what) => what,
            Want::Address | Want::AddressOrNothing => "<HOST>:<PORT>",
            Want::TextOrFalse => "text",
            Want::Hosts => "<HOST>:<PORT>, or a list of them,",
            Want::Section => "a mapping",
        }
    }
}

/// No text, or nothing but white space.
fn is_blank(value: &Value) -> bool {
    value.as_str().is_none_or(|text| text.trim().is_empty())
}

/// Text whose port, if there is one, is a number, and none of whose hosts is empty: with an empty one the address that
/// others are told leads nowhere.
fn is_address(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    let (hosts, port) = text.rsplit_once(':').map_or((text, None), |(hosts, port)| (hosts, Some(port)));
    !hosts.split(',').any(is_empty_host) && port.is_none_or(|port| pyfmt::int::parse(port).is_ok())
}

/// What a section of a wrong type holds may be a secret.
fn line(path: &[&str], value: Option<&Value>, want: Want) -> String {
    let got = match (value, want) {
        (None, _) => "it is not set".to_owned(),
        (Some(other), Want::Section) => format!("it is of type {}", other.type_name()),
        (Some(Value::List(_) | Value::Map(_)), _) => {
            format!("it is of type {}", value.map_or("NoneType", Value::type_name))
        }
        (Some(Value::Str(text)), _) => format!("got {}", pyfmt::value::str_repr(text)),
        (Some(other), _) => format!("got {}, which is no text (put it in quotes)", other.py_repr()),
    };
    let section = match path {
        [section, _] => format!("\"{section}\" config"),
        _ => "config".to_owned(),
    };
    let key = path.last().unwrap_or(&"");
    format!("Invalid {section}: expected {} for \"{key}\", but {got}", want.expected())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Check, Environment};

    const GOOD: &str = "{scope: s, name: n, postgresql: {data_dir: /d, listen: '127.0.0.1:5432'}";

    fn refusal(document: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("patroni.yml");
        std::fs::write(&file, document).unwrap();
        Config::load(file.to_str().unwrap(), &Environment::default(), &Check::NotEmpty).unwrap().refusal()
    }

    /// Each was given to the reference, which did not start either.
    #[test]
    fn refused() {
        const ADDRESS: &str = "<HOST>:<PORT>";
        const HOSTS: &str = "<HOST>:<PORT>, or a list of them,";
        // A star: it is no text.
        for (from, to, key, expected, got) in [
            ("/d", "/d, recovery_conf: cp", "postgresql.recovery_conf", "a mapping", "it is of type str"),
            ("data_dir: /d, ", "", "postgresql.data_dir", "the path of a directory", "it is not set"),
            ("/d", "''", "postgresql.data_dir", "the path of a directory", "got ''"),
            (", listen: '127.0.0.1:5432'", "", "postgresql.listen", ADDRESS, "it is not set"),
            ("'127.0.0.1:5432'", "5432", "postgresql.listen", ADDRESS, "got 5432*"),
            ("5432'", "abc'", "postgresql.listen", ADDRESS, "got '127.0.0.1:abc'"),
            (
                "/d",
                "/d, connect_address: '10.0.0.1:abc'",
                "postgresql.connect_address",
                ADDRESS,
                "got '10.0.0.1:abc'",
            ),
            (
                "/d",
                "/d, connect_address: '10.0.0.1:'",
                "postgresql.connect_address",
                ADDRESS,
                "got '10.0.0.1:'",
            ),
            ("/d", "/d, connect_address: 5432", "postgresql.connect_address", ADDRESS, "got 5432*"),
            ("/d", "' '", "postgresql.data_dir", "the path of a directory", "got ' '"),
            ("'127.0.0.1:5432'", "''", "postgresql.listen", ADDRESS, "got ''"),
            ("'127.0.0.1:5432'", "' '", "postgresql.listen", ADDRESS, "got ' '"),
            ("'127.0.0.1:5432'", "':5432'", "postgresql.listen", ADDRESS, "got ':5432'"),
            ("'127.0.0.1:5432'", "'a,:5432'", "postgresql.listen", ADDRESS, "got 'a,:5432'"),
            ("/d", "/d, connect_address: ' '", "postgresql.connect_address", ADDRESS, "got ' '"),
            ("/d", "/d, connect_address: '[]:5432'", "postgresql.connect_address", ADDRESS, "got '[]:5432'"),
            ("/d", "/d, connect_address: ' :5432'", "postgresql.connect_address", ADDRESS, "got ' :5432'"),
            ("/d", "/d, proxy_address: ':1'", "postgresql.proxy_address", ADDRESS, "got ':1'"),
            ("/d", "/d, pgpass: ' '", "postgresql.pgpass", "text", "got ' '"),
            ("/d", "/d, config_dir: ' '", "postgresql.config_dir", "text", "got ' '"),
            ("name: n", "etcd3: {host: ':2379'}, name: n", "etcd3.host", ADDRESS, "got ':2379'"),
            (
                "name: n",
                "etcd3: {hosts: [null, 5, ' ']}, name: n",
                "etcd3.hosts",
                HOSTS,
                "it is of type list",
            ),
            ("name: n", "name: ' '", "name", "text", "got ' '"),
            ("scope: s", "scope: ' '", "scope", "text", "got ' '"),
            ("scope: s", "namespace: ' ', scope: s", "namespace", "text", "got ' '"),
            ("/d", "/d, proxy_address: '::x'", "postgresql.proxy_address", ADDRESS, "got '::x'"),
            ("/d", "/d, config_dir: 5", "postgresql.config_dir", "text", "got 5*"),
            ("/d", "/d, pgpass: [a]", "postgresql.pgpass", "text", "it is of type list"),
            ("name: n", "consul: '127.0.0.1:8500', name: n", "consul", "a mapping", "it is of type str"),
            ("name: n", "consul: {host: 5}, name: n", "consul.host", ADDRESS, "got 5*"),
            ("name: n", "consul: {host: 'h:abc'}, name: n", "consul.host", ADDRESS, "got 'h:abc'"),
            ("name: n", "consul: {url: 5}, name: n", "consul.url", "text", "got 5*"),
            ("name: n", "etcd3: '127.0.0.1:2379', name: n", "etcd3", "a mapping", "it is of type str"),
            ("name: n", "etcd3: {hosts: [5]}, name: n", "etcd3.hosts", HOSTS, "it is of type list"),
            ("name: n", "etcd3: {hosts: []}, name: n", "etcd3.hosts", HOSTS, "it is of type list"),
            ("name: n", "etcd3: {hosts: 2379}, name: n", "etcd3.hosts", HOSTS, "got 2379*"),
            ("name: n", "etcd3: {host: 5}, name: n", "etcd3.host", ADDRESS, "got 5*"),
            ("name: n", "etcd3: {host: 'h:abc'}, name: n", "etcd3.host", ADDRESS, "got 'h:abc'"),
            ("name: n", "etcd3: {url: 5}, name: n", "etcd3.url", "text", "got 5*"),
            ("name: n", "name: ''", "name", "text", "got ''"),
            ("name: n", "name: 123", "name", "text", "got 123*"),
            ("name: n", "name: yes", "name", "text", "got True*"),
            ("name: n", "name: 2020-01-01", "name", "text", "got datetime.date(2020, 1, 1)*"),
            ("name: n", "name: {}", "name", "text", "it is of type dict"),
            (", name: n", "", "name", "text", "it is not set"),
            ("scope: s, name: n, ", "", "name", "text", "it is not set"),
            ("scope: s", "scope: ''", "scope", "text", "got ''"),
            ("scope: s", "scope: 123", "scope", "text", "got 123*"),
            ("scope: s", "namespace: 5, scope: s", "namespace", "text", "got 5*"),
            ("scope: s", "namespace: '', scope: s", "namespace", "text", "got ''"),
            ("scope: s", "scope: s, tags: [a]", "tags", "a mapping", "it is of type list"),
            ("scope: s", "scope: s, tags: text", "tags", "a mapping", "it is of type str"),
            ("scope: s", "scope: s, ctl: [secret]", "ctl", "a mapping", "it is of type list"),
            ("scope: s", "scope: s, watchdog: required", "watchdog", "a mapping", "it is of type str"),
            ("scope: s", "scope: s, watchdog: yes", "watchdog", "a mapping", "it is of type bool"),
            ("scope: s", "scope: s, watchdog: 5", "watchdog", "a mapping", "it is of type int"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let document = format!("{}}}", GOOD.replace(from, to));
            let (section, key) = match key.split_once('.') {
                Some((section, key)) => (format!("\"{section}\" "), key),
                None => (String::new(), key),
            };
            let got = got.replace('*', ", which is no text (put it in quotes)");
            let want = format!("Invalid {section}config: expected {expected} for \"{key}\", but {got}");
            assert_eq!(refusal(&document), Some(want), "{document}");
        }
    }

    #[test]
    fn accepted() {
        for more in [
            "",
            ", namespace: , tags: , ctl: , watchdog: ",
            ", tags: {}, ctl: {}, watchdog: {mode: off}",
            ", tags: {nofailover: true, x: 5}",
            ", namespace: /x/",
            ", etcd3: {hosts: 'a:1,b:2', host: h, url: 'http://h:1'}",
            ", etcd3: {hosts: [a, 'b:2'], host: , url: }",
            ", etcd3: {hosts: [null, 'b:2', 5, true]}",
        ] {
            assert_eq!(refusal(&format!("{GOOD}{more}}}")), None, "{more}");
        }
        for (from, to) in [
            ("'127.0.0.1:5432'", "127.0.0.1"),
            ("'127.0.0.1:5432'", "'*: 5432'"),
            ("'127.0.0.1:5432'", "'[::1]:5432'"),
            ("'127.0.0.1:5432'", "'::1:5432'"),
            ("'127.0.0.1:5432'", "'a,[::1]:5432'"),
            ("/d", "/d, config_dir: '', pgpass: "),
            ("/d", "/d, connect_address: "),
            ("/d", "/d, connect_address: ''"),
            ("/d", "/d, connect_address: 'h'"),
            ("/d", "/d, connect_address: 'h:70000', proxy_address: 'h:6432'"),
        ] {
            assert_eq!(refusal(&format!("{}}}", GOOD.replace(from, to))), None, "{to}");
        }
    }
}
