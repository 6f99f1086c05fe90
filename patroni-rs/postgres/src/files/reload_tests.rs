use super::*;

fn params(pairs: &[(&str, &str)]) -> Params {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
}

fn row(name: &str, setting: &str, unit: Option<&str>, vartype: &str, context: &str) -> PgSetting {
    PgSetting {
        name: name.to_owned(),
        setting: Some(setting.to_owned()),
        unit: unit.map(str::to_owned),
        vartype: vartype.to_owned(),
        context: context.to_owned(),
        sourcefile: None,
    }
}

fn server() -> Vec<PgSetting> {
    vec![
        row("max_connections", "100", None, "integer", "postmaster"),
        row("work_mem", "4096", Some("kB"), "integer", "user"),
        row("shared_buffers", "16384", Some("8kB"), "integer", "postmaster"),
        row("wal_buffers", "512", Some("8kB"), "integer", "postmaster"),
        row("wal_segment_size", "16777216", Some("B"), "integer", "internal"),
        row("wal_block_size", "8192", None, "integer", "internal"),
        row("port", "5432", None, "integer", "postmaster"),
        row("log_statement", "none", None, "enum", "superuser"),
    ]
}

fn lines(old: &[(&str, &str)], new: &[(&str, &str)]) -> (Vec<String>, Comparison) {
    let (old, new) = (params(old), params(new));
    let changes = Changes::new(&old, &new);
    let names = changes.names();
    let rows: Vec<_> = server().into_iter().filter(|r| names.contains(&r.name)).collect();
    let found = compare(changes, &old, &new, &rows, false);
    let text = |line: &LogLine| match line {
        LogLine::Info(t) => t.clone(),
        LogLine::Warning(t) => format!("WARNING {t}"),
    };
    (found.log.iter().map(text).collect(), found)
}

#[test]
fn changes_are_logged_in_the_references_words() {
    let none: Vec<String> = vec![];
    for (old, new, expected) in [
        (&[][..], &[("work_mem", "4MB"), ("max_connections", "100")][..], none.clone()),
        (&[], &[("work_mem", "8MB")], vec!["Changed work_mem from '4MB' to '8MB'".to_owned()]),
        (
            &[],
            &[("max_connections", "50")],
            vec!["Changed max_connections from '100' to '50' (restart might be required)".to_owned()],
        ),
        (&[("log_statement", "none")], &[], vec!["Changed log_statement from 'none' to 'None'".to_owned()]),
        // Set back before the restart.
        (
            &[("max_connections", "50")],
            &[("max_connections", "100")],
            vec!["Changed max_connections from '50' to '100'".to_owned()],
        ),
        (&[], &[("my.guc", "1")], vec!["Changed my.guc from 'None' to '1'".to_owned()]),
        (&[("my.guc", "1")], &[("my.guc", "1")], none.clone()),
        (&[("my.guc", "1")], &[], vec!["Changed my.guc from '1' to 'None'".to_owned()]),
        (
            &[],
            &[("nonsense", "1"), ("wal_segment_size", "1")],
            vec![
                "WARNING Removing invalid parameter `nonsense` from postgresql.parameters".to_owned(),
                "WARNING Removing invalid parameter `wal_segment_size` from postgresql.parameters".to_owned(),
            ],
        ),
        (&[("hot_standby", "on")], &[("restore_command", "x")], none.clone()),
        // The default of wal_buffers: 1/32 of shared_buffers.
        (&[], &[("wal_buffers", "-1")], none.clone()),
        (&[], &[("wal_buffers", "4MB")], none),
        (
            &[],
            &[("wal_buffers", "8MB")],
            vec!["Changed wal_buffers from '4MB' to '8MB' (restart might be required)".to_owned()],
        ),
    ] {
        assert_eq!(lines(old, new).0, expected, "{old:?} {new:?}");
    }
}

#[test]
fn a_new_port_keeps_the_old_address_until_the_restart() {
    let found = lines(&[], &[("port", "5433")]).1;
    assert!(found.local_address_changed && found.conf_changed);
    assert_eq!(found.pending.to_value().py_repr(), "{'port': {'old_value': '5432', 'new_value': '5433'}}");
}

#[test]
fn changes_behind_our_back_are_told() {
    let expected = lines(&[], &[("max_connections", "50")]).1.pending;
    let pending = |name: &str, current: &str, new: Option<&str>, unit: Option<&str>| PendingSetting {
        name: name.to_owned(),
        current: Some(current.to_owned()),
        unit: unit.map(str::to_owned),
        vartype: "integer".to_owned(),
        new_value: new.map(str::to_owned),
    };
    let ours = pending("max_connections", "100", Some("50"), None);
    let (reasons, line) = pending_restart(&expected, std::slice::from_ref(&ours));
    assert_eq!((&reasons, line), (&expected, None));
    let (reasons, line) =
        pending_restart(&expected, &[ours, pending("shared_buffers", "128MB", None, Some("8kB"))]);
    assert_eq!(
        reasons.to_value().get("shared_buffers").map(Value::py_repr),
        Some("{'old_value': '128MB', 'new_value': '?'}".to_owned())
    );
    let text = "PostgreSQL configuration parameters requiring restart (shared_buffers) seem to be changed bypassing \
                Patroni config. Setting 'Pending restart' flag";
    assert_eq!(line, Some(LogLine::Info(text.to_owned())));
}

#[test]
fn what_would_stay_the_same_does_not_wait() {
    let row = |name: &str, current: &str, new: &str| PendingSetting {
        name: name.into(),
        current: Some(current.into()),
        unit: (name == "shared_buffers").then(|| "8kB".into()),
        vartype: "integer".into(),
        new_value: Some(new.into()),
    };
    let rows = [
        row("max_connections", "100", "100"),
        row("shared_buffers", "128MB", "16384"),
        row("max_files_per_process", "1000", "900"),
    ];
    let (pending, line) = pending_restart(&PendingRestart::default(), &rows);
    assert_eq!(pending.0.keys().collect::<Vec<_>>(), ["max_files_per_process"]);
    assert!(matches!(line, Some(LogLine::Info(text)) if text.contains("(max_files_per_process)")));
}
