//! What the logs of `ProviderRegistry` tell.

use alloy::primitives::{Address, B256, U256};
use conun_bindings::abi::ProviderRegistry::ProviderRegistryEvents;
use serde::Serialize;

use super::{Index, contact};
use crate::net::PeerContact;

/// What a provider lost stake for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LossReason {
    /// A lease ran out.
    Expired,
    /// What it had committed to was not shown in time.
    NotRevealed,
    /// Its result was wrong, by the vote or the arbiter.
    Wrong,
    /// A demanded output was not shown.
    Withheld,
    /// The requester refused to pay, at its own loss.
    Rejected,
}

/// Stake that a provider lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// By which job.
    pub job: B256,
    /// By which batch of it.
    pub batch: u32,
    /// How much, token wei.
    pub amount: U256,
    /// For what.
    pub reason: LossReason,
}

/// A provider as the logs tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderEntry {
    /// Where its earnings go.
    pub payout: Address,
    /// Where it can be reached.
    pub contact: PeerContact,
    /// Stake, token wei.
    pub stake: U256,
    /// Block since when its stake has not grown.
    pub staked_block: u64,
    /// Checks passed since its last wrong result.
    pub checks: u32,
    /// Block time from which it may leave, once it has asked to.
    pub exit_at: Option<u64>,
    /// Whether it is registered still.
    pub registered: bool,
    /// Stake that it lost, the latest last.
    pub losses: Vec<Loss>,
}

impl ProviderEntry {
    /// Whether it has asked to leave.
    pub fn is_exiting(&self) -> bool {
        self.exit_at.is_some()
    }
}

impl Index {
    pub(super) fn apply_provider(&mut self, event: ProviderRegistryEvents, block: u64) {
        use ProviderRegistryEvents as E;
        let mut change = |account: Address, change: &dyn Fn(&mut ProviderEntry)| {
            if let Some(entry) = self.providers.get_mut(&account) {
                change(entry);
            }
        };
        match event {
            E::ProviderRegistered(event) => {
                let entry = ProviderEntry {
                    payout: event.payout,
                    contact: contact(event.contact.endpoint, &event.contact.hint),
                    stake: event.stake,
                    staked_block: block,
                    checks: 0,
                    exit_at: None,
                    registered: true,
                    losses: Vec::new(),
                };
                self.providers.insert(event.provider, entry);
            }
            E::ProviderContactChanged(event) => {
                change(event.provider, &|entry| entry.contact = contact(event.contact.endpoint, &event.contact.hint));
            }
            E::PayoutChanged(event) => change(event.provider, &|entry| entry.payout = event.payout),
            E::StakeAdded(event) => change(event.provider, &|entry| {
                entry.stake += event.amount;
                entry.staked_block = block;
            }),
            E::ExitRequested(event) => change(event.provider, &|entry| entry.exit_at = Some(event.exitAt.to())),
            E::ExitCancelled(event) => change(event.provider, &|entry| entry.exit_at = None),
            E::ProviderExited(event) => change(event.provider, &|entry| {
                (entry.registered, entry.stake, entry.exit_at) = (false, U256::ZERO, None);
            }),
        }
    }
}
