//! Other terms for the batches that nobody holds yet: the job goes on as another one.

use alloy::primitives::{B256, TxHash, U256};
use conun_bindings::{
    Rules,
    abi::{
        Deployment,
        JobRegistry::{self, Job},
        ReplicaRegistry::{self, Assurance, ReplicatedJob},
    },
    job,
    replicas::{self, CERTAIN},
};
use serde::Serialize;

use super::{AssuranceFile, Error, Requester, assurance};
use crate::{
    chain::{BallotStage, BatchStage, JobEntry},
    funds::Funds,
    provider::now,
};

/// What is to be otherwise; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amendment {
    /// Token wei for 10^9 fuel.
    pub price: Option<u128>,
    /// Seconds a provider has for what it leases.
    pub lease_seconds: Option<u32>,
    /// Seconds after which silence pays a result.
    pub window_seconds: Option<u32>,
    /// Where several providers execute a batch: executions that are asked for at first.
    pub replicas: Option<u8>,
    /// Most executions of a batch.
    pub limit: Option<u8>,
    /// Probability of being right that a result must exceed.
    pub target: Option<f64>,
    /// Share of the batches that are executed a second time.
    pub audit_share: Option<f64>,
    /// Checks that a provider must have passed.
    pub min_checks: Option<u32>,
    /// Seconds in which the lot lets one provider after the other lease.
    pub widen_seconds: Option<u32>,
    /// Seconds to show what was committed to.
    pub reveal_seconds: Option<u32>,
}

impl Amendment {
    fn concerns_votes(&self) -> bool {
        let Self { replicas, limit, target, audit_share, min_checks, widen_seconds, reveal_seconds, .. } = self;
        let numbers = [*min_checks, *widen_seconds, *reveal_seconds, replicas.map(u32::from), limit.map(u32::from)];
        numbers.iter().any(Option::is_some) || target.is_some() || audit_share.is_some()
    }

    fn of_job(&self, job: &Job) -> Job {
        let mut terms = job.clone();
        if let Some(price) = self.price {
            (terms.startPrice, terms.maxPrice, terms.rampSeconds) = (price, price, 0);
        }
        terms.leaseSeconds = self.lease_seconds.unwrap_or(job.leaseSeconds);
        terms.windowSeconds = self.window_seconds.unwrap_or(job.windowSeconds);
        terms
    }

    /// # Errors
    /// What does not fit.
    fn of_assurance(&self, old: &Assurance, lease_seconds: u32) -> Result<Assurance, String> {
        let votes = old.limit > 1;
        let target = if votes { f64::from(old.target) / f64::from(CERTAIN) } else { assurance::DEFAULT_TARGET };
        let terms = AssuranceFile {
            max_error: None,
            replicas: self.replicas.unwrap_or(old.replicas),
            limit: Some(self.limit.unwrap_or(old.limit)),
            target: self.target.unwrap_or(target),
            audit_share: Some(self.audit_share.unwrap_or(f64::from(old.auditBps) / 10_000.0)),
            min_checks: self.min_checks.unwrap_or(old.minChecks),
            widen_seconds: self.widen_seconds.or(votes.then_some(old.widenSeconds)),
            reveal_seconds: self.reveal_seconds.unwrap_or(old.revealSeconds),
            post_seconds: 0,
        };
        terms.assurance(lease_seconds)
    }
}

/// What amending comes to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Amended {
    /// The job whose open batches they were.
    pub from: B256,
    /// The job that they are of now. Of a dry run: none.
    pub job: Option<B256>,
    /// How many batches go on in it.
    pub batches: u32,
    /// Locked for them now, token wei.
    pub deposit: U256,
    /// What came back of what was locked for them before, token wei.
    pub refunded: U256,
    /// Burned: what a new lot costs, token wei.
    pub burned: U256,
    /// The transaction. Of a dry run: none.
    pub transaction: Option<TxHash>,
}

/// Numbers of the batches that nobody holds.
fn open_batches(entry: &JobEntry) -> Vec<u32> {
    let once = (0..).zip(&entry.batches).filter(|(_, batch)| batch.stage == BatchStage::Open).map(|(number, _)| number);
    let votes = (0..).zip(entry.ballots()).filter(|(_, ballot)| ballot.stage == BallotStage::Open);
    once.chain(votes.map(|(number, _)| number)).collect()
}

/// Most that these batches may cost, token wei: what is locked for them.
fn locked(job: &Job, assurance: Option<&Assurance>, open: &[u32], rules: &Rules) -> U256 {
    let worst = |number: &u32| match assurance {
        Some(assurance) => replicas::worst_case(job, assurance, *number, rules),
        None => job::worst_case(job, *number),
    };
    open.iter().map(worst).sum()
}

