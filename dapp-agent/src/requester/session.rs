//! A requester at work: posts, serves, collects, accepts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy::{
    primitives::{Address, B256, TxHash, U256},
    providers::DynProvider,
    rpc::types::{TransactionReceipt, TransactionRequest},
    signers::local::PrivateKeySigner,
};
use conun_bindings::{
    Contracts,
    abi::{
        Deployment,
        JobRegistry::{self, Job},
        ReplicaRegistry,
    },
    job, replicas,
};
use serde::Serialize;

use super::{Error, Prepared, assurance, logs::Desk, view::View};
use crate::{
    access::Access,
    chain::{BallotStage, BatchStage, Follower, JobEntry, SendError, Sender},
    funds::{Funds, permit},
    net::{NetworkSettings, Node, NodeConfig, PeerContact},
    provider::{connect, now},
};

/// Most batches accepted in one transaction: about 3 million gas.
pub(super) const MAX_ACCEPTED: usize = 256;

/// The same where each has several votes.
pub(super) const MAX_VOTES_ACCEPTED: usize = 32;

/// A permit's value, deadline and signature; all zero for none.
pub(super) type SignedPermit = (U256, U256, u8, B256, B256);

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
    /// How many providers execute each batch at first.
    pub replicas: u8,
    /// Checks that each of them must have passed.
    pub min_checks: u32,
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
    /// A provider has committed to a result.
    Committed {
        /// The batch.
        batch: u32,
        /// Who.
        provider: Address,
    },
    /// The batch is audited, or its votes were not enough: it is executed once more.
    RoundOpened {
        /// The batch.
        batch: u32,
        /// Executions wanted by now.
        wanted: usize,
    },
    /// It ended without a result: its votes were not enough, or a dispute was won.
    Undecided {
        /// The batch.
        batch: u32,
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
    access: Access,
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
        network: NetworkSettings,
    ) -> Result<Self, Error> {
        let provider = connect(url, &signer).await?;
        let mut follower = Follower::new(provider.clone(), contracts, 0).await?;
        let head = follower.poll().await?;
        let node = Node::start(NodeConfig { data_dir: folder.to_owned(), bind: listen, network }).await?;
        let sender = Sender::new(provider, signer.address());
        let access = Access::new(signer.address()).with_deployment(&contracts);
        access.look(head, follower.index());
        node.open_to(Arc::new(Desk::new(folder, access.clone())));
        Ok(Self { signer, folder: folder.to_owned(), follower, sender, node, access })
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
        let head = self.follower.poll().await?;
        self.access.look(head, self.follower.index());
        Ok(&self.follower)
    }

    pub(super) fn registry(&self) -> JobRegistry::JobRegistryInstance<DynProvider> {
        JobRegistry::new(self.follower.contracts().jobs, self.provider().clone())
    }

    pub(super) fn replicas(&self) -> ReplicaRegistry::ReplicaRegistryInstance<DynProvider> {
        ReplicaRegistry::new(self.follower.contracts().replicas, self.provider().clone())
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
        let rules = self.follower.index().rules;
        // Without chance the job is open to everybody, which is never too little.
        let lot = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        let prepared = &Prepared { assurance: prepared.assured(self.follower.index(), lot), ..prepared.clone() };
        let mut job = Job { requester: account, ..prepared.job.clone() };
        let cap: u64 = settings.maxCommitmentSeconds.to();
        if u64::from(job.leaseSeconds) + u64::from(job.windowSeconds) > cap {
            return Err(Error::Term(format!(
                "lease-seconds + window-seconds must be at most {cap} on this deployment"
            )));
        }
        if let Some((terms, post_seconds)) = &prepared.assurance {
            assurance::check(&job, terms, &rules, cap).map_err(Error::Term)?;
            // Nobody is early: everybody may lease once the ramp begins.
            let begin = now(self.provider()).await? + U256::from(post_seconds + terms.widenSeconds);
            job.rampStart = begin.saturating_to();
        }
        let replicated = |job: &Job| {
            let (assurance, _) = prepared.assurance.clone()?;
            Some(ReplicaRegistry::ReplicatedJob { job: job.clone().into(), assurance })
        };
        let id_of = |job: &Job| match replicated(job) {
            Some(job) => replicas::id(contracts.chain_id, contracts.replicas, &job),
            None => job::id(contracts.chain_id, contracts.jobs, job),
        };
        let spec = prepared.spec.clone();
        let deposit = prepared.deposit(&rules);
        let funds = Funds::read(self.provider(), &contracts, account).await?;
        if funds.ether.is_zero() {
            return Err(Error::NoEther(account));
        }
        if funds.total() < deposit {
            return Err(Error::TooFewTokens { account, have: funds.total(), need: deposit });
        }
        while self.follower.index().jobs.contains_key(&id_of(&job)) {
            job.nonce += 1;
        }
        let id = id_of(&job);
        for blob in [&prepared.wasm, &prepared.manifest].into_iter().chain(&prepared.files).chain(&prepared.inputs) {
            self.node.put(blob.clone()).await?;
        }
        let (value, deadline, v, r, s) = self.permit(deposit.saturating_sub(funds.available)).await?;
        let (tasks, batches) = (job.taskCount, job::batch_count(&job));
        let call = match replicated(&job) {
            Some(job) => {
                let signed = ReplicaRegistry::Permit { value, deadline, v, r, s };
                let contact = ReplicaRegistry::Contact::from(&self.node.contact());
                self.replicas().post(job, spec.into(), contact, signed).into_transaction_request()
            }
            None => {
                let signed = JobRegistry::Permit { value, deadline, v, r, s };
                self.registry().post(job, spec, self.contact(), signed).into_transaction_request()
            }
        };
        let receipt = self.send("post", call).await?;
        // Nobody is given anything of it before the chain is seen to name it. What cannot be looked at now is when it is followed.
        let _ = self.refresh().await;
        let (replicas, min_checks) =
            prepared.assurance.as_ref().map_or((1, 0), |(terms, _)| (terms.replicas, terms.minChecks));
        let transaction = receipt.transaction_hash;
        Ok(Posted { job: id, deposit, transaction, replicas, min_checks, tasks, batches })
    }

    /// A permit for `missing` token wei; none if nothing is missing.
    pub(super) async fn permit(&self, missing: U256) -> Result<SignedPermit, Error> {
        if missing.is_zero() {
            return Ok(SignedPermit::default());
        }
        let deadline = now(self.provider()).await? + U256::from(PERMIT_SECONDS);
        let (v, r, s) = permit(self.provider(), self.follower.contracts(), &self.signer, missing, deadline).await?;
        Ok((missing, deadline, v, r, s))
    }

    pub(super) async fn send(
        &self,
        kind: &'static str,
        request: TransactionRequest,
    ) -> Result<TransactionReceipt, SendError> {
        self.sender.send(kind, request).await
    }

    /// The job, if it is there and this account's.
    pub(super) fn own(&self, id: B256) -> Result<&JobEntry, Error> {
        let entry = self.follower.index().job(&id).ok_or(Error::NoSuchJob(id))?;
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
        let open = entry.batches.iter().any(|batch| batch.stage == BatchStage::Open);
        if !open && entry.ballots().all(|ballot| ballot.stage != BallotStage::Open) {
            return Err(Error::Nothing(format!("job {id} has no open batch to cancel")));
        }
        let before = entry.refunded;
        let call = match entry.replicated() {
            Some(job) => self.replicas().cancel(job).into_transaction_request(),
            None => self.registry().cancel(entry.job.clone()).into_transaction_request(),
        };
        self.sender.send("cancel", call).await?;
        self.refresh().await?;
        Ok(self.own(id)?.refunded - before)
    }

    /// Accepts batches with a result in its window (where there was a vote: all of whose votes agree), all of them if none is named.
    /// Returns those that were.
    ///
    /// # Errors
    /// If the job is not this account's, there is nothing to accept, or the chain fails.
    pub async fn accept(&mut self, id: B256, only: Option<&BTreeSet<u32>>) -> Result<Vec<u32>, Error> {
        self.accept_if(id, |number, _| only.is_none_or(|only| only.contains(&number))).await
    }

    /// Accepts batches that `wanted` says yes to, by number and root, as far as one transaction reaches.
    pub(super) async fn accept_if(&mut self, id: B256, wanted: impl Fn(u32, B256) -> bool) -> Result<Vec<u32>, Error> {
        self.refresh().await?;
        let views = self.views(id)?;
        let entry = self.own(id)?;
        let ready = (0..).zip(&views).filter(|(_, view)| view.acceptable);
        let mut wanted: Vec<u32> = ready
            .filter(|(number, view)| view.found.as_ref().is_some_and(|found| wanted(*number, found.root)))
            .map(|(number, _)| number)
            .collect();
        if wanted.is_empty() {
            return Err(Error::Nothing(match entry.assured {
                None => format!("job {id} has no such batch with a result in its window"),
                Some(_) => format!(
                    "job {id} has no such batch with a result on which all votes agree, in its window: a result that most voted for is paid when its window is over"
                ),
            }));
        }
        let call = match entry.replicated() {
            Some(job) => {
                wanted.truncate(MAX_VOTES_ACCEPTED);
                let tallies = wanted.iter().filter_map(|number| Some(entry.ballot(*number)?.1.tally(*number)));
                self.replicas().accept(job, tallies.collect()).into_transaction_request()
            }
            None => {
                wanted.truncate(MAX_ACCEPTED);
                // In order of provider: each is paid once then.
                let submission = |number: &u32| entry.batches[*number as usize].submission(*number);
                let mut standing: Vec<_> = wanted.iter().map(submission).collect();
                standing.sort_by_key(|submission| submission.provider);
                self.registry().accept(entry.job.clone(), standing).into_transaction_request()
            }
        };
        self.send("accept", call).await?;
        self.refresh().await?;
        Ok(wanted)
    }

    /// The job's batches as this account sees them.
    pub(super) fn views(&self, id: B256) -> Result<Vec<View>, Error> {
        let now = self.follower.head().map_or(0, |head| head.timestamp);
        Ok(View::all(self.own(id)?, &self.follower.index().rules, now))
    }

    /// Publishes where this node is reached now, if the job says otherwise and still needs it.
    pub(super) async fn announce(&mut self, id: B256) -> Result<(), Error> {
        let entry = self.own(id)?;
        if entry.is_over() || entry.contact == self.node.contact() {
            return Ok(());
        }
        let call = match entry.replicated() {
            Some(job) => {
                let contact = ReplicaRegistry::Contact::from(&self.node.contact());
                self.replicas().setContact(job, contact).into_transaction_request()
            }
            None => self.registry().setContact(entry.job.clone(), self.contact()).into_transaction_request(),
        };
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
