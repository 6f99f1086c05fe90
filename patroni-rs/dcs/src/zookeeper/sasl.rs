//! SASL DIGEST-MD5 (RFC 2831), as ZooKeeper's servers ask for it.

use openssl::hash::{hash, MessageDigest};

/// What ZooKeeper calls itself in it, whatever its host is called.
const SERVICE: &str = "zookeeper/zk-sasl-md5";

/// Why we were not believed, or do not believe the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SaslError(&'static str);

/// One exchange. Its secrets are shown nowhere.
pub struct Exchange<'a> {
    user: &'a str,
    password: &'a str,
    cnonce: String,
    expected: Option<String>,
}

impl<'a> Exchange<'a> {
    /// `cnonce` is random.
    pub fn new(user: &'a str, password: &'a str, cnonce: String) -> Exchange<'a> {
        Exchange { user, password, cnonce, expected: None }
    }

    /// The answer to the server's challenge.
    ///
    /// # Errors
    /// It is none, or this OpenSSL has no MD5.
    pub fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, SaslError> {
        let challenge = String::from_utf8_lossy(challenge);
        let nonce = field(&challenge, "nonce").ok_or(SaslError("no nonce in the server's challenge"))?;
        let realm = field(&challenge, "realm").unwrap_or_default();
        let (user, cnonce) = (self.user, self.cnonce.as_str());
        let mut secret = md5(format!("{user}:{realm}:{}", self.password).as_bytes())?;
        secret.extend(format!(":{nonce}:{cnonce}").into_bytes());
        let secret = hex(&md5(&secret)?);
        let digest = |what: &str| -> Result<String, SaslError> {
            let what = hex(&md5(what.as_bytes())?);
            Ok(hex(&md5(format!("{secret}:{nonce}:00000001:{cnonce}:auth:{what}").as_bytes())?))
        };
        let response = digest(&format!("AUTHENTICATE:{SERVICE}"))?;
        self.expected = Some(digest(&format!(":{SERVICE}"))?);
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let (user, realm) = (quoted(user), quoted(&realm));
        Ok(format!(
            "charset=utf-8,username=\"{user}\",realm=\"{realm}\",nonce=\"{}\",nc=00000001,cnonce=\"{cnonce}\",\
             digest-uri=\"{SERVICE}\",maxbuf=65536,response={response},qop=auth",
            quoted(&nonce)
        )
        .into_bytes())
    }

    /// Does the server know our password, too?
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, token: &[u8]) -> Result<(), SaslError> {
        let known = field(&String::from_utf8_lossy(token), "rspauth");
        if known.is_some() && known == self.expected {
            return Ok(());
        }
        Err(SaslError("the server has not proved that it knows the password"))
    }
}

fn md5(bytes: &[u8]) -> Result<Vec<u8>, SaslError> {
    let digest = hash(MessageDigest::md5(), bytes).map_err(|_| SaslError("OpenSSL has no MD5 here"))?;
    Ok(digest.to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field of `name=value,name="value"`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut rest = text;
    while let Some((key, after)) = rest.split_once('=') {
        let mut value = String::new();
        let mut chars = after.chars();
        if after.starts_with('"') {
            chars.next();
            loop {
                match chars.next() {
                    Some('\\') => value.extend(chars.next()),
                    None | Some('"') => break,
                    Some(other) => value.push(other),
                }
            }
        } else {
            value = after.split(',').next().unwrap_or_default().to_owned();
            chars = after.get(value.len()..).unwrap_or_default().chars();
        }
        if key.trim() == name {
            return Some(value);
        }
        rest = chars.as_str().trim_start_matches([',', ' ']);
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = r#"realm="a\"b,c", nonce="n=1",qop=auth,charset=utf-8"#;
        for (name, value) in
            [("realm", Some("a\"b,c")), ("nonce", Some("n=1")), ("qop", Some("auth")), ("x", None)]
        {
            assert_eq!(field(text, name).as_deref(), value, "{name}");
        }
        for garbage in ["", "=", "\"", "a=\"", "a", "a=,=", "ä=\"\\"] {
            assert_eq!(field(garbage, "nonce"), None, "{garbage}");
        }
    }

    #[test]
    fn the_digest() {
        // Computed by Python's hashlib for this challenge, by the formula of RFC 2831.
        let challenge = br#"realm="zk-sasl-md5",nonce="abc",charset=utf-8,algorithm=md5-sess,qop="auth""#;
        let mut exchange = Exchange::new("bob", "secret", "xyz".into());
        let answer = String::from_utf8(exchange.respond(challenge).unwrap()).unwrap();
        assert_eq!(field(&answer, "response").as_deref(), Some(RESPONSE));
        assert_eq!(field(&answer, "digest-uri").as_deref(), Some(SERVICE));
        assert!(exchange.check(format!("rspauth={RSPAUTH}").as_bytes()).is_ok());
        assert!(exchange.check(b"rspauth=00").is_err());
        assert!(Exchange::new("bob", "secret", String::new()).check(b"").is_err());
        assert!(exchange.respond(b"\xff\xfe").is_err());
    }

    const RESPONSE: &str = "5e75934b786eba4d85bb3b30d9973f39";
    const RSPAUTH: &str = "001b2c49012303f49ec94241be3de9d4";
}
