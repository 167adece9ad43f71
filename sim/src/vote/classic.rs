//! Known policies, as the literature has them: so many equal votes, BOINC's adaptive replication, Sarmenta's credibility with spot checks.
//!
//! One job after the other; whoever is not barred may get the next. These say nothing about CONUN: they show that this way of counting
//! finds what is known ([`super::market`] is the protocol's own rule).

use crate::random::Random;

use super::Counts;

/// Most that vote about a job before the best group wins anyway.
const MOST_VOTES: usize = 12;

/// Valid results in a row after which BOINC trusts a host.
const BOINC_TRUSTS: u32 = 10;

/// Odds of a voter that cannot be wrong.
const CERTAIN: f64 = 1e18;

/// How a result is believed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// As soon as so many agree.
    Votes {
        /// Equal results.
        quorum: usize,
    },
    /// One result of a host with ten valid ones in a row, and a chance of one in as many to be checked; else two that agree.
    Boinc,
    /// When its group's credibility is at least 1 - ε (Sarmenta, CCGrid 2001; the group's odds as in iExec's PoCo).
    Credibility {
        /// ε, the promised share of wrong results.
        epsilon: f64,
        /// Share of all executions that are spot checks, whose result is known. Who fails one is barred.
        spot_checks: f64,
    },
}

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Population {
    /// Workers.
    pub workers: usize,
    /// How many of them are bad.
    pub bad: usize,
    /// Share of bad ones that credibility assumes (a twentieth at least).
    pub faulty: f64,
    /// Probability that a bad one's result is wrong.
    pub wrong: f64,
    /// Probability that a wrong one is what the others' wrong ones are.
    pub agreement: f64,
    /// Results before a bad one begins.
    pub sleep: u32,
    /// Whether one that is caught comes back under another name.
    pub whitewash: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    bad: bool,
    barred: bool,
    /// Passed checks since the last failure.
    checks: u32,
    results: u32,
}

/// A result: right, wrong like all others of the ring, or wrong in a way of its own.
type Answer = u64;
const RIGHT: Answer = 0;
const AGREED: Answer = 1;

struct Play {
    random: Random,
    population: Population,
    workers: Vec<Worker>,
    results: u64,
    /// Who has given a result to the present job.
    voters: Vec<(usize, Answer)>,
}

/// Plays `jobs` jobs; the first `warm_up` of them are not counted.
pub fn play(policy: Policy, population: Population, jobs: u64, warm_up: u64, seed: u64) -> Counts {
    let random = Random::new(seed, "classic votes", 0);
    let workers =
        (0..population.workers).map(|who| Worker { bad: who < population.bad, ..Worker::default() }).collect();
    let mut play = Play { random, population, workers, results: 0, voters: Vec::new() };
    let mut counts = Counts::default();
    for job in 0..jobs {
        if job == warm_up {
            play.results = 0;
        }
        play.voters.clear();
        let believed = match policy {
            Policy::Votes { quorum } => play.vote(quorum),
            Policy::Boinc => play.boinc(),
            Policy::Credibility { epsilon, spot_checks } => play.credibility(epsilon, spot_checks),
        };
        if job >= warm_up {
            counts.posted += 1;
            counts.accepted += 1;
            counts.wrong += u64::from(believed != RIGHT);
        }
    }
    Counts { results: play.results, ..counts }
}

impl Play {
    fn answer(&mut self, worker: usize) -> Answer {
        self.results += 1;
        let Population { wrong, agreement, sleep, .. } = self.population;
        let found = &mut self.workers[worker];
        found.results += 1;
        if !found.bad || found.results <= sleep || !self.random.chance(wrong) {
            RIGHT
        } else if self.random.chance(agreement) {
            AGREED
        } else {
            self.random.bits() | 2
        }
    }

    /// A worker that is not barred and has not voted yet.
    fn pick(&mut self) -> usize {
        loop {
            let worker = self.random.below(self.workers.len());
            if !self.workers[worker].barred && self.voters.iter().all(|(voter, _)| *voter != worker) {
                return worker;
            }
        }
    }

    /// One more result. Returns it, and how many agree with it.
    fn ask(&mut self) -> (Answer, usize) {
        let worker = self.pick();
        let answer = self.answer(worker);
        self.voters.push((worker, answer));
        (answer, self.voters.iter().filter(|(_, other)| *other == answer).count())
    }

    fn vote(&mut self, quorum: usize) -> Answer {
        loop {
            if let (answer, agreed) = self.ask()
                && agreed >= quorum
            {
                return answer;
            }
        }
    }

    fn boinc(&mut self) -> Answer {
        let (first, _) = self.ask();
        let valid = self.workers[self.voters[0].0].checks;
        if valid >= BOINC_TRUSTS && self.random.chance(1.0 - 1.0 / f64::from(valid)) {
            return first;
        }
        let believed = self.vote(2);
        self.note(believed);
        believed
    }

    fn credibility(&mut self, epsilon: f64, spot_checks: f64) -> Answer {
        loop {
            let mut worker = self.pick();
            while self.random.chance(spot_checks) {
                if self.answer(worker) == RIGHT {
                    self.workers[worker].checks += 1;
                } else {
                    let caught = &mut self.workers[worker];
                    (caught.checks, caught.results) = (0, 0);
                    caught.barred = !self.population.whitewash;
                    worker = self.pick();
                }
            }
            let answer = self.answer(worker);
            self.voters.push((worker, answer));
            let (best, odds, sum) = self.weigh();
            if odds / (1.0 + sum) >= 1.0 - epsilon || self.voters.len() >= MOST_VOTES {
                if self.voters.len() > 1 {
                    self.note(best);
                }
                return best;
            }
        }
    }

    /// The result with the best odds, these, and the odds of all.
    fn weigh(&self) -> (Answer, f64, f64) {
        let assumed = self.population.faulty.max(0.05);
        let odds = |worker: usize| {
            let right = 1.0 - assumed / f64::from(self.workers[worker].checks.max(1));
            if right < 1.0 { right / (1.0 - right) } else { CERTAIN }
        };
        let group = |answer: Answer| {
            self.voters.iter().filter(|(_, other)| *other == answer).map(|(voter, _)| odds(*voter)).product::<f64>()
        };
        let (mut best, mut most, mut sum) = (RIGHT, 0.0, 0.0);
        for (at, (_, answer)) in self.voters.iter().enumerate() {
            if self.voters[..at].iter().any(|(_, earlier)| earlier == answer) {
                continue;
            }
            let odds = group(*answer);
            sum += odds;
            if odds > most {
                (best, most) = (*answer, odds);
            }
        }
        (best, most, sum)
    }

    /// Who agrees with what is believed has passed a check, and who does not starts again.
    fn note(&mut self, believed: Answer) {
        for (voter, answer) in &self.voters {
            let checks = &mut self.workers[*voter].checks;
            *checks = if *answer == believed { *checks + 1 } else { 0 };
        }
    }
}
