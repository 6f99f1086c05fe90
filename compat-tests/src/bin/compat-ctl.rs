//! `compat-ctl [--no-sql] [--only TEXT]... [--from N] [--workers N] [--memory FILE] [--learn]`: patronictl, ours
//! beside the reference, on the same clusters with the same input. Prints each difference and a summary; exit
//! code 1 if there is one. With `--memory`, the reference's answers are kept in the file and not asked for
//! again; `--learn` only fills it, `--known` takes only the cases that are in it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use compat_tests::ctl::{cases, run, world, world::World, Case};
use compat_tests::diff::allow::AllowList;
use compat_tests::lab::etcd::Etcd;
use compat_tests::lab::{host, process, Cluster, Kind, Options, Result};
use compat_tests::program;

/// The area of `allow.tsv`.
const AREA: &str = "patronictl";

/// Compares patronictl, ours beside the reference.
#[derive(clap::Parser)]
struct Args {
    /// Leave out what needs a PostgreSQL.
    #[arg(long)]
    no_sql: bool,
    /// Only cases whose name has this text in it.
    #[arg(long)]
    only: Vec<String>,
    /// Leave out the first so many cases.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Clusters that are asked side by side.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Keep the reference's answers in this file, and do not ask for them again.
    #[arg(long)]
    memory: Option<PathBuf>,
    /// Only fill the memory.
    #[arg(long)]
    learn: bool,
    /// Only cases that are in the memory.
    #[arg(long)]
    known: bool,
}

/// The reference's answers to cases that were asked before.
struct Memory {
    file: Option<PathBuf>,
    known: Mutex<HashMap<String, String>>,
}

impl Memory {
    fn read(file: Option<PathBuf>) -> Memory {
        let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        let pair = |line: &str| {
            let value = pyfmt::json::loads(line).ok()?;
            let [key, answer] = value.as_list()? else { return None };
            Some((key.as_str()?.to_owned(), answer.as_str()?.to_owned()))
        };
        Memory { file, known: Mutex::new(text.lines().filter_map(pair).collect()) }
    }

    fn key(case: &Case) -> String {
        let mut hasher = std::hash::DefaultHasher::new();
        (format!("{case:?}"), world::KEYS).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn knows(&self, case: &Case) -> bool {
        self.known.lock().is_ok_and(|known| known.contains_key(&Memory::key(case)))
    }

    /// The answer of before, or that of `ask` now.
    fn answer(&self, case: &Case, again: bool, ask: impl FnOnce() -> String) -> String {
        let key = Memory::key(case);
        let known = self.known.lock().ok().and_then(|known| known.get(&key).cloned());
        if let Some(answer) = known.filter(|_| !again) {
            return answer;
        }
        let answer = ask();
        let (Some(file), Ok(mut known)) = (&self.file, self.known.lock()) else { return answer };
        let line = pyfmt::json::dumps(&pyfmt::Value::List(vec![key.as_str().into(), answer.as_str().into()]));
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        if let Err(error) = opened.and_then(|mut file| writeln!(file, "{line}")) {
            eprintln!("compat-ctl: {error}");
        }
        known.insert(key, answer.clone());
        answer
    }
}

fn main() -> ExitCode {
    program::ended("compat-ctl", "cases differ", compare(&clap::Parser::parse()))
}

fn compare(asked: &Args) -> Result<usize> {
    let memory = Memory::read(asked.memory.clone());
    let wanted = |case: &Case| {
        let only = asked.only.is_empty() || asked.only.iter().any(|text| case.name.contains(text));
        only && (!asked.no_sql || !needs_sql(case)) && (!asked.known || memory.knows(case))
    };
    let cases: Vec<Case> = cases::all().into_iter().filter(wanted).skip(asked.from).collect();
    let allow = AllowList::of_the_tree()?;
    let mut lab = Cluster::new(Options { overrides: tls(), ..Options::default() })?;
    let mut ports = Vec::new();
    if cases.iter().any(needs_sql) {
        eprintln!("compat-ctl: bringing up PostgreSQL");
        certificates(&lab.directory)?;
        lab.bring_up(&[Kind::Reference, Kind::Reference])?;
        ports.extend(lab.members.iter().map(|member| member.postgres));
        lab.member("node0")?.sql("CREATE ROLE certuser LOGIN")?;
    }
    let (directory, bin) = (lab.directory.clone(), lab.bin());
    let etcd = Arc::new(Etcd::start(&directory.join("keys"))?);
    host::install("patronictl", &directory)?;
    let next = AtomicUsize::new(0);
    let findings: Mutex<Vec<(usize, String)>> = Mutex::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let work = |number: usize| -> Result<()> {
            let world = World::new(number, directory.clone(), bin.clone(), Arc::clone(&etcd), ports.clone())?;
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(index) else { return Ok(()) };
                let found = one(&world, case, &allow, &memory, asked.learn);
                if index % 100 == 99 {
                    eprintln!(
                        "compat-ctl: {} of {}, {} s",
                        index + 1,
                        cases.len(),
                        began.elapsed().as_secs()
                    );
                }
                if let Some(text) = found {
                    println!("{}: {}\n{text}", index + asked.from, case.name);
                    findings.lock().map_err(|e| e.to_string())?.push((index, text));
                }
            }
        };
        let threads: Vec<_> = (0..asked.workers).map(|number| scope.spawn(move || work(number))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Result::Ok(())
    })?;
    let different = findings.lock().map_err(|e| e.to_string())?.len();
    println!("{} cases, {different} different, {} s", cases.len(), began.elapsed().as_secs());
    Ok(different)
}

