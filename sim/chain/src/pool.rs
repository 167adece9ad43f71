//! Transactions that wait for a block.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashSet},
};

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

    /// What a block at `base_fee` takes its transactions from, where `nonce` says which one of each account is next; none of `left_out`.
    pub(crate) fn queue<'a>(
        &self,
        nonce: impl Fn(Address) -> u64,
        base_fee: u64,
        left_out: &'a HashSet<B256>,
    ) -> Queue<'a> {
        let mut queue = Queue { heap: BinaryHeap::new(), base_fee, left_out };
        self.senders.keys().for_each(|sender| queue.push(self, *sender, nonce(*sender)));
        queue
    }

    /// Forgets what `state` has used up.
    pub(crate) fn prune(&mut self, state: &State) {
        self.senders.retain(|sender, slots| {
            *slots = slots.split_off(&state.nonce(*sender));
            !slots.is_empty()
        });
    }

    pub(crate) fn remove(&mut self, sender: Address, nonce: u64) {
        if let Some(slots) = self.senders.get_mut(&sender) {
            slots.remove(&nonce);
        }
    }

    /// The sender's transaction that waits under `nonce`.
    pub(crate) fn get(&self, sender: Address, nonce: u64) -> Option<&Recovered<TxEnvelope>> {
        self.senders.get(&sender)?.get(&nonce).map(|waiting| &waiting.tx)
    }

    pub(crate) fn find(&self, hash: B256) -> Option<&Recovered<TxEnvelope>> {
        self.iter().find(|tx| *tx.tx_hash() == hash)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Recovered<TxEnvelope>> {
        self.senders.values().flat_map(BTreeMap::values).map(|waiting| &waiting.tx)
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

/// Transactions in the order in which a block takes them: of each sender its next, the best paying first, then who came first.
pub(crate) struct Queue<'a> {
    heap: BinaryHeap<(u128, Reverse<u64>, Address, u64)>,
    base_fee: u64,
    left_out: &'a HashSet<B256>,
}

impl Queue<'_> {
    /// Takes in the transaction of `sender` under its next `nonce`, if it is there, pays the base fee and is not left out.
    pub(crate) fn push(&mut self, pool: &Pool, sender: Address, nonce: u64) {
        let Some(waiting) = pool.senders.get(&sender).and_then(|slots| slots.get(&nonce)) else { return };
        if let Some(tip) = waiting.tx.effective_tip_per_gas(self.base_fee)
            && !self.left_out.contains(waiting.tx.tx_hash())
        {
            self.heap.push((tip, Reverse(waiting.arrival), sender, nonce));
        }
    }

    /// The transaction that comes next.
    pub(crate) fn pop(&mut self, pool: &Pool) -> Option<Recovered<TxEnvelope>> {
        let (.., sender, nonce) = self.heap.pop()?;
        pool.get(sender, nonce).cloned()
    }
}
