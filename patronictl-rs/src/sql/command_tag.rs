//! The command tag of a statement, which the driver does not give us.

/// What a statement without rows came to, in the words of the reference's
/// driver: `command status: CREATE TABLE`.
pub fn outcome(sql: &str, rows: u64) -> String {
    match tag(sql, rows) {
        Some(tag) => format!("command status: {tag}"),
        None => "result status: EMPTY_QUERY".to_owned(),
    }
}

/// Does the text start with COPY?
pub fn is_copy(sql: &str) -> bool {
    words(sql).first().is_some_and(|w| w == "COPY")
}

fn words(sql: &str) -> Vec<String> {
    let plain = sql.split_inclusive('\n').map(|line| line.split("--").next().unwrap_or_default());
    let plain: String = plain.collect::<Vec<_>>().join(" ");
    let first = plain.trim_start_matches([';', ' ', '\n', '\t']).split(';').next().unwrap_or_default();
    first.split_whitespace().take(8).map(str::to_uppercase).collect()
}

/// PostgreSQL's tags (src/include/tcop/cmdtaglist.h), from the first words.
fn tag(sql: &str, rows: u64) -> Option<String> {
    let words = words(sql);
    let first = words.first()?.as_str();
    Some(match first {
        "INSERT" => format!("INSERT 0 {rows}"),
        "UPDATE" | "DELETE" | "MERGE" | "COPY" | "MOVE" | "FETCH" | "SELECT" => format!("{first} {rows}"),
        "CREATE" | "DROP" | "ALTER" => format!("{first} {}", object(&words)),
        "START" => "START TRANSACTION".into(),
        "END" => "COMMIT".into(),
        "ABORT" => "ROLLBACK".into(),
        "TRUNCATE" | "LOCK" => format!("{first} TABLE"),
        "REFRESH" => "REFRESH MATERIALIZED VIEW".into(),
        "DISCARD" => format!("DISCARD {}", words.get(1).map_or("ALL", String::as_str)),
        other => other.to_owned(),
    })
}

/// The kind of object behind CREATE, DROP or ALTER.
fn object(words: &[String]) -> String {
    const MODIFIERS: [&str; 9] =
        ["OR", "REPLACE", "TEMP", "TEMPORARY", "UNLOGGED", "GLOBAL", "LOCAL", "UNIQUE", "TRUSTED"];
    let mut kind = words.iter().skip(1).map(String::as_str).skip_while(|w| MODIFIERS.contains(w));
    let first = kind.next().unwrap_or_default();
    let two = matches!(first, "MATERIALIZED" | "EVENT" | "FOREIGN" | "ACCESS" | "OPERATOR");
    match kind.next().filter(|_| two) {
        Some(second) => format!("{first} {second}"),
        None => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        for (sql, shown) in [
            ("create temp table t(a int)", "command status: CREATE TABLE"),
            ("-- x\n drop materialized view v;", "command status: DROP MATERIALIZED VIEW"),
            ("insert into t values (1)", "command status: INSERT 0 3"),
            ("delete from t", "command status: DELETE 3"),
            ("begin;select 1", "command status: BEGIN"),
            (" ; ", "result status: EMPTY_QUERY"),
        ] {
            assert_eq!(outcome(sql, 3), shown);
        }
    }
}
