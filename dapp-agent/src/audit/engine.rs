//! What executes tasks: the agent's own workers, or the step machine.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use conun_vm::{
    Execution, Limits,
    machine::{Code, Machine},
    roots,
};

use crate::{
    provider::{COMPILE_DEADLINE, OUTPUT_BYTES, Workers},
    sandbox::{Compiled, Error, Program, Sandbox, Task},
};
use alloy::primitives::B256;

/// Fuel a second below which a worker counts as stuck: computers do some hundred times as much.
const SLOWEST: u64 = 10_000_000;

/// What executes tasks. Both come to the same result.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Native code in processes of their own, as providers have it.
    Native(Sandbox),
    /// The step machine, an interpreter in this process: slower, and independent of the compiler.
    Step,
}

/// What has executed programs so far.
pub(super) enum Machines {
    Native(Box<Workers>),
    Step,
}

/// A program that can be executed.
pub(super) enum Loaded {
    Native(Compiled),
    Step(Arc<Code>),
}

impl Machines {
    /// `most`: how many workers at once.
    pub(super) fn new(engine: Engine, most: usize) -> Self {
        match engine {
            Engine::Native(sandbox) => Self::Native(Box::new(Workers::new(sandbox, most))),
            Engine::Step => Self::Step,
        }
    }

    /// # Errors
    /// [`Error::Refused`] if the program is at fault, any other if this machine is.
    pub(super) async fn load(&self, program: Program) -> Result<Loaded, Error> {
        match self {
            Self::Native(workers) => workers.sandbox.compile(&program, COMPILE_DEADLINE).await.map(Loaded::Native),
            Self::Step => blocking(move || flatten(&program)).await?.map(Loaded::Step),
        }
    }

    /// Executes tasks of a job, one after the other.
    ///
    /// # Errors
    /// If there is no result: none of any of them.
    pub(super) async fn execute(
        &self,
        job: B256,
        loaded: &Loaded,
        inputs: Vec<Bytes>,
        fuel_limit: u64,
    ) -> Result<Vec<Execution>, Error> {
        match (self, loaded) {
            (Self::Native(workers), Loaded::Native(compiled)) => {
                let deadline = Duration::from_secs(60 + fuel_limit / SLOWEST);
                let mut worker = workers.take(job, compiled).await?;
                let tasks = inputs.into_iter().map(|input| Task { input, fuel_limit });
                let done = worker.execute_all(tasks, deadline, |_| {}).await?;
                workers.give_back(job, worker).await;
                Ok(done)
            }
            (_, Loaded::Step(code)) => {
                let code = code.clone();
                let all = move || inputs.into_iter().map(|input| step(&code, &input, fuel_limit)).collect();
                blocking(all).await?
            }
            (Self::Step, Loaded::Native(_)) => Err(Error::Host("a bug: native code for the step machine".to_owned())),
        }
    }

    /// The job's workers are needed no more.
    pub(super) async fn end(&self, job: B256) {
        if let Self::Native(workers) = self {
            workers.end(job).await;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Host(format!("a bug: {error}")))
}

fn failure(error: conun_vm::Error) -> Error {
    if error.is_refusal() { Error::Refused(error.to_string()) } else { Error::Host(error.to_string()) }
}

fn flatten(program: &Program) -> Result<Arc<Code>, Error> {
    let limits = Limits { memory_bytes: program.memory_bytes, ..Limits::default() };
    let prepared = conun_vm::prepare(&program.wasm, &limits).map_err(failure)?;
    let root = roots::program_root(&prepared).map_err(failure)?;
    if program.root.is_some_and(|expected| expected != root) {
        return Err(Error::Refused("the program is not the one that the job commits to".to_owned()));
    }
    Code::flatten(prepared.as_bytes()).map(Arc::new).map_err(failure)
}

fn step(code: &Arc<Code>, input: &[u8], fuel_limit: u64) -> Result<Execution, Error> {
    let mut machine = Machine::new(code.clone(), input.into(), fuel_limit, OUTPUT_BYTES).map_err(failure)?;
    machine.run().map_err(failure)?;
    let run = machine.into_run().ok_or_else(|| Error::Host("a bug: the step machine stopped early".to_owned()))?;
    Ok(Execution { outcome: run.outcome, output: run.output, fuel: run.fuel, stderr: run.log })
}
