//! The transactions that the core's actions are.

use alloy::{
    eips::BlockNumberOrTag,
    primitives::{Address, B256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
};
use conun_bindings::{
    Contracts,
    abi::{
        Disputes::{self, Standing},
        JobRegistry,
        ReplicaRegistry::{self, Commitment, ReplicatedJob, Reveal},
    },
    commit::{BoundTree, chunk_proof},
    job, replicas,
};

use super::work::Executor;
use crate::{
    chain::{Claim, Index, JobEntry, ReplicaStage},
    core::{Action, BatchId},
    manifest::ResultManifest,
    store::ResultRecord,
};

/// Its name in statistics, and itself.
type Call = (&'static str, TransactionRequest);

/// A transaction, as far as the index alone can make it.
pub(super) enum Draft {
    /// All of it.
    Ready(Call),
    /// A reveal with the leaf that the block after the commit draws.
    RevealOpened { job: Box<ReplicatedJob>, given: Reveal, id: BatchId, first: u32, block: u64 },
    /// The chunk that a case demands.
    Answer { case: B256, id: BatchId, record: ResultRecord, task: u32, chunk: u32, standing: Standing },
}

/// What drafts are made for.
pub(super) struct Drafter<'a> {
    pub(super) index: &'a Index,
    pub(super) contracts: &'a Contracts,
    pub(super) provider: &'a DynProvider,
    pub(super) me: Address,
}

impl Drafter<'_> {
    /// The transaction of an action; `None` if a re-org has taken away what it is about, or it is none.
    pub(super) fn draft(&self, action: &Action, record: impl Fn(BatchId) -> Option<ResultRecord>) -> Option<Draft> {
        match action {
            Action::RevealOpened(id, record) => self.reveal_opened(*id, record),
            Action::Answer(case) => {
                let entry = self.index.cases.get(case)?;
                let Claim::Withheld(chunk) = entry.claim else { return None };
                let id = (entry.job, entry.batch);
                let (task, standing) = (entry.task, self.standing(id)?);
                Some(Draft::Answer { case: *case, id, record: record(id)?, task, chunk, standing })
            }
            action => {
                let (id, _) = action.batches()?;
                let entry = self.index.job(&id)?;
                let call = match entry.replicated() {
                    Some(job) => self.of_replicas(job, entry, action),
                    None => self.of_job(entry, action),
                };
                call.map(Draft::Ready)
            }
        }
    }

    fn of_job(&self, entry: &JobEntry, action: &Action) -> Option<Call> {
        let registry = JobRegistry::new(self.contracts.jobs, self.provider);
        let job = entry.job.clone();
        let submission = |number: &u32| Some(entry.batches.get(*number as usize)?.submission(*number));
        Some(match action {
            Action::Lease(_, batches) => ("lease", registry.lease(job, batches.clone()).into_transaction_request()),
            Action::Release(_, batches) => {
                ("release", registry.release(job, batches.clone()).into_transaction_request())
            }
            Action::Finalise(_, batches) => {
                let standing = batches.iter().filter_map(submission).collect();
                ("finalise", registry.finalise(job, standing).into_transaction_request())
            }
            Action::Resolve((_, number)) => {
                ("resolve", registry.resolve(job, submission(number)?).into_transaction_request())
            }
            Action::Submit(_, results) => {
                let results = results.iter().map(|(batch, record)| JobRegistry::Result {
                    batch: *batch,
                    root: record.root,
                    fuel: record.fuel,
                    outputs: record.outputs,
                });
                ("submit", registry.submit(job, results.collect()).into_transaction_request())
            }
            _ => return None,
        })
    }

    fn of_replicas(&self, job: ReplicatedJob, entry: &JobEntry, action: &Action) -> Option<Call> {
        let registry = ReplicaRegistry::new(self.contracts.replicas, self.provider);
        let tally = |number: &u32| Some(entry.ballot(*number)?.1.tally(*number));
        Some(match action {
            Action::Lease(_, batches) => ("lease", registry.lease(job, batches.clone()).into_transaction_request()),
            Action::BackUp((_, number), straggler) => {
                ("backup", registry.backUp(job, *number, *straggler).into_transaction_request())
            }
            Action::Release(_, batches) => {
                ("release", registry.release(job, batches.clone()).into_transaction_request())
            }
            Action::Expire((_, number), provider) => {
                ("expire", registry.expire(job, *number, *provider).into_transaction_request())
            }
            Action::Commit(id, results) => {
                let hash = |(number, record): &(u32, ResultRecord)| Commitment {
                    batch: *number,
                    hash: replicas::commitment(*id, &self.reveal(*number, record)),
                };
                ("commit", registry.commit(job, results.iter().map(hash).collect()).into_transaction_request())
            }
            Action::Draw((_, number)) => ("draw", registry.draw(job, *number, self.me).into_transaction_request()),
            Action::Reveal(_, results) => {
                let given = results.iter().map(|(number, record)| self.reveal(*number, record)).collect();
                ("reveal", registry.reveal(job, given).into_transaction_request())
            }
            Action::Finalise(_, batches) => {
                let tallies = batches.iter().filter_map(tally).collect();
                ("finalise", registry.finalise(job, tallies).into_transaction_request())
            }
            Action::Resolve((_, number)) => {
                ("resolve", registry.resolve(job, tally(number)?).into_transaction_request())
            }
            _ => return None,
        })
    }

    fn reveal(&self, batch: u32, record: &ResultRecord) -> Reveal {
        let ResultRecord { root, fuel, outputs, bound, salt } = *record;
        Reveal { batch, provider: self.me, root, fuel, outputs, bound, salt: salt.0 }
    }

    fn reveal_opened(&self, id: BatchId, record: &ResultRecord) -> Option<Draft> {
        let entry = self.index.job(&id.0)?;
        let Some(ReplicaStage::Committed { block, .. }) = entry.ballot(id.1)?.1.stage_of(self.me) else { return None };
        let first = job::tasks_in(&entry.job, id.1).start;
        let job = Box::new(entry.replicated()?);
        Some(Draft::RevealOpened { job, given: self.reveal(id.1, record), id, first, block })
    }

    /// A disputed result, as `Disputes` knows it.
    fn standing(&self, (id, number): BatchId) -> Option<Standing> {
        let entry = self.index.job(&id)?;
        let (root, fuel, final_at) = match entry.ballot(number) {
            Some((assurance, ballot)) => {
                let (root, fuel) = ballot.count(assurance, &self.index.rules)?.best;
                (root, fuel, ballot.time)
            }
            None => {
                let batch = entry.batches.get(number as usize)?;
                (batch.root, batch.fuel, batch.deadline)
            }
        };
        let tasks = job::tasks_in(&entry.job, number);
        Some(Standing {
            jobId: id,
            batch: number,
            requester: entry.job.requester,
            root,
            fuel,
            firstTask: tasks.start,
            tasks: tasks.len() as u32,
            finalAt: final_at as u32,
        })
    }
}

