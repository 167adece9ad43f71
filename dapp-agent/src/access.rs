//! Who may have what of an account's blobs, as the chain says.
//!
//! | blob of a job | who may have it |
//! |---|---|
//! | program, input manifest | every registered provider until the job is over, whoever has had a part in it, its requester |
//! | inputs, shared files | the same; if the job is private, those who have a part in their batch (files: in any batch), and its requester |
//! | outputs | its requester, those who have voted on the batch, those who challenge its result |
//!
//! Nothing else is served, and only of jobs that the account has posted, has a part in or has prepared. Nothing of it is kept beyond the next look: it
//! follows from the chain each time, so that no list can be wrong after a re-org.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, PoisonError, RwLock},
};

use alloy::primitives::{Address, B256};
use conun_bindings::{Contracts, job};
use tokio::sync::watch;

use crate::{
    chain::{BatchStage, Claim, Head, Index, JobEntry, OwnJobs, ReplicaStage},
    manifest::BlobHash,
    net::{Book, PeerContact, Rights, Share},
};

/// What the chain says of endpoints, as of the last look. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    me: Address,
    known: Arc<RwLock<Known>>,
    news: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct Known {
    head: Option<B256>,
    /// Accounts of registered providers, by endpoint: several may have published the same one.
    providers: HashMap<[u8; 32], Vec<Address>>,
    book: Arc<Book>,
    own: OwnJobs,
    /// Jobs that are ready to be executed here, whether the account has a part in them or not, with their shared files unless these are
    /// private.
    prepared: HashMap<B256, Vec<BlobHash>>,
    /// What registered providers may have of those of them that are not over.
    offered: HashSet<BlobHash>,
    /// Who says that a batch's result is wrong.
    challengers: HashSet<(B256, u32, Address)>,
    /// What was worked out since.
    rights: HashMap<[u8; 32], Option<Arc<Rights>>>,
}

impl Access {
    pub(crate) fn new(me: Address) -> Self {
        let known = Known {
            head: None,
            providers: HashMap::new(),
            book: Arc::default(),
            own: OwnJobs::new(me),
            prepared: HashMap::new(),
            offered: HashSet::new(),
            challengers: HashSet::new(),
            rights: HashMap::new(),
        };
        Self { me, known: Arc::new(RwLock::new(known)), news: Arc::new(watch::Sender::new(())) }
    }

