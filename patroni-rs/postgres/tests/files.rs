//! Takes the steps of fixtures/pgfiles/cases.json and compares results, log
//! and files with what the reference wrote (fixtures/pgfiles/record.py).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use patroni_core::controlled::Controlled;
use patroni_core::PgVersion;
use patroni_postgres::files::{
    command_line, format_dsn, AvailableGucs, ConfigHandler, PendingRestart, PendingSetting, PgSetting,
    ServerState, SettingsRead, Upstream, Verdict, WalReceiver,
};
use pyfmt::Value;
use support::{captured_log, differences, files_of, fixtures, read_json, substitute};

fn merged(base: &Value, over: Option<&Value>) -> Value {
    let mut out = base.clone();
    for (k, v) in over.and_then(Value::as_map).into_iter().flatten() {
        out.set(k.as_str().unwrap(), v.clone());
    }
    out
}

/// Adds the defaults of the controlled parameters, as the effective
/// configuration has them.
fn effective(config: &Value) -> Value {
    let mut parameters = Value::map();
    for (name, value) in Controlled::defaults() {
        parameters.set(name, value);
    }
    let mut out = config.clone();
    out.set("parameters", merged(&parameters, config.get("parameters")));
    out
}

fn flag(facts: &Value, name: &str) -> bool {
    facts.get(name).is_some_and(Value::truthy)
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn optional(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).map(str::to_owned)
}

fn cells(value: Option<&Value>) -> Vec<Vec<Value>> {
    let rows = value.and_then(Value::as_list).unwrap_or_default();
    rows.iter().map(|r| r.as_list().unwrap().to_vec()).collect()
}

fn settings(value: Option<&Value>, names: Option<&[String]>) -> Vec<PgSetting> {
    let setting = |r: Vec<Value>| PgSetting {
        name: r[0].py_str(),
        setting: optional(r.get(1)),
        unit: optional(r.get(2)),
        vartype: r[3].py_str(),
        context: r[4].py_str(),
        sourcefile: optional(r.get(5)),
    };
    let rows = cells(value).into_iter().map(setting);
    rows.filter(|r| names.is_none_or(|names| names.contains(&r.name))).collect()
}

fn pending_settings(value: Option<&Value>) -> Vec<PendingSetting> {
    let pending = |r: Vec<Value>| PendingSetting {
        name: r[0].py_str(),
        current: optional(r.get(1)),
        unit: optional(r.get(2)),
        vartype: r[3].py_str(),
        new_value: optional(r.get(4)),
    };
    cells(value).into_iter().map(pending).collect()
}

struct Run {
    directory: PathBuf,
    config: Value,
    facts: Value,
    version: PgVersion,
    available: AvailableGucs,
    handler: ConfigHandler,
}

fn facts_of<'a>(facts: &Value, version: PgVersion, available: &'a AvailableGucs) -> ServerState<'a> {
    ServerState {
        running: flag(facts, "running"),
        starting: flag(facts, "starting"),
        primary: flag(facts, "primary"),
        promoted: flag(facts, "promoted"),
        custom_bootstrap: flag(facts, "custom_bootstrap"),
        keep_existing_recovery_conf: flag(facts, "keep_existing_recovery_conf"),
        hot_standby_feedback: flag(facts, "hot_standby_feedback"),
        callbacks_called: flag(facts, "callbacks_called"),
        use_slots: flag(facts, "use_slots"),
        synchronous_mode: flag(facts, "synchronous_mode"),
        synchronous_mode_strict: flag(facts, "synchronous_mode_strict"),
        version,
        available: Some(available),
    }
}