impl Draft {
    /// Completes it from the chain, and from what was kept of the result.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub(super) async fn complete(
        self,
        contracts: &Contracts,
        executor: &Executor,
        provider: &DynProvider,
    ) -> Result<Call, String> {
        match self {
            Self::Ready(call) => Ok(call),
            Self::RevealOpened { job, given, id, first, block } => {
                let hash = block_hash(provider, block + 1).await?;
                let hash = hash.ok_or_else(|| format!("block {} is unknown", block + 1))?;
                let manifest = kept_manifest(executor, id, given.outputs).await?;
                let leaves = manifest.leaves(first);
                let tree = manifest.tree(first).map_err(|error| error.to_string())?;
                let position = replicas::drawn_task(hash, id.0, id.1, given.provider, leaves.len() as u32) as usize;
                debug_assert_eq!(BoundTree::new(given.provider, &leaves).root(), given.bound);
                let opening = replicas::opening(given.provider, &leaves, &tree, position);
                let registry = ReplicaRegistry::new(contracts.replicas, provider);
                Ok(("reveal", registry.revealOpened(*job, given, opening).into_transaction_request()))
            }
            Self::Answer { case, id, record, task, chunk, standing } => {
                let manifest = kept_manifest(executor, id, record.outputs).await?;
                let tree = manifest.tree(standing.firstTask).map_err(|error| error.to_string())?;
                let position = (task - standing.firstTask) as usize;
                let leaves = manifest.leaves(standing.firstTask);
                let (Some(leaf), Some(result)) = (leaves.get(position), manifest.results.get(position)) else {
                    return Err(format!("the batch has no task {task}"));
                };
                let output = executor.kept(id, &result.output.hash).await?;
                let output = output.ok_or_else(|| format!("the output of task {task} is not here"))?;
                let (part, chunk_siblings) = chunk_proof(&output, chunk);
                let siblings = tree.proof(position);
                let answer = Disputes::Answer {
                    chunk,
                    leaf: leaf.into(),
                    siblingHashes: siblings.iter().map(|node| node.hash).collect(),
                    siblingFuels: siblings.iter().map(|node| node.fuel).collect(),
                    part: part.to_vec().into(),
                    chunkSiblings: chunk_siblings,
                };
                let disputes = Disputes::new(contracts.disputes, provider);
                Ok(("answer", disputes.answer(case, standing, answer).into_transaction_request()))
            }
        }
    }
}

async fn kept_manifest(executor: &Executor, id: BatchId, outputs: B256) -> Result<ResultManifest, String> {
    let bytes = executor.kept(id, &outputs.0).await?.ok_or("its result manifest is not here")?;
    ResultManifest::decode(&bytes).map_err(|error| error.to_string())
}

/// The hash of a block, if there is one.
///
/// # Errors
/// If the endpoint fails.
pub(super) async fn block_hash(provider: &DynProvider, number: u64) -> Result<Option<B256>, String> {
    let block = provider.get_block_by_number(BlockNumberOrTag::Number(number)).await;
    Ok(block.map_err(|error| error.to_string())?.map(|block| block.header.hash))
}
