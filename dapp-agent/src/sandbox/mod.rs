//! Executes tasks in processes of their own: unprivileged, killable, with nothing of the host in them.
//!
//! A program is hostile, and so may be what a compiler makes of it. The agent starts its own binary once more (`conun worker`),
//! in two roles:
//!
//! 1. One process checks, prepares and compiles a program. Its memory and processor time are limited: a program may be made to
//!    blow up a compiler. It never runs the program.
//! 2. Others load the native code and execute tasks, any number one after the other. They have no compiler's needs, so that they
//!    get by with the job's memory, its native code, and little more: long outputs come while a program writes them, long inputs
//!    are outside of the process's memory (Linux).
//!
//! A worker that does not answer in time is killed; that, like any other failure of the host, is an [`Error`], never a result.
//! What keeps workers in, and what this machine's kernel lacks for it, tells [`Sandbox::confinement`].

mod brake;
mod confine;
mod frame;
#[cfg(target_os = "linux")]
mod group;
mod kill;
mod process;
#[cfg(target_os = "linux")]
mod seccomp;
mod spill;
mod worker;

use std::{ffi::OsString, io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
pub use conun_vm::Task;
use conun_vm::{Execution, native};

pub use brake::Brake;
use confine::{Budget, Role};
pub use confine::{Confinement, Layer};
use frame::{Reply, Request};
use process::{Process, out_of_turn};
pub use worker::worker_main;

/// Most private memory of a process that compiles unless somebody says otherwise, bytes. Programs of the largest size that compilers emit need less; a program
/// that needs more is not compiled here.
pub const COMPILE_DATA_BYTES: u64 = 2 << 30;

/// Most private memory that a process needs beside what depends on the job: its own, and the program's stack, of which a program
/// can touch a part before its depth ends.
const OWN_DATA_BYTES: u64 = (48 << 20) + conun_vm::fuel::NATIVE_STACK_BYTES as u64;

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
    /// The worker was stopped and its memory was needed.
    #[error("its work was stopped and then given up, since stopped work held more memory than suspended-memory-mib")]
    GivenUp,
    /// The worker ended by itself or was killed by somebody.
    #[error(
        "the worker process ended unexpectedly: {how}{}{}",
        if last_words.is_empty() { String::new() } else { format!(" ({last_words})") },
        if *compiling { "; compiling has limits of memory and processor time, which the program may have hit" } else { "" }
    )]
    Died {
        /// Exit status or signal.
        how: String,
        /// The beginning of what it wrote to standard error.
        last_words: String,
        /// Whether it was compiling, for which memory and processor time are limited.
        compiling: bool,
    },
    /// The worker cannot be started.
    #[error("cannot start a worker ({program}): {source}")]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is to be executed.
#[derive(Clone, Debug)]
pub struct Program {
    /// The module.
    pub wasm: Bytes,
    /// Most linear memory of a task, bytes.
    pub memory_bytes: u64,
    /// Most output of a task, bytes.
    pub output_bytes: u64,
    /// Longest encoded input of a task, bytes.
    pub input_bytes: u64,
    /// The program root that somebody has committed to, if so: a program that has another one is refused.
    pub root: Option<[u8; 32]>,
}

/// A program as native code of this machine, from a process that compiled it.
#[derive(Clone, Debug)]
pub struct Compiled {
    artifact: Bytes,
    output_bytes: u64,
    /// Most private memory of a process that executes it.
    data_bytes: u64,
    /// Most of an input that such a process keeps outside of that.
    file_bytes: u64,
}

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Sandbox {
    program: PathBuf,
    args: Vec<OsString>,
    cache: Option<Arc<native::Cache>>,
    compile_data_bytes: u64,
    brake: Brake,
    guest: bool,
    #[cfg(target_os = "linux")]
    group: Option<group::Group>,
}

