//! Auditing: results that are on the chain, executed once more.
//!
//! [`pick`] says which results there are. [`Auditor::audit`] gets program and inputs of each, holds them against the roots that the job commits to,
//! executes the tasks, and compares what comes out with the result: with its leaves where the result manifest can be had (and has the root that
//! is on the chain), else with the root of them all. Nothing is taken on trust: a blob is known by its hash, and what it means by the chain.

mod blobs;
mod engine;
mod pick;

use std::sync::Arc;

use alloy::primitives::{Address, B256};
use bytes::Bytes;
use conun_bindings::{commit::ResultLeaf, job};
use conun_vm::Outcome;
use futures_util::{StreamExt, stream};
use serde::Serialize;

pub use blobs::Blobs;
pub use engine::Engine;
pub use pick::{Pick, Stage, Target, WHOLE, pick};

use crate::{
    chain::{self, Follower, JobEntry},
    files::{FileError, io_error},
    manifest::{BlobHash, InputManifest, MAX_INPUT_MANIFEST, MAX_RESULT_MANIFEST, ResultManifest, TaskResult},
    net,
    provider::{BYTES_AT_ONCE, Checked, OUTPUT_BYTES, TASKS_AT_ONCE, check, content_of},
    requester::proved_manifest,
    sandbox, store,
};
use blobs::{Chain, Wanted};
use engine::{Loaded, Machines};

/// Why nothing can be audited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The endpoint cannot start.
    #[error(transparent)]
    Net(#[from] net::Error),
    /// The chain cannot be read.
    #[error(transparent)]
    Chain(#[from] chain::Error),
}

/// What an audit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It comes out here as the chain has it.
    Agrees,
    /// It does not.
    Differs,
    /// Something is missing.
    CannotTell,
}

/// A task's result, as a leaf of the result tree has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leaf {
    /// Exit code; none if it failed.
    pub exit_code: Option<u32>,
    /// Fuel burned.
    pub fuel: u64,
    /// Region root of the output.
    pub output_root: B256,
    /// Bytes of output.
    pub output_bytes: u64,
}

impl From<&TaskResult> for Leaf {
    fn from(result: &TaskResult) -> Self {
        let exit_code = match result.outcome {
            Outcome::Ok { exit_code } => Some(exit_code),
            Outcome::Failed => None,
        };
        Self { exit_code, fuel: result.fuel, output_root: result.output.root, output_bytes: result.output.length }
    }
}

/// What came of auditing one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskAudit {
    /// Its index in the job.
    pub task: u32,
    /// The verdict.
    pub verdict: Verdict,
    /// Why it differs or cannot be told.
    pub reason: Option<String>,
    /// What came out here.
    pub here: Option<Leaf>,
    /// What the chain has, where its leaf is known.
    pub there: Option<Leaf>,
    /// Hash of the leaf that comes out here.
    pub leaf: Option<B256>,
}

impl TaskAudit {
    fn unknown(task: u32, reason: String) -> Self {
        let verdict = Verdict::CannotTell;
        Self { task, verdict, reason: Some(reason), here: None, there: None, leaf: None }
    }

    /// Whether the leaf on the chain is known, and is not the one that comes out here: what a challenge says.
    pub fn is_wrong(&self) -> bool {
        self.verdict == Verdict::Differs && self.here.is_some() && self.here != self.there
    }
}

/// What came of auditing a batch.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchAudit {
    /// The result.
    #[serde(flatten)]
    pub target: Target,
    /// The verdict.
    pub verdict: Verdict,
    /// Result root that comes out here, if all tasks were executed.
    pub root_here: Option<B256>,
    /// Fuel of all tasks here.
    pub fuel_here: Option<u64>,
    /// Why the result's leaves are not known, if they are not.
    pub leaves_unknown: Option<String>,
    /// Its tasks.
    pub tasks: Vec<TaskAudit>,
}

/// A job of which program and inputs are what it commits to.
struct Ready {
    inputs: InputManifest,
    loaded: Loaded,
    /// Contents of the files that all tasks share, or why they cannot be had.
    files: Result<Arc<[Bytes]>, String>,
}

/// A result's leaves, of which the tree has the root that is on the chain.
struct Proved {
    manifest: ResultManifest,
    hash: BlobHash,
    /// Who says that it is the result's.
    makers: Vec<Address>,
}

/// Executes results once more.
pub struct Auditor {
    follower: Follower,
    blobs: Blobs,
    machines: Machines,
    at_once: usize,
}

