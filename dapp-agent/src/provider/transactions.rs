//! The transactions that the core's actions are. What the index alone cannot tell, a block's hash and kept outputs, the caller gives.

use alloy::{
    eips::BlockNumberOrTag,
    network::TransactionBuilder,
    primitives::{Address, B256},
    providers::{DynProvider, Provider},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
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
    manifest::{BlobHash, ResultManifest},
    store::ResultRecord,
};

/// Its name in statistics, and itself.
pub type Call = (&'static str, TransactionRequest);

/// A transaction, as far as the index alone can make it.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "short-lived")]
pub enum Draft {
    /// All of it.
    Ready(Call),
    /// It lacks the leaf that the block after the commit draws.
    RevealOpened(Box<OpenedReveal>),
    /// It lacks the chunk that a case demands.
    Answer(Box<DemandedAnswer>),
}

/// A reveal in a round that opened when roots were public.
#[derive(Clone, Debug)]
pub struct OpenedReveal {
    job: ReplicatedJob,
    given: Reveal,
    id: BatchId,
    first: u32,
    /// The block whose hash draws the leaf.
    pub block: u64,
}

/// An answer to a demand.
#[derive(Clone, Debug)]
pub struct DemandedAnswer {
    case: B256,
    id: BatchId,
    record: ResultRecord,
    task: u32,
    chunk: u32,
    standing: Standing,
}

/// What drafts are made for.
#[derive(Debug)]
pub struct Drafter<'a> {
    /// What the chain says.
    pub index: &'a Index,
    /// Where the contracts are.
    pub contracts: &'a Contracts,
    /// The provider's account.
    pub me: Address,
}

fn request(to: Address, call: impl SolCall) -> TransactionRequest {
    TransactionRequest::default().with_to(to).with_input(call.abi_encode())
}

