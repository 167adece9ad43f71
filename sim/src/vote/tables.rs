//! What is played, and what should come of it: the tables of docs/voting.md.

use alloy::primitives::{Address, B256, U256};
use conun_agent::requester::promise;
use conun_bindings::{
    Rules,
    abi::{JobRegistry::Job, ReplicaRegistry::Assurance},
    deploy::{TOKEN, standard_settings},
};

use super::{
    Counts,
    classic::{self, Population},
    market::{Conduct, Demand, Dice, Market, Terms},
    tail::{self, Backups, Cluster, Tail},
};
use crate::{random::Random, report::interval};

pub use super::classic::Policy;

/// What a result costs whoever executes it, as a share of what it is paid.
pub const COST: f64 = 0.5;

/// A row that others have measured before.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Start-up, steady state or attacks.
    pub table: String,
    /// How results are believed.
    pub policy: Policy,
    /// By whom they are given.
    pub population: Population,
    /// Jobs of one run.
    pub jobs: u64,
    /// The first of them, that are not counted.
    pub warm_up: u64,
    /// Bad workers in each of the runs behind the known figures.
    pub bad: Vec<usize>,
    /// Known share of wrong results.
    pub error: f64,
    /// Known results a job.
    pub redundancy: f64,
}

/// What this model finds for a known row: means over seeds, and how far known figures may lie from them by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Share of wrong results, and its sampling error.
    pub error: (f64, f64),
    /// Results a job, and its sampling error.
    pub redundancy: (f64, f64),
    /// Everything that was counted.
    pub counts: Counts,
}

/// The rows of the voting table, from a model in Python that has nothing in common with this one but the rules.
///
/// # Panics
/// If the checked-in file is no such table.
pub fn known() -> Vec<Known> {
    let rows = include_str!("reference.csv").lines().filter(|line| !line.starts_with('#')).skip(1);
    rows.map(|line| read(line).unwrap_or_else(|| panic!("no row of the reference: {line}"))).collect()
}

fn read(line: &str) -> Option<Known> {
    let fields: Vec<_> = line.split(',').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    let count = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let policy = match *fields.get(1)? {
        "votes" => Policy::Votes { quorum: count(2)? as usize },
        "boinc" => Policy::Boinc,
        "credibility" => Policy::Credibility { epsilon: number(3)?, spot_checks: number(4)? },
        _ => return None,
    };
    let population = Population {
        workers: count(5)? as usize,
        bad: 0,
        faulty: number(6)?,
        wrong: number(7)?,
        agreement: number(8)?,
        sleep: count(9)? as u32,
        whitewash: fields.get(10)?.parse().ok()?,
    };
    let bad = fields.get(13)?.split(' ').map(|bad| bad.parse().ok()).collect::<Option<_>>()?;
    let (jobs, warm_up) = (count(11)?, count(12)?);
    let (error, redundancy) = (number(14)?, number(15)?);
    Some(Known { table: fields[0].to_owned(), policy, population, jobs, warm_up, bad, error, redundancy })
}

impl Known {
    /// Plays the row so many times with each of the known runs' bad workers: their number is chance as well, and weighs most.
    pub fn measure(&self, times: u64) -> Found {
        let mut counts = Counts::default();
        let [mut errors, mut redundancies] = [(0.0, 0.0); 2];
        for (at, bad) in self.bad.iter().enumerate() {
            let population = Population { bad: *bad, ..self.population };
            let run =
                |number| classic::play(self.policy, population, self.jobs, self.warm_up, 100 * at as u64 + number);
            let runs: Vec<_> = (0..times).map(run).collect();
            runs.iter().for_each(|run| counts += *run);
            for (sums, of) in
                [(&mut errors, Counts::error as fn(&Counts) -> f64), (&mut redundancies, Counts::redundancy)]
            {
                let values: Vec<_> = runs.iter().map(of).collect();
                let mean = values.iter().sum::<f64>() / times as f64;
                let squares = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>();
                // The known run is one such, the mean is of `times`.
                *sums = (sums.0 + mean, sums.1 + squares / (times as f64 - 1.0).max(1.0) * (1.0 + 1.0 / times as f64));
            }
        }
        let runs = self.bad.len() as f64;
        let spread =
            |(sum, variance): (f64, f64), least: f64| (sum / runs, (variance / (runs * runs) + least * least).sqrt());
        // Where hardly any is seen, one more or less is chance; the known redundancy is rounded.
        let counted = (self.jobs - self.warm_up) as f64 * runs;
        let one = counts.error().max(1.0 / counted) / counted;
        Found { error: spread(errors, one.sqrt()), redundancy: spread(redundancies, 5e-4), counts }
    }

