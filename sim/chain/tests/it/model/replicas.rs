//! The reference of the ReplicaRegistry: rounds of leases, commits and reveals, and how they end.

use super::{
    ballots::{Ballot, Phase, Poll, Replica, Stage, Turn, Vote},
    calls::{Given, Opened, Permit, Shown},
    jobs::{Fields, payment},
    reference::{BPS, CHECK_FEE, DISPUTES, EXPIRY_BOND_BPS, FEE_BPS, Faults, SUCCESSOR_DELAY, State, Wei, Who},
};

/// How a batch ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Settled,
    Undecided,
    NobodyRevealed,
    Wrong,
    Withheld,
}

impl State {
    pub(super) fn post_poll(&mut self, who: Who, poll: Poll, permit: Permit, faults: &mut Faults) {
        faults.unless(who == poll.fields.requester, "NotRequester");
        faults.unless(poll.fits(self.now), "InvalidJob");
        if poll.fits(self.now) {
            let ballots = vec![Ballot::new(); poll.fields.batches() as usize];
            self.open_poll(Poll { ballots, ..poll }, permit, faults);
        }
    }

    /// The open batches are those of a new job, with a lot of its own; the others have no part in it.
    pub(super) fn amend_poll(&mut self, who: Who, number: usize, terms: Poll, permit: Permit, faults: &mut Faults) {
        let found = &self.polls[number];
        let work = |fields: &Fields| (fields.requester, fields.tasks, fields.batch_size, fields.fuel_limit);
        let fits = work(&found.fields) == work(&terms.fields) && terms.fits(self.now) && found.open() > 0;
        faults.unless(fits, "InvalidJob");
        let part = |ballot: &Ballot| match ballot.phase {
            Phase::Open => Ballot::new(),
            _ => Ballot { phase: Phase::Cancelled, ..Ballot::new() },
        };
        let ballots = found.ballots.iter().map(part).collect();
        self.cancel_poll(who, number, faults);
        if fits {
            self.open_poll(Poll { ballots, continued: true, ..terms }, permit, faults);
        }
    }

    fn open_poll(&mut self, mut poll: Poll, permit: Permit, faults: &mut Faults) {
        let same = |old: &Poll| (&old.fields, &old.assurance) == (&poll.fields, &poll.assurance);
        faults.unless(!self.polls.iter().any(same), "JobExists");
        poll.posted = self.block;
        poll.ledger.settled = vec![0; poll.ballots.len()];
        let open = (0..).zip(&poll.ballots).filter(|(_, ballot)| ballot.phase == Phase::Open);
        poll.ledger.deposit = open.map(|(batch, _)| poll.cost(batch)).sum();
        self.lock(poll.fields.requester, poll.ledger.deposit, permit, faults);
        self.polls.push(poll);
    }

    pub(super) fn as_pollster(&self, who: Who, poll: usize, faults: &mut Faults) {
        faults.unless(who == self.polls[poll].fields.requester, "NotRequester");
    }

    pub(super) fn cancel_poll(&mut self, who: Who, number: usize, faults: &mut Faults) {
        self.as_pollster(who, number, faults);
        let poll = &mut self.polls[number];
        faults.unless(!poll.cancelled, "JobIsCancelled");
        poll.cancelled = true;
        let mut refund = 0;
        for batch in 0..poll.ballots.len() {
            if poll.ballots[batch].phase == Phase::Open {
                poll.ballots[batch].phase = Phase::Cancelled;
                refund += poll.cost(batch as u32);
            }
        }
        self.refund_cancelled(number, refund);
    }

    /// Posting again until the lot suits has its price, whether batches were leased meanwhile or not.
    fn refund_cancelled(&mut self, number: usize, refund: Wei) {
        let poll = &mut self.polls[number];
        let burned = if poll.is_sorted() { refund * FEE_BPS / BPS } else { 0 };
        poll.ledger.refunded += refund - burned;
        poll.ledger.burned += burned;
        let requester = poll.fields.requester;
        self.refund(requester, refund - burned);
        self.burn_locked(requester, burned);
    }

    pub(super) fn ballot(&mut self, poll: usize, batch: u32) -> &mut Ballot {
        &mut self.polls[poll].ballots[batch as usize]
    }

