//! A requester at work: posts, serves, collects, accepts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use alloy::{
    primitives::{Address, B256, TxHash, U256},
    providers::DynProvider,
    signers::local::PrivateKeySigner,
};
use conun_bindings::{
    Contracts,
    abi::{
        Deployment,
        JobRegistry::{self, Job},
    },
    job,
};
use serde::Serialize;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::{
    Error, Prepared,
    collect::{Collected, Rejection, collect},
    io_error,
};
use crate::{
    chain::{BatchStage, Follower, JobEntry, Sender},
    funds::{Funds, permit},
    net::{Node, NodeConfig, PeerContact},
    provider::{connect, now},
};

/// Seconds of block time in which the post's permit must be mined.
const PERMIT_SECONDS: u64 = 3_600;

/// Batches fetched at once.
const MAX_COLLECTING: usize = 4;

/// Time between attempts at a result that could not be had.
const RETRY: Duration = Duration::from_secs(5);

/// What posting came to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Posted {
    /// The job's id.
    pub job: B256,
    /// Locked for it, token wei.
    pub deposit: U256,
    /// The transaction.
    pub transaction: TxHash,
    /// Tasks.
    pub tasks: u32,
    /// Batches.
    pub batches: u32,
}

/// Something a person watching would want to see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase")]
pub enum Progress {
    /// A provider holds a batch.
    Leased {
        /// The batch.
        batch: u32,
        /// Who: registration index.
        provider: u32,
    },
    /// A lease ran out or was given back.
    Reopened {
        /// The batch.
        batch: u32,
    },
    /// A provider says it has the result.
    Submitted {
        /// The batch.
        batch: u32,
        /// Who.
        provider: u32,
        /// Fuel it claims.
        fuel: u64,
    },
    /// The result is here and is what the provider committed to.
    Verified {
        /// The batch.
        batch: u32,
    },
    /// The result could not be had or is wrong; it is not accepted.
    NotTaken {
        /// The batch.
        batch: u32,
        /// Why.
        reason: String,
    },
    /// It is paid.
    Settled {
        /// The batch.
        batch: u32,
        /// Who.
        provider: u32,
        /// Token wei.
        payment: U256,
        /// Accepted by the requester, or paid because its window ran out.
        accepted: bool,
    },
    /// The chain could not be reached; it goes on.
    Trouble {
        /// Why.
        reason: String,
    },
}

/// A requester with its endpoint and its view of the chain.
#[derive(Debug)]
pub struct Requester {
    signer: PrivateKeySigner,
    folder: PathBuf,
    follower: Follower,
    sender: Sender,
    node: Node,
}

impl Requester {
    /// Connects to chain and peers. `folder` keeps what is served and what was received.
    ///
    /// # Errors
    /// If the endpoint fails, the contracts are not there, or iroh cannot listen.
    pub async fn start(
        folder: &Path,
        url: &str,
        contracts: Contracts,
        signer: PrivateKeySigner,
        listen: std::net::SocketAddr,
    ) -> Result<Self, Error> {
        let provider = connect(url, &signer).await?;
        let mut follower = Follower::new(provider.clone(), contracts, 0).await?;
        follower.poll().await?;
        let node = Node::start(NodeConfig { data_dir: folder.to_owned(), bind: listen, relay: false }).await?;
        let sender = Sender::new(provider, signer.address());
        Ok(Self { signer, folder: folder.to_owned(), follower, sender, node })
    }

    /// What has been read of the chain.
    pub fn follower(&self) -> &Follower {
        &self.follower
    }

    /// The provider that it reads and sends through.
    pub fn provider(&self) -> &DynProvider {
        self.sender.provider()
    }

    /// Its account.
    pub fn account(&self) -> Address {
        self.signer.address()
    }

    /// Its view of the chain, brought up to date.
    ///
    /// # Errors
    /// If the endpoint fails.
    pub async fn refresh(&mut self) -> Result<&Follower, Error> {
        self.follower.poll().await?;
        Ok(&self.follower)
    }

    fn registry(&self) -> JobRegistry::JobRegistryInstance<DynProvider> {
        JobRegistry::new(self.follower.contracts().jobs, self.provider().clone())
    }

    fn contact(&self) -> JobRegistry::Contact {
        JobRegistry::Contact::from(&self.node.contact())
    }

