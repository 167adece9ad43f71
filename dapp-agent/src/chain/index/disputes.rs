//! Challenges and demands: what the logs of `Disputes` tell.

use alloy::primitives::{Address, B256};
use conun_bindings::abi::Disputes::DisputesEvents;

use super::Index;

/// What is held against a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The leaf of the task is wrong, says this account.
    Wrong(Address),
    /// This chunk of the task's output is wanted.
    Withheld(u32),
}

/// One dispute about a batch's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CaseEntry {
    /// The job.
    pub job: B256,
    /// The batch.
    pub batch: u32,
    /// Index of the task in the job.
    pub task: u32,
    /// What is said about it.
    pub claim: Claim,
    /// Block time until which it can be ruled or answered.
    pub deadline: u64,
    /// Whether it is neither ruled nor answered.
    pub open: bool,
    /// Whether the arbiter upheld it.
    pub won: bool,
    /// Whether the batch was resolved.
    pub concluded: bool,
    /// Whether its bond was taken back.
    pub claimed: bool,
}

impl Index {
    pub(super) fn apply_dispute(&mut self, event: DisputesEvents) {
        use DisputesEvents as E;
        let mut open = |case: B256, job, batch, task, claim, deadline| {
            let (open, won, concluded, claimed) = (true, false, false, false);
            let entry = CaseEntry { job, batch, task, claim, deadline, open, won, concluded, claimed };
            self.insert_case(case, entry);
        };
        match event {
            E::Challenged(event) => {
                let claim = Claim::Wrong(event.challenger);
                open(event.caseId, event.jobId, event.batch, event.task, claim, event.deadline.to());
            }
            E::Demanded(event) => {
                let claim = Claim::Withheld(event.chunk);
                open(event.caseId, event.jobId, event.batch, event.task, claim, event.deadline.to());
            }
            E::Ruled(event) => {
                self.change_case(event.caseId, |case| (case.open, case.won) = (false, event.upheld));
            }
            E::Answered(event) => self.change_case(event.caseId, |case| case.open = false),
            E::Claimed(event) => self.change_case(event.caseId, |case| case.claimed = true),
            E::Concluded(_) => {}
        }
    }

    fn change_case(&mut self, case: B256, change: impl FnOnce(&mut CaseEntry)) {
        if let Some(entry) = self.cases.get_mut(&case) {
            change(entry);
        }
    }

    /// Takes in a dispute, or another state of one whose batch is not resolved.
    pub fn insert_case(&mut self, id: B256, entry: CaseEntry) {
        self.cases.insert(id, entry);
        self.pending.insert(id);
    }

    /// Disputes whose batch is not resolved.
    pub fn pending_cases(&self) -> impl Iterator<Item = (B256, &CaseEntry)> {
        self.pending.iter().filter_map(|id| Some((*id, self.cases.get(id)?)))
    }

    /// All disputes about a batch's result are over.
    pub(super) fn conclude(&mut self, job: B256, batch: u32) {
        let cases = &mut self.cases;
        self.pending.retain(|id| match cases.get_mut(id) {
            Some(case) if (case.job, case.batch) == (job, batch) => {
                case.concluded = true;
                false
            }
            _ => true,
        });
    }

    /// Block time from which a frozen batch's disputes are over, if its window ends at `final_at`.
    pub fn resolvable_at(&self, job: B256, batch: u32, final_at: u64) -> u64 {
        let about = self.pending_cases().map(|(_, case)| case).filter(|case| (case.job, case.batch) == (job, batch));
        let (latest, any_open) =
            about.fold((0, false), |(latest, open), case| (case.deadline.max(latest), open || case.open));
        if any_open { final_at.max(latest + 1) } else { final_at }
    }
}