    fn has_batch(&self, poll: usize, batch: u32, faults: &mut Faults) -> bool {
        let has = (batch as usize) < self.polls[poll].ballots.len();
        faults.unless(has, "NoSuchBatch");
        has
    }

    /// What is asked of whoever takes a lease, or a backup of one of which half is over at `half`.
    fn enter(&mut self, who: Who, poll: usize, batch: u32, half: Option<u64>, faults: &mut Faults) {
        let found = &self.polls[poll];
        let (book, ballot) = (&self.books[who], &found.ballots[batch as usize]);
        faults.unless(book.checks >= found.assurance.min_checks.into(), "RecordTooSmall");
        faults.unless(!ballot.replicas.contains_key(&who), "WrongReplicaState");
        let first = ballot.opened == 0;
        if found.is_sorted() {
            let opened = if first { found.posted } else { ballot.opened };
            faults.unless(first && found.seeded || self.block > opened + 1, "BlockToCome");
        }
        match found.turn(batch, book.stake, book.staked_block, half) {
            Turn::From(from) | Turn::Between(from, _) => faults.unless(self.now >= from, "NotDrawnYet"),
            Turn::Always => {}
        }
        // The lot of a round that is over says nothing.
        faults.unless(first || ballot.phase == Phase::Committing, "NotDrawnYet");
        let stake = found.stake(batch);
        self.polls[poll].seeded |= first;
        self.hold(who, stake, faults);
    }

    /// Leases of the batch can be taken and served.
    fn runs(&self, poll: usize, batch: u32, faults: &mut Faults) {
        let ballot = &self.polls[poll].ballots[batch as usize];
        faults.unless(ballot.phase == Phase::Committing, "WrongState");
        faults.unless(ballot.phase != Phase::Committing || self.now <= ballot.time, "TooLate");
    }

    pub(super) fn lease_replicas(&mut self, who: Who, poll: usize, batches: &[u32], faults: &mut Faults) {
        faults.unless(!batches.is_empty(), "NothingGiven");
        let (fields, assurance) = (self.polls[poll].fields.clone(), self.polls[poll].assurance);
        let (now, checks) = (self.now, self.books[who].checks);
        for &batch in batches {
            if !self.has_batch(poll, batch, faults) {
                continue;
            }
            self.enter(who, poll, batch, None, faults);
            let gone = self.polls[poll].cancelled && self.polls[poll].ballots[batch as usize].phase == Phase::Cancelled;
            faults.unless(!gone, "JobIsCancelled");
            let ballot = self.ballot(poll, batch);
            if ballot.phase == Phase::Open {
                (ballot.phase, ballot.wanted) = (Phase::Committing, assurance.replicas.into());
                ballot.time = now + 2 * fields.lease;
            }
            self.runs(poll, batch, faults);
            let ballot = self.ballot(poll, batch);
            faults.unless(ballot.leased() + ballot.committed() < ballot.wanted, "NoFreeSlot");
            let at = Stage::Leased { until: now + fields.lease, backup: false, rival: None };
            ballot.replicas.insert(who, Replica { step: fields.step(now), checks, at });
        }
    }

    pub(super) fn back_up(&mut self, who: Who, poll: usize, batch: u32, straggler: Who, faults: &mut Faults) {
        if !self.has_batch(poll, batch, faults) {
            return;
        }
        self.runs(poll, batch, faults);
        let half = self.polls[poll].ballots[batch as usize].half(straggler, self.polls[poll].fields.lease);
        self.enter(who, poll, batch, half, faults);
        let (now, fields) = (self.now, self.polls[poll].fields.clone());
        let (open, checks, active) = (self.polls[poll].open(), self.books[who].checks, self.block + SUCCESSOR_DELAY);
        let ballot = self.ballot(poll, batch);
        let late = ballot.replicas.get(&straggler).map(|replica| replica.at);
        let Some(Stage::Leased { until, backup, rival }) = late else {
            return faults.unless(false, "WrongReplicaState");
        };
        let full = ballot.leased() + ballot.committed() >= ballot.wanted;
        let needed = open == 0 && full && !backup && rival.is_none() && now + fields.lease / 2 >= until;
        faults.unless(needed, "NoBackupNeeded");
        if let Some(replica) = ballot.replicas.get_mut(&straggler) {
            replica.at = Stage::Leased { until, backup, rival: Some(who) };
        }
        let at = Stage::Leased { until: active, backup: true, rival: Some(straggler) };
        ballot.replicas.insert(who, Replica { step: fields.step(now), checks, at });
    }

