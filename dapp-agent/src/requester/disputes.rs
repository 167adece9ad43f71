//! Demands and challenges: what can be held against a result in its window.

use alloy::{
    primitives::{B256, Bytes, U256},
    sol_types::SolCall,
};
use conun_bindings::{
    abi::{Deployment, Disputes, JobRegistry, ReplicaRegistry},
    job,
};

use super::{Error, Requester};
use crate::{
    chain::{BallotStage, BatchStage, CaseEntry, Claim, JobEntry},
    funds::Funds,
};

/// A result in its window, as its registry recognises it.
struct Disputable {
    registry: alloy::primitives::Address,
    standing: Bytes,
}

impl Requester {
    /// Demands that somebody shows chunk `chunk` (4 KiB) of the output of task `task` on the chain, with a bond that goes to whoever
    /// does. Returns the case's id, and the block time until which it can be answered.
    ///
    /// # Errors
    /// If the job is not this account's, there is no such task, no result in its window, the bond is missing, or the chain fails.
    pub async fn demand(&mut self, id: B256, batch: u32, task: u32, chunk: u32) -> Result<(B256, u64), Error> {
        self.refresh().await?;
        let entry = self.own(id)?;
        self.check_task(entry, batch, task, false)?;
        let Disputable { registry, standing } = self.disputable(id, entry, batch)?;
        let settings = Deployment::new(self.follower.contracts().deployment, self.provider()).settings().call().await?;
        let (value, deadline, v, r, s) = self.bond(U256::from(settings.demandBond)).await?;
        let permit = Disputes::Permit { value, deadline, v, r, s };
        let disputes = Disputes::new(self.follower.contracts().disputes, self.provider().clone());
        let call = disputes.demand(registry, standing, task, chunk, permit).into_transaction_request();
        let receipt = self.send("demand", call).await?;
        let opened = receipt.decoded_log::<Disputes::Demanded>();
        let opened = opened.ok_or_else(|| Error::Nothing("the demand left no trace in its receipt".to_owned()))?;
        Ok((opened.caseId, opened.deadline.to()))
    }

    /// Says that the leaf of task `task` is wrong, with a bond: the arbiter decides. `commitment` is what the arbiter is told about
    /// the right one. Returns the case's id, and the block time until which it can be ruled.
    ///
    /// # Errors
    /// If the deployment has no arbiter, there is no such task, no result in its window, the bond is missing, or the chain fails.
    pub async fn challenge(&mut self, id: B256, batch: u32, task: u32, commitment: B256) -> Result<(B256, u64), Error> {
        self.refresh().await?;
        if self.follower.index().rules.arbiter.is_zero() {
            return Err(Error::NoArbiter);
        }
        let entry = self.follower.index().job(&id).ok_or(Error::NoSuchJob(id))?;
        self.check_task(entry, batch, task, true)?;
        let Disputable { registry, standing } = self.disputable(id, entry, batch)?;
        let settings = Deployment::new(self.follower.contracts().deployment, self.provider()).settings().call().await?;
        let (value, deadline, v, r, s) = self.bond(U256::from(settings.challengeBond)).await?;
        let permit = Disputes::Permit { value, deadline, v, r, s };
        let disputes = Disputes::new(self.follower.contracts().disputes, self.provider().clone());
        let call = disputes.challenge(registry, standing, task, commitment, permit).into_transaction_request();
        let receipt = self.send("challenge", call).await?;
        let opened = receipt.decoded_log::<Disputes::Challenged>();
        let opened = opened.ok_or_else(|| Error::Nothing("the challenge left no trace in its receipt".to_owned()))?;
        Ok((opened.caseId, opened.deadline.to()))
    }

    /// Brings the disputes about a job's results to their end, as far as that is due: frozen batches go on, and bonds of this account that
    /// it has not lost come back to its Escrow balance. Returns what came back, token wei.
    ///
    /// # Errors
    /// If there is nothing to bring to its end, or the chain fails.
    pub async fn claim(&mut self, id: B256) -> Result<U256, Error> {
        self.refresh().await?;
        let resolved = self.resolve(id).await?;
        self.refresh().await?;
        let entry = self.follower.index().job(&id).ok_or(Error::NoSuchJob(id))?;
        let (me, requester) = (self.account(), entry.job.requester);
        let claimable = |case: &CaseEntry| {
            let claimant = if let Claim::Wrong(challenger) = case.claim { challenger } else { requester };
            case.job == id && claimant == me && case.concluded && !case.claimed && (case.open || case.won)
        };
        let cases: Vec<_> =
            self.follower.index().cases.iter().filter(|(_, case)| claimable(case)).map(|(id, _)| *id).collect();
        if !resolved && cases.is_empty() {
            return Err(Error::Nothing(format!(
                "no dispute about job {id} is due: `conun job status` says until when each can be ruled or answered, and no bond \
                 of this account is there to be taken back"
            )));
        }
        let disputes = Disputes::new(self.follower.contracts().disputes, self.provider().clone());
        let mut back = U256::ZERO;
        for case in cases {
            let receipt = self.send("claim", disputes.claim(case).into_transaction_request()).await?;
            back += receipt.decoded_log::<Disputes::Claimed>().map_or(U256::ZERO, |claimed| claimed.amount);
        }
        Ok(back)
    }

