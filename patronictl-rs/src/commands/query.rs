//! `query` (surface-api-ctl K3 to K8).

use patroni_postgres::sql::SimpleClient;
use pyfmt::{Map, Value};

use super::select::{any_member, Role};
use super::watch;
use crate::click::prompt::{Console, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::{render, Format, Rows};
use crate::sql::connect::{self, Answer, Login, Reply};
use crate::sql::object::Object;
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
        let answer = context.runtime().block_on(target.query(view, &login, &sql))?;
        let Some(format) = format else { return Ok(()) };
        let text = match answer {
            Ok(answer) => shown(&answer, format, delimiter)?,
            Err(message) => render(&message_row(&message), format, delimiter)?,
        };
        crate::out::print(&text);
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
        let mut client = match connect::connect(member, login).await {
            Ok(client) => client,
            Err(text) => return Ok(Err(failed(text))),
        };
        match fits(&mut client, role).await? {
            Ok(true) => {}
            Ok(false) => return Ok(Err(self.unavailable())),
            Err(text) => return Ok(Err(failed(text))),
        }
        Ok(match connect::run(&mut client, sql).await? {
            Reply::Rows(answer) => Ok(answer),
            Reply::Error(text) => Err(failed(text)),
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
async fn fits(client: &mut SimpleClient, role: Option<Role>) -> Result<Result<bool, String>, CliError> {
    let Some(role) = role.filter(|r| !matches!(r, Role::Any | Role::Leader)) else {
        return Ok(Ok(true));
    };
    let answer = match connect::run(client, "SELECT pg_catalog.pg_is_in_recovery()").await? {
        Reply::Rows(answer) => answer,
        Reply::Error(text) => return Ok(Err(text)),
    };
    let first = answer.rows.into_iter().next().and_then(|row| row.into_iter().next());
    let in_recovery = first.is_none_or(|v| v.truthy());
    Ok(Ok(in_recovery == (role != Role::Primary)))
}

fn message_row(message: &str) -> Rows {
    let row = vec![Value::from(crate::clock::seconds()), Value::from(message)];
    Rows { columns: None, rows: vec![row], ..Rows::default() }
}

/// The rows in a format.
///
/// # Errors
/// The first value that the format cannot hold ends the program, as in the reference.
fn shown(answer: &Answer, format: Format, delimiter: &str) -> Result<String, CliError> {
    let columns = Some(answer.columns.clone());
    match format {
        Format::Json => documents(answer, Object::json, false).map(|all| crate::output::json_text(&all)),
        Format::Yaml => documents(answer, Object::yaml, true).map(|all| crate::output::yaml_text(&all)),
        _ => {
            let texts = |row: &Vec<Object>| row.iter().map(|cell| Value::from(cell.text())).collect();
            let rows = answer.rows.iter().map(texts).collect();
            render(&Rows { columns, rows, ..Rows::default() }, format, delimiter)
        }
    }
}

/// A mapping for each row; of columns with the same name the last one counts. `sorted` is the order in which they
/// are written, and so in which the first error is found.
fn documents(
    answer: &Answer,
    convert: impl Fn(&Object) -> Result<Value, CliError>,
    sorted: bool,
) -> Result<Value, CliError> {
    let document = |row: &Vec<Object>| {
        let mut cells: Vec<(&String, &Object)> = Vec::new();
        for (name, object) in answer.columns.iter().zip(row) {
            match cells.iter_mut().find(|(known, _)| *known == name) {
                Some(cell) => cell.1 = object,
                None => cells.push((name, object)),
            }
        }
        if sorted {
            cells.sort_by_key(|(name, _)| *name);
        }
        let mut map = Map::new();
        for (name, object) in cells {
            map.insert(Value::from(name.as_str()), convert(object)?);
        }
        Ok(Value::Map(map))
    };
    answer.rows.iter().map(document).collect::<Result<_, CliError>>().map(Value::List)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_value_that_cannot_be_written_is_told() {
        let object = |class| Object::called(class, "1".into());
        let columns = ["b", "a"].map(str::to_owned).to_vec();
        let answer = Answer { columns, rows: vec![vec![object("UUID"), object("Decimal")]] };
        let text = |format| format!("{:?}", shown(&answer, format, "|").unwrap_err());
        assert!(text(Format::Json).contains("Object of type UUID"));
        assert!(text(Format::Yaml).contains("Decimal('1')"));
        assert_eq!(shown(&answer, Format::Tsv, "|").unwrap(), "b|a\n1|1\n");
    }
}
