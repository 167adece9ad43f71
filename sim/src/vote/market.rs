//! The protocol's own rule: votes weighed by record, audits by lot, stake at risk.
//!
//! Jobs of one batch, one after the other. Who leases a slot is drawn evenly among those that may: stakes are equal, and so are chances in
//! a lot. Votes are weighed by [`conun_bindings::replicas::tally`], the arithmetic of the contracts that the agent uses as well; who is paid,
//! slashed and gets a check is what `ReplicaRegistry` makes of it. Everything that happens is told to a [`Stage`], which has a say in
//! whether a batch is audited: the tests' stage does it all on the deployed bytecode, and compares.
//!
//! Left out: time but for the order of events, gas, prices, expiries, requesters that cheat.

use std::collections::VecDeque;

use alloy::primitives::{B256, U256};
use conun_bindings::{
    Rules,
    abi::{JobRegistry::Job, ReplicaRegistry::Assurance},
    job,
    replicas::{self, Tally, Vote},
};

use super::{Counts, tables::tokens};
use crate::random::Random;

/// Number of a provider.
pub type Who = usize;

/// A result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What executing gives.
    Right,
    /// Wrong, and the same as that of all others in the ring.
    Agreed,
    /// Wrong in a way of its own.
    Alone(u32),
}

impl Answer {
    /// Root and fuel under which the answer is voted for: all of the same fuel, so that all are paid the same.
    pub fn result(self, fuel: u64) -> (B256, u64) {
        let number = match self {
            Self::Right => 1,
            Self::Agreed => 2,
            Self::Alone(number) => 3 + u64::from(number),
        };
        (B256::from(U256::from(number)), fuel)
    }
}

/// What a provider is up to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Conduct {
    /// Executes everything.
    Honest,
    /// Lies now and then, whatever the others do.
    Lying {
        /// Probability of a wrong result.
        rate: f64,
        /// Probability that a wrong one is the ring's.
        agreement: f64,
    },
    /// Lies about jobs on which the ring has agreed beforehand, so that all of it lies at once.
    Ring {
        /// Share of those jobs.
        rate: f64,
    },
    /// Honest for so many results, then always wrong, as all others that are awake; sleeps again once it has lost a vote, which is what
    /// coming back under a new name amounts to: either way the record is gone.
    Sleeper {
        /// Results before it wakes.
        results: u32,
    },
    /// The same, awake as soon as its record is so good.
    Climber {
        /// Passed checks.
        checks: u32,
    },
    /// The same, and only where one result is asked for and nobody but the ring has given another: no vote shows what it does, audits alone.
    Patient {
        /// Passed checks.
        checks: u32,
    },
    /// Reads on the chain who else holds a slot of the batch, and lies where all of them, two at least, are of the ring and would be believed.
    Hidden,
}

/// One provider: conduct, record, money.
#[derive(Clone, Debug)]
pub struct Provider {
    /// What it is up to.
    pub conduct: Conduct,
    /// Checks passed since its last fault.
    pub checks: u32,
    /// Votes lost.
    pub failed: u32,
    /// Stake, token wei.
    pub stake: U256,
    /// Part of it that leases and open windows hold, token wei.
    pub held: U256,
    /// Earned, token wei.
    pub earned: U256,
    /// Results, made up or not.
    pub results: u64,
    /// Those that it executed.
    pub executed: u64,
    /// Results since it last lost a vote.
    awake_in: u32,
}

impl Provider {
    /// What it has gained since it staked `stake` token wei, in tokens, if executing costs that share of what it is paid.
    pub fn gain(&self, stake: U256, cost: f64) -> f64 {
        tokens(self.earned) + tokens(self.stake) - tokens(stake) - cost * self.executed as f64
    }
}

/// A vote, and whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Whose.
    pub provider: Who,
    /// Passed checks when the lease was taken.
    pub checks: u32,
    /// The result.
    pub answer: Answer,
}