impl Drafter<'_> {
    /// The transaction of an action; `None` if a re-org has taken away what it is about, or it is none. `record` is what was kept of
    /// a batch's result.
    pub fn draft(&self, action: &Action, record: impl Fn(BatchId) -> Option<ResultRecord>) -> Option<Draft> {
        match action {
            Action::RevealOpened(id, record) => self.reveal_opened(*id, record),
            Action::Answer(case) => {
                let entry = self.index.cases.get(case)?;
                let Claim::Withheld(chunk) = entry.claim else { return None };
                let id = (entry.job, entry.batch);
                let (task, standing) = (entry.task, self.standing(id)?);
                let answer = DemandedAnswer { case: *case, id, record: record(id)?, task, chunk, standing };
                Some(Draft::Answer(Box::new(answer)))
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
        let (to, job) = (self.contracts.jobs, entry.job.clone());
        let submission = |number: &u32| Some(entry.batches.get(*number as usize)?.submission(*number));
        Some(match action {
            Action::Lease(_, batches) => {
                ("lease", request(to, JobRegistry::leaseCall { job, batches: batches.clone() }))
            }
            Action::Release(_, batches) => {
                ("release", request(to, JobRegistry::releaseCall { job, batches: batches.clone() }))
            }
            Action::Finalise(_, batches) => {
                let submissions = batches.iter().filter_map(submission).collect();
                ("finalise", request(to, JobRegistry::finaliseCall { job, submissions }))
            }
            Action::Resolve((_, number)) => {
                ("resolve", request(to, JobRegistry::resolveCall { job, given: submission(number)? }))
            }
            Action::Submit(_, results) => {
                let results = results.iter().map(|(batch, record)| JobRegistry::Result {
                    batch: *batch,
                    root: record.root,
                    fuel: record.fuel,
                    outputs: record.outputs,
                });
                ("submit", request(to, JobRegistry::submitCall { job, results: results.collect() }))
            }
            _ => return None,
        })
    }

    fn of_replicas(&self, job: ReplicatedJob, entry: &JobEntry, action: &Action) -> Option<Call> {
        let to = self.contracts.replicas;
        let tally = |number: &u32| Some(entry.ballot(*number)?.1.tally(*number));
        Some(match action {
            Action::Lease(_, batches) => {
                ("lease", request(to, ReplicaRegistry::leaseCall { job, batches: batches.clone() }))
            }
            Action::BackUp((_, batch), straggler) => {
                let call = ReplicaRegistry::backUpCall { job, number: *batch, straggler: *straggler };
                ("backup", request(to, call))
            }
            Action::Release(_, batches) => {
                ("release", request(to, ReplicaRegistry::releaseCall { job, batches: batches.clone() }))
            }
            Action::Expire((_, batch), provider) => {
                let call = ReplicaRegistry::expireCall { job, number: *batch, provider: *provider };
                ("expire", request(to, call))
            }
            Action::Commit(id, results) => {
                let hash = |(number, record): &(u32, ResultRecord)| Commitment {
                    batch: *number,
                    hash: replicas::commitment(*id, &self.reveal(*number, record)),
                };
                let commitments = results.iter().map(hash).collect();
                ("commit", request(to, ReplicaRegistry::commitCall { job, commitments }))
            }
            Action::Draw((_, number)) => ("draw", request(to, ReplicaRegistry::drawCall { job, number: *number })),
            Action::Reveal(_, results) => {
                let reveals = results.iter().map(|(number, record)| self.reveal(*number, record)).collect();
                ("reveal", request(to, ReplicaRegistry::revealCall { job, reveals }))
            }
            Action::Finalise(_, batches) => {
                let tallies = batches.iter().filter_map(tally).collect();
                ("finalise", request(to, ReplicaRegistry::finaliseCall { job, tallies }))
            }
            Action::Resolve((_, number)) => {
                ("resolve", request(to, ReplicaRegistry::resolveCall { job, tally: tally(number)? }))
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
        let (job, given) = (entry.replicated()?, self.reveal(id.1, record));
        Some(Draft::RevealOpened(Box::new(OpenedReveal { job, given, id, first, block: block + 1 })))
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

impl OpenedReveal {
    /// The batch, and the BLAKE3 hash of its result manifest.
    pub fn manifest(&self) -> (BatchId, B256) {
        (self.id, self.given.outputs)
    }

    /// Completes it with the hash of [`Self::block`] and the result.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub fn complete(self, contracts: &Contracts, hash: B256, manifest: &ResultManifest) -> Result<Call, String> {
        let Self { job, given, id, first, .. } = self;
        let leaves = manifest.leaves(first);
        let tree = manifest.tree(first).map_err(|error| error.to_string())?;
        let position = replicas::drawn_task(hash, id.0, id.1, given.provider, leaves.len() as u32) as usize;
        debug_assert_eq!(BoundTree::new(given.provider, &leaves).root(), given.bound);
        let opening = replicas::opening(given.provider, &leaves, &tree, position);
        Ok(("reveal", request(contracts.replicas, ReplicaRegistry::revealOpenedCall { job, given, opening })))
    }
}

impl DemandedAnswer {
    /// The batch, and the BLAKE3 hash of its result manifest.
    pub fn manifest(&self) -> (BatchId, B256) {
        (self.id, self.record.outputs)
    }

    fn position(&self) -> usize {
        (self.task - self.standing.firstTask) as usize
    }

    /// BLAKE3 hash of the output that is demanded.
    ///
    /// # Errors
    /// If the result has no such task.
    pub fn output(&self, manifest: &ResultManifest) -> Result<BlobHash, String> {
        let result = manifest.results.get(self.position());
        result.map(|result| result.output.hash).ok_or_else(|| format!("the batch has no task {}", self.task))
    }

    /// Completes it with the result and the demanded output.
    ///
    /// # Errors
    /// A sentence for the owner.
    pub fn complete(self, contracts: &Contracts, manifest: &ResultManifest, output: &[u8]) -> Result<Call, String> {
        let (position, first) = (self.position(), self.standing.firstTask);
        let tree = manifest.tree(first).map_err(|error| error.to_string())?;
        let leaf = manifest.leaves(first).get(position).map(Into::into);
        let leaf = leaf.ok_or_else(|| format!("the batch has no task {}", self.task))?;
        let (part, chunk_siblings) = chunk_proof(output, self.chunk);
        let siblings = tree.proof(position);
        let given = Disputes::Answer {
            chunk: self.chunk,
            leaf,
            siblingHashes: siblings.iter().map(|node| node.hash).collect(),
            siblingFuels: siblings.iter().map(|node| node.fuel).collect(),
            part: part.to_vec().into(),
            chunkSiblings: chunk_siblings,
        };
        let call = Disputes::answerCall { caseId: self.case, standing: self.standing, given };
        Ok(("answer", request(contracts.disputes, call)))
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
            Self::RevealOpened(reveal) => {
                let hash = block_hash(provider, reveal.block).await?;
                let hash = hash.ok_or_else(|| format!("block {} is unknown", reveal.block))?;
                let manifest = kept_manifest(executor, reveal.manifest()).await?;
                reveal.complete(contracts, hash, &manifest)
            }
            Self::Answer(answer) => {
                let manifest = kept_manifest(executor, answer.manifest()).await?;
                let output = executor.kept(answer.id, &answer.output(&manifest)?).await?;
                let output = output.ok_or_else(|| format!("the output of task {} is not here", answer.task))?;
                answer.complete(contracts, &manifest, &output)
            }
        }
    }
}

async fn kept_manifest(executor: &Executor, (id, outputs): (BatchId, B256)) -> Result<ResultManifest, String> {
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
