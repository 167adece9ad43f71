//! The reference of Disputes: challenges, demands, and what comes of a disputed result.

use super::{
    ballots::Phase,
    calls::{Given, Permit, Reply, Work},
    jobs::{Batch, Fields, stake_for},
    reference::{ARBITER, CHALLENGE_BOND, DEMAND_BOND, DEMANDING, DISPUTES, Faults, RULING, State, Wei, Who, less},
    replicas::End,
};

/// What a case says: a challenge of a task, with what the arbiter is told, or a demand of a chunk of its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Wrong { task: u32, commitment: u8 },
    Withheld { task: u32, chunk: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CaseState {
    Open,
    Won,
    Lost,
    Closed,
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Number of the dispute that it is part of.
    pub(super) dispute: usize,
    pub(super) claimant: Who,
    pub(super) about: About,
    pub(super) deadline: u64,
    pub(super) state: CaseState,
    /// It was won, and its share is taken.
    pub(super) share_taken: bool,
}

impl Case {
    fn is_demand(&self) -> bool {
        matches!(self.about, About::Withheld { .. })
    }

    fn bond(&self) -> Wei {
        if self.is_demand() { DEMAND_BOND } else { CHALLENGE_BOND }
    }

    /// What its claimant gets back, as far as is known.
    pub(super) fn due(&self, dispute: &Dispute) -> Wei {
        self.bond() + if self.state == CaseState::Won { dispute.concluded.unwrap_or(0) } else { 0 }
    }
}

/// A job of the one registry or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Job(usize),
    Poll(usize),
}

/// All cases about one result.
#[derive(Clone, Debug)]
pub(super) struct Dispute {
    pub(super) place: Place,
    pub(super) batch: u32,
    pub(super) work: Work,
    pub(super) final_at: u64,
    /// What each winner gets besides its bond, once concluded.
    pub(super) concluded: Option<Wei>,
}

impl State {
    pub(super) fn fields(&self, place: Place) -> &Fields {
        match place {
            Place::Job(job) => &self.jobs[job].fields,
            Place::Poll(poll) => &self.polls[poll].fields,
        }
    }

    /// Stops the payment of a result in its window. Returns the number of its dispute.
    fn freeze(&mut self, place: Place, given: Given, faults: &mut Faults) -> Option<usize> {
        let (work, final_at) = match place {
            Place::Job(job) => {
                let frozen = matches!(self.jobs[job].batches.get(given.batch as usize), Some(Batch::Frozen(_)));
                let result = self.standing(job, given, frozen, faults)?;
                self.jobs[job].batches[given.batch as usize] = Batch::Frozen(result);
                (result.work, result.final_at)
            }
            Place::Poll(poll) => {
                let (vote, final_at) = self.disputable(poll, given, faults)?;
                let ballot = self.ballot(poll, given.batch);
                (ballot.phase, ballot.time) = (Phase::Frozen, final_at);
                (vote.work, final_at)
            }
        };
        faults.unless(self.now < final_at, "TooLate");
        if let Some(number) = self.dispute_about(place, given.batch, final_at) {
            return Some(number);
        }
        self.disputes.push(Dispute { place, batch: given.batch, work, final_at, concluded: None });
        Some(self.disputes.len() - 1)
    }

    fn dispute_about(&self, place: Place, batch: u32, final_at: u64) -> Option<usize> {
        let key = |dispute: &Dispute| (dispute.place, dispute.batch, dispute.final_at);
        self.disputes.iter().position(|dispute| key(dispute) == (place, batch, final_at))
    }

    fn open_case(&mut self, case: Case, permit: Permit, faults: &mut Faults) {
        let key = |case: &Case| (case.dispute, case.claimant, case.about);
        faults.unless(self.cases.iter().all(|old| key(old) != key(&case)), "CaseExists");
        self.take(case.claimant, case.bond(), permit, faults);
        self.books[DISPUTES].available += case.bond();
        self.cases.push(case);
    }

    /// The position of a task in its batch.
    fn position(&self, place: Place, batch: u32, task: u32) -> Option<u32> {
        task.checked_sub(batch * self.fields(place).batch_size)
    }

    pub(super) fn challenge(&mut self, who: Who, place: Place, given: Given, about: About, faults: &mut Faults) {
        let About::Wrong { task, .. } = about else { return };
        faults.unless(self.has_arbiter, "NoArbiter");
        let Some(dispute) = self.freeze(place, given, faults) else { return };
        // The tree is filled up to a power of two, and padding may be challenged as well.
        let leaves = self.fields(place).tasks_in(given.batch).next_power_of_two();
        let position = self.position(place, given.batch, task);
        faults.unless(position.is_some_and(|position| position < leaves), "NoSuchTask");
        let deadline = self.disputes[dispute].final_at + RULING;
        let case = Case { dispute, claimant: who, about, deadline, state: CaseState::Open, share_taken: false };
        self.open_case(case, Permit::None, faults);
    }

    pub(super) fn demand(&mut self, who: Who, place: Place, given: Given, about: About, faults: &mut Faults) {
        let About::Withheld { task, .. } = about else { return };
        faults.unless(who == self.fields(place).requester, "NotRequester");
        let Some(dispute) = self.freeze(place, given, faults) else { return };
        let tasks = self.fields(place).tasks_in(given.batch);
        let position = self.position(place, given.batch, task);
        faults.unless(position.is_some_and(|position| position < tasks), "NoSuchTask");
        let deadline = self.now + DEMANDING;
        let case = Case { dispute, claimant: who, about, deadline, state: CaseState::Open, share_taken: false };
        self.open_case(case, Permit::None, faults);
    }

