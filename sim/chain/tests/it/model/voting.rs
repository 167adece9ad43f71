//! Moves about replicated jobs.

use proptest::{prelude::*, sample::select};

use super::{
    ballots::{Assurance, Ballot, Phase, Stage, Turn, Vote},
    calls::{Call, Given, Move, Opened, Permit, PollAct, Shown, Work},
    disputes::About,
    jobs::Fields,
    moves::{MOST_POLLS, any_permit, player},
    reference::{KEEPER, PLAYERS, State, Wei, Who},
};

fn act(who: Who, poll: usize, act: PollAct) -> Move {
    Move::Call(who, Call::Poll { poll, forged: false, act })
}

/// How results are assured; mostly as it can be.
fn assurance() -> impl Strategy<Value = Assurance> {
    // None so near to what some votes come to that the contract's rounding would decide.
    let target = select(vec![500_000_000, 790_000_000, 900_000_000, 925_000_000, 930_000_000, 499_999_999]);
    let widen = prop_oneof![6 => 1..=5u64, 1 => 6..=40u64, 1 => Just(0)];
    let checks = prop_oneof![9 => Just(0u32), 1 => 1..3u32];
    (1..=3u8, 0..=2u8, target, 1..=10_000u16, any::<bool>(), checks, widen, 58..=100u64).prop_map(
        |(replicas, more, target, audit, always, min_checks, widen, reveal)| {
            let limit = replicas + more;
            let audit_bps = match (replicas, more) {
                // Of several replicas only some; what has one and may have more always.
                (_, 0) => 0,
                (2.., _) if audit < 5_000 => 0,
                _ if always => 10_000,
                _ => audit.clamp(2_000, 8_000),
            };
            let (target, widen) = if limit > 1 { (target, widen.max(1)) } else { (0, 0) };
            Assurance { replicas, limit, target, audit_bps, min_checks, widen, reveal }
        },
    )
}

fn fields(requester: Who, now: u64) -> impl Strategy<Value = Fields> {
    let size = (1..=4u32, 1..=3u32);
    let prices = (1..=3_000u128, 0..=3_000u128);
    let ramp = (0..=20u64, prop_oneof![1 => Just(0u64), 1 => 1..600u64]);
    (0..9u64, size, 1_000_000..=2_000_000_000u64, prices, ramp, (5..=200u64, 1..=200u64)).prop_map(
        move |(nonce, (tasks, batch_size), fuel_limit, (start_price, rise), (wait, ramp), (lease, window))| Fields {
            requester,
            nonce,
            tasks,
            batch_size: batch_size.min(tasks),
            fuel_limit,
            start_price,
            max_price: start_price + if ramp == 0 { 0 } else { rise },
            ramp_start: now + wait,
            ramp,
            lease,
            window,
        },
    )
}

/// Some providers are there from the beginning, and all where jobs need several.
pub(super) fn beginning(state: &State) -> Vec<Move> {
    let providers = if state.has_polls { 0..PLAYERS } else { 0..2 };
    let register = |who: Who| {
        let (payout, stake) = (Some((who + who % 2) % PLAYERS), 90_000 + 30_000 * who as Wei);
        Move::Call(who, Call::Register { payout, endpoint: 1, stake, permit: Permit::None })
    };
    providers.map(register).collect()
}

pub(super) fn post(state: &State) -> BoxedStrategy<Move> {
    let now = state.now;
    (player(), player(), 0..12u8, any_permit())
        .prop_flat_map(move |(who, other, luck, permit)| {
            (fields(who, now), assurance()).prop_map(move |(mut fields, assurance)| {
                // Some lots begin too early.
                fields.ramp_start += if luck == 1 { 0 } else { assurance.widen };
                let from = if luck == 0 { other } else { who };
                Move::Call(from, Call::PostPoll(fields, assurance, permit))
            })
        })
        .boxed()
}

