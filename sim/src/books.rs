//! What a run measures.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use conun_agent::chain::{BallotStage, BatchStage, Claim, Index, JobEntry, ReplicaStage};
use conun_bindings::deploy::TOKEN;
use conun_chain::Mined;
use serde::Serialize;

use crate::{
    agent::{Who, payout},
    requesting::paid_wrong,
    scenario::Scenario,
    world::World,
};

/// One group's figures.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupBooks {
    /// Its name.
    pub name: String,
    /// Requesters or providers.
    pub kind: &'static str,
    /// How many began.
    pub count: u32,
    /// Tokens gained, all of it together: negative for losses. Costs of execution are not counted.
    pub gain: f64,
    /// What executing cost it, tokens.
    pub cost: f64,
    /// Ether spent on gas.
    pub gas_ether: f64,
    /// Gigafuel executed.
    pub gigafuel: f64,
    /// Batches executed.
    pub executions: u64,
    /// Seconds that workers were busy.
    pub busy_seconds: f64,
    /// Stake lost, tokens: leases that ran out, and wrong or withheld results.
    pub stake_lost: f64,
    /// Gain of each agent, tokens.
    pub each: Vec<f64>,
    /// Of requesters: batches posted.
    pub batches: u64,
    /// Those of them that were paid.
    pub settled: u64,
    /// Those of the paid ones of which it can be said whether they are right.
    pub judged: u64,
    /// Those of them that are wrong.
    pub wrong: u64,
    /// Results given for all of them.
    pub results: u64,
}

/// Figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Jobs posted.
    pub jobs: u64,
    /// Batches posted.
    pub batches: u64,
    /// Batches paid for.
    pub settled: u64,
    /// Batches that ended without a payment, or with one that was burned.
    pub unpaid: u64,
    /// Batches that were paid for a wrong result. Results of a program that is chance are neither.
    pub wrong: u64,
    /// Batches that were paid, of programs that are not chance.
    pub judged: u64,
    /// Results given: submitted, committed to or shown.
    pub results: u64,
    /// Results for each batch that was paid.
    pub redundancy: f64,
    /// Tokens that a gigafuel of a paid batch cost its requester, fees included.
    pub cost_per_gigafuel: f64,
    /// Seconds from a job's arrival to its end, for each job that ended with everything paid.
    pub makespans: Vec<f64>,
    /// Share of the time that honest workers were there in which they were busy.
    pub utilisation: f64,
    /// Gas by kind of call.
    pub gas: BTreeMap<&'static str, (u64, u64)>,
    /// Transactions mined, and those that failed.
    pub transactions: u64,
    /// See `transactions`.
    pub failed_transactions: u64,
    /// Calls that were not sent since they would fail.
    pub refused: u64,
    /// Those of them that lost a race.
    pub lost_races: u64,
    /// Those of them whose sender, a provider, had seen the latest block.
    pub foreseeable: u64,
    /// Chunks of outputs that were demanded.
    pub demands: u64,
    /// Those of them that nobody showed.
    pub unanswered: u64,
    /// Calls that anybody may make and that nobody had made when everything was to be over.
    pub left_over: u64,
    /// Re-orgs.
    pub reorgs: u64,
    /// What went wrong with chain, network and machines, by kind: how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Blocks.
    pub blocks: u64,
    /// Events that cores took in.
    pub events: u64,
    /// Groups, requesters first.
    pub groups: Vec<GroupBooks>,
}

/// Figures as they grow.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) figures: Figures,
    pub(crate) events: u64,
    pub(crate) reorgs: u64,
    requesters: usize,
    costs: Vec<f64>,
    ends: BTreeMap<B256, f64>,
}

fn tokens(wei: U256) -> f64 {
    wei.to::<u128>() as f64 / TOKEN as f64
}

impl Books {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let requesters = scenario.requesters.iter().map(|group| (&group.name, "requester", group.count, 0.0));
        let providers = scenario.providers.iter().map(|group| (&group.name, "provider", group.count, group.cost));
        let mut figures = Figures::default();
        let mut costs = Vec::new();
        for (name, kind, count, cost) in requesters.chain(providers) {
            figures.groups.push(GroupBooks { name: name.clone(), kind, count, ..GroupBooks::default() });
            costs.push(cost);
        }
        Self { figures, events: 0, reorgs: 0, requesters: scenario.requesters.len(), costs, ends: BTreeMap::new() }
    }

    pub(crate) fn executed(&mut self, group: usize, fuel: u64, millis: u64) {
        let books = &mut self.figures.groups[group];
        books.gigafuel += fuel as f64 / 1e9;
        books.executions += 1;
        books.busy_seconds += millis as f64 / 1e3;
        books.cost = books.gigafuel * self.costs[group];
    }

    /// Something goes wrong, so many times.
    pub(crate) fn fault(&mut self, kind: &'static str, times: u64) {
        if times > 0 {
            *self.figures.faults.entry(kind).or_default() += times;
        }
    }

    /// A call would have failed; `seen`: its sender, a provider, had seen the latest block.
    pub(crate) fn refused(&mut self, lost: bool, seen: bool) {
        self.figures.refused += 1;
        self.figures.lost_races += u64::from(lost);
        self.figures.foreseeable += u64::from(seen);
    }

    pub(crate) fn mined(&mut self, mined: &Mined) {
        self.figures.blocks += 1;
        self.figures.transactions += mined.receipts.len() as u64;
        self.figures.failed_transactions += mined.receipts.iter().filter(|receipt| !receipt.status()).count() as u64;
    }

    /// A transaction of that kind was paid for by an agent of that group.
    pub(crate) fn gas(&mut self, kind: &'static str, group: usize, gas: u64, price: u128) {
        let entry = self.figures.gas.entry(kind).or_default();
        *entry = (entry.0 + 1, entry.1 + gas);
        if let Some(books) = self.figures.groups.get_mut(group) {
            books.gas_ether += gas as f64 * price as f64 / 1e18;
        }
    }

    /// A job is over; a re-org may say so twice.
    pub(crate) fn over(&mut self, id: B256, now: u64, since: Option<u64>) {
        if let Some(since) = since {
            self.ends.insert(id, now.saturating_sub(since) as f64 / 1e3);
        }
    }
}

