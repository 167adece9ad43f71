//! F11: a stolen hot key. Whoever has it takes what the account holds and may waste its stake; what was earned goes to the payout address,
//! which another key decides.

use alloy::{
    primitives::{Address, U256, keccak256},
    sol_types::SolCall as _,
};
use conun_bindings::abi::{ConunToken, Escrow, ProviderRegistry};

use crate::{
    agent::{Part, Who, millis},
    error::{Invariant, Violation},
    scenario::ProviderStrategy,
    world::{Happening, World},
};

/// Where all thieves bring what they take.
pub(crate) fn thief() -> Address {
    Address::from_word(keccak256("conun simulator, thief"))
}

impl World {
    /// Plans the moment at which a provider's key is stolen, if it is.
    pub(crate) fn plan_theft(&mut self, who: Who) {
        if !matches!(self.agents[who].part, Part::Provider(_)) {
            return;
        }
        let group = self.agents[who].group - self.scenario.requesters.len();
        if let Some(stolen) = self.scenario.providers[group].stolen.clone() {
            let at = millis(&stolen, &mut self.chance.faults);
            self.queue.plan(at, Happening::Theft(who));
        }
    }

    /// Somebody else has a provider's hot key.
    pub(crate) fn theft(&mut self, who: Who) -> Result<(), Violation> {
        let (account, contracts) = (self.agents[who].address, self.node.contracts);
        let (tokens, available) = (self.node.tokens(account), self.node.balance(account).available);
        self.node.chain.set_clock(self.unix());
        let turn = ProviderRegistry::setPayoutCall { provider: account, payout: thief() };
        if self.works(account, contracts.providers, turn.abi_encode()) {
            let what = format!("whoever has the hot key of #{who} may turn its earnings to another address");
            return Err(self.violation(Invariant::I9, what, &[format!("#{who} ")]));
        }
        if !available.is_zero() {
            let call = Escrow::withdrawCall { amount: available };
            self.node.stage(account, contracts.escrow, call.abi_encode().into());
        }
        let call = ConunToken::transferCall { to: thief(), value: tokens + available };
        self.node.stage(account, contracts.token, call.abi_encode().into());
        // Out of spite: what was earned reaches its owner all the same.
        let call = ProviderRegistry::withdrawCall { provider: account };
        self.node.stage(account, contracts.providers, call.abi_encode().into());
        if let Some(provider) = self.agents[who].provider() {
            provider.strategy = ProviderStrategy::Squatting;
        }
        *self.invariants.stolen.entry(account).or_default() += tokens + available;
        self.note(who, format_args!("is robbed of {} token wei", tokens + available));
        Ok(())
    }

    /// What thieves have, and what they were seen to take.
    pub(crate) fn loot(&self) -> (U256, U256) {
        let balance = self.node.balance(thief());
        let has = self.node.tokens(thief()) + balance.available + balance.earned + balance.stake;
        (has, self.invariants.stolen.values().sum())
    }
}
