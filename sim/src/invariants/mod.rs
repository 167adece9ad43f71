//! What must hold after every block, and of every promise that an agent makes.

mod counts;
mod ends;
mod ledger;
mod refused;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    sol_types::{SolEventInterface, SolValue},
};
use conun_agent::{chain::Index, core::Action, store::ResultRecord};
use conun_bindings::abi::{
    ConunToken, Escrow::EscrowEvents, JobRegistry::JobRegistryEvents, ReplicaRegistry::ReplicaRegistryEvents,
};
use conun_chain::Mined;

use crate::{
    agent::{Part, Who},
    error::{Invariant, Violation},
    keeper,
    node::{Node, View},
    world::World,
};

pub(crate) use ends::Pace;
pub(crate) use refused::{has_part, is_about, is_personal};

/// Blocks between two comparisons of the index with a replay.
const REPLAY_EVERY: u64 = 500;

/// States of a `BatchEnded` that are an end: settled, undecided, overturned.
const ENDS: std::ops::RangeInclusive<u8> = 5..=7;

/// One account in the Escrow, as its storage has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) available: U256,
    pub(crate) locked: U256,
    pub(crate) earned: U256,
    pub(crate) stake: U256,
    pub(crate) held: U256,
    pub(crate) checks: u64,
}

impl Balance {
    /// All of it, token wei.
    pub(crate) fn total(&self) -> U256 {
        self.available + self.locked + self.earned + self.stake
    }
}

/// What is remembered to tell whether something broke.
#[derive(Debug)]
pub(crate) struct Invariants {
    /// Slots of the accounts' balances.
    accounts: Vec<U256>,
    first_block: u64,
    /// Batches that ended, and in which block.
    ended: BTreeMap<(B256, u32), u64>,
    /// Token wei that `burn` has burned, block by block.
    burned: BTreeMap<u64, U256>,
    /// Checks of all together after the last block, unless a re-org came between.
    checks: Option<u64>,
    /// What each honest agent has promised: hash of it by job, batch, account and phase.
    promises: BTreeMap<(B256, u32, Address, &'static str), B256>,
    /// Jobs that blocks were about since the last look.
    touched: BTreeSet<B256>,
    /// What waited for the block that is mined now.
    waiting: Vec<refused::Waiting>,
    /// Token wei that thieves took, by whose key it was.
    pub(crate) stolen: BTreeMap<Address, U256>,
}

/// Bits `from..from + width` of a word.
fn bits(word: U256, from: usize, width: usize) -> U256 {
    (word >> from) & ((U256::ONE << width) - U256::ONE)
}

impl Invariants {
    pub(crate) fn new(node: &Node) -> Self {
        let mut invariants = Self {
            accounts: Vec::new(),
            first_block: node.chain.height(),
            ended: BTreeMap::new(),
            burned: BTreeMap::new(),
            checks: None,
            promises: BTreeMap::new(),
            touched: BTreeSet::new(),
            waiting: Vec::new(),
            stolen: BTreeMap::new(),
        };
        invariants.watch(node.contracts.disputes);
        invariants
    }

    /// No re-org goes below this block.
    pub(crate) fn first_block(&self) -> u64 {
        self.first_block
    }

    /// The stage is set up to this block.
    pub(crate) fn begin(&mut self, block: u64) {
        self.first_block = block;
    }

    /// Counts an account's tokens from now on.
    pub(crate) fn watch(&mut self, account: Address) {
        // `mapping(address => Balance) _balances` is in slot 0.
        let slot = keccak256((account, U256::ZERO).abi_encode());
        self.accounts.push(slot.into());
    }

    /// Everything above this block was taken back.
    pub(crate) fn rewind(&mut self, block: u64) {
        self.ended.retain(|_, at| *at <= block);
        self.burned.retain(|at, _| *at <= block);
        self.checks = None;
    }
}

impl Node {
    fn balance_in(&self, slot: U256) -> Balance {
        let [requester, provider, record] = self.chain.words(self.contracts.escrow, slot);
        Balance {
            available: bits(requester, 0, 96),
            locked: bits(requester, 96, 96),
            earned: bits(provider, 0, 88),
            stake: bits(provider, 88, 80),
            held: bits(provider, 168, 80),
            checks: bits(record, 32, 32).to(),
        }
    }

    /// What the Escrow has of an account.
    pub(crate) fn balance(&self, account: Address) -> Balance {
        self.balance_in(keccak256((account, U256::ZERO).abi_encode()).into())
    }

    /// What the Escrow would burn.
    pub(crate) fn burnable(&self) -> U256 {
        self.chain.slot(self.contracts.escrow, U256::ONE)
    }

    /// Tokens of an account outside the Escrow, token wei.
    pub(crate) fn tokens(&self, account: Address) -> U256 {
        self.read(self.contracts.token, ConunToken::balanceOfCall { account })
    }
}

impl World {
    pub(crate) fn violation(&self, invariant: Invariant, what: impl Into<String>, about: &[String]) -> Violation {
        let (seed, step) = (self.seed, self.trace.steps());
        Violation { invariant, seed, step, what: what.into(), trace: self.trace.about(about) }
    }

