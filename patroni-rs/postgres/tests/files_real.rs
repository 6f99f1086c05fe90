//! Compares with the files and the command line of real reference clusters
//! (fixtures/pgfiles/record_real.py).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use patroni_core::PgVersion;
use patroni_postgres::files::{command_line, AvailableGucs, ConfigHandler, ServerState, Upstream};
use pyfmt::Value;
use support::{differences, files_of, fixtures, read_json, substitute};

/// What initdb wrote, before Patroni added to it.
fn before_append(content: &str, lines: &[String]) -> String {
    content.strip_suffix(&format!("\n{}\n", lines.join("\n"))).unwrap().to_owned()
}

fn generate(recorded: &Value, major: u32, primary: bool, directory: &Path) -> (Vec<Value>, Value) {
    let config = recorded.get("config").unwrap().clone();
    let data = std::path::PathBuf::from(config.get("data_dir").unwrap().py_str());
    std::fs::DirBuilder::new().mode(0o700).create(&data).unwrap();
    std::fs::write(data.join("postgresql.conf"), "").unwrap();
    let names = std::fs::read_to_string(fixtures().join(format!("recorded/available-{major}.txt"))).unwrap();
    let available = AvailableGucs::from_describe_config(&names);
    let version = PgVersion::from_num(major * 10_000 + 6);
    let facts = ServerState {
        primary,
        use_slots: true,
        version,
        available: Some(&available),
        ..ServerState::default()
    };
    let mut handler = ConfigHandler::new(config, version.major(), &facts).unwrap();
    if primary {
        let lines =
            ["host replication rep 127.0.0.1/32 md5", "host all all 127.0.0.1/32 md5"].map(str::to_owned);
        let recorded_text =
            |name: &str| recorded.at(&["files", name]).unwrap().as_list().unwrap()[1].py_str();
        std::fs::write(data.join("pg_hba.conf"), before_append(&recorded_text("a/pg_hba.conf"), &lines))
            .unwrap();
        patroni_postgres::files::write::write(
            &data.join("pg_ident.conf"),
            recorded_text("a/pg_ident.conf").as_bytes(),
            0o600,
            patroni_postgres::files::write::Links::Follow,
        )
        .unwrap();
        handler.append_pg_hba(&lines).unwrap();
    } else {
        let leader = recorded.get("leader").unwrap();
        let name = leader.get("name").unwrap().py_str();
        let upstream = Upstream { name: &name, data: leader.get("data").unwrap(), remote: false };
        let params = handler.build_recovery_params(Some(upstream), &facts);
        handler.write_recovery_conf(params, &facts).unwrap();
    }
    let (params, _) = handler.effective_configuration(|_| None, &facts);
    handler.write_postgresql_conf(Some(&params), &facts).unwrap();
    handler.replace_pg_hba(&facts).unwrap();
    handler.replace_pg_ident().unwrap();
    handler.save_configuration_files(true, &facts);
    std::fs::remove_file(data.join("postgresql.base.conf")).unwrap();
    std::fs::remove_file(data.join("postgresql.base.conf.backup")).unwrap();
    (command_line(&params).into_iter().map(Value::from).collect(), files_of(directory))
}

#[test]
fn files_are_those_of_a_real_cluster() {
    let mut failures = Vec::new();
    for major in [15, 17, 18] {
        for role in ["primary", "replica"] {
            let name = format!("real-{major}-{role}");
            let tmp = tempfile::Builder::new().prefix("patroni-postgres-files-").tempdir().unwrap();
            let directory = tmp.path().to_str().unwrap();
            let recorded = read_json(&fixtures().join(format!("recorded/{name}.json")));
            let recorded = substitute(&recorded, "$DIR", directory);
            let (arguments, files) = generate(&recorded, major, role == "primary", tmp.path());
            differences(&files, recorded.get("files").unwrap(), &name, &mut failures);
            let theirs = recorded.get("arguments").unwrap().as_list().unwrap();
            assert_eq!(arguments, theirs[3..], "{name}");
        }
    }
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
}
