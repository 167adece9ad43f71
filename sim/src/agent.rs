//! Everybody who has an account: where they are, what they send, and who they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    rc::Rc,
};

use alloy::{
    primitives::{Address, B256, U256, keccak256},
    rpc::types::TransactionRequest,
};
use conun_agent::{
    core::{Action, BatchId, Core},
    store::ResultRecord,
};

use crate::{
    node::{FeedId, View},
    random::{Distribution, Random},
    scenario::{ProviderStrategy, RequesterStrategy},
    truth::Variant,
};

/// Number of an agent.
pub(crate) type Who = usize;

/// An account of number `who`; nobody needs its key.
pub(crate) fn address(who: Who) -> Address {
    Address::from_word(keccak256(format!("conun simulator, account {who}")))
}

/// Where what it earns goes.
pub(crate) fn payout(who: Who) -> Address {
    Address::from_word(keccak256(format!("conun simulator, payout of {who}")))
}

/// What a transaction is for.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// An action of a provider's core.
    Action(Action),
    /// A requester's own; what came of it is seen on the chain.
    Errand,
    /// It was sent before a restart or a re-org, and is brought to its end first.
    Resumed,
}

/// A transaction that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub(crate) kind: &'static str,
    pub(crate) purpose: Purpose,
    pub(crate) nonce: u64,
    pub(crate) request: TransactionRequest,
    pub(crate) gas: u64,
    pub(crate) fee: u128,
    pub(crate) tip: u128,
    pub(crate) hashes: Vec<B256>,
    pub(crate) attempts: u32,
}

/// One transaction at a time, as the agent's sender does it.
#[derive(Debug, Default)]
pub(crate) struct Wallet {
    /// What was sent under the latest nonces; durable.
    pub(crate) outbox: VecDeque<Live>,
    pub(crate) live: Option<Live>,
    /// What comes next, estimated and sent once nothing is in the way.
    pub(crate) next: Option<(&'static str, TransactionRequest, Purpose)>,
    /// An action that was mined, and in which block: told to the core when the index shows it.
    pub(crate) mined: Option<(u64, Action)>,
    /// Block of the latest transaction: before the index shows it, nobody knows what is next.
    pub(crate) latest_block: u64,
    /// Calls that it has tried so far.
    pub(crate) calls: u64,
}

impl Wallet {
    pub(crate) fn is_busy(&self) -> bool {
        self.live.is_some() || self.next.is_some()
    }

    /// What a crash leaves.
    pub(crate) fn crash(&mut self) {
        (self.live, self.next, self.mined) = (None, None, None);
    }
}

/// Somebody with an account.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) address: Address,
    /// Index of its group, requesters' first.
    pub(crate) group: usize,
    pub(crate) wallet: Wallet,
    pub(crate) random: Random,
    pub(crate) feed: FeedId,
    pub(crate) view: Option<Rc<View>>,
    /// Bandwidth, bits a millisecond.
    pub(crate) bits_per_ms: f64,
    pub(crate) poll_ms: u64,
    /// Runs: not crashed, not yet to join.
    pub(crate) up: bool,
    /// Reaches nobody.
    pub(crate) cut_off: bool,
    /// Millisecond until which the machine sleeps.
    pub(crate) asleep_until: u64,
    /// What was planned for an earlier life is not for this one.
    pub(crate) life: u32,
    /// Tokens that it began with, token wei.
    pub(crate) began_with: U256,
    pub(crate) part: Part,
}

/// What an agent is.
#[derive(Debug)]
pub(crate) enum Part {
    Provider(Box<Provider>),
    Requester(Box<Requester>),
    /// Rules on challenges; those that it knows.
    Arbiter(BTreeSet<B256>),
}

/// What survives a crash.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) results: BTreeMap<BatchId, (ResultRecord, Variant)>,
    pub(crate) full: bool,
    /// The last result kept, as long as nothing that was sent depends on it.
    pub(crate) fresh: Option<BatchId>,
}

/// A provider: the real core, on a machine that is not.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) core: Core,
    pub(crate) policy: conun_agent::core::Policy,
    pub(crate) strategy: ProviderStrategy,
    /// Units of fuel a millisecond.
    pub(crate) fuel_per_ms: f64,
    pub(crate) max_fee: Option<u128>,
    pub(crate) stake: U256,
    pub(crate) disk: Disk,
    /// Batches being executed, each with the number of its execution.
    pub(crate) executing: BTreeMap<BatchId, u64>,
    pub(crate) executions: u64,
    /// Jobs whose program and manifest are here.
    pub(crate) prepared: BTreeSet<B256>,
    /// Batches for which something to copy is awaited.
    pub(crate) copying: BTreeSet<BatchId>,
    /// Batches done.
    pub(crate) done: u32,
    /// It has read its journal since it started.
    pub(crate) remembers: bool,
    /// It has left this name behind.
    pub(crate) retired: bool,
}

/// A requester: not the real one, which has no pure core, but one that does the same calls.
#[derive(Debug)]
pub(crate) struct Requester {
    pub(crate) strategy: RequesterStrategy,
    /// Index in the scenario's list.
    pub(crate) terms: usize,
    /// Jobs that are due to be posted, each with the moment.
    pub(crate) backlog: VecDeque<u64>,
    /// A job that is being posted.
    pub(crate) posting: Option<B256>,
    pub(crate) jobs: BTreeMap<B256, OwnJob>,
    pub(crate) nonce: u64,
}

/// A job of one's own.
#[derive(Debug, Default)]
pub(crate) struct OwnJob {
    /// Block time at which it was first seen.
    pub(crate) seen: u64,
    pub(crate) over: bool,
    /// Batches being fetched.
    pub(crate) collecting: BTreeSet<u32>,
    /// Batches whose outputs are here, by root.
    pub(crate) verified: BTreeMap<u32, B256>,
    /// Batches that were found wrong, by root, and the task.
    pub(crate) wrong: BTreeMap<u32, (B256, u32)>,
    /// Batches that were disputed, by root.
    pub(crate) disputed: BTreeMap<u32, B256>,
    /// Attempts to fetch, by batch.
    pub(crate) tries: BTreeMap<u32, u32>,
    /// Anything of it was leased.
    pub(crate) leased: bool,
}

impl Agent {
    pub(crate) fn provider(&mut self) -> Option<&mut Provider> {
        if let Part::Provider(provider) = &mut self.part { Some(provider) } else { None }
    }

    pub(crate) fn requester(&mut self) -> Option<&mut Requester> {
        if let Part::Requester(requester) = &mut self.part { Some(requester) } else { None }
    }

    /// Whether others reach it at millisecond `now`.
    pub(crate) fn is_reachable(&self, now: u64) -> bool {
        self.up && !self.cut_off && self.asleep_until <= now
    }
}

/// A drawn number of seconds, as milliseconds, at least one.
pub(crate) fn millis(seconds: &Distribution, random: &mut Random) -> u64 {
    ((seconds.draw(random) * 1_000.0) as u64).max(1)
}
