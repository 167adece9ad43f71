//! What the owner may want to know: what is being done, and why the rest is not.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};
use serde::Serialize;

use super::{BatchId, Core, Looked, SkipReason, Worth};
use crate::chain::{
    Ballot, BallotStage, BatchEntry, BatchStage, CaseEntry, Claim, Index, JobEntry, Loss, ReplicaStage,
};

/// What the core would tell its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Batches being executed.
    pub executing: Vec<BatchId>,
    /// Batches held on chain.
    pub held: usize,
    /// Results committed to, or whose window is open.
    pub submitted: usize,
    /// Jobs not worked on, and why.
    pub skipped: Vec<(B256, SkipReason)>,
}

/// What came of a job that was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// It has batches of this provider's.
    Taken(Taken),
    /// It has none.
    Skipped(SkipReason),
}

/// This provider's part of a job, in batches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// Held, to be executed.
    pub held: usize,
    /// Committed to, submitted, or disputed.
    pub standing: usize,
    /// Paid.
    pub paid: usize,
    /// Given back, lost to somebody else, outvoted or undecided.
    pub lost: usize,
    /// What is said against its results.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<Disputed>,
    /// Stake that it cost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
    /// Why nothing more of it is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest: Option<SkipReason>,
}

/// Something said against a result of this provider's, whose batch is frozen until that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disputed {
    /// The dispute.
    pub case: B256,
    /// The job.
    pub job: B256,
    /// The batch.
    pub batch: u32,
    /// Index of the task in the job.
    pub task: u32,
    /// `wrong` or `withheld`.
    pub claim: &'static str,
    /// Who says so, if it is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Address>,
    /// `open`: to be ruled, or answered by this provider; `upheld` or `dismissed` by the arbiter; `answered`; `lapsed`: neither was done in time.
    pub state: &'static str,
    /// Block time until which it can be ruled or answered.
    pub deadline: u64,
    /// Block time from which the batch goes on.
    pub goes_on_at: u64,
    /// Stake that the batch locks, token wei.
    pub at_risk: U256,
}

impl Taken {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn add_batch(&mut self, batch: &BatchEntry, me: Address) {
        if batch.provider != me {
            return;
        }
        match batch.stage {
            BatchStage::Leased => self.held += 1,
            BatchStage::Submitted | BatchStage::Frozen => self.standing += 1,
            BatchStage::Settled if batch.payment != U256::ZERO => self.paid += 1,
            BatchStage::Settled | BatchStage::Open | BatchStage::Cancelled => self.lost += 1,
        }
    }

    fn add_ballot(&mut self, ballot: &Ballot, me: Address) {
        match ballot.stage_of(me) {
            None => {}
            Some(ReplicaStage::Leased { .. }) if !ballot.is_beaten(me) => self.held += 1,
            Some(ReplicaStage::Committed { .. } | ReplicaStage::Revealed { .. }) if !ballot.is_final() => {
                self.standing += 1;
            }
            Some(_) if ballot.payment(me) != U256::ZERO => self.paid += 1,
            Some(_) => self.lost += 1,
        }
    }
}

impl Core {
    /// What it is doing.
    pub fn overview(&self, index: &Index) -> Overview {
        let mut overview = Overview {
            executing: self.executing.iter().copied().collect(),
            held: self.held(index).count(),
            ..Overview::default()
        };
        overview.submitted = self.view.mine(index).map(|(_, entry)| self.counted(entry).standing).sum();
        let waiting = self.queue(index);
        for (id, entry) in index.order.iter().filter_map(|id| Some((*id, index.job(id)?))) {
            if !entry.is_over()
                && let Some(reason) = self.skip_reason(index, id, entry, waiting)
            {
                overview.skipped.push((id, reason));
            }
        }
        overview
    }

    /// Batches that are held: which, until what block time, and whether each is `waiting`, `executing` or `executed`.
    pub fn leases(&self, index: &Index) -> Vec<(BatchId, u64, &'static str)> {
        let state = |id: &BatchId| match () {
            () if self.executing.contains(id) => "executing",
            () if self.executed.contains_key(id) => "executed",
            () => "waiting",
        };
        self.held(index).map(|(id, _, deadline)| (id, deadline, state(&id))).collect()
    }

    /// What came of each job seen.
    pub fn verdicts(&self, index: &Index) -> BTreeMap<B256, Verdict> {
        let jobs = index.order.iter().filter_map(|id| Some((*id, index.job(id)?)));
        let waiting = self.queue(index);
        jobs.map(|(id, entry)| {
            let taken = self.taken(index, id, entry);
            let verdict = match self.skip_reason(index, id, entry, waiting) {
                rest if !taken.is_nothing() => Verdict::Taken(Taken { rest, ..taken }),
                Some(reason) => Verdict::Skipped(reason),
                None => Verdict::Skipped(SkipReason::Waiting),
            };
            (id, verdict)
        })
        .collect()
    }

    fn taken(&self, index: &Index, id: B256, entry: &JobEntry) -> Taken {
        let losses = index.providers.get(&self.me).into_iter().flat_map(|me| &me.losses);
        Taken {
            disputes: self.disputes_of(index, id, entry),
            losses: losses.filter(|loss| loss.job == id).copied().collect(),
            ..self.counted(entry)
        }
    }

    fn counted(&self, entry: &JobEntry) -> Taken {
        let mut taken = Taken::default();
        entry.batches.iter().for_each(|batch| taken.add_batch(batch, self.me));
        entry.ballots().for_each(|ballot| taken.add_ballot(ballot, self.me));
        taken
    }

    /// What is said against results of this account's.
    pub fn disputes(&self, index: &Index) -> Vec<Disputed> {
        self.view.mine(index).flat_map(|(id, entry)| self.disputes_of(index, id, entry)).collect()
    }

