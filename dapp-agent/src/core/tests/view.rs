//! What the core decides from what has changed is what it would decide from a look at everything.

use proptest::prelude::*;

use super::{
    replicas::{assurance, ballot, provider},
    *,
};
use crate::chain::{Assured, Ballot, BallotStage, OwnJobs, Replica, ReplicaStage};

const ACCOUNTS: [Address; 3] = [ME, OTHER, Address::repeat_byte(9)];

/// Something happens, on the chain or here. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Move {
    Post { batches: u8, replicas: u8, price: (u8, u8), min_checks: u8, lot: bool },
    Batch { job: u8, batch: u8, stage: u8, holder: u8, previous: u8, deadline: i16 },
    Ballot { job: u8, batch: u8, stage: u8, time: i16, parts: Vec<(u8, u8, i16)> },
    Cancel(u8),
    Keep,
    Reorg,
    Checks(u8),
    Exiting(bool),
    Time(u8),
    Back(u8),
    Prepared(u8, u8),
    Executed(u8, bool, u16),
    Transaction(u8),
    Hash(u8),
    Paused(bool),
    Draining(bool),
    Over(u8),
    Stake(u16),
    Member(u8, bool),
}

fn moves() -> impl Strategy<Value = Move> {
    let post = (1..4u8, 0..3u8, (0..40u8, 0..40u8), 0..3u8, any::<bool>()).prop_map(
        |(batches, replicas, price, min_checks, lot)| Move::Post { batches, replicas, price, min_checks, lot },
    );
    let batch = (any::<u8>(), 0..3u8, 0..6u8, 0..4u8, 0..4u8, -60..200i16).prop_map(
        |(job, batch, stage, holder, previous, deadline)| Move::Batch { job, batch, stage, holder, previous, deadline },
    );
    let part = (0..3u8, 0..7u8, -60..200i16);
    let ballot = (any::<u8>(), 0..3u8, 0..9u8, -60..300i16, prop::collection::vec(part, 0..4))
        .prop_map(|(job, batch, stage, time, parts)| Move::Ballot { job, batch, stage, time, parts });
    prop_oneof![
        4 => post,
        8 => batch,
        8 => ballot,
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => Just(Move::Reorg),
        1 => Just(Move::Keep),
        1 => (0..4u8).prop_map(Move::Checks),
        1 => any::<bool>().prop_map(Move::Exiting),
        8 => (0..60u8).prop_map(Move::Time),
        1 => (0..60u8).prop_map(Move::Back),
        8 => (any::<u8>(), 0..6u8).prop_map(|(job, how)| Move::Prepared(job, how)),
        6 => (any::<u8>(), prop::bool::weighted(0.8), 1..9_000u16).prop_map(|(n, done, ms)| Move::Executed(n, done, ms)),
        8 => (0..8u8).prop_map(Move::Transaction),
        6 => any::<u8>().prop_map(Move::Hash),
        1 => prop::bool::weighted(0.3).prop_map(Move::Paused),
        1 => prop::bool::weighted(0.3).prop_map(Move::Draining),
        1 => any::<u8>().prop_map(Move::Over),
        2 => (0..9_000u16).prop_map(Move::Stake),
        1 => (0..3u8, prop::bool::weighted(0.7)).prop_map(|(who, is_member)| Move::Member(who, is_member)),
    ]
}

/// Two cores over one index: one goes by what has changed, the other looks at everything each time.
struct Pair {
    quick: Core,
    plain: Core,
    own: OwnJobs,
    index: Index,
    before: Index,
    number: u64,
    now: u64,
    stake: u64,
    posts: u64,
    preparing: Vec<B256>,
    executing: Vec<BatchId>,
    asked: Vec<u64>,
    acted: usize,
}

