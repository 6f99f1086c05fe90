//! The instance metadata service, version 2: with a session token where it gives one.

use std::time::Duration;

use patroni_net::TlsOptions;

use crate::http::Http;

/// The reference's.
const TIMEOUT: Duration = Duration::from_millis(2100);
const TOKEN_SECONDS: &str = "21600";

pub struct Metadata {
    http: Http,
    base: String,
}

/// What the service says to whoever wants to ask it.
enum Token {
    /// To be shown with each question.
    Given(String),
    /// It has none, or does not answer in time: it is asked without.
    None,
    /// It refuses to give one.
    Refused,
}

impl Metadata {
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` names another server than the link-local one.
    pub fn new() -> Result<Metadata, String> {
        let base = std::env::var("AWS_EC2_METADATA_SERVICE_ENDPOINT").ok().filter(|b| !b.is_empty());
        let base = base.unwrap_or_else(|| "http://169.254.169.254".into());
        let http = Http::new(TlsOptions::default(), TIMEOUT)?;
        Ok(Metadata { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// The instance identity document.
    pub fn identity(&self) -> Option<String> {
        self.get("/latest/dynamic/instance-identity/document")
    }

    /// A path's text, if it has one.
    pub fn get(&self, path: &str) -> Option<String> {
        let disabled = std::env::var("AWS_EC2_METADATA_DISABLED");
        if disabled.is_ok_and(|text| text.eq_ignore_ascii_case("true")) {
            return None;
        }
        let token = self.token();
        let headers = match &token {
            Token::Given(token) => vec![("x-aws-ec2-metadata-token", token.as_str())],
            Token::None => Vec::new(),
            Token::Refused => return None,
        };
        let answer = self.http.request("GET", &format!("{}{path}", self.base), &headers, "").ok()?;
        Some(answer).filter(|a| a.status == 200 && !a.body.is_empty()).map(|a| a.text())
    }

    fn token(&self) -> Token {
        let url = format!("{}/latest/api/token", self.base);
        let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS)];
        match self.http.request("PUT", &url, &headers, "") {
            Ok(answer) if answer.status == 200 => Token::Given(answer.text()),
            Ok(answer) if answer.status == 400 => Token::Refused,
            Ok(_) | Err(_) => Token::None,
        }
    }
}