impl Run {
    fn take(&mut self, step: &Value) -> Value {
        let available = self.available.clone();
        let facts = facts_of(&self.facts, self.version, &available);
        let member = step.get("member").filter(|m| m.truthy());
        let name = member.map(|m| text(m, "name")).unwrap_or_default();
        let upstream =
            member.map(|m| Upstream { name: &name, data: m.get("data").unwrap(), remote: flag(m, "remote") });
        let handler = &mut self.handler;
        match text(step, "op").as_str() {
            "facts" => self.facts = merged(&self.facts, step.get("facts")),
            "put" => {
                let path = self.directory.join(text(step, "file"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, text(step, "content")).unwrap();
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            }
            "delete" => std::fs::remove_file(self.directory.join(text(step, "file"))).unwrap(),
            "conf" => handler.write_postgresql_conf(None, &facts).unwrap(),
            "start" => {
                let control = |label: &str| optional(step.at(&["controldata", label]));
                let (params, pending) = handler.effective_configuration(control, &facts);
                handler.write_postgresql_conf(Some(&params), &facts).unwrap();
                handler.resolve_connection_addresses();
                let options: Vec<Value> = command_line(&params).into_iter().map(Value::from).collect();
                return pair("options", options.into(), pending);
            }
            "hba" => return handler.replace_pg_hba(&facts).unwrap().into(),
            "ident" => return handler.replace_pg_ident().unwrap().into(),
            "append_hba" => {
                let lines: Vec<String> =
                    step.get("lines").unwrap().as_list().unwrap().iter().map(Value::py_str).collect();
                handler.append_pg_hba(&lines).unwrap();
            }
            "follow" => {
                let params = handler.build_recovery_params(upstream, &facts);
                handler.write_recovery_conf(params, &facts).unwrap();
            }
            "recovery" => {
                let params = patroni_postgres::files::Params::from_value(step.get("params"));
                handler.write_recovery_conf(params, &facts).unwrap();
            }
            "remove_recovery" => handler.remove_recovery_conf().unwrap(),
            "save" => handler.save_configuration_files(false, &facts),
            "restore" => handler.restore_configuration_files(),
            "pgpass" => {
                let path = handler.write_pgpass(step.get("record").unwrap()).unwrap();
                return path.map(|p| p.to_string_lossy().into_owned()).into();
            }
            "dsn" => return format_dsn(step.get("params").unwrap(), handler.major_version()).into(),
            "ssn" => {
                let value = optional(step.get("value"));
                return handler.set_synchronous_standby_names(value.as_deref(), &facts).unwrap().into();
            }
            "load" => {
                let rows =
                    cells(step.get("rows")).into_iter().map(|r| (r[0].py_str(), r[1].py_str())).collect();
                handler.load_current_server_parameters(rows, facts.primary);
            }
            "check" => return self.check(step, upstream),
            "reload" => return self.reload(step),
            "directories" => return handler.check_directories(false).err().map(|e| e.to_string()).into(),
            other => panic!("{other}"),
        }
        Value::Null
    }

    fn check(&mut self, step: &Value, upstream: Option<Upstream<'_>>) -> Value {
        let facts = facts_of(&self.facts, self.version, &self.available);
        let wanted = self.handler.recovery_settings_to_read(Some(1.5), &facts);
        let read = match wanted {
            Some(names) => SettingsRead::Rows(settings(step.get("rows"), Some(&names))),
            None => SettingsRead::NotRead,
        };
        let receiver = WalReceiver {
            conninfo: optional(step.at(&["receiver", "conninfo"])),
            slot_name: optional(step.at(&["receiver", "slot_name"])),
        };
        let Verdict { change, restart } =
            self.handler.check_recovery_conf(upstream, read, Some(1.5), &receiver, &facts);
        Value::List(vec![change.into(), restart.into()])
    }

    fn reload(&mut self, step: &Value) -> Value {
        let facts = facts_of(&self.facts, self.version, &self.available);
        let config = effective(&merged(&self.config, step.get("config")));
        let prepared = self.handler.prepare_reload(config, &facts).unwrap();
        let rows = settings(step.get("rows"), Some(&prepared.names()));
        let sighup = flag(step, "sighup");
        let outcome = self.handler.apply_reload(prepared, &rows, sighup, &facts).unwrap();
        let pending = outcome.pending_restart.map(|expected| match outcome.reload {
            true => ConfigHandler::pending_after_reload(&expected, &pending_settings(step.get("pending"))),
            false => expected,
        });
        pair("reload", outcome.reload.into(), pending)
    }
}

fn pair(name: &str, value: Value, pending: Option<PendingRestart>) -> Value {
    let mut out = Value::map();
    out.set(name, value);
    out.set("pending", pending.map(|p| p.to_value()));
    out
}

fn run(case: &Value, base: &Value) -> Value {
    let tmp = tempfile::Builder::new().prefix("patroni-postgres-files-").tempdir().unwrap();
    let directory = tmp.path().to_str().unwrap().to_owned();
    let data = tmp.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mode = optional(case.get("data_mode")).map_or(0o700, |m| u32::from_str_radix(&m, 8).unwrap());
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(mode)).unwrap();