impl Pair {
    fn new() -> Self {
        let mut index = Index::new(RULES);
        index.providers.extend(ACCOUNTS.map(|account| (account, provider())));
        let policy = Policy { groups: [OTHER].into(), ..POLICY };
        let mut plain = Core::new(ME, policy.clone());
        plain.view.plain = true;
        let mut pair = Self {
            quick: Core::new(ME, policy),
            plain,
            own: OwnJobs::new(ME),
            before: index.clone(),
            index,
            number: 100,
            now: 10_000,
            stake: 5_000,
            posts: 0,
            preparing: Vec::new(),
            executing: Vec::new(),
            asked: Vec::new(),
            acted: 0,
        };
        pair.step(Event::Members([0, 1, 2].map(|who| (Address::repeat_byte(who), true)).into()));
        pair
    }

    fn step(&mut self, event: Event) {
        let actions = self.quick.step(&self.index, event.clone());
        assert_eq!(actions, self.plain.step(&self.index, event.clone()), "after {event:?}");
        self.quick.look_around(&self.index);
        let open: BTreeSet<_> = self.quick.view.open(&self.index).map(|(id, _)| id).collect();
        for (id, entry) in &self.index.jobs {
            let wanted = self.quick.terms(&self.index, entry).is_none() && self.quick.has_room(*id, entry);
            assert!(!wanted || open.contains(id), "{id} is overlooked after {event:?}");
        }
        self.acted += actions.len();
        for action in actions {
            match action {
                Action::Prepare(id) => self.preparing.push(id),
                Action::Execute(id) => self.executing.push(id),
                Action::Abandon(id) => self.executing.retain(|other| *other != id),
                Action::BlockHash(block) => self.asked.push(block),
                _ => {}
            }
        }
    }

    fn look(&mut self) {
        let locked = self.quick.locked_stake(&self.index);
        assert_eq!(locked, self.index.locked_stake(ME));
        self.own.look(&self.index);
        let mut anew = OwnJobs::new(ME);
        anew.look(&self.index);
        assert_eq!(self.own.jobs(), anew.jobs());
        let free_stake = U256::from(self.stake).saturating_sub(locked);
        self.step(Event::Head { number: self.number, now: self.now, free_stake });
        assert_eq!(self.quick.overview(&self.index), self.plain.overview(&self.index));
    }

    fn at(&self, seconds: i16) -> u64 {
        self.now.saturating_add_signed(seconds.into())
    }

    fn entry(&mut self, job: u8) -> Option<&mut JobEntry> {
        let id = *self.index.order.get(usize::from(job).checked_rem(self.index.order.len())?)?;
        self.index.change(&id)
    }

    fn post(&mut self, batches: u8, replicas: u8, (start, rise): (u8, u8), min_checks: u8, lot: bool) {
        self.posts += 1;
        let (ramp, count) = (u32::from(rise) * 3, usize::from(batches));
        let terms = Job {
            nonce: self.posts,
            requester: Address::repeat_byte(self.posts as u8 % 3),
            startPrice: 970 + u128::from(start),
            maxPrice: 970 + u128::from(start.max(rise)),
            rampStart: self.now as u32,
            rampSeconds: ramp,
            ..job(1, batches.into())
        };
        let widen = if lot { 50 } else { 0 };
        let assured = (replicas > 0).then(|| {
            let terms = conun_bindings::abi::ReplicaRegistry::Assurance {
                minChecks: min_checks.into(),
                widenSeconds: widen,
                ..assurance(replicas, replicas + 1, 1_000)
            };
            Box::new(Assured::new(terms, vec![ballot(); count]))
        });
        let entry = JobEntry {
            contact: PeerContact { endpoint: [1; 32], hints: Vec::new() },
            deposit: job::deposit(&terms),
            job: terms,
            spec: spec(1),
            block: self.number,
            changed: self.number,
            batches: Batches::new(if assured.is_some() { 0 } else { count }),
            assured,
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: Vec::new(),
        };
        self.index.insert(keccak256(self.posts.to_be_bytes()), entry);
    }