    /// Whether the known figures are within `errors` sampling errors of what was found.
    pub fn agrees(&self, found: &Found, errors: f64) -> bool {
        let within = |known: f64, (mean, error): (f64, f64)| (known - mean).abs() <= errors * error;
        within(self.error, found.error) && within(self.redundancy, found.redundancy)
    }
}

/// A market to be played again and again.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Providers.
    pub providers: usize,
    /// How many of them are up to something, as a share.
    pub faulty: f64,
    /// And to what.
    pub conduct: Conduct,
    /// Jobs that are not counted.
    pub warm_up: u64,
    /// Jobs that are.
    pub jobs: u64,
    /// What is asked for.
    pub demand: Demand,
    /// Jobs between a vote and its settlement.
    pub window: u64,
    /// The deployment.
    pub rules: Rules,
}

/// What came of a setting.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// All markets together.
    pub counts: Counts,
    /// What an honest provider gained in each market, tokens for a thousand jobs a provider.
    pub honest: Vec<f64>,
    /// What one of the others did.
    pub others: Vec<f64>,
}

impl Measured {
    /// How much less one of the others gains than an honest provider, and half of the 95 % interval around it.
    pub fn loss(&self) -> (f64, f64) {
        let differences: Vec<_> = self.honest.iter().zip(&self.others).map(|(honest, other)| honest - other).collect();
        interval(&differences)
    }
}

/// A deployment as it is on a real network.
pub fn standard_rules() -> Rules {
    Rules::from(&standard_settings(Address::ZERO))
}

/// A job of one batch, of which an execution is paid one token.
pub fn job() -> Job {
    Job {
        requester: Address::ZERO,
        nonce: 0,
        spec: B256::ZERO,
        taskCount: 1,
        batchSize: 1,
        fuelLimit: 1_000_000_000,
        startPrice: TOKEN,
        maxPrice: TOKEN,
        rampStart: 0,
        rampSeconds: 0,
        leaseSeconds: 600,
        windowSeconds: 1,
    }
}

impl Setting {
    /// Who takes part: the first are up to something.
    pub fn conducts(&self) -> Vec<Conduct> {
        let bad = (self.faulty * self.providers as f64).round() as usize;
        (0..self.providers).map(|who| if who < bad { self.conduct } else { Conduct::Honest }).collect()
    }

    /// The market of that seed and number, before its first job.
    pub fn market(&self, seed: u64, number: u64) -> Market {
        let (rules, demand, window) = (self.rules, self.demand.clone(), self.window);
        let terms = Terms { rules, job: job(), demand, stake: rules.min_stake, window };
        Market::new(terms, &self.conducts(), Random::new(seed, "market", number))
    }

    /// Plays as many markets under each seed as `jobs` counted jobs in all take.
    pub fn measure(&self, seeds: u64, jobs: u64) -> Measured {
        let mut measured = Measured::default();
        let markets = jobs.div_ceil(seeds * self.jobs);
        for seed in 1..=seeds {
            for number in 0..markets {
                let mut market = self.market(seed, number);
                let mut dice = Dice::new(seed, number);
                for _ in 0..self.warm_up {
                    market.play(&mut dice);
                }
                market.count_anew();
                for _ in 0..self.jobs {
                    market.play(&mut dice);
                }
                market.finish(&mut dice);
                measured.counts += market.counts;
                let played = (self.warm_up + self.jobs) as f64 / self.providers as f64;
                let gain = |honest: bool| {
                    let of = market.providers.iter().filter(|one| (one.conduct == Conduct::Honest) == honest);
                    let gains: Vec<_> = of.map(|one| one.gain(self.rules.min_stake, COST)).collect();
                    gains.iter().sum::<f64>() / gains.len().max(1) as f64 * 1_000.0 / played
                };
                measured.honest.push(gain(true));
                measured.others.push(gain(false));
            }
        }
        measured
    }
}

/// What a row promises, and what it may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Share of wrong results that must not be exceeded.
    pub error: f64,
    /// Results an accepted job, if that is limited.
    pub redundancy: f64,
}

impl Target {
    /// Whether so many were wrong and it cost no more, with 95 % confidence as to the first.
    pub fn is_met(&self, counts: &Counts) -> bool {
        counts.error_at_most() <= self.error && counts.redundancy() <= self.redundancy
    }
}

/// A row of a table about the protocol's own rule.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is played, in words.
    pub name: String,
    /// The same as it is.
    pub setting: Setting,
    /// What is to come of it; nothing where it only shows what happens.
    pub target: Option<Target>,
    /// So many times the jobs of other rows: rare errors need more.
    pub times: u64,
}

/// What requesters ask for that want no more than one result in 1/`epsilon` to be wrong.
pub fn by_record(epsilon: f64, rules: &Rules) -> Demand {
    let base =
        Assurance { replicas: 1, limit: 1, target: 0, auditBps: 0, minChecks: 0, widenSeconds: 1, revealSeconds: 60 };
    Demand { ways: promise::ways(epsilon, &base, rules), enough: promise::ENOUGH, open: promise::OPEN }
}

