//! The end of a run: nobody's tokens depend on another's good will.

use super::{
    Contracts,
    ballots::{Ballot, Phase},
    calls::{Act, Call, Given, Move, PollAct},
    compare,
    disputes::CaseState,
    jobs::Batch,
    moves::{LEAVING, horizon},
    reference::{DISPUTES, KEEPER, Outcome, PLAYERS, State, Wei, Who},
};

impl Contracts {
    fn wait(&mut self, seconds: u64) {
        let step = Move::Wait { seconds, blocks: 1 };
        let after = self.before.clone().after(&step);
        self.make(&step, &after);
    }

    /// A call that has to succeed.
    fn must(&mut self, who: Who, call: Call) {
        let step = Move::Call(who, call);
        let after = self.before.clone().after(&step);
        assert_eq!(after.last, Outcome::Done, "the way out is barred: {step:?}");
        self.make(&step, &after);
    }

    fn must_act(&mut self, who: Who, job: usize, act: Act) {
        self.must(who, Call::Job { job, forged: false, act });
    }

    fn batch(&self, job: usize, number: u32) -> Batch {
        self.before.jobs[job].batches[number as usize]
    }

    /// I3: brings a batch to its end, as somebody who has no part in it.
    fn close(&mut self, job: usize, number: u32) {
        let given = Given { batch: number, wrong: false };
        if matches!(self.batch(job, number), Batch::Leased { .. }) {
            self.must_act(KEEPER, job, Act::Expire(vec![number]));
        }
        if matches!(self.batch(job, number), Batch::Frozen(_)) {
            self.must_act(KEEPER, job, Act::Resolve(given));
        }
        if matches!(self.batch(job, number), Batch::Submitted(_)) {
            self.must_act(KEEPER, job, Act::Finalise(vec![given]));
        }
        assert!(self.batch(job, number).is_final(), "I3: batch {number} of job {job} does not end");
    }

    /// I3: the same of a batch of a replicated job, which may still have rounds before it.
    fn close_ballot(&mut self, poll: usize, batch: u32) {
        let given = Given { batch, wrong: false };
        let began = self.before.now;
        let (fields, assurance) = (self.before.polls[poll].fields.clone(), self.before.polls[poll].assurance);
        while !self.ballot(poll, batch).is_over() {
            let ballot = self.ballot(poll, batch).clone();
            let in_slot = |who: &Who| ballot.is_leased(*who) && !ballot.is_beaten(*who);
            let silent = ballot.revealed() < ballot.committed();
            match ballot.phase {
                Phase::Committing if self.before.now <= ballot.time => self.wait(ballot.time + 1 - self.before.now),
                Phase::Committing if ballot.leased() > 0 => {
                    for provider in ballot.replicas.keys().copied().filter(in_slot) {
                        self.must_poll(KEEPER, poll, PollAct::Expire { batch, provider });
                    }
                }
                Phase::Committing if ballot.awaits_draw(&assurance) => {
                    self.must_poll(KEEPER, poll, PollAct::Draw(batch));
                }
                Phase::Drawing => {
                    if self.before.block <= ballot.opened + 1 {
                        self.wait(0);
                        self.wait(0);
                    }
                    self.must_poll(KEEPER, poll, PollAct::Draw(batch));
                }
                Phase::Frozen => self.must_poll(KEEPER, poll, PollAct::Resolve(given)),
                phase => {
                    // To the end of the reveals, if some are to come, and of the window.
                    let round = if phase == Phase::Committing { assurance.reveal } else { 0 };
                    let reveals = if silent { ballot.time + round + 1 } else { ballot.time };
                    let window = if silent { fields.window } else { 0 };
                    self.wait((reveals + window).saturating_sub(self.before.now));
                    self.must_poll(KEEPER, poll, PollAct::Finalise(vec![given]));
                }
            }
        }
        let rounds = u64::from(assurance.limit - assurance.replicas + 1) + u64::from(assurance.audit_bps != 0);
        let longest = rounds * (2 * fields.lease + assurance.reveal + 2) + fields.window + rounds;
        assert!(self.before.now <= began + longest, "I3: batch {batch} of replicated job {poll} takes too long");
    }

