//! `query`, on a real PostgreSQL: `PG1` is a primary, `PG2` its standby.

use super::{case, Case};

/// Statements, the odd ones among them.
const STATEMENTS: &[&str] = &[
    "select 1",
    "select 1 as a, null as b, true as c, 'x' as d",
    "select 1, 2",
    "select 1 a, 2 a",
    "select",
    "",
    ";",
    "-- nothing",
    "select 1; select 2",
    "select generate_series(1, 3)",
    "select * from pg_class where false",
    "nonsense",
    "select 1/0",
    "select * from no_such_table",
    "select pg_sleep(0)",
    "select 1.50::numeric, 'NaN'::numeric, 1e10::float8, 'nan'::float8, 'inf'::float4, 0.1::float4",
    "select 1::int2, 2::int8, 3::oid, 'x'::name, 'c'::char, 'v'::varchar(3)",
    "select '2001-02-03'::date, '2001-02-03 04:05:06.7'::timestamp, '2001-02-03 04:05:06'::timestamptz",
    "select '04:05:06.7'::time, '04:05:06+02'::timetz, '1 day 2 hours'::interval, '-1 mon'::interval",
    "select 'infinity'::timestamp",
    "select 'infinity'::date",
    "select '0001-01-01 BC'::date",
    "select array[1,2], array['a',null,'b c'], array[[1],[2]], array[1.5], '{}'::text[]",
    "select '{\"x\": [1, null, true, 1.5, \"é\"]}'::json, '{\"b\": 1, \"a\": 2}'::jsonb, 'null'::jsonb",
    "select '\\x6100'::bytea",
    "select 'a\tb', 'a\nb', 'é日本'",
    "select '10.0.0.1'::inet, '10.0.0.0/8'::cidr, '08:00:2b:01:02:03'::macaddr",
    "select 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '<a/>'::xml, B'101', '(1,2)'::point",
    "select int4range(1,3), tsrange('2001-01-01', null), row(1,'a'), '1.5'::money",
    "create temp table x (a int)",
    "select pg_is_in_recovery()",
    "begin",
    "set work_mem = '1MB'",
    "show work_mem",
    "show application_name",
    "select current_user, current_database()",
    "do $$ begin raise notice 'hi'; end $$",
    "copy (select 1) to stdout",
    "listen x",
    "explain (costs off) select 1",
    "values (1, 'a'), (2, null)",
    "insert into no_such values (1)",
    "select E'\\\\', '%s', '{}'",
    "with x as (select 1) select * from x",
    "select '-infinity'::timestamptz",
    "select '20000-01-01'::timestamp",
    "select '0001-01-01 BC'::timestamptz",
    "select '24:00:00'::time",
    "select '24:00:00+00'::timetz",
    "select '04:05:06.5+05:30:15'::timetz, '04:05:06+00'::timetz, '04:05:06-02:30'::timetz",
    "select '1000000000 days'::interval",
    "select '-00:00:00.000001'::interval, '1 year 2 mons -3 days +04:05:06'::interval",
    "select 'infinity'::numeric, 0.00000000000001, 1e20::numeric, 0::numeric(10,8)",
    "select array['2001-02-03'::date], array['04:05'::time], array['1 day'::interval]",
    "select array['2001-02-03 04:05:06+00'::timestamptz], array['2001-02-03 04:05'::timestamp]",
    "select int4range(1,null), 'empty'::int4range, '[1,2]'::numrange, daterange('2001-01-01', null)",
    "select '{[1,3),[5,7)}'::int4multirange, '{}'::int4multirange, array[int4range(1,3)]",
    "select row(), row(null), row(null, null), row('a b','c\"d','e\\f'), array[row(1,2)], row('é')",
    "select array['1.5'::money], array['(1,2)'::point], array['((1,2),(3,4))'::box]",
    "select array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid], array['\\x61'::bytea], array['x'::name]",
    "select '10.0.0.1/8'::inet, '::ffff:1.2.3.4'::inet, '2001:db8::/32'::cidr, array['10.0.0.1'::inet]",
    "select 'pg_class'::regclass, '0/1234'::pg_lsn, '(0,1)'::tid, '1'::xid, '1 2'::int2vector, '$.a'::jsonpath",
    "select array['{\"a\":1}'::json], '[]'::jsonb, '\"x\"'::jsonb, '{\"x\": 1e400}'::json",
    "select '[0:1]={1,2}'::int[], '{NULL,\"NULL\",\"\"}'::text[], array[true,null], array[1.5::float8]",
    "select '2001-02-03'::date as b, 1.5 as a, null as c",
    "select 1 as a union all select null",
    "select 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid as x, 1 as x",
    "create temp table x (a int); select 1",
    "begin; select 1 as z; commit",
    "select 1; select 1/0",
    ";select 1",
    "create temp table y as select 1",
    "select 1 into temp z",
    "alter system reset all",
    "copy no_such from stdin",
    "set timezone = 'Asia/Kolkata'; select 1",
    "select pg_terminate_backend(pg_backend_pid())",
    "prepare p as select 1",
    "select set_config('DateStyle', 'German', false), '2001-02-03'::date",
    "select set_config('IntervalStyle', 'iso_8601', false), '1 day'::interval",
    "select set_config('bytea_output', 'escape', false), '\\x610062'::bytea",
];

