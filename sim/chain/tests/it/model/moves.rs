//! Which moves are tried: mostly such as fit what stands, often a little wrong, sometimes anything.

use proptest::{prelude::*, sample::select, strategy::Union};

use super::{
    calls::{Act, Call, Fuel, Given, INTRUSIONS, Move, NO_ROOT, Permit, Reply, Work},
    disputes::{About, CaseState},
    jobs::{Batch, Fields},
    reference::{ARBITER, DEMANDING, EXIT_DELAY, KEEPER, PLAYERS, PURSE, RULING, State, Who},
    voting,
};

const MOST_JOBS: usize = 7;
pub(super) const MOST_POLLS: usize = 4;

pub(super) fn player() -> impl Strategy<Value = Who> {
    0..PLAYERS
}

fn permit() -> impl Strategy<Value = Permit> {
    prop_oneof![
        6 => Just(Permit::None),
        2 => (0..2 * PURSE).prop_map(Permit::Good),
        1 => (0..2 * PURSE).prop_map(Permit::Bad),
    ]
}

pub(super) fn any_permit() -> BoxedStrategy<Permit> {
    permit().boxed()
}

fn work() -> impl Strategy<Value = Work> {
    let fuel = prop_oneof![12 => Just(Fuel::Real), 2 => Just(Fuel::Limit), 1 => Just(Fuel::Nothing), 1 => Just(Fuel::AboveLimit)];
    let flavour = prop_oneof![15 => 1..5u8, 1 => Just(NO_ROOT)];
    (flavour, fuel).prop_map(|(flavour, fuel)| Work { flavour, fuel })
}

/// A job's terms: mostly good ones.
fn fields(requester: Who, now: u64) -> impl Strategy<Value = Fields> {
    let size = (1..=6u32, 1..=3u32);
    let prices = (1..=3_000u128, 0..=3_000u128);
    let ramp = (now - 300..now + 300, prop_oneof![1 => Just(0u64), 2 => 1..1_500u64]);
    // Some leases end before a successor would be active, some terms exceed the cap.
    let times = (1..=600u64, prop_oneof![20 => 1..=400u64, 1 => 9_000..10_100u64]);
    let spoil = prop_oneof![20 => Just(0), 1 => 1..=4u8];
    (0..3u64, size, 1..=3_000_000_000u64, prices, ramp, times, spoil).prop_map(
        move |(
            nonce,
            (tasks, batch_size),
            fuel_limit,
            (start_price, rise),
            (ramp_start, ramp),
            (lease, window),
            spoil,
        )| {
            let mut fields = Fields {
                requester,
                nonce,
                tasks,
                batch_size: batch_size.min(tasks),
                fuel_limit,
                start_price,
                max_price: start_price + if ramp == 0 { 0 } else { rise },
                ramp_start,
                ramp,
                lease,
                window,
            };
            match spoil {
                1 => fields.batch_size = tasks + 1,
                2 => fields.start_price = fields.max_price + 1,
                3 => fields.window = 0,
                4 => fields.fuel_limit = 0,
                _ => {}
            }
            fields
        },
    )
}

fn call(who: Who, call: Call) -> Move {
    Move::Call(who, call)
}

fn act(who: Who, job: usize, act: Act) -> Move {
    Move::Call(who, Call::Job { job, forged: false, act })
}

/// Calls that do not depend on what stands.
fn at_any_time() -> BoxedStrategy<Move> {
    let amount = || prop_oneof![0..2_000u128, 0..PURSE];
    let payout = || prop_oneof![9 => player().prop_map(Some), 1 => Just(None)];
    let endpoint = || prop_oneof![9 => 1..9u64, 1 => Just(0)];
    let calls = prop_oneof![
        2 => amount().prop_map(Call::Approve),
        1 => (0..500u128).prop_map(Call::Donate),
        4 => (player(), amount(), permit()).prop_map(|(to, amount, permit)| Call::Deposit { to, amount, permit }),
        3 => amount().prop_map(Call::Withdraw),
        1 => Just(Call::Burn),
        1 => (0..INTRUSIONS).prop_map(Call::Intrude),
        6 => (payout(), endpoint(), prop_oneof![1 => 0..2_000u128, 9 => 10_000..150_000u128], permit()).prop_map(
            |(payout, endpoint, stake, permit)| Call::Register { payout, endpoint, stake, permit }
        ),
        1 => endpoint().prop_map(Call::SetEndpoint),
        1 => (player(), payout()).prop_map(|(provider, payout)| Call::SetPayout { provider, payout }),
        2 => (0..100_000u128, permit()).prop_map(|(amount, permit)| Call::AddStake(amount, permit)),
        1 => Just(Call::RequestExit),
        1 => Just(Call::CancelExit),
        1 => Just(Call::Exit),
        1 => player().prop_map(Call::PayOut),
        1 => (0..4usize, any::<bool>(), player())
            .prop_map(|(case, upheld, defender)| Call::Rule { case, upheld, defender }),
        1 => (0..4usize).prop_map(Call::Claim),
        1 => (0..4usize).prop_map(|case| Call::Answer { case, reply: Reply::Right }),
    ];
    (player(), calls).prop_map(|(who, made)| call(who, made)).boxed()
}

