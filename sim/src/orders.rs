//! A3: a block's transactions in every order, with copies of them that somebody else sends first. Who copies gains nothing, and takes from
//! nobody what is theirs; only a lease is a race, which whoever comes first wins.

use std::collections::BTreeMap;

use alloy::{
    consensus::Transaction as _,
    primitives::{Address, Bytes, U256},
    rpc::types::TransactionRequest,
    sol_types::SolCall as _,
};
use conun_agent::chain::JobEntry;
use conun_bindings::abi::{JobRegistry, ReplicaRegistry};
use serde::Serialize;

use crate::{
    Scenario,
    error::{Invariant, Violation},
    invariants::{has_part, is_about, is_personal},
    node::TIP,
    random::Random,
    world::World,
};

/// Transactions that have to wait together before their order is tried.
const LEAST: usize = 3;

/// Orders of one block: then the market goes on to another.
const ORDERS: u64 = 8;

/// Milliseconds after a block at which others look at what waits.
const PAUSE_MS: u64 = 9_000;

/// Transactions of a block that are copied.
const COPIES: usize = 4;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Orders {
    /// Blocks.
    pub blocks: u64,
    /// Orders of their transactions.
    pub orders: u64,
    /// Copies that were sent by somebody else, in all of them together.
    pub copies: u64,
    /// Those that came to something: leases, and what anybody may do.
    pub mined: u64,
}

/// A transaction that can come at any place of a block.
#[derive(Clone, Debug)]
struct Movable {
    sender: Address,
    nonce: u64,
    to: Address,
    input: Bytes,
    gas: u64,
    is_copy: bool,
}

/// Which race it takes part in, of those that are there by design: for a slot; or to draw what is not audited, which whoever reveals first does.
fn race(input: &[u8]) -> Option<usize> {
    let races: [&[_]; 2] = [
        &[
            JobRegistry::leaseCall::SELECTOR,
            ReplicaRegistry::leaseCall::SELECTOR,
            ReplicaRegistry::backUpCall::SELECTOR,
        ],
        &[ReplicaRegistry::drawCall::SELECTOR, ReplicaRegistry::revealCall::SELECTOR],
    ];
    races.iter().position(|calls| calls.iter().any(|selector| input.get(..4) == Some(selector)))
}

/// Plays a scenario under a seed, and of blocks with several transactions tries other orders, `most` in all.
///
/// # Errors
/// The first invariant that breaks: I1 in any order, or I9 if a copy gains or takes anything.
pub fn permute(scenario: &Scenario, seed: u64, most: u64) -> Result<Orders, Violation> {
    let mut world = World::new(scenario, seed);
    let mut tried = Orders::default();
    let end = scenario.seconds * 1_000;
    while tried.orders < most && world.now < end {
        // To the next block, and on until most of what the one after it will hold has been sent.
        world.play(end, |_| true)?;
        world.play((world.now + PAUSE_MS).min(end), |_| false)?;
        if world.node.chain.waiting() >= LEAST {
            tried.blocks += 1;
            for number in 0..ORDERS.min(most - tried.orders) {
                world.try_order(number, &mut tried)?;
            }
        }
    }
    Ok(tried)
}

