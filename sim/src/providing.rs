//! Providers: the core's actions on a machine and a network that are not there, and what each strategy does to them.

use std::collections::btree_map::Entry;

use alloy::{consensus::Transaction as _, primitives::U256, sol_types::SolCall};
use conun_agent::{
    chain::ReplicaStage,
    core::{Action, BatchId, Event},
    provider::transactions::{Draft, Drafter},
    store::{ResultRecord, Salt},
};
use conun_bindings::{
    abi::{JobRegistry, ReplicaRegistry},
    commit::BoundTree,
    job,
};

use crate::{
    agent::{Part, Provider, Purpose, Who},
    error::Violation,
    random::Random,
    scenario::{ProviderStrategy, RequesterStrategy},
    truth::Variant,
    world::{Doing, World},
};

/// Milliseconds until a fetch from somebody who does not answer fails.
const FETCH_TIMEOUT_MS: u64 = 10_000;

/// Milliseconds until an agent knows a block's hash.
const HASH_MS: u64 = 150;

/// Milliseconds in which a result is made up.
const MADE_UP_MS: u64 = 50;

/// Bytes of a task in a manifest.
const TASK_BYTES: f64 = 72.0;

impl World {
    /// A provider has looked at the chain.
    pub(crate) fn provide(&mut self, who: Who) -> Result<(), Violation> {
        let me = self.agents[who].address;
        let Some(view) = self.agents[who].view.clone() else { return Ok(()) };
        let Some(entry) = view.index.providers.get(&me) else { return Ok(()) };
        let Some(provider) = self.agents[who].provider() else { return Ok(()) };
        let free_stake = entry.stake.saturating_sub(provider.core.locked_stake(&view.index));
        if self.agents[who].provider().is_some_and(|provider| !provider.remembers) {
            self.remember(who)?;
        }
        self.leave_name(who, entry.stake)?;
        let head = view.head;
        self.step(who, Event::Head { number: head.number, now: head.timestamp, free_stake })?;
        let mined = self.agents[who].wallet.mined.take_if(|(block, _)| *block <= head.number);
        if mined.is_some() {
            self.step(who, Event::Sent)?;
        }
        let Some(provider) = self.agents[who].provider() else { return Ok(()) };
        let over = |id: &alloy::primitives::B256| view.index.job(id).is_none_or(|entry| entry.is_over());
        let done: Vec<_> = provider.prepared.iter().copied().filter(over).collect();
        for job in done {
            if let Some(provider) = self.agents[who].provider() {
                provider.prepared.remove(&job);
            }
            self.step(who, Event::Over(job))?;
        }
        self.copy(who)
    }

    /// A sleeper whose stake was slashed leaves its name behind.
    fn leave_name(&mut self, who: Who, stake: U256) -> Result<(), Violation> {
        let Some(provider) = self.agents[who].provider() else { return Ok(()) };
        let ProviderStrategy::Sleeper { whitewash: true, .. } = provider.strategy else { return Ok(()) };
        if provider.retired || stake * U256::from(10) >= provider.stake * U256::from(9) {
            return Ok(());
        }
        provider.retired = true;
        self.whitewash(who);
        self.step(who, Event::Draining(true))
    }

