#![allow(clippy::unwrap_used)]
use super::*;

const CONF: &str = "/data/postgresql.conf";

fn params(pairs: &[(&str, Value)]) -> Params {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect()
}

fn conninfo(pairs: &[(&str, &str)]) -> Value {
    pairs.iter().copied().collect()
}

fn run(
    current: &mut CurrentRecovery,
    wanted: &Params,
    version: PgVersion,
    receiver: &WalReceiver,
) -> (Verdict, Option<String>) {
    let mut facts = CheckFacts {
        major_version: version,
        starting: false,
        force_reload: false,
        receiver,
        own_files: [CONF, "/data/postgresql.auto.conf"],
        read_passfile: &|path| (path == "/pgpass").then(|| "h:5432:*:rep:secret\n".to_owned()),
        passfile_found: None,
    };
    (check(current, wanted, &mut facts), facts.passfile_found)
}

fn wanted() -> Params {
    params(&[
        ("recovery_target_timeline", "latest".into()),
        ("primary_slot_name", "n1".into()),
        (
            "primary_conninfo",
            conninfo(&[
                ("host", "h"),
                ("port", "5432"),
                ("user", "rep"),
                ("password", "secret"),
                ("dbname", "postgres"),
                ("sslmode", "prefer"),
            ]),
        ),
    ])
}

#[test]
fn what_was_written_is_what_is_wanted() {
    for version in [PgVersion::V12, PgVersion::V13, PgVersion::V17] {
        let mut current = from_written(&wanted(), version, CONF);
        assert_eq!(run(&mut current, &wanted(), version, &WalReceiver::default()).0, Verdict::default());
    }
}

#[test]
fn a_difference_needs_what_its_parameter_needs() {
    for (name, version, restart) in [
        ("primary_slot_name", PgVersion::V12, true),
        ("primary_slot_name", PgVersion::V13, false),
        ("restore_command", PgVersion::V13, true),
        ("restore_command", PgVersion::V14, false),
        ("recovery_end_command", PgVersion::V12, false),
    ] {
        let mut current = from_written(&wanted(), version, CONF);
        let mut wanted = wanted();
        wanted.set(name, "other");
        let verdict = run(&mut current, &wanted, version, &WalReceiver::default()).0;
        assert_eq!(verdict, Verdict { change: true, restart }, "{name} {version}");
    }
}

#[test]
fn the_receiver_knows_better() {
    let receiver = |conninfo: &str, slot: &str| WalReceiver {
        conninfo: Some(conninfo.to_owned()),
        slot_name: (!slot.is_empty()).then(|| slot.to_owned()),
    };
    let good = "user=rep passfile=/pgpass dbname=replication host=h port=5432";
    let other_host = "user=rep passfile=/pgpass dbname=replication host=x port=5432";
    let other_file = "user=rep passfile=/other dbname=replication host=h port=5432";
    for (conninfo, slot, change) in
        [(good, "n1", false), (good, "", true), (other_host, "n1", true), (other_file, "n1", true)]
    {
        let settings = [
            ("primary_conninfo", "host=h port=5432 user=rep passfile=/pgpass dbname=postgres"),
            ("primary_slot_name", "n1"),
            ("recovery_target_timeline", "latest"),
        ];
        let rows: Vec<PgSetting> = settings
            .iter()
            .map(|(name, setting)| PgSetting {
                name: (*name).to_owned(),
                setting: Some((*setting).to_owned()),
                context: "sighup".to_owned(),
                sourcefile: Some(CONF.to_owned()),
                ..PgSetting::default()
            })
            .collect();
        let mut current = from_settings(&rows).unwrap();
        let (verdict, passfile) = run(&mut current, &wanted(), PgVersion::V17, &receiver(conninfo, slot));
        assert_eq!(verdict, Verdict { change, restart: false }, "{conninfo} {slot}");
        assert_eq!(passfile.is_some(), conninfo != other_file);
    }
}

#[test]
fn settings_of_the_users_own_files_are_left_alone() {
    let row = |sourcefile: Option<&str>| PgSetting {
        name: "restore_command".to_owned(),
        setting: Some("cp".to_owned()),
        context: "sighup".to_owned(),
        sourcefile: sourcefile.map(str::to_owned),
        ..PgSetting::default()
    };
    let conninfo = PgSetting {
        name: "primary_conninfo".to_owned(),
        setting: Some(String::new()),
        ..PgSetting::default()
    };
    for (file, change) in [(Some(CONF), true), (Some("/etc/own.conf"), false), (None, false)] {
        let mut current = from_settings(&[row(file), conninfo.clone()]).unwrap();
        let verdict = run(&mut current, &Params::new(), PgVersion::V15, &WalReceiver::default()).0;
        assert_eq!(verdict.change, change, "{file:?}");
    }
}

#[test]
fn recovery_conf_is_read_back() {
    let text = "# head\nstandby_mode = 'on'\nprimary_conninfo = 'user=rep host=h' # x\n\
                recovery_min_apply_delay = '5min'\n";
    let current = from_recovery_conf(text, PgVersion::V11).unwrap();
    assert_eq!(current.get("recovery_min_apply_delay").unwrap().value, Value::Int(300_000));
    assert_eq!(current.get("primary_conninfo").unwrap().value.get("user"), Some(&"rep".into()));
    assert_eq!(current.get("restore_command").unwrap().value, Value::from(""));
    for bad in ["standby_mode\n", "standby_mode = 'on\n", "primary_conninfo = 'x'\n"] {
        assert!(from_recovery_conf(bad, PgVersion::V11).is_none(), "{bad}");
    }
}

#[test]
fn values_of_recovery_conf() {
    for (text, value) in [
        ("", None),
        ("'", None),
        ("''a", None),
        ("a b", None),
        ("'''", None),
        ("'\\", None),
        ("'a' s#", None),
        ("'\\'''' #a", Some("''")),
        ("asd", Some("asd")),
        ("asd # c", Some("asd")),
    ] {
        assert_eq!(recovery_conf_value(text).as_deref(), value, "{text}");
    }
}
