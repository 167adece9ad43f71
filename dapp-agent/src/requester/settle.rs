//! Bringing batches on their way whose time is over, where those whose turn it was do not.
//!
//! Everybody may do this for every job (`contracts/README.md`, the table of exits). Agents do it for batches in which they have stake; a
//! requester needs it when all of those are gone.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256},
    rpc::types::TransactionRequest,
};
use conun_bindings::abi::ReplicaRegistry::ReplicatedJob;
use serde::Serialize;

use super::{
    Error, Requester,
    session::{MAX_ACCEPTED, MAX_VOTES_ACCEPTED},
};
use crate::chain::{Ballot, BallotStage, BatchEntry, BatchStage, Index, JobEntry, ReplicaStage};

/// What was done, by number of the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    /// Leases that had run out were ended.
    pub expired: BTreeSet<u32>,
    /// It was found out whether they are audited.
    pub drawn: BTreeSet<u32>,
    /// Paid, undecided, or in another round.
    pub finalised: BTreeSet<u32>,
    /// Whether batches go on whose disputes are over.
    pub resolved: bool,
}

/// What can be done now about a job.
#[derive(Debug, Default)]
struct Due {
    expired: Vec<u32>,
    /// Leases of slots: the batch, and the transaction.
    slots: Vec<(u32, TransactionRequest)>,
    drawn: Vec<u32>,
    finalised: Vec<u32>,
}

impl Requester {
    /// Does all that is due of a job, whosever it is, until nothing is.
    ///
    /// # Errors
    /// If nothing is due, or the chain fails.
    pub async fn settle(&mut self, id: B256) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        loop {
            self.refresh().await?;
            let entry = self.follower.index().job(&id).ok_or(Error::NoSuchJob(id))?;
            let head = self.follower.head().map_or((0, 0), |head| (head.number, head.timestamp));
            let due = match entry.replicated() {
                None => of_batches(entry, head.1),
                Some(job) => self.of_ballots(job, entry, head),
            };
            let before = settled.clone();
            for (kind, call) in self.calls(entry, &due) {
                self.send(kind, call).await?;
            }
            settled.expired.extend(due.expired.into_iter().chain(due.slots.into_iter().map(|(number, _)| number)));
            settled.drawn.extend(due.drawn);
            settled.finalised.extend(due.finalised);
            settled.resolved |= self.resolve(id).await?;
            // A batch comes to the same point twice only after others had their time.
            if settled == before {
                break;
            }
        }
        if settled == Settled::default() {
            return Err(Error::Nothing(format!(
                "nothing of job {id} is due: `conun job status` says until when each batch is held, can be shown, or disputed"
            )));
        }
        Ok(settled)
    }

    fn calls(&self, entry: &JobEntry, due: &Due) -> Vec<(&'static str, TransactionRequest)> {
        let mut calls: Vec<_> = due.slots.iter().map(|(_, call)| ("expire", call.clone())).collect();
        let Some(job) = entry.replicated() else {
            let (registry, job) = (self.registry(), &entry.job);
            let expired = due.expired.chunks(MAX_ACCEPTED).map(<[u32]>::to_vec);
            calls.extend(expired.map(|some| ("expire", registry.expire(job.clone(), some).into_transaction_request())));
            let submission = |number: &u32| entry.batches[*number as usize].submission(*number);
            let mut standing: Vec<_> = due.finalised.iter().map(submission).collect();
            // Each provider is paid once then.
            standing.sort_by_key(|submission| submission.provider);
            calls.extend(
                standing
                    .chunks(MAX_ACCEPTED)
                    .map(|some| ("finalise", registry.finalise(job.clone(), some.to_vec()).into_transaction_request())),
            );
            return calls;
        };
        let registry = self.replicas();
        let drawn = due.drawn.iter();
        calls.extend(drawn.map(|number| ("draw", registry.draw(job.clone(), *number).into_transaction_request())));
        let tally = |number: &u32| Some(entry.ballot(*number)?.1.tally(*number));
        calls.extend(due.finalised.chunks(MAX_VOTES_ACCEPTED).map(|some| {
            let tallies = some.iter().filter_map(tally).collect();
            ("finalise", registry.finalise(job.clone(), tallies).into_transaction_request())
        }));
        calls
    }

    fn of_ballots(&self, job: ReplicatedJob, entry: &JobEntry, (block, now): (u64, u64)) -> Due {
        let Index { rules, .. } = self.follower.index();
        let mut due = Due::default();
        for (number, ballot) in (0..).zip(entry.ballots()) {
            let Some((assurance, _)) = entry.ballot(number) else { continue };
            let over = ended_leases(ballot, now);
            if !over.is_empty() {
                let registry = self.replicas();
                let expire = |provider| registry.expire(job.clone(), number, provider).into_transaction_request();
                due.slots.extend(over.into_iter().map(|provider| (number, expire(provider))));
                continue;
            }
            let lacks = ballot.stage == BallotStage::Committing && ballot.leased() == 0 && now > ballot.time;
            let drawing =
                ballot.stage == BallotStage::Drawing && ballot.last_commit().is_some_and(|last| block > last + 1);
            if drawing || lacks && ballot.awaits_draw(assurance) {
                due.drawn.push(number);
            } else if ballot.ends_at(assurance, rules, &entry.job).is_some_and(|at| now >= at) {
                due.finalised.push(number);
            }
        }
        due
    }
}

fn of_batches(entry: &JobEntry, now: u64) -> Due {
    let numbers = |is_due: fn(&BatchEntry, u64) -> bool| {
        let numbered = (0..).zip(&entry.batches);
        numbered.filter(|(_, batch)| is_due(batch, now)).map(|(number, _)| number).collect()
    };
    Due {
        expired: numbers(|batch, now| batch.stage == BatchStage::Leased && now > batch.deadline),
        finalised: numbers(|batch, now| batch.stage == BatchStage::Submitted && now >= batch.deadline),
        ..Due::default()
    }
}

/// Who holds a slot of a ballot whose time is over.
fn ended_leases(ballot: &Ballot, now: u64) -> Vec<Address> {
    let is_over = |stage: ReplicaStage| match stage {
        ReplicaStage::Leased { active_block: Some(_), .. } => now > ballot.time,
        ReplicaStage::Leased { deadline, .. } => now > deadline.min(ballot.time),
        _ => false,
    };
    let committing = ballot.stage == BallotStage::Committing;
    let over = ballot.replicas.iter().filter(|(_, replica)| committing && is_over(replica.stage));
    over.map(|(provider, _)| *provider).filter(|provider| !ballot.is_beaten(*provider)).collect()
}
