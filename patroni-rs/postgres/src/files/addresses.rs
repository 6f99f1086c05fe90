//! Where this instance is reached: by itself, and by others
//! (surface-ha-pg 16).

use patroni_core::parse::split_host_port;
use pyfmt::int::NoInteger;
use pyfmt::Value;

use super::cimap::Params;
use super::conninfo::extend;

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
