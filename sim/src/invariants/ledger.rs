//! I4 to the last token wei: what everybody has in the end is what the logs say that they were paid, gave and lost.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Address, I256, U256},
    sol_types::SolEventInterface,
};
use conun_agent::chain::{BallotStage, BatchStage, Index};
use conun_bindings::{
    abi::{Disputes::DisputesEvents, JobRegistry::JobRegistryEvents},
    job,
};

use crate::{
    agent::Part,
    error::{Invariant, Violation},
    world::World,
};

/// Token wei gained, by account.
type Ledger = BTreeMap<Address, I256>;

fn signed(wei: U256) -> I256 {
    I256::try_from(wei).expect("no more than there are tokens")
}

impl World {
    /// Who gained what, by the logs alone; every job is over.
    fn ledger(&self, index: &Index) -> Ledger {
        let mut ledger = Ledger::new();
        let mut add = |account: Address, wei: I256| *ledger.entry(account).or_default() += wei;
        for entry in index.jobs.values() {
            add(entry.job.requester, -signed(entry.deposit - entry.refunded));
            for batch in
                entry.batches.iter().filter(|batch| batch.stage == BatchStage::Settled && batch.payment != U256::ZERO)
            {
                add(batch.provider, signed(job::payment(batch.price, batch.fuel)));
            }
            for ballot in entry.ballots().filter(|ballot| ballot.stage == BallotStage::Settled) {
                ballot.replicas.keys().for_each(|provider| add(*provider, signed(ballot.payment(*provider))));
            }
        }
        self.invariants.stolen.iter().for_each(|(account, wei)| add(*account, -signed(*wei)));
        for agent in &self.agents {
            if let (Part::Provider(provider), Some(entry)) = (&agent.part, index.providers.get(&agent.address)) {
                add(agent.address, signed(entry.stake) - signed(provider.stake));
            }
        }
        let contracts = &self.node.contracts;
        let bond = U256::from(self.node.settings.challengeBond);
        let demand_bond = U256::from(self.node.settings.demandBond);
        let receipts: Vec<_> = (1..=self.node.chain.height()).map(|number| self.node.chain.receipts(number)).collect();
        for log in receipts.iter().flat_map(|receipts| receipts.iter()).flat_map(|receipt| receipt.logs()) {
            if log.address() == contracts.disputes {
                match DisputesEvents::decode_log(&log.inner).map(|event| event.data) {
                    Ok(DisputesEvents::Challenged(event)) => add(event.challenger, -signed(bond)),
                    Ok(DisputesEvents::Demanded(event)) => {
                        let requester = index.job(&event.jobId).map(|entry| entry.job.requester);
                        add(requester.unwrap_or_default(), -signed(demand_bond));
                    }
                    Ok(DisputesEvents::Claimed(event)) => add(event.claimant, signed(event.amount)),
                    Ok(DisputesEvents::Answered(event)) => add(event.provider, signed(demand_bond)),
                    Ok(DisputesEvents::Ruled(event)) if !event.upheld => {
                        add(event.defender, signed(bond / U256::from(2)))
                    }
                    _ => {}
                }
            } else if log.address() == contracts.jobs
                && let Ok(JobRegistryEvents::BatchRejected(event)) =
                    JobRegistryEvents::decode_log(&log.inner).map(|event| event.data)
            {
                // To reject costs as much as a challenge that is lost.
                let requester = index.job(&event.jobId).map(|entry| entry.job.requester);
                add(requester.unwrap_or_default(), -signed(bond));
            }
        }
        ledger
    }

    /// Everybody has what is theirs.
    pub(crate) fn check_ledger(&self, index: &Index) -> Result<(), Violation> {
        let ledger = self.ledger(index);
        for (who, agent) in self.agents.iter().enumerate() {
            let has = self.holds(who);
            let (gained, told) =
                (signed(has) - signed(agent.began_with), ledger.get(&agent.address).copied().unwrap_or_default());
            if gained != told {
                let what = format!("#{who} has gained {gained} token wei, and {told} by what the logs tell");
                return Err(self.violation(Invariant::I4, what, &[format!("#{who} ")]));
            }
        }
        let (has, took) = self.loot();
        if has != took {
            let what = format!("thieves have {has} token wei, and {took} were in the accounts whose keys they have");
            return Err(self.violation(Invariant::I4, what, &[]));
        }
        Ok(())
    }
}