    /// Resolves the frozen batches of a job whose disputes are over. Whether there were any.
    pub(super) async fn resolve(&self, id: B256) -> Result<bool, Error> {
        let index = self.follower.index();
        let entry = index.job(&id).ok_or(Error::NoSuchJob(id))?;
        let now = self.follower.head().map_or(0, |head| head.timestamp);
        let due = |number: u32, final_at: u64| now >= index.resolvable_at(id, number, final_at);
        let mut calls = Vec::new();
        let registry = JobRegistry::new(self.follower.contracts().jobs, self.provider().clone());
        for (number, batch) in (0..).zip(&entry.batches) {
            if batch.stage == BatchStage::Frozen && due(number, batch.deadline) {
                calls.push(registry.resolve(entry.job.clone(), batch.submission(number)).into_transaction_request());
            }
        }
        let registry = ReplicaRegistry::new(self.follower.contracts().replicas, self.provider().clone());
        for (number, ballot) in (0..).zip(entry.ballots()) {
            if let Some(job) = entry.replicated()
                && ballot.stage == BallotStage::Frozen
                && due(number, ballot.time)
            {
                calls.push(registry.resolve(job, ballot.tally(number)).into_transaction_request());
            }
        }
        let any = !calls.is_empty();
        for call in calls {
            self.send("resolve", call).await?;
        }
        Ok(any)
    }

    /// `padded`: the leaves that fill the tree up may be challenged as well.
    fn check_task(&self, entry: &JobEntry, batch: u32, task: u32, padded: bool) -> Result<(), Error> {
        if batch as usize >= entry.batch_count() {
            let last = entry.batch_count().saturating_sub(1);
            return Err(Error::Nothing(format!("the job has batches 0 to {last}, none {batch}")));
        }
        let mut tasks = job::tasks_in(&entry.job, batch);
        if padded {
            tasks.end = tasks.start + (tasks.len() as u32).next_power_of_two();
        }
        if tasks.contains(&task) {
            return Ok(());
        }
        let (first, last) = (tasks.start, tasks.end.saturating_sub(1));
        Err(Error::Nothing(format!("batch {batch} has tasks {first} to {last}, none {task}")))
    }

    fn disputable(&self, id: B256, entry: &JobEntry, number: u32) -> Result<Disputable, Error> {
        let (index, contracts) = (self.follower.index(), self.follower.contracts());
        let now = self.follower.head().map_or(0, |head| head.timestamp);
        let nothing = |why: &str| Err(Error::Nothing(format!("batch {number} of job {id} {why}")));
        if let (Some(job), Some((assurance, ballot))) = (entry.replicated(), entry.ballot(number)) {
            if !matches!(ballot.stage, BallotStage::Revealing | BallotStage::Frozen) {
                return nothing("has no result in its window");
            }
            if ballot.believed(assurance, &index.rules, now).is_none() {
                return nothing("has no result that is believed: there is nothing to dispute");
            }
            if now >= ballot.final_at(&entry.job) {
                return nothing("has a result whose window is over");
            }
            let call = ReplicaRegistry::freezeCall { job, tally: ballot.tally(number) };
            return Ok(Disputable { registry: contracts.replicas, standing: call.abi_encode()[4..].to_vec().into() });
        }
        let Some(batch) = entry.batches.get(number as usize) else { return nothing("is not there") };
        if !matches!(batch.stage, BatchStage::Submitted | BatchStage::Frozen) {
            return nothing("has no result in its window");
        }
        if now >= batch.deadline {
            return nothing("has a result whose window is over");
        }
        let call = JobRegistry::freezeCall { job: entry.job.clone(), given: batch.submission(number) };
        Ok(Disputable { registry: contracts.jobs, standing: call.abi_encode()[4..].to_vec().into() })
    }

    /// A permit for what the account's Escrow balance lacks of a bond.
    async fn bond(&self, bond: U256) -> Result<super::session::SignedPermit, Error> {
        let account = self.account();
        let funds = Funds::read(self.provider(), self.follower.contracts(), account).await?;
        if funds.ether.is_zero() {
            return Err(Error::NoEther(account));
        }
        if funds.total() < bond {
            return Err(Error::BondMissing { account, have: funds.total(), need: bond });
        }
        self.permit(bond.saturating_sub(funds.available)).await
    }
}