    fn play(&mut self, step: Move) {
        match step {
            Move::Post { batches, replicas, price, min_checks, lot } => {
                self.post(batches, replicas, price, min_checks, lot)
            }
            Move::Batch { job, batch, stage, holder, previous, deadline } => {
                use BatchStage as S;
                let stages = [S::Open, S::Leased, S::Submitted, S::Settled, S::Cancelled, S::Frozen];
                let account = |which: u8| ACCOUNTS.get(usize::from(which)).copied().unwrap_or_default();
                let (deadline, active_block) = (self.at(deadline), self.number + u64::from(previous));
                let Some(batch) = self.entry(job).and_then(|entry| entry.batches.get_mut(batch.into())) else { return };
                let price = if stage == 0 && previous == 0 { 0 } else { 995 + u128::from(previous) * 3 };
                *batch = BatchEntry {
                    stage: stages[usize::from(stage)],
                    provider: account(holder),
                    previous: account(previous),
                    deadline,
                    active_block,
                    price,
                    ..BatchEntry::NEW
                };
            }
            Move::Ballot { job, batch, stage, time, parts } => {
                use BallotStage as S;
                let stages = [
                    S::Open,
                    S::Committing,
                    S::Committing,
                    S::Drawing,
                    S::Revealing,
                    S::Frozen,
                    S::Settled,
                    S::Undecided,
                    S::Cancelled,
                ];
                let (now, number) = (self.now, self.number);
                let time = self.at(time);
                let Some(assured) = self.entry(job).and_then(|entry| entry.assured.as_deref_mut()) else { return };
                let wanted = assured.assurance.replicas.into();
                let Some(ballot) = assured.ballots.get_mut(usize::from(batch)) else { return };
                let part = |(who, stage, deadline): (u8, u8, i16)| {
                    let deadline = now.saturating_add_signed(deadline.into());
                    let rival = Some(ACCOUNTS[usize::from(who + 1) % 3]);
                    let stage = match stage {
                        0 | 1 => ReplicaStage::Leased { deadline, active_block: None, rival: None },
                        2 => ReplicaStage::Leased { deadline, active_block: Some(number + 3), rival },
                        3 => ReplicaStage::Committed { block: number - 2, public: false },
                        4 => ReplicaStage::Committed { block: number - 2, public: true },
                        5 => ReplicaStage::Revealed { root: B256::repeat_byte(who), fuel: 1, outputs: [0; 32] },
                        _ => ReplicaStage::Done,
                    };
                    (ACCOUNTS[usize::from(who)], Replica { stage, price: 1_000, checks: 1 })
                };
                let replicas = parts.into_iter().map(part).collect();
                let opened = if wanted == 1 { number - 5 } else { 0 };
                *ballot = Ballot {
                    stage: stages[usize::from(stage)],
                    wanted,
                    time,
                    opened,
                    replicas,
                    ..super::replicas::ballot()
                };
            }
            Move::Cancel(job) => {
                if let Some(entry) = self.entry(job) {
                    entry.cancelled = true;
                }
            }
            Move::Reorg => {
                // As a follower takes back what came after.
                let mut index = self.before.clone();
                index.replaces(&self.index);
                (self.index, self.before) = (index.clone(), index);
                self.look();
            }
            Move::Keep => self.before = self.index.clone(),
            Move::Checks(checks) => self.index.providers.get_mut(&ME).unwrap().checks = checks.into(),
            Move::Exiting(exiting) => {
                self.index.providers.get_mut(&ME).unwrap().exit_at = exiting.then_some(1_000_000);
            }
            Move::Time(seconds) => {
                self.now += u64::from(seconds);
                self.number += u64::from(seconds / 12) + 1;
                self.look();
            }
            Move::Back(seconds) => {
                self.now -= u64::from(seconds);
                self.look();
            }
            Move::Prepared(which, how) => {
                let Some(at) = usize::from(which).checked_rem(self.preparing.len()) else { return };
                let id = self.preparing.remove(at);
                self.step(match how {
                    0 => Event::Unavailable(id, "nobody has it".to_owned()),
                    1 => Event::Refused(id, "not WASI".to_owned()),
                    _ => Event::Prepared(id),
                });
            }
            Move::Executed(which, done, millis) => {
                let Some(at) = usize::from(which).checked_rem(self.executing.len()) else { return };
                let batch = self.executing.remove(at);
                let record = record(B256::repeat_byte(which % 3));
                self.step(match done {
                    true => Event::Executed { batch, record, millis: u64::from(millis) },
                    false => Event::NotExecuted(batch, "the input is gone".to_owned()),
                });
            }
            Move::Transaction(how) => self.step(match how {
                0 => Event::LostRace,
                1 => Event::NotSent("no gas".to_owned()),
                _ => Event::Sent,
            }),
            Move::Hash(which) => {
                let Some(at) = usize::from(which).checked_rem(self.asked.len()) else { return };
                let block = self.asked.remove(at);
                self.step(Event::BlockHash(block, (which % 5 != 0).then(|| keccak256(block.to_be_bytes()))));
            }
            Move::Paused(paused) => self.step(Event::Paused(paused)),
            Move::Draining(draining) => self.step(Event::Draining(draining)),
            Move::Over(job) => {
                if let Some(at) = usize::from(job).checked_rem(self.index.order.len()) {
                    self.step(Event::Over(self.index.order[at]));
                }
            }
            Move::Stake(stake) => self.stake = stake.into(),
            Move::Member(who, is_member) => {
                self.step(Event::Members([(Address::repeat_byte(who), is_member)].into()));
                self.look();
            }
        }
    }
}

