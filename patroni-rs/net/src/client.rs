//! A small HTTP/1.1 client.

use std::error::Error as _;
use std::future::{poll_fn, Future};
use std::net::Ipv6Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::prelude::{Engine, BASE64_STANDARD};
use bytes::Bytes;
use http::header::{HeaderName, HeaderValue, AUTHORIZATION, USER_AGENT as USER_AGENT_HEADER};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_openssl::client::legacy::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use openssl::error::ErrorStack;
use openssl::ssl::ConnectConfiguration;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{client_builder, ClientOptions, NetError, TlsOptions, Verify};

/// What we call ourselves.
pub const USER_AGENT: &str = concat!("Patroni/4.1.5 patroni-rs/", env!("CARGO_PKG_VERSION"), " Linux");

/// How long a connection is kept without a request: less than servers and what is in between keep it.
const IDLE: Duration = Duration::from_secs(30);

/// The longest body that is read, in bytes.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// An answer that is still coming.
#[derive(Debug)]
pub struct HttpStream {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
}

impl HttpStream {
    /// The next piece; None at the end.
    ///
    /// # Errors
    /// The connection has broken.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, NetError> {
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| NetError::Connection(e.to_string()))?;
            // What is no data are trailers.
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// A client for `http` and `https`. Cheap to clone; every request has its own
/// connection, because Patroni's servers close it after each answer. It follows no
/// redirects and knows no proxies.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    connector: Connector,
    authorization: Option<HeaderValue>,
}

impl HttpClient {
    /// Makes a client. Reads the files of the TLS options, so it blocks for a moment. Files that are replaced
    /// later count from the next request on.
    ///
    /// # Errors
    /// A file cannot be read or is not what it should be.
    pub fn new(options: &ClientOptions) -> Result<HttpClient, NetError> {
        let client = HttpClient::lazy(options)?;
        client.check_tls()?;
        Ok(client)
    }

    /// Makes a client without a look at its files: where they cannot be used, each `https` request fails until
    /// they can.
    ///
    /// # Errors
    /// The credentials make no header.
    pub fn lazy(options: &ClientOptions) -> Result<HttpClient, NetError> {
        HttpClient::with_idle(options, 0)
    }

    /// As [`HttpClient::lazy`], but connections are used again, for servers that leave them open (a DCS). It belongs to
    /// the tokio runtime that its first request was made in.
    ///
    /// # Errors
    /// The credentials make no header.
    pub fn lasting(options: &ClientOptions) -> Result<HttpClient, NetError> {
        HttpClient::with_idle(options, 2)
    }

    fn with_idle(options: &ClientOptions, idle: usize) -> Result<HttpClient, NetError> {
        let connector = Connector::new(&options.tls);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(idle);
        let client = builder.build(connector.clone());
        let authorization = options.basic_auth.as_deref().map(basic_auth).transpose()?;
        Ok(HttpClient { client, connector, authorization })
    }

    /// Can the files of the TLS options be used as they are now? **Blocks** on reading those that have changed.
    ///
    /// # Errors
    /// They cannot. Requests go on with what was read before, if anything was.
    pub fn check_tls(&self) -> Result<(), NetError> {
        let TlsOptions { certfile, cafile, ciphers, .. } = &self.connector.options;
        if certfile.is_none() && cafile.is_none() && ciphers.is_none() {
            return Ok(());
        }
        self.connector.secured().1.map_or(Ok(()), Err)
    }

