//! Preparing jobs and executing batches: what the loop hands to tasks of their own.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::B256;
use bytes::Bytes;
use conun_bindings::{
    abi::JobRegistry::{Job, Spec},
    commit, job,
};
use tokio::sync::Mutex;

use crate::{
    core::BatchId,
    manifest::{Content, InputManifest, MAX_INPUT_MANIFEST, ResultManifest, TaskResult},
    net::{Node, PeerContact},
    sandbox::{self, Program, Sandbox, Worker},
    store::{Journal, ResultRecord},
};

/// Most time to compile a program.
const COMPILE_DEADLINE: Duration = Duration::from_secs(60);

/// Most output of one task, bytes. The job does not choose it, so that all providers use the same.
pub(crate) const OUTPUT_BYTES: u64 = 16 << 20;

/// Largest input of a task, bytes.
pub(crate) const MAX_INPUT_BYTES: u64 = 64 << 20;

/// A job whose program and inputs are what it says.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) job: Job,
    program: Program,
    inputs: InputManifest,
}

/// Why a job could not be prepared.
pub(super) enum Unprepared {
    /// Never.
    Refused(String),
    /// Perhaps later.
    Unavailable(String),
}

/// Checks program and input manifest against the job.
fn check(job: Job, spec: &Spec, wasm: Bytes, manifest: &[u8]) -> Result<Prepared, String> {
    if commit::program_root(&wasm) != spec.programRoot {
        return Err("the program is not the one that the job commits to".to_owned());
    }
    let inputs = InputManifest::decode(manifest).map_err(|error| error.to_string())?;
    if inputs.tasks.len() != job.taskCount as usize {
        return Err(format!("there are inputs for {} tasks instead of {}", inputs.tasks.len(), job.taskCount));
    }
    if inputs.root() != spec.inputRoot {
        return Err("the inputs are not those that the job commits to".to_owned());
    }
    if let Some(input) = inputs.tasks.iter().find(|input| input.length > MAX_INPUT_BYTES) {
        return Err(format!("an input has {} bytes, at most {MAX_INPUT_BYTES} are allowed", input.length));
    }
    if inputs.args.iter().map(|arg| arg.len() + 1).sum::<usize>() > conun_vm::MAX_ARGS_BYTES {
        return Err(format!("the arguments are longer than {} bytes", conun_vm::MAX_ARGS_BYTES));
    }
    if job.fuelLimit > conun_vm::MAX_FUEL {
        return Err(format!("the fuel limit is above {}", conun_vm::MAX_FUEL));
    }
    conun_vm::check(&wasm).map_err(|error| error.to_string())?;
    let program =
        Program { wasm, memory_bytes: spec.memoryLimit, output_bytes: OUTPUT_BYTES, args: inputs.args.clone() };
    Ok(Prepared { job, program, inputs })
}

/// Idle workers by job: compiling takes longer than many a task.
#[derive(Debug)]
pub(super) struct Workers {
    sandbox: Sandbox,
    idle: Mutex<HashMap<B256, Vec<Worker>>>,
}

impl Workers {
    pub(super) fn new(sandbox: Sandbox) -> Self {
        Self { sandbox, idle: Mutex::default() }
    }

    async fn take(&self, job: B256, program: &Program) -> Result<Worker, sandbox::Error> {
        {
            let mut idle = self.idle.lock().await;
            if let Some(worker) = idle.get_mut(&job).and_then(Vec::pop) {
                return Ok(worker);
            }
            // Workers of other jobs would only hold memory.
            idle.retain(|other, _| *other == job);
        }
        self.sandbox.start(program, COMPILE_DEADLINE).await
    }

    async fn give_back(&self, job: B256, worker: Worker) {
        self.idle.lock().await.entry(job).or_default().push(worker);
    }

    /// Ends the idle workers of a job.
    pub(super) async fn end(&self, job: B256) {
        self.idle.lock().await.remove(&job);
    }

    /// Ends all idle workers.
    pub(super) async fn clear(&self) {
        self.idle.lock().await.clear();
    }
}

/// Everything that executing a batch needs.
#[derive(Clone)]
pub(super) struct Executor {
    pub(super) node: Node,
    pub(super) workers: Arc<Workers>,
    pub(super) journal: Arc<Journal>,
}