proptest! {
    #[test]
    fn what_has_changed_is_enough_to_decide_on(steps in prop::collection::vec(moves(), 0..120)) {
        let mut pair = Pair::new();
        pair.look();
        steps.into_iter().for_each(|step| pair.play(step));
        pair.look();
    }
}

#[test]
fn a_market_of_no_interest_is_not_gone_through() {
    let mut pair = Pair::new();
    for number in 0..40 {
        // Too cheap, until a time of its own.
        pair.post(1, 0, (10, 39 + number % 3), 0, false);
        pair.post(1, 2, (35, 36), 2, true);
    }
    pair.look();
    let open = |pair: &Pair| pair.quick.view.open(&pair.index).count();
    assert_eq!((open(&pair), pair.acted), (0, 0));
    pair.index.providers.get_mut(&ME).unwrap().checks = 2;
    pair.look();
    assert_eq!(open(&pair), 40, "its record is good enough now");
    pair.now += 200;
    pair.look();
    assert_eq!(open(&pair), 80, "the others pay enough now");
    let one = *pair.index.order.first().unwrap();
    pair.index.change(&one).unwrap().batches.cancel_open();
    pair.look();
    assert_eq!(open(&pair), 79);
}

#[test]
fn a_job_that_turns_out_to_be_quick_has_room_where_there_seemed_to_be_none() {
    let mut pair = Pair::new();
    pair.post(2, 2, (30, 30), 0, false);
    pair.play(Move::Prepared(0, 2));
    // One is held; of the other a slot is left, for less than half of a lease.
    let leased = |who: u8, time: i16| Move::Ballot { job: 0, batch: who, stage: 1, time, parts: vec![(who, 0, 90)] };
    pair.play(leased(0, 150));
    pair.play(leased(1, 20));
    pair.look();
    pair.look();
    pair.play(Move::Prepared(0, 2));
    let open = |pair: &Pair| pair.quick.view.open(&pair.index).count();
    assert_eq!((open(&pair), pair.executing.len()), (0, 1));
    pair.play(Move::Executed(0, true, 1_000));
    assert_eq!(open(&pair), 1);
}