fn needs_sql(case: &Case) -> bool {
    case.args.first().is_some_and(|word| word == "query")
        && case.args.get(1).is_some_and(|word| word.starts_with("sql"))
}

/// The beginning of an answer of a program that could not be run, or waited without end.
const NOT_RUN: &str = "not run: ";

/// What differs, if anything does, or does not come to its end; once more before it counts, for the machine may be busy.
fn one(world: &World, case: &Case, allow: &AllowList, memory: &Memory, learn: bool) -> Option<String> {
    let ask = |kind| run::run(world, case, kind).unwrap_or_else(|error| format!("{NOT_RUN}{error}"));
    let theirs = |again| memory.answer(case, again, || ask(Kind::Reference));
    if learn {
        theirs(false);
        return None;
    }
    let mut answers = [ask(Kind::Ours), theirs(false)];
    let ended = answers.iter().all(|answer| !answer.starts_with(NOT_RUN));
    if ended && !allow.same(AREA, &case.name, &answers) && memory.file.is_none() {
        answers = [ask(Kind::Ours), theirs(true)];
    }
    if let Some(answer) = answers.iter().find(|answer| answer.starts_with(NOT_RUN)) {
        // Of both, this is no agreement either: nothing was compared.
        return Some(format!("    {answer:?}\n"));
    }
    if allow.same(AREA, &case.name, &answers) {
        return None;
    }
    let [ours, theirs] = allow.masked(AREA, &case.name, &answers);
    Some(lines(&ours, &theirs))
}

/// The lines that differ.
fn lines(ours: &str, theirs: &str) -> String {
    let split = |text: &str| text.split_inclusive('\n').map(str::to_owned).collect::<Vec<String>>();
    let changes = pyfmt::diff::unified(&split(theirs), &split(ours));
    let shown = changes.iter().skip(2).map(|line| format!("    {:?}\n", line.trim_end_matches('\n')));
    shown.take(24).collect()
}

/// PostgreSQL with TLS, and a user who needs a certificate.
fn tls() -> pyfmt::Value {
    let text = "postgresql:
  pg_hba:
  - local all all trust
  - hostssl all certuser 127.0.0.1/32 cert
  - host replication replicator 127.0.0.1/32 md5
  - host all all 127.0.0.1/32 md5
  parameters:
    ssl: 'on'
    ssl_cert_file: ../../../server.crt
    ssl_key_file: ../../../server.key
    ssl_ca_file: ../../../ca.crt
";
    pyfmt::yaml::load(text).unwrap_or_default()
}

/// An authority, one that nobody trusts, a server's and a client's certificate.
fn certificates(directory: &Path) -> Result<()> {
    let script = "set -e
for ca in ca other; do
  openssl req -x509 -newkey rsa:2048 -nodes -keyout $ca.key -out $ca.crt -days 2 -subj /CN=$ca
done
for name in server client; do
  [ $name = server ] && cn=127.0.0.1 || cn=certuser
  openssl req -newkey rsa:2048 -nodes -keyout $name.key -out $name.csr -subj /CN=$cn
  printf 'subjectAltName=IP:127.0.0.1\\n' >$name.ext
  openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $name.crt -days 2 -extfile $name.ext
done
chmod 600 *.key
cp client.key open.key && chmod 644 open.key
echo nonsense >nonsense.crt
";
    let mut command = process::command(Path::new("/bin/sh"), directory, Path::new("/usr/bin"))?;
    command.args(["-c", script]);
    process::run(command, std::time::Duration::from_secs(60))?.ok().map(drop)
}
