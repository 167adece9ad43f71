//! Who paid whom for which work.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, B256, Log, U256},
    sol_types::{SolEvent, SolEventInterface},
};
use conun_agent::chain::{BallotStage, BatchStage, Index};
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Escrow::EscrowEvents},
    job,
};
use serde::Serialize;

/// What one provider did for one job, and was paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// Who paid.
    pub requester: Address,
    /// Who worked.
    pub provider: Address,
    /// For which job.
    pub job: B256,
    /// Batches paid.
    pub batches: u32,
    /// Tasks in them.
    pub tasks: u32,
    /// Fuel of them.
    pub fuel: u64,
    /// Token wei.
    pub paid: U256,
}

/// The books of a range of blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Payments for work, by job and provider.
    pub flows: Vec<Flow>,
    /// Tokens that came into the Escrow, by the account that they came from, token wei: deposits, and what posts, stakes and bonds pulled.
    pub deposited: BTreeMap<Address, U256>,
    /// Tokens that accounts took out of it.
    pub withdrawn: BTreeMap<Address, U256>,
    /// Earnings paid out, by provider.
    pub paid_out: BTreeMap<Address, U256>,
    /// Tokens burned: fees, and stake that was lost.
    pub burned: U256,
    /// Jobs posted.
    pub jobs: usize,
    /// Jobs that ended.
    pub ended: usize,
}

type Work = BTreeMap<(B256, Address), Flow>;

fn work(index: &Index) -> Work {
    let mut flows = Work::new();
    for (id, entry) in &index.jobs {
        let mut pay = |provider: Address, number: u32, fuel: u64, paid: U256| {
            let flow = flows.entry((*id, provider)).or_insert(Flow {
                requester: entry.job.requester,
                provider,
                job: *id,
                batches: 0,
                tasks: 0,
                fuel: 0,
                paid: U256::ZERO,
            });
            flow.batches += 1;
            flow.tasks += job::tasks_in(&entry.job, number).len() as u32;
            flow.fuel += fuel;
            flow.paid += paid;
        };
        for (number, batch) in (0..).zip(&entry.batches).filter(|(_, batch)| batch.stage == BatchStage::Settled) {
            pay(batch.provider, number, batch.fuel, batch.payment);
        }
        for (number, ballot) in (0..).zip(entry.ballots()).filter(|(_, ballot)| ballot.stage == BallotStage::Settled) {
            for (provider, _) in ballot.makers(ballot.best) {
                pay(provider, number, ballot.best.1, ballot.payment(provider));
            }
        }
    }
    flows
}

fn ended(index: &Index) -> usize {
    index.jobs.values().filter(|entry| entry.is_over()).count()
}

/// Keeps the books from a range's beginning.
pub(crate) struct Books {
    before: Work,
    jobs: usize,
    ended: usize,
    ledger: Ledger,
}

impl Books {
    pub(crate) fn new(index: &Index) -> Self {
        Self { before: work(index), jobs: index.jobs.len(), ended: ended(index), ledger: Ledger::default() }
    }

    /// Takes in a log.
    pub(crate) fn note(&mut self, contracts: &Contracts, log: &Log) {
        if log.address == contracts.token {
            // The Escrow tells only of what was put in on purpose; most of what comes is pulled.
            if let Ok(moved) = ConunToken::Transfer::decode_log(log)
                && moved.to == contracts.escrow
            {
                *self.ledger.deposited.entry(moved.from).or_default() += moved.value;
            }
            return;
        }
        if log.address != contracts.escrow {
            return;
        }
        let Ok(event) = EscrowEvents::decode_log(log) else { return };
        match event.data {
            EscrowEvents::Deposited(_) => {}
            EscrowEvents::Withdrawn(event) => *self.ledger.withdrawn.entry(event.account).or_default() += event.amount,
            EscrowEvents::PaidOut(event) => *self.ledger.paid_out.entry(event.account).or_default() += event.amount,
            EscrowEvents::Burned(event) => self.ledger.burned += event.amount,
        }
    }

    /// Closes them.
    pub(crate) fn close(mut self, index: &Index) -> Ledger {
        for (key, mut flow) in work(index) {
            if let Some(before) = self.before.get(&key) {
                flow.batches -= before.batches;
                flow.tasks -= before.tasks;
                flow.fuel -= before.fuel;
                flow.paid -= before.paid;
            }
            if flow.batches > 0 {
                self.ledger.flows.push(flow);
            }
        }
        self.ledger.jobs = index.jobs.len() - self.jobs;
        self.ledger.ended = ended(index) - self.ended;
        self.ledger
    }
}
