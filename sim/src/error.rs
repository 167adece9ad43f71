//! What a run can break.

use std::fmt;

/// The invariants of `docs/simulator.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Invariant {
    /// Tokens are conserved.
    I1,
    /// Nobody is paid twice for one thing, and no job costs more than its deposit.
    I2,
    /// Every job ends.
    I3,
    /// Everybody gets out what is theirs.
    I4,
    /// A record costs what it is worth.
    I5,
    /// An agent has one transaction under a nonce, and commits to one result.
    I6,
    /// The index is what a replay gives, and what the contracts hold.
    I8,
    /// What must be refused is refused.
    I9,
    /// A vote ends as its count says.
    I10,
    /// A run comes to an end.
    I11,
    /// Nothing panics.
    Panics,
    /// What the scenario expects of all runs together.
    Expected,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::I1 => "I1 (tokens are conserved)",
            Self::I2 => "I2 (nobody is paid twice, no job costs more than its deposit)",
            Self::I3 => "I3 (every job ends)",
            Self::I4 => "I4 (everybody gets out what is theirs)",
            Self::I5 => "I5 (a record costs what it is worth)",
            Self::I6 => "I6 (one transaction a nonce, one result a batch)",
            Self::I8 => "I8 (the index is what a replay gives and the contracts hold)",
            Self::I9 => "I9 (what must be refused is refused)",
            Self::I10 => "I10 (a vote ends as its count says)",
            Self::I11 => "I11 (a run comes to an end)",
            Self::Panics => "the code itself (nothing panics)",
            Self::Expected => "what the scenario expects",
        };
        f.write_str(text)
    }
}

/// An invariant that broke.
#[derive(Clone, Debug, serde::Serialize, thiserror::Error)]
#[error("{invariant} broke at step {step} of seed {seed}: {what}")]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Under which seed.
    pub seed: u64,
    /// After how many steps.
    pub step: u64,
    /// What is wrong.
    pub what: String,
    /// The last steps that have to do with it.
    pub trace: Vec<String>,
}