    pub(super) fn release_replicas(&mut self, who: Who, poll: usize, batches: &[u32], faults: &mut Faults) {
        faults.unless(!batches.is_empty(), "NothingGiven");
        for &batch in batches {
            if !self.has_batch(poll, batch, faults) {
                continue;
            }
            let (stake, lease) = (self.polls[poll].stake(batch), self.polls[poll].fields.lease);
            let (now, block) = (self.now, self.block);
            let ballot = self.ballot(poll, batch);
            let replica = ballot.replicas.get(&who).map(|replica| replica.at);
            let Some(Stage::Leased { until, backup, rival }) = replica else {
                faults.unless(false, "WrongReplicaState");
                continue;
            };
            let beaten = ballot.is_beaten(who);
            // Who releases without end would keep a slot for nothing.
            ballot.replicas.insert(who, DONE);
            if !beaten {
                let in_time = if backup { block <= until } else { now <= until - lease * 3 / 4 };
                faults.unless(in_time, "TooLate");
                self.leave_slot(poll, batch, rival);
            }
            self.free(who, stake);
        }
    }

    /// A lease ends without a commit: its rival has the slot alone, or it is free; a batch without any work is open again.
    fn leave_slot(&mut self, poll: usize, batch: u32, rival: Option<Who>) {
        let ballot = self.ballot(poll, batch);
        if let Some(replica) = rival.and_then(|rival| ballot.replicas.get_mut(&rival))
            && let Stage::Leased { rival, .. } = &mut replica.at
        {
            *rival = None;
        }
        if ballot.leased() == 0 && ballot.committed() == 0 {
            self.reopen_ballot(poll, batch);
        }
    }

    fn reopen_ballot(&mut self, poll: usize, batch: u32) {
        let found = &mut self.polls[poll];
        let (cost, cancelled) = (found.cost(batch), found.cancelled);
        let ballot = &mut found.ballots[batch as usize];
        let (replicas, expiries) = (std::mem::take(&mut ballot.replicas), ballot.expiries);
        let phase = if cancelled { Phase::Refunded } else { Phase::Open };
        *ballot = Ballot { phase, replicas, expiries, ..Ballot::new() };
        if cancelled {
            self.refund_cancelled(poll, cost);
        }
    }

    pub(super) fn expire_replica(&mut self, poll: usize, batch: u32, provider: Who, faults: &mut Faults) {
        if !self.has_batch(poll, batch, faults) {
            return;
        }
        let (stake, worst) = (self.polls[poll].stake(batch), self.polls[poll].fields.worst(batch));
        let now = self.now;
        let ballot = self.ballot(poll, batch);
        let replica = ballot.replicas.get(&provider).map(|replica| replica.at);
        let Some(Stage::Leased { until, backup, rival }) = replica else {
            return faults.unless(false, "WrongReplicaState");
        };
        faults.unless(!ballot.is_beaten(provider), "SlotTaken");
        let deadline = if backup { ballot.time } else { until.min(ballot.time) };
        faults.unless(now > deadline, "TooEarly");
        let bond = ((worst * EXPIRY_BOND_BPS / BPS) << ballot.expiries).min(stake);
        ballot.replicas.insert(provider, DONE);
        ballot.expiries = (ballot.expiries + 1).min(15);
        self.leave_slot(poll, batch, rival);
        self.free(provider, stake - bond);
        self.slash(provider, bond);
        self.burnable += bond;
        self.books[provider].expired += 1;
    }

