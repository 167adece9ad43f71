//! Jobs, providers and disputes, rebuilt from the contracts' logs alone. Pure: the same logs give the same index.

mod ballots;
mod batches;
mod changes;
mod disputes;
mod jobs;
mod own;
mod providers;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::{
    primitives::{Address, B256, TxHash, U256, map::B256Map},
    rpc::types::Log,
    sol_types::SolEventInterface,
};
use conun_bindings::{
    Contracts, Rules,
    abi::{
        Disputes::DisputesEvents,
        JobRegistry::{self, Job, JobRegistryEvents, Spec},
        ProviderRegistry::ProviderRegistryEvents,
        ReplicaRegistry::{self, ReplicaRegistryEvents},
    },
    job, replicas,
};

pub use ballots::{Assured, Ballot, BallotStage, Replica, ReplicaStage};
pub use batches::Batches;
pub use disputes::{CaseEntry, Claim};
pub use jobs::{BatchEntry, BatchStage};
pub use own::OwnJobs;
pub use providers::{Loss, LossReason, ProviderEntry};

use self::changes::Changes;
use crate::net::PeerContact;

/// A job as the logs tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEntry {
    /// The job's fields.
    pub job: Job,
    /// What is computed.
    pub spec: Spec,
    /// Where its requester can be reached.
    pub contact: PeerContact,
    /// Locked at first, token wei.
    pub deposit: U256,
    /// Block of posting.
    pub block: u64,
    /// Block of its last change.
    pub changed: u64,
    /// Its batches, if each is executed once.
    pub batches: Batches,
    /// Else how it is assured, and its batches.
    pub assured: Option<Box<Assured>>,
    /// Whether the requester cancelled it.
    pub cancelled: bool,
    /// Refunded so far, token wei.
    pub refunded: U256,
    /// Burned so far of the deposit, token wei: fees, and what undecided batches cost.
    pub burned: U256,
    /// Transactions that concerned it, with their kind.
    pub transactions: Vec<(TxHash, &'static str)>,
}

impl JobEntry {
    /// A new one, without its batches.
    fn posted(job: Job, spec: Spec, contact: PeerContact, deposit: U256, at: At) -> Self {
        Self {
            job,
            spec,
            contact,
            deposit,
            block: at.block,
            changed: at.block,
            batches: Batches::default(),
            assured: None,
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: vec![(at.hash, "post")],
        }
    }

    /// Whether all batches are final.
    pub fn is_over(&self) -> bool {
        self.batches.iter().all(BatchEntry::is_final) && self.ballots().all(Ballot::is_final)
    }

    /// Its batches, if each is executed several times.
    pub fn ballots(&self) -> impl Iterator<Item = &Ballot> {
        self.assured.iter().flat_map(|assured| &assured.ballots)
    }

    /// Everybody who holds a batch of it, or has held one, once for each; zero where nobody does.
    pub fn accounts(&self) -> impl Iterator<Item = Address> {
        let once = self.batches.iter().flat_map(|batch| [batch.provider, batch.previous]);
        let voters = self.ballots().flat_map(|ballot| ballot.replicas.keys().copied());
        once.chain(voters)
    }

    /// Number of its batches.
    pub fn batch_count(&self) -> usize {
        self.batches.len() + self.ballots().count()
    }

    /// Number of its batches that are final.
    pub fn final_count(&self) -> usize {
        let batches = self.batches.iter().filter(|batch| batch.is_final());
        batches.count() + self.ballots().filter(|ballot| ballot.is_final()).count()
    }

    /// Paid so far, token wei.
    pub fn spent(&self) -> U256 {
        let paid = |ballot: &Ballot| ballot.replicas.keys().map(|provider| ballot.payment(*provider)).sum::<U256>();
        self.batches.iter().map(|batch| batch.payment).sum::<U256>() + self.ballots().map(paid).sum::<U256>()
    }

