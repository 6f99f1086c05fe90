//! `/leader`.

use super::{Member, Version};

/// The last version that did not publish `checkpoint_after_promote`.
const NO_CHECKPOINT_FIELD: [u64; 3] = [1, 5, 6];

/// The leader key and its owner.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Leader {
    /// Compare-and-set token.
    pub version: Version,
    /// Lease or session of the key.
    pub session: Option<String>,
    /// The owner; without data when its member key is gone.
    pub member: Member,
}

impl Leader {
    /// Name of the owner; empty on Kubernetes when nobody holds the lock.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// The owner's connection URL.
    pub fn conn_url(&self) -> Option<String> {
        self.member.conn_url()
    }

    /// The owner's timeline.
    pub fn timeline(&self) -> Option<u32> {
        self.member.timeline()
    }

    /// Has the owner run a checkpoint since its promotion? None when it is too
    /// old to say, or its version cannot be read.
    pub fn checkpoint_after_promote(&self) -> Option<bool> {
        let version = self.member.patroni_version()?;
        if version.as_slice() <= NO_CHECKPOINT_FIELD.as_slice() {
            return None;
        }
        let primary = matches!(self.member.role(), "master" | "primary");
        Some(primary && self.member.data.get("checkpoint_after_promote").is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoint_after_promotion() {
        for (data, want) in [
            (r#"{}"#, None),
            (r#"{"version":"z","role":"primary"}"#, None),
            (r#"{"version":"1.5.6","role":"primary"}"#, None),
            (r#"{"version":"1.5.6.1","role":"primary"}"#, Some(true)),
            (r#"{"version":"4.1.5-rs","role":"primary"}"#, None),
            (r#"{"version":"2","role":"master"}"#, Some(true)),
            (r#"{"version":"4.1.5","role":"primary","checkpoint_after_promote":false}"#, Some(false)),
            (r#"{"version":"4.1.5","role":"promoted"}"#, Some(false)),
        ] {
            let member = Member::from_node("1", "a", None, data);
            assert_eq!(Leader { member, ..Leader::default() }.checkpoint_after_promote(), want, "{data}");
        }
    }
}
