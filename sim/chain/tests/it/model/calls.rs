//! The calls: what anybody may try, and what the reference makes of it.

use super::{
    ballots::{Assurance, Poll, Vote},
    disputes::{About, Place},
    jobs::Fields,
    reference::{Faults, Outcome, State, Wei, Who},
};

/// An EIP-2612 signature that goes with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    None,
    Good(Wei),
    /// Somebody else's signature: the allowance counts.
    Bad(Wei),
}

/// A result, as its root is made by the world: one of a few flavours, with the fuel of its leaves or a false sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) flavour: u8,
    pub(super) fuel: Fuel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fuel {
    Real,
    Nothing,
    Limit,
    AboveLimit,
}

/// The flavour of a result that has no root.
pub(super) const NO_ROOT: u8 = 0;

impl Work {
    pub(super) fn leaf_fuel(&self, fields: &Fields, task: u32) -> u64 {
        let part = u64::from(task * 5 + u32::from(self.flavour) * 3) % 8;
        fields.fuel_limit * part / 7
    }

    pub(super) fn output_length(&self, task: u32) -> u64 {
        [0, 5, 4_096, 5_000][(task as usize + usize::from(self.flavour)) % 4]
    }

    fn real_fuel(&self, fields: &Fields, batch: u32) -> u64 {
        let first = batch * fields.batch_size;
        (first..first + fields.tasks_in(batch)).map(|task| self.leaf_fuel(fields, task)).sum()
    }

    pub(super) fn fuel(&self, fields: &Fields, batch: u32) -> u64 {
        match self.fuel {
            Fuel::Real => self.real_fuel(fields, batch),
            Fuel::Nothing => 0,
            Fuel::Limit => fields.fuel_in(batch),
            Fuel::AboveLimit => fields.fuel_in(batch) + 1,
        }
    }

    pub(super) fn has_root(&self) -> bool {
        self.flavour != NO_ROOT
    }

    pub(super) fn is_honest(&self, fields: &Fields, batch: u32) -> bool {
        self.fuel(fields, batch) == self.real_fuel(fields, batch)
    }
}

/// The submission of a batch, as it stands or stood last; or one that differs from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) batch: u32,
    pub(super) wrong: bool,
}

/// What is revealed for a provider: what it committed to, or something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) batch: u32,
    pub(super) provider: Who,
    pub(super) wrong: bool,
}

/// The leaf that a late voter opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    Drawn,
    Another,
}

/// An answer to a demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Right,
    /// The chunk of another task or place.
    OtherChunk,
    /// A leaf that is not in the result.
    ForgedLeaf,
    /// Of another result.
    OtherResult,
}

/// A call. Jobs and cases are named by their numbers in the order in which they came about.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Approve(Wei),
    Donate(Wei),
    Deposit {
        to: Who,
        amount: Wei,
        permit: Permit,
    },
    Withdraw(Wei),
    Burn,
    /// One of the functions that only parts of the deployment may call.
    Intrude(u8),
    Register {
        payout: Option<Who>,
        endpoint: u64,
        stake: Wei,
        permit: Permit,
    },
    SetEndpoint(u64),
    SetPayout {
        provider: Who,
        payout: Option<Who>,
    },
    AddStake(Wei, Permit),
    RequestExit,
    CancelExit,
    Exit,
    PayOut(Who),
    Post(Fields, Permit),
    /// A call about a job; `forged`: with a field changed, so that it never was posted.
    Job {
        job: usize,
        forged: bool,
        act: Act,
    },
    PostPoll(Fields, Assurance, Permit),
    /// The same about a replicated job.
    Poll {
        poll: usize,
        forged: bool,
        act: PollAct,
    },
    Rule {
        case: usize,
        upheld: bool,
        defender: Who,
    },
    Answer {
        case: usize,
        reply: Reply,
    },
    Claim(usize),
}

