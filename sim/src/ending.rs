//! The end of a run: every job ends, and everybody takes out what is theirs.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, Bytes, U256},
    sol_types::SolCall,
};
use conun_agent::chain::Index;
use conun_bindings::abi::{Disputes, Escrow, ProviderRegistry};

use crate::{
    agent::{Part, payout},
    books::Figures,
    error::{Invariant, Violation},
    keeper::{self, Errand},
    node::EPOCH,
    world::World,
};

/// Seconds between the looks of whoever calls what anybody may.
const ROUND: u64 = 600;

/// Most of them: more than all deadlines that a job can have.
const ROUNDS: u64 = 20 * 86_400 / ROUND;

impl World {
    /// Plays the whole scenario, its end included.
    pub(crate) fn run(&mut self) -> Result<Figures, Violation> {
        self.play(self.scenario.seconds * 1_000, |_| false)?;
        self.is_ending = true;
        (self.fee_factor, self.censored) = (1.0, Vec::new());
        self.end_lies();
        self.trace.note(self.now, "market", "no new jobs, no new faults");
        let until = (self.scenario.seconds + self.scenario.ending_seconds) * 1_000;
        self.play(until, |world| world.is_over())?;
        self.end_jobs()?;
        let index = self.chain_index()?;
        self.check_ledger(&index)?;
        let figures = self.close_books(&index);
        self.check_index()?;
        self.take_out(&index)?;
        Ok(figures)
    }

    fn chain_index(&mut self) -> Result<Index, Violation> {
        let looked = self.node.look(self.honest_feed);
        looked.map(|view| view.index.clone()).map_err(|text| self.violation(Invariant::I8, text, &[]))
    }

    /// Whether nothing is left to happen.
    fn is_over(&mut self) -> bool {
        let Ok(view) = self.node.look(self.honest_feed) else { return false };
        let waits = |agent: &crate::agent::Agent| match &agent.part {
            Part::Requester(requester) => agent.wallet.is_busy() || !requester.backlog.is_empty(),
            // It may have to wake up first, to give back what a backup has done instead.
            Part::Provider(_) => !self.node.balance(agent.address).held.is_zero(),
            Part::Arbiter(_) => false,
        };
        view.index.jobs.values().all(|entry| entry.is_over())
            && view.index.cases.values().all(|case| case.claimed || !(case.open || case.won))
            && !self.agents.iter().any(waits)
    }

    /// Mines a block now, and checks what has to hold.
    fn block_now(&mut self) -> Result<Vec<alloy::rpc::types::TransactionReceipt>, Violation> {
        let mined = self.node.chain.mine_at(EPOCH + self.now / 1_000, None, |_, _| false);
        self.trace.note(self.now, "chain", format_args!("block {} {}", mined.number, mined.hash));
        self.check_block(&mined)?;
        Ok(mined.receipts.to_vec())
    }

    /// I3: what is left is ended by whoever may, as soon as they may.
    fn end_jobs(&mut self) -> Result<(), Violation> {
        for _ in 0..ROUNDS {
            self.mine_what_waits()?;
            let index = self.chain_index()?;
            let errands = self.errands(&index);
            self.node.chain.set_clock(self.unix());
            let mut any = false;
            for (sender, (kind, request)) in errands {
                if self.node.chain.try_call(request.clone().from(sender)).is_ok()
                    && let (Some(to), Some(input)) = (request.to.and_then(|to| to.to().copied()), request.input.input())
                {
                    self.trace.note(self.now, "anybody", format_args!("calls {kind}"));
                    self.node.stage(sender, to, input.clone());
                    self.books.figures.left_over += u64::from(kind != "cancel");
                    any = true;
                }
            }
            if !any && index.jobs.values().all(|entry| entry.is_over()) {
                return Ok(());
            }
            self.block_now()?;
            if !any {
                self.now += ROUND * 1_000;
                self.block_now()?;
            }
        }
        let index = self.chain_index()?;
        let left: Vec<_> =
            index.order.iter().filter(|id| index.job(id).is_some_and(|entry| !entry.is_over())).collect();
        let what = format!("{} jobs have not ended, among them {:?}", left.len(), left.first());
        let words: Vec<_> = left.iter().take(1).map(ToString::to_string).collect();
        Err(self.violation(Invariant::I3, what, &words))
    }