    /// Something happens to a provider's core; nothing to others.
    pub(crate) fn step(&mut self, who: Who, event: Event) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &mut agent.part) else { return Ok(()) };
        self.books.events += 1;
        let actions = provider.core.step(&view.index, event);
        for action in actions {
            self.act(who, action)?;
        }
        Ok(())
    }

    fn act(&mut self, who: Who, action: Action) -> Result<(), Violation> {
        match action {
            Action::Prepare(id) => {
                let Some(view) = self.agents[who].view.clone() else { return Ok(()) };
                let Some(entry) = view.index.job(&id) else { return Ok(()) };
                let bytes = self.program_bytes(entry.job.requester) + f64::from(entry.job.taskCount) * TASK_BYTES;
                let (after, got) = self.inputs_from(who, entry.job.requester, bytes);
                self.note(who, format_args!("prepares job {id}"));
                if let Some(provider) = self.agents[who].provider() {
                    provider.prepared.insert(id);
                }
                self.plan_for(who, after, Doing::Prepared(id, got));
            }
            Action::Execute(batch) => self.execute(who, batch),
            Action::Abandon(batch) => {
                self.note(who, format_args!("abandons batch {} of {}", batch.1, batch.0));
                if let Some(provider) = self.agents[who].provider() {
                    provider.executing.remove(&batch);
                    provider.copying.remove(&batch);
                }
            }
            Action::BlockHash(number) => self.plan_for(who, HASH_MS, Doing::Hash(number)),
            // Whether others get outputs is asked where they are fetched.
            Action::Publish(_) => {}
            transaction => return self.transact(who, transaction),
        }
        Ok(())
    }

    fn program_bytes(&self, requester: alloy::primitives::Address) -> f64 {
        let terms =
            self.by_address.get(&requester).and_then(|who| self.scenario.requesters.get(self.agents[*who].group));
        terms.map_or(0.0, |terms| terms.job.program_kib * 1024.0)
    }

    /// Fetches from a requester, if it serves anybody.
    fn inputs_from(
        &mut self,
        who: Who,
        requester: alloy::primitives::Address,
        bytes: f64,
    ) -> (u64, Result<(), String>) {
        let Some(from) = self.by_address.get(&requester).copied() else {
            return (FETCH_TIMEOUT_MS, Err("nobody serves it".to_owned()));
        };
        let serves = match &self.agents[from].part {
            Part::Requester(requester) => requester.strategy != RequesterStrategy::Withholding,
            _ => false,
        };
        if serves { self.transfer(from, who, bytes) } else { (FETCH_TIMEOUT_MS, Err("nobody serves it".to_owned())) }
    }

    /// How long it takes to move so many bytes, and whether that works out.
    pub(crate) fn transfer(&mut self, from: Who, to: Who, bytes: f64) -> (u64, Result<(), String>) {
        let loss = self.scenario.network.loss;
        let round_trip = self.scenario.network.latency_millis.draw(&mut self.chance.network).max(0.1);
        if !self.agents[from].is_reachable(self.now) || !self.agents[to].is_reachable(self.now) {
            return (FETCH_TIMEOUT_MS, Err("it cannot be reached".to_owned()));
        }
        // Three attempts to connect.
        if self.chance.network.chance(loss * loss * loss) {
            return (FETCH_TIMEOUT_MS, Err("every attempt to connect was lost".to_owned()));
        }
        let mut rate = self.agents[from].bits_per_ms.min(self.agents[to].bits_per_ms).max(0.1);
        if loss > 0.0 {
            // Mathis et al., 1997: what lost packets leave of a connection.
            rate = rate.min(1.22 * 1_460.0 * 8.0 / (round_trip * libm::sqrt(loss)));
        }
        ((3.0 * round_trip + bytes * 8.0 / rate) as u64, Ok(()))
    }

    /// Which result a provider will give for a batch, and whether it executes anything for it.
    fn choice(&mut self, who: Who, batch: BatchId) -> (Variant, bool) {
        let is_chance = self.posted.get(&batch.0).is_some_and(|(_, chance)| *chance);
        let group = self.agents[who].group;
        // The whole group decides alike.
        let mut of_group = {
            let number = u64::from_be_bytes(batch.0.0[..8].try_into().expect("eight of 32 bytes")) ^ u64::from(batch.1);
            Random::new(self.seed, "group", number.wrapping_add(group as u64))
        };
        let ring = 1 + group as u64;
        let agent = &mut self.agents[who];
        let own = agent.random.bits() | 1 << 63;
        let Part::Provider(provider) = &mut agent.part else { return (0, true) };
        let honest = if is_chance { own } else { 0 };
        match provider.strategy {
            ProviderStrategy::Lazy { share } if agent.random.chance(share) => (own, false),
            ProviderStrategy::Colluding { rate, agreement } if of_group.chance(rate) => {
                (if agent.random.chance(agreement) { ring } else { own }, false)
            }
            ProviderStrategy::Sleeper { honest_batches, .. } if provider.done >= honest_batches => (ring, false),
            _ => (honest, true),
        }
    }

    fn execute(&mut self, who: Who, batch: BatchId) {
        let Some(view) = self.agents[who].view.clone() else { return };
        let Some(entry) = view.index.job(&batch.0) else { return };
        let (variant, works) = self.choice(who, batch);
        let Some(provider) = self.agents[who].provider() else { return };
        provider.executions += 1;
        let (run, strategy) = (provider.executions, provider.strategy);
        provider.executing.insert(batch, run);
        match strategy {
            ProviderStrategy::Squatting => return,
            ProviderStrategy::Copying => {
                provider.copying.insert(batch);
                return;
            }
            _ => {}
        }
        self.note(who, format_args!("begins batch {} of {}", batch.1, batch.0));
        if !works {
            return self.plan_for(who, MADE_UP_MS, Doing::Executed(batch, run, variant, MADE_UP_MS));
        }
        let terms = self.by_address.get(&entry.job.requester).map(|who| self.agents[*who].group);
        let kib = terms.and_then(|group| self.scenario.requesters.get(group)).map_or(0.0, |terms| terms.job.input_kib);
        let bytes = job::tasks_in(&entry.job, batch.1).len() as f64 * kib * 1024.0;
        let (after, got) = self.inputs_from(who, entry.job.requester, bytes);
        // A wrong result needs no work, a right one is known when its inputs are here.
        self.plan_for(who, after, Doing::Inputs(batch, run, got));
    }

    /// Inputs have come, or not: the work begins.
    pub(crate) fn inputs(
        &mut self,
        who: Who,
        batch: BatchId,
        run: u64,
        got: Result<(), String>,
    ) -> Result<(), Violation> {
        let is_chance = self.posted.get(&batch.0).is_some_and(|(_, chance)| *chance);
        let agent = &mut self.agents[who];
        let cut_off = agent.cut_off;
        let own = agent.random.bits() | 1 << 63;
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &mut agent.part) else { return Ok(()) };
        if provider.executing.get(&batch) != Some(&run) {
            return Ok(());
        }
        let got = if cut_off { Err("it cannot be reached".to_owned()) } else { got };
        if let Err(text) = got {
            provider.executing.remove(&batch);
            return self.step(who, Event::NotExecuted(batch, text));
        }
        let Some(entry) = view.index.job(&batch.0) else { return Ok(()) };
        let fuel = self.truth.result(batch, &entry.job, 0).fuel;
        let took = (fuel as f64 / provider.fuel_per_ms) as u64;
        let variant = if is_chance { own } else { 0 };
        self.plan_for(who, took.max(1), Doing::Executed(batch, run, variant, took.max(1)));
        Ok(())
    }

    /// A batch is executed: its result is kept, unless the disk is full.
    pub(crate) fn executed(
        &mut self,
        who: Who,
        batch: BatchId,
        run: u64,
        variant: Variant,
        millis: u64,
    ) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        let (address, group) = (agent.address, agent.group);
        let salt = Salt(agent.random.bytes().into());
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &mut agent.part) else { return Ok(()) };
        if provider.executing.get(&batch) != Some(&run) {
            return Ok(());
        }
        provider.executing.remove(&batch);
        let Some(entry) = view.index.job(&batch.0) else { return Ok(()) };
        if provider.disk.full {
            self.note(who, format_args!("cannot keep batch {} of {}: no space left", batch.1, batch.0));
            return self.step(who, Event::NotExecuted(batch, "no space left on device".to_owned()));
        }
        let result = self.truth.result(batch, &entry.job, variant);
        let bound =
            if entry.assured.is_some() { BoundTree::new(address, &result.leaves).root() } else { Default::default() };
        let record = ResultRecord { root: result.root, fuel: result.fuel, outputs: result.outputs, bound, salt };
        let record = keep(provider, batch, record, variant);
        if millis > MADE_UP_MS {
            self.books.executed(group, result.fuel, millis);
        }
        self.note(who, format_args!("has batch {} of {}: {}", batch.1, batch.0, record.root));
        self.step(who, Event::Executed { batch, record, millis })
    }

    /// A copier looks for something to copy: on the chain, or in what waits for a block.
    fn copy(&mut self, who: Who) -> Result<(), Violation> {
        let agent = &mut self.agents[who];
        let salt = Salt(agent.random.bytes().into());
        let bound = agent.random.bytes().into();
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &mut agent.part) else { return Ok(()) };
        let wanted: Vec<_> = provider.copying.iter().copied().collect();
        for batch in wanted {
            let Some(entry) = view.index.job(&batch.0) else { continue };
            let shown = entry.ballot(batch.1).and_then(|(_, ballot)| {
                ballot.replicas.values().find_map(|replica| match replica.stage {
                    ReplicaStage::Revealed { root, fuel, outputs } => Some((root, fuel, outputs.into())),
                    _ => None,
                })
            });
            let Some((root, fuel, outputs)) = shown.or_else(|| self.seen_waiting(entry, batch)) else { continue };
            let variant = self.truth.variant(outputs).unwrap_or(0);
            let record = ResultRecord { root, fuel, outputs, bound, salt };
            self.note(who, format_args!("copies batch {} of {}", batch.1, batch.0));
            let Some(provider) = self.agents[who].provider() else { continue };
            provider.copying.remove(&batch);
            provider.executing.remove(&batch);
            let record = keep(provider, batch, record, variant);
            self.step(who, Event::Executed { batch, record, millis: 1 })?;
        }
        Ok(())
    }

    /// A result for the batch in a transaction that waits for a block.
    fn seen_waiting(
        &self,
        entry: &conun_agent::chain::JobEntry,
        batch: BatchId,
    ) -> Option<(alloy::primitives::B256, u64, alloy::primitives::B256)> {
        self.node.chain.pool().into_iter().find_map(|(_, tx)| {
            if let Ok(call) = JobRegistry::submitCall::abi_decode(tx.input())
                && call.job == entry.job
            {
                let result = call.results.into_iter().find(|result| result.batch == batch.1)?;
                return Some((result.root, result.fuel, result.outputs));
            }
            let call = ReplicaRegistry::revealCall::abi_decode(tx.input()).ok()?;
            if Some(&call.job) != entry.replicated().as_ref() {
                return None;
            }
            let given = call.reveals.into_iter().find(|given| given.batch == batch.1)?;
            Some((given.root, given.fuel, given.outputs))
        })
    }

    /// Sends what an action is, unless the provider's strategy is against it.
    fn transact(&mut self, who: Who, action: Action) -> Result<(), Violation> {
        if let Some(why) = self.unwilling(who, &action) {
            self.plan_for(who, 1_000, Doing::Failed(why.to_owned()));
            return Ok(());
        }
        let agent = &self.agents[who];
        let (Some(view), Part::Provider(provider)) = (agent.view.clone(), &agent.part) else { return Ok(()) };
        if provider.disk.full && matches!(action, Action::Lease(..) | Action::BackUp(..)) {
            self.plan_for(who, 1, Doing::Failed("no space left on device".to_owned()));
            return Ok(());
        }
        let contracts = self.node.contracts;
        let drafter = Drafter { index: &view.index, contracts: &contracts, me: agent.address };
        let draft = drafter.draft(&action, |id| provider.disk.results.get(&id).map(|(record, _)| *record));
        let of = |id: BatchId| provider.disk.results.get(&id).map_or(0, |(_, variant)| *variant);
        let call = match draft {
            None => Err("a re-org has taken away what it was about".to_owned()),
            Some(Draft::Ready(call)) => Ok(call),
            Some(Draft::RevealOpened(reveal)) => {
                let (id, _) = reveal.manifest();
                match (self.node.chain.hash_of(reveal.block), view.index.job(&id.0)) {
                    (Some(hash), Some(entry)) => {
                        let result = self.truth.result(id, &entry.job, of(id));
                        reveal.complete(&contracts, hash, &result.manifest)
                    }
                    _ => Err(format!("block {} is unknown", reveal.block)),
                }
            }
            Some(Draft::Answer(answer)) => {
                let (id, _) = answer.manifest();
                match (view.index.job(&id.0), &action) {
                    (Some(entry), Action::Answer(case)) => {
                        let result = self.truth.result(id, &entry.job, of(id));
                        let task = view.index.cases.get(case).map_or(0, |case| case.task);
                        let output = self.truth.output(id.0, &entry.job, task, of(id));
                        answer.complete(&contracts, &result.manifest, &output)
                    }
                    _ => Err("a re-org has taken away what it was about".to_owned()),
                }
            }
        };
        match call {
            Ok((kind, request)) => self.send(who, kind, request, Purpose::Action(action)),
            Err(text) => self.plan_for(who, 1, Doing::Failed(text)),
        }
        Ok(())
    }

    /// Why a provider of its kind does not do that.
    fn unwilling(&mut self, who: Who, action: &Action) -> Option<&'static str> {
        let Part::Provider(provider) = &self.agents[who].part else { return None };
        match (provider.strategy, action) {
            (ProviderStrategy::NeverRevealing { rate }, Action::Reveal(job, results)) => {
                let number = results.first().map_or(0, |(number, _)| *number);
                let bits = u64::from_be_bytes(job.0[8..16].try_into().expect("eight of 32 bytes"));
                let mut of_batch = Random::new(self.seed, "reveal", bits ^ u64::from(number) ^ (who as u64) << 32);
                of_batch.chance(rate).then_some("it would rather not")
            }
            (ProviderStrategy::NeverRevealing { .. }, Action::RevealOpened(..)) => Some("it would rather not"),
            (ProviderStrategy::Copying, Action::RevealOpened(..)) => Some("it has no leaves to show"),
            (ProviderStrategy::Withholding, Action::Answer(_)) => Some("it would rather not"),
            _ => None,
        }
    }
}

/// Keeps a result; the first one stays, and is not written once more.
fn keep(provider: &mut Provider, batch: BatchId, record: ResultRecord, variant: Variant) -> ResultRecord {
    provider.done += 1;
    match provider.disk.results.entry(batch) {
        Entry::Occupied(kept) => kept.get().0,
        Entry::Vacant(free) => {
            provider.disk.fresh = Some(batch);
            free.insert((record, variant)).0
        }
    }
}
