//! I10: a vote ends as its count says. Who is believed is worked out here from the logs, as agents work it out, and compared with what the
//! contract made of it.

use alloy::primitives::B256;
use conun_agent::chain::{BallotStage, Index};

use crate::{
    error::{Invariant, Violation},
    world::World,
};

impl World {
    /// The batches of one job.
    pub(super) fn check_counts(&self, index: &Index, id: B256) -> Result<(), Violation> {
        let Some(entry) = index.job(&id) else { return Ok(()) };
        for number in 0..entry.ballots().count() as u32 {
            let Some((assurance, ballot)) = entry.ballot(number) else { continue };
            if ballot.wanted > usize::from(assurance.limit) {
                let what = format!(
                    "batch {number} of job {id} waits for {} executions, and {} are the most that it may have",
                    ballot.wanted, assurance.limit
                );
                return Err(self.violation(Invariant::I10, what, &[id.to_string()]));
            }
            let Some(count) = ballot.count(assurance, &index.rules) else { continue };
            let (best, told) = (count.best, ballot.best);
            let wrong = match ballot.stage {
                BallotStage::Settled => !count.accepted || best != told,
                BallotStage::Undecided => count.accepted || best != told,
                // A round that opened because what had been shown was not enough.
                BallotStage::Committing => count.accepted,
                _ => false,
            };
            if wrong {
                let believed = if count.accepted { "is believed" } else { "is not believed" };
                let what = format!(
                    "batch {number} of job {id} is {:?} with {} of {told:?}; by its votes {best:?} {believed}, with {} votes",
                    ballot.stage,
                    ballot.revealed(),
                    count.agreed,
                );
                return Err(self.violation(Invariant::I10, what, &[id.to_string()]));
            }
        }
        Ok(())
    }
}