/// Number of the functions of [`Call::Intrude`].
pub(super) const INTRUSIONS: u8 = 15;

/// What is done to a job.
#[derive(Clone, Debug)]
pub(super) enum Act {
    SetContact,
    Cancel,
    Amend(Fields, Permit),
    Lease(Vec<u32>),
    Release(Vec<u32>),
    Submit(Vec<(u32, Work)>),
    Accept(Vec<Given>),
    Finalise(Vec<Given>),
    Expire(Vec<u32>),
    Reject(Given, Permit),
    Freeze(Given),
    Resolve(Given),
    Challenge(Given, About),
    Demand(Given, About),
}

/// What is done to a replicated job.
#[derive(Clone, Debug)]
pub(super) enum PollAct {
    SetContact,
    Cancel,
    Amend(Fields, Assurance, Permit),
    Lease(Vec<u32>),
    BackUp {
        batch: u32,
        straggler: Who,
    },
    Release(Vec<u32>),
    Expire {
        batch: u32,
        provider: Who,
    },
    /// With what the next block will say about an audit.
    Commit(Vec<(u32, Vote, bool)>),
    Draw(u32),
    Reveal(Vec<Shown>),
    RevealOpened(Shown, Opened),
    Accept(Vec<Given>),
    RevealAndAccept(Vec<Shown>),
    Finalise(Vec<Given>),
    Freeze(Given),
    Resolve(Given),
    Challenge(Given, About),
    Demand(Given, About),
}

/// One step of a run.
#[derive(Clone, Debug)]
pub(super) enum Move {
    /// Time passes, and then blocks.
    Wait {
        seconds: u64,
        blocks: u64,
    },
    Call(Who, Call),
}

impl Move {
    /// What the run counts as reached.
    pub(super) fn name(&self) -> String {
        let name = match self {
            Self::Wait { .. } => return "Wait".to_owned(),
            Self::Call(_, Call::Job { act, .. }) => format!("{act:?}"),
            Self::Call(_, Call::Poll { act, .. }) => format!("Poll{act:?}"),
            Self::Call(_, call) => format!("{call:?}"),
        };
        name.split(['(', ' ']).next().unwrap_or_default().to_owned()
    }
}

impl State {
    /// The state after a move, which says what came of it.
    pub(super) fn after(mut self, step: &Move) -> Self {
        let (who, call) = match step {
            Move::Wait { seconds, blocks } => {
                (self.now, self.block, self.last) = (self.now + seconds, self.block + blocks, Outcome::Waited);
                return self;
            }
            Move::Call(who, call) => (*who, call),
        };
        let mut faults = Faults::default();
        let mut after = self.clone();
        after.call(who, call, &mut faults);
        if faults == Faults::default() {
            (after.block, after.last) = (after.block + 1, Outcome::Done);
            return after;
        }
        self.last = Outcome::Refused(faults);
        self
    }

    fn call(&mut self, who: Who, call: &Call, faults: &mut Faults) {
        match *call {
            Call::Approve(amount) => self.approve(who, amount),
            Call::Donate(amount) => self.donate(who, amount, faults),
            Call::Deposit { to, amount, permit } => self.deposit(who, to, amount, permit, faults),
            Call::Withdraw(amount) => self.withdraw(who, amount, faults),
            Call::Burn => self.burn(),
            Call::Intrude(_) => faults.unless(false, "NotRegistry"),
            Call::Register { payout, endpoint, stake, permit } => {
                self.register(who, payout, endpoint, stake, permit, faults);
            }
            Call::SetEndpoint(endpoint) => self.set_endpoint(who, endpoint, faults),
            Call::SetPayout { provider, payout } => self.set_payout(who, provider, payout, faults),
            Call::AddStake(amount, permit) => self.add_stake(who, amount, permit, faults),
            Call::RequestExit => self.request_exit(who, faults),
            Call::CancelExit => self.cancel_exit(who, faults),
            Call::Exit => self.exit(who, faults),
            Call::PayOut(provider) => self.pay_out(who, provider, faults),
            Call::Post(ref fields, permit) => self.post(who, fields, permit, faults),
            Call::Job { job, forged, ref act } => {
                faults.unless(!forged, "UnknownJob");
                self.act(who, job, act, faults);
            }
            Call::PostPoll(ref fields, assurance, permit) => {
                self.post_poll(who, Poll::new(fields, assurance), permit, faults);
            }
            Call::Poll { poll, forged, ref act } => {
                faults.unless(!forged, "UnknownJob");
                self.poll_act(who, poll, act, faults);
            }
            Call::Rule { case, upheld, defender } => self.rule(who, case, upheld, defender, faults),
            Call::Answer { case, reply } => self.answer(who, case, reply, faults),
            Call::Claim(case) => self.claim(case, faults),
        }
    }

