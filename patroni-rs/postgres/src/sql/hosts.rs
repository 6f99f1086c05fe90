//! Several hosts, as psycopg 3 tries them: one attempt for each address, and all failures are told in its words.

use std::net::{IpAddr, SocketAddr};

use super::params::ConnParams;
use super::simple::{Refusal, SimpleClient};

/// Connects to the first server that lets us in.
///
/// # Errors
/// The text of the driver's exception.
pub async fn connect_like_psycopg(params: &ConnParams) -> Result<SimpleClient, String> {
    let attempts = attempts(params).await?;
    let mut failures = Vec::new();
    for attempt in &attempts {
        match SimpleClient::connect(attempt).await {
            Ok(client) => return Ok(client),
            Err(refusal) => failures.push((attempt, told(refusal))),
        }
    }
    Err(failed(&failures))
}

fn told(refusal: Refusal) -> String {
    match refusal {
        Refusal::Bad(text) => format!("connection is bad: {text}"),
        Refusal::Failed(text) => format!("connection failed: {text}"),
        Refusal::Timeout => "connection timeout expired".to_owned(),
    }
}

/// The driver's text: the last failure, and all of them if there are several.
fn failed(failures: &[(&ConnParams, String)]) -> String {
    let Some((_, last)) = failures.last() else { return String::new() };
    let mut text = last.clone();
    if failures.len() > 1 {
        text.push_str("\nMultiple connection attempts failed. All failures were:");
        for (params, error) in failures {
            let shown = |keyword| params.get(keyword).map_or("None".to_owned(), pyfmt::value::str_repr);
            let (host, port, address) = (shown("host"), shown("port"), shown("hostaddr"));
            text.push_str(&format!("\n- host: {host}, port: {port}, hostaddr: {address}: {error}"));
        }
    }
    text
}

/// One attempt for each host, and each address of its name.
async fn attempts(params: &ConnParams) -> Result<Vec<ConnParams>, String> {
    // The environment counts as well, but only `host` is certain to be given.
    let value = |keyword: &str, variable: &str| {
        params.get(keyword).map(str::to_owned).or_else(|| std::env::var(variable).ok())
    };
    let split = |text: Option<String>| -> Vec<String> {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| text.split(',').map(str::to_owned).collect()).unwrap_or_default()
    };
    let hosts = split(value("host", "PGHOST"));
    let addresses = split(value("hostaddr", "PGHOSTADDR"));
    let ports = split(value("port", "PGPORT"));
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        let (hosts, addresses) = (hosts.len(), addresses.len());
        return Err(format!("could not match {hosts} host names with {addresses} hostaddr values"));
    }
    let count = hosts.len().max(addresses.len());
    if ports.len() > 1 && ports.len() != count {
        return Err(format!("could not match {} port numbers to {} hosts", ports.len(), hosts.len()));
    }
    let mut attempts = Vec::new();
    let mut unresolved = None;
    for index in 0..count.max(1) {
        let mut attempt = params.clone();
        if count > 1 {
            for (keyword, list) in [("host", &hosts), ("hostaddr", &addresses), ("port", &ports)] {
                if let Some(value) = list.get(index).or_else(|| list.first()) {
                    attempt.set(keyword, value);
                }
            }
        }
        let host = hosts.get(index).map_or("", String::as_str);
        let port = ports.get(index).or_else(|| ports.first()).map_or("5432", String::as_str);
        match addresses_of(host, port, !addresses.is_empty()).await {
            Ok(None) => attempts.push(attempt),
            Ok(Some(found)) => {
                attempts.extend(found.iter().map(|ip| attempt.with("hostaddr", ip.to_string())))
            }
            Err(error) => {
                let host = pyfmt::value::str_repr(host);
                unresolved = Some(format!("failed to resolve host {host}: {error}"));
            }
        }
    }
    match (attempts.is_empty(), unresolved) {
        (true, Some(error)) => Err(error),
        _ => Ok(attempts),
    }
}

/// The addresses of a name; `None` for what needs none, or is libpq's to judge.
async fn addresses_of(host: &str, port: &str, known: bool) -> Result<Option<Vec<IpAddr>>, String> {
    if host.is_empty() || host.starts_with('/') || known {
        return Ok(None);
    }
    if let Ok(address) = host.parse() {
        return Ok(Some(vec![address]));
    }
    let Ok(port) = port.parse::<u16>() else { return Ok(None) };
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => Ok(Some(found.map(|address: SocketAddr| address.ip()).collect())),
        Err(error) => Err(pyfmt::oserror::resolver(&error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn hosts_and_addresses() {
        let params = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<ConnParams>();
        let found = attempts(&params(&[("host", "127.0.0.1"), ("port", "1")])).await.unwrap();
        assert_eq!(found.iter().map(|p| p.get("hostaddr")).collect::<Vec<_>>(), [Some("127.0.0.1")]);
        let two = params(&[("host", "127.0.0.1,127.0.0.2"), ("port", "1,2")]);
        let found = attempts(&two).await.unwrap();
        let failures: Vec<_> = found.iter().map(|p| (p, "no".to_owned())).collect();
        assert_eq!(
            failed(&failures),
            "no\nMultiple connection attempts failed. All failures were:\n\
             - host: '127.0.0.1', port: '1', hostaddr: '127.0.0.1': no\n\
             - host: '127.0.0.2', port: '2', hostaddr: '127.0.0.2': no"
        );
        let bad = params(&[("host", "a,b"), ("port", "1,2,3")]);
        assert_eq!(attempts(&bad).await.unwrap_err(), "could not match 3 port numbers to 2 hosts");
    }
}