    let number = |name: &str| u32::try_from(case.get(name).unwrap().as_i64().unwrap()).unwrap();
    let (major, version) = (PgVersion::from_num(number("major")), PgVersion::from_num(number("version")));
    let names =
        std::fs::read_to_string(fixtures().join(format!("recorded/available-{}.txt", major.num() / 10000)));
    let available = AvailableGucs::from_describe_config(&names.unwrap_or_default());
    let config = substitute(&merged(base, case.get("config")), "$DIR", &directory);
    let facts = case.get("facts").unwrap().clone();
    let mut results = Vec::new();
    let (log, run) = captured_log(|| {
        let handler = {
            let facts = facts_of(&facts, version, &available);
            ConfigHandler::new(effective(&config), major, &facts).unwrap()
        };
        let mut run = Run { directory: tmp.path().to_owned(), config, facts, version, available, handler };
        for step in case.get("steps").unwrap().as_list().unwrap() {
            results.push(run.take(&substitute(step, "$DIR", &directory)));
        }
        run
    });
    let addresses = run.handler.addresses();
    let addresses: Value = [
        ("connection_string", Value::from(addresses.connection_string.as_str())),
        ("proxy_url", addresses.proxy_url.clone().into()),
        ("local", addresses.local.clone()),
        ("local_replication", addresses.local_replication.clone()),
    ]
    .into_iter()
    .collect();
    let out: Value = [
        ("results", Value::List(results)),
        ("addresses", addresses),
        ("log", log.into_iter().map(Value::from).collect::<Vec<_>>().into()),
        ("files", files_of(tmp.path())),
    ]
    .into_iter()
    .collect();
    substitute(&out, &directory, "$DIR")
}

/// One test after the other: what is told while nobody listens in one thread may not be heard in another
/// (tracing remembers for each place in the code whether anybody wants to hear it).
static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn files_are_those_of_the_reference() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let doc = read_json(&fixtures().join("cases.json"));
    let mut failures = Vec::new();
    for case in doc.get("cases").unwrap().as_list().unwrap() {
        let name = text(case, "name");
        let ours = run(case, doc.get("base").unwrap());
        let theirs = read_json(&fixtures().join(format!("recorded/{name}.json")));
        differences(&ours, &theirs, &name, &mut failures);
    }
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
}

/// A configuration that could not be written is not taken for the one in force: the file and its time are
/// the old ones, so the server is asked (a full disk; the reference writes in place and sees a new time).
#[test]
fn an_unwritten_configuration_is_not_believed() {
    let _one = ONE.lock().unwrap_or_else(|e| e.into_inner());
    let tmp = tempfile::Builder::new().prefix("patroni-postgres-files-").tempdir().unwrap();
    let directory = tmp.path().to_str().unwrap().to_owned();
    let data = tmp.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("postgresql.conf"), "# original\n").unwrap();
    let base = read_json(&fixtures().join("cases.json")).get("base").unwrap().clone();
    let mut config = substitute(&base, "$DIR", &directory);
    config.set("pgpass", format!("{directory}/no/such/directory/pgpass").as_str());
    let (facts, available) = (Value::map(), AvailableGucs::default());
    let facts = ServerState { callbacks_called: true, ..facts_of(&facts, PgVersion::V15, &available) };
    let mut handler = ConfigHandler::new(effective(&config), PgVersion::V15, &facts).unwrap();
    let member = pyfmt::json::loads(r#"{"conn_url":"postgres://10.0.0.2:5433/postgres"}"#).unwrap();
    let upstream = || Upstream { name: "b", data: &member, remote: false };
    let receiver = WalReceiver { conninfo: None, slot_name: None };
    let check = |handler: &mut ConfigHandler| {
        let read = match handler.recovery_settings_to_read(Some(1.5), &facts) {
            None => SettingsRead::NotRead,
            Some(names) => {
                let row = |name: String| PgSetting {
                    name,
                    setting: Some(String::new()),
                    unit: None,
                    vartype: "string".into(),
                    context: "sighup".into(),
                    sourcefile: None,
                };
                SettingsRead::Rows(names.into_iter().map(row).collect())
            }
        };
        handler.check_recovery_conf(Some(upstream()), read, Some(1.5), &receiver, &facts).change
    };
    let nobody = handler.build_recovery_params(None, &facts);
    handler.write_recovery_conf(nobody, &facts).unwrap();
    handler.write_postgresql_conf(None, &facts).unwrap();
    assert!(check(&mut handler), "it follows nobody");
    for _ in 0..2 {
        let wanted = handler.build_recovery_params(Some(upstream()), &facts);
        handler.write_recovery_conf(wanted, &facts).unwrap();
        assert!(handler.write_postgresql_conf(None, &facts).is_err());
        assert!(check(&mut handler), "it still follows nobody");
    }
}
