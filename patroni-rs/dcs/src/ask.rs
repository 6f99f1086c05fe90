//! A request to a store that is spoken to by HTTP: method, path, parameters, body. What a store's own requests look like
//! is said beside its client.

use percent_encoding::{utf8_percent_encode, AsciiSet};

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// The path, with percent signs where it needs them.
    pub path: String,
    /// The body.
    pub body: String,
    query: Vec<(&'static str, String)>,
    /// All but what stands for itself in a parameter.
    encoded: &'static AsciiSet,
}

impl Ask {
    /// `path` as it is sent. In parameters what is in `encoded` gets percent signs.
    pub fn to(method: &'static str, path: String, encoded: &'static AsciiSet) -> Ask {
        Ask { method, path, body: String::new(), query: Vec::new(), encoded }
    }

    /// With a parameter.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.query.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(self, body: impl Into<String>) -> Ask {
        Ask { body: body.into(), ..self }
    }

    /// Where it goes, at the server with that URL.
    pub fn url(&self, base: &str) -> String {
        let mut url = format!("{base}{}", self.path);
        for (n, (name, value)) in self.query.iter().enumerate() {
            url.push(if n == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.extend(utf8_percent_encode(value, self.encoded));
        }
        url
    }
}