/// What became of a batch.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Number of its job.
    pub job: u64,
    /// All votes, in the order of the commits.
    pub votes: Vec<Cast>,
    /// The best group and whether it is believed; then its voters are paid, and the others lose their locks.
    pub tally: Tally,
    /// What a lease of it held, token wei.
    pub lock: U256,
    due: u64,
}

/// Who hears of everything, and says what chance says on a chain.
pub trait Stage {
    /// A job is posted.
    fn posted(&mut self, job: u64, assurance: &Assurance);
    /// These providers hold the slots of a round now.
    fn leased(&mut self, votes: &[Cast]);
    /// One of them has committed.
    fn committed(&mut self, vote: &Cast);
    /// Whether the batch is audited: if its first round lacks commits, or its lot says so.
    fn is_audited(&mut self, lacks_commits: bool, audit_bps: u16) -> bool;
    /// The votes are revealed and counted, and one more slot opens.
    fn continued(&mut self, votes: &[Cast]);
    /// The votes are revealed and counted, and that is the end: it is paid some time later.
    fn revealed(&mut self, votes: &[Cast]);
    /// Stakes, records and payments are as the ending says.
    fn settled(&mut self, ending: &Ending, providers: &[Provider]);
}

/// Chance alone.
#[derive(Debug)]
pub struct Dice(Random);

impl Dice {
    /// Of the market with that seed and number.
    pub fn new(seed: u64, number: u64) -> Self {
        Self(Random::new(seed, "audits", number))
    }
}

impl Stage for Dice {
    fn posted(&mut self, _: u64, _: &Assurance) {}
    fn leased(&mut self, _: &[Cast]) {}
    fn committed(&mut self, _: &Cast) {}
    fn is_audited(&mut self, lacks_commits: bool, audit_bps: u16) -> bool {
        lacks_commits || self.0.chance(f64::from(audit_bps) / 10_000.0)
    }
    fn continued(&mut self, _: &[Cast]) {}
    fn revealed(&mut self, _: &[Cast]) {}
    fn settled(&mut self, _: &Ending, _: &[Provider]) {}
}

/// What requesters ask for. Those that are alike ask for what the records on the chain allow.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// Ways to have a result assured, the first for anybody, each further one for providers with better records (`minChecks`).
    pub ways: Vec<Assurance>,
    /// Share of all providers that must have the record of a way before it is taken.
    pub enough: f64,
    /// Share of the jobs that newcomers may do whatever the others' records: they take the first way.
    pub open: f64,
}

impl Demand {
    /// Always the same.
    pub fn fixed(assurance: Assurance) -> Self {
        Self { ways: vec![assurance], enough: 0.0, open: 0.0 }
    }
}

/// Everything that does not change while jobs are played.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What the deployment's settings say.
    pub rules: Rules,
    /// The jobs, all alike: one batch.
    pub job: Job,
    /// What is asked for.
    pub demand: Demand,
    /// Stake of each provider at first, token wei.
    pub stake: U256,
    /// Jobs that are posted between a vote and its settlement: the window.
    pub window: u64,
}

/// Providers, and what they have done.
#[derive(Debug)]
pub struct Market {
    /// All of them.
    pub providers: Vec<Provider>,
    /// What came of the jobs so far.
    pub counts: Counts,
    terms: Terms,
    random: Random,
    jobs: u64,
    pending: VecDeque<Ending>,
    /// For each way, how many providers have its record.
    experienced: Vec<usize>,
    payment: U256,
    /// Whether agreeing earns a check.
    checked: bool,
}

