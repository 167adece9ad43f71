//! The replay itself, and what it tells.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    consensus::{Header, Transaction as _},
    eips::BlockId,
    primitives::{Address, B256, U256},
    providers::{DynProvider, Provider},
    rpc::types::{Log, Transaction, TransactionReceipt},
};
use conun_agent::chain::Index;
use conun_bindings::{Contracts, abi};
use futures_util::future::try_join_all;
use revm::{database::CacheDB, primitives::hardfork::SpecId};
use serde::Serialize;

use crate::{
    Difference, Error, Ledger, Recording, What,
    block::{Chain, Done},
    invariants::Invariants,
    ledger::Books,
    recording::Recorded,
    state::Before,
};

/// Gas of one kind of call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// How many transactions.
    pub transactions: u64,
    /// Those that failed.
    pub failed: u64,
    /// Gas of all.
    pub gas: u64,
}

/// One block of the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// Its number.
    pub number: u64,
    /// Its time, UNIX seconds.
    pub timestamp: u64,
    /// Transactions executed.
    pub transactions: u64,
    /// Gas of all.
    pub gas: u64,
    /// Differences found in it or after it.
    pub differences: u64,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Address of the deployment.
    pub deployment: Address,
    /// First block.
    pub first: u64,
    /// Last block.
    pub last: u64,
    /// The blocks one by one.
    pub blocks: Vec<Replayed>,
    /// Transactions executed.
    pub transactions: u64,
    /// Logs compared.
    pub logs: u64,
    /// Values of the contracts' slots compared with the endpoint's.
    pub slots: u64,
    /// Blocks after which the invariants were checked.
    pub checked: u64,
    /// What is not as it should be; nothing, of a faithful chain.
    pub differences: Vec<Difference>,
    /// Calls of CONUN's contracts, by contract and function.
    pub calls: BTreeMap<String, Calls>,
    /// The books of the range.
    pub ledger: Ledger,
}

/// A replay under way.
pub(crate) struct Replay {
    pub(crate) chain: Chain,
    pub(crate) index: Index,
    contracts: Contracts,
    invariants: Invariants,
    books: Books,
}

impl Replay {
    /// From the state before the recording's first block; what was not recorded of it is read from `endpoint`. If `lenient`, nonces
    /// may have gaps and senders may be poor.
    pub(crate) fn new(
        recording: &Recording,
        endpoint: Option<DynProvider>,
        spec: SpecId,
        lenient: bool,
    ) -> Result<Self, Error> {
        let contracts = recording.contracts;
        let (first, _) = recording.range();
        let before = Before::new(recording.before.clone(), endpoint, first - 1);
        let mut chain = Chain { db: CacheDB::new(before), chain_id: contracts.chain_id, spec, lenient };
        let index = recording.index();
        let header = &recording.blocks[0].block.header.inner;
        let invariants = Invariants::new(contracts, &index, &recording.history, &mut chain, header)?;
        let books = Books::new(&index);
        Ok(Self { chain, index, contracts, invariants, books })
    }

    /// Executes a block: those of its transactions that `wanted` lets through, and whatever `more` sends after them.
    pub(crate) fn block(
        &mut self,
        recorded: &Recorded,
        wanted: impl Fn(&Transaction) -> bool,
        more: impl FnOnce(&mut Chain, &Header) -> Result<Vec<Done>, Error>,
    ) -> Result<(Vec<Option<Done>>, Vec<What>), Error> {
        let header = &recorded.block.header.inner;
        self.chain.begin(header)?;
        let mut done = Vec::new();
        for tx in recorded.block.transactions.as_transactions().unwrap_or_default() {
            done.push(if wanted(tx) { Some(self.chain.execute(header, tx)?) } else { None });
        }
        let more = more(&mut self.chain, header)?;
        let withdrawals = recorded.block.withdrawals.as_ref().map(|list| list.as_slice()).unwrap_or_default();
        self.chain.end(header, withdrawals)?;
        let hashes = recorded.block.transactions.hashes().map(Some).chain(std::iter::repeat(None));
        for (executed, hash) in done.iter().map(Option::as_ref).chain(more.iter().map(Some)).zip(hashes) {
            for log in executed.into_iter().flat_map(|executed| &executed.logs) {
                self.books.note(&self.contracts, log);
                self.index.apply(
                    &self.contracts,
                    &Log {
                        inner: log.clone(),
                        block_number: Some(header.number),
                        block_timestamp: Some(header.timestamp),
                        transaction_hash: hash,
                        ..Log::default()
                    },
                );
            }
        }
        let executed: Vec<_> = done.iter().flatten().cloned().chain(more).collect();
        let broken = self.invariants.after(&mut self.chain, header, &self.index, &executed)?;
        Ok((done, broken))
    }

    pub(crate) fn close(self) -> (Before, Ledger) {
        (self.chain.db.db, self.books.close(&self.index))
    }
}

