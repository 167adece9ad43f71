//! Results, most often without execution: what a task comes to is a function of its job and number, so that all honest providers agree, and a
//! variant of it for each way to be wrong. Roots, sums and manifests are the real ones.

use std::{collections::HashMap, rc::Rc};

use alloy::primitives::{B256, keccak256};
use conun_agent::{
    core::BatchId,
    manifest::{Content, ResultManifest, TaskResult},
};
use conun_bindings::{abi::JobRegistry::Job, commit::ResultLeaf, job};
use conun_vm::Outcome;

use crate::machine::Machine;

/// Which result: 0 is the right one.
pub(crate) type Variant = u64;

/// Bytes of a task's output.
const OUTPUT_BYTES: usize = 96;

/// A batch's result.
#[derive(Debug)]
pub(crate) struct BatchResult {
    pub(crate) manifest: ResultManifest,
    pub(crate) leaves: Vec<ResultLeaf>,
    pub(crate) root: B256,
    pub(crate) fuel: u64,
    /// BLAKE3 hash of the encoded manifest.
    pub(crate) outputs: B256,
}

/// All results that were asked for.
#[derive(Debug)]
pub(crate) struct Truth {
    /// What executes tasks, if anything does.
    pub(crate) machine: Option<&'static Machine>,
    known: HashMap<(BatchId, Variant), Rc<BatchResult>>,
    /// Variants that were made, by what the chain tells of them.
    by_outputs: HashMap<B256, Variant>,
}

/// Fuel of a task: a quarter to three quarters of its limit.
fn fuel(job: &Job, seed: B256) -> u64 {
    let share = u64::from_be_bytes(seed.0[..8].try_into().expect("eight of 32 bytes"));
    let half = (u128::from(job.fuelLimit / 2) * u128::from(share)) >> 64;
    job.fuelLimit / 4 + half as u64
}

/// The output that is made up for a task.
fn output(id: B256, task: u32, variant: Variant) -> [u8; OUTPUT_BYTES] {
    let mut bytes = [0; OUTPUT_BYTES];
    let seed = keccak256([id.as_slice(), &task.to_be_bytes(), &variant.to_be_bytes()].concat());
    blake3::Hasher::new_keyed(&seed.0).finalize_xof().fill(&mut bytes);
    bytes
}

impl Truth {
    pub(crate) fn new(machine: Option<&'static Machine>) -> Self {
        Self { machine, known: HashMap::new(), by_outputs: HashMap::new() }
    }

    /// A batch's result.
    pub(crate) fn result(&mut self, id: BatchId, job: &Job, variant: Variant) -> Rc<BatchResult> {
        if let Some(known) = self.known.get(&(id, variant)) {
            return known.clone();
        }
        let result = |task: u32| {
            let (outcome, fuel, output) = self.execute(id.0, job, task, variant);
            TaskResult { outcome, fuel, output: Content::of(&output) }
        };
        let tasks = job::tasks_in(job, id.1);
        let first = tasks.start;
        let manifest = ResultManifest { job: id.0, batch: id.1, results: tasks.map(result).collect() };
        let leaves = manifest.leaves(first);
        let tree = manifest.tree(first).expect("a batch has tasks, and their fuel is below 2^64");
        let outputs = B256::from(*blake3::hash(&manifest.encode()).as_bytes());
        let made = Rc::new(BatchResult { leaves, root: tree.root(), fuel: tree.fuel(), outputs, manifest });
        self.by_outputs.insert(outputs, variant);
        self.known.insert((id, variant), made.clone());
        made
    }

    fn execute(&self, id: B256, job: &Job, task: u32, variant: Variant) -> (Outcome, u64, Vec<u8>) {
        match self.machine {
            Some(machine) if variant == 0 => {
                let done = machine.execute(job, task);
                (done.outcome, done.fuel, done.output)
            }
            _ => {
                let fuel = fuel(job, keccak256([id.as_slice(), &task.to_be_bytes()].concat()));
                (Outcome::Ok { exit_code: 0 }, fuel, output(id, task, variant).to_vec())
            }
        }
    }

    /// The output of a task.
    pub(crate) fn output(&self, id: B256, job: &Job, task: u32, variant: Variant) -> Vec<u8> {
        self.execute(id, job, task, variant).2
    }

    /// Whether a variant is wrong about a task.
    pub(crate) fn is_wrong(&mut self, id: BatchId, job: &Job, task: u32, variant: Variant) -> bool {
        let at = (task - job::tasks_in(job, id.1).start) as usize;
        self.result(id, job, variant).manifest.results[at] != self.result(id, job, 0).manifest.results[at]
    }

    /// Which result a manifest is, if anybody ever made it.
    pub(crate) fn variant(&self, outputs: B256) -> Option<Variant> {
        self.by_outputs.get(&outputs).copied()
    }
}