pub fn cases() -> Vec<Case> {
    let super_user = |line: &str| {
        case(line).env("PGUSER", "postgres").env("PGPASSWORD", "lab-super").env("PGDATABASE", "postgres")
    };
    let mut cases = Vec::new();
    for statement in STATEMENTS {
        for format in ["tsv", "pretty", "json", "yaml"] {
            let mut one = super_user("query sql --format");
            one.args.extend([format.to_owned(), "-c".to_owned(), (*statement).to_owned()]);
            cases.push(one.called(&format!("{format} {statement}")));
        }
    }
    for line in [
        "query sql -c 'select 1 as a' --format yml",
        "query sql -c 'select 1 as a' --format nope",
        "query sql -c 'select 1 as a, 2 as b' --delimiter ,",
        "query sql -c 'select 1 as a, 2 as b' --delimiter ''",
        "query sql -c 'select 1 as a, 2 as b' --delimiter ',' --format pretty",
        "query sql -r leader -c 'select 1 as a'",
        "query sql -r primary -c 'select 1 as a'",
        "query sql -r replica -m b -c 'select 1'",
        "query sql -r replica -c 'select pg_is_in_recovery()'",
        "query sql -r standby -c 'select pg_is_in_recovery()'",
        "query sql -r standby-leader -c 'select 1'",
        "query sql -r any -c 'select 1 as a'",
        "query sql -m b -c 'select pg_is_in_recovery() as x'",
        "query sql -m zz -c 'select 1'",
        "query sql -m down -c 'select 1'",
        "query sql -m nohost -c 'select 1'",
        "query sql -m user -c 'select current_user, current_database()'",
        "query sqlswap -r primary -c 'select 1'",
        "query sqlswap -r replica -c 'select 1'",
        "query sqlswap -r leader -c 'select 1 as a'",
        "query sqldown -c 'select 1'",
        "query sqldown -r replica -c 'select 1'",
        "query nosuch -c 'select 1'",
        "query nosuch -r replica -c 'select 1'",
        "query nobody -c 'select 1' --format json",
        "query nobody -c 'select 1' --format pretty",
        "query nobody -c 'select 1' --format yaml",
        "query nourl -c 'select 1'",
        "query sql -d template1 -c 'select current_database()'",
        "query sql -d nope -c 'select 1'",
        "query sql -d '' -c 'select current_database()'",
        "query sql -U nope -c 'select 1'",
        "query sql -U replicator -c 'select current_user'",
        "query sql --group 0 -c 'select 1'",
        "query sql -c 'show application_name'",
        "query sql -c 'insert into x values (1)' -m b",
    ] {
        cases.push(super_user(line));
    }
    cases.push(
        super_user("query sql -f HOMEDIR/q.sql").file("q.sql", "select 1 as one;\n-- é\nselect 2 as two\n"),
    );
    cases.push(super_user("query sql -f HOMEDIR/empty.sql").file("empty.sql", ""));
    cases.push(super_user("query sql -f -").stdin("select 3 as three"));
    cases.push(super_user("query sql -f HOMEDIR/q.sql -c x").file("q.sql", ""));
    for watch in ["-w 0.2", "-W", "-w 0.1 --format pretty"] {
        cases.push(super_user(&format!("query sql {watch} -c 'select 1 as a'")).lines(6));
    }
    cases.extend(connections());
    cases
}