impl Requester {
    /// Gives a job's open batches other terms: they go on, under the same numbers, in another job; what somebody holds goes on as it was.
    /// `post_seconds`: in which the transaction has to be mined where there is a lot. A dry run sends nothing.
    ///
    /// # Errors
    /// If the job is not this account's, is cancelled, has nothing open or stays as it is, if the terms break the deployment's rules,
    /// funds are missing, or the chain fails; nothing was sent then.
    pub async fn amend(
        &mut self,
        id: B256,
        amendment: &Amendment,
        post_seconds: u32,
        dry_run: bool,
    ) -> Result<Amended, Error> {
        self.refresh().await?;
        let entry = self.own(id)?.clone();
        let open = open_batches(&entry);
        if entry.cancelled {
            return Err(Error::Nothing(format!(
                "job {id} is cancelled, or was amended already: `conun job list` shows what goes on"
            )));
        }
        if open.is_empty() {
            return Err(Error::Nothing(format!(
                "job {id} has no open batch: what is held goes on under the old terms"
            )));
        }
        let old = entry.assured.as_ref().map(|assured| &assured.assurance);
        if old.is_none() && amendment.concerns_votes() {
            return Err(Error::Term(format!(
                "each batch of job {id} is executed once, and stays so: cancel it and post another to have votes or audits"
            )));
        }
        let contracts = *self.follower.contracts();
        let settings = Deployment::new(contracts.deployment, self.provider()).settings().call().await?;
        let rules = self.follower.index().rules;
        let mut terms = amendment.of_job(&entry.job);
        let changed =
            old.map(|old| amendment.of_assurance(old, terms.leaseSeconds)).transpose().map_err(Error::Term)?;
        if terms == entry.job && changed.as_ref() == old {
            return Err(Error::Nothing(format!("job {id} has these terms already: say what is to be otherwise")));
        }
        self.check_terms(&mut terms, changed.as_ref(), settings.maxCommitmentSeconds.to(), post_seconds).await?;
        let before = locked(&entry.job, old, &open, &rules);
        let burned = match old {
            Some(old) if old.limit > 1 => before * U256::from(rules.fee_bps) / U256::from(10_000),
            _ => U256::ZERO,
        };
        let (refunded, deposit) = (before - burned, locked(&terms, changed.as_ref(), &open, &rules));
        if deposit >= U256::from(1) << 95 {
            return Err(Error::Term("the deposit would be 2^95 token wei or more: lower the price".to_owned()));
        }
        let account = self.account();
        let funds = Funds::read(self.provider(), &contracts, account).await?;
        if funds.ether.is_zero() {
            return Err(Error::NoEther(account));
        }
        if funds.total() + refunded < deposit {
            return Err(Error::TooFewTokens { account, have: funds.total() + refunded, need: deposit });
        }
        let mut amended =
            Amended { from: id, job: None, batches: open.len() as u32, deposit, refunded, burned, transaction: None };
        if dry_run {
            return Ok(amended);
        }
        let replicated =
            |job: &Job| changed.clone().map(|assurance| ReplicatedJob { job: job.clone().into(), assurance });
        let id_of = |job: &Job| match replicated(job) {
            Some(job) => replicas::id(contracts.chain_id, contracts.replicas, &job),
            None => job::id(contracts.chain_id, contracts.jobs, job),
        };
        // As it once was, it is another job all the same.
        while self.follower.index().jobs.contains_key(&id_of(&terms)) {
            terms.nonce += 1;
        }
        let (value, deadline, v, r, s) = self.permit(deposit.saturating_sub(funds.available + refunded)).await?;
        let call = match (entry.replicated(), replicated(&terms)) {
            (Some(job), Some(terms)) => {
                let signed = ReplicaRegistry::Permit { value, deadline, v, r, s };
                let registry = ReplicaRegistry::new(contracts.replicas, self.provider().clone());
                registry.amend(job, terms, signed).into_transaction_request()
            }
            _ => {
                let signed = JobRegistry::Permit { value, deadline, v, r, s };
                let registry = JobRegistry::new(contracts.jobs, self.provider().clone());
                registry.amend(entry.job.clone(), terms.clone(), signed).into_transaction_request()
            }
        };
        let receipt = self.send("amend", call).await?;
        self.refresh().await?;
        (amended.job, amended.transaction) = (Some(id_of(&terms)), Some(receipt.transaction_hash));
        Ok(amended)
    }

    /// Holds terms against the deployment's rules, and sets when their lot begins.
    async fn check_terms(
        &self,
        terms: &mut Job,
        changed: Option<&Assurance>,
        cap: u64,
        post_seconds: u32,
    ) -> Result<(), Error> {
        if terms.maxPrice == 0 || terms.leaseSeconds == 0 || terms.windowSeconds == 0 {
            return Err(Error::Term("price, lease-seconds and window-seconds must be above 0".to_owned()));
        }
        if u64::from(terms.leaseSeconds) + u64::from(terms.windowSeconds) > cap {
            return Err(Error::Term(format!(
                "lease-seconds + window-seconds must be at most {cap} on this deployment"
            )));
        }
        let Some(changed) = changed else { return Ok(()) };
        if post_seconds > assurance::LATEST_LOT {
            return Err(Error::Term(format!("post-seconds must be at most {}", assurance::LATEST_LOT)));
        }
        assurance::check(terms, changed, &self.follower.index().rules, cap).map_err(Error::Term)?;
        let begin = now(self.provider()).await? + U256::from(post_seconds + changed.widenSeconds);
        terms.rampStart = begin.saturating_to();
        Ok(())
    }
}