    /// Posts a job: its bytes are served from now on, its deposit is locked.
    ///
    /// # Errors
    /// If the terms break the deployment's rules, funds are missing, or the chain fails; nothing was sent then.
    pub async fn post(&mut self, prepared: &Prepared) -> Result<Posted, Error> {
        let account = self.account();
        let contracts = *self.follower.contracts();
        let settings = Deployment::new(contracts.deployment, self.provider()).settings().call().await?;
        let mut job = Job { requester: account, ..prepared.job.clone() };
        let cap: u64 = settings.maxCommitmentSeconds.to();
        if u64::from(job.leaseSeconds) + u64::from(job.windowSeconds) > cap {
            return Err(Error::Term(format!(
                "lease-seconds + window-seconds must be at most {cap} on this deployment"
            )));
        }
        let deposit = job::deposit(&job);
        let funds = Funds::read(self.provider(), &contracts, account).await?;
        if funds.ether.is_zero() {
            return Err(Error::NoEther(account));
        }
        if funds.total() < deposit {
            return Err(Error::TooFewTokens { account, have: funds.total(), need: deposit });
        }
        while self.follower.index().jobs.contains_key(&job::id(contracts.chain_id, contracts.jobs, &job)) {
            job.nonce += 1;
        }
        let id = job::id(contracts.chain_id, contracts.jobs, &job);
        for blob in [&prepared.wasm, &prepared.manifest].into_iter().chain(&prepared.inputs) {
            self.node.put(blob.clone()).await?;
        }
        let missing = deposit.saturating_sub(funds.available);
        let mut signed =
            JobRegistry::Permit { value: U256::ZERO, deadline: U256::ZERO, v: 0, r: B256::ZERO, s: B256::ZERO };
        if !missing.is_zero() {
            let deadline = now(self.provider()).await? + U256::from(PERMIT_SECONDS);
            let (v, r, s) = permit(self.provider(), &contracts, &self.signer, missing, deadline).await?;
            signed = JobRegistry::Permit { value: missing, deadline, v, r, s };
        }
        let (tasks, batches) = (job.taskCount, job::batch_count(&job));
        let call = self.registry().post(job, self.contact(), signed).into_transaction_request();
        let receipt = self.sender.send("post", call).await?;
        Ok(Posted { job: id, deposit, transaction: receipt.transaction_hash, tasks, batches })
    }

    /// The job, if it is there and this account's.
    fn own(&self, id: B256) -> Result<&JobEntry, Error> {
        let entry = self.follower.index().jobs.get(&id).ok_or(Error::NoSuchJob(id))?;
        let owner = entry.job.requester;
        if owner == self.account() {
            Ok(entry)
        } else {
            Err(Error::NotYours { job: id, owner, account: self.account() })
        }
    }

    /// Ends all open batches of a job and takes their deposit back into the Escrow balance. Returns the refund, token wei.
    ///
    /// # Errors
    /// If the job is not this account's, is cancelled already, or the chain fails.
    pub async fn cancel(&mut self, id: B256) -> Result<U256, Error> {
        self.refresh().await?;
        let entry = self.own(id)?;
        if entry.cancelled {
            return Err(Error::Nothing(format!("job {id} is cancelled already")));
        }
        let before = entry.refunded;
        let call = self.registry().cancel(entry.job.clone()).into_transaction_request();
        self.sender.send("cancel", call).await?;
        self.refresh().await?;
        Ok(self.own(id)?.refunded - before)
    }

    /// Accepts submitted batches, all of them if none is named. Returns those that were.
    ///
    /// # Errors
    /// If the job is not this account's, nothing is submitted, or the chain fails.
    pub async fn accept(&mut self, id: B256, only: Option<&BTreeSet<u32>>) -> Result<Vec<u32>, Error> {
        self.refresh().await?;
        let entry = self.own(id)?;
        let submitted = (0..).zip(&entry.batches).filter(|(_, batch)| batch.stage == BatchStage::Submitted);
        let wanted = submitted.map(|(number, _)| number).filter(|number| only.is_none_or(|only| only.contains(number)));
        let wanted: BTreeSet<u32> = wanted.collect();
        // A bitmap reaches 256 batches far.
        let Some(first) = wanted.first().copied() else {
            return Err(Error::Nothing(format!("job {id} has no such batch with a result in its window")));
        };
        let near: Vec<_> = wanted.into_iter().filter(|number| number - first < 256).collect();
        let bitmap = near.iter().fold(U256::ZERO, |bitmap, number| bitmap | U256::from(1) << (number - first));
        let call = self.registry().accept(entry.job.clone(), first, bitmap).into_transaction_request();
        self.sender.send("accept", call).await?;
        self.refresh().await?;
        Ok(near)
    }