impl World {
    /// Mines what waits in one order, without and with copies, and takes it back.
    fn try_order(&mut self, number: u64, tried: &mut Orders) -> Result<(), Violation> {
        let mut random = Random::new(self.seed, "orders", self.node.chain.height() << 16 ^ number);
        let mut order: Vec<_> = self
            .node
            .chain
            .pool()
            .into_iter()
            .filter_map(|(sender, tx)| {
                let (nonce, to, input, gas) = (tx.nonce(), tx.to()?, tx.input().clone(), tx.gas_limit());
                Some(Movable { sender, nonce, to, input, gas, is_copy: false })
            })
            .collect();
        shuffle(&mut order, &mut random);
        let index = self.node.look(self.honest_feed).map(|view| view.index.clone());
        let Ok(index) = index else { return Ok(()) };
        // Who holds a slot of the same batch may take it from whom it backs up, or who backs it up: that is a race of those two.
        let about = |entry: &JobEntry| order.iter().any(|tx| is_about(&tx.input, entry));
        let about: Vec<_> = index.jobs.values().filter(|entry| about(entry)).collect();
        let is_in =
            |account| order.iter().any(|tx| tx.sender == account) || about.iter().any(|entry| has_part(entry, account));
        let Some(copier) = self.stranger(&index, is_in) else { return Ok(()) };
        let alone = self.mined_in(&order, copier)?;
        let mut nonce = self.node.chain.nonce(copier);
        let mut with_copies = order.clone();
        for original in order.iter().filter(|tx| self.is_ours(tx.to)).take(COPIES) {
            // Before it, at any distance.
            let at = with_copies.iter().position(|tx| tx.nonce == original.nonce && tx.sender == original.sender);
            let at = random.below(at.unwrap_or_default() + 1);
            with_copies.insert(at, Movable { sender: copier, is_copy: true, ..original.clone() });
        }
        for copy in with_copies.iter_mut().filter(|tx| tx.is_copy) {
            copy.nonce = nonce;
            nonce += 1;
            tried.copies += 1;
        }
        let together = self.mined_in(&with_copies, copier)?;
        tried.orders += 1;
        let ok = |outcome: &Outcome, tx: &Movable| outcome.ok.get(&(tx.sender, tx.nonce)).copied();
        let taken: Vec<_> = with_copies.iter().filter(|tx| tx.is_copy && ok(&together, tx) == Some(true)).collect();
        tried.mined += taken.len() as u64;
        if together.copier > alone.copier {
            return Err(self.violation(
                Invariant::I9,
                format!("whoever copies what waits for a block gains {} token wei", together.copier - alone.copier),
                &[],
            ));
        }
        for original in &order {
            // What the copy has done is done, if anybody may do it.
            let same = |copy: &&Movable| copy.input == original.input;
            let is_done = taken.iter().copied().any(|copy| same(&copy) && !is_personal(&copy.input));
            let own = race(&original.input);
            let raced = own.is_some() && taken.iter().any(|copy| race(&copy.input) == own);
            let (before, after) = (ok(&alone, original), ok(&together, original));
            if before == Some(true) && after != before && !is_done && !raced {
                let what = format!(
                    "a copy that comes before it takes from {} what it sends under nonce {}",
                    original.sender, original.nonce
                );
                return Err(self.violation(Invariant::I9, what, &[]));
            }
        }
        Ok(())
    }

    fn is_ours(&self, to: Address) -> bool {
        let contracts = &self.node.contracts;
        [contracts.jobs, contracts.replicas, contracts.disputes].contains(&to)
    }

    /// What comes of a block of these transactions in their order, which leaves no trace. I1 holds in it.
    fn mined_in(&mut self, order: &[Movable], copier: Address) -> Result<Outcome, Violation> {
        let snapshot = self.node.chain.handle("evm_snapshot", serde_json::json!([])).expect("it needs nothing");
        let base_fee = self.node.chain.next_base_fee();
        for (place, tx) in order.iter().enumerate() {
            // More for each place further to the front, and more than what waits.
            let tip = TIP * 1_000 * (1 + (order.len() - place) as u128);
            let request = TransactionRequest::default().to(tx.to).input(tx.input.clone().into());
            let fee = 1_000 * u128::from(base_fee) + 2 * tip;
            // One that cannot be replaced stays as it is.
            let _ = self.node.queue(tx.sender, tx.nonce, &request, tx.gas, (fee, tip));
        }
        let mined = self.node.chain.mine_at(self.unix(), Some(base_fee), |_, _| false);
        let held = self.check_held(mined.number);
        let balance = self.node.balance(copier);
        let has = self.node.tokens(copier) + balance.available + balance.earned + balance.stake;
        let nonces = |sender: Address| order.iter().filter(move |tx| tx.sender == sender).map(|tx| tx.nonce);
        let mut ok = BTreeMap::new();
        let mut used = BTreeMap::<Address, usize>::new();
        for receipt in &*mined.receipts {
            // Those of one sender come in the order of their nonces.
            let mut all: Vec<_> = nonces(receipt.from).collect();
            all.sort_unstable();
            let at = used.entry(receipt.from).or_default();
            if let Some(nonce) = all.get(*at) {
                ok.insert((receipt.from, *nonce), receipt.status());
            }
            *at += 1;
        }
        self.node.chain.handle("evm_revert", serde_json::json!([snapshot])).expect("the snapshot was just made");
        held?;
        Ok(Outcome { ok, copier: has })
    }
}

/// What came of a block: whether each transaction succeeded, by sender and nonce, and what the copier has.
#[derive(Debug)]
struct Outcome {
    ok: BTreeMap<(Address, u64), bool>,
    copier: U256,
}

/// In any order, but that of one sender by nonce.
fn shuffle(order: &mut [Movable], random: &mut Random) {
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at + 1));
    }
    // A sender's places stay; what is on them is sorted.
    let senders: Vec<_> = order.iter().map(|tx| tx.sender).collect();
    let mut sorted = order.to_vec();
    sorted.sort_by_key(|tx| tx.nonce);
    for (place, sender) in senders.into_iter().enumerate() {
        if let Some(at) = sorted.iter().position(|tx| tx.sender == sender) {
            order[place] = sorted.remove(at);
        }
    }
}