    /// Sends one request and reads the whole answer within `timeout`, which covers name
    /// resolution, connecting, TLS and reading. Any status is an answer.
    ///
    /// # Errors
    /// There was no complete answer: see [`NetError`].
    pub async fn request(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<Response, NetError> {
        let request = self.build(method, url, headers, body.into())?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(connection_error)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY).collect().await.map_err(|e| {
                if e.is::<LengthLimitError>() {
                    NetError::TooLong(MAX_BODY)
                } else {
                    NetError::Connection(e.to_string())
                }
            })?;
            Ok(Response { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(NetError::Timeout))
    }

    /// Sends one request, and gives the answer as it comes: a watch. `timeout` is for the answer to begin.
    ///
    /// # Errors
    /// It did not: see [`NetError`].
    pub async fn stream(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<HttpStream, NetError> {
        let request = self.build(method, url, headers, body.into())?;
        let answer = tokio::time::timeout(timeout, self.client.request(request)).await;
        let answer = answer.map_err(|_| NetError::Timeout)?.map_err(connection_error)?;
        let (head, body) = answer.into_parts();
        Ok(HttpStream { status: head.status.as_u16(), headers: head.headers, body })
    }

    fn build(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, NetError> {
        let method = Method::from_bytes(method.to_uppercase().as_bytes());
        let method = method.map_err(|e| NetError::InvalidRequest(e.to_string()))?;
        let uri: Uri = url.parse().map_err(|e| NetError::InvalidRequest(format!("{e}: {url}")))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
            return Err(NetError::InvalidRequest(format!("no scheme or host in the URL: {url}")));
        }
        // A port that is no number would silently become the default one.
        let has_port =
            uri.authority().is_some_and(|a| a.as_str().rsplit(']').next().unwrap_or_default().contains(':'));
        if has_port && uri.port_u16().is_none() {
            return Err(NetError::InvalidRequest(format!("invalid port in the URL: {url}")));
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        let map = request.headers_mut();
        map.insert(USER_AGENT_HEADER, HeaderValue::from_static(USER_AGENT));
        if let Some(authorization) = &self.authorization {
            map.insert(AUTHORIZATION, authorization.clone());
        }
        for (name, value) in headers {
            let name = name.parse::<HeaderName>().map_err(|e| NetError::InvalidRequest(e.to_string()))?;
            let value = value.parse::<HeaderValue>().map_err(|e| NetError::InvalidRequest(e.to_string()))?;
            map.insert(name, value);
        }
        Ok(request)
    }
}

/// Connects by TCP, and with TLS where the URL says so. The TLS context is made when it is first needed (the
/// system's authorities alone take a megabyte), and again when a file has changed.
#[derive(Clone)]
struct Connector {
    tcp: HttpConnector,
    tls: Arc<Mutex<Option<Secured>>>,
    options: TlsOptions,
}

/// Without the options: their file names are no secret, but of no use either.
impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// A TLS context, and the files as they were when it was made.
struct Secured {
    files: Vec<Option<Stamp>>,
    connector: HttpsConnector<HttpConnector>,
}

/// Inode, size and time of the last change of a file.
type Stamp = (u64, u64, i64, i64);

fn stamp(path: Option<&PathBuf>) -> Option<Stamp> {
    let found = std::fs::metadata(path?).ok()?;
    Some((found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

impl Connector {
    fn new(options: &TlsOptions) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Connector { tcp, tls: Arc::default(), options: options.clone() }
    }

    /// The connector for TLS, if there is one, and why the files as they are now make none. Files that are being
    /// replaced may not fit together for a moment: the connector made before is used then. **Blocks** on reading.
    fn secured(&self) -> (Option<HttpsConnector<HttpConnector>>, Option<NetError>) {
        let TlsOptions { certfile, keyfile, cafile, .. } = &self.options;
        let files = [certfile, keyfile, cafile].map(|path| stamp(path.as_ref())).to_vec();
        let mut made = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(secured) = made.as_ref().filter(|secured| secured.files == files) {
            return (Some(secured.connector.clone()), None);
        }
        match https(self.tcp.clone(), &self.options) {
            Ok(connector) => {
                *made = Some(Secured { files, connector: connector.clone() });
                (Some(connector), None)
            }
            Err(error) => (made.as_ref().map(|secured| secured.connector.clone()), Some(error)),
        }
    }
}

/// **Blocks** on reading files.
fn https(tcp: HttpConnector, options: &TlsOptions) -> Result<HttpsConnector<HttpConnector>, NetError> {
    let library = |source| NetError::Tls { what: "library", source };
    let mut builder = client_builder(options)?;
    // Not HTTP/2.
    builder.set_alpn_protos(b"\x08http/1.1").map_err(library)?;
    let mut connector = HttpsConnector::with_connector(tcp, builder).map_err(library)?;
    let check_name = options.verify == Verify::Full;
    connector.set_callback(move |config, uri| configure_connection(config, uri, check_name));
    Ok(connector)
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.tcp.poll_ready(context).map_err(Failure::from)
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let mut tcp = self.tcp.clone();
        if url.scheme_str() != Some("https") {
            return Box::pin(async move { Ok(MaybeHttpsStream::Http(tcp.call(url).await?)) });
        }
        let own = self.clone();
        Box::pin(async move {
            let mut connector = match tokio::task::spawn_blocking(move || own.secured()).await? {
                (Some(connector), _) => connector,
                (None, Some(error)) => return Err(error.into()),
                (None, None) => return Err("no TLS context".into()),
            };
            poll_fn(|context| connector.poll_ready(context)).await?;
            connector.call(url).await
        })
    }
}

/// The host of a URL has brackets around an IPv6 address, a certificate has not.
fn configure_connection(
    config: &mut ConnectConfiguration,
    uri: &Uri,
    check_name: bool,
) -> Result<(), ErrorStack> {
    let host = uri.host().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<Ipv6Addr>() {
        Ok(ip) => {
            config.set_verify_hostname(false);
            config.set_use_server_name_indication(false);
            if check_name {
                config.param_mut().set_ip(ip.into())?;
            }
        }
        Err(_) => config.set_verify_hostname(check_name),
    }
    Ok(())
}

fn basic_auth(credentials: &str) -> Result<HeaderValue, NetError> {
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(credentials)))
        .map_err(|e| NetError::InvalidRequest(e.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The innermost cause says what happened; the outer ones only where. But why a certificate was refused, the library's
/// innermost error does not know.
fn connection_error(error: hyper_util::client::legacy::Error) -> NetError {
    let mut cause = error.source();
    let mut text = error.to_string();
    while let Some(inner) = cause {
        // Its own cause does not name the file.
        if let Some(own) = inner.downcast_ref::<NetError>() {
            return NetError::Connection(own.to_string());
        }
        text = inner.to_string();
        if let Some(reason) = refused_certificate(&text) {
            return NetError::Connection(format!("{REFUSED_CERTIFICATE}: {reason}"));
        }
        cause = inner.source();
    }
    NetError::Connection(text)
}

/// How the text of a [`NetError::Connection`] begins where the other side's certificate was refused; the reason follows
/// in OpenSSL's words.
pub const REFUSED_CERTIFICATE: &str = "certificate verify failed";

/// `error:0A000086:SSL routines:...:certificate verify failed:file.c:1889:: certificate has expired`
fn refused_certificate(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once(REFUSED_CERTIFICATE)?;
    rest.rsplit_once(": ").map(|(_, reason)| reason)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
