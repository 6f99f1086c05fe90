//! Connection service files (PostgreSQL documentation 34.17).

use std::path::PathBuf;

use super::error::PgError;
use super::params::ConnParams;

/// The keywords that libpq knows, but for `service`, which no service file may hold.
pub(super) const KEYWORDS: &str = "servicefile user password passfile channel_binding connect_timeout dbname host hostaddr port \
    client_encoding options application_name fallback_application_name keepalives keepalives_idle \
    keepalives_interval keepalives_count tcp_user_timeout sslmode sslnegotiation sslcompression sslcert sslkey \
    sslcertmode sslpassword sslrootcert sslcrl sslcrldir sslsni requirepeer require_auth min_protocol_version \
    max_protocol_version ssl_min_protocol_version ssl_max_protocol_version gssencmode krbsrvname gsslib \
    gssdelegation replication target_session_attrs load_balance_hosts scram_client_key scram_server_key \
    oauth_issuer oauth_client_id oauth_client_secret oauth_scope authtype sslkeylogfile";

/// The parameters with what the service of `service` or `PGSERVICE` adds to them. What is given
/// elsewhere counts more, the environment less.
///
/// # Errors
/// [`PgError::Config`] if no service file knows it, or one is wrong, in libpq's words.
pub(super) async fn applied(params: &ConnParams) -> Result<ConnParams, PgError> {
    let named = params.given("service").map(str::to_owned);
    let Some(service) = named.or_else(|| std::env::var("PGSERVICE").ok()).filter(|s| !s.is_empty()) else {
        return Ok(params.clone());
    };
    for (path, must_exist) in files() {
        let shown = path.display();
        let text = match tokio::fs::read_to_string(&path).await {
            Ok(text) => text,
            Err(_) if must_exist => {
                return Err(PgError::Config(format!("service file \"{shown}\" not found")));
            }
            Err(_) => continue,
        };
        let wrong = |(what, line): (&str, usize)| {
            PgError::Config(format!("{what} service file \"{shown}\", line {line}"))
        };
        if let Some(entries) = section(&text, &service).map_err(wrong)? {
            return Ok(params.clone().or_defaults(&entries));
        }
    }
    Err(PgError::Config(format!("definition of service \"{service}\" not found")))
}

/// The user's file, which must be there if it was named, then the system's.
fn files() -> Vec<(PathBuf, bool)> {
    let own = std::env::var_os("PGSERVICEFILE").map(|path| (PathBuf::from(path), true));
    let own =
        own.or_else(|| Some((PathBuf::from(std::env::var_os("HOME")?).join(".pg_service.conf"), false)));
    let system = match std::env::var_os("PGSYSCONFDIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from("/etc/postgresql-common"),
    };
    own.into_iter().chain([(system.join("pg_service.conf"), false)]).collect()
}

/// Keywords and their values.
type Entries<'a> = Vec<(&'a str, &'a str)>;

/// What is wrong, and in which line.
type Wrong = (&'static str, usize);

/// The entries of a service, or what is wrong in which line. Other services are not looked at.
fn section<'a>(text: &'a str, service: &str) -> Result<Option<Entries<'a>>, Wrong> {
    let mut found: Option<Entries<'_>> = None;
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            found = (name.strip_suffix(']') == Some(service)).then(Vec::new);
        } else if let Some(entries) = &mut found {
            match line.split_once('=') {
                Some(("service", _)) => {
                    return Err(("nested \"service\" specifications not supported in", index + 1));
                }
                Some((key, value)) if KEYWORDS.split_whitespace().any(|known| known == key) => {
                    entries.push((key, value));
                }
                _ => return Err(("syntax error in", index + 1)),
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found() {
        let text = "# comment\n[a]\nhost=h\nport=1\n\n[b]\n host=x\n#y\n[b]\nhost=z\n";
        assert_eq!(section(text, "a"), Ok(Some(vec![("host", "h"), ("port", "1")])));
        assert_eq!(section(text, "b"), Ok(Some(vec![("host", "x")])));
        assert_eq!(section(text, "c"), Ok(None));
        assert_eq!(section("[a]\nhost=h\nnope=1", "a"), Err(("syntax error in", 3)));
        assert_eq!(section("[a]\nhost", "a"), Err(("syntax error in", 2)));
        assert!(section("[a]\nservice=b", "a").is_err());
    }

    #[tokio::test]
    async fn a_service_that_nobody_knows() {
        let params: ConnParams = [("service", "patroni-rs-has-no-such-service")].into_iter().collect();
        assert!(matches!(applied(&params).await, Err(PgError::Config(_))));
        assert_eq!(applied(&ConnParams::new()).await, Ok(ConnParams::new()));
    }
}
