//! Which type is loaded how: the types that the reference's driver knows, by the OIDs of PostgreSQL's catalogue
//! (src/include/catalog/pg_type.dat). All others are text.

/// How values of a type are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Bool,
    Int,
    Float,
    Numeric,
    Bytea,
    Json,
    Date,
    Time,
    Timetz,
    Timestamp,
    Timestamptz,
    Interval,
    Uuid,
    Inet,
    Cidr,
    Record,
    Range(&'static Kind),
    Multirange(&'static Kind),
    /// Of elements, and what is between them.
    Array(&'static Kind, u8),
}

impl Kind {
    /// The kind of a type.
    pub fn of(oid: u32) -> Kind {
        match element(oid) {
            Some(kind) => Kind::Array(kind, if oid == 1020 { b';' } else { b',' }),
            None => scalar(oid),
        }
    }
}

impl Kind {
    /// Do values depend on the session's time zone?
    pub fn is_zoned(self) -> bool {
        match self {
            Kind::Timestamptz => true,
            Kind::Range(inner) | Kind::Multirange(inner) | Kind::Array(inner, _) => inner.is_zoned(),
            _ => false,
        }
    }
}

fn scalar(oid: u32) -> Kind {
    match oid {
        16 => Kind::Bool,
        17 => Kind::Bytea,
        20 | 21 | 23 | 26 => Kind::Int,
        114 | 3802 => Kind::Json,
        650 => Kind::Cidr,
        700 | 701 => Kind::Float,
        869 => Kind::Inet,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1114 => Kind::Timestamp,
        1184 => Kind::Timestamptz,
        1186 => Kind::Interval,
        1266 => Kind::Timetz,
        1700 => Kind::Numeric,
        2249 => Kind::Record,
        2950 => Kind::Uuid,
        3904 | 3926 => Kind::Range(&Kind::Int),
        3906 => Kind::Range(&Kind::Numeric),
        3908 => Kind::Range(&Kind::Timestamp),
        3910 => Kind::Range(&Kind::Timestamptz),
        3912 => Kind::Range(&Kind::Date),
        4451 | 4536 => Kind::Multirange(&Kind::Int),
        4532 => Kind::Multirange(&Kind::Numeric),
        4533 => Kind::Multirange(&Kind::Timestamp),
        4534 => Kind::Multirange(&Kind::Timestamptz),
        4535 => Kind::Multirange(&Kind::Date),
        _ => Kind::Text,
    }
}

/// The kind of an array's elements.
fn element(oid: u32) -> Option<&'static Kind> {
    Some(match oid {
        1000 => &Kind::Bool,
        1001 => &Kind::Bytea,
        1005 | 1007 | 1016 | 1028 => &Kind::Int,
        199 | 3807 => &Kind::Json,
        651 => &Kind::Cidr,
        1021 | 1022 => &Kind::Float,
        1041 => &Kind::Inet,
        1182 => &Kind::Date,
        1183 => &Kind::Time,
        1115 => &Kind::Timestamp,
        1185 => &Kind::Timestamptz,
        1187 => &Kind::Interval,
        1270 => &Kind::Timetz,
        1231 => &Kind::Numeric,
        2287 => &Kind::Record,
        2951 => &Kind::Uuid,
        3905 | 3927 => &Kind::Range(&Kind::Int),
        3907 => &Kind::Range(&Kind::Numeric),
        3909 => &Kind::Range(&Kind::Timestamp),
        3911 => &Kind::Range(&Kind::Timestamptz),
        3913 => &Kind::Range(&Kind::Date),
        6150 | 6157 => &Kind::Multirange(&Kind::Int),
        6151 => &Kind::Multirange(&Kind::Numeric),
        6152 => &Kind::Multirange(&Kind::Timestamp),
        6153 => &Kind::Multirange(&Kind::Timestamptz),
        6155 => &Kind::Multirange(&Kind::Date),
        // Arrays of types that are text.
        1002 | 1034 | 1561 | 1020 | 1014 | 1012 | 719 | 3644 | 1006 | 4073 | 629 | 1018 | 1040 | 775
        | 791 | 1003 | 1013 | 1019 | 3221 | 1017 | 1027 | 2201 | 2210 | 4192 | 3735 | 3770 | 4090 | 2208
        | 2209 | 1008 | 2207 | 4097 | 2211 | 1009 | 1010 | 3645 | 3643 | 2949 | 1563 | 1015 | 1011 | 271
        | 143 => &Kind::Text,
        _ => return None,
    })
}
