//! `query` (surface-api-ctl K3 to K8).

use patroni_postgres::sql::Session;
use pyfmt::Value;

use super::select::{any_member, Role};
use super::watch;
use crate::click::prompt::{Console, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::{render, Format, Rows};
use crate::sql::connect::{self, Answer, Login};
use crate::sql::values::opaque_class;
use crate::store::View;

/// Runs `query`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let sql = statement(values)?;
    let login = Login {
        username: values.text("username").filter(|u| !u.is_empty()).map(str::to_owned),
        password: values.flag("password").then(|| Stdio.ask_secret("Password")).transpose()?,
        dbname: values.text("dbname").filter(|d| !d.is_empty()).map(str::to_owned),
    };
    let group = values.int("group");
    let store = context.store_of(values, group)?;
    let target = Target {
        role: values.text("role"),
        member: values.text("member"),
        all_groups: context.is_citus() && group.is_none(),
    };
    let format = Format::parse(values.text("format").unwrap_or("tsv"));
    let delimiter = values.text("delimiter").unwrap_or("\t");
    let mut view: Option<View> = None;
    watch::run(watch::period(values), false, || {
        let view = match &mut view {
            Some(view) => view,
            none => none.insert(store.view()?),
        };
        let rows = match context.runtime().block_on(target.query(view, &login, &sql))? {
            Ok(answer) => shown(answer, format)?,
            Err(message) => message_row(&message),
        };
        if let Some(format) = format {
            crate::out::print(&render(&rows, format, delimiter)?);
        }
        Ok(())
    })
}

fn statement(values: &Values) -> Result<String, CliError> {
    match (values.bytes("file"), values.text("command")) {
        (Some(_), Some(_)) => Err(CliError::msg("--file and --command are mutually exclusive options")),
        (None, None) => Err(CliError::msg("You need to specify either --command or --file")),
        (None, Some(sql)) => Ok(sql.to_owned()),
        (Some(bytes), None) => {
            String::from_utf8(bytes.to_vec()).map_err(|e| CliError::Crash(format!("UnicodeDecodeError: {e}")))
        }
    }
}

/// Where the statement runs.
struct Target<'a> {
    role: Option<&'a str>,
    member: Option<&'a str>,
    all_groups: bool,
}

impl Target<'_> {
    /// The rows, or the text of the row that tells why there are none.
    async fn query(&self, view: &View, login: &Login, sql: &str) -> Result<Result<Answer, String>, CliError> {
        let role = self.role.map(Role::parse);
        let Some(member) = any_member(view, self.all_groups, role, self.member)? else {
            return Ok(Err(self.unavailable()));
        };
        let failed = |text: String| format!("ERROR, SQLSTATE: {}", text.replace('\n', " "));
        let client = match connect::connect(member, login).await {
            Ok(client) => client,
            Err(text) => return Ok(Err(failed(text))),
        };
        match fits(&client, role).await {
            Ok(true) => {}
            Ok(false) => return Ok(Err(self.unavailable())),
            Err(text) => return Ok(Err(failed(text))),
        }
        Ok(match connect::run(&client, sql).await {
            Ok(answer) => Ok(answer),
            Err(text) => Err(failed(text)),
        })
    }

    fn unavailable(&self) -> String {
        match (self.member, self.role) {
            (Some(member), _) => format!("No connection to member {member} is available"),
            (None, Some(role)) => format!("No connection to role '{role}' is available"),
            (None, None) => "No connection is available".to_owned(),
        }
    }
}

/// Is the server what the role says? The leader is, by the DCS.
async fn fits(client: &Session, role: Option<Role>) -> Result<bool, String> {
    let Some(role) = role.filter(|r| !matches!(r, Role::Any | Role::Leader)) else {
        return Ok(true);
    };
    let answer = connect::run(client, "SELECT pg_catalog.pg_is_in_recovery()").await?;
    let first = answer.rows.into_iter().next().and_then(|row| row.into_iter().next());
    let in_recovery = first.is_none_or(|v| v.truthy());
    Ok(in_recovery == (role != Role::Primary))
}

fn message_row(message: &str) -> Rows {
    let row = vec![Value::from(crate::clock::seconds()), Value::from(message)];
    Rows { columns: None, rows: vec![row], ..Rows::default() }
}

/// Values that the format cannot hold end the program, as in the reference.
fn shown(answer: Answer, format: Option<Format>) -> Result<Rows, CliError> {
    for (index, kind) in answer.kinds.iter().enumerate() {
        let value = answer.rows.iter().filter_map(|row| row.get(index)).find(|v| !v.is_null());
        let (Some(class), Some(value)) = (opaque_class(kind), value) else { continue };
        match format {
            Some(Format::Json) => {
                return Err(CliError::Crash(format!(
                    "TypeError: Object of type {class} is not JSON serializable"
                )))
            }
            Some(Format::Yaml) => {
                return Err(CliError::Crash(format!(
                    "yaml.representer.RepresenterError: ('cannot represent an object', {class}('{value}'))"
                )))
            }
            _ => {}
        }
    }
    Ok(Rows { columns: Some(answer.columns), rows: answer.rows, ..Rows::default() })
}