impl Sandbox {
    /// Workers are `program` with `args`, which has to call [`worker_main`].
    pub fn new(program: PathBuf, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            program,
            args,
            cache: None,
            compile_data_bytes: COMPILE_DATA_BYTES,
            brake: Brake::default(),
            guest: false,
            #[cfg(target_os = "linux")]
            group: None,
        }
    }

    /// Keeps compiled programs in `cache`, too.
    #[must_use]
    pub fn with_cache(self, cache: native::Cache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Lets a process that compiles have at most `bytes` of private memory; default [`COMPILE_DATA_BYTES`].
    #[must_use]
    pub fn with_compile_memory(self, bytes: u64) -> Self {
        Self { compile_data_bytes: bytes, ..self }
    }

    /// Lets its processes have a processor only when nobody else on the computer wants it. Otherwise they compete with others, at the
    /// lowest priority: beside programs that never rest a guest gets nothing done.
    #[must_use]
    pub fn as_guest(self) -> Self {
        Self { guest: true, ..self }
    }

    /// Has its processes in a control group of their own, to which this process and others come first. For a program whose own group
    /// nobody else divides: it does so for good.
    ///
    /// # Errors
    /// Why it cannot be had; nothing changes for its processes then.
    #[cfg(target_os = "linux")]
    pub fn divide_group(&mut self) -> Result<(), String> {
        self.group = Some(group::Group::divide()?);
        Ok(())
    }

    /// Only Linux has such groups.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn divide_group(&mut self) -> Result<(), String> {
        Err("only Linux has control groups".to_owned())
    }

    /// What stops its processes and has them go on.
    pub fn brake(&self) -> &Brake {
        &self.brake
    }

    /// What keeps workers in on this machine.
    ///
    /// # Errors
    /// If no worker can be started.
    pub async fn confinement(&self, deadline: Duration) -> Result<Confinement, Error> {
        let budget = Budget { role: Role::Execute, data_bytes: OWN_DATA_BYTES, file_bytes: 0, cpu_seconds: 1 };
        Ok(Process::start(self, budget, deadline).await?.confinement.clone())
    }

    /// Checks, prepares and compiles a program in a process of its own, or takes what the cache has; `deadline` is for each of
    /// these steps, and for the processor time of all together.
    ///
    /// # Errors
    /// [`Error::Refused`] if the program is at fault, any other if this machine is.
    pub async fn compile(&self, program: &Program, deadline: Duration) -> Result<Compiled, Error> {
        // On all processors at once.
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
        let cpu_seconds = deadline.as_secs().max(1).saturating_mul(processors);
        let budget = Budget { role: Role::Compile, data_bytes: self.compile_data_bytes, file_bytes: 0, cpu_seconds };
        let mut process = Process::start(self, budget, deadline).await?;
        let prepare = Request::Prepare { memory_bytes: program.memory_bytes, wasm: program.wasm.clone() };
        let hash = match process.ask(&prepare, deadline).await? {
            Reply::Prepared { root, .. } if program.root.is_some_and(|expected| expected != root) => {
                return Err(Error::Refused("the program is not the one that the job commits to".to_owned()));
            }
            Reply::Prepared { hash, .. } => hash,
            other => return Err(out_of_turn(other)),
        };
        let artifact = match self.cached(hash).await {
            Some(artifact) => artifact,
            None => match process.ask(&Request::Compile, deadline).await? {
                Reply::Compiled(artifact) => {
                    self.keep(hash, artifact.clone()).await;
                    artifact
                }
                other => return Err(out_of_turn(other)),
            },
        };
        // Where there is no such file, a long input is in the process's own memory.
        let (outside, inside) =
            if cfg!(target_os = "linux") { (program.input_bytes, 0) } else { (0, program.input_bytes) };
        // The code comes over the pipe and is then made executable.
        let data_bytes = OWN_DATA_BYTES + program.memory_bytes + inside + 2 * artifact.len() as u64;
        Ok(Compiled { artifact, output_bytes: program.output_bytes, data_bytes, file_bytes: outside })
    }

    async fn cached(&self, prepared: [u8; 32]) -> Option<Bytes> {
        let cache = self.cache.clone()?;
        tokio::task::spawn_blocking(move || cache.get(&prepared)).await.ok().flatten()
    }

    /// A cache that cannot be written costs time, not results.
    async fn keep(&self, prepared: [u8; 32], artifact: Bytes) {
        let Some(cache) = self.cache.clone() else { return };
        let kept = tokio::task::spawn_blocking(move || cache.put(&prepared, &artifact)).await;
        if let Ok(Err(error)) = kept {
            tracing::warn!(%error, "a compiled program is not kept");
        }
    }

    /// Starts a worker that executes tasks of a compiled program.
    ///
    /// # Errors
    /// If this machine cannot.
    pub async fn start(&self, compiled: &Compiled, deadline: Duration) -> Result<Worker, Error> {
        let Compiled { artifact, output_bytes, data_bytes, file_bytes } = compiled.clone();
        let budget = Budget { role: Role::Execute, data_bytes, file_bytes, cpu_seconds: u64::MAX };
        let mut process = Process::start(self, budget, deadline).await?;
        let load = Request::Load { output_bytes, artifact };
        match process.ask(&load, deadline).await? {
            Reply::Loaded => Ok(Worker { process }),
            other => Err(out_of_turn(other)),
        }
    }
}

/// A process that has loaded one program. Dropping it kills it.
#[derive(Debug)]
pub struct Worker {
    process: Process,
}

impl Worker {
    /// The worker's process id, while it lives.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Time in which the worker was stopped in the middle of a task, since it was started.
    pub fn stopped(&self) -> Duration {
        self.process.stopped
    }

    /// Executes one task. After an error the worker is of no more use.
    ///
    /// # Errors
    /// If there is no result; never because of what the program did.
    ///
    /// # Cancel safety
    /// Not cancel safe: drop the worker when the future is dropped.
    pub async fn execute(&mut self, task: Task, deadline: Duration) -> Result<Execution, Error> {
        let mut executions = self.execute_all([task], deadline, |_| {}).await?;
        executions.pop().ok_or_else(|| Error::Host("the worker did not answer".to_owned()))
    }

    /// Executes several tasks, one after the other, without a pause between them; each has `deadline`. After an error the worker
    /// is of no more use, and there is no result of any of them. `hear` is shown each execution at its end, in their order.
    ///
    /// # Errors
    /// If a result is missing; never because of what the program did.
    ///
    /// # Cancel safety
    /// Not cancel safe: drop the worker when the future is dropped.
    pub async fn execute_all(
        &mut self,
        tasks: impl IntoIterator<Item = Task>,
        deadline: Duration,
        mut hear: impl FnMut(&Execution),
    ) -> Result<Vec<Execution>, Error> {
        let request = |Task { input, fuel_limit }| Request::Execute { fuel_limit, input };
        let requests: Vec<_> = tasks.into_iter().map(request).collect();
        let heard = |reply: &Reply| {
            if let Reply::Executed(execution) = reply {
                hear(execution);
            }
        };
        let replies = self.process.ask_all(&requests, deadline, heard).await?;
        let execution = |reply| match reply {
            Reply::Executed(execution) => Ok(execution),
            other => Err(out_of_turn(other)),
        };
        replies.into_iter().map(execution).collect()
    }
}