    fn undecided(&self, case: usize, faults: &mut Faults) {
        faults.unless(self.cases[case].state == CaseState::Open, "WrongCaseState");
        faults.unless(self.now <= self.cases[case].deadline, "TooLate");
    }

    pub(super) fn rule(&mut self, who: Who, case: usize, upheld: bool, defender: Who, faults: &mut Faults) {
        // Without an arbiter the zero address has the right.
        faults.unless(self.has_arbiter && who == ARBITER, "NotArbiter");
        if case >= self.cases.len() {
            return faults.unless(false, "WrongCaseState");
        }
        self.undecided(case, faults);
        faults.unless(!self.cases[case].is_demand(), "WrongCaseState");
        if upheld {
            self.cases[case].state = CaseState::Won;
            return;
        }
        self.lose(case);
        self.give(defender, CHALLENGE_BOND / 2);
        let burned = CHALLENGE_BOND - CHALLENGE_BOND / 2;
        less(&mut self.books[DISPUTES].available, burned);
        self.burnable += burned;
    }

    fn lose(&mut self, case: usize) {
        self.cases[case].state = CaseState::Lost;
        let claimant = self.cases[case].claimant;
        self.books[claimant].lost += 1;
    }

    pub(super) fn answer(&mut self, who: Who, case: usize, reply: Reply, faults: &mut Faults) {
        if case >= self.cases.len() {
            return faults.unless(false, "WrongCaseState");
        }
        self.undecided(case, faults);
        faults.unless(reply != Reply::OtherResult, "WrongResult");
        let dispute = &self.disputes[self.cases[case].dispute];
        // A root that claims other fuel than its leaves' has no leaves to show.
        let honest = dispute.work.is_honest(self.fields(dispute.place), dispute.batch);
        let shown = reply == Reply::Right && honest && self.cases[case].is_demand();
        faults.unless(shown, "WrongAnswer");
        self.lose(case);
        self.give(who, DEMAND_BOND);
    }

    /// The worst that was proved counts, once the window is over and nothing can be ruled or answered any more: `None` if nothing was.
    /// Winners share the award.
    fn conclude(&mut self, number: usize, award: Wei, faults: &mut Faults) -> Option<End> {
        let cases = || self.cases.iter().filter(|case| case.dispute == number);
        let open = || cases().filter(|case| case.state == CaseState::Open);
        let last_deadline = cases().map(|case| case.deadline).max().unwrap_or(0);
        faults.unless(self.now >= self.disputes[number].final_at, "TooEarly");
        faults.unless(open().count() == 0 || self.now > last_deadline, "TooEarly");
        let winners = cases().filter(|case| case.state == CaseState::Won).count() as Wei;
        let unanswered = open().any(|case| case.is_demand());
        let share = award.checked_div(winners);
        self.disputes[number].concluded = Some(share.unwrap_or(0));
        if share.is_some() { Some(End::Wrong) } else { unanswered.then_some(End::Withheld) }
    }

    pub(super) fn resolve(&mut self, job: usize, given: Given, faults: &mut Faults) {
        let Some(result) = self.standing(job, given, true, faults) else { return };
        let Some(dispute) = self.dispute_about(Place::Job(job), given.batch, result.final_at) else { return };
        let stake = stake_for(self.jobs[job].fields.worst(given.batch));
        let (award, provider) = (stake / 2, result.by);
        match self.conclude(dispute, award, faults) {
            Some(End::Wrong) => {
                self.slash(provider, stake);
                (self.books[provider].checks, self.books[provider].failed) = (0, self.books[provider].failed + 1);
                self.books[DISPUTES].available += award;
                self.burnable += stake - award;
                self.fall(job, given.batch);
            }
            Some(_) => {
                self.free(provider, stake);
                self.books[provider].withheld += 1;
                self.fall(job, given.batch);
            }
            None => self.jobs[job].batches[given.batch as usize] = Batch::Submitted(result),
        }
    }

    /// As for a job of one execution, but what falls is not done again.
    pub(super) fn resolve_poll(&mut self, poll: usize, given: Given, faults: &mut Faults) {
        let frozen = self.polls[poll].ballots.get(given.batch as usize).map(|ballot| ballot.phase == Phase::Frozen);
        faults.unless(frozen.is_some(), "NoSuchBatch");
        faults.unless(frozen.is_none_or(|frozen| frozen), "WrongState");
        if frozen != Some(true) {
            return;
        }
        let Some((_, final_at)) = self.disputable(poll, given, faults) else { return };
        let Some(dispute) = self.dispute_about(Place::Poll(poll), given.batch, final_at) else { return };
        let (_, agreed, _) = self.polls[poll].tally(given.batch);
        let award = agreed as Wei * (self.polls[poll].stake(given.batch) / 2);
        match self.conclude(dispute, award, faults) {
            Some(end) => self.end(poll, given.batch, end),
            None => self.stand(poll, given.batch),
        }
    }

    pub(super) fn claim(&mut self, case: usize, faults: &mut Faults) {
        let Some(found) = self.cases.get(case).cloned() else {
            return faults.unless(false, "NotConcluded");
        };
        let dispute = &self.disputes[found.dispute];
        faults.unless(dispute.concluded.is_some(), "NotConcluded");
        faults.unless(matches!(found.state, CaseState::Open | CaseState::Won), "WrongCaseState");
        let due = found.due(dispute);
        (self.cases[case].state, self.cases[case].share_taken) = (CaseState::Closed, found.state == CaseState::Won);
        self.give(found.claimant, due);
    }
}
