//! Preparing jobs and executing batches: what the loop hands to tasks of their own.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256};
use bytes::Bytes;
use conun_bindings::{
    abi::JobRegistry::{Job, Spec},
    commit::{self, BoundTree},
    job,
};
use conun_vm::Execution;
use tokio::sync::Mutex;

use super::{held::Held, report::Reporter};
use crate::{
    chain::JobEntry,
    core::BatchId,
    manifest::{
        BlobHash, Content, InputManifest, MAX_FILES_BYTES, MAX_INPUT_MANIFEST, MAX_STDIN_BYTES, ResultManifest,
        TaskResult,
    },
    net::{self, Node, PeerContact},
    sandbox::{self, Compiled, Program, Sandbox, Task, Worker},
    store::{Journal, ResultRecord, Salt},
};

/// Most time to compile a program.
pub(crate) const COMPILE_DEADLINE: Duration = Duration::from_secs(60);

/// Most time to start a worker and load what was compiled.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Most output of one task, bytes. The job does not choose it, so that all providers use the same.
pub(crate) const OUTPUT_BYTES: u64 = 16 << 20;

/// Most tasks that a worker is given at once, and most bytes of their inputs: without a pause between them, small tasks take a
/// tenth of the time.
pub(crate) const TASKS_AT_ONCE: usize = 64;
pub(crate) const BYTES_AT_ONCE: usize = 8 << 20;

/// Most bytes of inputs that are fetched ahead for a batch.
const BYTES_AHEAD: u64 = 256 << 20;

/// Tasks that are looked at to see how much of a job's inputs is here.
const SAMPLE: usize = 16;

/// Smaller transfers tell more of latency than of the line.
const LARGE: usize = 64 << 10;

/// How fast data comes from peers. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<AtomicU64>);

impl Line {
    /// Bytes a second, 0 before anything large came.
    pub(super) fn bytes_per_second(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn note(&self, bytes: usize, took: Duration) {
        if bytes < LARGE {
            return;
        }
        let seen = (bytes as f64 / took.as_secs_f64().max(1e-6)) as u64;
        let mean = match self.bytes_per_second() {
            0 => seen,
            mean => mean / 4 * 3 + seen / 4,
        };
        self.0.store(mean.max(1), Ordering::Relaxed);
    }
}

/// What preparing a job needs to know of it.
pub(super) struct Terms {
    job: Job,
    spec: Spec,
    assured: bool,
}

impl From<&JobEntry> for Terms {
    fn from(entry: &JobEntry) -> Self {
        Self { job: entry.job.clone(), spec: entry.spec.clone(), assured: entry.assured.is_some() }
    }
}

/// A job whose program and inputs are what it says.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) job: Job,
    /// Whether its results are voted about.
    assured: bool,
    compiled: Compiled,
    inputs: InputManifest,
    /// Contents of the files that all tasks share; none yet if the job is private.
    files: Arc<[Bytes]>,
    /// Bytes of inputs that a batch has to fetch, on the average of the first tasks.
    pub(super) bytes_a_batch: u64,
}

impl Prepared {
    /// Files that all tasks share, unless the job is private.
    pub(super) fn public_files(&self) -> Vec<BlobHash> {
        if self.inputs.private { Vec::new() } else { self.inputs.files.iter().map(|file| file.hash).collect() }
    }
}

/// What has been checked of a job without executing anything.
pub(crate) struct Checked {
    pub(crate) program: Program,
    pub(crate) inputs: InputManifest,
}

/// Why a job could not be prepared.
pub(super) enum Unprepared {
    /// Never.
    Refused(String),
    /// Perhaps later.
    Unavailable(String),
}