impl Auditor {
    /// `follower` has looked at the chain; `at_once`: how many batches are executed at the same time.
    pub fn new(follower: Follower, blobs: Blobs, engine: Engine, at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self { follower, blobs, machines: Machines::new(engine, at_once), at_once }
    }

    /// Closes the data folder.
    pub async fn close(&self) {
        self.blobs.close().await;
    }

    /// Executes results once more; `hear` is told of each as it is done. Returns all, in the order of `targets`.
    ///
    /// # Errors
    /// If the chain was not looked at. What keeps a single task from being judged is in its verdict.
    ///
    /// # Cancel safety
    /// Cancel safe: workers die with the future.
    pub async fn audit(
        &self,
        targets: Vec<Target>,
        mut hear: impl FnMut(&BatchAudit),
    ) -> Result<Vec<BatchAudit>, Error> {
        let head = self.follower.head().ok_or(chain::Error::NoHead)?;
        let chain = Chain::new(self.follower.index(), head);
        let mut done = Vec::with_capacity(targets.len());
        let mut targets = targets.into_iter().peekable();
        while let Some(id) = targets.peek().map(|target| target.job) {
            let of_job: Vec<_> = std::iter::from_fn(|| targets.next_if(|target| target.job == id)).collect();
            let Some(entry) = chain.index.job(&id) else { continue };
            match self.ready(&chain, id, entry).await {
                Ok(ready) => {
                    let audits = of_job.into_iter().map(|target| self.batch(&chain, entry, &ready, target));
                    let mut audits = stream::iter(audits).buffered(self.at_once);
                    while let Some(audit) = audits.next().await {
                        hear(&audit);
                        done.push(audit);
                    }
                }
                Err(reason) => {
                    for target in of_job {
                        let audit = unknown(entry, target, &reason);
                        hear(&audit);
                        done.push(audit);
                    }
                }
            }
            self.machines.end(id).await;
        }
        Ok(done)
    }

    /// Gets program and inputs' manifest, and holds both against the job.
    ///
    /// # Errors
    /// Why the job's results cannot be judged.
    async fn ready(&self, chain: &Chain<'_>, id: B256, entry: &JobEntry) -> Result<Ready, String> {
        let spec = &entry.spec;
        let (program, most) = (&spec.program.0, conun_vm::MAX_PROGRAM_BYTES as u64);
        let wasm = self.blobs.get(chain, entry, Wanted::Job, (program, most)).await;
        let wasm = wasm.map_err(|reason| format!("the program is missing: {reason}"))?;
        let manifest = self.blobs.get(chain, entry, Wanted::Job, (&spec.inputs.0, MAX_INPUT_MANIFEST)).await;
        let manifest = manifest.map_err(|reason| format!("the input manifest is missing: {reason}"))?;
        let checking = {
            let (job, spec) = (entry.job.clone(), spec.clone());
            tokio::task::spawn_blocking(move || check(&job, &spec, wasm, &manifest))
        };
        let refused = |reason: String| format!("no provider should have taken the job: {reason}");
        let Checked { program, inputs } =
            checking.await.map_err(|error| format!("a bug: {error}"))?.map_err(refused)?;
        let loaded = self.machines.load(program).await.map_err(|error| match error {
            sandbox::Error::Refused(reason) => refused(reason),
            error => error.to_string(),
        })?;
        tracing::debug!(target: "conun::audit", job = %id, "program and inputs are what the job commits to");
        let files = self.files(chain, entry, &inputs).await;
        Ok(Ready { inputs, loaded, files })
    }

    async fn files(&self, chain: &Chain<'_>, entry: &JobEntry, inputs: &InputManifest) -> Result<Arc<[Bytes]>, String> {
        let mut files = Vec::with_capacity(inputs.files.len());
        for file in &inputs.files {
            let wanted = Wanted::Input { private: inputs.private, task: None };
            let found = self.blobs.get(chain, entry, wanted, (&file.hash, file.length)).await;
            let missing = |reason| format!("the shared file {} is missing: {reason}", file.path.escape_debug());
            files.push(found.map_err(missing)?);
        }
        Ok(files.into())
    }

    /// The blob that a task reads, if it is what the job commits to.
    async fn input(&self, chain: &Chain<'_>, entry: &JobEntry, ready: &Ready, index: u32) -> Result<Bytes, String> {
        let files = ready.files.clone()?;
        let task = ready.inputs.tasks[index as usize];
        let wanted = Wanted::Input { private: ready.inputs.private, task: Some(index) };
        let stdin = self.blobs.get(chain, entry, wanted, (&task.hash, task.length)).await;
        let stdin = stdin.map_err(|reason| format!("its input is missing: {reason}"))?;
        let input = ready.inputs.input(index, &stdin, &files).map_err(|error| error.to_string())?;
        let input = Bytes::from(input);
        match content_of(&input).await? {
            content if content.root == task.root => Ok(input),
            _ => Err("its input is not the one that the job commits to".to_owned()),
        }
    }

