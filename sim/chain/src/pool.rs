//! Transactions that wait for a block.

use std::collections::BTreeMap;

use alloy::{
    consensus::{Transaction as _, TxEnvelope, transaction::Recovered},
    primitives::{Address, B256},
};

use crate::{Error, state::State};

/// A waiting transaction and when it came.
#[derive(Clone, Debug)]
struct Waiting {
    tx: Recovered<TxEnvelope>,
    arrival: u64,
}

/// Waiting transactions by sender and nonce.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    senders: BTreeMap<Address, BTreeMap<u64, Waiting>>,
    arrivals: u64,
}

/// A replacement pays at least this many percent more, in both fees, as in geth.
const PRICE_BUMP: u128 = 10;

impl Pool {
    /// Adds a transaction; one of the same sender and nonce gives way if it pays enough less.
    pub(crate) fn add(&mut self, tx: Recovered<TxEnvelope>) -> Result<(), Error> {
        let bumped = |fee: u128| fee + fee * PRICE_BUMP / 100;
        let slots = self.senders.entry(tx.signer()).or_default();
        if let Some(old) = slots.get(&tx.nonce()) {
            if old.tx.tx_hash() == tx.tx_hash() {
                return Err(Error::AlreadyKnown);
            }
            let tip = |tx: &TxEnvelope| tx.max_priority_fee_per_gas().unwrap_or_else(|| tx.max_fee_per_gas());
            if tx.max_fee_per_gas() < bumped(old.tx.max_fee_per_gas()) || tip(&tx) < bumped(tip(&old.tx)) {
                return Err(Error::Underpriced);
            }
        }
        slots.insert(tx.nonce(), Waiting { tx, arrival: self.arrivals });
        self.arrivals += 1;
        Ok(())
    }

    /// The transaction that a block would take next on `state`: executable, best paying, first come; none of `skipped`.
    pub(crate) fn best(&self, state: &State, base_fee: u64, skipped: &[B256]) -> Option<Recovered<TxEnvelope>> {
        self.senders
            .iter()
            .filter_map(|(sender, slots)| slots.get(&state.nonce(*sender)))
            .filter(|waiting| !skipped.contains(waiting.tx.tx_hash()))
            .filter_map(|waiting| Some((waiting.tx.effective_tip_per_gas(base_fee)?, waiting)))
            .max_by_key(|(tip, waiting)| (*tip, u64::MAX - waiting.arrival))
            .map(|(_, waiting)| waiting.tx.clone())
    }

    /// Forgets what `state` has used up.
    pub(crate) fn prune(&mut self, state: &State) {
        self.senders.retain(|sender, slots| {
            *slots = slots.split_off(&state.nonce(*sender));
            !slots.is_empty()
        });
    }

    pub(crate) fn remove(&mut self, hash: B256) {
        for slots in self.senders.values_mut() {
            slots.retain(|_, waiting| *waiting.tx.tx_hash() != hash);
        }
    }

    pub(crate) fn find(&self, hash: B256) -> Option<&Recovered<TxEnvelope>> {
        self.iter().find(|tx| *tx.tx_hash() == hash)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Recovered<TxEnvelope>> {
        self.senders.values().flat_map(BTreeMap::values).map(|waiting| &waiting.tx)
    }

    /// Nonces of the sender's waiting transactions, in ascending order.
    pub(crate) fn nonces(&self, sender: Address) -> Vec<u64> {
        self.senders.get(&sender).map(|slots| slots.keys().copied().collect()).unwrap_or_default()
    }

    /// The nonce after the sender's waiting transactions without a gap.
    pub(crate) fn next_nonce(&self, sender: Address, state: &State) -> u64 {
        let mut nonce = state.nonce(sender);
        while self.senders.get(&sender).is_some_and(|slots| slots.contains_key(&nonce)) {
            nonce += 1;
        }
        nonce
    }
}