    pub(super) fn commit(&mut self, who: Who, poll: usize, given: &[(u32, Vote, bool)], faults: &mut Faults) {
        faults.unless(!given.is_empty(), "NothingGiven");
        for &(batch, vote, audited) in given {
            if !self.has_batch(poll, batch, faults) {
                continue;
            }
            self.runs(poll, batch, faults);
            let (now, block, assurance) = (self.now, self.block, self.polls[poll].assurance);
            let ballot = self.ballot(poll, batch);
            let Some(replica) = ballot.replicas.get(&who).copied() else {
                faults.unless(false, "WrongReplicaState");
                continue;
            };
            let Stage::Leased { until, backup, .. } = replica.at else {
                faults.unless(false, "WrongReplicaState");
                continue;
            };
            faults.unless(!ballot.is_beaten(who), "SlotTaken");
            faults.unless(!backup || block >= until, "NotYetActive");
            // Where all are, there is no lot.
            let audited = audited || Wei::from(assurance.audit_bps) == BPS;
            let at = Stage::Committed { block, late: ballot.revealed() > 0, vote, audited };
            ballot.replicas.insert(who, Replica { at, ..replica });
            if ballot.committed() == ballot.wanted {
                ballot.phase = Phase::Revealing;
                if ballot.awaits_draw(&assurance) {
                    (ballot.phase, ballot.opened) = (Phase::Drawing, block);
                }
                ballot.time = now + assurance.reveal;
            }
        }
    }

    pub(super) fn draw(&mut self, poll: usize, batch: u32, faults: &mut Faults) {
        if !self.has_batch(poll, batch, faults) {
            return;
        }
        let assurance = self.polls[poll].assurance;
        let ballot = &self.polls[poll].ballots[batch as usize];
        let lacks_commits = ballot.phase == Phase::Committing && ballot.awaits_draw(&assurance);
        let drawn = lacks_commits || ballot.drawn();
        if lacks_commits {
            self.round_is_over(poll, batch, faults);
        } else {
            faults.unless(ballot.phase == Phase::Drawing, "WrongState");
            faults.unless(self.block > ballot.opened + 1, "BlockToCome");
        }
        if drawn {
            self.next_round(poll, batch);
            self.ballot(poll, batch).audited = true;
        } else {
            self.ballot(poll, batch).phase = Phase::Revealing;
        }
    }

    fn next_round(&mut self, poll: usize, batch: u32) {
        let (time, block) = (self.now + 2 * self.polls[poll].fields.lease, self.block);
        let ballot = self.ballot(poll, batch);
        (ballot.phase, ballot.wanted) = (Phase::Committing, ballot.committed() + 1);
        (ballot.time, ballot.opened) = (time, block);
    }

    /// The time to commit is over, and with it all leases.
    fn round_is_over(&self, poll: usize, batch: u32, faults: &mut Faults) {
        let ballot = &self.polls[poll].ballots[batch as usize];
        faults.unless(self.now > ballot.time, "TooEarly");
        faults.unless(ballot.leased() == 0, "LeasesToExpire");
    }

    pub(super) fn reveal(&mut self, poll: usize, shown: Shown, opening: Option<Opened>, faults: &mut Faults) {
        let Shown { batch, provider, wrong } = shown;
        if !self.has_batch(poll, batch, faults) {
            return;
        }
        let (fields, assurance) = (self.polls[poll].fields.clone(), self.polls[poll].assurance);
        let ballot = self.polls[poll].ballots[batch as usize].clone();
        let Some(replica) = ballot.replicas.get(&provider).copied() else {
            return faults.unless(false, "WrongReplicaState");
        };
        let Stage::Committed { block, late, vote, .. } = replica.at else {
            return faults.unless(false, "WrongReplicaState");
        };
        let mut end = ballot.time;
        match ballot.phase {
            Phase::Committing => {
                self.round_is_over(poll, batch, faults);
                faults.unless(ballot.revealed() == 0, "TooLate");
                faults.unless(!ballot.awaits_draw(&assurance), "WrongState");
                end += assurance.reveal;
            }
            Phase::Drawing => {
                faults.unless(self.block > ballot.opened + 1, "BlockToCome");
                faults.unless(!ballot.drawn(), "WrongState");
            }
            phase => faults.unless(phase == Phase::Revealing, "WrongState"),
        }
        faults.unless(self.now <= end, "TooLate");
        faults.unless(vote.work.fuel(&fields, batch) <= fields.fuel_in(batch), "FuelAboveLimit");
        faults.unless(vote.work.has_root(), "EmptyRoot");
        faults.unless(!wrong, "WrongCommitment");
        faults.unless(late == opening.is_some(), "WrongReveal");
        if let Some(opening) = opening {
            faults.unless(self.block > block + 1, "BlockToCome");
            // Who only copied a root has no tree of its own.
            let opened = opening == Opened::Drawn && vote.bound && vote.work.is_honest(&fields, batch);
            faults.unless(opened, "WrongOpening");
        }
        let now = self.now;
        let ballot = self.ballot(poll, batch);
        ballot.replicas.insert(provider, Replica { at: Stage::Revealed { block, late, vote }, ..replica });
        ballot.phase = Phase::Revealing;
        ballot.time = if ballot.revealed() == ballot.committed() { now + fields.window } else { end };
    }