/// A new job, of the kind that the run is about, and whether there is room for it.
fn post(state: &State) -> (BoxedStrategy<Move>, bool) {
    if state.has_polls {
        return (voting::post(state), state.polls.len() < MOST_POLLS);
    }
    let now = state.now;
    let post = (player(), player(), 0..9u8, permit()).prop_flat_map(move |(who, other, luck, permit)| {
        let from = if luck == 0 { other } else { who };
        fields(who, now).prop_map(move |fields| call(from, Call::Post(fields, permit)))
    });
    (post.boxed(), state.jobs.len() < MOST_JOBS)
}

/// Calls that providers' registrations allow.
fn of_providers(state: &State, all: &mut Vec<Move>) {
    for (who, book) in state.books.iter().enumerate().take(PLAYERS) {
        let Some((payout, _)) = book.registered else { continue };
        if book.earned > 0 {
            all.extend([call(who, Call::PayOut(who)), call(payout, Call::PayOut(who))]);
        }
        if who.is_multiple_of(2) {
            all.push(call(payout, Call::SetPayout { provider: who, payout: Some((payout + 1) % PLAYERS) }));
        }
        match book.exit_at {
            0 if state.now % 5 == 1 => all.push(call(who, Call::RequestExit)),
            0 => {}
            at if state.now >= at => all.extend(vec![call(who, Call::Exit); 4]),
            // Too early, mostly: whoever waits for it finds no other way to do so.
            _ => all.extend([call(who, Call::CancelExit), call(who, Call::Exit)]),
        }
    }
}

/// Calls that the state of a batch allows, now or soon.
fn of_batch(state: &State, job: usize, number: u32, work: Work, all: &mut Vec<Move>) {
    let found = &state.jobs[job];
    let requester = found.fields.requester;
    let given = Given { batch: number, wrong: false };
    match found.batches[number as usize] {
        Batch::Open { last, .. } if !found.cancelled => {
            // Several in one call, where the next is open as well.
            let next = found.batches.get(number as usize + 1).is_some_and(Batch::is_open);
            let batches = if next { vec![number, number + 1] } else { vec![number] };
            for who in (0..PLAYERS).filter(|who| state.books[*who].stake > state.books[*who].held) {
                all.extend([act(who, job, Act::Lease(batches.clone())), act(who, job, Act::Lease(vec![number]))]);
            }
            all.extend(last.map(|last| act(last, job, Act::Submit(vec![(number, work)]))));
        }
        Batch::Leased { holder, deadline, former, .. } => {
            let submit = |who| act(who, job, Act::Submit(vec![(number, work)]));
            all.extend([submit(holder), submit(holder), submit(holder)]);
            all.extend(former.map(|(former, _)| submit(former)));
            all.push(act(holder, job, Act::Release(vec![number])));
            // At the deadline it is too early.
            if state.now >= deadline {
                all.push(act((number as usize + job) % PLAYERS, job, Act::Expire(vec![number])));
                let successors = (0..PLAYERS).filter(|who| state.books[*who].stake > 0);
                all.extend(successors.map(|who| act(who, job, Act::Lease(vec![number]))));
            }
        }
        Batch::Submitted(result) => {
            all.push(act(requester, job, Act::Accept(vec![given])));
            all.push(act(requester, job, Act::Reject(given, Permit::None)));
            if state.now >= result.final_at {
                all.extend(vec![act(KEEPER, job, Act::Finalise(vec![given])); 3]);
            } else {
                disputes_about(state, job, given, all);
            }
        }
        Batch::Frozen(result) => {
            all.push(act(KEEPER, job, Act::Resolve(given)));
            if state.now < result.final_at {
                disputes_about(state, job, given, all);
            } else {
                all.extend(vec![act(requester, job, Act::Resolve(given)); 3]);
            }
        }
        _ => {}
    }
}