/// Replays a recording under the rules of hard fork `spec`. What it looks at and the recording lacks is read from `endpoint`, and kept in the recording.
///
/// # Errors
/// If something is not in the recording and cannot be read, or a transaction is none of Ethereum's.
pub async fn replay(recording: &mut Recording, endpoint: Option<DynProvider>, spec: SpecId) -> Result<Report, Error> {
    let contracts = recording.contracts;
    let (first, last) = recording.range();
    let mut replay = Replay::new(recording, endpoint.clone(), spec, false)?;
    let mut report = Report {
        chain_id: contracts.chain_id,
        deployment: contracts.deployment,
        first,
        last,
        blocks: Vec::new(),
        transactions: 0,
        logs: 0,
        slots: 0,
        checked: 0,
        differences: Vec::new(),
        calls: BTreeMap::new(),
        ledger: Ledger::default(),
    };
    for recorded in &mut recording.blocks {
        let number = recorded.block.header.number;
        let (done, broken) = replay.block(recorded, |_| true, |_, _| Ok(Vec::new()))?;
        let before = report.differences.len();
        let mut written = BTreeSet::new();
        let transactions = recorded.block.transactions.as_transactions().unwrap_or_default();
        for ((tx, receipt), done) in transactions.iter().zip(&recorded.receipts).zip(done.iter().flatten()) {
            report.compare(number, receipt, done);
            report.count(&contracts, tx, done);
            written.extend(done.slots.iter().filter(|(contract, _)| name(&contracts, *contract).is_some()));
        }
        let found = stored(&endpoint, recorded, number, &written).await?;
        for ((contract, slot), chain) in found {
            let replayed = replay.chain.slot(contract, slot)?;
            report.slots += 1;
            if chain != replayed {
                let what = What::Slot { contract, slot, chain, replay: replayed };
                report.differences.push(Difference { block: number, transaction: None, what });
            }
            recorded.slots.entry(contract).or_default().insert(slot, chain);
        }
        report.checked += 1;
        let broken = broken.into_iter().map(|what| Difference { block: number, transaction: None, what });
        report.differences.extend(broken);
        report.blocks.push(Replayed {
            number,
            timestamp: recorded.block.header.timestamp,
            transactions: done.len() as u64,
            gas: done.iter().flatten().map(|done| done.gas).sum(),
            differences: (report.differences.len() - before) as u64,
        });
    }
    let (before, ledger) = replay.close();
    recording.before = before.into_known();
    report.ledger = ledger;
    Ok(report)
}

/// What the endpoint says is in these slots after a block, or what it said when the block was recorded.
async fn stored(
    endpoint: &Option<DynProvider>,
    recorded: &Recorded,
    block: u64,
    slots: &BTreeSet<(Address, U256)>,
) -> Result<Vec<((Address, U256), U256)>, Error> {
    try_join_all(slots.iter().map(|(contract, slot)| async move {
        let known = recorded.slots.get(contract).and_then(|slots| slots.get(slot));
        let value = match (known, endpoint) {
            (Some(value), _) => *value,
            (None, Some(endpoint)) => {
                endpoint.get_storage_at(*contract, *slot).block_id(BlockId::number(block)).await?
            }
            (None, None) => {
                return Err(Error::NotRecorded {
                    what: format!("slot {slot:#x} after block {block}"),
                    address: *contract,
                });
            }
        };
        Ok(((*contract, *slot), value))
    }))
    .await
}

impl Report {
    fn compare(&mut self, block: u64, receipt: &TransactionReceipt, done: &Done) {
        let transaction = Some(receipt.transaction_hash);
        let mut differs = |what: What| self.differences.push(Difference { block, transaction, what });
        if receipt.status() != done.success {
            differs(What::Status { chain: receipt.status(), replay: done.success });
        }
        if receipt.gas_used != done.gas {
            differs(What::Gas { chain: receipt.gas_used, replay: done.gas });
        }
        let logs = receipt.logs();
        let differing =
            (0..logs.len().max(done.logs.len())).find(|at| logs.get(*at).map(|log| &log.inner) != done.logs.get(*at));
        if let Some(first) = differing {
            differs(What::Logs { first });
        }
        self.logs += logs.len() as u64;
        self.transactions += 1;
    }

    fn count(&mut self, contracts: &Contracts, tx: &Transaction, done: &Done) {
        let Some(function) = function(contracts, tx) else { return };
        let calls = self.calls.entry(function).or_default();
        calls.transactions += 1;
        calls.failed += u64::from(!done.success);
        calls.gas += done.gas;
    }
}

/// A contract of the deployment, by its name.
pub(crate) fn name(contracts: &Contracts, address: Address) -> Option<&'static str> {
    let named = [
        (contracts.token, "ConunToken"),
        (contracts.escrow, "Escrow"),
        (contracts.providers, "ProviderRegistry"),
        (contracts.jobs, "JobRegistry"),
        (contracts.replicas, "ReplicaRegistry"),
        (contracts.disputes, "Disputes"),
        (contracts.reputation, "Reputation"),
        (contracts.deployment, "Deployment"),
        (contracts.rules, "JobRules"),
    ];
    named.into_iter().find(|(known, _)| *known == address).map(|(_, name)| name)
}

/// Contract and function that a transaction calls, if it is one of the deployment's.
pub(crate) fn function(contracts: &Contracts, tx: &Transaction) -> Option<String> {
    let contract = name(contracts, tx.to()?)?;
    let selector: [u8; 4] = tx.input().get(..4)?.try_into().ok()?;
    let function = match contract {
        "ConunToken" => abi::ConunToken::ConunTokenCalls::name_by_selector(selector),
        "Escrow" => abi::Escrow::EscrowCalls::name_by_selector(selector),
        "ProviderRegistry" => abi::ProviderRegistry::ProviderRegistryCalls::name_by_selector(selector),
        "JobRegistry" => abi::JobRegistry::JobRegistryCalls::name_by_selector(selector),
        "ReplicaRegistry" => abi::ReplicaRegistry::ReplicaRegistryCalls::name_by_selector(selector),
        "JobRules" => abi::JobRules::JobRulesCalls::name_by_selector(selector),
        "Deployment" => abi::Deployment::DeploymentCalls::name_by_selector(selector),
        "Disputes" => abi::Disputes::DisputesCalls::name_by_selector(selector),
        _ => None,
    };
    let selector = B256::right_padding_from(&selector).to_string();
    Some(format!("{contract}.{}", function.unwrap_or(&selector[..10])))
}
