//! Versions of PostgreSQL.

use std::fmt;

/// A version of PostgreSQL, by the number that `server_version_num` has: 15.14 is 150014, 9.6.24 is 90624. A major version is
/// the first number of it, 150000 or 90600.
///
/// It has no order of its own: [`PgVersion::at_least`] and [`PgVersion::before`] say what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PgVersion(u32);

impl PgVersion {
    /// Not known (yet): before all others.
    pub const UNKNOWN: PgVersion = PgVersion(0);
    /// 9.1.
    pub const V9_1: PgVersion = PgVersion(90_100);
    /// 9.3.
    pub const V9_3: PgVersion = PgVersion(90_300);
    /// 9.4.
    pub const V9_4: PgVersion = PgVersion(90_400);
    /// 9.5.
    pub const V9_5: PgVersion = PgVersion(90_500);
    /// 9.6.
    pub const V9_6: PgVersion = PgVersion(90_600);
    /// 10.
    pub const V10: PgVersion = PgVersion(100_000);
    /// 11.
    pub const V11: PgVersion = PgVersion(110_000);
    /// 12.
    pub const V12: PgVersion = PgVersion(120_000);
    /// 13.
    pub const V13: PgVersion = PgVersion(130_000);
    /// 14.
    pub const V14: PgVersion = PgVersion(140_000);
    /// 15.
    pub const V15: PgVersion = PgVersion(150_000);
    /// 16.
    pub const V16: PgVersion = PgVersion(160_000);
    /// 17.
    pub const V17: PgVersion = PgVersion(170_000);
    /// 18.
    pub const V18: PgVersion = PgVersion(180_000);
    /// 19.
    pub const V19: PgVersion = PgVersion(190_000);

    /// Of a `server_version_num`; 0 is [`PgVersion::UNKNOWN`].
    pub const fn from_num(num: u32) -> PgVersion {
        PgVersion(num)
    }

    /// As `server_version_num`; 0 when it is not known.
    pub const fn num(self) -> u32 {
        self.0
    }

    /// Is it known?
    pub const fn is_known(self) -> bool {
        self.0 > 0
    }

    /// Is it this version or a later one? One that is not known is not.
    pub const fn at_least(self, other: PgVersion) -> bool {
        self.0 >= other.0
    }

    /// Is it an earlier version? One that is not known is before all others.
    pub const fn before(self, other: PgVersion) -> bool {
        self.0 < other.0
    }

    /// Without its minor version.
    pub const fn major(self) -> PgVersion {
        let minors = if self.0 >= 100_000 { 10_000 } else { 100 };
        PgVersion(self.0 / minors * minors)
    }

    /// Reads `15`, `15.14`, `9.6` or `9.6.24`; a text without a minor version counts as minor 0.
    pub fn parse(text: &str) -> Option<PgVersion> {
        let parts: Vec<u32> = text.trim().split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        match *parts.as_slice() {
            [major] if major >= 10 => PgVersion::of(major, 0, 0),
            [major, minor] if major >= 10 => PgVersion::of(major, 0, minor),
            [first, second] => PgVersion::of(first, second, 0),
            [first, second, minor] => PgVersion::of(first, second, minor),
            _ => None,
        }
    }

    /// Reads what a server says of itself: `15.14 (Debian 15.14-0+deb12u1)`, `9.6.24`, `18beta1`. What makes no sense counts as 0.
    pub fn of_server(text: &str) -> PgVersion {
        let number = |part: &str| {
            part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse::<u32>().unwrap_or(0)
        };
        let mut parts = text.split_whitespace().next().unwrap_or_default().split('.').map(number);
        let mut next = || parts.next().unwrap_or(0);
        let (first, second) = (next(), next());
        let found =
            if first >= 10 { PgVersion::of(first, 0, second) } else { PgVersion::of(first, second, next()) };
        found.unwrap_or(PgVersion::UNKNOWN)
    }

    fn of(first: u32, second: u32, minor: u32) -> Option<PgVersion> {
        let major = first.checked_mul(10_000)?.checked_add(second.checked_mul(100)?)?;
        major.checked_add(minor).map(PgVersion)
    }
}

impl Default for PgVersion {
    fn default() -> PgVersion {
        PgVersion::UNKNOWN
    }
}

/// `15.14`, `9.6.24`.
impl fmt::Display for PgVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second, minor) = (self.0 / 10_000, self.0 / 100 % 100, self.0 % 100);
        if first >= 10 {
            write!(f, "{first}.{minor}")
        } else {
            write!(f, "{first}.{second}.{minor}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (text, want) in [
            ("15", Some(150_000)),
            ("15.4\n", Some(150_004)),
            ("9.6", Some(90_600)),
            ("9.6.3", Some(90_603)),
            ("10.1.2", Some(100_102)),
            ("9", None),
            ("x", None),
            ("1.2.3.4", None),
            ("", None),
            ("4000000000", None),
        ] {
            assert_eq!(PgVersion::parse(text).map(PgVersion::num), want, "{text}");
        }
        for (text, want) in [
            ("15.14 (Debian 15.14-0+deb12u1)", 150_014),
            ("9.6.24", 90_624),
            ("18beta1", 180_000),
            ("17.6", 170_006),
            ("x", 0),
            ("", 0),
            ("4000000000", 0),
        ] {
            assert_eq!(PgVersion::of_server(text).num(), want, "{text}");
        }
        assert_eq!(PgVersion::from_num(150_014).to_string(), "15.14");
        assert_eq!(PgVersion::from_num(90_624).to_string(), "9.6.24");
    }

    #[test]
    fn comparisons() {
        assert_eq!(PgVersion::from_num(150_114).major(), PgVersion::V15);
        assert_eq!(PgVersion::from_num(90_624).major(), PgVersion::V9_6);
        let (old, new) = (PgVersion::from_num(90_624), PgVersion::from_num(150_014));
        assert!(old.at_least(PgVersion::V9_6) && old.before(PgVersion::V10) && !old.at_least(PgVersion::V10));
        assert!(new.at_least(PgVersion::V15) && !new.before(PgVersion::V15) && new.before(PgVersion::V16));
        assert!(PgVersion::UNKNOWN.before(PgVersion::V9_1) && !PgVersion::UNKNOWN.is_known());
    }
}
