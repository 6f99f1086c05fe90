//! The connections that the daemon keeps, and single statements on them.

use std::sync::Arc;
use std::time::Duration;

use patroni_postgres::files::{ConfigHandler, PgSetting};
use patroni_postgres::sql::{self, ConnParams, Connection, Pool, Row};

use super::Instance;

pub use patroni_postgres::sql::PgError as SqlError;

/// See [`Pool`].
pub(super) struct Connections {
    pub(super) pool: Arc<Pool>,
}

impl Connections {
    /// Connections to where `config` says that the server listens.
    pub(super) fn new(config: &ConfigHandler) -> Connections {
        let pool = Arc::new(Pool::new());
        pool.set_params(ConnParams::from_value(&config.addresses().local));
        Connections { pool }
    }

    /// The server that they led to is gone.
    pub(super) async fn close(&self) {
        self.pool.close_all().await;
    }
}

impl Instance {
    /// Addresses may have changed: new connections use the new ones.
    pub(super) fn refresh_connections(&self) {
        let params = ConnParams::from_value(&self.config().addresses().local);
        self.sql.pool.set_params(params);
    }

    /// The pool, for the REST API's statements.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.sql.pool
    }

    pub(super) async fn query(&self, statement: &str) -> Result<Vec<Row>, SqlError> {
        self.sql.pool.query(Connection::Heartbeat, statement).await
    }

    pub(super) async fn pg_settings(&self, names: &[String]) -> Result<Vec<PgSetting>, SqlError> {
        sql::pg_settings(&self.sql.pool, names).await
    }

    /// CHECKPOINT on a connection of its own; a failure is logged and nothing more.
    pub async fn checkpoint(&self, timeout: Option<Duration>) {
        let params = self.sql.pool.params();
        let _ = sql::checkpoint(&params, false, timeout.map(|t| t.as_secs().max(1))).await;
    }

    /// The superuser gets his password, where there is one.
    pub(super) async fn create_superuser(&self) -> Result<(), SqlError> {
        let user = self.config().superuser().cloned();
        let Some(user) = user.filter(|u| u.get("username").is_some() && u.get("password").is_some()) else {
            return Ok(());
        };
        self.create_role(&user, "SUPERUSER").await
    }

    /// Users for replication and pg_rewind (surface-ha-pg 12-09).
    pub(super) async fn create_users(&self) -> Result<(), SqlError> {
        let (replication, rewind, superuser) = {
            let config = self.config();
            (config.replication().cloned(), config.rewind_credentials().cloned(), config.superuser().cloned())
        };
        if let Some(user) = replication.filter(|u| u.get("username").is_some()) {
            self.create_role(&user, "REPLICATION").await?;
        }
        let Some(rewind) = rewind.filter(|r| Some(r) != superuser.as_ref()) else { return Ok(()) };
        let Some(name) = rewind.get("username").map(pyfmt::Value::py_str) else { return Ok(()) };
        self.create_role(&rewind, "").await?;
        for function in [
            "pg_ls_dir(text, boolean, boolean)",
            "pg_stat_file(text, boolean)",
            "pg_read_binary_file(text)",
            "pg_read_binary_file(text, bigint, bigint, boolean)",
        ] {
            let name = quote_ident(&name);
            let statement = format!(
                "DO $$\nBEGIN\n    SET local synchronous_commit = 'local';\n    GRANT EXECUTE ON function \
                 pg_catalog.{function} TO {name};\nEND;$$"
            );
            self.query(&statement).await?;
        }
        Ok(())
    }

    /// Makes or alters a role, without its password in any log (12-10).
    async fn create_role(&self, user: &pyfmt::Value, options: &str) -> Result<(), SqlError> {
        let name = user.get("username").map(pyfmt::Value::py_str).unwrap_or_default();
        let mut options = format!("{options} LOGIN");
        if let Some(password) = user.get("password").filter(|p| p.truthy()) {
            options.push_str(&format!(" PASSWORD {}", sql::literal(&password.py_str())));
        }
        let (literal, ident) = (sql::literal(&name), quote_ident(&name));
        let statement = format!(
            "DO $$\nBEGIN\n    SET local synchronous_commit = 'local';\n    PERFORM * FROM pg_catalog.pg_authid \
             WHERE rolname = {literal};\n    IF FOUND THEN\n        ALTER ROLE {ident} WITH {options};\n    ELSE\n        \
             CREATE ROLE {ident} WITH {options};\n    END IF;\nEND;$$"
        );
        for (setting, value) in sql::QUIET {
            self.query(&format!("SET {setting} TO {value}")).await?;
        }
        let result = self.query(&statement).await;
        for (setting, _) in sql::QUIET {
            self.query(&format!("RESET {setting}")).await?;
        }
        result.map(drop)
    }
}

/// Always quoted: it means the same.
fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