    fn disputes_of(&self, index: &Index, id: B256, entry: &JobEntry) -> Vec<Disputed> {
        let of_vote = |ballot: &Ballot| {
            let mine = ballot.voters().any(|(provider, _)| provider == self.me);
            (mine && ballot.stage == BallotStage::Frozen).then_some(ballot.time)
        };
        let frozen = |number: u32| match entry.ballot(number) {
            Some((_, ballot)) => of_vote(ballot),
            None => {
                let batch = entry.batches.get(number as usize)?;
                (batch.provider == self.me && batch.stage == BatchStage::Frozen).then_some(batch.deadline)
            }
        };
        let frozen = (0..entry.batch_count() as u32).filter_map(|number| Some((number, frozen(number)?)));
        let cases = frozen.flat_map(|(batch, until)| {
            let about = index.pending_cases().filter(move |(_, case)| (case.job, case.batch) == (id, batch));
            about.map(move |(id, case)| (id, case, until))
        });
        let told = |(case_id, case, until): (B256, &CaseEntry, u64)| {
            let (claim, by) = match case.claim {
                Claim::Wrong(challenger) => ("wrong", Some(challenger)),
                Claim::Withheld(_) => ("withheld", None),
            };
            let state = match (case.open, by) {
                (true, _) if self.now > case.deadline => "lapsed",
                (true, _) => "open",
                (false, Some(_)) if case.won => "upheld",
                (false, Some(_)) => "dismissed",
                (false, None) => "answered",
            };
            Disputed {
                case: case_id,
                job: id,
                batch: case.batch,
                task: case.task,
                claim,
                by,
                state,
                deadline: case.deadline,
                goes_on_at: index.resolvable_at(id, case.batch, until),
                at_risk: entry.lease_lock(case.batch, &index.rules),
            }
        };
        cases.map(told).collect()
    }

    /// Why nothing, or nothing more, of a job is leased now; `waiting` batches are held and not executed.
    fn skip_reason(&self, index: &Index, id: B256, entry: &JobEntry, waiting: usize) -> Option<SkipReason> {
        if entry.is_over() {
            // Why it was left to others.
            return Some(self.passed.get(&id).cloned().unwrap_or(SkipReason::Over));
        }
        if entry.cancelled {
            return Some(SkipReason::Cancelled);
        }
        if let Some(Looked::Refused(text)) = self.looked.get(&id) {
            return Some(SkipReason::Refused { text: text.clone() });
        }
        if let Some(reason) = self.objection(index, &id, entry) {
            return Some(reason);
        }
        if let Some(millis) = self.is_too_slow(id, entry) {
            return Some(SkipReason::TooSlow { millis });
        }
        let Some(first) = self.free(index, id, entry).next() else {
            return Some(self.not_free(index, id, entry));
        };
        if self.looked.get(&id) == Some(&Looked::Preparing) {
            return Some(SkipReason::Checking);
        }
        if !self.is_ready(&id) {
            return Some(SkipReason::OthersFirst);
        }
        if entry.lease_lock(first, &index.rules) > self.free_stake {
            return Some(SkipReason::Stake);
        }
        (2 * waiting > self.capacity(id, entry)).then_some(SkipReason::Busy)
    }

    /// Why no batch of a job is free for this account.
    fn not_free(&self, index: &Index, id: B256, entry: &JobEntry) -> SkipReason {
        let numbered = (0..).zip(entry.ballots());
        let later = numbered.filter(|(_, ballot)| self.has_slot(id, entry, ballot));
        let opens_at = self.turns(index, id, entry);
        let turns = later.map(|(number, _)| opens_at(number).unwrap_or(0));
        match turns.min() {
            Some(opens_at) => SkipReason::NotDrawnYet { opens_at },
            None if self.looked.get(&id) == Some(&Looked::Preparing) => SkipReason::Checking,
            None => SkipReason::NothingFree,
        }
    }

    /// Keeps the reasons why jobs that might be leased are not, for when they are over: of all of them if something has happened here, else
    /// of those to which something has.
    pub(super) fn keep_reasons(&mut self, index: &Index) {
        let (fresh, acted) = (self.view.take_fresh(), std::mem::take(&mut self.acted));
        let waiting = self.queue(index);
        let reason = |(id, entry)| Some((id, self.skip_reason(index, id, entry, waiting)?));
        let reasons: Vec<_> = match (acted, self.view.is_small()) {
            (true, true) => self.view.open(index).filter_map(reason).collect(),
            (true, false) => self.best(index).filter_map(reason).collect(),
            (false, _) => {
                let open = fresh.into_iter().filter(|id| self.view.is_open(id));
                open.filter_map(|id| reason((id, index.job(&id)?))).collect()
            }
        };
        self.passed.extend(reasons.into_iter().filter(|(_, reason)| !matches!(reason, SkipReason::NothingFree)));
    }

    /// Keeps why a job that was never a candidate was left alone, now that it is over.
    pub(super) fn remember_why(&mut self, index: &Index, id: B256, entry: &JobEntry) {
        if entry.is_over()
            && !self.passed.contains_key(&id)
            && let Some(reason) = self.objection(index, &id, entry)
        {
            self.passed.insert(id, reason);
        }
    }

    /// What batches of the best jobs are expected to bring, best first.
    pub fn worths(&self, index: &Index) -> Vec<(B256, Worth)> {
        self.best(index).map(|(id, entry)| (id, self.worth(index, &id, entry))).collect()
    }

    pub(super) fn is_ready(&self, id: &B256) -> bool {
        self.looked.get(id) == Some(&Looked::Ready)
    }
}
