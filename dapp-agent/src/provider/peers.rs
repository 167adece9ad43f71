//! Who a provider has to do with on the network.

use std::{collections::HashMap, sync::Arc};

use alloy::primitives::{Address, B256};
use tokio::sync::watch;

use crate::{
    access::Access,
    chain::Index,
    net::{
        Book, Gate, Node, PeerContact, Rights,
        wire::{Refusal, Report},
    },
};

/// Most other providers that a job's data is sought from.
const MAX_HOLDERS: usize = 8;

/// Serves what the chain allows, and waits for nobody's reports.
#[derive(Clone, Debug)]
pub(super) struct Peers(pub(super) Access);

impl Gate for Peers {
    fn rights(&self, endpoint: &[u8; 32]) -> Option<Arc<Rights>> {
        self.0.rights(endpoint)
    }

    fn news(&self) -> watch::Receiver<()> {
        self.0.news()
    }

    fn book(&self) -> Option<Arc<Book>> {
        Some(self.0.book())
    }

    fn take(&self, _: &[u8; 32], _: Report) -> Result<(), Refusal> {
        Err(Refusal::NotYours)
    }
}

/// Where a job's data may be had: from its requester, then from those who execute or have executed some of it, the busiest first, then from
/// those who say that they hold it.
pub(super) fn holders(index: &Index, job: B256, me: Address, node: &Node) -> Vec<PeerContact> {
    let Some(entry) = index.job(&job) else { return Vec::new() };
    let mut parts: HashMap<Address, usize> = HashMap::new();
    for account in entry.accounts().filter(|account| *account != me && !account.is_zero()) {
        *parts.entry(account).or_default() += 1;
    }
    let mut parts: Vec<_> = parts.into_iter().collect();
    parts.sort_unstable_by_key(|(account, parts)| (std::cmp::Reverse(*parts), *account));
    let contacts = parts.iter().filter_map(|(account, _)| Some(index.providers.get(account)?.contact.clone()));
    let mut found = vec![entry.contact.clone()];
    let said = [&entry.spec.inputs, &entry.spec.program].into_iter().flat_map(|blob| node.heard_to_hold(blob));
    for contact in contacts.take(MAX_HOLDERS).chain(said) {
        if found.iter().all(|known| known.endpoint != contact.endpoint) {
            found.push(contact);
        }
    }
    found
}
