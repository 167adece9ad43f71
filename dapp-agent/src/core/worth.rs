//! What a job brings a second, and so which jobs come first: see `docs/decisions/0021-expected-profit-a-second.md`.

use std::cmp::Reverse;

use alloy::primitives::{B256, U256};
use conun_bindings::job;
use serde::Serialize;

use super::{Core, Looked, SkipReason, decide::MAX_PER_TRANSACTION};
use crate::{chain::Index, chain::JobEntry};

/// Jobs that leases are chosen from.
const SHORT: usize = 64;

/// Jobs whose program and inputs are fetched and checked at once, those that are held aside.
const PREPARING: usize = 4;

/// Gas of a batch's life from the provider's side, where a transaction is for one batch alone, and of each further batch of it:
/// lease, result and end (`contracts/README.md`, Gas).
const GAS_ONCE: (u64, u64) = (163_000, 47_000);

/// The same of a batch that several execute: lease, commit, reveal, and a share of the end.
const GAS_OF_SEVERAL: (u64, u64) = (210_000, 80_000);

/// Batches in which a newcomer is thought to lose one.
const NEWCOMER: u64 = 200;

/// What jobs are sorted by, the best first: whether it can be leased later only, token wei a second, block, job.
pub(super) type Rank = (bool, Reverse<i128>, u64, B256);

/// Wei of an ether.
const ETHER: u64 = 1_000_000_000_000_000_000;

/// What was measured of the computer and its surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Fuel a second of one worker, as long as no batch has shown better; 10^9 by default.
    pub fuel_per_second: u64,
    /// Wei for a gas; 0 while it is unknown.
    pub gas_price: u128,
    /// Bytes a second that come from peers; 0 while it is unknown.
    pub bytes_per_second: u64,
}

impl Default for Conditions {
    fn default() -> Self {
        Self { fuel_per_second: 1_000_000_000, gas_price: 0, bytes_per_second: 0 }
    }
}

/// What a batch of a job is expected to bring and to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Worth {
    /// Payment, token wei.
    pub payment: U256,
    /// Gas, token wei; nothing where the owner has not said what an ether is worth.
    pub gas: U256,
    /// Stake that is likely to be lost, token wei.
    pub risk: U256,
    /// Milliseconds until the next such batch is done: of a worker's work its share, or of the line, whichever is longer.
    pub millis: u64,
}

impl Worth {
    /// Token wei a second; negative if it costs more than it brings.
    pub fn per_second(&self) -> i128 {
        let [payment, gas, risk] = [self.payment, self.gas, self.risk].map(|wei| {
            let wei: u128 = wei.saturating_to();
            i128::try_from(wei).unwrap_or(i128::MAX)
        });
        payment.saturating_sub(gas).saturating_sub(risk).saturating_mul(1_000) / i128::from(self.millis.max(1))
    }
}

impl Core {
    /// What a batch of a job is expected to bring if it is leased now.
    pub fn worth(&self, index: &Index, id: &B256, entry: &JobEntry) -> Worth {
        let tasks = u64::from(entry.job.batchSize.min(entry.job.taskCount));
        let limit = entry.job.fuelLimit.saturating_mul(tasks);
        let fuel = self.fuel.get(id).copied().unwrap_or(limit);
        let rate = self.rate.unwrap_or(self.conditions.fuel_per_second).max(1);
        let work = self.pace.get(id).copied().unwrap_or_else(|| fuel.saturating_mul(1_000) / rate);
        let bytes = self.downloads.get(id).copied().unwrap_or(0);
        let line = (bytes * 1_000).checked_div(self.conditions.bytes_per_second).unwrap_or(0);
        Worth {
            payment: job::payment(job::price_at(&entry.job, self.now), fuel),
            gas: self.gas(entry),
            risk: entry.lease_lock(0, &index.rules) * U256::from(self.lost + 1) / U256::from(self.done + NEWCOMER),
            millis: (work / u64::from(self.policy.workers.max(1))).max(line).max(1),
        }
    }

    /// Gas of a batch, token wei.
    fn gas(&self, entry: &JobEntry) -> U256 {
        let Some(tokens) = self.policy.tokens_per_ether else { return U256::ZERO };
        let together = entry.batch_count().clamp(1, MAX_PER_TRANSACTION) as u64;
        let (one, further) = if entry.assured.is_some() { GAS_OF_SEVERAL } else { GAS_ONCE };
        let gas = further + (one - further) / together;
        U256::from(gas) * U256::from(self.conditions.gas_price) * U256::from(tokens) / U256::from(ETHER)
    }

    /// What speaks against a job that would cost more than it brings.
    pub(super) fn loses(&self, index: &Index, id: &B256, entry: &JobEntry) -> Option<SkipReason> {
        self.policy.tokens_per_ether?;
        let worth = self.worth(index, id, entry);
        (!worth.gas.is_zero() && worth.payment <= worth.gas).then_some(SkipReason::Gas)
    }

    /// The place of a job among those that something could be leased of: what can be leased now before what can be later, the most
    /// profitable first, the older before the younger. None if it is not welcome.
    pub(super) fn rank_of(&self, index: &Index, id: B256, entry: &JobEntry) -> Option<Rank> {
        let refused = matches!(self.looked.get(&id), Some(Looked::Refused(_)));
        if refused || self.objection(index, &id, entry).is_some() || !self.has_room(id, entry) {
            return None;
        }
        let later = self.free(index, id, entry).next().is_none();
        Some((later, Reverse(self.worth(index, &id, entry).per_second()), entry.block, id))
    }

    /// The best jobs that are welcome, best first.
    pub(super) fn best<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = (B256, &'a JobEntry)> {
        let jobs = self.view.best().take(SHORT).filter_map(|id| Some((*id, index.job(id)?)));
        jobs.filter(|(id, entry)| self.ranked || self.objection(index, id, entry).is_none())
    }

    /// Of the best jobs those to be fetched and checked now: as many as the workers can be busy with, and one more.
    pub(super) fn to_prepare(&self, index: &Index) -> Vec<B256> {
        let preparing = self.looked.values().filter(|looked| **looked == Looked::Preparing).count();
        let mut places = PREPARING.saturating_sub(preparing);
        let mut ready = 0;
        let mut chosen = Vec::new();
        for (id, entry) in self.best(index) {
            if places == 0 || ready > self.policy.workers as usize {
                break;
            }
            match self.looked.get(&id) {
                Some(Looked::Ready) => ready += usize::from(self.free(index, id, entry).next().is_some()),
                Some(_) => {}
                None => {
                    places -= 1;
                    chosen.push(id);
                }
            }
        }
        chosen
    }
}
