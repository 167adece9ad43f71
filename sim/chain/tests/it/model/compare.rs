//! Everything that the contracts hold against everything that the reference holds, and the invariants.

use alloy::{
    primitives::{Address, U256, keccak256},
    sol_types::SolValue,
};
use conun_bindings::abi::{ConunToken, Disputes, JobRegistry};

use super::{
    ballots::Stage,
    calls::{Act, Call, Move, PollAct},
    compare_polls,
    disputes::CaseState,
    encode,
    jobs::{Batch, Ledger, stake_for},
    reference::{Book, CHECK_FEE, DISPUTES, PURSE, State, Wei, Who},
    world::World,
};

/// The same account as the contracts tell.
fn book(world: &World, who: Who) -> Book {
    let have = world.escrow_balance(who);
    let entry = world.provider(who);
    let (token, owner, spender) = (world.contracts.token, world.address(who), world.contracts.escrow);
    let registered = entry.payout != Address::ZERO;
    let endpoint = u64::from_be_bytes(entry.endpoint[24..].try_into().expect("eight bytes"));
    Book {
        wallet: world.tokens(owner),
        allowance: world.read(token, &ConunToken::allowanceCall { owner, spender }).to(),
        permits_used: world.read(token, &ConunToken::noncesCall { owner }).to(),
        available: have.available.to(),
        locked: have.locked.to(),
        accepted: have.accepted.into(),
        timed_out: have.timedOut.into(),
        earned: have.earned.to(),
        stake: have.stake.to(),
        held: have.held.to(),
        exiting: have.exiting,
        staked_block: have.stakedBlock.into(),
        checks: have.checks.into(),
        expired: have.expired.into(),
        failed: have.failed.into(),
        withheld: have.withheld.into(),
        lost: world.lost_by(who),
        registered: registered.then(|| (world.who(entry.payout).expect("only players are payout addresses"), endpoint)),
        exit_at: entry.exitAt.into(),
    }
}

/// A batch as the registry should show it.
fn shown(world: &World, state: &State, job: usize, number: u32) -> JobRegistry::Batch {
    let found = &state.jobs[job];
    let address = |who: Option<Who>| who.map_or(Address::ZERO, |who| world.address(who));
    let mut batch = JobRegistry::Batch {
        state: 0,
        time: 0,
        provider: Address::ZERO,
        former: Address::ZERO,
        activeBlock: Default::default(),
        expiries: 0,
        price: 0,
        submission: Default::default(),
    };
    let standing = found.batches[number as usize];
    if let Some(given) = standing.submission() {
        let hash: alloy::primitives::B256 =
            keccak256(encode::submission(world, &found.fields, number, given).abi_encode());
        let last_bits: U256 = U256::from_be_bytes(hash.0) & ((U256::from(1) << 189) - U256::from(1));
        (batch.time, batch.submission) = (given.final_at as u32, last_bits.to());
    }
    match standing {
        Batch::Open { last, price, expiries, released } => {
            batch.time = released.unwrap_or(0) as u32;
            (batch.provider, batch.price, batch.expiries) = (address(last), price.unwrap_or(0), expiries as u8);
        }
        Batch::Leased { holder, deadline, price, expiries, former } => {
            (batch.state, batch.time, batch.provider) = (1, deadline as u32, world.address(holder));
            (batch.price, batch.expiries) = (price, expiries as u8);
            if let Some((former, active)) = former {
                (batch.former, batch.activeBlock) = (world.address(former), active.try_into().expect("blocks are few"));
            }
        }
        Batch::Submitted(_) => batch.state = 2,
        Batch::Settled(_) => batch.state = 3,
        Batch::Cancelled => batch.state = 4,
        Batch::Frozen(_) => batch.state = 5,
    }
    batch
}