    /// For the gossip of this deployment.
    pub(crate) fn with_deployment(self, contracts: &Contracts) -> Self {
        let mut book = Book::default();
        book.deployment[..8].copy_from_slice(&contracts.chain_id.to_be_bytes());
        book.deployment[8..].copy_from_slice(contracts.deployment.as_slice());
        self.change().book = Arc::new(book);
        self
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        // Nothing that is done with it can fail half-way.
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings it up to date.
    pub(crate) fn look(&self, head: Head, index: &Index) {
        if self.known().head == Some(head.hash) {
            return;
        }
        self.change().look(self.me, head, index);
        self.news.send_replace(());
    }

    /// Gives registered providers program, input manifest and these shared files of jobs that are ready to be executed here, until they are
    /// over. Nothing that such a job names is kept from others for its sake: that takes a part in it.
    pub(crate) fn offer(&self, prepared: HashMap<B256, Vec<BlobHash>>, index: &Index) {
        let mut known = self.change();
        known.prepared = prepared;
        known.look_at_prepared(index);
        known.rights.clear();
    }

    /// Who gossips with this account's endpoint.
    pub(crate) fn book(&self) -> Arc<Book> {
        self.known().book.clone()
    }

    /// The jobs that this account has posted, has a part in or has had one.
    pub(crate) fn own_jobs(&self) -> Vec<(B256, Arc<JobEntry>)> {
        self.known().own.jobs().iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// Changes with each look that saw something new.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// Where the requester is of a job that is not over and in which this account has a part.
    pub(crate) fn requester(&self, job: &B256) -> Option<PeerContact> {
        let known = self.known();
        known.own.jobs().get(job).filter(|entry| !entry.is_over()).map(|entry| entry.contact.clone())
    }

    /// A job that this account has posted.
    pub(crate) fn posted(&self, job: &B256) -> Option<Arc<JobEntry>> {
        self.known().own.jobs().get(job).filter(|entry| entry.job.requester == self.me).cloned()
    }

    /// The account behind an endpoint that has a part in a batch.
    pub(crate) fn holder(&self, endpoint: &[u8; 32], entry: &JobEntry, batch: u32) -> Option<Address> {
        let known = self.known();
        let accounts = known.providers.get(endpoint).into_iter().flatten();
        accounts.copied().find(|account| has_part(entry, batch, *account))
    }

    /// What an endpoint may have; nothing if the chain does not know it as a provider's, or the requester's of one of these jobs.
    pub(crate) fn rights(&self, endpoint: &[u8; 32]) -> Option<Arc<Rights>> {
        {
            let known = self.known();
            if let Some(rights) = known.rights.get(endpoint) {
                return rights.clone();
            }
            // Nothing is kept of strangers: there may be any number of them.
            let is_requester = || known.own.jobs().values().any(|entry| entry.contact.endpoint == *endpoint);
            if !known.providers.contains_key(endpoint) && !is_requester() {
                return None;
            }
        }
        let mut known = self.change();
        let rights = Some(Arc::new(known.work_out(self.me, endpoint)));
        known.rights.insert(*endpoint, rights.clone());
        rights
    }
}

impl Known {
    fn look(&mut self, me: Address, head: Head, index: &Index) {
        self.head = Some(head.hash);
        self.own.look(index);
        self.look_at_prepared(index);
        self.rights.clear();
        self.providers.clear();
        for (account, entry) in index.providers.iter().filter(|(_, entry)| entry.registered) {
            self.providers.entry(entry.contact.endpoint).or_default().push(*account);
        }
        self.book = Arc::new(self.book(me, head, index));
        self.challengers.clear();
        for (_, case) in index.pending_cases() {
            if let Claim::Wrong(challenger) = case.claim {
                self.challengers.insert((case.job, case.batch, challenger));
            }
        }
    }

    fn look_at_prepared(&mut self, index: &Index) {
        self.offered.clear();
        for (id, files) in &self.prepared {
            if let Some(entry) = index.jobs.get(id).filter(|entry| !entry.is_over()) {
                self.offered.extend([entry.spec.program.0, entry.spec.inputs.0]);
                self.offered.extend(files);
            }
        }
    }

    /// Registered providers, and the requesters of jobs that this account has a part in. A provider lets all of these in; who is none is let in by those
    /// alone that have a part in a job of its own.
    fn book(&self, me: Address, head: Head, index: &Index) -> Book {
        let mut members: HashMap<[u8; 32], PeerContact> = HashMap::new();
        let registered = index.providers.values().filter(|entry| entry.registered).map(|entry| &entry.contact);
        let open = self.own.jobs().values().filter(|entry| !entry.is_over());
        for contact in registered.chain(open.clone().map(|entry| &entry.contact)) {
            let known = members.entry(contact.endpoint).or_insert_with(|| contact.clone());
            if known != contact {
                known.extend(&contact.hints);
            }
        }
        let partners = if index.providers.get(&me).is_some_and(|entry| entry.registered) {
            members.keys().copied().collect()
        } else {
            let accounts: HashSet<Address> = open.flat_map(|entry| entry.accounts()).collect();
            let known = accounts.iter().filter_map(|account| index.providers.get(account));
            known.filter(|entry| entry.registered).map(|entry| entry.contact.endpoint).collect()
        };
        let mut requesters: HashSet<_> = members.keys().copied().collect();
        requesters.retain(|endpoint| !self.providers.contains_key(endpoint));
        Book { time: head.timestamp, members, partners, requesters, ..*self.book }
    }

    fn work_out(&self, me: Address, endpoint: &[u8; 32]) -> Rights {
        let accounts = self.providers.get(endpoint).map_or(&[][..], Vec::as_slice);
        let (mut blobs, mut named) = (HashSet::new(), Vec::new());
        if !accounts.is_empty() {
            blobs.extend(&self.offered);
        }
        for (id, entry) in self.own.jobs() {
            let is_requester = entry.contact.endpoint == *endpoint;
            let numbers = 0..entry.batch_count() as u32;
            let challenges = |number: u32, account: &Address| self.challengers.contains(&(*id, number, *account));
            let is_part = |number: &u32| {
                accounts.iter().any(|account| has_part(entry, *number, *account) || challenges(*number, account))
            };
            let own: Vec<Range<u32>> = if is_requester {
                std::iter::once(0..entry.job.taskCount).collect()
            } else {
                numbers.clone().filter(is_part).map(|number| job::tasks_in(&entry.job, number)).collect()
            };
            let public = !own.is_empty() || !accounts.is_empty() && !entry.is_over();
            if public {
                blobs.extend([entry.spec.program.0, entry.spec.inputs.0]);
            }
            // What a stranger's job keeps private, no other job gives away.
            if public || entry.job.requester != me {
                named.push((entry.spec.inputs.0, Share::Inputs { public, tasks: own }));
            }
            for number in numbers {
                let Some(outputs) = outputs(entry, number, me) else { continue };
                let has_voted = |account| entry.ballot(number).is_some_and(|(_, ballot)| is_voter(ballot, account));
                if is_requester || accounts.iter().any(|account| has_voted(*account) || challenges(number, account)) {
                    blobs.insert(outputs);
                    named.push((outputs, Share::Outputs));
                }
            }
        }
        Rights::Some { blobs, named }
    }
}

/// Whether `account` is at work on a batch, may still deliver it late, or has a result that stands.
pub(crate) fn has_part(entry: &JobEntry, number: u32, account: Address) -> bool {
    match entry.ballot(number) {
        Some((_, ballot)) => ballot.has_part(account),
        None => {
            entry.batches.get(number as usize).is_some_and(|batch| [batch.provider, batch.previous].contains(&account))
        }
    }
}

fn is_voter(ballot: &crate::chain::Ballot, account: Address) -> bool {
    ballot.voters().any(|(voter, _)| voter == account)
}

/// The manifest of a result of `me` that is on the chain.
fn outputs(entry: &JobEntry, number: u32, me: Address) -> Option<BlobHash> {
    if let Some((_, ballot)) = entry.ballot(number) {
        return match ballot.stage_of(me) {
            Some(ReplicaStage::Revealed { outputs, .. }) => Some(outputs),
            _ => None,
        };
    }
    let batch = entry.batches.get(number as usize)?;
    let has_result = matches!(batch.stage, BatchStage::Submitted | BatchStage::Frozen | BatchStage::Settled);
    (batch.provider == me && has_result).then_some(batch.outputs)
}
