//! What anybody may do to bring a job further, and when.

use alloy::{
    primitives::{Address, B256, U256},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use conun_agent::chain::{BallotStage, BatchStage, Index, JobEntry, ReplicaStage};
use conun_bindings::{
    Contracts,
    abi::{JobRegistry, ReplicaRegistry},
};

/// A transaction with its kind.
pub(crate) type Errand = (&'static str, TransactionRequest);

pub(crate) fn request(to: Address, call: impl SolCall) -> TransactionRequest {
    TransactionRequest::default().to(to).input(call.abi_encode().into())
}

/// What is due for a batch at block time `now`, whoever does it. It may come to nothing: the contract has the last word.
pub(crate) fn due(contracts: &Contracts, index: &Index, id: B256, number: u32, now: u64) -> Option<Errand> {
    let entry = index.job(&id)?;
    match entry.replicated() {
        None => of_job(contracts, index, (id, entry), number, now),
        Some(job) => of_replicas(contracts, index, (id, entry), job, number, now),
    }
}

fn of_job(
    contracts: &Contracts,
    index: &Index,
    (id, entry): (B256, &JobEntry),
    number: u32,
    now: u64,
) -> Option<Errand> {
    let (to, job, batch) = (contracts.jobs, entry.job.clone(), entry.batches.get(number as usize)?);
    match batch.stage {
        BatchStage::Leased if now > batch.deadline => {
            Some(("expire", request(to, JobRegistry::expireCall { job, batches: vec![number] })))
        }
        BatchStage::Submitted if now >= batch.deadline => {
            let submissions = vec![batch.submission(number)];
            Some(("finalise", request(to, JobRegistry::finaliseCall { job, submissions })))
        }
        BatchStage::Frozen if now >= index.resolvable_at(id, number, batch.deadline) => {
            Some(("resolve", request(to, JobRegistry::resolveCall { job, given: batch.submission(number) })))
        }
        _ => None,
    }
}

fn of_replicas(
    contracts: &Contracts,
    index: &Index,
    (id, entry): (B256, &JobEntry),
    job: ReplicaRegistry::ReplicatedJob,
    number: u32,
    now: u64,
) -> Option<Errand> {
    let to = contracts.replicas;
    let (assurance, ballot) = entry.ballot(number)?;
    let finalise = |job| {
        let tallies = vec![ballot.tally(number)];
        Some(("finalise", request(to, ReplicaRegistry::finaliseCall { job, tallies })))
    };
    let draw = |job| Some(("draw", request(to, ReplicaRegistry::drawCall { job, number })));
    match ballot.stage {
        BallotStage::Committing if now > ballot.time => {
            let mut leases =
                ballot.replicas.iter().filter(|(_, replica)| matches!(replica.stage, ReplicaStage::Leased { .. }));
            let lease = leases.find(|(provider, _)| !ballot.is_beaten(**provider)).map(|(provider, _)| *provider);
            match lease {
                Some(provider) => Some(("expire", request(to, ReplicaRegistry::expireCall { job, number, provider }))),
                None if ballot.awaits_draw(assurance) => draw(job),
                None if ballot.revealed() != 0 || now > ballot.time + u64::from(assurance.revealSeconds) => {
                    finalise(job)
                }
                None => None,
            }
        }
        BallotStage::Drawing => draw(job),
        BallotStage::Revealing => {
            let believed = ballot.count(assurance, &index.rules).is_some_and(|count| count.accepted);
            let all = ballot.revealed() == ballot.committed();
            let at = match (believed, all) {
                (true, _) => ballot.final_at(&entry.job),
                (false, true) => 0,
                (false, false) => ballot.time + 1,
            };
            if now > at { finalise(job) } else { None }
        }
        BallotStage::Frozen if now >= index.resolvable_at(id, number, ballot.time) => {
            Some(("resolve", request(to, ReplicaRegistry::resolveCall { job, tally: ballot.tally(number) })))
        }
        _ => None,
    }
}

/// What only the requester may do: end the open batches.
pub(crate) fn cancel(contracts: &Contracts, entry: &JobEntry) -> Errand {
    match entry.replicated() {
        None => ("cancel", request(contracts.jobs, JobRegistry::cancelCall { job: entry.job.clone() })),
        Some(job) => ("cancel", request(contracts.replicas, ReplicaRegistry::cancelCall { job })),
    }
}

/// What only the holders may do: give back leases whose slot the other of straggler and backup has taken.
pub(crate) fn releases(contracts: &Contracts, entry: &JobEntry) -> Vec<(Address, Errand)> {
    let Some(job) = entry.replicated() else { return Vec::new() };
    let beaten = (0..).zip(entry.ballots()).flat_map(|(number, ballot)| {
        let providers = ballot.replicas.keys().copied().filter(|provider| ballot.is_beaten(*provider));
        providers.map(move |provider| (number, provider))
    });
    let release = |(number, provider)| {
        let call = ReplicaRegistry::releaseCall { job: job.clone(), batches: vec![number] };
        (provider, ("release", request(contracts.replicas, call)))
    };
    beaten.map(release).collect()
}

/// Whether a job has open batches that a cancellation would end.
pub(crate) fn has_open(entry: &JobEntry) -> bool {
    !entry.cancelled
        && (entry.batches.iter().any(|batch| batch.stage == BatchStage::Open)
            || entry.ballots().any(|ballot| ballot.stage == BallotStage::Open))
}

/// Sum of what a job has cost so far, token wei.
pub(crate) fn cost(entry: &JobEntry) -> U256 {
    entry.spent() + entry.refunded + entry.burned
}