    /// The result's leaves, proved by the root on the chain.
    async fn proved(&self, chain: &Chain<'_>, entry: &JobEntry, target: &Target) -> Result<Proved, String> {
        let mut reasons = Vec::new();
        for outputs in &target.outputs {
            let alike = target.providers.iter().zip(&target.outputs).filter(|(_, other)| *other == outputs);
            let makers: Vec<_> = alike.map(|(maker, _)| *maker).collect();
            let wanted = Wanted::Result { manifest: outputs, makers: &makers };
            let bytes = match self.blobs.get(chain, entry, wanted, (outputs, MAX_RESULT_MANIFEST)).await {
                Ok(bytes) => bytes,
                Err(reason) => {
                    reasons.push(reason);
                    continue;
                }
            };
            match proved_manifest(&bytes, target.job, &entry.job, target.batch, (target.root, target.fuel)) {
                Ok(manifest) => return Ok(Proved { manifest, hash: *outputs, makers }),
                Err(reason) => {
                    reasons.push(format!("what is given as the result's manifest does not lead to its root: {reason}"))
                }
            }
        }
        reasons.dedup();
        Err(reasons.join("; "))
    }

    async fn batch(&self, chain: &Chain<'_>, entry: &JobEntry, ready: &Ready, target: Target) -> BatchAudit {
        let proved = self.proved(chain, entry, &target).await;
        let tasks = job::tasks_in(&entry.job, target.batch);
        let mut executed: Vec<Result<(TaskResult, Bytes), String>> = Vec::with_capacity(tasks.len());
        let mut audits = Vec::with_capacity(tasks.len());
        let mut results = Vec::with_capacity(tasks.len());
        let mut indices = tasks.clone().peekable();
        while indices.peek().is_some() {
            self.execute(chain, entry, ready, (target.job, &mut indices), &mut executed).await;
            for done in executed.drain(..) {
                let task = tasks.start + audits.len() as u32;
                let there = proved.as_ref().ok().map(|proved| (proved, proved.manifest.results[audits.len()]));
                let mut audit = TaskAudit::unknown(task, String::new());
                audit.there = there.as_ref().map(|(_, there)| there.into());
                match done {
                    Ok((here, output)) => {
                        results.push(here);
                        self.compare(chain, entry, &mut audit, (here, output), there).await;
                    }
                    Err(reason) => audit.reason = Some(reason),
                }
                audits.push(audit);
            }
        }
        let complete = results.len() == tasks.len();
        let whole = ResultManifest { job: target.job, batch: target.batch, results };
        let tree = whole.tree(tasks.start).ok().filter(|_| complete);
        let here = tree.map(|tree| (tree.root(), tree.fuel()));
        let leaves_unknown = proved.err();
        if let Some(reason) = &leaves_unknown {
            judge_by_root(&mut audits, &target, here, reason);
        }
        let has = |verdict| audits.iter().any(|audit| audit.verdict == verdict);
        let verdict = match here {
            _ if has(Verdict::Differs) => Verdict::Differs,
            Some(here) if here != (target.root, target.fuel) => Verdict::Differs,
            _ if has(Verdict::CannotTell) => Verdict::CannotTell,
            _ => Verdict::Agrees,
        };
        let (root_here, fuel_here) = here.unzip();
        BatchAudit { target, verdict, root_here, fuel_here, leaves_unknown, tasks: audits }
    }

    /// Executes the next tasks, as many as go together; each has a result, or why there is none.
    async fn execute(
        &self,
        chain: &Chain<'_>,
        entry: &JobEntry,
        ready: &Ready,
        (id, indices): (B256, &mut (dyn Iterator<Item = u32> + Send)),
        done: &mut Vec<Result<(TaskResult, Bytes), String>>,
    ) {
        let (mut inputs, mut missing, mut bytes) = (Vec::new(), Vec::new(), 0);
        while inputs.len() + missing.len() < TASKS_AT_ONCE
            && bytes < BYTES_AT_ONCE
            && let Some(index) = indices.next()
        {
            let place = inputs.len() + missing.len();
            match self.input(chain, entry, ready, index).await {
                Ok(input) => {
                    bytes += input.len();
                    inputs.push(input);
                }
                Err(reason) => missing.push((place, reason)),
            }
        }
        let count = inputs.len();
        let executed = self.machines.execute(id, &ready.loaded, inputs, entry.job.fuelLimit).await;
        match executed {
            Ok(executions) => {
                for execution in executions {
                    let output = Bytes::from(execution.output);
                    let result = content_of(&output).await.map(|content| {
                        let result = TaskResult { outcome: execution.outcome, fuel: execution.fuel, output: content };
                        (result, output)
                    });
                    done.push(result);
                }
            }
            Err(error) => done.extend((0..count).map(|_| Err(error.to_string()))),
        }
        for (place, reason) in missing {
            done.insert(place, Err(reason));
        }
    }