/// Calls that the state of a batch allows, now or soon.
pub(super) fn of_ballot(state: &State, poll: usize, batch: u32, (work, audited): (Work, bool), all: &mut Vec<Move>) {
    let found = &state.polls[poll];
    let ballot = &found.ballots[batch as usize];
    let given = Given { batch, wrong: false };
    let requester = found.fields.requester;
    match ballot.phase {
        Phase::Open => {
            lease(state, poll, batch, all);
            amend(state, poll, work, all);
        }
        Phase::Committing => {
            if ballot.leased() + ballot.committed() < ballot.wanted {
                lease(state, poll, batch, all);
            } else {
                back_up(state, poll, batch, all);
            }
            if state.now > ballot.time && ballot.leased() == 0 {
                end(ballot, poll, given, requester, all);
                if ballot.awaits_draw(&found.assurance) {
                    all.extend(vec![act(KEEPER, poll, PollAct::Draw(batch)); 6]);
                }
            }
        }
        Phase::Drawing => all.extend(vec![act(KEEPER, poll, PollAct::Draw(batch)); 3]),
        Phase::Revealing => end(ballot, poll, given, requester, all),
        Phase::Frozen => {
            disputes_about(state, poll, given, all);
            all.extend(vec![act(KEEPER, poll, PollAct::Resolve(given)); 2]);
        }
        _ => {}
    }
    for (who, replica) in &ballot.replicas {
        of_replica(state, (poll, batch, *who), replica.at, (work, audited), all);
    }
}

/// The same work under other terms, which draw another lot; now and then terms that were posted before.
fn amend(state: &State, poll: usize, work: Work, all: &mut Vec<Move>) {
    let found = &state.polls[poll];
    let (mut fields, mut assurance) = (found.fields.clone(), found.assurance);
    if work.flavour != 1 {
        fields.nonce += 10;
    }
    fields.max_price += Wei::from(work.flavour) * 100;
    fields.ramp += 1;
    fields.ramp_start = state.now + assurance.widen + u64::from(work.flavour);
    fields.lease += 5;
    assurance.reveal += 1;
    if state.polls.len() < MOST_POLLS {
        all.push(act(fields.requester, poll, PollAct::Amend(fields, assurance, Permit::None)));
    }
}

fn lease(state: &State, poll: usize, batch: u32, all: &mut Vec<Move>) {
    let ballot = &state.polls[poll].ballots[batch as usize];
    let next = state.polls[poll].ballots.get(batch as usize + 1);
    let found = &state.polls[poll];
    let opened = if ballot.opened == 0 { found.posted } else { ballot.opened };
    let drawn = !found.is_sorted() || state.block > opened + 1;
    for who in (0..PLAYERS).filter(|who| !ballot.replicas.contains_key(who) && state.books[*who].stake > 0) {
        let (book, now) = (&state.books[who], state.now);
        let in_turn = match found.turn(batch, book.stake, book.staked_block, None) {
            Turn::From(from) | Turn::Between(_, from) => drawn && now >= from,
            Turn::Always => true,
        };
        if !in_turn && !state.block.is_multiple_of(4) {
            continue;
        }
        let both = next.is_some_and(|next| !next.replicas.contains_key(&who) && next.phase == Phase::Open);
        all.extend(vec![act(who, poll, PollAct::Lease(vec![batch])); 2]);
        if both {
            all.push(act(who, poll, PollAct::Lease(vec![batch, batch + 1])));
        }
    }
}

fn back_up(state: &State, poll: usize, batch: u32, all: &mut Vec<Move>) {
    let found = &state.polls[poll];
    let ballot = &state.polls[poll].ballots[batch as usize];
    for straggler in ballot.replicas.keys().filter(|who| ballot.is_leased(**who)) {
        for who in (0..PLAYERS).filter(|who| !ballot.replicas.contains_key(who) && state.books[*who].stake > 0) {
            let late = matches!(ballot.replicas[straggler].at, Stage::Leased { until, backup: false, rival: None }
                if state.now + found.fields.lease / 2 >= until && found.open() == 0);
            all.extend(vec![
                act(who, poll, PollAct::BackUp { batch, straggler: *straggler });
                if late { 6 } else { 1 }
            ]);
        }
    }
}