    fn act(&mut self, who: Who, job: usize, act: &Act, faults: &mut Faults) {
        match *act {
            Act::SetContact => self.as_requester(who, job, faults),
            Act::Cancel => self.cancel(who, job, faults),
            Act::Amend(ref terms, permit) => self.amend(who, job, terms, permit, faults),
            Act::Lease(ref batches) => self.lease(who, job, batches, faults),
            Act::Release(ref batches) => self.release(who, job, batches, faults),
            Act::Submit(ref results) => self.submit(who, job, results, faults),
            Act::Accept(ref given) => self.accept(who, job, given, faults),
            Act::Finalise(ref given) => self.settle(job, given, false, faults),
            Act::Expire(ref batches) => self.expire(job, batches, faults),
            Act::Reject(given, permit) => self.reject(who, job, given, permit, faults),
            Act::Freeze(_) => faults.unless(false, "NotDisputes"),
            Act::Resolve(given) => self.resolve(job, given, faults),
            Act::Challenge(given, about) => self.challenge(who, Place::Job(job), given, about, faults),
            Act::Demand(given, about) => self.demand(who, Place::Job(job), given, about, faults),
        }
    }

    fn poll_act(&mut self, who: Who, poll: usize, act: &PollAct, faults: &mut Faults) {
        match *act {
            PollAct::SetContact => self.as_pollster(who, poll, faults),
            PollAct::Cancel => self.cancel_poll(who, poll, faults),
            PollAct::Amend(ref terms, assurance, permit) => {
                self.amend_poll(who, poll, Poll::new(terms, assurance), permit, faults);
            }
            PollAct::Lease(ref batches) => self.lease_replicas(who, poll, batches, faults),
            PollAct::BackUp { batch, straggler } => self.back_up(who, poll, batch, straggler, faults),
            PollAct::Release(ref batches) => self.release_replicas(who, poll, batches, faults),
            PollAct::Expire { batch, provider } => self.expire_replica(poll, batch, provider, faults),
            PollAct::Commit(ref given) => self.commit(who, poll, given, faults),
            PollAct::Draw(batch) => self.draw(poll, batch, faults),
            PollAct::Reveal(ref shown) => self.reveal_all(poll, shown, faults),
            PollAct::RevealOpened(shown, opened) => self.reveal(poll, shown, Some(opened), faults),
            PollAct::Accept(ref given) => self.end_batches(who, poll, given, true, faults),
            PollAct::RevealAndAccept(ref shown) => self.reveal_and_accept(who, poll, shown, faults),
            PollAct::Finalise(ref given) => self.end_batches(who, poll, given, false, faults),
            PollAct::Freeze(_) => faults.unless(false, "NotDisputes"),
            PollAct::Resolve(given) => self.resolve_poll(poll, given, faults),
            PollAct::Challenge(given, about) => self.challenge(who, Place::Poll(poll), given, about, faults),
            PollAct::Demand(given, about) => self.demand(who, Place::Poll(poll), given, about, faults),
        }
    }
}
