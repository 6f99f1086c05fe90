//! `/config`.

use pyfmt::{json, Value};

use super::Version;

/// The dynamic configuration as it is in the DCS.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// Compare-and-set token.
    pub version: Version,
    /// The document; an empty mapping when the text is no JSON object.
    pub data: Value,
    /// Changes with the content. `0` means that there is no usable document
    /// (surface-dcs 4): the leader then writes it anew.
    pub modify_version: Version,
}

impl Default for ClusterConfig {
    fn default() -> ClusterConfig {
        ClusterConfig { version: Version::new(), data: Value::map(), modify_version: "0".into() }
    }
}

impl ClusterConfig {
    /// Reads the key.
    pub fn from_node(version: &str, text: &str, modify_version: &str) -> ClusterConfig {
        match json::loads(text) {
            Ok(data @ Value::Map(_)) => {
                ClusterConfig { version: version.to_owned(), data, modify_version: modify_version.to_owned() }
            }
            _ => ClusterConfig { version: version.to_owned(), ..ClusterConfig::default() },
        }
    }

    /// Is there a usable document?
    pub fn is_valid(&self) -> bool {
        self.modify_version != "0"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_no_configuration() {
        let good = ClusterConfig::from_node("7", r#"{"ttl": 30}"#, "9");
        assert_eq!((good.version.as_str(), good.modify_version.as_str()), ("7", "9"));
        assert!(good.is_valid());
        for bad in ["", "{", "[]", "null", "5"] {
            let config = ClusterConfig::from_node("7", bad, "9");
            assert_eq!(config.data, Value::map(), "{bad}");
            assert_eq!(config.version, "7");
            assert!(!config.is_valid(), "{bad}");
        }
        assert!(ClusterConfig::from_node("7", "{}", "9").is_valid());
    }
}