    /// Holds a task's result here against its leaf on the chain; and if there is another output, says where it begins to differ.
    async fn compare(
        &self,
        chain: &Chain<'_>,
        entry: &JobEntry,
        audit: &mut TaskAudit,
        (here, output): (TaskResult, Bytes),
        there: Option<(&Proved, TaskResult)>,
    ) {
        audit.here = Some((&here).into());
        let alone = ResultManifest { job: B256::ZERO, batch: 0, results: vec![here] };
        audit.leaf = alone.leaves(audit.task).first().map(ResultLeaf::hash);
        let Some((proved, there)) = there.filter(|(_, there)| *there != here) else {
            (audit.verdict, audit.reason) = (Verdict::Agrees, None);
            return;
        };
        let mut differences = Vec::new();
        if there.outcome != here.outcome {
            differences.push(format!("it ended with {} there, {} here", ending(&there), ending(&here)));
        }
        if there.fuel != here.fuel {
            differences.push(format!("it burned {} fuel there, {} here", there.fuel, here.fuel));
        }
        if (there.output.root, there.output.length) != (here.output.root, here.output.length) {
            let wanted = Wanted::Result { manifest: &proved.hash, makers: &proved.makers };
            let served = self.blobs.get(chain, entry, wanted, (&there.output.hash, OUTPUT_BYTES)).await;
            differences.push(other_output(&there, &here, &output, served.ok()).await);
        } else if there.output.hash != here.output.hash {
            differences.push(
                "its result is right, but its manifest names other bytes as the output than those of the root on the chain: its requester \
                 can have the right ones shown with `conun job demand`"
                    .to_owned(),
            );
        }
        (audit.verdict, audit.reason) = (Verdict::Differs, Some(differences.join("; ")));
    }
}

/// How a task ended.
fn ending(result: &TaskResult) -> String {
    match result.outcome {
        Outcome::Ok { exit_code } => format!("exit code {exit_code}"),
        Outcome::Failed => "a failure".to_owned(),
    }
}

/// How two outputs differ; `served` is the one that is there, if it can be had.
async fn other_output(there: &TaskResult, here: &TaskResult, output: &[u8], served: Option<Bytes>) -> String {
    let (there, here) = (there.output, here.output);
    let roots = format!(
        "its output root is {} there ({} bytes), {} here ({} bytes)",
        there.root, there.length, here.root, here.length
    );
    let Some(bytes) = served else { return roots };
    let first = bytes.iter().zip(output).take_while(|(a, b)| a == b).count();
    match content_of(&bytes).await {
        Ok(content) if content == there => format!("{roots}; the first byte that differs is {first}"),
        _ => format!("{roots}; and what is served as its output has another root still"),
    }
}

/// Judges tasks whose leaves are not known by the root of them all.
fn judge_by_root(audits: &mut [TaskAudit], target: &Target, here: Option<(B256, u64)>, unknown: &str) {
    let same = here == Some((target.root, target.fuel));
    let alone = audits.len() == 1;
    for audit in audits.iter_mut().filter(|audit| audit.verdict == Verdict::Agrees && !same) {
        (audit.verdict, audit.reason) = match here {
            Some(_) if alone => (Verdict::Differs, Some("the result root is another here".to_owned())),
            Some(_) => {
                let reason = format!(
                    "the batch comes out otherwise here; which of its tasks, its result manifest would tell, but {unknown}"
                );
                (Verdict::CannotTell, Some(reason))
            }
            None => {
                let reason = format!("without the batch's other tasks its result manifest is needed, but {unknown}");
                (Verdict::CannotTell, Some(reason))
            }
        };
    }
}

/// A batch of which nothing can be told.
fn unknown(entry: &JobEntry, target: Target, reason: &str) -> BatchAudit {
    let tasks = job::tasks_in(&entry.job, target.batch);
    let tasks = tasks.map(|task| TaskAudit::unknown(task, reason.to_owned())).collect();
    BatchAudit { target, verdict: Verdict::CannotTell, root_here: None, fuel_here: None, leaves_unknown: None, tasks }
}
