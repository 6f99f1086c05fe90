//! The user's callbacks (surface-ha-pg section 22): started, not waited for, one
//! at a time; a newer event kills the script of an older one.

use std::path::Path;
use std::time::Duration;

use patroni_core::ha::Callback;
use pyfmt::text::{shlex_split, SplitError};
use tokio::process::Child;
use tokio::sync::{mpsc, watch};

use super::binaries::Binaries;
use super::cancellable::{log_not_started, show};
use super::proc::Process;
use super::signals::kill_tree;

/// The command line: the script's words, action, role and scope. The role between
/// `pg_ctl promote` and its completion, `promoted`, is shown as `primary`.
///
/// # Errors
/// The script cannot be split into words.
pub fn command(script: &str, action: Callback, role: &str, scope: &str) -> Result<Vec<String>, SplitError> {
    let role = if role == "promoted" { "primary" } else { role };
    let mut argv = shlex_split(script)?;
    argv.extend([action.as_str(), role, scope].map(str::to_owned));
    Ok(argv)
}

/// Logs that a callback makes no command; `exception` as Python's last line of a traceback.
pub fn failed(script: &str, action: Callback, role: &str, scope: &str, exception: &str) {
    let role = if role == "promoted" { "primary" } else { role };
    tracing::error!(
        target: "patroni.postgresql", exc = %exception, "callback {script} {} {role} {scope} failed", action.as_str()
    );
}

/// A command line as Python's list of it is shown, in which action and role are no texts.
fn shown(argv: &[String]) -> String {
    let [words @ .., action, role, scope] = argv else { return show(argv) };
    let quoted = |word: &String| pyfmt::value::str_repr(word);
    let mut items: Vec<String> = words.iter().map(quoted).collect();
    items.extend([action.clone(), role.clone(), quoted(scope)]);
    format!("[{}]", items.join(", "))
}

/// Runs callbacks; two runners, so that a reload does not kill the script of a role
/// change. Scripts outlive the executor and the daemon.
#[derive(Debug)]
pub struct CallbackExecutor {
    main: Runner,
    reload: Runner,
}

impl CallbackExecutor {
    /// Starts the runners on the current runtime.
    pub fn start() -> Self {
        CallbackExecutor { main: Runner::start(), reload: Runner::start() }
    }

    /// Hands over a script; returns at once. Errors are logged.
    pub fn call(&self, script: &str, action: Callback, role: &str, scope: &str) {
        match command(script, action, role, scope) {
            Ok(argv) => {
                tracing::debug!(
                    target: "patroni.postgresql.callback_executor", "CallbackExecutor.call({})", shown(&argv)
                );
                let runner = if action == Callback::OnReload { &self.reload } else { &self.main };
                runner.submit(argv);
            }
            Err(e) => failed(script, action, role, scope, &format!("ValueError: {e}")),
        }
    }

    /// Waits, for at most `timeout`, until every script handed over was started:
    /// before the daemon exits.
    pub async fn settle(&self, timeout: Duration) {
        let both = futures_util::future::join(self.main.settled(), self.reload.settled());
        let _ = tokio::time::timeout(timeout, both).await;
    }
}

#[derive(Debug)]
struct Runner {
    queue: mpsc::UnboundedSender<Vec<String>>,
    /// Scripts that were neither started nor replaced yet.
    waiting: watch::Sender<usize>,
}

impl Runner {
    fn start() -> Runner {
        let (queue, commands) = mpsc::unbounded_channel();
        let waiting = watch::Sender::new(0);
        tokio::spawn(run(commands, waiting.clone()));
        Runner { queue, waiting }
    }

    fn submit(&self, argv: Vec<String>) {
        self.waiting.send_modify(|n| *n += 1);
        if self.queue.send(argv).is_err() {
            self.waiting.send_modify(|n| *n = n.saturating_sub(1));
        }
    }

    async fn settled(&self) {
        let _ = self.waiting.subscribe().wait_for(|n| *n == 0).await;
    }
}

/// A script that runs.
struct Running {
    child: Child,
    process: Option<Process>,
    argv: Vec<String>,
}

impl Running {
    fn spawn(argv: Vec<String>) -> Option<Running> {
        let (program, args) = argv.split_first()?;
        match Binaries::default().command(Path::new(program)).args(args).spawn() {
            Ok(child) => {
                let process = child.id().and_then(|pid| Process::find(pid as i32));
                Some(Running { child, process, argv })
            }
            Err(e) => {
                log_not_started("patroni.postgresql.cancellable", &argv, &shown(&argv), &e);
                None
            }
        }
    }

    /// Kills it with everything below it, unless it has ended.
    async fn kill(&mut self) {
        let (Ok(None), Some(process)) = (self.child.try_wait(), self.process) else { return };
        tracing::warn!(
            target: "patroni.postgresql.cancellable", "Killed {} because it was still running", shown(&self.argv)
        );
        let _ = tokio::task::spawn_blocking(move || kill_tree(&process)).await;
    }
}

async fn ended(running: &mut Option<Running>) {
    match running {
        Some(r) => drop(r.child.wait().await),
        None => std::future::pending().await,
    }
}

/// One runner: at most one script, and the newest of those that wait. A script that
/// cannot be killed is waited for.
async fn run(mut commands: mpsc::UnboundedReceiver<Vec<String>>, waiting: watch::Sender<usize>) {
    let done = || waiting.send_modify(|n| *n = n.saturating_sub(1));
    let mut pending: Option<Vec<String>> = None;
    let mut running: Option<Running> = None;
    loop {
        if let (None, Some(argv)) = (&running, pending.take_if(|_| running.is_none())) {
            running = Running::spawn(argv);
            done();
        }
        tokio::select! {
            command = commands.recv() => {
                let Some(argv) = command else { return };
                if let Some(r) = &mut running {
                    r.kill().await;
                }
                if pending.replace(argv).is_some() {
                    done();
                }
            }
            () = ended(&mut running) => running = None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn arguments() {
        let argv = command("/cb 'a b'", Callback::OnRoleChange, "promoted", "batman").unwrap();
        assert_eq!(argv, ["/cb", "a b", "on_role_change", "primary", "batman"]);
        assert_eq!(shown(&argv), "['/cb', 'a b', on_role_change, primary, 'batman']");
    }

    #[tokio::test]
    async fn newer_events_kill_older_scripts_but_not_those_of_the_other_runner() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("cb.sh");
        let log = dir.path().join("log");
        let text = format!(
            "echo start $2 $3 >> {log}\nif [ $1 = slow ]; then sleep 3 & wait; fi\necho end $2 $3 >> {log}\n",
            log = log.display()
        );
        std::fs::write(&script, text).unwrap();
        let executor = CallbackExecutor::start();
        let call = |kind: &str, action, role| {
            executor.call(&format!("sh {} {kind}", script.display()), action, role, "batman");
        };
        call("slow", Callback::OnStart, "replica");
        executor.settle(Duration::from_secs(5)).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        call("fast", Callback::OnReload, "replica");
        tokio::time::sleep(Duration::from_millis(150)).await;
        call("fast", Callback::OnRoleChange, "promoted");
        executor.settle(Duration::from_secs(5)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let lines = std::fs::read_to_string(log).unwrap();
        assert_eq!(
            lines.lines().collect::<Vec<_>>(),
            [
                "start on_start replica",
                "start on_reload replica",
                "end on_reload replica",
                "start on_role_change primary",
                "end on_role_change primary",
            ]
        );
        executor.call("/no/such/script", Callback::OnStop, "replica", "batman");
        executor.settle(Duration::from_secs(5)).await;
    }
}
