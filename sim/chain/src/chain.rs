//! The chain itself: blocks, waiting transactions, time, snapshots. Pure: it reads the system's clock if told to, nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use alloy::{
    consensus::{
        BlockHeader as _, EMPTY_OMMER_ROOT_HASH, Header, Receipt, ReceiptEnvelope, Transaction as _, TxEnvelope,
        TxType,
        proofs::{calculate_receipt_root, ordered_trie_root_with_encoder},
        transaction::{Recovered, SignerRecoverable},
    },
    eips::{Decodable2718, Encodable2718 as _, eip1559::BaseFeeParams, eip4895::Withdrawals},
    primitives::{Address, B256, Bloom, Bytes, Log, U256, keccak256},
    rpc::types::{
        Block as RpcBlock, BlockTransactions, Header as RpcHeader, Log as RpcLog, Transaction, TransactionReceipt,
        TransactionRequest,
    },
};
use revm::context::{BlockEnv, result::ExecutionResult};

use crate::{
    ChainConfig, Clock, Error,
    bloom::Blooms,
    dump::{Dump, DumpedBlock},
    execute::{Check, Executor, SPEC, TX_GAS_CAP, block_env, call_env, execute, output, tx_env},
    pool::Pool,
    state::State,
};

/// Gas of the cheapest transaction.
const MIN_TX_GAS: u64 = 21_000;

/// A mined block and the state after it.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) header: RpcHeader,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) receipts: Arc<Vec<TransactionReceipt>>,
}

impl Block {
    pub(crate) fn number(&self) -> u64 {
        self.header.number()
    }

    pub(crate) fn logs(&self) -> impl Iterator<Item = &RpcLog> {
        self.receipts.iter().flat_map(|receipt| receipt.logs())
    }

    /// As JSON-RPC shows it.
    pub(crate) fn to_rpc(&self, full: bool) -> RpcBlock {
        let transactions = if full {
            BlockTransactions::Full(self.transactions.clone())
        } else {
            BlockTransactions::Hashes(self.receipts.iter().map(|receipt| receipt.transaction_hash).collect())
        };
        let withdrawals = Some(Withdrawals::default());
        RpcBlock { header: self.header.clone(), uncles: Vec::new(), transactions, withdrawals }
    }
}

#[derive(Clone)]
struct Snapshot {
    blocks: Vec<Arc<Block>>,
    states: BTreeMap<u64, State>,
    pool: Pool,
    time_offset: i64,
}

/// A chain. Every block is final until [`Chain::reorg`] or [`Chain::revert`] says otherwise.
pub(crate) struct Chain {
    pub(crate) chain_id: u64,
    gas_limit: u64,
    kept_states: u64,
    clock: Clock,
    time_offset: i64,
    next_timestamp: Option<u64>,
    pub(crate) automine: bool,
    blocks: Vec<Arc<Block>>,
    states: BTreeMap<u64, State>,
    by_hash: HashMap<B256, u64>,
    transactions: HashMap<B256, (u64, usize)>,
    pub(crate) pool: Pool,
    snapshots: BTreeMap<u64, Snapshot>,
    next_snapshot: u64,
    branch: u64,
    /// The last block that a re-org or revert left in place, until somebody has taken note of it.
    pub(crate) rewound: Option<u64>,
    pub(crate) impersonated: BTreeSet<Address>,
}

impl Chain {
    pub(crate) fn new(config: &ChainConfig) -> Self {
        let mut chain = Self {
            chain_id: config.chain_id,
            gas_limit: config.gas_limit,
            kept_states: config.kept_states.max(1),
            clock: config.clock,
            time_offset: 0,
            next_timestamp: None,
            automine: true,
            blocks: Vec::new(),
            states: BTreeMap::new(),
            by_hash: HashMap::new(),
            transactions: HashMap::new(),
            pool: Pool::default(),
            snapshots: BTreeMap::new(),
            next_snapshot: 1,
            branch: 0,
            rewound: None,
            impersonated: BTreeSet::new(),
        };
        match &config.dump {
            Some(dump) => chain.restore((**dump).clone()),
            None => {
                let header = Header {
                    timestamp: chain.now(),
                    base_fee_per_gas: Some(config.base_fee),
                    ..chain.header(B256::ZERO, 0, chain.now(), config.base_fee)
                };
                chain.append(header, Vec::new(), Vec::new(), config.genesis());
            }
        }
        chain
    }