    /// Serves a job until all its batches are final: fetches results, checks them, accepts those that are right, and writes each
    /// task's output to `out/<task index>`. What was fetched before is not fetched again.
    ///
    /// # Errors
    /// If the job is not this account's or a file cannot be written. A chain that does not answer is waited for.
    ///
    /// # Cancel safety
    /// Cancel safe but for an accept under way: another call goes on from there.
    pub async fn follow(
        &mut self,
        id: B256,
        out: &Path,
        poll: Duration,
        mut tell: impl FnMut(Progress, &JobEntry),
    ) -> Result<(), Error> {
        std::fs::create_dir_all(out).map_err(io_error(out))?;
        self.refresh().await?;
        self.announce(id).await?;
        let mut seen: Vec<Option<(BatchStage, u32)>> = Vec::new();
        let mut verified = BTreeSet::new();
        let mut collecting: JoinSet<(u32, Result<Collected, Rejection>)> = JoinSet::new();
        let mut waiting = BTreeSet::new();
        let mut retry = tokio::time::Instant::now();
        let mut ticks = tokio::time::interval(poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let entry = self.own(id)?;
            report(entry, &mut seen, &mut tell);
            if tokio::time::Instant::now() >= retry {
                waiting.clear();
                retry = tokio::time::Instant::now() + RETRY;
            }
            let complete = entry.is_over();
            for (number, batch) in (0..).zip(&entry.batches) {
                let wanted =
                    matches!(batch.stage, BatchStage::Submitted | BatchStage::Settled) && !verified.contains(&number);
                if wanted && collecting.len() < MAX_COLLECTING && waiting.insert(number) {
                    let (node, job, batch) = (self.node.clone(), entry.job.clone(), batch.clone());
                    let peers = self.peers(batch.provider);
                    collecting.spawn(async move { (number, collect(&node, id, &job, number, &batch, &peers).await) });
                }
            }
            let settled = entry.batches.iter().filter(|batch| batch.stage == BatchStage::Settled).count();
            if complete && verified.len() == settled {
                return Ok(());
            }
            tokio::select! {
                Some(done) = collecting.join_next() => {
                    let Ok((number, result)) = done else { continue };
                    let entry = self.own(id)?;
                    match result {
                        Ok(collected) => {
                            self.keep(out, &entry.job, number, &collected)?;
                            verified.insert(number);
                            tell(Progress::Verified { batch: number }, entry);
                        }
                        Err(rejection) => tell(Progress::NotTaken { batch: number, reason: rejection.to_string() }, entry),
                    }
                    continue;
                }
                _ = ticks.tick() => {}
            }
            if let Err(error) = self.follower.poll().await {
                let reason = error.to_string();
                tell(Progress::Trouble { reason }, self.own(id)?);
                continue;
            }
            let acceptable = |number: &u32| {
                self.own(id).is_ok_and(|entry| entry.batches[*number as usize].stage == BatchStage::Submitted)
            };
            let ready: BTreeSet<_> = verified.iter().copied().filter(acceptable).collect();
            if !ready.is_empty()
                && let Err(error) = self.accept(id, Some(&ready)).await
            {
                let reason = error.to_string();
                tell(Progress::Trouble { reason }, self.own(id)?);
            }
        }
    }

    /// Publishes where this node is reached now, if the job says otherwise and still needs it.
    async fn announce(&mut self, id: B256) -> Result<(), Error> {
        let entry = self.own(id)?;
        if entry.is_over() || entry.contact == self.node.contact() {
            return Ok(());
        }
        let call = self.registry().setContact(entry.job.clone(), self.contact()).into_transaction_request();
        self.sender.send("contact", call).await?;
        Ok(())
    }

    fn peers(&self, provider: u32) -> Vec<PeerContact> {
        self.follower.index().providers.get(&provider).map(|entry| entry.contact.clone()).into_iter().collect()
    }

    fn keep(&self, out: &Path, job: &Job, number: u32, collected: &Collected) -> Result<(), Error> {
        for ((index, output), result) in job::tasks_in(job, number).zip(&collected.outputs).zip(&collected.results) {
            let path = out.join(index.to_string());
            match result.outcome {
                conun_vm::Outcome::Ok { exit_code: 0 } => {}
                outcome => {
                    tracing::warn!(target: "conun::requester", task = index, ?outcome, "the program did not end well")
                }
            }
            std::fs::write(&path, output).map_err(io_error(&path))?;
        }
        Ok(())
    }

    /// The folder that keeps what is served and received.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the endpoint.
    pub async fn shutdown(self) {
        self.node.shutdown().await;
    }
}

/// Tells what has changed since the last look.
fn report(entry: &JobEntry, seen: &mut Vec<Option<(BatchStage, u32)>>, tell: &mut impl FnMut(Progress, &JobEntry)) {
    seen.resize(entry.batches.len(), None);
    for ((number, batch), seen) in (0..).zip(&entry.batches).zip(seen) {
        let now = (batch.stage, batch.provider);
        let before = seen.replace(now);
        if before == Some(now) {
            continue;
        }
        let provider = batch.provider;
        match batch.stage {
            BatchStage::Open | BatchStage::Cancelled if before.is_some() => {
                tell(Progress::Reopened { batch: number }, entry)
            }
            BatchStage::Open | BatchStage::Cancelled => {}
            BatchStage::Leased => tell(Progress::Leased { batch: number, provider }, entry),
            BatchStage::Submitted => tell(Progress::Submitted { batch: number, provider, fuel: batch.fuel }, entry),
            BatchStage::Settled => {
                tell(
                    Progress::Settled { batch: number, provider, payment: batch.payment, accepted: batch.accepted },
                    entry,
                );
            }
        }
    }
}