const PROMISES: [(f64, f64, f64); 3] = [(1e-3, 1.9, 1.15), (1e-4, f64::INFINITY, 1.3), (1e-6, 2.8, 2.25)];

fn setting(is_steady: bool, faulty: f64, conduct: Conduct, epsilon: f64) -> Setting {
    let rules = standard_rules();
    let demand = by_record(epsilon, &rules);
    // 125 jobs a provider from the first on, or the second thousand jobs of each.
    let (providers, warm_up, jobs) = if is_steady { (40, 40_000, 40_000) } else { (200, 0, 25_000) };
    Setting { providers, faulty, conduct, warm_up, jobs, demand, window: providers as u64, rules }
}

fn rows(epsilon: (f64, f64, f64), faulty: f64, conducts: &[(&str, Conduct, bool)], phases: &[bool]) -> Vec<Row> {
    let (epsilon, start_up, steady) = epsilon;
    let mut rows = Vec::new();
    for is_steady in phases {
        for (name, conduct, has_target) in conducts {
            let phase = if *is_steady { "steady" } else { "start-up" };
            let redundancy = if *is_steady { steady } else { start_up };
            rows.push(Row {
                name: format!("{epsilon:.0e}, {phase}: {name}"),
                setting: setting(*is_steady, faulty, *conduct, epsilon),
                target: has_target.then_some(Target { error: epsilon, redundancy }),
                times: if epsilon < 1e-5 { 4 } else { 1 },
            });
        }
    }
    rows
}

/// A fifth of the providers collude: what each promise comes to and costs.
pub fn rule() -> Vec<Row> {
    let one = Conduct::Lying { rate: 0.1, agreement: 1.0 };
    let all = Conduct::Lying { rate: 1.0, agreement: 1.0 };
    let conducts = [
        ("a fifth lies about one in ten, and alike", one, true),
        ("a fifth always lies, and alike", all, true),
        ("a fifth lies about the same tenth of all jobs", Conduct::Ring { rate: 0.1 }, false),
    ];
    PROMISES.into_iter().flat_map(|promise| rows(promise, 0.2, &conducts, &[false, true])).collect()
}

/// Honest until it is worth it.
pub fn sleepers() -> Vec<Row> {
    let mut all = Vec::new();
    for faulty in [0.1, 0.2] {
        for (epsilon, ..) in PROMISES {
            let ways = by_record(epsilon, &standard_rules()).ways;
            let (checks, is_one) = ways.last().map_or((0, false), |way| (way.minChecks, way.replicas == 1));
            let (climber, patient) = (Conduct::Climber { checks }, Conduct::Patient { checks });
            let mut conducts = vec![
                ("wakes after 1,500 results", Conduct::Sleeper { results: 1_500 }, 1..2),
                ("wakes after 200 results", Conduct::Sleeper { results: 200 }, 1..2),
                ("wakes when it is trusted most", climber, 1..2),
                ("the same to the fifth thousand", climber, 1..5),
                ("lies where it has all votes", Conduct::Hidden, 1..2),
            ];
            if is_one {
                conducts.extend([
                    ("is trusted most, lies where one result is asked for", patient, 1..2),
                    ("the same to the fifth thousand", patient, 1..5),
                    // All of them wake in it, where nobody has been found out before.
                    ("the same from the first job to the second thousand", patient, 0..2),
                ]);
            }
            for (name, conduct, thousands) in conducts {
                let has_target = conduct != Conduct::Hidden && thousands.start > 0;
                let setting = setting(true, faulty, conduct, epsilon);
                let (warm_up, jobs) = (thousands.start * setting.jobs, thousands.count() as u64 * setting.jobs);
                all.push(Row {
                    name: format!("{epsilon:.0e}, {} %: {name}", faulty * 100.0),
                    setting: Setting { warm_up, jobs, ..setting },
                    // Within twice the promise.
                    target: has_target.then_some(Target { error: 2.0 * epsilon, redundancy: f64::INFINITY }),
                    times: if epsilon < 1e-5 { 4 } else { 1 },
                });
            }
        }
    }
    all
}