    fn restore(&mut self, dump: Dump) {
        self.time_offset = dump.time_offset;
        let hashes = dump.blocks.iter().map(|block| block.header.hash_slow());
        let state = State::load(dump.state, hashes);
        for DumpedBlock { header, transactions, receipts } in dump.blocks {
            let header = RpcHeader::new(header);
            self.index(Block { header, transactions, receipts: receipts.into() });
        }
        self.states.insert(self.height(), state);
    }

    pub(crate) fn dump(&self) -> Dump {
        let block = |block: &Arc<Block>| DumpedBlock {
            header: block.header.inner.clone(),
            transactions: block.transactions.clone(),
            receipts: block.receipts.to_vec(),
        };
        Dump::new(self.chain_id, self.time_offset, self.blocks.iter().map(block).collect(), self.state().dump())
    }

    pub(crate) fn latest(&self) -> &Arc<Block> {
        self.blocks.last().expect("a chain has its genesis")
    }

    pub(crate) fn height(&self) -> u64 {
        self.latest().number()
    }

    pub(crate) fn block(&self, number: u64) -> Option<&Arc<Block>> {
        self.blocks.get(usize::try_from(number).ok()?)
    }

    pub(crate) fn block_by_hash(&self, hash: B256) -> Option<&Arc<Block>> {
        self.block(*self.by_hash.get(&hash)?)
    }

    /// Block and index of a mined transaction.
    pub(crate) fn transaction(&self, hash: B256) -> Option<(&Arc<Block>, usize)> {
        let (number, index) = self.transactions.get(&hash)?;
        Some((self.block(*number)?, *index))
    }

    /// The state after the latest block.
    pub(crate) fn state(&self) -> &State {
        self.states.get(&self.height()).expect("the latest state is always kept")
    }

    pub(crate) fn state_at(&self, number: u64) -> Result<&State, Error> {
        self.states.get(&number).ok_or(Error::Pruned { block: number, kept: self.kept_states })
    }

