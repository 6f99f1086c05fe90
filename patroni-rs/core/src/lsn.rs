//! Positions in the WAL.

use pyfmt::Value;

/// A WAL position: the number of bytes since its start. 0 stands for one that is not known.
///
/// There are two texts of one: `1/3000060` of PostgreSQL ([`Lsn::text`], [`Lsn::parse`]), and the number in the DCS, the REST
/// API and our statements ([`Lsn::bytes`], [`Lsn::from_number`]). It has no `Display` and no `FromStr`: the wrong one would
/// go unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Not known, or the start.
    pub const ZERO: Lsn = Lsn(0);
    /// Beyond all others.
    pub const MAX: Lsn = Lsn(u64::MAX);

    /// So many bytes from the start.
    pub const fn new(bytes: u64) -> Lsn {
        Lsn(bytes)
    }

    /// Of a number that somebody else wrote: none below 0.
    pub fn from_number(number: i64) -> Option<Lsn> {
        u64::try_from(number).ok().map(Lsn)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Is it known?
    pub const fn is_known(self) -> bool {
        self.0 > 0
    }

    /// By so many bytes ahead of `other`; 0: it is not.
    pub const fn ahead_of(self, other: Lsn) -> u64 {
        self.0.saturating_sub(other.0)
    }

    /// So many bytes before it, or behind it if the number is negative; it stays within what there can be.
    pub const fn minus(self, bytes: i64) -> Lsn {
        if bytes < 0 {
            Lsn(self.0.saturating_add(bytes.unsigned_abs()))
        } else {
            Lsn(self.0.saturating_sub(bytes.unsigned_abs()))
        }
    }

    /// Reads what PostgreSQL writes: `1/3000060`.
    pub fn parse(text: &str) -> Option<Lsn> {
        let (high, low) = text.trim().split_once('/')?;
        let part = |t: &str| u32::from_str_radix(t, 16).ok().map(u64::from);
        Some(Lsn((part(high)? << 32) | part(low)?))
    }

    /// As PostgreSQL writes it: `1/3000060`.
    pub fn text(self) -> String {
        format!("{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }

    /// As `pg_waldump` writes it: `1/03000060`.
    pub fn padded(self) -> String {
        format!("{:X}/{:08X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// The number, as in the DCS.
impl From<Lsn> for Value {
    fn from(lsn: Lsn) -> Value {
        lsn.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(Lsn::parse("1/3000060"), Some(Lsn::new((1 << 32) + 0x300_0060)));
        for bad in ["", "1", "x/1", "1/123456789", "1/"] {
            assert_eq!(Lsn::parse(bad), None, "{bad}");
        }
        assert_eq!(Lsn::new((1 << 32) + 0xA0).text(), "1/A0");
        assert_eq!(Lsn::new(0xA0).padded(), "0/000000A0");
    }

    #[test]
    fn distances_and_numbers_of_others() {
        let (near, far) = (Lsn::new(10), Lsn::new(30));
        assert_eq!((far.ahead_of(near), near.ahead_of(far)), (20, 0));
        assert_eq!((far.minus(20), far.minus(31), far.minus(-5)), (near, Lsn::ZERO, Lsn::new(35)));
        assert_eq!((Lsn::from_number(7), Lsn::from_number(-1)), (Some(Lsn::new(7)), None));
        assert!(!Lsn::ZERO.is_known() && near.is_known());
    }
}