fn jobs(world: &World, state: &State) {
    for (number, job) in state.jobs.iter().enumerate() {
        let registry = world.contracts.jobs;
        let have = world.read(registry, &JobRegistry::jobStateCall { jobId: world.job_id(number) });
        let open: u64 = have.open.to();
        assert_eq!((have.posted, have.cancelled), (true, job.cancelled), "job {number}");
        assert_eq!(open, job.open() as u64, "open batches of job {number}");
        for batch in 0..job.fields.batches() {
            let fields = world.jobs[number].clone();
            let mut have = world.read(registry, &JobRegistry::batchStateCall { job: fields, number: batch });
            if job.batches[batch as usize] == Batch::Cancelled {
                // What else it shows is of no use to anybody, and not said.
                (have.time, have.provider, have.price, have.expiries) = (0, Address::ZERO, 0, 0);
            }
            assert_eq!(have, shown(world, state, number, batch), "batch {batch} of job {number}");
        }
    }
}

fn cases(world: &World, state: &State) {
    for (number, case) in state.cases.iter().enumerate() {
        let have = world.read(world.contracts.disputes, &Disputes::caseOfCall { caseId: world.cases[number] });
        let standing = match case.state {
            CaseState::Open => 1,
            CaseState::Won => 2,
            CaseState::Lost => 3,
            CaseState::Closed => 4,
        };
        let (deadline, result): (u64, _) =
            (have.deadline.to(), encode::result_id(world, state, &state.disputes[case.dispute]));
        assert_eq!((have.state, have.claimant), (standing, world.address(case.claimant)), "case {number}");
        assert_eq!((deadline, have.result), (case.deadline, result), "case {number}");
    }
    for (number, dispute) in state.disputes.iter().enumerate() {
        let result = encode::result_id(world, state, dispute);
        let have = world.read(world.contracts.disputes, &Disputes::disputeOfCall { result });
        let share: Wei = have.share.to();
        assert_eq!(
            (have.concluded, share),
            (dispute.concluded.is_some(), dispute.concluded.unwrap_or(0)),
            "dispute {number}"
        );
    }
}

/// The whole state, after a call.
pub(super) fn agree(world: &World, state: &State) {
    for (who, want) in state.books.iter().enumerate() {
        assert_eq!(book(world, who), *want, "account {who}, contracts left, reference right");
    }
    assert_eq!(world.burnable(), state.burnable, "burnable");
    jobs(world, state);
    compare_polls::agree(world, state);
    cases(world, state);
}

/// I1: what the Escrow has is what it owes; the supply shrinks by burning alone.
pub(super) fn is_conserved(world: &World, state: &State) {
    let owed = |who| {
        let have = world.escrow_balance(who);
        have.available.to::<Wei>() + have.locked.to::<Wei>() + have.earned.to::<Wei>() + have.stake.to::<Wei>()
    };
    let owed: Wei = (0..=DISPUTES).map(owed).sum();
    let held = world.tokens(world.contracts.escrow);
    assert_eq!(held, owed + world.burnable() + state.stray, "I1: the Escrow's tokens and what it owes");
    let supply: Wei = world.read(world.contracts.token, &ConunToken::totalSupplyCall {}).to();
    assert_eq!(supply, 100 * PURSE - state.burned, "I1: the supply");
}

/// I2: what a job cost, gave back and still may cost is its deposit.
fn ledger_is_whole(ledger: &Ledger, live: Wei) {
    assert!(ledger.settled.iter().all(|times| *times <= 1), "I2: a batch was paid twice");
    assert_eq!(ledger.deposit, ledger.paid + ledger.refunded + ledger.burned + live, "I2: a job's deposit");
}