impl Market {
    /// Nobody has done anything yet.
    pub fn new(terms: Terms, conducts: &[Conduct], random: Random) -> Self {
        let made = |conduct: &Conduct| Provider {
            conduct: *conduct,
            checks: 0,
            failed: 0,
            stake: terms.stake,
            held: U256::ZERO,
            earned: U256::ZERO,
            results: 0,
            executed: 0,
            awake_in: 0,
        };
        let payment = job::payment(terms.job.maxPrice, terms.job.fuelLimit);
        let fee = payment * U256::from(terms.rules.fee_bps) / U256::from(10_000);
        let has_record = |way: &Assurance| if way.minChecks == 0 { conducts.len() } else { 0 };
        Self {
            experienced: terms.demand.ways.iter().map(has_record).collect(),
            providers: conducts.iter().map(made).collect(),
            counts: Counts::default(),
            checked: fee >= terms.rules.check_fee,
            payment,
            terms,
            random,
            jobs: 0,
            pending: VecDeque::new(),
        }
    }

    /// What has been counted so far does not count.
    pub fn count_anew(&mut self) {
        self.counts = Counts::default();
    }

    /// Plays one job.
    pub fn play(&mut self, stage: &mut impl Stage) {
        let job = self.jobs;
        self.jobs += 1;
        while self.pending.front().is_some_and(|ending| ending.due <= job) {
            self.settle_next(stage);
        }
        let assurance = self.demanded();
        let lock = job::lease_lock(&self.terms.job, 0, replicas::audit_bps(&assurance, &self.terms.rules));
        stage.posted(job, &assurance);
        self.counts.posted += 1;
        let ring_lies = self.random.unit();
        let mut votes: Vec<Cast> = Vec::with_capacity(assurance.replicas.into());
        let (mut wanted, mut drawn) = (usize::from(assurance.replicas), false);
        let tally = loop {
            let before = votes.len();
            while votes.len() < wanted
                && let Some(provider) = self.draw(&votes, &assurance, lock)
            {
                self.providers[provider].held += lock;
                votes.push(Cast { provider, checks: self.providers[provider].checks, answer: Answer::Right });
            }
            let came = votes.len() > before;
            if votes.is_empty() {
                self.counts.unserved += 1;
                return;
            }
            if came {
                stage.leased(&votes[before..]);
                self.answer(&mut votes, before, ring_lies, &assurance);
                votes[before..].iter().for_each(|vote| stage.committed(vote));
                self.counts.results += (votes.len() - before) as u64;
            }
            if assurance.auditBps != 0 && before == 0 && stage.is_audited(votes.len() < wanted, assurance.auditBps) {
                drawn = true;
                wanted = votes.len() + 1;
                continue;
            }
            let tally = self.tally(&votes, drawn, &assurance);
            if tally.accepted || !came || votes.len() >= usize::from(assurance.limit) {
                break tally;
            }
            stage.continued(&votes);
            wanted = votes.len() + 1;
        };
        stage.revealed(&votes);
        if tally.accepted {
            self.counts.accepted += 1;
            self.counts.wrong += u64::from(tally.best != Answer::Right.result(self.terms.job.fuelLimit));
        } else {
            self.counts.undecided += 1;
        }
        self.pending.push_back(Ending { job, votes, tally, lock, due: job + self.terms.window });
        if self.terms.window == 0 {
            self.settle_next(stage);
        }
    }

    /// Settles everything that is in its window still.
    pub fn finish(&mut self, stage: &mut impl Stage) {
        while !self.pending.is_empty() {
            self.settle_next(stage);
        }
    }

    fn demanded(&mut self) -> Assurance {
        let demand = &self.terms.demand;
        let enough = demand.enough * self.providers.len() as f64;
        let best = self.experienced.iter().rposition(|count| *count as f64 >= enough).unwrap_or(0);
        let way = if self.random.chance(demand.open) { 0 } else { best };
        demand.ways[way].clone()
    }

    /// Somebody who may lease a slot, each with the same chance.
    fn draw(&mut self, votes: &[Cast], assurance: &Assurance, lock: U256) -> Option<Who> {
        let may = |who: &Who| {
            let provider = &self.providers[*who];
            provider.checks >= assurance.minChecks
                && provider.stake - provider.held >= lock
                && votes.iter().all(|vote| vote.provider != *who)
        };
        let count = self.providers.len();
        // Mostly one of the first few may.
        if let Some(who) = (0..8).map(|_| self.random.below(count)).find(may) {
            return Some(who);
        }
        let all: Vec<_> = (0..count).filter(may).collect();
        if all.is_empty() { None } else { Some(all[self.random.below(all.len())]) }
    }