/// Checks program and input manifest against the job.
///
/// # Errors
/// Why nobody should take it.
pub(crate) fn check(job: &Job, spec: &Spec, wasm: Bytes, manifest: &[u8]) -> Result<Checked, String> {
    let inputs = InputManifest::decode(manifest).map_err(|error| error.to_string())?;
    if inputs.tasks.len() != job.taskCount as usize {
        return Err(format!("there are inputs for {} tasks instead of {}", inputs.tasks.len(), job.taskCount));
    }
    if inputs.root().map_err(|error| error.to_string())? != spec.inputRoot {
        return Err("the inputs are not those that the job commits to".to_owned());
    }
    let longest = inputs.tasks.iter().map(|input| input.length).max().unwrap_or(0);
    if longest > MAX_STDIN_BYTES {
        return Err(format!("an input has {longest} bytes, at most {MAX_STDIN_BYTES} are allowed"));
    }
    let files = inputs.files.iter().fold(0, |sum: u64, file| sum.saturating_add(file.length));
    if files > MAX_FILES_BYTES {
        return Err(format!("the files have {files} bytes, at most {MAX_FILES_BYTES} are allowed"));
    }
    if job.fuelLimit > conun_vm::MAX_FUEL {
        return Err(format!("the fuel limit is above {}", conun_vm::MAX_FUEL));
    }
    let input_bytes = inputs.input_length(longest).map_err(|error| error.to_string())?;
    let program = Program {
        wasm,
        memory_bytes: spec.memoryLimit,
        output_bytes: OUTPUT_BYTES,
        input_bytes,
        root: Some(spec.programRoot.0),
    };
    Ok(Checked { program, inputs })
}

/// Idle workers: starting one takes longer than many a task. No more than work at once, whatever their jobs: they hold memory.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) sandbox: Sandbox,
    most: usize,
    /// The one that has been idle for longest comes first.
    idle: Mutex<VecDeque<(B256, Worker)>>,
}

impl Workers {
    /// `most`: how many work at once.
    pub(crate) fn new(sandbox: Sandbox, most: usize) -> Self {
        Self { sandbox, most, idle: Mutex::default() }
    }

    pub(crate) async fn take(&self, job: B256, compiled: &Compiled) -> Result<Worker, sandbox::Error> {
        {
            let mut idle = self.idle.lock().await;
            let found = idle.iter().rposition(|(other, _)| *other == job);
            if let Some((_, worker)) = found.and_then(|at| idle.remove(at)) {
                return Ok(worker);
            }
        }
        self.sandbox.start(compiled, START_DEADLINE).await
    }

    pub(crate) async fn give_back(&self, job: B256, worker: Worker) {
        let mut idle = self.idle.lock().await;
        idle.push_back((job, worker));
        while idle.len() > self.most.max(1) {
            idle.pop_front();
        }
    }

    /// Ends the idle workers of a job.
    pub(crate) async fn end(&self, job: B256) {
        self.idle.lock().await.retain(|(other, _)| *other != job);
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
    pub(super) held: Held,
    pub(super) reporter: Reporter,
    /// The provider's account.
    pub(super) me: Address,
    pub(super) line: Line,
}

impl Executor {
    /// A blob from here or from a peer; how fast it came is noted.
    async fn fetch(&self, hash: &BlobHash, peers: &[PeerContact], most: u64) -> Result<Bytes, crate::net::Error> {
        if let Some(bytes) = self.node.get(hash).await?.filter(|bytes| bytes.len() as u64 <= most) {
            return Ok(bytes);
        }
        let start = Instant::now();
        let bytes = self.node.fetch(hash, peers, most).await?;
        self.line.note(bytes.len(), start.elapsed());
        Ok(bytes)
    }

    /// Fetches what a batch reads, so that its worker need not wait for it. What cannot be had is sought again when it is executed.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn fetch_ahead(&self, id: BatchId, prepared: &Prepared, peers: &[PeerContact]) {
        let mut left = BYTES_AHEAD;
        for index in job::tasks_in(&prepared.job, id.1) {
            let task = &prepared.inputs.tasks[index as usize];
            let Some(rest) = left.checked_sub(task.length) else { return };
            left = rest;
            if self.fetch(&task.hash, peers, task.length).await.is_err() {
                return;
            }
        }
    }

    /// Bytes that a batch has to fetch, going by the first tasks.
    async fn bytes_a_batch(&self, job: &Job, inputs: &InputManifest) -> Result<u64, crate::net::Error> {
        let mut bytes = 0;
        let sample = &inputs.tasks[..inputs.tasks.len().min(SAMPLE)];
        for task in sample {
            if self.node.look_at(&task.hash).await?.is_none() {
                bytes += task.length;
            }
        }
        Ok(bytes * u64::from(job.batchSize) / sample.len().max(1) as u64)
    }

