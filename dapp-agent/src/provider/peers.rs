//! Who a provider has to do with on the network.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use alloy::primitives::{Address, B256};

use crate::{
    chain::{Head, Index, JobEntry, ReplicaStage},
    net::{
        Gate, PeerContact,
        wire::{Refusal, Report},
    },
};

/// Most other providers that a job's data is sought from.
const MAX_HOLDERS: usize = 8;

/// What the chain says of endpoints, as of the last look. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Arc<RwLock<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Those of registered providers, and of requesters of jobs that are not over.
    endpoints: HashSet<[u8; 32]>,
    requesters: HashMap<B256, PeerContact>,
    head: Option<B256>,
}

impl Peers {
    /// Brings it up to date.
    pub(super) fn look(&self, head: Head, index: &Index) {
        if self.known().head == Some(head.hash) {
            return;
        }
        let open = index.jobs.iter().filter(|(_, entry)| !entry.is_over());
        let requesters: HashMap<_, _> = open.map(|(id, entry)| (*id, entry.contact.clone())).collect();
        let providers = index.providers.values().filter(|entry| entry.registered).map(|entry| &entry.contact);
        let endpoints = providers.chain(requesters.values()).map(|contact| contact.endpoint).collect();
        // Nothing here can fail half-way.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) =
            Known { endpoints, requesters, head: Some(head.hash) };
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a job's requester is, until the job is over.
    pub(super) fn requester(&self, job: &B256) -> Option<PeerContact> {
        self.known().requesters.get(job).cloned()
    }
}

impl Gate for Peers {
    fn admits(&self, endpoint: &[u8; 32]) -> bool {
        self.known().endpoints.contains(endpoint)
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

/// Where a job's data may be had: from its requester, then from those who execute or have executed some of it, the busiest first.
pub(super) fn holders(index: &Index, job: B256, me: Address) -> Vec<PeerContact> {
    let Some(entry) = index.job(&job) else { return Vec::new() };
    let mut parts: HashMap<Address, usize> = HashMap::new();
    for account in accounts(entry).filter(|account| *account != me && !account.is_zero()) {
        *parts.entry(account).or_default() += 1;
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_unstable_by_key(|(account, parts)| (std::cmp::Reverse(*parts), *account));
    let contacts = parts.iter().filter_map(|(account, _)| Some(index.providers.get(account)?.contact.clone()));
    let mut found = vec![entry.contact.clone()];
    for contact in contacts.take(MAX_HOLDERS) {
        if found.iter().all(|known| known.endpoint != contact.endpoint) {
            found.push(contact);
        }
    }
    found
}

/// Everybody who holds a batch of a job, or has held one, once for each.
fn accounts(entry: &JobEntry) -> impl Iterator<Item = Address> {
    let once = entry.batches.iter().flat_map(|batch| [batch.provider, batch.previous]);
    let voters = entry.ballots().flat_map(|ballot| ballot.replicas.keys().copied());
    once.chain(voters)
}

/// Whether `account` is at work on a batch, or its result stands.
pub(crate) fn has_part(entry: &JobEntry, number: u32, account: Address) -> bool {
    match entry.ballot(number) {
        Some((_, ballot)) => ballot.stage_of(account).is_some_and(|stage| stage != ReplicaStage::Done),
        None => entry.batches.get(number as usize).is_some_and(|batch| batch.provider == account),
    }
}