/// How a job is assured.
fn assurances() -> Vec<(&'static str, Demand)> {
    let assurance = |replicas: u8, limit: u8, target: u32, audit_bps: u16| {
        Demand::fixed(Assurance {
            replicas,
            limit,
            target,
            auditBps: audit_bps,
            minChecks: 0,
            widenSeconds: 1,
            revealSeconds: 60,
        })
    };
    let audits = |audit_bps: u16| assurance(1, 5, 940_000_000, audit_bps);
    vec![
        ("two votes", assurance(2, 7, 940_000_000, 500)),
        ("three votes", assurance(3, 8, 940_000_000, 500)),
        ("two votes, no audits", assurance(2, 4, 940_000_000, 0)),
        ("three votes, no audits", assurance(3, 5, 940_000_000, 0)),
        ("audits of 5 %", audits(500)),
        ("audits of 10 %", audits(1_000)),
        ("audits of 25 %", audits(2_500)),
        ("audits of 50 %", audits(5_000)),
        ("by record, 1e-3", by_record(1e-3, &standard_rules())),
        ("two votes at 0.999", assurance(2, 10, 999_000_000, 500)),
        ("three votes at 0.999", assurance(3, 11, 999_000_000, 500)),
        ("two votes at 0.999, no audits", assurance(2, 7, 999_000_000, 0)),
    ]
}

/// Does cheating pay? Each way of cheating, by a fifth of the providers, under each kind of assurance.
pub fn incomes() -> Vec<Row> {
    let conducts = [
        ("makes everything up", Conduct::Lying { rate: 1.0, agreement: 0.0 }),
        ("makes one in ten up", Conduct::Lying { rate: 0.1, agreement: 0.0 }),
        ("a ring that always lies", Conduct::Ring { rate: 1.0 }),
        ("a ring, one job in ten", Conduct::Ring { rate: 0.1 }),
        ("a sleeper that wakes after 200 results", Conduct::Sleeper { results: 200 }),
        ("a ring that lies where it has all votes", Conduct::Hidden),
    ];
    let mut all = Vec::new();
    let rules = standard_rules();
    for (assurance, demand) in assurances() {
        for (name, conduct) in conducts {
            let demand = demand.clone();
            let setting =
                Setting { providers: 40, faulty: 0.2, conduct, warm_up: 0, jobs: 20_000, demand, window: 40, rules };
            all.push(Row { name: format!("{assurance}: {name}"), setting, target: None, times: 1 });
        }
    }
    all
}

/// Most that a makespan may be of the ideal one where a tenth of the machines are ten times slower.
pub const MOST_MAKESPAN: f64 = 1.2;

/// Most work that may not count, as a share of what does.
pub const MOST_EXTRA: f64 = 0.05;

/// A job on machines of which a tenth is ten times slower without knowing it.
#[derive(Clone, Debug, PartialEq)]
pub struct Ragged {
    /// Batches for each machine.
    pub batches: usize,
    /// Lease time, in times that a batch takes.
    pub lease: f64,
    /// Time before a backup may deliver, in the same.
    pub delay: f64,
}

/// Jobs of 10 to 40 batches a provider, leases of 3 to 12 times what a batch takes, and short batches.
pub fn ragged() -> Vec<Ragged> {
    let mut all: Vec<_> = [10, 20, 40]
        .into_iter()
        .flat_map(|batches| [3.0, 4.0, 6.0, 12.0].map(|lease| Ragged { batches, lease, delay: 0.5 }))
        .collect();
    all.extend([1.0, 2.0, 5.0].map(|delay| Ragged { batches: 20, lease: 6.0, delay }));
    all
}

impl Ragged {
    /// Mean over seeds, with backups and without.
    pub fn measure(&self, seeds: u64) -> (Tail, Tail) {
        const MACHINES: usize = 200;
        let speeds = (0..MACHINES).map(|at| if at % 10 == 0 { 0.1 } else { 1.0 }).collect();
        let backups = Some(Backups { after: self.lease / 2.0, delay: self.delay });
        let cluster = Cluster { speeds, tasks: MACHINES * self.batches, sigma: 0.2, backups, lease: Some(self.lease) };
        let without = Cluster { backups: None, ..cluster.clone() };
        (tail::mean(&cluster, seeds), tail::mean(&without, seeds))
    }
}

/// The sort of the MapReduce paper (OSDI 2004, 5.4), which took 891 s with backup tasks and 1,283 s without, of which the last 300 s and more
/// went by with five tasks left: 4,000 reduce tasks on 1,700 machines, five of them slow enough that the run without backups is such.
pub fn map_reduce(seeds: u64) -> (Tail, Tail) {
    let speeds = (0..1_700).map(|at| if at < 5 { 1.0 / 3.95 } else { 1.0 }).collect();
    let backups = Some(Backups { after: 1.2, delay: 0.0 });
    let cluster = Cluster { speeds, tasks: 4_000, sigma: 0.1, backups, lease: None };
    let without = Cluster { backups: None, ..cluster.clone() };
    (tail::mean(&cluster, seeds), tail::mean(&without, seeds))
}

/// Token wei as tokens.
pub(super) fn tokens(wei: U256) -> f64 {
    wei.to::<u128>() as f64 / TOKEN as f64
}
