//! Where this instance is reached: by itself, and by others
//! (surface-ha-pg 16).

use patroni_core::parse::split_host_port;
use pyfmt::int::NoInteger;
use pyfmt::Value;

use super::cimap::Params;
use super::conninfo::extend;

/// libpq's socket directory is fixed when it is built: Debian's and upstream's.
pub const DEFAULT_SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Addresses of one instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Addresses {
    /// `conn_url` of the member key.
    pub connection_string: String,
    /// `proxy_url` of the member key.
    pub proxy_url: Option<String>,
    /// Parameters of the superuser's connection: `host` (absent for libpq's
    /// own socket directory), `port`, credentials, `dbname`.
    pub local: Value,
    /// Host and port of the local replication connection.
    pub local_replication: Value,
}

/// Where a server that runs listens, as far as its data directory tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening {
    /// Its port.
    pub port: u16,
    /// All of its `listen_addresses`, where its command line has them.
    pub all: Option<String>,
    /// The first address; empty when it is not known, or there is none.
    pub first: String,
    /// The first socket directory; empty when it is not known, or there is none.
    pub socket_dir: String,
}

impl Listening {
    /// Its `listen_addresses`, by what is known of them: those that are wanted, unless they are others.
    fn addresses(&self, wanted: &str) -> String {
        match &self.all {
            Some(all) => all.clone(),
            None if self.first.is_empty() || lists(wanted, &self.first) => wanted.to_owned(),
            None => self.first.clone(),
        }
    }
}

fn lists(addresses: &str, address: &str) -> bool {
    addresses.split(',').any(|a| a.trim().eq_ignore_ascii_case(address))
}

/// The addresses of a server that was started by other settings than `config` and `params`: what has changed since
/// counts from its restart on. Nobody knows the `connect_address` of that time. Where today's is made of today's
/// `listen`, host and port are what the server has instead; where an address translator stands between, it stays.
pub fn resolve_running(config: &Value, params: &Params, database: &str, running: &Listening) -> Addresses {
    let text = |key: &str| params.get(key).filter(|v| !v.is_null()).map(Value::py_str);
    let (listen, port) = (text("listen_addresses").unwrap_or_default(), text("port").unwrap_or_default());
    let addresses = running.addresses(&listen);
    let (mut config, mut params) = (config.clone(), params.clone());
    let connect = config.get("connect_address").filter(|v| v.truthy()).map(Value::py_str);
    if let Some(connect) = connect {
        let wanted = (listen.as_str(), port.parse().unwrap_or(0));
        config.set("connect_address", connect_address(&connect, wanted, (&addresses, running.port)));
    }
    params.set("port", running.port.to_string());
    params.set("listen_addresses", addresses);
    let socket_dir = running.socket_dir.as_str();
    let wanted = text("unix_socket_directories");
    let known = match wanted.as_deref() {
        Some(directories) => unix_host(directories).as_deref() == Some(socket_dir),
        None => DEFAULT_SOCKET_DIRS.contains(&socket_dir),
    };
    if socket_dir.starts_with('/') && !known {
        params.set("unix_socket_directories", socket_dir);
    }
    resolve(&config, &params, database)
}

