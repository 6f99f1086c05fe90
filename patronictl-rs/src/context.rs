//! What all commands of one run share: configuration, DCS, REST client.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use patroni_core::model::Member;
use pyfmt::Value;
use tokio::runtime::{Builder, Runtime};

use crate::click::{CliError, Values};
use crate::progress::Progress;
use crate::rest::{Reply, Rest, RestError};
use crate::store::{Store, View};
use crate::{log, settings};

/// One run of the program.
pub struct Context {
    config: Value,
    citus: bool,
    runtime: Rc<Runtime>,
    stores: HashMap<(String, Option<i64>), Rc<Store>>,
    rest: Option<Rest>,
}

impl Context {
    /// Starts logging and reads the configuration (surface-api-ctl C1 to C8).
    ///
    /// # Errors
    /// A configuration file that is missing or wrong, or a wrong DCS URL.
    pub fn load(values: &Values) -> Result<Context, CliError> {
        log::start(log::level_from_env(|name| std::env::var(name).ok())?);
        let config = settings::load(values)?;
        let citus = is_citus(&config);
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| CliError::Crash(format!("OSError: {e}")))?;
        Ok(Context { config, citus, runtime: Rc::new(runtime), stores: HashMap::new(), rest: None })
    }

    /// The runtime that network calls run on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Is this a Citus cluster, by configuration or because of `--group`?
    pub fn is_citus(&self) -> bool {
        self.citus
    }

    /// A section of the configuration; empty without one.
    pub fn section(&self, name: &str) -> Value {
        self.config.get(name).cloned().unwrap_or_default()
    }

    /// The cluster of the configuration.
    pub fn scope(&self) -> Option<String> {
        self.config.get("scope").filter(|s| !s.is_null()).map(Value::py_str)
    }

    /// The cluster that was named, or that of the configuration.
    ///
    /// # Errors
    /// Neither is there; or no DCS is configured, which the reference finds first.
    pub fn cluster_name(&self, values: &Values) -> Result<String, CliError> {
        let named = values.text("cluster_name").map(str::to_owned);
        match named.or_else(|| self.scope()) {
            Some(name) => Ok(name),
            None => {
                crate::store::check_configured(&self.config)?;
                let text = "TypeError: sequence item 2: expected str instance, NoneType found";
                Err(CliError::Crash(text.into()))
            }
        }
    }

    /// `--group`, or the group of the configuration (surface-api-ctl C11).
    pub fn default_group(&self, values: &Values) -> Option<i64> {
        values.int("group").or_else(|| self.config.at(&["citus", "group"]).and_then(Value::as_i64))
    }

    /// The DCS of a cluster. A group turns Citus mode on.
    ///
    /// # Errors
    /// No DCS is configured.
    pub fn store(&mut self, scope: &str, group: Option<i64>) -> Result<Rc<Store>, CliError> {
        let key = (scope.to_owned(), group);
        if let Some(store) = self.stores.get(&key) {
            return Ok(store.clone());
        }
        self.config.set("scope", scope);
        if let Some(group) = group {
            self.config.set("citus", citus_section(group));
        }
        if self.config.get("name").is_none() {
            self.config.set("name", scope);
        }
        self.citus = is_citus(&self.config);
        let mut config = self.config.clone();
        if self.citus && group.is_none() {
            // All groups are meant: they are read beside the coordinator's.
            config.set("citus", citus_section(0));
        }
        let coordinator = self.citus && config.at(&["citus", "group"]).and_then(Value::as_i64) == Some(0);
        let store = Rc::new(Store::open(self.runtime.clone(), &config, coordinator)?);
        self.stores.insert(key, store.clone());
        Ok(store)
    }

    /// The DCS of the cluster that the command line names.
    ///
    /// # Errors
    /// As [`store`](Self::store).
    pub fn store_of(&mut self, values: &Values, group: Option<i64>) -> Result<Rc<Store>, CliError> {
        let name = self.cluster_name(values)?;
        self.store(&name, group)
    }

    /// The cluster that the command line names, in the default group.
    ///
    /// # Errors
    /// As [`store`](Self::store), and what reading the DCS yields.
    pub fn default_view(&mut self, values: &Values) -> Result<View, CliError> {
        let group = self.default_group(values);
        self.store_of(values, group)?.view()
    }

    /// A request to a member's REST API; without `endpoint` to its own URL.
    ///
    /// # Errors
    /// The member does not answer.
    pub fn call(
        &mut self,
        member: &Member,
        method: &str,
        endpoint: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Reply, RestError> {
        let url = match endpoint {
            Some(endpoint) => member.endpoint_url(endpoint),
            None => member.api_url().unwrap_or_default().to_owned(),
        };
        self.send(method, &url, body, None)
    }

    fn send(
        &mut self,
        method: &str,
        url: &str,
        body: Option<&Value>,
        progress: Option<Progress>,
    ) -> Result<Reply, RestError> {
        let config = &self.config;
        let answer = self.rest.get_or_insert_with(|| Rest::new(config)).call(method, url, body);
        match progress {
            Some(progress) => self.runtime.block_on(progress.during(answer)),
            None => self.runtime.block_on(answer),
        }
    }

    /// A request whose answer may take long; a terminal is told meanwhile that `what` is waited for.
    ///
    /// # Errors
    /// The member does not answer.
    pub fn call_slow(
        &mut self,
        member: &Member,
        endpoint: &str,
        body: &Value,
        what: String,
    ) -> Result<Reply, RestError> {
        self.send("POST", &member.endpoint_url(endpoint), Some(body), Some(Progress::of(what)))
    }

    /// The body of a `GET` of a member, in one attempt within that time.
    ///
    /// # Errors
    /// There is none, or it is no answer to a `GET` that succeeded.
    pub fn ask(&mut self, member: &Member, endpoint: &str, limit: Duration) -> Result<String, String> {
        let url = member.endpoint_url(endpoint);
        let config = &self.config;
        let rest = self.rest.get_or_insert_with(|| Rest::new(config));
        self.runtime.block_on(rest.get_once(&url, limit))
    }

    /// A request whose failure ends the program, as in the reference.
    ///
    /// # Errors
    /// The member does not answer.
    pub fn call_or_crash(
        &mut self,
        member: &Member,
        method: &str,
        endpoint: &str,
        body: Option<&Value>,
    ) -> Result<Reply, CliError> {
        self.call(member, method, Some(endpoint), body).map_err(|e| CliError::Crash(e.traceback_line()))
    }
}

/// The section counts only with a database and a number for the group.
fn is_citus(config: &Value) -> bool {
    let group = config.at(&["citus", "group"]);
    let number = group.is_some_and(|g| pyfmt::int::parse_i64(&g.py_str()).is_some());
    number && config.at(&["citus", "database"]).is_some_and(|d| d.as_str().is_some())
}

fn citus_section(group: i64) -> Value {
    [("group", Value::Int(group)), ("database", "postgres".into())].into_iter().collect()
}
