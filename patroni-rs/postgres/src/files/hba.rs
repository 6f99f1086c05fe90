//! pg_hba.conf and pg_ident.conf (surface-ha-pg 15.3-01).

use std::net::IpAddr;

use pyfmt::Value;

use super::text::ConfText;

/// A file of the configured lines, as they are.
pub fn from_lines(lines: &[Value]) -> Vec<u8> {
    let mut text = ConfText::new();
    for line in lines.iter().filter_map(Value::as_str) {
        text.line(line);
    }
    text.into_bytes()
}

/// What `bootstrap.pg_hba` appends to the pg_hba.conf that initdb made.
pub fn bootstrap_lines(lines: &[String]) -> Vec<u8> {
    format!("\n{}\n", lines.join("\n")).into_bytes()
}

/// pg_hba.conf during a custom bootstrap: the superuser's password is not
/// known yet, so local connections, over the socket and from `addresses`, are
/// trusted. Without a superuser name that is any user.
///
/// Addresses get the suffix `/32` even where they are IPv6 ones, as the
/// reference has it.
pub fn custom_bootstrap(addresses: &[IpAddr], replication_user: &str, superuser: Option<&str>) -> Vec<u8> {
    let superuser = superuser.filter(|s| !s.is_empty()).unwrap_or("all");
    let mut text = ConfText::new();
    let mut trust = |kind: &str, address: &str| {
        text.line(&format!("{kind}\treplication\t{replication_user}\t{address}\ttrust"));
        text.line(&format!("{kind}\tall\t{superuser}\t{address}\ttrust"));
    };
    trust("local", "");
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            trust("host", &format!("{address}/32"));
            seen.push(address);
        }
    }
    text.into_bytes()
}
