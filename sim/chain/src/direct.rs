//! The chain without JSON and signatures, for a simulation that plays both the nodes and all accounts in one thread.
//!
//! Automining is to be off ([`SharedChain::by_hand`]): transactions wait until [`SharedChain::mine_at`] says when, at what price, and
//! which of them are left out.

use std::sync::Arc;

use alloy::{
    consensus::{SignableTransaction as _, Transaction as _, TxEip1559, TxEnvelope, transaction::Recovered},
    primitives::{Address, B256, Bytes, Signature, U256},
    rpc::types::{Log, TransactionReceipt, TransactionRequest},
};

use crate::{Error, SharedChain};

/// Transactions that a re-org dropped, in their order.
pub type Dropped = Vec<Recovered<TxEnvelope>>;

/// A block as a simulation sees it.
#[derive(Clone, Debug)]
pub struct Mined {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time, UNIX seconds.
    pub timestamp: u64,
    /// Wei for a gas that are burned.
    pub base_fee: u64,
    /// Receipts of its transactions.
    pub receipts: Arc<Vec<TransactionReceipt>>,
}

impl SharedChain {
    /// Blocks are mined only by [`Self::mine_at`] from now on.
    pub fn by_hand(&self) {
        self.lock().chain.automine = false;
    }

    /// Sets the clock that calls see, UNIX seconds; it never runs behind the latest block.
    pub fn set_clock(&self, now: u64) {
        self.lock().chain.set_clock(now);
    }

    /// Lets a transaction of `sender` wait for a block: nobody checks its signature, and nothing is executed before.
    ///
    /// # Errors
    /// If its nonce is used, the sender lacks ether, or one that waits under its nonce pays nearly as much.
    pub fn queue(&self, sender: Address, tx: TxEip1559) -> Result<B256, Error> {
        // The signature says whose it is; nobody recovers a sender from it.
        let signature = Signature::new(U256::from_be_slice(sender.as_slice()), U256::ONE, false);
        let tx = Recovered::new_unchecked(TxEnvelope::from(tx.into_signed(signature)), sender);
        self.queue_again(tx)
    }

    /// The same with one that a re-org dropped.
    ///
    /// # Errors
    /// As [`Self::queue`].
    pub fn queue_again(&self, tx: Recovered<TxEnvelope>) -> Result<B256, Error> {
        let hash = *tx.tx_hash();
        self.lock().chain.wait(tx)?;
        Ok(hash)
    }

    /// Mines a block at `timestamp` (or the time of the block before, if that is later) of all waiting transactions that pay
    /// `base_fee`, wei for a gas (as the block before says if `None`), but those that `left_out` names.
    pub fn mine_at(
        &self,
        timestamp: u64,
        base_fee: Option<u64>,
        left_out: impl Fn(Address, &TxEnvelope) -> bool,
    ) -> Mined {
        let mut inner = self.lock();
        let chain = &mut inner.chain;
        let left_out = chain.pool.iter().filter(|tx| left_out(tx.signer(), tx)).map(|tx| *tx.tx_hash()).collect();
        chain.set_clock(timestamp);
        let block = chain.mine_with(base_fee, &left_out);
        Mined {
            number: block.number(),
            hash: block.header.hash,
            timestamp: block.header.inner.timestamp,
            base_fee: block.header.inner.base_fee_per_gas.unwrap_or_default(),
            receipts: block.receipts.clone(),
        }
    }

    /// Takes back the latest `depth` blocks. Returns their transactions, none of which waits for a block now, and their times.
    ///
    /// # Errors
    /// If there are not as many, or their states are not kept any more.
    pub fn rewind(&self, depth: u64) -> Result<(Dropped, Vec<u64>), Error> {
        let mut inner = self.lock();
        let dropped = inner.chain.rewind(depth)?;
        let before = inner.chain.rewound.take().unwrap_or_default();
        inner.filters.rewind(before);
        let transactions = dropped.iter().flat_map(|block| &block.transactions).map(|tx| tx.inner.clone()).collect();
        Ok((transactions, dropped.iter().map(|block| block.header.inner.timestamp).collect()))
    }

    /// Executes a call in the block that would come next. Returns what it gives and the gas that it uses.
    ///
    /// # Errors
    /// If it reverts, or the sender cannot pay for it.
    pub fn try_call(&self, call: TransactionRequest) -> Result<(Bytes, u64), Error> {
        self.lock().chain.try_call(call)
    }

    /// What a storage slot holds after the latest block.
    pub fn slot(&self, address: Address, slot: U256) -> U256 {
        self.lock().chain.state().slot(address, slot)
    }

    /// `N` storage slots from `slot` on, after the latest block.
    pub fn words<const N: usize>(&self, address: Address, slot: U256) -> [U256; N] {
        let inner = self.lock();
        let state = inner.chain.state();
        std::array::from_fn(|offset| state.slot(address, slot + U256::from(offset)))
    }

    /// Nonces that an account has used, after the latest block.
    pub fn nonce(&self, address: Address) -> u64 {
        self.lock().chain.state().nonce(address)
    }

    /// Number of transactions that wait.
    pub fn waiting(&self) -> usize {
        self.lock().chain.pool.iter().count()
    }

    /// The waiting transactions, with their senders: what everybody can see before it is mined.
    pub fn pool(&self) -> Vec<(Address, TxEnvelope)> {
        self.lock().chain.pool.iter().map(|tx| (tx.signer(), tx.inner().clone())).collect()
    }

    /// The account's first nonce that is neither used nor waits.
    pub fn next_nonce(&self, account: Address) -> u64 {
        let inner = self.lock();
        inner.chain.pool.next_nonce(account, inner.chain.state())
    }

    /// Input of the account's transaction that waits under `nonce`.
    pub fn waiting_input(&self, account: Address, nonce: u64) -> Option<Bytes> {
        self.lock().chain.pool.get(account, nonce).map(|tx| tx.input().clone())
    }

    /// Hash of a block.
    pub fn hash_of(&self, number: u64) -> Option<B256> {
        self.lock().chain.block(number).map(|block| block.header.hash)
    }

    /// Shows `see` every log from block `first` on, in the order of the chain.
    pub fn each_log(&self, first: u64, mut see: impl FnMut(&Log)) {
        let inner = self.lock();
        let blocks = (first..=inner.chain.height()).filter_map(|number| inner.chain.block(number));
        blocks.flat_map(|block| block.logs()).for_each(&mut see);
    }

    /// Receipts of a block.
    pub fn receipts(&self, number: u64) -> Arc<Vec<TransactionReceipt>> {
        self.lock().chain.block(number).map(|block| block.receipts.clone()).unwrap_or_default()
    }

    /// Receipt of a mined transaction.
    pub fn receipt(&self, hash: B256) -> Option<TransactionReceipt> {
        let inner = self.lock();
        inner.chain.transaction(hash).map(|(block, index)| block.receipts[index].clone())
    }

    /// Wei for a gas that the next block will burn.
    pub fn next_base_fee(&self) -> u64 {
        self.lock().chain.next_base_fee()
    }
}
