//! `require_auth`: the ways of logging in that the server may ask for (PostgreSQL documentation 34.1.2).

use super::error::PgError;

/// libpq's names of ways to log in.
const METHODS: [&str; 7] = ["password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"];

/// What may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    text: String,
    methods: Vec<&'static str>,
}

impl Accepted {
    /// From the parameter: names with commas, all or none of them with a `!`.
    ///
    /// # Errors
    /// [`PgError::Config`] for a value of another form.
    pub(super) fn parse(value: Option<&str>) -> Result<Accepted, PgError> {
        let Some(text) = value else {
            return Ok(Accepted { text: String::new(), methods: METHODS.to_vec() });
        };
        let negative = text.starts_with('!');
        let mut named = Vec::new();
        for word in text.split(',') {
            let name = match (word.strip_prefix('!'), negative) {
                (Some(name), true) => name,
                (None, false) => word,
                (Some(_), false) => {
                    return Err(PgError::Config(format!(
                        "negative require_auth method \"{word}\" cannot be mixed with non-negative methods"
                    )))
                }
                (None, true) => {
                    return Err(PgError::Config(format!(
                        "require_auth method \"{word}\" cannot be mixed with negative methods"
                    )))
                }
            };
            let Some(method) = METHODS.iter().find(|method| **method == name) else {
                return Err(PgError::Config(format!("invalid require_auth value: \"{word}\"")));
            };
            if named.contains(method) {
                let text = format!("require_auth method \"{word}\" is specified more than once");
                return Err(PgError::Config(text));
            }
            named.push(*method);
        }
        let methods = METHODS.into_iter().filter(|method| named.contains(method) != negative).collect();
        Ok(Accepted { text: text.to_owned(), methods })
    }

    /// May the server ask for `method`, which libpq's error calls `what`?
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check(&self, method: &str, what: &str) -> Result<(), PgError> {
        if self.methods.contains(&method) {
            return Ok(());
        }
        Err(PgError::Connection(format!(
            "authentication method requirement \"{}\" failed: server requested {what}",
            self.text
        )))
    }

    /// May the server ask for SASL, of which SCRAM and OAuth are kinds?
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check_sasl(&self) -> Result<(), PgError> {
        let method = if self.methods.contains(&"oauth") { "oauth" } else { "scram-sha-256" };
        self.check(method, "SASL authentication")
    }

    /// May the server let us in without asking?
    ///
    /// # Errors
    /// It may not.
    pub(super) fn check_none(&self) -> Result<(), PgError> {
        if self.methods.contains(&"none") {
            return Ok(());
        }
        Err(PgError::Connection(format!(
            "authentication method requirement \"{}\" failed: server did not complete authentication",
            self.text
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn methods() {
        let accepts =
            |text: &str, method: &str| Accepted::parse(Some(text)).unwrap().check(method, "x").is_ok();
        assert!(accepts("scram-sha-256", "scram-sha-256") && !accepts("scram-sha-256", "md5"));
        assert!(accepts("!md5,!password", "scram-sha-256") && !accepts("!md5,!password", "md5"));
        assert!(Accepted::parse(None).unwrap().check_none().is_ok());
        assert!(Accepted::parse(Some("md5")).unwrap().check_none().is_err());
        for bad in ["x", "md5,!none", "!md5,none", "md5,md5"] {
            assert!(matches!(Accepted::parse(Some(bad)), Err(PgError::Config(_))), "{bad}");
        }
    }
}