fn disputes_about(state: &State, job: usize, given: Given, all: &mut Vec<Move>) {
    let fields = &state.jobs[job].fields;
    let first = given.batch * fields.batch_size;
    for task in first..=first + fields.tasks_in(given.batch) {
        let who = task as usize % PLAYERS;
        all.push(act(who, job, Act::Challenge(given, About::Wrong { task, commitment: 1 })));
        let demand = |chunk| act(fields.requester, job, Act::Demand(given, About::Withheld { task, chunk }));
        all.extend([demand(0), demand(1)]);
    }
}

fn of_cases(state: &State, all: &mut Vec<Move>) {
    for (case, found) in state.cases.iter().enumerate() {
        if found.state == CaseState::Open && state.now <= found.deadline {
            if matches!(found.about, About::Wrong { .. }) {
                let rule = |upheld| call(ARBITER, Call::Rule { case, upheld, defender: case % PLAYERS });
                all.extend([rule(true), rule(false), rule(true)]);
            } else {
                let who = (case + 1) % PLAYERS;
                let answer = |reply| call(who, Call::Answer { case, reply });
                all.extend([answer(Reply::Right), answer(Reply::OtherChunk)]);
                all.extend([answer(Reply::ForgedLeaf), answer(Reply::OtherResult)]);
            }
        }
        if state.disputes[found.dispute].concluded.is_some() && found.state != CaseState::Closed {
            all.push(call(KEEPER, Call::Claim(case)));
        }
    }
}

/// To the moments at which something changes, and to those next to them.
fn waits(state: &State) -> BoxedStrategy<Move> {
    let mut moments: Vec<u64> = state.books.iter().map(|book| book.exit_at).collect();
    for job in &state.jobs {
        for batch in &job.batches {
            match batch {
                Batch::Leased { deadline, .. } => {
                    moments.extend([*deadline, deadline - job.fields.lease + job.fields.lease / 4]);
                }
                Batch::Submitted(result) | Batch::Frozen(result) => moments.push(result.final_at),
                _ => {}
            }
        }
    }
    moments.extend(state.cases.iter().filter(|case| case.state == CaseState::Open).map(|case| case.deadline));
    voting::moments(state, &mut moments);
    moments.retain(|moment| *moment >= state.now);
    moments.sort_unstable();
    // Mostly to what comes first.
    moments.dedup();
    let all = moments.clone();
    moments.truncate(2);
    moments.push(state.now);
    let now = state.now;
    let to = move |moment: u64, past: u64, blocks| Move::Wait { seconds: moment - now + past, blocks };
    let soon = (select(moments), 0..=1u64, 0..2u64).prop_map(move |(moment, past, blocks)| to(moment, past, blocks));
    let blocks = (1..4u64).prop_map(|blocks| Move::Wait { seconds: 1, blocks });
    let mut options = vec![(5, soon.boxed()), (4, blocks.boxed())];
    if !all.is_empty() {
        // A long time may pass without anybody doing anything.
        let any = (select(all), 0..=1u64).prop_map(move |(moment, past)| to(moment, past, 1));
        options.push((2, any.boxed()));
    }
    Union::new_weighted(options).boxed()
}

/// A call that fits, made by another, or with something in it changed.
fn spoilt(fitting: Move, who: Who, how: u8) -> Move {
    let Move::Call(right, mut made) = fitting else { return fitting };
    if let Call::Poll { poll, act, .. } = made {
        return voting::spoilt(poll, act, right, who, how);
    }
    let Call::Job { job: _, forged, act } = &mut made else { return call(who, made) };
    let spoil = |given: &mut Given| given.wrong = true;
    match (how, act) {
        (0, _) => *forged = true,
        (1, Act::Accept(given) | Act::Finalise(given)) => given.iter_mut().for_each(spoil),
        (1, Act::Reject(given, _) | Act::Resolve(given) | Act::Challenge(given, _) | Act::Demand(given, _)) => {
            spoil(given)
        }
        (1 | 2, Act::Lease(batches) | Act::Release(batches) | Act::Expire(batches)) => {
            batches.push(if how == 1 { batches[0] } else { 7 });
        }
        (2, Act::Accept(given) | Act::Finalise(given)) => given.push(given[0]),
        (3, Act::Lease(batches) | Act::Release(batches) | Act::Expire(batches)) => batches.clear(),
        (3, Act::Accept(given) | Act::Finalise(given)) => given.clear(),
        (3, Act::Submit(results)) => results.clear(),
        _ => return call(who, made),
    }
    call(right, made)
}