fn end(ballot: &Ballot, poll: usize, given: Given, requester: Who, all: &mut Vec<Move>) {
    all.extend(vec![act(KEEPER, poll, PollAct::Finalise(vec![given])); 3]);
    all.push(act(requester, poll, PollAct::Accept(vec![given])));
    if ballot.revealed() > 0 {
        // Who was silent has a part in what comes of it.
        let often = if ballot.revealed() < ballot.committed() { 3 } else { 1 };
        all.extend(vec![act(requester, poll, PollAct::Demand(given, About::Withheld { task: 0, chunk: 0 })); often]);
        all.extend(vec![act(0, poll, PollAct::Challenge(given, About::Wrong { task: 0, commitment: 1 })); often]);
    }
    let shown = |(who, replica): (&Who, &super::ballots::Replica)| {
        let silent = matches!(replica.at, Stage::Committed { .. });
        silent.then_some(Shown { batch: given.batch, provider: *who, wrong: false })
    };
    let shown: Vec<_> = ballot.replicas.iter().filter_map(shown).collect();
    if !shown.is_empty() {
        all.push(act(requester, poll, PollAct::RevealAndAccept(shown.clone())));
        all.push(act(KEEPER, poll, PollAct::Reveal(shown)));
    }
}

fn disputes_about(state: &State, poll: usize, given: Given, all: &mut Vec<Move>) {
    let fields = &state.polls[poll].fields;
    let first = given.batch * fields.batch_size;
    // The first of its tasks, and one that it has not.
    for task in [first, first + fields.tasks_in(given.batch)] {
        let who = (task as usize + 1) % PLAYERS;
        all.push(act(who, poll, PollAct::Challenge(given, About::Wrong { task, commitment: 1 })));
        all.push(act(fields.requester, poll, PollAct::Demand(given, About::Withheld { task, chunk: 1 })));
    }
}

fn of_replica(
    state: &State,
    (poll, batch, who): (usize, u32, Who),
    at: Stage,
    (work, audited): (Work, bool),
    all: &mut Vec<Move>,
) {
    let shown = Shown { batch, provider: who, wrong: false };
    match at {
        Stage::Leased { until, backup, .. } => {
            // Mostly the one result that is right; one in four keeps silent, or nearly.
            let right = Work { flavour: 1, fuel: super::calls::Fuel::Real };
            let work = if (who + batch as usize) % 4 == 3 { work } else { right };
            let vote = Vote { work, bound: !state.block.is_multiple_of(6) };
            all.extend(vec![act(who, poll, PollAct::Commit(vec![(batch, vote, audited)])); 8]);
            all.push(act(who, poll, PollAct::Release(vec![batch])));
            let ballot = &state.polls[poll].ballots[batch as usize];
            if backup && state.block < until {
                all.push(Move::Wait { seconds: 1, blocks: until - state.block });
            }
            if ballot.is_beaten(who) || backup && state.block >= until {
                all.extend(vec![act(who, poll, PollAct::Release(vec![batch])); 4]);
            }
            if state.now > if backup { ballot.time } else { until } {
                all.extend(vec![act(KEEPER, poll, PollAct::Expire { batch, provider: who }); 3]);
            }
        }
        Stage::Committed { late, .. } => {
            let opened = |opened| act(who, poll, PollAct::RevealOpened(shown, opened));
            if late {
                all.extend(vec![opened(Opened::Drawn); 6]);
                all.push(opened(Opened::Another));
            }
            let often = if who == 3 { 1 } else { 4 };
            all.extend(vec![act(KEEPER, poll, PollAct::Reveal(vec![shown])); often]);
        }
        _ => {}
    }
}

/// Moments at which something changes.
pub(super) fn moments(state: &State, all: &mut Vec<u64>) {
    for poll in &state.polls {
        if poll.open() > 0 {
            all.extend([poll.fields.ramp_start, poll.fields.ramp_start - poll.assurance.widen]);
        }
        for ballot in poll.ballots.iter().filter(|ballot| !ballot.is_over()) {
            all.extend([ballot.time, ballot.time + poll.assurance.reveal, ballot.time + poll.fields.window]);
            for replica in ballot.replicas.values() {
                if let Stage::Leased { until, backup: false, .. } = replica.at {
                    let lease = poll.fields.lease;
                    let half = until - lease / 2;
                    all.extend([until, half, half + poll.assurance.widen, until - lease * 3 / 4]);
                }
            }
        }
    }
}

