//! Copying logical slots from the primary to a standby (18-15): PostgreSQL has
//! no function for it, so the state file is read there and written here while
//! the standby is stopped.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use patroni_core::slots::{valid_slot_name, Desired, SlotKind};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::error::PgError;
use super::params::ConnParams;
use super::pool::DEFAULTS;
use super::quote::text_array;
use super::rows::Row;
use super::session::Session;
use crate::files::perm::DataAccess;

const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// A slot as the primary has it on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedSlot {
    /// Name; a valid one.
    pub name: String,
    /// Content of `pg_replslot/NAME/state`.
    pub state: Vec<u8>,
}

/// Reads these slots on the leader, as far as they are what `wanted` says.
///
/// `leader` is its address with the credentials for `pg_rewind`, since reading
/// files takes a privileged user, and our database.
pub async fn fetch_logical_slots(
    leader: &ConnParams,
    major_version: PgVersion,
    names: &[String],
    wanted: &Desired,
) -> Result<Vec<CopiedSlot>, PgError> {
    let session = Session::connect(&leader.clone().or_defaults(&DEFAULTS).with_safe_search_path()).await?;
    let ours = if major_version.at_least(PgVersion::V17) { " NOT failover AND" } else { "" };
    let sql = format!(
        "SELECT slot_name, slot_type, datname, plugin, catalog_xmin, \
         pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::bigint, \
         pg_catalog.encode(pg_catalog.pg_read_binary_file('pg_replslot/' || slot_name || '/state'), 'hex') \
         FROM pg_catalog.pg_get_replication_slots() JOIN pg_catalog.pg_database ON datoid = oid \
         WHERE{ours} NOT pg_catalog.pg_is_in_recovery() AND slot_name = ANY({})",
        text_array(names)
    );
    let rows = session.query(&sql, QUERY_TIMEOUT).await?;
    Ok(rows.iter().filter_map(|row| copied(row, wanted)).collect())
}

fn copied(row: &Row, wanted: &Desired) -> Option<CopiedSlot> {
    let name = row.text(0).filter(|name| valid_slot_name(name))?.to_owned();
    let want = wanted.get(&name)?;
    let fits = match &want.kind {
        SlotKind::Logical { database, plugin } => {
            row.text(1) == Some("logical")
                && row.text(2) == Some(database.as_str())
                && row.text(3) == Some(plugin.as_str())
        }
        SlotKind::Physical => row.text(1) == Some("physical"),
    };
    if !fits {
        let keys = ["type", "database", "plugin", "catalog_xmin", "confirmed_flush_lsn"];
        let there: Value =
            keys.iter().enumerate().map(|(i, k)| (*k, row.text(i + 1).map(str::to_owned))).collect();
        tracing::warn!(
            target: "patroni.postgresql.slots",
            "Will not copy the logical slot \"{name}\" due to the configuration mismatch: configuration={}, slot on \
             the primary={there}",
            want.shown
        );
        return None;
    }
    Some(CopiedSlot { name, state: from_hex(row.text(6)?)? })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Writes the slots into the data directory of a stopped server, each so that
/// a crash leaves it old or new. Blocks; may not run on an async thread.
///
/// # Errors
/// Those of the file system.
pub fn write_slot_files(data_dir: &Path, slots: &[CopiedSlot]) -> io::Result<()> {
    let access = DataAccess::of(data_dir);
    let parent = data_dir.join("pg_replslot");
    for slot in slots.iter().filter(|slot| valid_slot_name(&slot.name)) {
        let (dir, tmp) = (parent.join(&slot.name), parent.join(format!("{}.tmp", slot.name)));
        remove_dir(&tmp)?;
        DirBuilder::new().recursive(true).mode(access.dir_mode()).create(&tmp)?;
        fs::set_permissions(&tmp, Permissions::from_mode(access.dir_mode()))?;
        sync_dir(&tmp)?;
        let mode = access.file_mode();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(tmp.join("state"))?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(&slot.state)?;
        file.sync_all()?;
        remove_dir(&dir)?;
        fs::rename(&tmp, &dir)?;
        sync_dir(&dir)?;
    }
    sync_dir(&parent)
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Some file systems refuse to sync a directory, which is no harm.
fn sync_dir(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        Err(error) if error.raw_os_error() != Some(libc::EINVAL) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn slot_files_are_replaced() {
        let data = tempfile::tempdir().unwrap();
        fs::set_permissions(data.path(), Permissions::from_mode(0o750)).unwrap();
        let slots = data.path().join("pg_replslot");
        fs::create_dir_all(slots.join("l.tmp")).unwrap();
        fs::create_dir_all(slots.join("l")).unwrap();
        fs::write(slots.join("l/old"), "x").unwrap();
        let copied = |name: &str| CopiedSlot { name: name.into(), state: from_hex("00ff10").unwrap() };
        write_slot_files(data.path(), &[copied("l"), copied("../evil")]).unwrap();
        assert_eq!(fs::read(slots.join("l/state")).unwrap(), [0, 255, 16]);
        assert!(!slots.join("l/old").exists() && !slots.join("l.tmp").exists());
        assert!(!data.path().join("evil").exists());
        let mode = |path: &str| fs::metadata(slots.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("l"), mode("l/state")), (0o750, 0o640));
    }
}