/// Acts on any batch, in whatever state it is.
fn anything(state: &State, who: Who, job: usize, batch: u32, kind: u8, work: Work) -> Move {
    let given = Given { batch, wrong: false };
    let task = batch * state.jobs[job].fields.batch_size;
    act(
        who,
        job,
        match kind {
            0 => Act::SetContact,
            1 => Act::Lease(vec![batch]),
            2 => Act::Release(vec![batch]),
            3 => Act::Submit(vec![(batch, work)]),
            4 => Act::Accept(vec![given]),
            5 => Act::Finalise(vec![given]),
            6 => Act::Expire(vec![batch]),
            7 => Act::Reject(given, Permit::None),
            8 => Act::Freeze(given),
            9 => Act::Resolve(given),
            10 => Act::Challenge(given, About::Wrong { task, commitment: 2 }),
            11 => Act::Demand(given, About::Withheld { task, chunk: 0 }),
            _ => Act::Cancel,
        },
    )
}

/// Moves that succeed now, or nearly.
fn fitting(state: &State) -> BoxedStrategy<Move> {
    let here = state.clone();
    let all = (work(), any::<bool>()).prop_flat_map(move |(work, audited)| {
        let mut all = vec![Move::Wait { seconds: 1, blocks: 1 }];
        // Else there would be little but these.
        if here.block.is_multiple_of(4) {
            of_providers(&here, &mut all);
        }
        of_cases(&here, &mut all);
        for (job, found) in here.jobs.iter().enumerate() {
            found.numbered().for_each(|(number, _)| of_batch(&here, job, number, work, &mut all));
        }
        for (poll, found) in here.polls.iter().enumerate() {
            let batches = 0..found.fields.batches();
            batches.for_each(|batch| voting::of_ballot(&here, poll, batch, (work, audited), &mut all));
        }
        select(all)
    });
    all.boxed()
}

/// What may come next.
pub(super) fn moves(state: &State) -> BoxedStrategy<Move> {
    let mut options = vec![(if state.has_polls { 2 } else { 6 }, at_any_time()), (4, waits(state))];
    let first = state.jobs.is_empty() && state.polls.is_empty();
    if let (post, true) = post(state) {
        options.push((if first { 20 } else { 2 }, post));
    }
    if !state.polls.is_empty() {
        let fitting = fitting(state);
        let spoilt = (fitting.clone(), player(), 0..6u8).prop_map(|(fitting, who, how)| spoilt(fitting, who, how));
        let anything = (player(), 0..state.polls.len(), 0..3u32, 0..16u8, work())
            .prop_map(|(who, poll, batch, kind, work)| voting::anything(who, poll, batch, kind, work));
        options.extend([(36, fitting), (6, spoilt.boxed()), (4, anything.boxed())]);
    }
    if !state.jobs.is_empty() {
        let fitting = fitting(state);
        let spoilt = (fitting.clone(), player(), 0..6u8).prop_map(|(fitting, who, how)| spoilt(fitting, who, how));
        let here = state.clone();
        let anything = (player(), 0..state.jobs.len(), 0..3u32, 0..13u8, work())
            .prop_map(move |(who, job, batch, kind, work)| anything(&here, who, job, batch, kind, work));
        let (here, now) = (state.clone(), state.now);
        let of_jobs =
            (0..state.jobs.len(), 0..8u8, permit(), player()).prop_flat_map(move |(job, kind, permit, other)| {
                let old = here.jobs[job].fields.clone();
                let requester = old.requester;
                fields(requester, now).prop_map(move |new| match kind {
                    0 => act(requester, job, Act::Cancel),
                    1 => act(requester, job, Act::SetContact),
                    4 => call(requester, Call::Post(old.clone(), permit)),
                    2 => act(other, job, Act::Amend(new, permit)),
                    3 => act(requester, job, Act::Amend(new, permit)),
                    _ => {
                        let same =
                            Fields { tasks: old.tasks, batch_size: old.batch_size, fuel_limit: old.fuel_limit, ..new };
                        act(requester, job, Act::Amend(same, permit))
                    }
                })
            });
        options.extend([(22, fitting), (5, spoilt.boxed()), (5, anything.boxed()), (2, of_jobs.boxed())]);
    }
    Union::new_weighted(options).boxed()
}

/// The longest that any batch takes from the moment on at which nothing more is leased and nobody disputes it: its lease, or its window
/// and what its disputes take.
pub(super) fn horizon(state: &State) -> u64 {
    let of_polls = state.polls.iter().map(|poll| &poll.fields);
    let all = state.jobs.iter().map(|job| &job.fields).chain(of_polls);
    let times = all.map(|fields| (fields.lease + 1).max(fields.window));
    times.max().unwrap_or(0) + RULING.max(DEMANDING) + 1
}

/// How long providers take to leave.
pub(super) const LEAVING: u64 = EXIT_DELAY;
