//! Names of replication slots.

/// PostgreSQL's limit, in characters.
const MAX_LEN: usize = 63;

/// The slot of a member: lower case, `-` and `.` as `_`, any other character
/// outside of `[a-z0-9_]` as `u` and its code point in decimal, at least four
/// digits; cut at 63 characters. Several names may meet in one slot.
pub fn member_slot_name(member: &str) -> String {
    let mut name = String::with_capacity(member.len());
    for c in member.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => name.push(c),
            '-' | '.' => name.push('_'),
            other => name.push_str(&format!("u{:04}", other as u32)),
        }
    }
    name.truncate(MAX_LEN);
    name
}

/// May a permanent slot be named so?
pub fn valid_slot_name(name: &str) -> bool {
    (1..=MAX_LEN).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped() {
        for (member, slot) in [
            ("Node-1.example", "node_1_example"),
            ("a b", "au0032b"),
            ("é", "u0233"),
            ("🐘", "u128024"),
            ("İ", "iu0775"),
        ] {
            assert_eq!(member_slot_name(member), slot);
        }
        assert_eq!(member_slot_name(&"x".repeat(80)).len(), 63);
        assert!(
            valid_slot_name("a_1")
                && !valid_slot_name("")
                && !valid_slot_name("A")
                && !valid_slot_name("a-b")
        );
    }
}