    /// Changes the latest state outside any block, for the `anvil_set...` calls.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut State)) {
        let height = self.height();
        change(self.states.get_mut(&height).expect("the latest state is always kept"));
    }

    // Time.

    fn now(&self) -> u64 {
        let base = match self.clock {
            Clock::Manual(start) => start,
            Clock::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs()),
        };
        base.saturating_add_signed(self.time_offset)
    }

    /// Moves the clock of later blocks on. Returns the total offset.
    pub(crate) fn increase_time(&mut self, seconds: i64) -> i64 {
        self.time_offset = self.time_offset.saturating_add(seconds);
        self.time_offset
    }

    /// Sets the clock, and with it the next block's time.
    pub(crate) fn set_time(&mut self, timestamp: u64) -> Result<(), Error> {
        self.set_next_timestamp(timestamp)?;
        self.set_clock(timestamp);
        Ok(())
    }

    /// Sets the clock alone.
    pub(crate) fn set_clock(&mut self, timestamp: u64) {
        self.time_offset = self.time_offset.saturating_add_unsigned(timestamp).saturating_sub_unsigned(self.now());
    }

    pub(crate) fn set_next_timestamp(&mut self, timestamp: u64) -> Result<(), Error> {
        let latest = self.latest().header.timestamp();
        if timestamp < latest {
            return Err(Error::TimeRunsBack { given: timestamp, latest });
        }
        self.next_timestamp = Some(timestamp);
        Ok(())
    }

    pub(crate) fn has_next_timestamp(&self) -> bool {
        self.next_timestamp.is_some()
    }

    /// The next block's time. Several blocks in one second share it, so that block time never runs ahead of the clock.
    fn next_time(&self) -> u64 {
        self.next_timestamp
            .unwrap_or_else(|| self.now())
            .max(self.blocks.last().map_or(0, |block| block.header.timestamp()))
    }

    // Mining.

    pub(crate) fn next_base_fee(&self) -> u64 {
        self.latest().header.next_block_base_fee(BaseFeeParams::ethereum()).expect("every header has a base fee")
    }

    pub(crate) fn gas_limit(&self) -> u64 {
        self.gas_limit
    }

    fn header(&self, parent: B256, number: u64, timestamp: u64, base_fee: u64) -> Header {
        Header {
            parent_hash: parent,
            ommers_hash: EMPTY_OMMER_ROOT_HASH,
            number,
            timestamp,
            gas_limit: self.gas_limit,
            base_fee_per_gas: Some(base_fee),
            mix_hash: keccak256([parent.as_slice(), &number.to_be_bytes()].concat()),
            blob_gas_used: Some(0),
            excess_blob_gas: Some(0),
            parent_beacon_block_root: Some(B256::ZERO),
            requests_hash: Some(alloy::eips::eip7685::EMPTY_REQUESTS_HASH),
            withdrawals_root: Some(alloy::consensus::EMPTY_ROOT_HASH),
            // Tells apart blocks that a re-org replaced by equal ones.
            extra_data: if self.branch == 0 { Bytes::new() } else { self.branch.to_be_bytes().into() },
            ..Header::default()
        }
    }

    /// The environment of the block that would come next.
    fn pending_env(&self) -> BlockEnv {
        let latest = self.latest();
        block_env(&self.header(latest.header.hash, latest.number() + 1, self.next_time(), self.next_base_fee()))
    }

    /// Takes in a raw signed transaction.
    pub(crate) fn send_raw(&mut self, raw: &[u8]) -> Result<B256, Error> {
        let tx = TxEnvelope::decode_2718_exact(raw).map_err(|error| Error::Malformed(error.to_string()))?;
        let tx = tx.try_into_recovered().map_err(|_| Error::Malformed("the signature is not valid".to_owned()))?;
        self.send(tx)
    }

    /// Takes in a transaction, and mines a block if automining.
    pub(crate) fn send(&mut self, tx: Recovered<TxEnvelope>) -> Result<B256, Error> {
        let (hash, sender) = (*tx.tx_hash(), tx.signer());
        if tx.tx_type() == TxType::Eip4844 {
            return Err(Error::Unsupported("this chain takes no blobs"));
        }
        match tx.chain_id() {
            None => return Err(Error::Unsupported("only replay-protected (EIP-155) transactions are taken")),
            Some(have) if have != self.chain_id => return Err(Error::WrongChain { have, want: self.chain_id }),
            Some(_) => {}
        }
        let state = self.state();
        if tx.nonce() < state.nonce(sender) {
            return Err(Error::NonceTooLow { address: sender, tx: tx.nonce(), state: state.nonce(sender) });
        }
        let want = U256::from(tx.gas_limit()) * U256::from(tx.max_fee_per_gas()) + tx.value();
        let have = state.balance(sender);
        if have < want {
            return Err(Error::InsufficientFunds { address: sender, have, want });
        }
        // Whatever would keep it out of a block is told to the sender now.
        let is_next = self.automine && tx.nonce() == state.nonce(sender);
        let check = if is_next { self.check(sender) } else { Check::Call };
        execute(state, self.chain_id, self.pending_env(), tx_env(sender, &*tx), check)?;
        self.pool.add(tx)?;
        if self.automine {
            self.mine();
        }
        Ok(hash)
    }

    /// Takes in a transaction as [`Self::send`] does, without executing it.
    pub(crate) fn wait(&mut self, tx: Recovered<TxEnvelope>) -> Result<(), Error> {
        let (sender, state) = (tx.signer(), self.state());
        if tx.nonce() < state.nonce(sender) {
            return Err(Error::NonceTooLow { address: sender, tx: tx.nonce(), state: state.nonce(sender) });
        }
        let want = U256::from(tx.gas_limit()) * U256::from(tx.max_fee_per_gas()) + tx.value();
        let have = state.balance(sender);
        if have < want {
            return Err(Error::InsufficientFunds { address: sender, have, want });
        }
        self.pool.add(tx)
    }

    fn check(&self, sender: Address) -> Check {
        if self.impersonated.contains(&sender) { Check::Impersonated } else { Check::All }
    }

    /// Mines a block of what is waiting.
    pub(crate) fn mine(&mut self) -> Arc<Block> {
        self.mine_with(None, &HashSet::new())
    }

    /// The same at a base fee of choice, and without those `left_out`.
    pub(crate) fn mine_with(&mut self, base_fee: Option<u64>, left_out: &HashSet<B256>) -> Arc<Block> {
        let parent = self.latest().header.hash;
        let number = self.height() + 1;
        let base_fee = base_fee.unwrap_or_else(|| self.next_base_fee());
        let mut header = self.header(parent, number, self.next_time(), base_fee);
        self.next_timestamp = None;
        let mut state = self.state().clone();
        state.store_parent_hash(number, parent);
        let mut queue = self.pool.queue(|sender| state.nonce(sender), base_fee, left_out);
        let mut executor = Executor::new(state, self.chain_id, block_env(&header));
        let mut mined = Vec::new();
        while let Some(tx) = queue.pop(&self.pool) {
            // What does not fit waits, and with it what its sender sends after it.
            if header.gas_used + tx.gas_limit() > header.gas_limit {
                continue;
            }
            let sender = tx.signer();
            match executor.execute(tx_env(sender, &*tx), self.check(sender)) {
                Ok(result) => {
                    header.gas_used += result.tx_gas_used();
                    if tx.is_eip7702() {
                        // It uses up nonces of others than its sender, too.
                        queue = self.pool.queue(|sender| executor.nonce(sender), base_fee, left_out);
                    } else {
                        queue.push(&self.pool, sender, executor.nonce(sender));
                    }
                    mined.push((tx, result, header.gas_used));
                }
                // What no block can ever take is dropped; what lacks funds or pays too little waits.
                Err(Error::Invalid(_)) => self.pool.remove(sender, tx.nonce()),
                Err(_) => {}
            }
        }
        let state = executor.into_state();
        self.pool.prune(&state);
        header.transactions_root = ordered_trie_root_with_encoder(&mined, |(tx, ..), out| tx.encode_2718(out));
        let mut blooms = Blooms::default();
        let receipts: Vec<_> =
            mined.iter().map(|(tx, result, cumulative)| envelope(tx, result, *cumulative, &mut blooms)).collect();
        header.receipts_root = calculate_receipt_root(&receipts);
        header.logs_bloom = receipts.iter().fold(Bloom::ZERO, |bloom, receipt| bloom | *receipt.logs_bloom());
        let hash = header.hash_slow();
        let mut log_index = 0;
        let (transactions, receipts) = mined
            .into_iter()
            .zip(receipts)
            .enumerate()
            .map(|(index, ((tx, result, _), receipt))| {
                let place = Place { hash, number, timestamp: header.timestamp, base_fee, index: index as u64 };
                let receipt = place.receipt(&tx, &result, receipt, &mut log_index);
                (place.transaction(tx), receipt)
            })
            .unzip();
        self.append(header, transactions, receipts, state)
    }

    fn append(
        &mut self,
        header: Header,
        transactions: Vec<Transaction>,
        receipts: Vec<TransactionReceipt>,
        mut state: State,
    ) -> Arc<Block> {
        let header = RpcHeader::new(header);
        state.push_hash(header.hash);
        self.states.insert(header.number(), state);
        while self.states.len() as u64 > self.kept_states {
            self.states.pop_first();
        }
        self.index(Block { header, transactions, receipts: receipts.into() })
    }

    fn index(&mut self, block: Block) -> Arc<Block> {
        self.by_hash.insert(block.header.hash, block.number());
        for (index, receipt) in block.receipts.iter().enumerate() {
            self.transactions.insert(receipt.transaction_hash, (block.number(), index));
        }
        let block = Arc::new(block);
        self.blocks.push(block.clone());
        block
    }

    fn reindex(&mut self) {
        self.by_hash.clear();
        self.transactions.clear();
        for block in std::mem::take(&mut self.blocks) {
            self.by_hash.insert(block.header.hash, block.number());
            for (index, receipt) in block.receipts.iter().enumerate() {
                self.transactions.insert(receipt.transaction_hash, (block.number(), index));
            }
            self.blocks.push(block);
        }
    }

    // Undoing.

    /// Drops the last `depth` blocks and mines as many anew; their transactions wait for a block again if `keep`.
    pub(crate) fn reorg(&mut self, depth: u64, keep: bool) -> Result<(), Error> {
        let dropped = self.rewind(depth)?;
        let times: Vec<_> = dropped.iter().map(|block| block.header.timestamp()).collect();
        if keep {
            for transaction in dropped.iter().flat_map(|block| &block.transactions) {
                // One that is in the pool already, or pays less than what replaced it, stays out.
                let _ = self.pool.add(transaction.inner.clone());
            }
        }
        for time in times {
            self.next_timestamp = Some(time);
            self.mine();
        }
        Ok(())
    }

    /// Drops the last `depth` blocks.
    pub(crate) fn rewind(&mut self, depth: u64) -> Result<Vec<Arc<Block>>, Error> {
        let height = self.height();
        if depth > height {
            return Err(Error::ReorgTooDeep { depth, height });
        }
        self.state_at(height - depth)?;
        let dropped = self.blocks.split_off((height - depth + 1) as usize);
        self.states.split_off(&(height - depth + 1));
        for block in &dropped {
            self.by_hash.remove(&block.header.hash);
            for receipt in &*block.receipts {
                self.transactions.remove(&receipt.transaction_hash);
            }
        }
        self.rewound = Some(height - depth);
        self.branch += 1;
        Ok(dropped)
    }

    pub(crate) fn snapshot(&mut self) -> u64 {
        let id = self.next_snapshot;
        self.next_snapshot += 1;
        let (blocks, states, pool) = (self.blocks.clone(), self.states.clone(), self.pool.clone());
        self.snapshots.insert(id, Snapshot { blocks, states, pool, time_offset: self.time_offset });
        id
    }

    /// Back to a snapshot, which is used up with all later ones; `false` if there is none of that number.
    pub(crate) fn revert(&mut self, id: u64) -> bool {
        let Some(snapshot) = self.snapshots.remove(&id) else { return false };
        self.snapshots.split_off(&id);
        self.rewound = Some(snapshot.blocks.len() as u64 - 1);
        Snapshot { blocks: self.blocks, states: self.states, pool: self.pool, time_offset: self.time_offset } =
            snapshot;
        self.next_timestamp = None;
        self.branch += 1;
        self.reindex();
        true
    }

    // Calls.

    fn env_at(&self, block: Option<u64>) -> Result<(&State, BlockEnv), Error> {
        match block {
            None => Ok((self.state(), self.pending_env())),
            Some(number) => {
                let block = self.block(number).ok_or_else(|| Error::UnknownBlock(number.to_string()))?;
                Ok((self.state_at(number)?, block_env(&block.header.inner)))
            }
        }
    }

    /// Executes a call on the state after `block`, or on the pending one.
    pub(crate) fn call(
        &self,
        call: TransactionRequest,
        block: Option<u64>,
        change: impl FnOnce(&mut State),
    ) -> Result<Bytes, Error> {
        let (state, env) = self.env_at(block)?;
        let mut state = state.clone();
        change(&mut state);
        affordable(&state, &call)?;
        let gas = call.gas.unwrap_or(TX_GAS_CAP).min(TX_GAS_CAP);
        output(execute(&state, self.chain_id, env, call_env(call, self.chain_id, gas), Check::Call)?)
    }

    /// Executes a call on the pending state once. Returns what it gives and the gas that it uses.
    pub(crate) fn try_call(&self, call: TransactionRequest) -> Result<(Bytes, u64), Error> {
        let (state, env) = self.env_at(None)?;
        affordable(state, &call)?;
        let gas = call.gas.unwrap_or(TX_GAS_CAP).min(TX_GAS_CAP);
        let result = execute(state, self.chain_id, env, call_env(call, self.chain_id, gas), Check::Call)?;
        let used = result.tx_gas_used();
        Ok((output(result)?, used))
    }

    /// The least gas limit with which the call succeeds: found by bisection, since refunds and the 63/64 rule make what a call
    /// uses less than what it needs.
    pub(crate) fn estimate(
        &self,
        call: TransactionRequest,
        block: Option<u64>,
        change: impl FnOnce(&mut State),
    ) -> Result<u64, Error> {
        let (state, env) = self.env_at(block)?;
        let mut state = state.clone();
        change(&mut state);
        let run = |gas: u64| {
            execute(&state, self.chain_id, env.clone(), call_env(call.clone(), self.chain_id, gas), Check::Call)
        };
        let mut enough = call.gas.unwrap_or(TX_GAS_CAP).min(TX_GAS_CAP);
        if let Some(gas) = affordable(&state, &call)? {
            enough = enough.min(gas.saturating_to());
        }
        let first = run(enough)?;
        let used = first.tx_gas_used();
        output(first)?;
        let suffices = |gas: u64| run(gas).is_ok_and(|result| result.is_success());
        if suffices(used) {
            return Ok(used);
        }
        let mut too_little = used;
        // Most calls need little more than they use.
        let guess = used + used / 63 + 2_400;
        if guess < enough && suffices(guess) {
            enough = guess;
        }
        while enough - too_little > 1 {
            let middle = too_little + (enough - too_little) / 2;
            if suffices(middle) { enough = middle } else { too_little = middle }
        }
        Ok(enough)
    }
}

