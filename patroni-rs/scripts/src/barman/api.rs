//! pg-backup-api over HTTP.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;

use patroni_net::{NetError, TlsOptions, Verify};
use pyfmt::value::str_repr;
use pyfmt::{json, Value};

use crate::args::Parsed;
use crate::http::{join, Http};
use crate::log::Log;

/// pg-backup-api answers at once, and works on operations beside; the reference waits
/// forever.
const TIMEOUT: Duration = Duration::from_secs(300);

/// State of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    InProgress,
    Failed,
    Done,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The API is there and says that it is not well.
    NotOk(String),
    /// It could not be reached, or answered too often without what was asked for.
    Retries(String),
    /// An answer without this key; tried again.
    Key(String),
    /// What the reference has no handler for: the exception.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotOk(text) => write!(f, "patroni.scripts.barman.utils.ApiNotOk: {text}"),
            Failure::Retries(text) => write!(f, "patroni.scripts.barman.utils.RetriesExceeded: {text}"),
            Failure::Key(key) => write!(f, "KeyError: {}", str_repr(key)),
            Failure::Other(text) => f.write_str(text),
        }
    }
}

pub struct Api<'a> {
    http: Http,
    url: String,
    retry_wait: Duration,
    max_retries: i64,
    log: &'a Log,
}

impl<'a> Api<'a> {
    /// Looks whether the API is well.
    pub fn connect(options: &Parsed, log: &'a Log) -> Result<Api<'a>, Failure> {
        let file = |name| options.get(name).filter(|path| !path.is_empty()).map(Into::into);
        let tls = TlsOptions {
            certfile: file("--cert-file"),
            keyfile: file("--key-file"),
            verify: Verify::Full,
            ..TlsOptions::default()
        };
        let http = Http::new(tls, TIMEOUT).map_err(Failure::Other)?;
        let retry_wait = Duration::from_secs(options.integer("--retry-wait", 2).try_into().unwrap_or(0));
        let max_retries = options.integer("--max-retries", 5);
        let api = Api { http, url: options.text("--api-url", ""), retry_wait, max_retries, log };
        match api.request("GET", "status", None)? {
            Value::Str(text) if text == "OK" => Ok(api),
            other => Err(Failure::NotOk(format!(
                "pg-backup-api is currently not up and running at {}: {}",
                api.url,
                other.py_str()
            ))),
        }
    }

    /// The id of an operation that was asked for.
    pub fn create_operation(&self, server: &str, body: &Value, method: &str) -> Result<String, Failure> {
        self.retried(method, || {
            let answer = self.request("POST", &format!("servers/{server}/operations"), Some(body))?;
            Ok(field(&answer, "operation_id")?.py_str())
        })
    }

    pub fn operation_status(&self, server: &str, id: &str) -> Result<Status, Failure> {
        self.retried("get_operation_status", || {
            let answer = self.request("GET", &format!("servers/{server}/operations/{id}"), None)?;
            match field(&answer, "status")?.py_str().as_str() {
                "IN_PROGRESS" => Ok(Status::InProgress),
                "FAILED" => Ok(Status::Failed),
                "DONE" => Ok(Status::Done),
                other => Err(Failure::Key(other.to_owned())),
            }
        })
    }

    fn retried<T>(&self, method: &str, ask: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let method = format!("PgBackupApi.{method}");
        for attempt in 1..=self.max_retries {
            match ask() {
                Err(Failure::Key(key)) => self.log.warning(format!(
                    "Attempt {attempt} of {} on method {method} failed with KeyError({}).",
                    self.max_retries,
                    str_repr(&key)
                )),
                other => return other,
            }
            sleep(self.retry_wait);
        }
        Err(Failure::Retries(format!("Maximum number of retries exceeded for method {method}.")))
    }

    /// Any status is an answer; its body is JSON. Like urllib3, tries a broken
    /// connection three times more.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = join(&self.url, path);
        // urllib3 takes what has no scheme for a host.
        let target = if url.contains("://") { url.clone() } else { format!("http://{url}/") };
        let text = body.map(json::dumps).unwrap_or_default();
        let headers: &[(&str, &str)] =
            if body.is_some() { &[("Content-Type", "application/json")] } else { &[] };
        let mut left = 3;
        let answer = loop {
            match self.http.request(method, &target, headers, &text) {
                Ok(answer) => break answer,
                Err(NetError::InvalidRequest(text)) => {
                    return Err(Failure::Other(format!("urllib3.exceptions.LocationParseError: {text}")));
                }
                Err(error) if left > 0 => {
                    left -= 1;
                    self.log.warning(format!(
                        "Retrying (Retry(total={left}, connect=None, read=None, redirect=None, status=None)) \
                         after connection broken by '{error}': {}",
                        path_of(&target)
                    ));
                }
                Err(_) => {
                    let what = body.map_or(String::new(), |_| format!(" with b{}", str_repr(&text)));
                    let text = format!("Failed to perform a {method} request to {url}{what}");
                    return Err(Failure::Retries(text));
                }
            }
        };
        json::loads(&answer.text()).map_err(|e| Failure::Other(format!("json.decoder.JSONDecodeError: {e}")))
    }
}

fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
}

fn field<'v>(answer: &'v Value, key: &str) -> Result<&'v Value, Failure> {
    match answer {
        Value::Map(_) => answer.get(key).ok_or_else(|| Failure::Key(key.to_owned())),
        Value::List(_) => {
            Err(Failure::Other("TypeError: list indices must be integers or slices, not str".into()))
        }
        Value::Str(_) => Err(Failure::Other("TypeError: string indices must be integers, not 'str'".into())),
        other => {
            Err(Failure::Other(format!("TypeError: '{}' object is not subscriptable", other.type_name())))
        }
    }
}
