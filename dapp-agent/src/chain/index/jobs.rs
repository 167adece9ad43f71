//! Jobs of one execution a batch: what the logs of `JobRegistry` tell.

use alloy::primitives::{Address, B256, U256};
use conun_bindings::{
    abi::JobRegistry::{self, JobRegistryEvents, Submission},
    job,
};

use super::{At, Batches, Index, JobEntry, LossReason, contact};

/// Where a batch stands, in the order of the contract's `BatchState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BatchStage {
    /// Nobody holds it.
    Open,
    /// A provider holds it.
    Leased,
    /// A result stands in its window.
    Submitted,
    /// Paid; final.
    Settled,
    /// Cancelled while open; final.
    Cancelled,
    /// The result is disputed: nobody is paid until that is over.
    Frozen,
}

/// A batch as the logs tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchEntry {
    /// Where it stands.
    pub stage: BatchStage,
    /// The holder, zero for none.
    pub provider: Address,
    /// The holder whose lease expired last, zero for none.
    pub previous: Address,
    /// Block time at which the lease expires or the window ends.
    pub deadline: u64,
    /// Block from which the holder may submit.
    pub active_block: u64,
    /// How many leases expired.
    pub expiries: u32,
    /// Price, token wei for 10^9 fuel; 0 before its first lease.
    pub price: u128,
    /// Result root.
    pub root: B256,
    /// Fuel of the result.
    pub fuel: u64,
    /// BLAKE3 hash of the result manifest.
    pub outputs: [u8; 32],
    /// Paid for it, token wei.
    pub payment: U256,
    /// Whether the requester accepted it before its window was over.
    pub accepted: bool,
}

impl BatchEntry {
    /// One that nobody has leased yet.
    pub const NEW: Self = Self {
        stage: BatchStage::Open,
        provider: Address::ZERO,
        previous: Address::ZERO,
        deadline: 0,
        active_block: 0,
        expiries: 0,
        price: 0,
        root: B256::ZERO,
        fuel: 0,
        outputs: [0; 32],
        payment: U256::ZERO,
        accepted: false,
    };

    /// Whether it can be leased at block time `now`: open, or its lease has run out.
    pub fn is_free(&self, now: u64) -> bool {
        match self.stage {
            BatchStage::Open => true,
            BatchStage::Leased => now > self.deadline,
            _ => false,
        }
    }

    /// What `accept` and `finalise` take for it, as batch `number` of its job.
    pub fn submission(&self, number: u32) -> Submission {
        let Self { provider, price, root, fuel, .. } = *self;
        Submission { batch: number, provider, price, root, fuel }
    }

    /// Whether nothing more can happen to it.
    pub fn is_final(&self) -> bool {
        matches!(self.stage, BatchStage::Settled | BatchStage::Cancelled)
    }
}