    /// Fetches program and input manifest, checks both against the job, and has the program compiled, before any stake is at
    /// risk.
    pub(super) async fn prepare(&self, id: B256, terms: Terms, peers: &[PeerContact]) -> Result<Prepared, Unprepared> {
        let Terms { job, spec, assured } = terms;
        let unavailable = |error: net::Error| Unprepared::Unavailable(error.to_string());
        let wasm = self.fetch(&spec.program.0, peers, conun_vm::MAX_PROGRAM_BYTES as u64).await.map_err(unavailable)?;
        let manifest = self.fetch(&spec.inputs.0, peers, MAX_INPUT_MANIFEST).await.map_err(unavailable)?;
        let checking = {
            let job = job.clone();
            tokio::task::spawn_blocking(move || check(&job, &spec, wasm, &manifest))
        };
        let checked = checking.await.map_err(|error| Unprepared::Unavailable(format!("a bug: {error}")))?;
        let Checked { program, inputs } = checked.map_err(Unprepared::Refused)?;
        let compiled = self.workers.sandbox.compile(&program, COMPILE_DEADLINE).await.map_err(|error| match error {
            sandbox::Error::Refused(reason) => Unprepared::Refused(reason),
            error => Unprepared::Unavailable(error.to_string()),
        })?;
        // What is private can be had with a lease alone.
        let files = if inputs.private { [].into() } else { self.files(&inputs, peers).await.map_err(unavailable)? };
        let worker = self.workers.take(id, &compiled).await;
        self.workers.give_back(id, worker.map_err(|error| Unprepared::Unavailable(error.to_string()))?).await;
        let bytes_a_batch = self.bytes_a_batch(&job, &inputs).await.map_err(unavailable)?;
        Ok(Prepared { job, assured, compiled, inputs, files, bytes_a_batch })
    }

    /// Contents of the files that all tasks share.
    async fn files(&self, inputs: &InputManifest, peers: &[PeerContact]) -> Result<Arc<[Bytes]>, net::Error> {
        let mut files = Vec::with_capacity(inputs.files.len());
        for file in &inputs.files {
            files.push(self.fetch(&file.hash, peers, file.length).await?);
        }
        Ok(files.into())
    }