    /// I1, I2 and I5 after a block; I8 from time to time.
    pub(crate) fn check_block(&mut self, mined: &Mined) -> Result<(), Violation> {
        let (ended, fees, burned) = self.read_logs(mined)?;
        let (owed, checks) = self.sums();
        self.check_tokens(mined.number, owed, burned)?;
        self.check_records(checks, ended, fees)?;
        if mined.number.is_multiple_of(REPLAY_EVERY) {
            self.check_index()?;
        }
        self.check_costs()
    }

    /// Notes what ended. Returns how much, the fees burned for it, and what was burned for good.
    fn read_logs(&mut self, mined: &Mined) -> Result<(u64, U256, U256), Violation> {
        let (mut ended, mut fees, mut burned) = (0, U256::ZERO, U256::ZERO);
        let logs = mined.receipts.iter().flat_map(|receipt| receipt.logs());
        for log in logs {
            let contracts = &self.node.contracts;
            let end = if log.address() == contracts.jobs {
                match JobRegistryEvents::decode_log(&log.inner).map(|event| event.data) {
                    Ok(JobRegistryEvents::BatchSettled(event)) => Some((event.jobId, event.batch)),
                    Ok(JobRegistryEvents::BatchRejected(event)) => Some((event.jobId, event.batch)),
                    _ => None,
                }
            } else if log.address() == contracts.replicas {
                match ReplicaRegistryEvents::decode_log(&log.inner).map(|event| event.data) {
                    Ok(ReplicaRegistryEvents::BatchEnded(event)) if ENDS.contains(&event.state) => {
                        fees += event.burned;
                        Some((event.jobId, event.batch))
                    }
                    _ => None,
                }
            } else {
                if let Ok(EscrowEvents::Burned(event)) = EscrowEvents::decode_log(&log.inner).map(|event| event.data)
                    && log.address() == contracts.escrow
                {
                    burned += event.amount;
                }
                None
            };
            if let (true, Some(job)) =
                (log.address() == contracts.jobs || log.address() == contracts.replicas, log.topics().get(1).copied())
            {
                self.invariants.touched.insert(job);
            }
            let Some((job, batch)) = end else { continue };
            ended += 1;
            if let Some(before) = self.invariants.ended.insert((job, batch), mined.number) {
                let what =
                    format!("batch {batch} of job {job} ended in block {before}, and again in block {}", mined.number);
                return Err(self.violation(Invariant::I2, what, &[job.to_string()]));
            }
        }
        Ok((ended, fees, burned))
    }

    /// What the Escrow owes to all accounts, and their checks.
    fn sums(&self) -> (U256, u64) {
        let balances = self.invariants.accounts.iter().map(|slot| self.node.balance_in(*slot));
        balances.fold((U256::ZERO, 0), |(owed, checks), balance| (owed + balance.total(), checks + balance.checks))
    }

    /// I1: what the Escrow holds is what it owes, and no token comes or goes.
    fn check_tokens(&mut self, block: u64, owed: U256, burned: U256) -> Result<(), Violation> {
        if !burned.is_zero() {
            self.invariants.burned.insert(block, burned);
        }
        let node = &self.node;
        let (owed, held) = (owed + node.burnable(), node.tokens(node.contracts.escrow));
        if owed != held {
            let what = format!("the Escrow holds {held} token wei and owes {owed}");
            return Err(self.violation(Invariant::I1, what, &[]));
        }
        self.check_supply()
    }

    /// I1 of a block that is about to be taken back.
    pub(crate) fn check_held(&mut self, block: u64) -> Result<(), Violation> {
        let (owed, _) = self.sums();
        self.check_tokens(block, owed, U256::ZERO)
    }

    fn check_supply(&self) -> Result<(), Violation> {
        let node = &self.node;
        let supply = node.read(node.contracts.token, ConunToken::totalSupplyCall {});
        let gone: U256 = self.invariants.burned.values().sum();
        if supply + gone != node.supply {
            let what =
                format!("there are {supply} token wei, {gone} were burned, and {} were there at first", node.supply);
            return Err(self.violation(Invariant::I1, what, &[]));
        }
        Ok(())
    }

    /// I5: checks are passed only where fees were burned.
    fn check_records(&mut self, checks: u64, ended: u64, fees: U256) -> Result<(), Violation> {
        let node = &self.node;
        if let Some(before) = self.invariants.checks.replace(checks)
            && checks > before
        {
            let need = U256::from(checks - before) * node.rules.check_fee;
            // Records that went down in the same block hide some that went up: they can only make this weaker.
            if ended == 0 || fees < need {
                let what = format!(
                    "records grew by {} checks, for {fees} token wei of fees instead of {need}",
                    checks - before
                );
                return Err(self.violation(Invariant::I5, what, &[]));
            }
        }
        Ok(())
    }

