//! The protocol's invariants, after each block.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    consensus::Header,
    primitives::{Address, B256, Log, U256, keccak256},
    sol_types::{SolEventInterface, SolValue},
};
use conun_agent::chain::Index;
use conun_bindings::{
    Contracts,
    abi::{ConunToken, Escrow, JobRegistry::JobRegistryEvents, ReplicaRegistry::ReplicaRegistryEvents},
};

use crate::{
    Error, What,
    block::{Chain, Done},
};

/// Slot of the Escrow's mapping of balances, each of three slots, and of what may be burned.
const BALANCES: u64 = 0;
const BURNABLE: u64 = 1;
const BALANCE_SLOTS: u64 = 3;

/// What has to hold.
pub(crate) struct Invariants {
    contracts: Contracts,
    /// Accounts by the slots of the Escrow that are theirs.
    owners: BTreeMap<U256, Address>,
    accounts: BTreeSet<Address>,
    /// Tokens of each account in the Escrow, token wei.
    held: BTreeMap<Address, U256>,
    /// Tokens in the Escrow that are nobody's: somebody sent them there.
    surplus: U256,
    /// Batches that were paid.
    paid: BTreeSet<(B256, u32)>,
}

impl Invariants {
    /// From the state before the first block, whose header `header` is.
    pub(crate) fn new(
        contracts: Contracts,
        index: &Index,
        history: &[alloy::rpc::types::Log],
        chain: &mut Chain,
        header: &Header,
    ) -> Result<Self, Error> {
        let mut invariants = Self {
            contracts,
            owners: BTreeMap::new(),
            accounts: BTreeSet::new(),
            held: BTreeMap::new(),
            surplus: U256::ZERO,
            paid: BTreeSet::new(),
        };
        let known = index.providers.keys().copied().chain(index.jobs.values().map(|entry| entry.job.requester));
        known.for_each(|account| invariants.meet(account));
        for log in history {
            invariants.meet_all(&log.inner);
            invariants.payments(&log.inner);
        }
        for account in invariants.accounts.clone() {
            invariants.look(chain, header, account)?;
        }
        // Of somebody who only ever deposited nothing is known yet: what is theirs counts as sent there until it is first moved.
        invariants.surplus = invariants.balance(chain, header)?.saturating_sub(invariants.owed(chain, header)?);
        Ok(invariants)
    }

    fn meet(&mut self, account: Address) {
        if self.accounts.insert(account) {
            let first: U256 = keccak256((account, U256::from(BALANCES)).abi_encode()).into();
            for at in 0..BALANCE_SLOTS {
                self.owners.insert(first + U256::from(at), account);
            }
        }
    }

    /// Everybody whom a log names.
    fn meet_all(&mut self, log: &Log) {
        let words = log.topics().iter().copied().chain(log.data.data.chunks_exact(32).map(B256::from_slice));
        for word in words.filter(|word| word[..12].iter().all(|byte| *byte == 0)) {
            self.meet(Address::from_word(word));
        }
    }

    /// Notes a payment; what is paid a second time.
    fn payments(&mut self, log: &Log) -> Option<What> {
        let batch = if log.address == self.contracts.jobs {
            match JobRegistryEvents::decode_log(log).ok()?.data {
                JobRegistryEvents::BatchSettled(event) => (event.jobId, event.batch),
                _ => return None,
            }
        } else if log.address == self.contracts.replicas {
            match ReplicaRegistryEvents::decode_log(log).ok()?.data {
                ReplicaRegistryEvents::BatchEnded(event) => (event.jobId, event.batch),
                _ => return None,
            }
        } else {
            return None;
        };
        let again = !self.paid.insert(batch);
        again.then(|| What::Invariant { name: "I2", text: format!("batch {} of job {} ended twice", batch.1, batch.0) })
    }

    fn look(&mut self, chain: &mut Chain, header: &Header, account: Address) -> Result<(), Error> {
        let Some(found) = chain.ask(header, self.contracts.escrow, &Escrow::balanceOfCall { account })? else {
            return Ok(());
        };
        let parts =
            [U256::from(found.available), U256::from(found.locked), U256::from(found.earned), U256::from(found.stake)];
        self.held.insert(account, parts.into_iter().sum());
        Ok(())
    }

    fn owed(&self, chain: &mut Chain, header: &Header) -> Result<U256, Error> {
        let burnable = chain.ask(header, self.contracts.escrow, &Escrow::burnableCall {})?.unwrap_or_default();
        Ok(self.held.values().copied().sum::<U256>() + burnable)
    }

    fn balance(&self, chain: &mut Chain, header: &Header) -> Result<U256, Error> {
        let held =
            chain.ask(header, self.contracts.token, &ConunToken::balanceOfCall { account: self.contracts.escrow })?;
        Ok(held.unwrap_or_default())
    }

    /// What a block breaks. `index` is as of its end.
    pub(crate) fn after(
        &mut self,
        chain: &mut Chain,
        header: &Header,
        index: &Index,
        executed: &[Done],
    ) -> Result<Vec<What>, Error> {
        let mut broken = Vec::new();
        let mut jobs = BTreeSet::new();
        for log in executed.iter().flat_map(|done| &done.logs) {
            self.meet_all(log);
            broken.extend(self.payments(log));
            jobs.extend(log.topics().get(1).filter(|id| index.job(id).is_some()));
        }
        let slots = executed.iter().flat_map(|done| &done.slots);
        let changed: BTreeSet<U256> =
            slots.filter(|(contract, _)| *contract == self.contracts.escrow).map(|(_, slot)| *slot).collect();
        for slot in &changed {
            match self.owners.get(slot) {
                Some(account) => self.look(chain, header, *account)?,
                None if *slot == U256::from(BURNABLE) => {}
                None => broken.push(What::Invariant {
                    name: "I1",
                    text: format!("slot {slot:#x} of the Escrow changed, and no log names whose it is"),
                }),
            }
        }
        let (owed, has) = (self.owed(chain, header)?, self.balance(chain, header)?);
        if has < owed + self.surplus {
            let text = format!(
                "the Escrow holds {has} token wei, and owes {owed} beside {} that were sent to it",
                self.surplus
            );
            broken.push(What::Invariant { name: "I1", text });
        }
        self.surplus = has.saturating_sub(owed);
        for id in jobs {
            let Some(entry) = index.job(&id) else { continue };
            let gone = entry.spent() + entry.refunded + entry.burned;
            if gone > entry.deposit {
                let text = format!("{gone} token wei have left job {id}, which had {}", entry.deposit);
                broken.push(What::Invariant { name: "I2", text });
            }
        }
        Ok(broken)
    }
}