/// A call that fits, with something in it changed.
pub(super) fn spoilt(poll: usize, act: PollAct, right: Who, who: Who, how: u8) -> Move {
    let mut made = act;
    let wrong = |given: &mut Given| given.wrong = true;
    match (how, &mut made) {
        (0, _) => return Move::Call(right, Call::Poll { poll, forged: true, act: made }),
        (1, PollAct::Accept(given) | PollAct::Finalise(given)) => given.iter_mut().for_each(wrong),
        (1, PollAct::Amend(fields, ..)) => fields.tasks += 1,
        (2, PollAct::Amend(fields, ..)) => fields.ramp_start = 0,
        (1, PollAct::Resolve(given) | PollAct::Challenge(given, _) | PollAct::Demand(given, _)) => wrong(given),
        (1, PollAct::Reveal(shown) | PollAct::RevealAndAccept(shown)) => shown[0].wrong = true,
        (1, PollAct::RevealOpened(shown, _)) => shown.wrong = true,
        (1 | 2, PollAct::Lease(batches) | PollAct::Release(batches)) => {
            batches.push(if how == 1 { batches[0] } else { 7 });
        }
        (2, PollAct::Accept(given) | PollAct::Finalise(given)) => given.push(given[0]),
        (2, PollAct::Reveal(shown)) => return self::act(right, poll, PollAct::RevealOpened(shown[0], Opened::Drawn)),
        (2, PollAct::RevealOpened(shown, _)) => return self::act(right, poll, PollAct::Reveal(vec![*shown])),
        (2, PollAct::Commit(given)) => given.push(given[0]),
        (3, PollAct::Lease(batches) | PollAct::Release(batches)) => batches.clear(),
        (3, PollAct::Accept(given) | PollAct::Finalise(given)) => given.clear(),
        (3, PollAct::Commit(given)) => given.clear(),
        (3, PollAct::Reveal(shown) | PollAct::RevealAndAccept(shown)) => shown.clear(),
        (4, PollAct::Expire { provider, .. }) => *provider = who,
        (4, PollAct::BackUp { straggler, .. }) => *straggler = who,
        _ => return self::act(who, poll, made),
    }
    self::act(right, poll, made)
}

/// Acts on any batch, in whatever state it is.
pub(super) fn anything(who: Who, poll: usize, batch: u32, kind: u8, work: Work) -> Move {
    let given = Given { batch, wrong: false };
    let provider = (who + 1) % PLAYERS;
    let shown = Shown { batch, provider, wrong: false };
    let made = match kind {
        0 => PollAct::SetContact,
        1 => PollAct::Lease(vec![batch]),
        2 => PollAct::Release(vec![batch]),
        3 => PollAct::BackUp { batch, straggler: provider },
        4 => PollAct::Expire { batch, provider },
        5 => PollAct::Commit(vec![(batch, Vote { work, bound: true }, false)]),
        6 => PollAct::Draw(batch),
        7 => PollAct::Reveal(vec![shown]),
        8 => PollAct::RevealOpened(shown, Opened::Drawn),
        9 => PollAct::Accept(vec![given]),
        10 => PollAct::Finalise(vec![given]),
        11 => PollAct::Freeze(given),
        12 => PollAct::Resolve(given),
        13 => PollAct::Challenge(given, About::Wrong { task: 0, commitment: 2 }),
        14 => PollAct::Demand(given, About::Withheld { task: 0, chunk: 0 }),
        _ => PollAct::Cancel,
    };
    act(who, poll, made)
}

/// Whether it depends on a lot that the reference cannot know whether somebody may lease already.
pub(super) fn is_chance(state: &State, step: &Move) -> bool {
    let Move::Call(who, Call::Poll { poll, act, .. }) = step else { return false };
    let (book, found) = (&state.books[*who], &state.polls[*poll]);
    let (batches, straggler) = match act {
        PollAct::Lease(batches) => (batches.clone(), None),
        PollAct::BackUp { batch, straggler } => (vec![*batch], Some(*straggler)),
        _ => return false,
    };
    let known = batches.into_iter().filter(|batch| (*batch as usize) < found.ballots.len());
    let half = |batch: u32| straggler.and_then(|who| found.ballots[batch as usize].half(who, found.fields.lease));
    known
        .map(|batch| found.turn(batch, book.stake, book.staked_block, half(batch)))
        .any(|turn| matches!(turn, Turn::Between(from, latest) if (from..latest).contains(&state.now)))
}