impl Index {
    pub(super) fn apply_job(&mut self, event: JobRegistryEvents, at: At) {
        use JobRegistryEvents as E;
        match event {
            E::JobPosted(event) => {
                let batches = Batches::new(job::batch_count(&event.job) as usize);
                let contact = contact(event.contact.endpoint, &event.contact.hint);
                let posted = JobEntry::posted(event.job, event.spec, contact, event.deposit, at);
                self.insert(event.jobId, JobEntry { batches, ..posted });
            }
            E::JobContactChanged(event) => {
                if let Some(entry) = self.touch(event.jobId, at, "contact") {
                    entry.contact = contact(event.contact.endpoint, &event.contact.hint);
                }
            }
            E::BatchesLeased(event) => {
                let Some(entry) = self.touch(event.jobId, at, "lease") else { return };
                for (number, active) in event.batches.iter().zip(&event.activeBlocks) {
                    let Some(batch) = entry.batches.get_mut(*number as usize) else { continue };
                    batch.stage = BatchStage::Leased;
                    if batch.previous == event.provider {
                        batch.previous = Address::ZERO;
                    }
                    batch.provider = event.provider;
                    batch.deadline = event.deadline.into();
                    if batch.price == 0 {
                        // The first lease fixes it.
                        let leased_at = batch.deadline.saturating_sub(entry.job.leaseSeconds.into());
                        batch.price = job::price_at(&entry.job, leased_at);
                    }
                    batch.active_block = active.to();
                }
            }
            E::ResultSubmitted(event) => {
                let Some(batch) = self.batch(event.jobId, event.batch, at, "submit") else { return };
                batch.stage = BatchStage::Submitted;
                batch.provider = event.provider;
                batch.previous = Address::ZERO;
                batch.deadline = event.finalAt.into();
                batch.price = event.price;
                (batch.root, batch.fuel, batch.outputs) = (event.root, event.fuel, event.outputs.0);
            }
            E::BatchSettled(event) => {
                let kind = if event.accepted { "accept" } else { "finalise" };
                let Some(batch) = self.batch(event.jobId, event.batch, at, kind) else { return };
                batch.stage = BatchStage::Settled;
                (batch.payment, batch.accepted) = (event.payment, event.accepted);
                if let Some(entry) = self.change(&event.jobId) {
                    entry.refunded += event.refund;
                }
            }
            E::LeaseExpired(event) => {
                let id = (event.jobId, event.batch);
                self.slash(event.provider, id, event.bond, LossReason::Expired);
                self.reopen(event.jobId, event.batch, (at, "expire"), Some(event.provider));
            }
            E::LeaseReleased(event) => self.reopen(event.jobId, event.batch, (at, "release"), None),
            E::JobCancelled(event) => {
                let Some(entry) = self.touch(event.jobId, at, "cancel") else { return };
                entry.cancelled = true;
                entry.refunded += event.refund;
                entry.batches.cancel_open();
            }
            E::JobAmended(event) => self.amend(event, at),
            E::BatchFrozen(event) => {
                if let Some(batch) = self.batch(event.jobId, event.batch, at, "dispute") {
                    batch.stage = BatchStage::Frozen;
                }
            }
            E::BatchResolved(event) => {
                let id = (event.jobId, event.batch);
                let reason = if event.verdict == 1 { LossReason::Withheld } else { LossReason::Wrong };
                self.slash(event.provider, id, event.slashed, reason);
                self.conclude(event.jobId, event.batch);
                // A wrong result: its record goes with the stake.
                if event.verdict == 2
                    && let Some(entry) = self.providers.get_mut(&event.provider)
                {
                    entry.checks = 0;
                }
                // The result stands: it can be paid.
                if event.verdict == 0 {
                    let Some(batch) = self.batch(event.jobId, event.batch, at, "resolve") else { return };
                    batch.stage = BatchStage::Submitted;
                    return;
                }
                let Some(batch) = self.batch(event.jobId, event.batch, at, "resolve") else { return };
                (batch.expiries, batch.root, batch.fuel) = (0, B256::ZERO, 0);
                self.reopen(event.jobId, event.batch, (at, "resolve"), None);
            }
            E::BatchRejected(event) => {
                self.slash(event.provider, (event.jobId, event.batch), event.bond, LossReason::Rejected);
                let Some(batch) = self.batch(event.jobId, event.batch, at, "reject") else { return };
                batch.stage = BatchStage::Settled;
                if let Some(entry) = self.change(&event.jobId) {
                    (entry.refunded, entry.burned) = (entry.refunded + event.refund, entry.burned + event.payment);
                }
            }
        }
    }

    /// The batches that are open go on under another id; the old job's cancellation is the next log.
    fn amend(&mut self, event: JobRegistry::JobAmended, at: At) {
        let Some(old) = self.touch(event.from, at, "amend") else { return };
        let moved = |batch: &BatchEntry| match batch.stage {
            BatchStage::Open => BatchEntry::NEW,
            _ => BatchEntry { stage: BatchStage::Cancelled, ..BatchEntry::NEW },
        };
        let entry = JobEntry {
            job: event.terms,
            deposit: event.deposit,
            block: at.block,
            changed: at.block,
            batches: old.batches.iter().map(moved).collect(),
            refunded: U256::ZERO,
            transactions: vec![(at.hash, "amend")],
            ..old.clone()
        };
        self.insert(event.jobId, entry);
    }

    fn batch(&mut self, id: B256, number: u32, at: At, kind: &'static str) -> Option<&mut BatchEntry> {
        self.touch(id, at, kind)?.batches.get_mut(number as usize)
    }

    /// `expired` is whose lease ran out; `None` if it was given back.
    fn reopen(&mut self, id: B256, number: u32, (at, kind): (At, &'static str), expired: Option<Address>) {
        let Some(entry) = self.touch(id, at, kind) else { return };
        let cancelled = entry.cancelled;
        let worst = job::worst_case(&entry.job, number);
        let Some(batch) = entry.batches.get_mut(number as usize) else { return };
        if let Some(provider) = expired {
            batch.expiries += 1;
            // A successor that was never active leaves the one before it its turn.
            if at.block >= batch.active_block {
                batch.previous = provider;
            }
        }
        // What was given back without ever running out has no price yet.
        if batch.expiries == 0 {
            batch.price = 0;
        }
        batch.stage = if cancelled { BatchStage::Cancelled } else { BatchStage::Open };
        (batch.provider, batch.deadline, batch.active_block) = (Address::ZERO, 0, 0);
        if cancelled {
            entry.refunded += worst;
        }
    }
}
