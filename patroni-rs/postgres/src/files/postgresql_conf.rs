//! The text of postgresql.conf, and the cleaning of postgresql.auto.conf
//! (surface-ha-pg 15.1).

use patroni_core::PgVersion;
use pyfmt::Value;

use super::cimap::Params;
use super::guc::{AvailableGucs, GucTable};
use super::text::{escape, is_parameter_name, split_assignment, ConfText};

/// What postgresql.conf is made of.
#[derive(Debug)]
pub struct Conf<'a> {
    /// The file that is included first.
    pub include: &'a str,
    /// Server parameters.
    pub params: &'a Params,
    /// Full version of the server.
    pub version: PgVersion,
    /// What the server itself knows.
    pub available: &'a AvailableGucs,
    /// `hba_file` to add at the end. During a custom bootstrap it is always
    /// given, and the one of the user is left out.
    pub hba_file: Option<&'a str>,
    /// Leave out the `hba_file` among the parameters.
    pub skip_hba_parameter: bool,
    /// `ident_file` to add at the end.
    pub ident_file: Option<&'a str>,
    /// Recovery parameters to write, from version 12 on.
    pub recovery: &'a [(String, Value)],
}

impl Conf<'_> {
    /// The bytes of the file. Parameters that the server would refuse are
    /// changed or left out, which is logged.
    pub fn render(&self) -> Vec<u8> {
        let mut text = ConfText::new();
        text.line(&format!("include '{}'\n", escape(self.include)));
        for (name, value) in self.params.sorted() {
            if !is_parameter_name(name) {
                tracing::warn!(target: "patroni.postgresql.config",
                    "Removing invalid parameter `{}` from postgresql.parameters", name.escape_debug());
                continue;
            }
            let value = GucTable::builtin().transform(self.version, name, value, self.available).logged();
            if let Some(value) = value.filter(|_| !(self.skip_hba_parameter && name == "hba_file")) {
                text.param(name, &value);
            }
        }
        for (name, path) in [("hba_file", self.hba_file), ("ident_file", self.ident_file)] {
            if let Some(path) = path {
                text.param(name, &path.into());
            }
        }
        if !self.recovery.is_empty() {
            text.line("\n# recovery.conf");
            for (name, value) in self.recovery {
                text.param(name, value);
            }
        }
        text.into_bytes()
    }
}

/// postgresql.auto.conf without its recovery parameters, or `None` if it has
/// none. ALTER SYSTEM would win over what is written to postgresql.conf.
pub fn without_recovery_parameters(auto_conf: &[u8]) -> Option<Vec<u8>> {
    let is_recovery = |line: &[u8]| {
        let line = String::from_utf8_lossy(line);
        split_assignment(line.trim()).is_some_and(|(name, _)| GucTable::builtin().is_recovery(name))
    };
    let lines = || auto_conf.split_inclusive(|b| *b == b'\n');
    if !lines().any(is_recovery) {
        return None;
    }
    Some(lines().filter(|line| !is_recovery(line)).flatten().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_lines_leave_auto_conf() {
        let conf =
            b"# Do not edit\nwork_mem = '4MB'\n restore_command = 'x'\nprimary_conninfo='host=a'\nlast = '1'";
        let left = without_recovery_parameters(conf);
        assert_eq!(left.as_deref(), Some(&b"# Do not edit\nwork_mem = '4MB'\nlast = '1'"[..]));
        assert_eq!(without_recovery_parameters(b"work_mem = '4MB'\n"), None);
    }
}