impl Executor {
    /// Fetches program and input manifest, checks both against the job, and has the program compiled, before any stake is at
    /// risk.
    pub(super) async fn prepare(
        &self,
        id: B256,
        job: Job,
        spec: Spec,
        peers: &[PeerContact],
    ) -> Result<Prepared, Unprepared> {
        let unavailable = |error: crate::net::Error| Unprepared::Unavailable(error.to_string());
        let wasm =
            self.node.fetch(&spec.program.0, peers, conun_vm::MAX_PROGRAM_BYTES as u64).await.map_err(unavailable)?;
        let manifest = self.node.fetch(&spec.inputs.0, peers, MAX_INPUT_MANIFEST).await.map_err(unavailable)?;
        let checked = tokio::task::spawn_blocking(move || check(job, &spec, wasm, &manifest)).await;
        let checked = checked.map_err(|error| Unprepared::Unavailable(format!("a bug: {error}")))?;
        let prepared = checked.map_err(Unprepared::Refused)?;
        match self.workers.take(id, &prepared.program).await {
            Ok(worker) => self.workers.give_back(id, worker).await,
            Err(sandbox::Error::Refused(reason)) => return Err(Unprepared::Refused(reason)),
            Err(error) => return Err(Unprepared::Unavailable(error.to_string())),
        }
        Ok(prepared)
    }

    /// Executes a batch, publishes its outputs, and keeps its result. A result from before a restart is not computed again as
    /// long as its bytes are here.
    ///
    /// # Errors
    /// A sentence for the owner; no verdict about the job.
    ///
    /// # Cancel safety
    /// Cancel safe: the worker dies with the future.
    pub(super) async fn execute(
        &self,
        id: BatchId,
        prepared: &Prepared,
        peers: &[PeerContact],
    ) -> Result<(ResultRecord, Duration), String> {
        let kept = self.journal.result(id.0, id.1).map_err(|error| error.to_string())?;
        if let Some(record) = kept
            && self.has_outputs(id, &record).await?
        {
            return Ok((record, Duration::ZERO));
        }
        let start = Instant::now();
        let record = self.compute(id, prepared, peers).await?;
        // The journal's first result stays, whatever comes later.
        let first = self.journal.keep_result(id.0, id.1, record).map_err(|error| error.to_string())?;
        if first != record {
            return Err(
                "executed again, the batch came out differently: this machine's memory or processor is faulty".into()
            );
        }
        Ok((record, start.elapsed()))
    }

    /// Whether all bytes that a result promises are here; a crash may have lost the latest.
    pub(super) async fn has_outputs(&self, (job, batch): BatchId, record: &ResultRecord) -> Result<bool, String> {
        let get = async |hash: &[u8; 32]| self.node.get(hash).await.map_err(|error| error.to_string());
        let Some(manifest) = get(&record.outputs.0).await? else { return Ok(false) };
        let manifest = ResultManifest::decode(&manifest).map_err(|error| error.to_string())?;
        if (manifest.job, manifest.batch) != (job, batch) {
            return Ok(false);
        }
        for result in &manifest.results {
            if get(&result.output.hash).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn compute(&self, id: BatchId, prepared: &Prepared, peers: &[PeerContact]) -> Result<ResultRecord, String> {
        let job = &prepared.job;
        let mut worker = self.workers.take(id.0, &prepared.program).await.map_err(|error| error.to_string())?;
        let mut results = Vec::new();
        for index in job::tasks_in(job, id.1) {
            let input = prepared.inputs.tasks[index as usize];
            let stdin = self.node.fetch(&input.hash, peers, input.length).await.map_err(|error| error.to_string())?;
            if content_of(&stdin).await? != input {
                return Err(format!("input {index} is not the one that the job commits to"));
            }
            // A lease's whole time: whatever takes longer has lost it anyway.
            let deadline = Duration::from_secs(job.leaseSeconds.into());
            let done = worker.execute(&stdin, job.fuelLimit, deadline).await.map_err(|error| error.to_string())?;
            let bytes = Bytes::from(done.output);
            let output = content_of(&bytes).await?;
            self.node.put(bytes).await.map_err(|error| error.to_string())?;
            results.push(TaskResult { outcome: done.outcome, fuel: done.fuel, output });
        }
        self.workers.give_back(id.0, worker).await;
        let manifest = ResultManifest { job: id.0, batch: id.1, results };
        let tree = manifest.tree(job::tasks_in(job, id.1).start).map_err(|error| error.to_string())?;
        let outputs = self.node.put(manifest.encode()).await.map_err(|error| error.to_string())?;
        Ok(ResultRecord { root: tree.root(), fuel: tree.fuel(), outputs: outputs.into() })
    }
}

/// Hashing megabytes takes a while: other tasks go on meanwhile.
async fn content_of(bytes: &Bytes) -> Result<Content, String> {
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || Content::of(&bytes)).await.map_err(|error| format!("a bug: {error}"))
}
