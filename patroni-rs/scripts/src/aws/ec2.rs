//! The two calls of EC2 that tag an instance and its volumes.

use std::thread::sleep;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use patroni_net::{TlsOptions, Verify};

use super::metadata::Metadata;
use super::sign::{authorization, Credentials, Request};
use crate::http::Http;

/// Per request; botocore's.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long a refused call is tried again, and the longest pause; the reference's.
const DEADLINE: Duration = Duration::from_secs(300);
const MAX_PAUSE: Duration = Duration::from_secs(30);
const API_VERSION: &str = "2016-11-15";
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

/// Why a call failed.
#[derive(Debug)]
pub enum Problem {
    /// AWS refused it; worth another try.
    Refused(String),
    /// There was no answer, or nobody to sign it.
    Other(String),
}

pub struct Ec2 {
    http: Http,
    url: String,
    region: String,
    credentials: Credentials,
}

impl Ec2 {
    /// A connection to a region. `AWS_ENDPOINT_URL_EC2` and `AWS_ENDPOINT_URL` name
    /// another server than Amazon's.
    pub fn connect(metadata: &Metadata, region: &str) -> Result<Ec2, String> {
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let url = variable("AWS_ENDPOINT_URL_EC2").or_else(|| variable("AWS_ENDPOINT_URL"));
        let url = url.unwrap_or_else(|| format!("https://ec2.{region}.{domain}"));
        let credentials = from_environment().or_else(from_file).or_else(|| from_metadata(metadata));
        let credentials =
            credentials.ok_or("botocore.exceptions.NoCredentialsError: Unable to locate credentials")?;
        let tls = TlsOptions { verify: Verify::Full, ..TlsOptions::default() };
        let http = Http::new(tls, TIMEOUT)?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Ec2 { http, url, region: region.to_owned(), credentials })
    }

    /// Tries a call until AWS takes it, for five minutes.
    pub fn retried(&self, call: impl Fn() -> Result<(), Problem>) -> Result<(), Problem> {
        let start = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match call() {
                Err(Problem::Refused(text)) if start.elapsed() + pause >= DEADLINE => {
                    return Err(Problem::Refused(text));
                }
                Err(Problem::Refused(_)) => sleep(pause),
                other => return other,
            }
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    pub fn create_tags(&self, resources: &[&str], tags: &[(&str, &str)]) -> Result<(), Problem> {
        let mut form = Form::new("CreateTags");
        for (resource, i) in resources.iter().zip(1..) {
            form.add(&format!("ResourceId.{i}"), resource);
        }
        for ((key, value), i) in tags.iter().zip(1..) {
            form.add(&format!("Tag.{i}.Key"), key);
            form.add(&format!("Tag.{i}.Value"), value);
        }
        self.call(&form).map(drop)
    }

    /// The volumes that are attached to an instance.
    pub fn volumes_of(&self, instance: &str) -> Result<Vec<String>, Problem> {
        let mut volumes: Vec<String> = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let mut form = Form::new("DescribeVolumes");
            form.add("Filter.1.Name", "attachment.instance-id");
            form.add("Filter.1.Value.1", instance);
            if let Some(token) = &next {
                form.add("NextToken", token);
            }
            let answer = self.call(&form)?;
            for id in elements(&answer, "volumeId") {
                if !volumes.iter().any(|v| v == id) {
                    volumes.push(id.to_owned());
                }
            }
            let token = elements(&answer, "nextToken").first().map(|t| (*t).to_owned());
            next = token.filter(|t| !t.is_empty() && next.as_ref() != Some(t));
            if next.is_none() {
                return Ok(volumes);
            }
        }
    }

    fn call(&self, form: &Form) -> Result<String, Problem> {
        let host = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let request = Request {
            host,
            region: &self.region,
            service: "ec2",
            time: &time,
            content_type: FORM,
            body: &form.0,
        };
        let signature = authorization(&request, &self.credentials).map_err(Problem::Other)?;
        let mut headers = vec![
            ("Content-Type", FORM),
            ("X-Amz-Date", time.as_str()),
            ("Authorization", signature.as_str()),
        ];
        headers.extend(self.credentials.token.as_deref().map(|t| ("X-Amz-Security-Token", t)));
        let url = format!("{}/", self.url);
        let answer = self.http.request("POST", &url, &headers, &form.0).map_err(|e| {
            Problem::Other(format!(
                "botocore.exceptions.EndpointConnectionError: Could not connect to the endpoint URL: \
                 \"{url}\" ({e})"
            ))
        })?;
        let text = answer.text();
        if answer.status < 300 {
            return Ok(text);
        }
        let code = elements(&text, "Code").first().copied().unwrap_or("Unknown").to_owned();
        Err(Problem::Refused(code))
    }
}

struct Form(String);

impl Form {
    fn new(action: &str) -> Form {
        let mut form = Form(String::new());
        form.add("Action", action);
        form.add("Version", API_VERSION);
        form
    }

    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                    self.0.push(char::from(byte));
                }
                _ => self.0.push_str(&format!("%{byte:02X}")),
            }
        }
    }
}

/// The texts of all elements of a name; AWS' identifiers need no unescaping.
fn elements<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(open.as_str()).skip(1).filter_map(|rest| rest.split(close.as_str()).next()).collect()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn from_environment() -> Option<Credentials> {
    Some(Credentials {
        access_key: variable("AWS_ACCESS_KEY_ID")?,
        secret_key: variable("AWS_SECRET_ACCESS_KEY")?,
        token: variable("AWS_SESSION_TOKEN"),
    })
}

/// `~/.aws/credentials`
fn from_file() -> Option<Credentials> {
    let file = variable("AWS_SHARED_CREDENTIALS_FILE")
        .or_else(|| variable("HOME").map(|home| format!("{home}/.aws/credentials")))?;
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".into());
    let text = std::fs::read_to_string(file).ok()?;
    let mut lines = text.lines().map(str::trim).skip_while(|line| *line != format!("[{profile}]")).skip(1);
    let lines: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with('[')).collect();
    let value = |key: &str| {
        let pairs = lines.iter().filter_map(|line| line.split_once('='));
        pairs.filter(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().to_owned()).next_back()
    };
    Some(Credentials {
        access_key: value("aws_access_key_id")?,
        secret_key: value("aws_secret_access_key")?,
        token: value("aws_session_token"),
    })
}

/// The role of the instance.
fn from_metadata(metadata: &Metadata) -> Option<Credentials> {
    const PATH: &str = "/latest/meta-data/iam/security-credentials/";
    let roles = metadata.get(PATH)?;
    let document = metadata.get(&format!("{PATH}{}", roles.lines().next()?))?;
    let document = pyfmt::json::loads(&document).ok()?;
    let text = |key: &str| Some(document.get(key)?.as_str()?.to_owned());
    Some(Credentials {
        access_key: text("AccessKeyId")?,
        secret_key: text("SecretAccessKey")?,
        token: text("Token"),
    })
}