    /// What agents had sent comes first, and what waits behind a nonce that a re-org lost: else it would be mined when nobody looks any more.
    fn mine_what_waits(&mut self) -> Result<(), Violation> {
        let mut blocks = 0;
        while self.node.chain.waiting() > 0 {
            blocks += 1;
            self.check_left(blocks)?;
            if !self.block_now()?.is_empty() {
                continue;
            }
            let senders: BTreeSet<_> = self.node.chain.pool().into_iter().map(|(sender, _)| sender).collect();
            for sender in senders {
                self.node.stage(sender, sender, Bytes::new());
            }
            if self.block_now()?.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// What can be done for jobs that are not over, and by whom: one thing for each job.
    fn errands(&self, index: &Index) -> Vec<(Address, Errand)> {
        let (contracts, now) = (self.node.contracts, self.unix());
        let mut errands = Vec::new();
        for id in &index.order {
            let Some(entry) = index.job(id).filter(|entry| !entry.is_over()) else { continue };
            if keeper::has_open(entry) {
                errands.push((entry.job.requester, keeper::cancel(&contracts, entry)));
                continue;
            }
            let due =
                (0..entry.batch_count() as u32).filter_map(|number| keeper::due(&contracts, index, *id, number, now));
            errands.extend(due.map(|errand| (self.node.holder, errand)));
        }
        for entry in index.order.iter().filter_map(|id| index.job(id)) {
            errands.extend(keeper::releases(&contracts, entry));
        }
        for (id, case) in &index.cases {
            if case.concluded && !case.claimed && (case.open || case.won) {
                let call = Disputes::claimCall { caseId: *id };
                errands.push((self.node.holder, ("claim", keeper::request(contracts.disputes, call))));
            }
        }
        errands
    }

    /// Sends what must succeed.
    fn must(&mut self, what: &str, calls: Vec<(Address, Address, Vec<u8>)>) -> Result<(), Violation> {
        let mut hashes: BTreeSet<_> =
            calls.into_iter().map(|(sender, to, input)| self.node.stage(sender, to, input.into())).collect();
        while !hashes.is_empty() {
            // What an agent left behind may be mined besides.
            let mut receipts = self.block_now()?;
            receipts.retain(|receipt| hashes.remove(&receipt.transaction_hash));
            if let Some(failed) = receipts.iter().find(|receipt| !receipt.status()) {
                let who = self.by_address.get(&failed.from).copied();
                let name = who.map_or_else(|| failed.from.to_string(), |who| format!("#{who}"));
                return Err(self.violation(Invariant::I4, format!("{name} cannot {what}"), &[format!("{name} ")]));
            }
            if receipts.is_empty() {
                let waiting = hashes.len();
                return Err(self.violation(
                    Invariant::I4,
                    format!("{waiting} calls to {what} do not come into any block"),
                    &[],
                ));
            }
        }
        Ok(())
    }

    /// I4: everybody alone takes out what is theirs, and nothing is left.
    pub(crate) fn take_out(&mut self, index: &Index) -> Result<(), Violation> {
        let contracts = self.node.contracts;
        let registered = |account: &Address| index.providers.get(account).is_some_and(|entry| entry.registered);
        let providers: Vec<_> = (0..self.agents.len())
            .map(|who| (who, self.agents[who].address))
            .filter(|(_, account)| registered(account))
            .collect();
        let calls = |input: fn(Address) -> Vec<u8>| {
            providers.iter().map(|(_, account)| (*account, contracts.providers, input(*account))).collect::<Vec<_>>()
        };
        let leaving = index.providers.iter().filter(|(_, entry)| entry.is_exiting()).map(|(account, _)| *account);
        let leaving: Vec<_> = leaving.collect();
        self.must("withdraw its earnings", calls(|provider| ProviderRegistry::withdrawCall { provider }.abi_encode()))?;
        let mut exits = calls(|_| ProviderRegistry::requestExitCall {}.abi_encode());
        exits.retain(|(account, ..)| !leaving.contains(account));
        self.must("ask to leave", exits)?;
        self.now += self.node.settings.exitDelaySeconds.to::<u64>() * 1_000 + 1_000;
        self.block_now()?;
        self.must("leave with its stake", calls(|_| ProviderRegistry::exitCall {}.abi_encode()))?;
        let accounts = (0..self.agents.len()).flat_map(|who| [self.agents[who].address, payout(who)]);
        let balances = accounts.map(|account| (account, self.node.balance(account).available));
        let withdrawals = balances.filter(|(_, amount)| !amount.is_zero());
        let withdrawals = withdrawals
            .map(|(account, amount)| (account, contracts.escrow, Escrow::withdrawCall { amount }.abi_encode()))
            .collect();
        self.must("withdraw from the Escrow", withdrawals)?;
        self.must(
            "burn what was slashed",
            vec![(self.node.holder, contracts.escrow, Escrow::burnCall {}.abi_encode())],
        )?;
        let left = self.node.tokens(contracts.escrow);
        if left != U256::ZERO {
            return Err(self.violation(
                Invariant::I4,
                format!("{left} token wei are left in the Escrow, and nobody can take them"),
                &[],
            ));
        }
        Ok(())
    }
}