    /// The answers of those who came in this round, who know who holds which slot.
    fn answer(&mut self, votes: &mut [Cast], from: usize, ring_lies: f64, assurance: &Assurance) {
        let alone = votes.len() > 1
            && votes.iter().all(|vote| self.providers[vote.provider].conduct == Conduct::Hidden)
            && self.tally(votes, false, assurance).accepted;
        let shown = assurance.replicas > 1 || votes[..from].iter().any(|vote| vote.answer != Answer::Agreed);
        for vote in &mut votes[from..] {
            let provider = &mut self.providers[vote.provider];
            vote.answer = match provider.conduct {
                Conduct::Honest => Answer::Right,
                Conduct::Lying { rate, agreement } => {
                    if !self.random.chance(rate) {
                        Answer::Right
                    } else if self.random.chance(agreement) {
                        Answer::Agreed
                    } else {
                        Answer::Alone(self.random.bits() as u32)
                    }
                }
                Conduct::Ring { rate } if ring_lies < rate => Answer::Agreed,
                Conduct::Sleeper { results } if provider.awake_in >= results => Answer::Agreed,
                Conduct::Climber { checks } if provider.checks >= checks => Answer::Agreed,
                Conduct::Patient { checks } if provider.checks >= checks && !shown => Answer::Agreed,
                Conduct::Hidden if alone => Answer::Agreed,
                Conduct::Ring { .. }
                | Conduct::Sleeper { .. }
                | Conduct::Climber { .. }
                | Conduct::Patient { .. }
                | Conduct::Hidden => Answer::Right,
            };
            provider.results += 1;
            provider.executed += u64::from(vote.answer == Answer::Right);
            provider.awake_in = provider.awake_in.saturating_add(1);
        }
    }

    fn tally(&self, votes: &[Cast], drawn: bool, assurance: &Assurance) -> Tally {
        let fuel = self.terms.job.fuelLimit;
        let vote = |cast: &Cast| Vote { result: Some(cast.answer.result(fuel)), checks: cast.checks };
        let votes: Vec<_> = votes.iter().map(vote).collect();
        replicas::tally(&votes, drawn, assurance, &self.terms.rules).expect("there are votes, and all are revealed")
    }

    fn settle_next(&mut self, stage: &mut impl Stage) {
        let Some(ending) = self.pending.pop_front() else { return };
        for vote in &ending.votes {
            let agrees = vote.answer.result(self.terms.job.fuelLimit) == ending.tally.best;
            let provider = &mut self.providers[vote.provider];
            provider.held -= ending.lock;
            if !ending.tally.accepted {
                continue;
            }
            if agrees {
                provider.earned += self.payment;
                if ending.tally.agreed > 1 && self.checked {
                    let checks = provider.checks + 1;
                    self.set_checks(vote.provider, checks);
                }
            } else {
                provider.stake -= ending.lock;
                provider.failed += 1;
                provider.awake_in = 0;
                // Who wants to go on stakes what it earned.
                let missing = (self.terms.stake - provider.stake).min(provider.earned);
                (provider.stake, provider.earned) = (provider.stake + missing, provider.earned - missing);
                self.set_checks(vote.provider, 0);
            }
        }
        stage.settled(&ending, &self.providers);
    }

    fn set_checks(&mut self, who: Who, checks: u32) {
        let before = std::mem::replace(&mut self.providers[who].checks, checks);
        for (way, count) in self.terms.demand.ways.iter().zip(&mut self.experienced) {
            *count = *count + usize::from(checks >= way.minChecks) - usize::from(before >= way.minChecks);
        }
    }
}
