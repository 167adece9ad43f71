//! How often a vote believes what is wrong, and how many executions that takes: statistics of many jobs, where a whole market
//! ([`crate::run`]) has few.
//!
//! - [`market`]: the protocol's own rule, on the arithmetic that the agent and the contracts share. Tests hold it against the deployed bytecode.
//! - [`classic`]: policies of which the figures are known, to show that known results come out.
//! - [`tail`]: machines that are slow without knowing it, and backups.
//! - [`tables`]: what is played and what should come of it; `conun sim vote` prints it.

pub mod bounds;
pub mod classic;
pub mod market;
pub mod tables;
pub mod tail;

use std::ops::AddAssign;

/// What came of some jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub posted: u64,
    /// Those of which a result was believed.
    pub accepted: u64,
    /// And was wrong.
    pub wrong: u64,
    /// Executions, spot checks and those of undecided jobs included.
    pub results: u64,
    /// Jobs of which no result was believed.
    pub undecided: u64,
    /// Jobs that nobody took.
    pub unserved: u64,
}

impl Counts {
    /// Share of wrong results among those that were believed.
    pub fn error(&self) -> f64 {
        share(self.wrong, self.accepted)
    }

    /// That share is not larger, with 95 % confidence.
    pub fn error_at_most(&self) -> f64 {
        bounds::at_most(self.wrong, self.accepted)
    }

    /// Results for each job of which one was believed.
    pub fn redundancy(&self) -> f64 {
        share(self.results, self.accepted)
    }
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.posted += other.posted;
        self.accepted += other.accepted;
        self.wrong += other.wrong;
        self.results += other.results;
        self.undecided += other.undecided;
        self.unserved += other.unserved;
    }
}