    /// I2: no job costs more than its deposit, and one that is over costs exactly that.
    fn check_costs(&mut self) -> Result<(), Violation> {
        let Ok(view) = self.node.look(self.honest_feed) else { return Ok(()) };
        for id in std::mem::take(&mut self.invariants.touched) {
            let Some(entry) = view.index.job(&id) else { continue };
            self.check_counts(&view.index, id)?;
            let (cost, over) = (keeper::cost(entry), entry.is_over());
            if cost > entry.deposit || over && cost != entry.deposit {
                let end = if over { "is over" } else { "goes on" };
                let what = format!("job {id} {end}, and of its deposit of {} token wei {cost} are gone", entry.deposit);
                return Err(self.violation(Invariant::I2, what, &[id.to_string()]));
            }
            if over {
                self.books.over(id, self.now, self.posted.get(&id).map(|(at, _)| *at));
            }
        }
        Ok(())
    }

    /// I8: the index is what a replay from the deployment's block gives, and agrees with the contracts about stakes and records.
    pub(crate) fn check_index(&mut self) -> Result<(), Violation> {
        let Ok(view) = self.node.look(self.honest_feed) else { return Ok(()) };
        let replayed = self.node.replayed();
        if let Some(what) = difference(&view.index, &replayed) {
            return Err(self.violation(
                Invariant::I8,
                format!("after re-orgs the index differs from a replay: {what}"),
                &[],
            ));
        }
        for (provider, entry) in &view.index.providers {
            let balance = self.node.balance(*provider);
            let locked = view.index.locked_stake(*provider);
            let have = (balance.stake, balance.held, balance.checks);
            let told = (entry.stake, locked, u64::from(entry.checks));
            if entry.registered && have != told {
                let who = self.by_address.get(provider).copied().unwrap_or_default();
                let what = format!(
                    "of provider {provider} the contracts hold stake, locked, checks {have:?}, the index says {told:?}"
                );
                return Err(self.violation(Invariant::I8, what, &[format!("#{who} ")]));
            }
        }
        Ok(())
    }

    /// I8: nor is an agent misled whose endpoint lies and who compares it with an honest one, whenever it looks.
    pub(crate) fn check_compared(&mut self, who: Who, view: &Rc<View>) -> Result<(), Violation> {
        let agent = &self.agents[who];
        let compares = self.scenario.chain.lies.as_ref().is_some_and(|lies| lies.compared);
        let is_known = agent.view.as_ref().is_some_and(|known| Rc::ptr_eq(known, view));
        if !compares || is_known || agent.feed == self.agents_feed {
            return Ok(());
        }
        let honest = self.node.look(self.agents_feed).map_err(|text| self.violation(Invariant::I8, text, &[]))?;
        match difference(&view.index, &honest.index).filter(|_| view.head == honest.head) {
            None => Ok(()),
            Some(what) => {
                let what = format!("#{who} believes what one of its two endpoints made up: {what}");
                Err(self.violation(Invariant::I8, what, &[format!("#{who} ")]))
            }
        }
    }

    /// I6: no agent that follows the rules commits to two results of one batch, or submits two.
    pub(crate) fn check_promises(&mut self, who: Who, action: &Action) -> Result<(), Violation> {
        if !matches!(self.agents[who].part, Part::Provider(_)) {
            return Ok(());
        }
        let account = self.agents[who].address;
        let (job, results, phase) = match action {
            Action::Commit(job, results) => (*job, results, "commit"),
            Action::Submit(job, results) => (*job, results, "submit"),
            _ => return Ok(()),
        };
        for (batch, record) in results {
            let ResultRecord { root, fuel, outputs, bound, salt } = record;
            let promise = keccak256((*root, *fuel, *outputs, *bound, salt.0).abi_encode());
            let before = self.invariants.promises.insert((job, *batch, account, phase), promise);
            if before.is_some_and(|before| before != promise) {
                let what = format!("#{who} is about to {phase} a second result for batch {batch} of job {job}");
                return Err(self.violation(Invariant::I6, what, &[format!("#{who} "), job.to_string()]));
            }
        }
        Ok(())
    }

    /// I6: what waits under one nonce is one thing.
    pub(crate) fn check_nonce(&mut self, who: Who, nonce: u64, input: B256) -> Result<(), Violation> {
        let account = self.agents[who].address;
        let pool = self.node.chain.waiting_input(account, nonce);
        match pool {
            Some(waiting) if keccak256(&waiting) != input => {
                let what = format!("#{who} sends something else under nonce {nonce}, which waits");
                Err(self.violation(Invariant::I6, what, &[format!("#{who} ")]))
            }
            _ => Ok(()),
        }
    }
}

/// The first thing about which two indices differ.
fn difference(have: &Index, want: &Index) -> Option<String> {
    if have.order != want.order {
        return Some(format!("{} jobs instead of {}", have.order.len(), want.order.len()));
    }
    for id in &want.order {
        let (have, want) = (have.job(id), want.job(id));
        if have != want {
            return Some(format!("job {id}: {have:?} instead of {want:?}"));
        }
    }
    if have.providers != want.providers {
        return Some("its providers".to_owned());
    }
    (have.cases != want.cases).then(|| "its disputes".to_owned())
}

#[cfg(test)]
mod tests;
