//! The books of a job.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, TxHash, U256},
    providers::{DynProvider, Provider},
};
use conun_bindings::job;
use serde::Serialize;

use super::Error;
use crate::chain::{self, BallotStage, BatchStage, GasUse, Index};

/// What one provider did and was paid.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLedger {
    /// Its account.
    pub account: Address,
    /// Where its earnings went.
    pub payout: Address,
    /// Batches paid.
    pub batches: u32,
    /// Tasks in them.
    pub tasks: u32,
    /// Fuel of them.
    pub fuel: u64,
    /// Token wei.
    pub earned: U256,
}

/// A job's books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// The job.
    pub job: B256,
    /// Who posted it.
    pub requester: Address,
    /// Tasks.
    pub tasks: u32,
    /// Batches.
    pub batches: u32,
    /// Leases that ran out.
    pub expired_leases: u32,
    /// Locked at first, token wei.
    pub deposit: U256,
    /// Paid to providers, token wei.
    pub spent: U256,
    /// Back in the requester's Escrow balance, token wei.
    pub refunded: U256,
    /// Burned, token wei: fees, and what undecided batches cost.
    pub burned: U256,
    /// Tasks in batches that were paid.
    pub done_tasks: u32,
    /// Fuel paid for.
    pub fuel: u64,
    /// Providers that were paid for something.
    pub providers: Vec<ProviderLedger>,
    /// Gas by kind of transaction, everybody's.
    pub gas: BTreeMap<&'static str, GasUse>,
    /// Gas of all these for each task.
    pub gas_per_task: u64,
}

impl Ledger {
    /// Writes a job's books from the chain alone: the index, and the receipts of the transactions it names.
    ///
    /// # Errors
    /// If there is no such job, or the endpoint fails.
    pub async fn of(provider: &DynProvider, index: &Index, id: B256) -> Result<Self, Error> {
        let entry = index.job(&id).ok_or(Error::NoSuchJob(id))?;
        let mut providers: BTreeMap<Address, ProviderLedger> = BTreeMap::new();
        let mut done_tasks = 0;
        let mut pay = |account: Address, number: u32, fuel: u64, payment: U256| {
            let ledger = providers.entry(account).or_insert_with(|| {
                let payout = index.providers.get(&account).map_or_else(Default::default, |known| known.payout);
                ProviderLedger { account, payout, ..ProviderLedger::default() }
            });
            ledger.batches += 1;
            ledger.tasks += job::tasks_in(&entry.job, number).len() as u32;
            ledger.fuel += fuel;
            ledger.earned += payment;
        };
        for (number, batch) in (0..).zip(&entry.batches).filter(|(_, batch)| batch.stage == BatchStage::Settled) {
            pay(batch.provider, number, batch.fuel, batch.payment);
            done_tasks += job::tasks_in(&entry.job, number).len() as u32;
        }
        for (number, ballot) in (0..).zip(entry.ballots()).filter(|(_, ballot)| ballot.stage == BallotStage::Settled) {
            for (provider, _) in ballot.makers(ballot.best) {
                pay(provider, number, ballot.best.1, ballot.payment(provider));
            }
            done_tasks += job::tasks_in(&entry.job, number).len() as u32;
        }
        let mut gas: BTreeMap<&'static str, GasUse> = BTreeMap::new();
        for (hash, kind) in &entry.transactions {
            let used = gas.entry(*kind).or_default();
            used.transactions += 1;
            used.gas += gas_of(provider, *hash).await?;
        }
        let total: u64 = gas.values().map(|used| used.gas).sum();
        Ok(Self {
            job: id,
            requester: entry.job.requester,
            tasks: entry.job.taskCount,
            batches: entry.batch_count() as u32,
            expired_leases: entry.batches.iter().map(|batch| batch.expiries).sum::<u32>()
                + entry.ballots().map(|ballot| ballot.expiries).sum::<u32>(),
            deposit: entry.deposit,
            spent: entry.spent(),
            refunded: entry.refunded,
            burned: entry.burned,
            done_tasks,
            fuel: providers.values().map(|ledger| ledger.fuel).sum(),
            providers: providers.into_values().collect(),
            gas,
            gas_per_task: total / u64::from(entry.job.taskCount.max(1)),
        })
    }

    /// Whether every token of the deposit is accounted for: paid, refunded or burned, as far as the job is over.
    pub fn adds_up(&self) -> bool {
        let earned: U256 = self.providers.iter().map(|provider| provider.earned).sum();
        earned == self.spent && self.spent + self.refunded + self.burned == self.deposit
    }
}

async fn gas_of(provider: &DynProvider, hash: TxHash) -> Result<u64, Error> {
    let receipt = provider.get_transaction_receipt(hash).await.map_err(chain::Error::from)?;
    Ok(receipt.map_or(0, |receipt| receipt.gas_used))
}