    /// Stake that a lease of a batch locks, token wei.
    pub fn lease_lock(&self, number: u32, rules: &Rules) -> U256 {
        let assured = self.assured.as_ref();
        let share = assured.map_or(rules.audit_floor_bps, |assured| replicas::audit_bps(&assured.assurance, rules));
        job::lease_lock(&self.job, number, share)
    }
}

/// Everything that the registries' logs tell.
#[derive(Clone, Debug)]
pub struct Index {
    /// What the deployment's settings say.
    pub rules: Rules,
    /// Jobs by id. A copy of the index shares those that have not changed.
    pub jobs: B256Map<Arc<JobEntry>>,
    /// Ids in the order of posting.
    pub order: Vec<B256>,
    /// Providers by account, those that left included.
    pub providers: BTreeMap<Address, ProviderEntry>,
    /// Disputes by id.
    pub cases: BTreeMap<B256, CaseEntry>,
    /// Those whose batch is not resolved.
    pending: BTreeSet<B256>,
    /// Jobs that changed lately.
    changes: Changes,
}

/// The transaction that a log is of, its block, and the block's time.
#[derive(Clone, Copy, Debug)]
struct At {
    hash: TxHash,
    block: u64,
    now: u64,
}

fn contact(endpoint: B256, hint: &str) -> PeerContact {
    PeerContact::parse(endpoint.0, hint)
}