/// The gas that a call's sender can pay for besides the value, if the call names a price.
fn affordable(state: &State, call: &TransactionRequest) -> Result<Option<U256>, Error> {
    let address = call.from.unwrap_or_default();
    let (have, value) = (state.balance(address), call.value.unwrap_or_default());
    let price = call.max_fee_per_gas.or(call.gas_price).filter(|price| *price != 0);
    let least = U256::from(price.unwrap_or(0)).saturating_mul(U256::from(MIN_TX_GAS));
    let want = value.saturating_add(least);
    if have < want {
        return Err(Error::InsufficientFunds { address, have, want });
    }
    Ok(price.map(|price| (have - value) / U256::from(price)))
}

/// Where a transaction stands.
struct Place {
    hash: B256,
    number: u64,
    timestamp: u64,
    base_fee: u64,
    index: u64,
}

impl Place {
    fn transaction(&self, tx: Recovered<TxEnvelope>) -> Transaction {
        Transaction {
            effective_gas_price: Some(tx.effective_gas_price(Some(self.base_fee))),
            inner: tx,
            block_hash: Some(self.hash),
            block_number: Some(self.number),
            transaction_index: Some(self.index),
            block_timestamp: Some(self.timestamp),
        }
    }

    fn receipt(
        &self,
        tx: &Recovered<TxEnvelope>,
        result: &ExecutionResult,
        receipt: ReceiptEnvelope<Log>,
        log_index: &mut u64,
    ) -> TransactionReceipt {
        let inner = receipt.map_logs(|log| {
            let log_index_here = *log_index;
            *log_index += 1;
            RpcLog {
                inner: log,
                block_hash: Some(self.hash),
                block_number: Some(self.number),
                block_timestamp: Some(self.timestamp),
                transaction_hash: Some(*tx.tx_hash()),
                transaction_index: Some(self.index),
                log_index: Some(log_index_here),
                removed: false,
            }
        });
        TransactionReceipt {
            inner,
            transaction_hash: *tx.tx_hash(),
            transaction_index: Some(self.index),
            block_hash: Some(self.hash),
            block_number: Some(self.number),
            gas_used: result.tx_gas_used(),
            effective_gas_price: tx.effective_gas_price(Some(self.base_fee)),
            blob_gas_used: None,
            blob_gas_price: None,
            from: tx.signer(),
            to: tx.to(),
            contract_address: tx
                .kind()
                .is_create()
                .then(|| tx.signer().create(tx.nonce()))
                .filter(|_| result.is_success()),
        }
    }
}

fn envelope(tx: &TxEnvelope, result: &ExecutionResult, cumulative: u64, blooms: &mut Blooms) -> ReceiptEnvelope<Log> {
    let logs = if result.is_success() { result.logs().to_vec() } else { Vec::new() };
    let bloom = blooms.of(&logs);
    let receipt = Receipt { status: result.is_success().into(), cumulative_gas_used: cumulative, logs };
    ReceiptEnvelope::from_typed(tx.tx_type(), alloy::consensus::ReceiptWithBloom::new(receipt, bloom))
}

/// Names the rules, for `anvil_nodeInfo`.
pub(crate) fn hardfork() -> String {
    format!("{SPEC:?}").to_lowercase()
}