impl World {
    /// What an agent has, in the Escrow and outside, under its account and its payout address, token wei.
    pub(crate) fn holds(&self, who: Who) -> U256 {
        let accounts = [self.agents[who].address, payout(who)];
        accounts.into_iter().map(|account| self.node.tokens(account) + self.node.balance(account).total()).sum()
    }

    /// The books at the end: `index` is the chain's.
    pub(crate) fn close_books(&mut self, index: &Index) -> Figures {
        self.books.fault("lie", self.node.lies());
        let mut figures = std::mem::take(&mut self.books.figures);
        let (mut paid, mut fuel) = (0.0, 0.0);
        for id in &index.order {
            let Some(entry) = index.job(id) else { continue };
            let is_chance = self.posted.get(id).is_some_and(|(_, chance)| *chance);
            figures.jobs += 1;
            let mut all = true;
            let owner = self.by_address.get(&entry.job.requester).map(|who| self.agents[*who].group);
            let mut own = GroupBooks::default();
            for number in 0..entry.batch_count() as u32 {
                figures.batches += 1;
                let wrong = paid_wrong(self, index, entry, number);
                figures.settled += u64::from(wrong.is_some());
                figures.unpaid += u64::from(wrong.is_none());
                all &= wrong.is_some();
                if !is_chance {
                    figures.judged += u64::from(wrong.is_some());
                    figures.wrong += u64::from(wrong == Some(true));
                }
                let (results, done) = results(entry, number);
                figures.results += results;
                own.batches += 1;
                own.settled += u64::from(wrong.is_some());
                own.judged += u64::from(wrong.is_some() && !is_chance);
                own.wrong += u64::from(wrong == Some(true) && !is_chance);
                own.results += results;
                if wrong.is_some() {
                    fuel += done as f64 / 1e9;
                }
            }
            if let Some(books) = owner.and_then(|owner| figures.groups.get_mut(owner)) {
                books.batches += own.batches;
                books.settled += own.settled;
                books.judged += own.judged;
                books.wrong += own.wrong;
                books.results += own.results;
            }
            paid += tokens(entry.spent() + entry.burned);
            if all && let Some(makespan) = self.books.ends.get(id) {
                figures.makespans.push(*makespan);
            }
        }
        figures.redundancy = if figures.settled == 0 { 0.0 } else { figures.results as f64 / figures.settled as f64 };
        figures.cost_per_gigafuel = if fuel == 0.0 { 0.0 } else { paid / fuel };
        let demands = index.cases.values().filter(|case| matches!(case.claim, Claim::Withheld(_)));
        figures.demands = demands.clone().count() as u64;
        figures.unanswered = demands.filter(|case| case.open).count() as u64;
        (figures.events, figures.reorgs) = (self.books.events, self.books.reorgs);
        let mut there = 0.0;
        for who in 0..self.agents.len() {
            let agent = &self.agents[who];
            let Some(books) = figures.groups.get_mut(agent.group) else { continue };
            let has = self.holds(who);
            let gain = tokens(has) - tokens(agent.began_with);
            books.gain += gain;
            books.each.push(gain);
            if agent.group >= self.books.requesters
                && let crate::agent::Part::Provider(provider) = &agent.part
            {
                let stake = index.providers.get(&agent.address).map_or(provider.stake, |entry| entry.stake);
                books.stake_lost += tokens(provider.stake.saturating_sub(stake));
                there += f64::from(provider.policy.workers) * self.scenario.seconds as f64;
            }
        }
        let busy = figures.groups.iter().map(|group| group.busy_seconds).sum::<f64>();
        figures.utilisation = if there == 0.0 { 0.0 } else { busy / there };
        figures
    }
}

/// Results that were given for a batch, and the fuel of the one that stands.
fn results(entry: &JobEntry, number: u32) -> (u64, u64) {
    match entry.ballot(number) {
        Some((_, ballot)) => {
            let given = ballot.replicas.values().filter(|replica| {
                matches!(replica.stage, ReplicaStage::Committed { .. } | ReplicaStage::Revealed { .. })
            });
            let fuel = if ballot.stage == BallotStage::Settled { ballot.best.1 } else { 0 };
            (given.count() as u64, fuel)
        }
        None => {
            let Some(batch) = entry.batches.get(number as usize) else { return (0, 0) };
            let given = matches!(batch.stage, BatchStage::Submitted | BatchStage::Settled | BatchStage::Frozen);
            (u64::from(given), batch.fuel)
        }
    }
}