/// What libpq takes from its environment.
fn connections() -> Vec<Case> {
    let line = "query sql -c 'select current_user, current_database()'";
    let ssl = "query sql -c 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'";
    let pass = "127.0.0.1:*:*:postgres:lab-super\n";
    let user = |line: &str| case(line).env("PGUSER", "postgres");
    let known = |line: &str| user(line).env("PGPASSWORD", "lab-super").env("PGDATABASE", "postgres");
    let mut cases = vec![
        case(line).called("nothing known"),
        user(line).called("no password"),
        user(line).env("PGPASSWORD", "wrong"),
        user(line).env("PGPASSWORD", ""),
        user(line).file("pass", pass).env("PGPASSFILE", "HOMEDIR/pass").env("PGDATABASE", "postgres"),
        user(line).file("pass.sh", pass).env("PGPASSFILE", "HOMEDIR/pass.sh").called("too open"),
        user(line).env("PGPASSFILE", "/nonexistent"),
        user(line)
            .file("pass", "# x\n*:*:*:nobody:x\n127.0.0.1:1:*:*:no\n*:*:post\\gres:postgres:lab\\-super\n")
            .env("PGPASSFILE", "HOMEDIR/pass")
            .env("PGDATABASE", "postgres"),
        user(line).file("pass", "*:*:*:*:wrong\n").env("PGPASSFILE", "HOMEDIR/pass"),
        user(line).file(".pgpass", pass).env("PGDATABASE", "postgres"),
        user(line).file(".pgpass", ""),
        case("query sql -U postgres --password -d postgres -c 'select current_user'").stdin("lab-super\n"),
        case("query sql -U postgres --password -d postgres -c 'select current_user'")
            .tty(&[("Password: ", "lab-super\r")]),
        case("query sql -U postgres --password -d postgres -c 'select current_user'")
            .tty(&[("Password: ", "\r"), ("Password: ", "wrong\r")]),
        case("query sql -U postgres --password -d postgres -c 'select current_user'")
            .tty(&[("Password: ", "\u{3}")]),
        case("query sql -U postgres --password -d postgres -c 'select current_user'")
            .tty(&[("Password: ", "\u{4}")]),
        case("query sql -U postgres --password -c 'select 1'").stdin(""),
        case("query sql -U postgres --password -c 'select 1'").stdin("\n\nwrong\n"),
        known("query sql -c 'show application_name'").env("PGAPPNAME", "mine"),
        known("query sql -c 'show work_mem'").env("PGOPTIONS", "-c work_mem=3MB"),
        known("query sql -c 'show work_mem'").env("PGOPTIONS", "-c nope=3MB"),
        known("query sql -c 'show client_encoding'").env("PGCLIENTENCODING", "LATIN1"),
        known("query sql -c 'show client_encoding'"),
        known("query sql -c 'select chr(233) as x'").env("PGCLIENTENCODING", "SQL_ASCII"),
        known("query sql -c 'select chr(233) as x'").env("PGCLIENTENCODING", "LATIN1"),
        known("query sql -c 'select 1 as x'").env("PGCLIENTENCODING", "nope"),
        known("query sql -c 'select array[to_timestamp(981173106)]'").env("PGTZ", "UTC"),
        known("query sql -c 'select array[to_timestamp(981173106)]'").env("PGTZ", "<+03>-03"),
        known("query sql -c 'select to_timestamp(-5361000000) as x'").env("PGTZ", "Europe/Berlin"),
        known("query sql -c 'select to_timestamp(-5361000000) as x' --format yaml")
            .env("PGTZ", "Europe/Berlin"),
        known("query sql -c 'select to_timestamp(981173106) as x'").env("PGDATESTYLE", "German"),
        known("query sql -c 'select make_timestamp(2001,2,3,4,5,6.5) as x'").env("PGDATESTYLE", "Postgres"),
        known("query sql -c 'select 1'").env("PGTZ", "nope"),
        known(line).env("PGREQUIREAUTH", "md5"),
        known(line).env("PGREQUIREAUTH", "!md5,!none"),
        known(line).env("PGREQUIREAUTH", "nope"),
        known(line).env("PGCHANNELBINDING", "require").env("PGSSLMODE", "disable"),
        known(line).env("PGCHANNELBINDING", "nope"),
        known(line).env("PGTARGETSESSIONATTRS", "standby"),
        known(line).env("PGTARGETSESSIONATTRS", "nope"),
        known(line).env("PGSSLNEGOTIATION", "direct"),
        known(line).env("PGSSLROOTCERT", "system"),
        known(line).env("PGSSLROOTCERT", "system").env("PGSSLMODE", "verify-full"),
        known(line).env("PGSSLMAXPROTOCOLVERSION", "TLSv1").env("PGSSLMODE", "require"),
        known(line).env("PGGSSENCMODE", "nope"),
        known("query sql -c 'show timezone'").env("PGTZ", "Asia/Tokyo"),
        known("query sql -c 'show datestyle'").env("PGDATESTYLE", "German"),
        known("query sql -c 'select now() is not null as x, date ''2001-02-03'''")
            .env("PGDATESTYLE", "SQL, DMY"),
        known(line).env("PGHOST", "nowhere.invalid").env("PGPORT", "1"),
        known(line).env("PGHOSTADDR", "127.0.0.1"),
        known(line).env("PGCONNECT_TIMEOUT", "1"),
        known(line).env("PGTARGETSESSIONATTRS", "read-only"),
        known("query sql -m b -c 'select 1 as a'").env("PGTARGETSESSIONATTRS", "read-write"),
        known(line).env("PGSERVICE", "nope"),
        known(line)
            .env("PGSERVICE", "mine")
            .env("PGSERVICEFILE", "HOMEDIR/services")
            .file("services", "[mine]\nuser=replicator\npassword=lab-repl\ndbname=postgres\n"),
        case(line).env("PGSERVICE", "mine").env("PGSERVICEFILE", "HOMEDIR/services").file(
            "services",
            "# c\n[other]\nuser=x\n[mine]\nuser=replicator\npassword=lab-repl\ndbname=postgres\n",
        ),
        case(line)
            .env("PGSERVICE", "mine")
            .env("PGSERVICEFILE", "HOMEDIR/services")
            .file("services", "[mine]\nnope=1\n"),
        case(line)
            .env("PGSERVICE", "mine")
            .env("PGSERVICEFILE", "HOMEDIR/services")
            .file("services", "[mine]\nuser\n"),
        case(line).env("PGSERVICE", "mine").env("PGSERVICEFILE", "/nonexistent"),
        case(line)
            .env("PGSERVICE", "mine")
            .file(".pg_service.conf", "[mine]\nuser=replicator\npassword=lab-repl\ndbname=postgres\n"),
        known(line).env("PGREQUIREAUTH", "scram-sha-256"),
        known(line).env("PGCHANNELBINDING", "require"),
    ];
    for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full", "nonsense"] {
        cases.push(known(ssl).env("PGSSLMODE", mode));
        cases.push(known(ssl).env("PGSSLMODE", mode).env("PGSSLROOTCERT", "LAB/ca.crt"));
        cases.push(known(ssl).env("PGSSLMODE", mode).env("PGSSLROOTCERT", "LAB/other.crt"));
    }
    let certificate = "query sql -U certuser -d postgres -c 'select current_user'";
    cases.extend([
        case(certificate),
        case(certificate).env("PGSSLCERT", "LAB/client.crt").env("PGSSLKEY", "LAB/client.key"),
        case(certificate).env("PGSSLCERT", "LAB/client.crt"),
        case(certificate).env("PGSSLCERT", "LAB/client.crt").env("PGSSLKEY", "LAB/open.key"),
        case(certificate).env("PGSSLCERT", "LAB/client.crt").env("PGSSLKEY", "/nonexistent"),
        case(certificate).env("PGSSLCERT", "LAB/nonsense.crt").env("PGSSLKEY", "LAB/client.key"),
        case(certificate).env("PGSSLCERT", "/nonexistent").env("PGSSLKEY", "LAB/client.key"),
        known(ssl)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", "LAB/ca.crt")
            .env("PGSSLMINPROTOCOLVERSION", "TLSv1.3"),
        known(ssl).env("PGSSLMODE", "require").env("PGSSLMINPROTOCOLVERSION", "nonsense"),
        known(ssl).env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", "/nonexistent"),
        known(ssl)
            .env("PGSSLMODE", "verify-ca")
            .env("PGSSLROOTCERT", "LAB/ca.crt")
            .env("PGSSLCRL", "/nonexistent"),
    ]);
    cases
}
