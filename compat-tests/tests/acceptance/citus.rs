//! The sentences about clusters of Citus, on PostgreSQL with a stand-in for the extension (fixtures/citus).

use std::time::Duration;

use compat_tests::lab::cluster::BRING_UP;
use compat_tests::lab::wait::ensure;
use compat_tests::lab::writer::{Statement, Writer};
use compat_tests::lab::{config, host, wait_until, Cluster, Member, Result};

use super::state::{named, yaml, Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"a Citus cluster of the members", cluster),
    (r"(\w+) joins group (\d+) as (ours|reference)", join),
    (r"(\w+) leads its group within (\d+) s", leads),
    (r#"the nodes on (\w+) are "(.+)" within (\d+) s"#, nodes_are),
    (r#"the nodes on (\w+) stay "(.+)" for (\d+) s"#, nodes_stay),
    (r"a writer to group (\d+) through (.+)", writer),
    (r"that writer is stopped after (\d+) more rows", stop_writer),
    (r"no acknowledged row is missing on (\w+)", none_missing),
    (r"none of the writer's statements failed", none_failed),
    (r#"SQL of Citus' database "(.+)" gives "(.*)" on (\w+) within (\d+) s"#, sql_gives),
    (r"the statements about nodes on (\w+) are within (\d+) s", statements),
    (r"(\w+) is told as worker (\w+) of group (\d+): (\w+) for (\d+) s", told),
];

/// Not the one that Patroni connects to: it has to be made.
const DATABASE: &str = "dist";
/// Before what the server's log has of the daemon's connection.
const MARK: &str = "[Patroni citus] ";

/// Adds all members, each with its group and kind, and starts them one after the other. The first of a group leads it.
fn cluster(state: &mut State, call: &Call) -> Result<()> {
    state.options.programs = Some(host::citus_bin());
    let mut leaders: Vec<(String, String)> = Vec::new();
    for row in &call.table {
        let [name, group, kind] = &row[..] else { return Err("name, group, kind".into()) };
        add(state, name, group, kind)?;
        let lab = state.lab()?;
        lab.member_mut(name)?.start()?;
        match leaders.iter().find(|(of, _)| of == group) {
            Some((_, leader)) => lab.wait_follows(name, leader, BRING_UP)?,
            None => {
                wait_leads(lab, name, BRING_UP)?;
                leaders.push((group.clone(), name.clone()));
            }
        }
    }
    Ok(())
}

fn add(state: &mut State, name: &str, group: &str, kind: &str) -> Result<()> {
    // The log tells who sent a statement; nothing depends on when a cycle of ten seconds would come.
    let over = yaml(&format!(
        "citus: {{database: {DATABASE}, group: {group}}}
postgresql:
  parameters:
    log_statement: all
    log_line_prefix: '[%a] '
    logging_collector: 'off'
    log_min_messages: warning"
    ))?;
    let member = state.lab()?.add(name, named(kind)?)?;
    // The names of data files are those of the member, whatever its group.
    config::merge(&mut member.config, &over);
    let own = state.options.overrides.clone();
    state.lab()?.member_mut(name)?.configure(&own)
}

fn join(state: &mut State, call: &Call) -> Result<()> {
    add(state, call.arg(0), call.arg(1), call.arg(2))?;
    state.lab()?.member_mut(call.arg(0))?.start()
}

/// It answers as the primary, and takes writes.
fn wait_leads(lab: &Cluster, name: &str, within: Duration) -> Result<()> {
    lab.wait_status(name, "/primary", 200, within)?;
    let member = lab.member(name)?;
    wait_until(&format!("{name} takes writes"), within, || {
        let recovery = member.sql("SELECT pg_is_in_recovery()")?;
        ensure(recovery == "f", || "it is in recovery".into())
    })
}

fn leads(state: &mut State, call: &Call) -> Result<()> {
    wait_leads(state.cluster()?, call.arg(0), call.seconds(1))
}

/// The addresses in a text as the names of those who have them.
fn with_names(lab: &Cluster, text: &str) -> String {
    lab.members.iter().fold(text.to_owned(), |text, member| {
        let port = member.postgres;
        text.replace(&format!("127.0.0.1 {port}"), &member.name)
            .replace(&format!("127.0.0.1-demoted {port}"), &format!("{}-demoted", member.name))
            .replace(&format!("'127.0.0.1', {port}"), &member.name)
            .replace(&format!("'127.0.0.1-demoted', {port}"), &format!("{}-demoted", member.name))
    })
}

/// `0 primary node0, 1 secondary node3`, sorted.
fn nodes(lab: &Cluster, member: &Member) -> Result<String> {
    let rows = member.sql_in(
        DATABASE,
        "SELECT groupid || ' ' || noderole || ' ' || nodename || ' ' || nodeport FROM pg_catalog.pg_dist_node",
    )?;
    let mut rows: Vec<String> = rows.lines().map(|row| with_names(lab, row)).collect();
    rows.sort();
    Ok(rows.join(", "))
}

fn nodes_are(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let member = lab.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || {
        let found = nodes(lab, member)?;
        ensure(found == call.arg(1), || found.clone())
    })
}

fn nodes_stay(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let member = lab.member(call.arg(0))?;
    let until = std::time::Instant::now() + call.seconds(2);
    while std::time::Instant::now() < until {
        let found = nodes(lab, member)?;
        ensure(found == call.arg(1), || found.clone())?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Writes to the leader of a group by way of whichever of these takes writes, as an application of Citus does.
fn writer(state: &mut State, call: &Call) -> Result<()> {
    let (group, names) = (call.arg(0), call.arg(1));
    let names: Vec<&str> = names.split(" or ").collect();
    let lab = state.cluster()?;
    let first = lab.member(names.first().ok_or("nobody")?)?;
    let make = format!("SELECT citus_standin_write({group}, 'CREATE TABLE journal (n bigint PRIMARY KEY)')");
    first.sql_in(DATABASE, &make)?;
    let sql =
        format!("SELECT {{n}} FROM citus_standin_write({group}, 'INSERT INTO journal VALUES ({{n}})');");
    let statement = Statement { database: DATABASE.into(), sql, patience: Duration::from_secs(60) };
    state.writer = Some(Writer::start_with(lab, &names, statement)?);
    Ok(())
}

fn stop_writer(state: &mut State, call: &Call) -> Result<()> {
    let mut writer = state.writer.take().ok_or("no writer")?;
    writer.wait_rows(call.arg(0).parse()?, Duration::from_secs(30))?;
    state.record = writer.finish();
    Ok(())
}

fn none_missing(state: &mut State, call: &Call) -> Result<()> {
    let text = state.cluster()?.member(call.arg(0))?.sql_in(DATABASE, "SELECT n FROM journal")?;
    let there: std::collections::HashSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let missing = state.record.acknowledged.iter().filter(|n| !there.contains(n)).count();
    ensure(missing == 0, || format!("{missing} of {} rows", state.record.acknowledged.len()))
}

fn none_failed(state: &mut State, _: &Call) -> Result<()> {
    ensure(state.record.failed == 0, || format!("{} of them", state.record.failed))
}

fn sql_gives(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(2))?;
    wait_until(&call.text, call.seconds(3), || {
        let found = member.sql_in(DATABASE, call.arg(0))?;
        ensure(found == call.arg(1), || found.clone())
    })
}

/// What the daemon's connection for Citus has sent, as the server's log has it, but for what it reads. Each block of lines
/// has to be there as it stands, after the one before. Numbers of rows after the second, which those of standbys get in
/// whatever order they come and go, are `s`.
fn statements(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let member = lab.member(call.arg(0))?;
    let wanted: Vec<Vec<&str>> = call
        .doc
        .split("\n\n")
        .map(|block| block.lines().map(str::trim).filter(|line| !line.is_empty()).collect())
        .collect();
    let row = regex::Regex::new(r"citus_update_node\((?:[3-9]|[1-9]\d+),")?;
    wait_until("the statements", call.seconds(1), || {
        let found: Vec<String> = sent(&member.log_text())
            .iter()
            .filter(|sql| !sql.contains("FROM pg_catalog.pg_dist_node"))
            .map(|sql| with_names(lab, &sql.replace("SELECT pg_catalog.", "")))
            .map(|sql| row.replace(&sql, "citus_update_node(s,").into_owned())
            .collect();
        let mut rest = &found[..];
        for block in &wanted {
            let at = rest.windows(block.len()).position(|window| window == block);
            let at = at.ok_or_else(|| format!("no {block:?} in\n{}", found.join("\n")))?;
            rest = rest.get(at + block.len()..).unwrap_or_default();
        }
        Ok(())
    })
}

/// The statements in a log, by either protocol: in the extended one, which psycopg 3 speaks, values come in a line of their
/// own, all in quotes.
fn sent(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines().filter_map(|line| line.split_once(MARK).map(|(_, rest)| rest)) {
        if let Some(sql) = line.strip_prefix("LOG:  statement: ") {
            found.push(sql.into());
        } else if let Some((_, sql)) = line.strip_prefix("LOG:  execute ").and_then(|l| l.split_once(": ")) {
            found.push(sql.into());
        } else if let (Some(values), Some(sql)) =
            (line.strip_prefix("DETAIL:  parameters: "), found.last_mut())
        {
            for (name, value) in values.split(", $").filter_map(|pair| pair.split_once(" = ")) {
                let number = value.trim_matches('\'');
                let digits = number.bytes().all(|b| b.is_ascii_digit());
                let name = format!("${}", name.trim_start_matches('$'));
                *sql = sql.replace(&name, if digits { number } else { value });
            }
        }
    }
    found
}

/// `POST /citus`, as the leader of a worker sends it; nobody waits for the answer.
fn told(state: &mut State, call: &Call) -> Result<()> {
    let [member, leader, group, kind, seconds] = [0, 1, 2, 3, 4].map(|index| call.arg(index));
    let body = format!(
        r#"{{"type":"{kind}","group":{group},"leader":"{leader}","timeout":{seconds},"cooldown":10}}"#
    );
    let answer = state.cluster()?.member(member)?.call("POST", "/citus", Some(&body))?;
    ensure(answer.status == 200, || format!("{} {}", answer.status, answer.body))
}
