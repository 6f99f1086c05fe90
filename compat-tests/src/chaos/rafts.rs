//! Raft without a store: three controllers, and each member is a member of their cluster as well: six votes. In a mixed
//! fleet the controllers are of both kinds, too.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use patroni_core::mutex::locked;
use pyfmt::Value;

use super::fleet::Fleet;
use super::net::address;
use super::servers::SERVERS;
use crate::lab::raft::Reader;
use crate::lab::{host, process, Kind, Result};

/// Where all of them listen.
const PORT: u16 = 2222;

fn at(port: usize) -> String {
    format!("{}:{PORT}", address(port))
}

impl Fleet {
    /// The section of a member: it learns from the others who else is there, and is let in.
    pub(super) fn raft_section(&self, index: usize) -> (&'static str, Value) {
        let others = (0..self.settings.members).filter(|other| *other != index).map(at);
        let partners = self.controllers().chain(others).map(Value::from).collect();
        let directory = self.nodes.get(index).map(|node| node.directory.join("raft").display().to_string());
        let options = [
            ("self_addr", Value::from(at(index))),
            ("partner_addrs", Value::List(partners)),
            ("data_dir", Value::from(directory.unwrap_or_default())),
        ];
        ("raft", Value::from_iter(options))
    }

    fn controllers(&self) -> impl Iterator<Item = String> + '_ {
        (0..SERVERS).map(|index| at(self.server_port(index)))
    }

    /// The kind of a controller: the fleet's; in a mixed one they alternate.
    fn controller_kind(&self, index: usize) -> Kind {
        let all = |kind: Kind| self.nodes.iter().all(|node| node.kind == kind);
        match index {
            _ if all(Kind::Ours) => Kind::Ours,
            _ if all(Kind::Reference) => Kind::Reference,
            1 => Kind::Reference,
            _ => Kind::Ours,
        }
    }

    pub(super) fn raft_server(&self, index: usize, directory: &Path) -> Result<Command> {
        let me = at(self.server_port(index));
        let others: Vec<String> = self.controllers().filter(|other| *other != me).collect();
        // It stays what it was: which kind the members are changes in the course of a run.
        let (file, kind) = (directory.join("controller.yml"), directory.join("kind"));
        let program = match std::fs::read_to_string(&kind) {
            Ok(program) => program.into(),
            Err(_) => match self.controller_kind(index) {
                Kind::Ours => host::install("patroni_raft_controller", &self.settings.directory)?,
                Kind::Reference => host::reference("patroni_raft_controller"),
            },
        };
        std::fs::write(&kind, program.display().to_string())?;
        let data = directory.join("data").display().to_string();
        let partners = others.join(", ");
        let text = format!("raft:\n  self_addr: {me}\n  partner_addrs: [{partners}]\n  data_dir: {data}\n");
        std::fs::write(&file, text)?;
        host::give_away(&file)?;
        let mut command = process::command(&program, directory, Path::new("/usr/bin"))?;
        command.arg(file);
        Ok(command)
    }

    /// Does this controller lead? One may: members do as well.
    pub(super) fn raft_leads(&self, index: usize) -> Result<bool> {
        let me = at(self.server_port(index));
        let leader = self.raft_leader(index)?;
        Ok(leader == me)
    }

    /// Who leads, as a controller sees it.
    pub(super) fn raft_leader(&self, index: usize) -> Result<String> {
        let me = at(self.server_port(index));
        let admin = host::reference("syncobj_admin");
        let mut command = process::command(&admin, &self.settings.directory, Path::new("/usr/bin"))?;
        command.args(["-conn", &me, "-status"]);
        let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
        let said = namespace.enter(|| process::run(command, Duration::from_secs(5)))?.ok()?;
        let leader = said.lines().find_map(|line| line.strip_prefix("leader: "));
        let leader = leader.map(str::trim).filter(|leader| !leader.is_empty() && *leader != "None");
        Ok(leader.ok_or("no leader")?.to_owned())
    }

    /// A value, by a reader of the reference's that stands beside a controller.
    pub(super) fn raft_key(&self, index: usize, path: &str) -> Result<Option<String>> {
        let mut place = locked(&self.reader);
        let mut reader = match place.take() {
            Some((beside, reader)) if beside == index => reader,
            _ => {
                let all: Vec<String> = self.controllers().chain((0..self.settings.members).map(at)).collect();
                let namespace = self.net.nodes.get(self.server_port(index)).ok_or("no network")?;
                namespace.enter(|| Reader::start(&all))?
            }
        };
        let answer = reader.ask("prefix", &[path])?;
        if let Some(error) = answer.get("error") {
            return Err(error.py_str().into());
        }
        *place = Some((index, reader));
        let rows = answer.as_list().ok_or("no list of keys")?;
        let value = |row: &Value| match row.as_list()? {
            [name, value, ..] if name.as_str() == Some(path) => value.as_str().map(str::to_owned),
            _ => None,
        };
        Ok(rows.iter().find_map(value))
    }
}