impl Index {
    /// An index of a deployment where nothing has happened yet.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            jobs: B256Map::default(),
            order: Vec::new(),
            providers: BTreeMap::new(),
            cases: BTreeMap::new(),
            pending: BTreeSet::new(),
            changes: Changes::default(),
        }
    }

    /// Takes in a log; logs come in the order of the chain. Others than the contracts' are ignored. A log of `ReplicaRegistry` needs
    /// the time of its block.
    pub fn apply(&mut self, contracts: &Contracts, log: &Log) {
        let at = At {
            hash: log.transaction_hash.unwrap_or_default(),
            block: log.block_number.unwrap_or_default(),
            now: log.block_timestamp.unwrap_or_default(),
        };
        let from = log.address();
        if from == contracts.jobs {
            if let Ok(event) = JobRegistryEvents::decode_log(&log.inner) {
                self.apply_job(event.data, at);
            }
        } else if from == contracts.replicas {
            if let Ok(event) = ReplicaRegistryEvents::decode_log(&log.inner) {
                self.apply_replicas(event.data, at);
            }
        } else if from == contracts.providers {
            if let Ok(event) = ProviderRegistryEvents::decode_log(&log.inner) {
                self.apply_provider(event.data, at.block);
            }
        } else if from == contracts.disputes
            && let Ok(event) = DisputesEvents::decode_log(&log.inner)
        {
            self.apply_dispute(event.data);
        }
    }

    /// A job.
    pub fn job(&self, id: &B256) -> Option<&JobEntry> {
        self.jobs.get(id).map(Arc::as_ref)
    }

    fn slash(&mut self, provider: Address, (job, batch): (B256, u32), amount: U256, reason: LossReason) {
        if let Some(entry) = self.providers.get_mut(&provider).filter(|_| !amount.is_zero()) {
            entry.stake = entry.stake.saturating_sub(amount);
            entry.losses.push(Loss { job, batch, amount, reason });
        }
    }

    /// Takes in a job, or another state of one.
    pub fn insert(&mut self, id: B256, entry: JobEntry) {
        if self.jobs.insert(id, Arc::new(entry)).is_none() {
            self.order.push(id);
        }
        self.changes.note(id);
    }

    /// A job, to be changed.
    pub fn change(&mut self, id: &B256) -> Option<&mut JobEntry> {
        let entry = self.jobs.get_mut(id)?;
        self.changes.note(*id);
        Some(Arc::make_mut(entry))
    }

    /// How many changes of jobs it has taken in.
    pub fn revision(&self) -> u64 {
        self.changes.count()
    }

    /// Jobs that changed since it had taken in `revision` changes; `None` if it does not know any more: any may have.
    pub fn changed_since(&self, revision: u64) -> Option<impl Iterator<Item = B256>> {
        self.changes.since(revision)
    }

    /// Says that it is another history than `other`'s, so that whoever followed that one looks at all of it anew.
    pub fn replaces(&mut self, other: &Self) {
        self.changes = Changes::after(&other.changes);
    }

    /// Shares with `other`, which has gone further than this one's `block`, the jobs that changed here since `revision` and not there
    /// since `block`.
    pub fn share(&mut self, other: &Self, revision: u64, block: u64) {
        let changed = self.changed_since(revision).map(Iterator::collect::<Vec<_>>);
        for id in changed.unwrap_or_else(|| self.order.clone()) {
            if let (Some(own), Some(found)) = (self.jobs.get_mut(&id), other.jobs.get(&id))
                && found.changed <= block
            {
                own.clone_from(found);
            }
        }
    }

    fn touch(&mut self, id: B256, At { hash, block, .. }: At, kind: &'static str) -> Option<&mut JobEntry> {
        let entry = self.change(&id)?;
        entry.changed = block;
        // What comes on the way of another call does not rename it; a lease may expire another first. It is one of the last.
        match entry.transactions.iter_mut().rev().find(|(known, _)| *known == hash) {
            Some((_, known)) if kind == "lease" => *known = kind,
            Some(_) => {}
            None => {
                // Most jobs have few, of 48 bytes each.
                if entry.transactions.len() < 4 {
                    entry.transactions.reserve_exact(1);
                }
                entry.transactions.push((hash, kind));
            }
        }
        Some(entry)
    }

    /// Stake that `provider`'s leases and windows lock, token wei.
    pub fn locked_stake(&self, provider: Address) -> U256 {
        self.locked_in(provider, self.jobs.values().map(Arc::as_ref))
    }

    /// The same of `jobs` alone.
    pub fn locked_in<'a>(&self, provider: Address, jobs: impl IntoIterator<Item = &'a JobEntry>) -> U256 {
        let mut locked = U256::ZERO;
        for entry in jobs {
            for (number, batch) in (0..).zip(&entry.batches) {
                if batch.provider == provider
                    && matches!(batch.stage, BatchStage::Leased | BatchStage::Submitted | BatchStage::Frozen)
                {
                    locked += entry.lease_lock(number, &self.rules);
                }
            }
            for (number, ballot) in (0..).zip(entry.ballots()) {
                let locks = match ballot.stage_of(provider) {
                    Some(ReplicaStage::Leased { .. }) => true,
                    Some(ReplicaStage::Committed { .. } | ReplicaStage::Revealed { .. }) => !ballot.is_final(),
                    Some(ReplicaStage::Done) | None => false,
                };
                if locks {
                    locked += entry.lease_lock(number, &self.rules);
                }
            }
        }
        locked
    }

    /// The one job whose id starts with `prefix` (with or without 0x), or why there is none.
    ///
    /// # Errors
    /// A sentence for the user.
    pub fn find_job(&self, prefix: &str) -> Result<B256, String> {
        let prefix = prefix.strip_prefix("0x").unwrap_or(prefix).to_lowercase();
        if prefix.is_empty() {
            return Err("give a job's id, or its first digits: `conun job list` shows them".to_owned());
        }
        let mut found = self.order.iter().filter(|id| alloy::primitives::hex::encode(id).starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some(id), None) => Ok(*id),
            (None, _) => Err(format!("no job's id starts with {prefix}: `conun job list` shows them")),
            (Some(_), Some(_)) => Err(format!("several jobs' ids start with {prefix}: give more digits")),
        }
    }
}

/// The type of a job's contact in calls.
impl From<&PeerContact> for JobRegistry::Contact {
    fn from(contact: &PeerContact) -> Self {
        Self { endpoint: contact.endpoint.into(), hint: contact.hint_text() }
    }
}

impl From<&PeerContact> for ReplicaRegistry::Contact {
    fn from(contact: &PeerContact) -> Self {
        Self { endpoint: contact.endpoint.into(), hint: contact.hint_text() }
    }
}
