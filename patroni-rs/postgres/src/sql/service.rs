//! Connection service files (PostgreSQL documentation 34.17).

use std::path::PathBuf;

use super::error::PgError;
use super::params::ConnParams;

/// The parameters with what the service of `service` or `PGSERVICE` adds to them. What is given
/// elsewhere counts more, the environment less.
///
/// # Errors
/// [`PgError::Config`] if no service file knows it, in libpq's words.
pub(super) async fn applied(params: &ConnParams) -> Result<ConnParams, PgError> {
    let named = params.given("service").map(str::to_owned);
    let Some(service) = named.or_else(|| std::env::var("PGSERVICE").ok()).filter(|s| !s.is_empty()) else {
        return Ok(params.clone());
    };
    for path in files() {
        let Ok(text) = tokio::fs::read_to_string(&path).await else { continue };
        if let Some(entries) = section(&text, &service) {
            let given = entries.iter().filter(|(key, _)| *key != "service");
            let entries: Vec<(&str, &str)> = given.copied().collect();
            return Ok(params.clone().or_defaults(&entries));
        }
    }
    Err(PgError::Config(format!("definition of service \"{service}\" not found")))
}

/// The user's file, then the system's.
fn files() -> Vec<PathBuf> {
    let own = std::env::var_os("PGSERVICEFILE").map(PathBuf::from);
    let own = own.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pg_service.conf")));
    let system = match std::env::var_os("PGSYSCONFDIR") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from("/etc/postgresql-common"),
    };
    own.into_iter().chain([system.join("pg_service.conf")]).collect()
}

/// The entries of a service.
fn section<'a>(text: &'a str, service: &str) -> Option<Vec<(&'a str, &'a str)>> {
    let mut found: Option<Vec<(&str, &str)>> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            found = (name.strip_suffix(']') == Some(service)).then(Vec::new);
        } else if let (Some(entries), Some((key, value))) = (&mut found, line.split_once('=')) {
            entries.push((key, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found() {
        let text = "# comment\n[a]\nhost=h\nport=1\n\n[b]\n host=x\n#y\n[b]\nhost=z\n";
        assert_eq!(section(text, "a"), Some(vec![("host", "h"), ("port", "1")]));
        assert_eq!(section(text, "b"), Some(vec![("host", "x")]));
        assert_eq!(section(text, "c"), None);
    }

    #[tokio::test]
    async fn a_service_that_nobody_knows() {
        let params: ConnParams = [("service", "patroni-rs-has-no-such-service")].into_iter().collect();
        assert!(matches!(applied(&params).await, Err(PgError::Config(_))));
        assert_eq!(applied(&ConnParams::new()).await, Ok(ConnParams::new()));
    }
}