/// I2: deposits are where the batches say, each batch is settled at most once, and every hold has a batch.
pub(super) fn is_accounted(state: &State) {
    let mut locked = vec![0; state.books.len()];
    let mut held = vec![0; state.books.len()];
    for job in &state.jobs {
        let mut live = 0;
        for (number, batch) in job.numbered() {
            let worst = job.fields.worst(number);
            live += if batch.is_final() { 0 } else { worst };
            match batch {
                Batch::Leased { holder, .. } => held[*holder] += stake_for(worst),
                Batch::Submitted(given) | Batch::Frozen(given) => held[given.by] += stake_for(worst),
                _ => {}
            }
        }
        locked[job.fields.requester] += live;
        ledger_is_whole(&job.ledger, live);
    }
    for poll in &state.polls {
        let live = (0..).zip(&poll.ballots).filter(|(_, ballot)| !ballot.is_over());
        let live = live.map(|(number, _)| poll.cost(number)).sum();
        locked[poll.fields.requester] += live;
        ledger_is_whole(&poll.ledger, live);
        for (number, ballot) in (0..).zip(&poll.ballots) {
            for (who, replica) in &ballot.replicas {
                let leased = matches!(replica.at, Stage::Leased { .. });
                let voted = !leased && replica.at != Stage::Done && !ballot.is_over();
                held[*who] += if leased || voted { poll.stake(number) } else { 0 };
            }
        }
    }
    for (who, book) in state.books.iter().enumerate() {
        assert_eq!((book.locked, book.held), (locked[who], held[who]), "I2: locked and held of account {who}");
        assert!(book.held <= book.stake, "more held than staked by account {who}");
    }
    let unclaimed = |state: &CaseState| matches!(state, CaseState::Open | CaseState::Won);
    let bonds = state.cases.iter().filter(|case| unclaimed(&case.state));
    let owed: Wei = bonds.map(|case| case.due(&state.disputes[case.dispute])).sum();
    assert!(state.books[DISPUTES].available >= owed, "bonds and shares are there");
}

/// Whom a call can concern: who makes it, and who has a part in what it is about.
fn parties(state: &State, step: &Move) -> Vec<Who> {
    let Move::Call(who, call) = step else { return Vec::new() };
    let mut all = vec![*who, DISPUTES];
    let of_job = |job: usize, all: &mut Vec<Who>| {
        all.push(state.jobs[job].fields.requester);
        for batch in &state.jobs[job].batches {
            match batch {
                Batch::Leased { holder, former, .. } => {
                    all.push(*holder);
                    all.extend(former.map(|(former, _)| former));
                }
                batch => all.extend(batch.submission().map(|given| given.by)),
            }
        }
    };
    match call {
        Call::Deposit { to, .. } => all.push(*to),
        Call::Exit => all.extend(state.books[*who].registered.map(|(payout, _)| payout)),
        Call::PayOut(provider) => {
            all.push(*provider);
            all.extend(state.books[*provider].registered.map(|(payout, _)| payout));
        }
        Call::SetPayout { provider, .. } => all.push(*provider),
        // Nobody but who brings a case pays for it.
        Call::Job { act: Act::Challenge(..) | Act::Demand(..), .. }
        | Call::Poll { act: PollAct::Challenge(..) | PollAct::Demand(..), .. } => {}
        Call::Poll { poll, .. } => {
            all.push(state.polls[*poll].fields.requester);
            all.extend(state.polls[*poll].ballots.iter().flat_map(|ballot| ballot.replicas.keys()));
        }
        Call::Job { job, .. } => of_job(*job, &mut all),
        Call::Rule { case, defender, .. } => {
            all.push(*defender);
            all.extend(state.cases.get(*case).map(|case| case.claimant));
        }
        Call::Answer { case, .. } | Call::Claim(case) => {
            all.extend(state.cases.get(*case).map(|case| case.claimant));
        }
        _ => {}
    }
    all
}

/// I5: a call gains its parties nothing that did not come from one of them, and touches nobody else. So whoever does business with
/// himself alone, under however many names, has no more than before; and for every check more a fee was burned.
pub(super) fn is_fair(before: &State, step: &Move, after: &State) {
    let parties = parties(before, step);
    let wealth = |state: &State| -> Wei { state.books.iter().map(|book| book.wallet + book.in_escrow()).sum() };
    assert!(wealth(after) <= wealth(before), "I5: somebody gained out of nothing");
    for (who, (was, is)) in before.books.iter().zip(&after.books).enumerate() {
        assert!(parties.contains(&who) || was == is, "account {who} has no part in {step:?}");
    }
    let burned = (after.burnable + after.burned) - (before.burnable + before.burned);
    let risen = before.books.iter().zip(&after.books).map(|(was, is)| is.checks.saturating_sub(was.checks));
    assert!(Wei::from(risen.sum::<u64>()) * CHECK_FEE <= burned, "I5: checks that cost no fee");
}