    pub(super) fn reveal_all(&mut self, poll: usize, shown: &[Shown], faults: &mut Faults) {
        faults.unless(!shown.is_empty(), "NothingGiven");
        shown.iter().for_each(|shown| self.reveal(poll, *shown, None, faults));
    }

    pub(super) fn reveal_and_accept(&mut self, who: Who, poll: usize, shown: &[Shown], faults: &mut Faults) {
        self.as_pollster(who, poll, faults);
        self.reveal_all(poll, shown, faults);
        if let Some(batch) = shown.first().map(|shown| shown.batch)
            && self.has_batch(poll, batch, faults)
        {
            let all = shown.len() == self.polls[poll].ballots[batch as usize].committed();
            self.end_batch(poll, Given { batch, wrong: !all }, true, faults);
        }
    }

    /// The votes of a batch are in: the end of its window, and whether an extra round found nobody.
    fn votes_are_in(&self, poll: usize, batch: u32, faults: &mut Faults) -> (u64, bool) {
        let found = &self.polls[poll];
        let ballot = &found.ballots[batch as usize];
        let all = ballot.revealed() == ballot.committed();
        match ballot.phase {
            Phase::Committing => {
                self.round_is_over(poll, batch, faults);
                if ballot.revealed() > 0 {
                    return (ballot.time, true);
                }
                faults.unless(!ballot.awaits_draw(&found.assurance), "WrongState");
                let end = ballot.time + found.assurance.reveal;
                faults.unless(self.now > end, "TooEarly");
                (end + found.fields.window, false)
            }
            Phase::Revealing if all => (ballot.time, false),
            Phase::Revealing => {
                faults.unless(self.now > ballot.time, "TooEarly");
                (ballot.time + found.fields.window, false)
            }
            _ => {
                faults.unless(false, "WrongState");
                (0, false)
            }
        }
    }

    pub(super) fn end_batches(&mut self, who: Who, poll: usize, given: &[Given], accepted: bool, faults: &mut Faults) {
        if accepted {
            self.as_pollster(who, poll, faults);
        }
        faults.unless(!given.is_empty(), "NothingGiven");
        given.iter().for_each(|given| self.end_batch(poll, *given, accepted, faults));
    }

    fn end_batch(&mut self, poll: usize, given: Given, accepted: bool, faults: &mut Faults) {
        let batch = given.batch;
        if !self.has_batch(poll, batch, faults) {
            return;
        }
        let (final_at, abandoned) = self.votes_are_in(poll, batch, faults);
        faults.unless(!given.wrong, "WrongVotes");
        let (_, agreed, believed) = self.polls[poll].tally(batch);
        let ballot = &self.polls[poll].ballots[batch as usize];
        let (committed, revealed) = (ballot.committed(), ballot.revealed());
        let requester = self.polls[poll].fields.requester;
        if believed {
            faults.unless(accepted && agreed == committed || self.now >= final_at, "TooEarly");
            self.end(poll, batch, End::Settled);
            let book = &mut self.books[requester];
            *(if accepted { &mut book.accepted } else { &mut book.timed_out }) += 1;
        } else if accepted {
            faults.unless(false, "NotAccepted");
        } else if revealed == 0 {
            self.end(poll, batch, End::NobodyRevealed);
        } else if !abandoned && committed < self.polls[poll].assurance.limit.into() {
            self.next_round(poll, batch);
        } else {
            self.end(poll, batch, End::Undecided);
        }
    }

