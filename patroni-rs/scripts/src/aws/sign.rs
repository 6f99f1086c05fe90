//! AWS Signature Version 4 for a POST of a form.

use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;

/// Who signs.
#[derive(Clone)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
    pub token: Option<String>,
}

/// What is signed: one POST of `body` to `/`.
pub struct Request<'a> {
    pub host: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    /// `20150830T123600Z`
    pub time: &'a str,
    pub content_type: &'a str,
    pub body: &'a str,
}

/// The value of the `Authorization` header.
pub fn authorization(request: &Request<'_>, by: &Credentials) -> Result<String, String> {
    let mut headers =
        vec![("content-type", request.content_type), ("host", request.host), ("x-amz-date", request.time)];
    headers.extend(by.token.as_deref().map(|token| ("x-amz-security-token", token)));
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("POST\n/\n\n{headers}\n{names}\n{}", hex(&sha256(request.body.as_bytes())));
    let day = request.time.get(..8).unwrap_or_default();
    let scope = format!("{day}/{}/{}/aws4_request", request.region, request.service);
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", request.time, hex(&sha256(canonical.as_bytes())));
    let mut key = format!("AWS4{}", by.secret_key).into_bytes();
    for part in [day, request.region, request.service, "aws4_request"] {
        key = hmac(&key, part.as_bytes())?;
    }
    let signature = hex(&hmac(&key, text.as_bytes())?);
    let credential = format!("{}/{scope}", by.access_key);
    Ok(format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={names}, Signature={signature}"))
}

fn hmac(key: &[u8], text: &[u8]) -> Result<Vec<u8>, String> {
    let sign = || -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let key = PKey::hmac(key)?;
        Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(text)
    };
    sign().map_err(|e| e.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// `post-x-www-form-urlencoded` of the Signature Version 4 test suite.
    #[test]
    fn suite() {
        let by = Credentials {
            access_key: "AKIDEXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let request = Request {
            host: "example.amazonaws.com",
            region: "us-east-1",
            service: "service",
            time: "20150830T123600Z",
            content_type: "application/x-www-form-urlencoded",
            body: "Param1=value1",
        };
        assert_eq!(
            authorization(&request, &by).unwrap(),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, \
             Signature=ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }
}