    fn must_poll(&mut self, who: Who, poll: usize, act: PollAct) {
        self.must(who, Call::Poll { poll, forged: false, act });
    }

    fn ballot(&self, poll: usize, batch: u32) -> &Ballot {
        &self.before.polls[poll].ballots[batch as usize]
    }

    /// Who was beaten to a slot takes its stake back itself.
    fn release_all(&mut self, who: Who) {
        for poll in 0..self.before.polls.len() {
            for batch in 0..self.before.polls[poll].fields.batches() {
                if self.ballot(poll, batch).is_leased(who) {
                    self.must_poll(who, poll, PollAct::Release(vec![batch]));
                }
            }
        }
    }

    /// I4: takes out all that is an account's, alone.
    fn leave(&mut self, who: Who) {
        self.release_all(who);
        if self.before.books[who].registered.is_some() {
            self.must(who, Call::Exit);
        }
        let available = self.before.books[who].available;
        self.must(who, Call::Withdraw(available));
    }
}

/// What the division of awards between winners leaves with Disputes.
fn crumbs(state: &State) -> Wei {
    let winners = |dispute: usize| {
        let won = |case: &&super::disputes::Case| case.dispute == dispute && case.share_taken;
        state.cases.iter().filter(won).count() as Wei
    };
    (0..state.disputes.len()).map(|dispute| winners(dispute).saturating_sub(1)).sum()
}

/// Requesters give up what is open, time passes, a stranger ends what is left, and everybody takes what is theirs.
pub(super) fn everybody_leaves(contracts: &mut Contracts) {
    let open: Vec<_> = (0..contracts.before.jobs.len()).filter(|job| !contracts.before.jobs[*job].cancelled).collect();
    for job in open {
        let requester = contracts.before.jobs[job].fields.requester;
        contracts.must_act(requester, job, Act::Cancel);
    }
    for poll in
        (0..contracts.before.polls.len()).filter(|poll| !contracts.before.polls[*poll].cancelled).collect::<Vec<_>>()
    {
        let requester = contracts.before.polls[poll].fields.requester;
        contracts.must_poll(requester, poll, PollAct::Cancel);
    }
    let over = horizon(&contracts.before);
    contracts.wait(over);
    for job in 0..contracts.before.jobs.len() {
        for number in 0..contracts.before.jobs[job].fields.batches() {
            contracts.close(job, number);
        }
    }
    for poll in 0..contracts.before.polls.len() {
        for batch in 0..contracts.before.polls[poll].fields.batches() {
            contracts.close_ballot(poll, batch);
        }
    }
    for case in 0..contracts.before.cases.len() {
        if matches!(contracts.before.cases[case].state, CaseState::Open | CaseState::Won) {
            contracts.must(KEEPER, Call::Claim(case));
        }
    }
    for who in (0..PLAYERS).filter(|who| contracts.before.books[*who].registered.is_some()).collect::<Vec<_>>() {
        if contracts.before.books[who].exit_at == 0 {
            contracts.must(who, Call::RequestExit);
        }
    }
    contracts.wait(LEAVING);
    // In an order that differs from run to run; payout addresses that have left already come back for the rest.
    let first = contracts.before.block as usize % PLAYERS;
    for turn in 0..2 * PLAYERS {
        contracts.leave((first + turn) % PLAYERS);
    }
    if contracts.before.burnable > 0 {
        contracts.must(KEEPER, Call::Burn);
    }
    let state = &contracts.before;
    assert!(state.books[..DISPUTES].iter().all(|book| book.in_escrow() == 0), "I4: somebody's tokens are stuck");
    let left = state.books[DISPUTES].available;
    assert!(left <= crumbs(state), "I4: {left} token wei of bonds are nobody's");
    assert_eq!(
        contracts.world.tokens(contracts.world.contracts.escrow),
        left + state.stray,
        "I4: more than nobody's is left"
    );
    compare::is_conserved(&contracts.world, state);
}