    /// What becomes of each vote, and of the deposit.
    pub(super) fn end(&mut self, poll: usize, batch: u32, end: End) {
        let (fields, cost, stake) = {
            let found = &self.polls[poll];
            (found.fields.clone(), found.cost(batch), found.stake(batch))
        };
        let (winner, agreed, _) = self.polls[poll].tally(batch);
        let result = |vote: Vote| (vote.work.flavour, vote.work.fuel(&fields, batch));
        let (mut paid, mut burned) = (0, 0);
        for (who, replica, vote) in self.polls[poll].ballots[batch as usize].votes() {
            let agrees = vote.is_some() && vote.map(result) == winner.map(result);
            let price = fields.price_of(replica.step);
            let worth = vote.map_or(0, |vote| payment(vote.work.fuel(&fields, batch), price));
            let loses = match end {
                End::Settled => !agrees,
                End::Undecided => vote.is_none(),
                End::NobodyRevealed => true,
                End::Wrong => vote.is_none() || agrees,
                End::Withheld => vote.is_none(),
            };
            if end == End::Undecided {
                burned += worth / 2;
            }
            if end == End::Settled && agrees {
                self.books[who].earned += worth;
                paid += worth;
                let fee = if agreed > 1 { worth * FEE_BPS / BPS } else { 0 };
                burned += fee;
                // A record costs what it is worth.
                self.books[who].checks += u64::from(agreed > 1 && fee >= CHECK_FEE);
            }
            self.books[who].withheld += u64::from(end == End::Withheld && agrees);
            if loses {
                self.slash(who, stake);
                self.burnable += stake;
                (self.books[who].checks, self.books[who].failed) = (0, self.books[who].failed + 1);
            } else {
                self.free(who, stake);
            }
            if end == End::NobodyRevealed {
                self.ballot(poll, batch).replicas.insert(who, DONE);
            }
        }
        if end == End::Wrong {
            let award = agreed as Wei * (stake / 2);
            self.burnable -= award;
            self.books[DISPUTES].available += award;
        }
        if end == End::NobodyRevealed {
            return self.reopen_ballot(poll, batch);
        }
        let requester = fields.requester;
        let locked = &mut self.books[requester].locked;
        *locked = locked.saturating_sub(paid);
        self.burn_locked(requester, burned);
        self.refund(requester, cost.saturating_sub(paid + burned));
        let ledger = &mut self.polls[poll].ledger;
        ledger.paid += paid;
        ledger.burned += burned;
        ledger.refunded += cost.saturating_sub(paid + burned);
        ledger.settled[batch as usize] += 1;
        self.ballot(poll, batch).phase = match end {
            End::Settled => Phase::Settled,
            End::Undecided => Phase::Undecided,
            _ => Phase::Overturned,
        };
    }

    /// The result that can be disputed, and the end of its window.
    pub(super) fn disputable(&self, poll: usize, given: Given, faults: &mut Faults) -> Option<(Vote, u64)> {
        let batch = given.batch;
        if !self.has_batch(poll, batch, faults) {
            return None;
        }
        let ballot = &self.polls[poll].ballots[batch as usize];
        let frozen = ballot.phase == Phase::Frozen;
        let final_at = if frozen { ballot.time } else { self.votes_are_in(poll, batch, faults).0 };
        faults.unless(!given.wrong, "WrongVotes");
        let (winner, _, believed) = self.polls[poll].tally(batch);
        faults.unless(believed, "NotAccepted");
        winner.map(|winner| (winner, final_at))
    }

    /// After disputes that proved nothing: its window is over.
    pub(super) fn stand(&mut self, poll: usize, batch: u32) {
        let window = self.polls[poll].fields.window;
        let ballot = self.ballot(poll, batch);
        ballot.phase = Phase::Revealing;
        ballot.time -= if ballot.revealed() == ballot.committed() { 0 } else { window };
    }
}

const DONE: Replica = Replica { step: 0, checks: 0, at: Stage::Done };
