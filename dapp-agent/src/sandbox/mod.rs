//! Executes tasks in a process of their own: unprivileged, killable, with nothing of the host in it.
//!
//! A program is hostile, and so may be what a compiler makes of it. The agent starts its own binary once more (`conun worker`),
//! sends it the program and then inputs, one after the other, and reads results. A worker that does not answer in time is
//! killed; that, like any other failure of the host, is an [`Error`], never a result.

mod confine;
mod frame;
mod worker;

use std::{ffi::OsString, io, path::PathBuf, process::Stdio, time::Duration};

use conun_vm::Execution;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use frame::{Reply, Request};
pub use worker::worker_main;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program's own fault: every machine refuses it.
    #[error("the program is refused: {0}")]
    Refused(String),
    /// This machine could not execute it; no verdict about the program.
    #[error("this machine could not execute the task: {0}")]
    Host(String),
    /// The worker took too long and was killed.
    #[error("the worker did not answer within {0:?} and was killed")]
    TooSlow(Duration),
    /// The worker ended by itself or was killed by somebody.
    #[error("the worker process ended unexpectedly: {0}")]
    Died(String),
    /// The worker cannot be started.
    #[error("cannot start a worker ({program}): {source}")]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What a worker executes.
#[derive(Clone, Debug)]
pub struct Program {
    /// The module.
    pub wasm: bytes::Bytes,
    /// Most linear memory of a task, bytes.
    pub memory_bytes: u64,
    /// Most output of a task, bytes.
    pub output_bytes: u64,
    /// Arguments of every task.
    pub args: Vec<String>,
}

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: PathBuf,
    args: Vec<OsString>,
}

impl Sandbox {
    /// Workers are `program` with `args`, which has to call [`worker_main`].
    pub fn new(program: PathBuf, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program, args: args.into_iter().map(Into::into).collect() }
    }

    /// Starts a worker and has it compile `program`.
    ///
    /// # Errors
    /// [`Error::Refused`] if the program is at fault, any other if this machine is.
    pub async fn start(&self, program: &Program, deadline: Duration) -> Result<Worker, Error> {
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| Error::Spawn { program: self.program.clone(), source })?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(stdin), Some(stdout)) = pipes else { return Err(Error::Host("a worker without pipes".to_owned())) };
        let mut worker = Worker { child, stdin, stdout };
        let load = Request::Load {
            memory_bytes: program.memory_bytes,
            output_bytes: program.output_bytes,
            args: program.args.clone(),
            wasm: program.wasm.to_vec(),
        };
        match worker.ask(&load, deadline).await? {
            Reply::Loaded => Ok(worker),
            Reply::Refused(reason) => Err(Error::Refused(reason)),
            Reply::Host(reason) => Err(Error::Host(reason)),
            Reply::Executed(_) => Err(Error::Host("the worker answered out of turn".to_owned())),
        }
    }
}

/// A process that has compiled one program. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
}

impl Worker {
    /// The worker's process id, while it lives.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Executes one task. After an error the worker is of no more use.
    ///
    /// # Errors
    /// If there is no result; never because of what the program did.
    ///
    /// # Cancel safety
    /// Not cancel safe: drop the worker when the future is dropped.
    pub async fn execute(&mut self, stdin: &[u8], fuel_limit: u64, deadline: Duration) -> Result<Execution, Error> {
        match self.ask(&Request::Execute { fuel_limit, stdin: stdin.to_vec() }, deadline).await? {
            Reply::Executed(execution) => Ok(execution),
            Reply::Refused(reason) => Err(Error::Refused(reason)),
            Reply::Host(reason) => Err(Error::Host(reason)),
            Reply::Loaded => Err(Error::Host("the worker answered out of turn".to_owned())),
        }
    }

    async fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, Error> {
        let exchange = async {
            frame::send(&mut self.stdin, &request.encode()).await?;
            Reply::decode(&frame::receive(&mut self.stdout).await?)
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            // Too long, in either direction, or no frame at all: it would not end by itself.
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                // It may be dead already.
                let _ = self.child.start_kill();
                Err(Error::Host(error.to_string()))
            }
            Ok(Err(error)) => {
                let status = tokio::time::timeout(Duration::from_secs(1), self.child.wait()).await;
                let status =
                    status.ok().and_then(Result::ok).map_or_else(|| error.to_string(), |status| status.to_string());
                // It may be dead already.
                let _ = self.child.start_kill();
                Err(Error::Died(status))
            }
            Err(_) => {
                // It may have died at this very moment.
                let _ = self.child.start_kill();
                Err(Error::TooSlow(deadline))
            }
        }
    }
}
