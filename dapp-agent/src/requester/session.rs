//! A requester at work: posts, serves, collects, accepts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
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

use super::{Error, Prepared};
use crate::{
    chain::{BatchEntry, BatchStage, Follower, JobEntry, Sender},
    funds::{Funds, permit},
    net::{Node, NodeConfig, PeerContact},
    provider::{connect, now},
};

/// Most batches accepted in one transaction: about 3 million gas.
const MAX_ACCEPTED: usize = 256;

/// Seconds of block time in which the post's permit must be mined.
const PERMIT_SECONDS: u64 = 3_600;

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
        /// Who.
        provider: Address,
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
        provider: Address,
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
        provider: Address,
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
    pub(super) follower: Follower,
    sender: Sender,
    pub(super) node: Node,
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
        let spec = prepared.spec.clone();
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
        for blob in [&prepared.wasm, &prepared.manifest].into_iter().chain(&prepared.files).chain(&prepared.inputs) {
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
        let call = self.registry().post(job, spec, self.contact(), signed).into_transaction_request();
        let receipt = self.sender.send("post", call).await?;
        Ok(Posted { job: id, deposit, transaction: receipt.transaction_hash, tasks, batches })
    }

    /// The job, if it is there and this account's.
    pub(super) fn own(&self, id: B256) -> Result<&JobEntry, Error> {
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
    /// If the job is not this account's, is cancelled already or has nothing open, or the chain fails.
    pub async fn cancel(&mut self, id: B256) -> Result<U256, Error> {
        self.refresh().await?;
        let entry = self.own(id)?;
        if entry.cancelled {
            return Err(Error::Nothing(format!("job {id} is cancelled already")));
        }
        if entry.batches.iter().all(|batch| batch.stage != BatchStage::Open) {
            return Err(Error::Nothing(format!("job {id} has no open batch to cancel")));
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
        self.accept_if(id, |number, _| only.is_none_or(|only| only.contains(&number))).await
    }

    /// Accepts submitted batches that `wanted` says yes to, as far as one transaction reaches.
    pub(super) async fn accept_if(
        &mut self,
        id: B256,
        wanted: impl Fn(u32, &BatchEntry) -> bool,
    ) -> Result<Vec<u32>, Error> {
        self.refresh().await?;
        let entry = self.own(id)?;
        let submitted = (0..).zip(&entry.batches).filter(|(_, batch)| batch.stage == BatchStage::Submitted);
        let mut wanted: Vec<u32> =
            submitted.filter(|(number, batch)| wanted(*number, batch)).map(|(number, _)| number).collect();
        if wanted.is_empty() {
            return Err(Error::Nothing(format!("job {id} has no such batch with a result in its window")));
        }
        wanted.truncate(MAX_ACCEPTED);
        // In order of provider: each is paid once then.
        let submission = |number: &u32| entry.batches[*number as usize].submission(*number);
        let mut standing: Vec<_> = wanted.iter().map(submission).collect();
        standing.sort_by_key(|submission| submission.provider);
        let call = self.registry().accept(entry.job.clone(), standing).into_transaction_request();
        self.sender.send("accept", call).await?;
        self.refresh().await?;
        Ok(wanted)
    }

    /// Publishes where this node is reached now, if the job says otherwise and still needs it.
    pub(super) async fn announce(&mut self, id: B256) -> Result<(), Error> {
        let entry = self.own(id)?;
        if entry.is_over() || entry.contact == self.node.contact() {
            return Ok(());
        }
        let call = self.registry().setContact(entry.job.clone(), self.contact()).into_transaction_request();
        self.sender.send("contact", call).await?;
        Ok(())
    }

    pub(super) fn peers(&self, provider: Address) -> Vec<PeerContact> {
        self.follower.index().providers.get(&provider).map(|entry| entry.contact.clone()).into_iter().collect()
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
