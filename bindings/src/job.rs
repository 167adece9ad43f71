//! A job's arithmetic, as the contract does it: batches, prices, ids.

use std::ops::Range;

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::SolValue,
};

use crate::abi::JobRegistry::{Job, Spec};

/// Units of fuel in a gigafuel, the unit of the price.
pub const GIGAFUEL: u64 = 1_000_000_000;

/// keccak256(abi.encode(chainid, registry, keccak256(abi.encode(job)))), `JobRegistry.jobIdOf`.
pub fn id(chain_id: u64, registry: Address, job: &Job) -> B256 {
    keccak256((U256::from(chain_id), registry, keccak256(job.abi_encode())).abi_encode())
}

/// keccak256(abi.encode(spec)), `Job.spec`.
pub fn spec_hash(spec: &Spec) -> B256 {
    keccak256(spec.abi_encode())
}

/// Number of batches; the last may hold fewer tasks.
pub fn batch_count(job: &Job) -> u32 {
    job.taskCount.div_ceil(job.batchSize.max(1))
}

/// Task indices of `batch`; empty past the last.
pub fn tasks_in(job: &Job, batch: u32) -> Range<u32> {
    let start = batch.saturating_mul(job.batchSize).min(job.taskCount);
    start..start.saturating_add(job.batchSize).min(job.taskCount)
}

/// Most that `batch` may cost, token wei, rounded up: what the requester's deposit holds for it.
pub fn worst_case(job: &Job, batch: u32) -> U256 {
    let tasks = tasks_in(job, batch).len();
    (U256::from(tasks) * U256::from(job.fuelLimit) * U256::from(job.maxPrice)).div_ceil(U256::from(GIGAFUEL))
}

/// The whole job's deposit, token wei.
pub fn deposit(job: &Job) -> U256 {
    match batch_count(job) {
        0 => U256::ZERO,
        count => worst_case(job, 0) * U256::from(count - 1) + worst_case(job, count - 1),
    }
}

/// What a batch that is leased for the first time at block time `now` (UNIX seconds) will be paid, token wei for 10^9 fuel:
/// `JobRegistry.priceOf`.
pub fn price_at(job: &Job, now: u64) -> u128 {
    let (elapsed, ramp) = (now.saturating_sub(job.rampStart.into()), u64::from(job.rampSeconds));
    let whole = u64::from(u16::MAX);
    let step = if elapsed >= ramp { whole } else { elapsed * whole / ramp };
    let rise = U256::from(job.maxPrice.saturating_sub(job.startPrice)) * U256::from(step) / U256::from(whole);
    job.startPrice.saturating_add(rise.to())
}

/// What `fuel` costs at `price` (token wei for 10^9 fuel), token wei, rounded down.
pub fn payment(price: u128, fuel: u64) -> U256 {
    U256::from(fuel) * U256::from(price) / U256::from(GIGAFUEL)
}

/// Stake that a lease of `batch` locks, token wei: worst case x (1 - a) / a rounded up, a in 1/10,000.
pub fn lease_lock(job: &Job, batch: u32, audit_bps: u16) -> U256 {
    let (share, whole) = (U256::from(audit_bps), U256::from(10_000));
    (worst_case(job, batch) * (whole - share)).div_ceil(share)
}