/// `connect` with what the server has in place of what is wanted of it; both are `listen_addresses` and port.
fn connect_address(connect: &str, wanted: (&str, u16), has: (&str, u16)) -> String {
    let Ok((host, port)) = split_host_port(connect, 5432) else { return connect.to_owned() };
    let port = if port == i64::from(wanted.1) { has.1.into() } else { port };
    let listens_there =
        has.0.split(',').any(|a| matches!(a.trim(), "*" | "0.0.0.0" | "::")) || lists(has.0, &host);
    let host = match lists(wanted.0, &host) && !listens_there {
        true => first_for_others(has.0).unwrap_or(host),
        false => host,
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    format!("{host}:{port}")
}

/// The first address that is not this machine's alone, else the first.
fn first_for_others(addresses: &str) -> Option<String> {
    let all = || addresses.split(',').map(str::trim).filter(|a| !a.is_empty());
    let own = |a: &&str| matches!(a.to_lowercase().as_str(), "localhost" | "127.0.0.1" | "::1");
    all().find(|a| !own(a)).or_else(|| all().next()).map(str::to_owned)
}

/// Computes the addresses from the effective `postgresql` section and the
/// server parameters.
pub fn resolve(config: &Value, params: &Params, database: &str) -> Addresses {
    let port = params.get("port").map(Value::py_str).unwrap_or_default();
    let tcp_host = tcp_host(&params.get("listen_addresses").map(Value::py_str).unwrap_or_default());
    let text = |key: &str| config.get(key).filter(|v| v.truthy()).map(Value::py_str);
    let flag = |key: &str| config.get(key).is_some_and(Value::truthy);

    let tcp: Value = [("host", tcp_host.as_str()), ("port", port.as_str())].into_iter().collect();
    let mut unix: Value = [("port", port.as_str())].into_iter().collect();
    if let Some(directories) = params.get("unix_socket_directories").filter(|v| !v.is_null()) {
        unix.set("host", unix_host(&directories.py_str()).unwrap_or_else(|| tcp_host.clone()));
    }
    let pick = |flag: bool| if flag { unix.clone() } else { tcp.clone() };

    let netloc = text("connect_address").unwrap_or_else(|| format!("{tcp_host}:{port}"));
    let mut local = pick(flag("use_unix_socket"));
    if let Some(superuser) = config.at(&["authentication", "superuser"]) {
        extend(&mut local, superuser, |_, _| true);
    }
    local.set("dbname", database);
    if let Some(user) = local.remove("username") {
        local.set("user", user);
    }
    Addresses {
        connection_string: postgres_uri(&netloc, database).unwrap_or_default(),
        proxy_url: text("proxy_address").and_then(|a| postgres_uri(&a, database).ok()),
        local,
        local_replication: pick(flag("use_unix_socket_repl")),
    }
}

/// `localhost` if the server listens there, else the first address.
fn tcp_host(listen_addresses: &str) -> String {
    let local = |a: &str| matches!(a.to_lowercase().as_str(), "*" | "localhost" | "0.0.0.0" | "127.0.0.1");
    let mut addresses = listen_addresses.split(',').map(str::trim);
    match addresses.clone().any(local) {
        true => "localhost".to_owned(),
        false => addresses.next().unwrap_or_default().to_owned(),
    }
}

/// The first directory that can be used: an absolute one.
fn unix_host(directories: &str) -> Option<String> {
    directories.split(',').map(str::trim).find(|d| d.starts_with('/')).map(str::to_owned)
}

/// `postgres://host:port/database`, with brackets around an IPv6 address.
fn postgres_uri(netloc: &str, database: &str) -> Result<String, NoInteger> {
    let (host, port) = split_host_port(netloc, 0)?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[') && !host.ends_with(']');
    let host = if bare_ipv6 { format!("[{host}]") } else { host };
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    let slash = if database.is_empty() || database.starts_with('/') { "" } else { "/" };
    Ok(format!("postgres://{host}{port}{slash}{database}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(config: &[(&str, Value)], params: &[(&str, &str)]) -> Addresses {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
        resolve(&config.iter().cloned().collect(), &params, "postgres")
    }

    #[test]
    fn hosts() {
        for (listen, host) in [
            ("*", "localhost"),
            ("10.0.0.1, 127.0.0.1", "localhost"),
            ("10.0.0.1,10.0.0.2", "10.0.0.1"),
            ("0.0.0.0", "localhost"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(tcp_host(listen), host);
        }
    }

    #[test]
    fn sockets_and_urls() {
        let base = [("listen_addresses", "fe80::1"), ("port", "5433")];
        let plain = addresses(&[], &base);
        assert_eq!(plain.connection_string, "postgres://[fe80::1]:5433/postgres");
        assert_eq!(plain.proxy_url, None);
        assert_eq!(plain.local_replication.py_repr(), "{'host': 'fe80::1', 'port': '5433'}");

        let unix = [
            ("use_unix_socket", true.into()),
            ("connect_address", "h:5".into()),
            ("proxy_address", "p:6".into()),
        ];
        let found = addresses(&unix, &base);
        assert_eq!(found.connection_string, "postgres://h:5/postgres");
        assert_eq!(found.proxy_url.as_deref(), Some("postgres://p:6/postgres"));
        assert_eq!(found.local.py_repr(), "{'port': '5433', 'dbname': 'postgres'}");
        let dirs = [base[0], base[1], ("unix_socket_directories", "@a, /run/pg,/tmp")];
        assert_eq!(addresses(&unix, &dirs).local.get("host"), Some(&"/run/pg".into()));
        let relative = [base[0], base[1], ("unix_socket_directories", ".")];
        assert_eq!(addresses(&unix, &relative).local.get("host"), Some(&"fe80::1".into()));
    }

    /// `listen` and `connect_address` of the configuration, and of the server: port, all addresses, the first one.
    #[test]
    fn a_server_that_was_started_by_other_settings() {
        for (listen, connect, (port, all, first), url, local) in [
            // As it was started.
            (
                "10.0.0.1:5432",
                "10.0.0.1:5432",
                (5432, "10.0.0.1", "10.0.0.1"),
                "10.0.0.1:5432",
                "10.0.0.1:5432",
            ),
            ("10.0.0.1,127.0.0.1:5432", "h", (5432, "", "10.0.0.1"), "h:5432", "localhost:5432"),
            ("*:5432", "h:5432", (5432, "", "*"), "h:5432", "localhost:5432"),
            // Another port.
            ("127.0.0.1:5433", "127.0.0.1:5433", (5432, "", "127.0.0.1"), "127.0.0.1:5432", "localhost:5432"),
            ("*:5433", "db1.example:5433", (5432, "*", "*"), "db1.example:5432", "localhost:5432"),
            ("*:5432", "db1.example", (5431, "*", "*"), "db1.example:5431", "localhost:5431"),
            ("10.0.0.1:5433", "", (5432, "", "10.0.0.1"), "10.0.0.1:5432", "10.0.0.1:5432"),
            ("[::1]:5433", "[fe80::1]:5433", (5432, "", "::1"), "[fe80::1]:5432", "::1:5432"),
            // Behind an address translator.
            ("*:5433", "1.2.3.4:15432", (5432, "*", "*"), "1.2.3.4:15432", "localhost:5432"),
            // Another address, which the configuration names as it stands.
            ("10.0.0.2:5432", "10.0.0.2:5432", (5432, "", "10.0.0.1"), "10.0.0.1:5432", "10.0.0.1:5432"),
            (
                "10.0.0.2:5433",
                "10.0.0.2:5433",
                (5432, "127.0.0.1,10.0.0.1", "127.0.0.1"),
                "10.0.0.1:5432",
                "localhost:5432",
            ),
            (
                "fe80::2:5433",
                "[fe80::2]:5433",
                (5432, "fe80::1", "fe80::1"),
                "[fe80::1]:5432",
                "fe80::1:5432",
            ),
            ("10.0.0.2:5432", "10.0.0.2:5432", (5432, "*", "*"), "10.0.0.2:5432", "localhost:5432"),
            // By a name: nobody can tell.
            (
                "10.0.0.2:5433",
                "db1.example:5433",
                (5432, "10.0.0.1", "10.0.0.1"),
                "db1.example:5432",
                "10.0.0.1:5432",
            ),
            // One more address, on which nobody listens yet.
            (
                "10.0.0.1,localhost:5432",
                "10.0.0.1:5432",
                (5432, "10.0.0.1", "10.0.0.1"),
                "10.0.0.1:5432",
                "10.0.0.1:5432",
            ),
        ] {
            let (wanted, wanted_port) = listen.rsplit_once(':').unwrap_or_default();
            let wanted = wanted.trim_matches(['[', ']']);
            let params = [("listen_addresses", wanted), ("port", wanted_port)];
            let params: Params = params.into_iter().map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
            let config: Value = [("connect_address", connect)].into_iter().collect();
            let running = Listening {
                port,
                all: (!all.is_empty()).then(|| all.to_owned()),
                first: first.to_owned(),
                socket_dir: "/tmp".to_owned(),
            };
            let found = resolve_running(&config, &params, "d", &running);
            assert_eq!(found.connection_string, format!("postgres://{url}/d"), "{listen} {connect}");
            for address in [&found.local, &found.local_replication] {
                let part = |key| address.get(key).map(Value::py_str).unwrap_or_default();
                assert_eq!(format!("{}:{}", part("host"), part("port")), local, "{listen} {connect}");
            }
        }
    }

    /// `unix_socket_directories` of the configuration, the first of the server's, where we connect.
    #[test]
    fn a_server_with_its_socket_elsewhere() {
        for (wanted, has, host) in [
            (Some("@a, /new"), "/old", "/old"),
            (Some("/old,/new"), "/old", "/old"),
            (Some("/new"), "", "/new"),
            (Some("/new"), "@a", "/new"),
            (None, "/old", "/old"),
            (None, "/tmp", ""),
        ] {
            let mut params = Params::new();
            params.set("port", "5433");
            if let Some(wanted) = wanted {
                params.set("unix_socket_directories", wanted);
            }
            let config: Value =
                [("use_unix_socket", true), ("use_unix_socket_repl", true)].into_iter().collect();
            let running = Listening { port: 5432, socket_dir: has.to_owned(), ..Listening::default() };
            let found = resolve_running(&config, &params, "d", &running);
            for address in [&found.local, &found.local_replication] {
                assert_eq!(
                    address.get("host").map(Value::py_str).unwrap_or_default(),
                    host,
                    "{wanted:?} {has}"
                );
                assert_eq!(address.get("port"), Some(&"5432".into()));
            }
        }
    }

    #[test]
    fn uris() {
        for (netloc, expected) in [
            ("h:5433", "postgres://h:5433/db"),
            ("[::1]:5433", "postgres://[::1]:5433/db"),
            ("h", "postgres://h/db"),
        ] {
            assert_eq!(postgres_uri(netloc, "db").as_deref(), Ok(expected));
        }
    }
}
