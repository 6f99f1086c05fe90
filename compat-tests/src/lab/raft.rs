//! Raft: one controller of either implementation, or three, and each member is a member of the Raft cluster as well. Three
//! are a majority with any one of two or three members, and none of those is one without them: they can be killed as a store. Its keys are read
//! by the reference: what is to be judged does not judge.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sys::signal::Signal;
use patroni_core::mutex::locked;
use pyfmt::{json, Value};

use super::servers::Server;
use super::store::{Key, Store};
use super::{host, process, wait_until, Kind, Result};

const SCRIPT: &str = include_str!("raft.py");

/// The cluster.
#[derive(Debug)]
pub struct Raft {
    directory: PathBuf,
    ports: Vec<u16>,
    controllers: Vec<Server>,
    /// The ports of the members, by their names.
    members: Mutex<BTreeMap<String, u16>>,
    reader: Mutex<Option<Reader>>,
}

/// A reader of the reference's: a process.
#[derive(Debug)]
pub struct Reader {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reader {
    /// Of the cluster of these members.
    ///
    /// # Errors
    /// There is no reference.
    pub fn start(members: &[String]) -> Result<Reader> {
        let members = members.iter().map(|member| Value::from(member.as_str())).collect();
        let section = json::dumps_compact(&Value::from_iter([("partner_addrs", Value::List(members))]));
        let mut command = Command::new(host::reference("python3"));
        let command = command.args(["-c", SCRIPT, &section]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn()?;
        let input = child.stdin.take().ok_or("no pipe")?;
        let output = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Reader { child, input, output })
    }

    /// Asks it: `prefix`, `put` or `delete`; an answer has an `error` where it went wrong.
    ///
    /// # Errors
    /// It has ended.
    pub fn ask(&mut self, name: &str, arguments: &[&str]) -> Result<Value> {
        let arguments = Value::List(arguments.iter().map(|text| Value::from(*text)).collect());
        let question = json::dumps_compact(&Value::List(vec![name.into(), arguments]));
        writeln!(self.input, "{question}")?;
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("the reader of Raft has ended".into());
        }
        Ok(json::loads(&line)?)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(port: u16) -> Value {
    Value::from(format!("127.0.0.1:{port}"))
}

impl Raft {
    /// Starts so many controllers, of the implementation that is named, with their data under `directory`.
    ///
    /// # Errors
    /// They do not answer in time.
    pub fn start(directory: &Path, kind: Kind, count: usize) -> Result<Raft> {
        let directory = directory.join("raft");
        std::fs::create_dir_all(&directory)?;
        host::give_away(&directory)?;
        let ports = (0..count).map(|_| host::free_port()).collect::<Result<Vec<u16>>>()?;
        let program = match kind {
            Kind::Ours => host::install("patroni_raft_controller", &directory)?,
            Kind::Reference => host::reference("patroni_raft_controller"),
        };
        let mut controllers = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let own = directory.join(number.to_string());
            std::fs::create_dir_all(&own)?;
            host::give_away(&own)?;
            let others = ports.iter().filter(|other| *other != port);
            let others = others.map(|other| format!("127.0.0.1:{other}")).collect::<Vec<_>>().join(", ");
            let (file, data) = (own.join("controller.yml"), own.join("data").display().to_string());
            let text = format!(
                "raft:\n  self_addr: 127.0.0.1:{port}\n  partner_addrs: [{others}]\n  data_dir: {data}\n"
            );
            std::fs::write(&file, text)?;
            host::give_away(&file)?;
            controllers.push(Server::new(&program, own, vec![file.display().to_string()])?);
        }
        let (members, reader) = (Mutex::default(), Mutex::new(None));
        let mut raft = Raft { directory, ports, controllers, members, reader };
        raft.restart()?;
        Ok(raft)
    }

    fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    fn controller(&mut self, number: usize) -> Result<&mut Server> {
        Ok(self.controllers.get_mut(number).ok_or("there is no such controller")?)
    }

    fn ask(&self, name: &str, arguments: &[&str]) -> Result<Value> {
        let mut place = locked(&self.reader);
        let mut reader = match place.take() {
            Some(reader) => reader,
            None => Reader::start(&self.addresses())?,
        };
        let answer = reader.ask(name, arguments)?;
        *place = Some(reader);
        match answer.get("error").map(Value::py_str) {
            Some(error) => Err(error.into()),
            None => Ok(answer),
        }
    }
}

impl Store for Raft {
    fn section(&self) -> (&'static str, Value) {
        (
            "raft",
            Value::from_iter([(
                "partner_addrs",
                Value::from(self.ports.iter().copied().map(address).collect::<Vec<_>>()),
            )]),
        )
    }

    fn section_of(&self, name: &str) -> Result<(&'static str, Value)> {
        let mut members = locked(&self.members);
        let port = match members.get(name) {
            Some(port) => *port,
            None => host::free_port()?,
        };
        members.insert(name.to_owned(), port);
        let (store, mut section) = self.section();
        section.set("self_addr", address(port));
        section.set("data_dir", "LABNODE/raft");
        Ok((store, section))
    }

    /// patronictl has no such URL, in either implementation.
    fn url(&self) -> String {
        format!("raft://127.0.0.1:{}", self.port())
    }

    fn port(&self) -> u16 {
        self.ports.first().copied().unwrap_or_default()
    }

    fn prefix(&self, prefix: &str) -> Result<Vec<Key>> {
        let answer = self.ask("prefix", &[prefix])?;
        let key = |row: &Value| match row.as_list()? {
            [name, value, leased] => Some(Key {
                name: name.as_str()?.to_owned(),
                value: value.as_str()?.to_owned(),
                leased: leased.truthy(),
                lease: None,
            }),
            _ => None,
        };
        let rows = answer.as_list().ok_or("no list of keys")?;
        rows.iter().map(|row| key(row).ok_or_else(|| "no key".into())).collect()
    }

    fn put(&self, name: &str, value: &str) -> Result<()> {
        self.ask("put", &[name, value])?.truthy().then_some(()).ok_or_else(|| "not written".into())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.ask("delete", &[name]).map(drop)
    }

    /// The controllers alone: the members that live are the rest of the cluster.
    fn kill(&mut self) -> Result<()> {
        for controller in &mut self.controllers {
            controller.signal(Signal::SIGKILL)?;
            controller.reap();
        }
        *locked(&self.reader) = None;
        Ok(())
    }

    fn restart(&mut self) -> Result<()> {
        self.controllers.iter_mut().try_for_each(Server::start)?;
        let log = self.directory.join("0/server.log");
        wait_until(&format!("Raft answers ({})", log.display()), Duration::from_secs(60), || {
            self.prefix("/service/").map(drop)
        })
    }

    fn freeze(&self) {
        process::signal_under(&self.directory, Signal::SIGSTOP);
    }

    fn thaw(&self) {
        process::signal_under(&self.directory, Signal::SIGCONT);
    }

    fn become_three(&mut self) -> Result<()> {
        Err("Raft has the servers that its members are".into())
    }

    fn signal_server(&mut self, number: usize, signal: Signal) -> Result<()> {
        self.controller(number)?.signal(signal)
    }

    fn start_server(&mut self, number: usize) -> Result<()> {
        self.controller(number)?.start()
    }
}
