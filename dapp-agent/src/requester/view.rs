//! A batch as its requester sees it, however often it is executed.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use conun_bindings::Rules;

use super::Progress;
use crate::chain::{Ballot, BallotStage, BatchEntry, BatchStage, JobEntry, ReplicaStage};

/// A result that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) root: B256,
    pub(super) fuel: u64,
    /// Who has it, each with the hash of its manifest.
    pub(super) makers: Vec<(Address, [u8; 32])>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Going,
    Paid,
    /// Without a result.
    Nothing,
}

/// What following a job needs to know of a batch.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) found: Option<Found>,
    pub(super) end: End,
    /// Whether the requester can have it paid now.
    pub(super) acceptable: bool,
    /// Whether it is paid, or anybody may have it paid.
    pub(super) due: bool,
}

impl View {
    fn of_batch(batch: &BatchEntry, now: u64) -> Self {
        let has_result = matches!(batch.stage, BatchStage::Submitted | BatchStage::Frozen | BatchStage::Settled);
        let found = Found { root: batch.root, fuel: batch.fuel, makers: vec![(batch.provider, batch.outputs)] };
        Self {
            found: has_result.then_some(found),
            end: match batch.stage {
                BatchStage::Settled => End::Paid,
                BatchStage::Cancelled => End::Nothing,
                _ => End::Going,
            },
            acceptable: batch.stage == BatchStage::Submitted,
            due: batch.stage == BatchStage::Settled || batch.stage == BatchStage::Submitted && now >= batch.deadline,
        }
    }

    fn of_ballot(entry: &JobEntry, number: u32, rules: &Rules, now: u64) -> Option<Self> {
        let (assurance, ballot) = entry.ballot(number)?;
        let believed = ballot.believed(assurance, rules, now);
        let makers = |result| ballot.makers(result).collect::<Vec<_>>();
        let found = believed.map(|(root, fuel)| Found { root, fuel, makers: makers((root, fuel)) });
        let unanimous = found.as_ref().is_some_and(|found| found.makers.len() == ballot.committed());
        Some(Self {
            end: match ballot.stage {
                BallotStage::Settled => End::Paid,
                _ if ballot.is_final() => End::Nothing,
                _ => End::Going,
            },
            acceptable: ballot.stage == BallotStage::Revealing && unanimous,
            due: ballot.stage == BallotStage::Settled
                || ballot.stage == BallotStage::Revealing && found.is_some() && now >= ballot.final_at(&entry.job),
            found,
        })
    }

    /// All batches of a job at block time `now`.
    pub(super) fn all(entry: &JobEntry, rules: &Rules, now: u64) -> Vec<Self> {
        let ballots =
            (0..entry.ballots().count() as u32).filter_map(|number| Self::of_ballot(entry, number, rules, now));
        entry.batches.iter().map(|batch| Self::of_batch(batch, now)).chain(ballots).collect()
    }
}

/// What was told of each batch.
#[derive(Debug, Default)]
pub(super) struct Told {
    batches: Vec<Option<(BatchStage, Address)>>,
    ballots: Vec<Option<Ballot>>,
}

impl Told {
    /// Tells what has changed since the last look.
    pub(super) fn report(&mut self, entry: &JobEntry, tell: &mut impl FnMut(Progress, &JobEntry)) {
        self.batches.resize(entry.batches.len(), None);
        for ((number, batch), told) in (0..).zip(&entry.batches).zip(&mut self.batches) {
            let now = (batch.stage, batch.provider);
            let before = told.replace(now);
            if before == Some(now) {
                continue;
            }
            let provider = batch.provider;
            match batch.stage {
                BatchStage::Open if before.is_some() => tell(Progress::Reopened { batch: number }, entry),
                BatchStage::Open | BatchStage::Frozen | BatchStage::Cancelled => {}
                BatchStage::Leased => tell(Progress::Leased { batch: number, provider }, entry),
                BatchStage::Submitted => tell(Progress::Submitted { batch: number, provider, fuel: batch.fuel }, entry),
                BatchStage::Settled => {
                    let (payment, accepted) = (batch.payment, batch.accepted);
                    tell(Progress::Settled { batch: number, provider, payment, accepted }, entry);
                }
            }
        }
        self.ballots.resize(entry.ballots().count(), None);
        for ((number, ballot), told) in (0..).zip(entry.ballots()).zip(&mut self.ballots) {
            if told.as_ref() != Some(ballot) {
                let before = told.replace(ballot.clone());
                report_ballot(number, before.as_ref(), ballot, &mut |progress| tell(progress, entry));
            }
        }
    }
}

fn report_ballot(batch: u32, before: Option<&Ballot>, ballot: &Ballot, tell: &mut impl FnMut(Progress)) {
    let none = BTreeMap::new();
    let known = before.map_or(&none, |before| &before.replicas);
    for (provider, replica) in &ballot.replicas {
        let stage_before = known.get(provider).map(|replica| replica.stage);
        if stage_before.map(|stage| std::mem::discriminant(&stage)) == Some(std::mem::discriminant(&replica.stage)) {
            continue;
        }
        let provider = *provider;
        match replica.stage {
            ReplicaStage::Leased { .. } => tell(Progress::Leased { batch, provider }),
            ReplicaStage::Committed { .. } => tell(Progress::Committed { batch, provider }),
            ReplicaStage::Revealed { fuel, .. } => tell(Progress::Submitted { batch, provider, fuel }),
            ReplicaStage::Done => {}
        }
    }
    let opened_before = before.map_or(0, |before| before.opened);
    if ballot.opened != opened_before && ballot.opened != 0 {
        tell(Progress::RoundOpened { batch, wanted: ballot.wanted });
    }
    if before.map(|before| before.stage) == Some(ballot.stage) {
        return;
    }
    match ballot.stage {
        BallotStage::Open if before.is_some() => tell(Progress::Reopened { batch }),
        BallotStage::Settled => {
            for (provider, _) in ballot.makers(ballot.best) {
                // Whether it was accepted is not told by the logs: what is paid before its window is over was.
                tell(Progress::Settled { batch, provider, payment: ballot.payment(provider), accepted: false });
            }
        }
        BallotStage::Undecided | BallotStage::Overturned => tell(Progress::Undecided { batch }),
        _ => {}
    }
}
