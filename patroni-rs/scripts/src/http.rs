//! One HTTP request after the other, as a script asks them.

use std::time::Duration;

use patroni_net::{ClientOptions, HttpClient, NetError, Response, TlsOptions};

/// An HTTP client that waits for its answers.
pub struct Http {
    runtime: tokio::runtime::Runtime,
    client: HttpClient,
    timeout: Duration,
}

impl Http {
    /// A client that gives up on a request after `timeout`.
    ///
    /// # Errors
    /// The certificates cannot be used, or the system has no resources left; the text.
    pub fn new(tls: TlsOptions, timeout: Duration) -> Result<Http, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let client = HttpClient::new(&ClientOptions { tls, basic_auth: None }).map_err(|e| e.to_string())?;
        Ok(Http { runtime, client, timeout })
    }

    /// Asks, and follows up to three redirects as urllib3 does.
    ///
    /// # Errors
    /// See [`HttpClient::request`].
    pub fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response, NetError> {
        let (mut method, mut url, mut body) = (method, url.to_owned(), body.to_owned());
        for _ in 0..3 {
            let request = self.client.request(method, &url, headers, body.clone(), self.timeout);
            let response = self.runtime.block_on(request)?;
            let target = response.header("location").map(|to| join(&url, to));
            match (response.status, target) {
                (301 | 302 | 303 | 307 | 308, Some(target)) => {
                    if response.status == 303 {
                        (method, body) = ("GET", String::new());
                    }
                    url = target;
                }
                _ => return Ok(response),
            }
        }
        Err(NetError::Connection("too many redirects".into()))
    }
}

/// Python's `urljoin` for what is no URL of its own: below the last `/` of the base.
pub fn join(base: &str, path: &str) -> String {
    if path.starts_with("http://") || path.starts_with("https://") {
        return path.to_owned();
    }
    let base = base.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = base.split_once("://") else { return path.to_owned() };
    let (authority, directory) = match rest.split_once('/') {
        Some((authority, directory)) => (authority, directory),
        None => (rest, ""),
    };
    if path.starts_with('/') {
        return format!("{scheme}://{authority}{path}");
    }
    let directory =
        directory.rsplit_once('/').map_or(String::new(), |(directory, _)| format!("{directory}/"));
    format!("{scheme}://{authority}/{directory}{path}")
}

#[cfg(test)]
mod tests {
    use super::join;

    #[test]
    fn urls() {
        for (base, path, want) in [
            ("http://h:7480", "status", "http://h:7480/status"),
            ("http://h/a", "status", "http://h/status"),
            ("http://h/a/", "servers/x", "http://h/a/servers/x"),
            ("http://h/a/b?q", "s", "http://h/a/s"),
            ("h:7480", "status", "status"),
            ("http://h/a/", "/b", "http://h/b"),
        ] {
            assert_eq!(join(base, path), want, "{base} {path}");
        }
    }
}