    /// Executes a batch, publishes its outputs (or holds them back, where there will be a vote), and keeps its result; also says how long
    /// its worker worked. A result from before a restart is not computed again as
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
        prepared: &Arc<Prepared>,
        peers: &[PeerContact],
    ) -> Result<(ResultRecord, Duration), String> {
        let kept = self.journal.result(id.0, id.1).map_err(|error| error.to_string())?;
        if let Some(record) = kept
            && self.has_outputs(id, &record).await?
        {
            return Ok((record, Duration::ZERO));
        }
        let start = Instant::now();
        let (record, stopped) = self.compute(id, prepared, peers).await?;
        // The journal's first result stays, whatever comes later.
        let first = self.journal.keep_result(id.0, id.1, record).map_err(|error| error.to_string())?;
        if !first.agrees_with(&record) {
            return Err(
                "executed again, the batch came out differently: this machine's memory or processor is faulty".into()
            );
        }
        Ok((first, start.elapsed().saturating_sub(stopped)))
    }

    /// Whether all bytes that a result promises are here; a crash may have lost the latest.
    pub(super) async fn has_outputs(&self, id: BatchId, record: &ResultRecord) -> Result<bool, String> {
        let Some(manifest) = self.kept(id, &record.outputs.0).await? else { return Ok(false) };
        let manifest = ResultManifest::decode(&manifest).map_err(|error| error.to_string())?;
        if (manifest.job, manifest.batch) != id {
            return Ok(false);
        }
        for result in &manifest.results {
            if self.kept(id, &result.output.hash).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A blob of a result of this provider's, served or held back.
    pub(super) async fn kept(&self, id: BatchId, hash: &BlobHash) -> Result<Option<Bytes>, String> {
        match self.held.get(id, hash).await.map_err(|error| error.to_string())? {
            Some(bytes) => Ok(Some(bytes)),
            None => self.node.get(hash).await.map_err(|error| error.to_string()),
        }
    }

    /// Keeps a blob of a result: only what nobody votes about may be had at once.
    async fn keep(&self, id: BatchId, prepared: &Prepared, bytes: Bytes) -> Result<BlobHash, String> {
        if prepared.assured {
            self.held.put(id, bytes).await.map_err(|error| error.to_string())
        } else {
            self.node.put(bytes).await.map_err(|error| error.to_string())
        }
    }

    /// The result, and for how long the worker was stopped meanwhile.
    async fn compute(
        &self,
        id: BatchId,
        prepared: &Arc<Prepared>,
        peers: &[PeerContact],
    ) -> Result<(ResultRecord, Duration), String> {
        let job = &prepared.job;
        let files = match prepared.inputs.private {
            true => self.files(&prepared.inputs, peers).await.map_err(|error| error.to_string())?,
            false => prepared.files.clone(),
        };
        let mut worker = self.workers.take(id.0, &prepared.compiled).await.map_err(|error| error.to_string())?;
        let before = worker.stopped();
        // A lease's whole time: whatever takes longer has lost it anyway.
        let deadline = Duration::from_secs(job.leaseSeconds.into());
        let mut results = Vec::new();
        let mut indices = job::tasks_in(job, id.1).peekable();
        while indices.peek().is_some() {
            let mut tasks = Vec::new();
            let mut ending = indices.clone();
            let mut bytes = 0;
            while tasks.len() < TASKS_AT_ONCE
                && bytes < BYTES_AT_ONCE
                && let Some(index) = indices.next()
            {
                let input = self.input(index, prepared, files.clone(), peers).await?;
                bytes += input.len();
                self.reporter.started(id, index);
                tasks.push(Task { input, fuel_limit: job.fuelLimit });
            }
            let hear = |done: &Execution| {
                if let Some(index) = ending.next() {
                    self.reporter.ended(id, index, done, prepared.assured);
                }
            };
            for done in worker.execute_all(tasks, deadline, hear).await.map_err(|error| error.to_string())? {
                let bytes = Bytes::from(done.output);
                let output = content_of(&bytes).await?;
                self.keep(id, prepared, bytes).await?;
                results.push(TaskResult { outcome: done.outcome, fuel: done.fuel, output });
            }
        }
        let stopped = worker.stopped().saturating_sub(before);
        self.workers.give_back(id.0, worker).await;
        let manifest = ResultManifest { job: id.0, batch: id.1, results };
        let first = job::tasks_in(job, id.1).start;
        let tree = manifest.tree(first).map_err(|error| error.to_string())?;
        let outputs = self.keep(id, prepared, manifest.encode().into()).await?.into();
        let (bound, salt) = if prepared.assured {
            let salt = Salt::random().map_err(|error| error.to_string())?;
            (BoundTree::new(self.me, &manifest.leaves(first)).root(), salt)
        } else {
            Default::default()
        };
        let record = ResultRecord { root: tree.root(), fuel: tree.fuel(), outputs, bound, salt };
        Ok((record, stopped))
    }

    /// The blob that a task reads, if it is what the job commits to.
    async fn input(
        &self,
        index: u32,
        prepared: &Arc<Prepared>,
        files: Arc<[Bytes]>,
        peers: &[PeerContact],
    ) -> Result<Bytes, String> {
        let task = prepared.inputs.tasks[index as usize];
        let stdin = self.fetch(&task.hash, peers, task.length).await.map_err(|error| error.to_string())?;
        let prepared = prepared.clone();
        let made = tokio::task::spawn_blocking(move || {
            let input = prepared.inputs.input(index, &stdin, &files).map_err(|error| error.to_string())?;
            if commit::region_root(&input) != task.root {
                return Err(format!("input {index} is not the one that the job commits to"));
            }
            Ok(Bytes::from(input))
        });
        made.await.map_err(|error| format!("a bug: {error}"))?
    }
}

/// Hashing megabytes takes a while: other tasks go on meanwhile.
pub(crate) async fn content_of(bytes: &Bytes) -> Result<Content, String> {
    let bytes = bytes.clone();
    tokio::task::spawn_blocking(move || Content::of(&bytes)).await.map_err(|error| format!("a bug: {error}"))
}
