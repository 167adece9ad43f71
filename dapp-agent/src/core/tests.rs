mod orders;
mod replicas;
mod view;
mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use alloy::primitives::{Address, B256, U256, keccak256};
use conun_bindings::{
    Rules,
    abi::JobRegistry::{Job, Spec},
    job,
};

use super::*;
use crate::{
    chain::{BatchEntry, BatchStage, Batches, JobEntry},
    net::PeerContact,
    store::Salt,
};

const ME: Address = Address::repeat_byte(7);
const OTHER: Address = Address::repeat_byte(8);
const RULES: Rules = Rules {
    min_stake: U256::from_limbs([1_000, 0, 0, 0]),
    audit_floor_bps: 5_000,
    faulty_bps: 2_000,
    fee_bps: 100,
    check_fee: U256::ONE,
    arbiter: Address::ZERO,
};
const LEASE: u32 = 100;
const WINDOW: u64 = 50;
const DELAY: u64 = 3;
const STAKE: u64 = 5_000;

fn job(category: u32, batches: u32) -> Job {
    Job {
        requester: Address::repeat_byte(1),
        nonce: category.into(),
        spec: job::spec_hash(&spec(category)),
        taskCount: batches,
        batchSize: 1,
        fuelLimit: 1_000_000_000,
        startPrice: 1_000,
        maxPrice: 1_000,
        rampStart: 0,
        rampSeconds: 0,
        leaseSeconds: LEASE,
        windowSeconds: WINDOW as u32,
    }
}

fn spec(category: u32) -> Spec {
    Spec {
        program: B256::repeat_byte(1),
        programRoot: B256::repeat_byte(2),
        inputs: B256::repeat_byte(3),
        inputRoot: B256::repeat_byte(4),
        memoryLimit: 65_536,
        category,
    }
}

fn record(root: B256) -> ResultRecord {
    ResultRecord { root, fuel: 1, outputs: B256::ZERO, bound: B256::ZERO, salt: Salt::default() }
}

/// A chain by the registry's rules, a host for executions, and the core between them.
struct World {
    core: Core,
    index: Index,
    number: u64,
    now: u64,
    paused: bool,
    /// Stake, token wei; a batch locks 1,000.
    stake: u64,
    sending: Option<Action>,
    executing: BTreeSet<BatchId>,
    prepared: BTreeSet<B256>,
    preparing: BTreeSet<B256>,
    /// The journal: a batch's first result.
    journal: BTreeMap<BatchId, ResultRecord>,
    submitted: BTreeMap<BatchId, B256>,
    executions: u64,
    actions: Vec<Action>,
}

const POLICY: Policy = Policy {
    min_price: 1_000,
    max_memory_bytes: 1 << 20,
    max_fuel: u64::MAX,
    categories: BTreeSet::new(),
    groups: BTreeSet::new(),
    blocked: BTreeSet::new(),
    workers: 2,
    tokens_per_ether: None,
};

impl World {
    fn new() -> Self {
        let mut world = Self {
            core: Core::new(ME, POLICY),
            index: Index::new(RULES),
            number: 10,
            now: 1_000,
            paused: false,
            stake: STAKE,
            sending: None,
            executing: BTreeSet::new(),
            prepared: BTreeSet::new(),
            preparing: BTreeSet::new(),
            journal: BTreeMap::new(),
            submitted: BTreeMap::new(),
            executions: 0,
            actions: Vec::new(),
        };
        world.look();
        world
    }

    fn post(&mut self, job: Job) -> B256 {
        let category = job.nonce as u32;
        self.post_with(job, spec(category))
    }

    fn post_with(&mut self, job: Job, spec: Spec) -> B256 {
        let id = keccak256([job.nonce as u8]);
        let batches = Batches::new(job::batch_count(&job) as usize);
        let contact = PeerContact { endpoint: [1; 32], hints: Vec::new() };
        let deposit = job::deposit(&job);
        let entry = JobEntry {
            job,
            spec,
            contact,
            deposit,
            block: self.number,
            changed: self.number,
            batches,
            assured: None,
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: Vec::new(),
        };
        self.index.insert(id, entry);
        self.look();
        id
    }

    fn free_stake(&self) -> U256 {
        U256::from(self.stake) - self.index.locked_stake(ME)
    }

    fn look(&mut self) {
        let free_stake = self.free_stake();
        self.step(Event::Head { number: self.number, now: self.now, free_stake });
    }

    fn step(&mut self, event: Event) {
        for action in self.core.step(&self.index, event) {
            self.check(&action);
            self.actions.push(action);
        }
    }

    fn batch(&mut self, (job, batch): BatchId) -> &mut BatchEntry {
        self.index.change(&job).unwrap().batches.get_mut(batch as usize).unwrap()
    }

    /// What must hold of every action, whatever happened before.
    fn check(&mut self, action: &Action) {
        let transaction =
            matches!(action, Action::Lease(..) | Action::Submit(..) | Action::Release(..) | Action::Finalise(..));
        if transaction {
            assert!(self.sending.is_none(), "two transactions at once: {action:?} and {:?}", self.sending);
            self.sending = Some(action.clone());
        }
        match action {
            Action::Prepare(job) => assert!(self.preparing.insert(*job), "prepared twice at once"),
            Action::Execute(id) => {
                assert!(self.executing.insert(*id), "two executions of a batch");
                assert!(self.executing.len() <= 2, "more executions than workers");
                assert!(self.prepared.contains(&id.0), "executed unprepared");
                let batch = self.batch(*id);
                assert!(batch.stage == BatchStage::Leased && batch.provider == ME, "executed without a lease");
            }
            Action::Abandon(id) => assert!(self.executing.remove(id), "nothing to abandon"),
            Action::Lease(job, numbers) => {
                assert!(!self.paused, "leased while paused");
                assert!(self.prepared.contains(job), "leased before program and inputs were checked");
                let entry = &self.index.jobs[job];
                let lock: U256 = numbers.iter().map(|number| entry.lease_lock(*number, &RULES)).sum();
                assert!(lock <= self.free_stake(), "leased more than the stake allows");
                let distinct: BTreeSet<_> = numbers.iter().collect();
                assert!(!numbers.is_empty() && distinct.len() == numbers.len(), "the same batch twice");
                assert!(numbers.iter().all(|number| entry.batches[*number as usize].is_free(self.now)), "not free");
                let waiting = |(id, entry): (&B256, &Arc<JobEntry>)| {
                    let held = entry
                        .batches
                        .iter()
                        .zip(0..)
                        .filter(|(batch, _)| batch.stage == BatchStage::Leased && batch.provider == ME);
                    let held = held.filter(|_| self.prepared.contains(id) || self.preparing.contains(id));
                    held.filter(|(_, number)| !self.journal.contains_key(&(*id, *number))).count()
                };
                let waiting: usize = self.index.jobs.iter().map(waiting).sum();
                assert!(waiting + numbers.len() <= 2 * 8, "a longer queue than eight batches a worker");
            }
            Action::Submit(job, results) => {
                for (number, record) in results {
                    let first = *self.submitted.entry((*job, *number)).or_insert(record.root);
                    assert_eq!(first, record.root, "two roots for a batch");
                    let (now, batch) = (self.number + 1, &self.index.jobs[job].batches[*number as usize]);
                    let late = batch.previous == ME && (batch.stage == BatchStage::Open || now < batch.active_block);
                    assert!(batch.provider == ME && now >= batch.active_block || late, "not ours to submit: {batch:?}");
                }
            }
            Action::Release(job, numbers) => {
                for number in numbers {
                    let batch = &self.index.jobs[job].batches[*number as usize];
                    let leased_at = batch.deadline - u64::from(LEASE);
                    assert!(batch.provider == ME && self.now <= leased_at + u64::from(LEASE / 4), "released too late");
                }
            }
            Action::Finalise(job, numbers) => {
                for number in numbers {
                    let batch = &self.index.jobs[job].batches[*number as usize];
                    assert!(batch.stage == BatchStage::Submitted && self.now >= batch.deadline, "finalised too early");
                }
            }
            other => panic!("{other:?} of jobs without votes"),
        }
    }

    fn reopen(&mut self, id: BatchId, previous: Address, expiries: u32) {
        let stage = if self.index.jobs[&id.0].cancelled { BatchStage::Cancelled } else { BatchStage::Open };
        *self.batch(id) = BatchEntry { stage, previous, expiries, ..BatchEntry::NEW };
    }

    fn expire(&mut self, id: BatchId) {
        let now = self.now;
        let batch = self.batch(id).clone();
        if batch.stage == BatchStage::Leased && now > batch.deadline {
            self.reopen(id, batch.provider, batch.expiries + 1);
        }
    }

    fn lease_for(&mut self, provider: Address, id: BatchId) -> bool {
        if self.index.jobs[&id.0].cancelled {
            return false;
        }
        self.expire(id);
        let (now, number) = (self.now, self.number);
        let batch = self.batch(id);
        if batch.stage != BatchStage::Open {
            return false;
        }
        if batch.previous == provider {
            batch.previous = Address::ZERO;
        }
        batch.active_block = if batch.previous.is_zero() { number } else { number + DELAY };
        (batch.stage, batch.provider, batch.deadline) = (BatchStage::Leased, provider, now + u64::from(LEASE));
        true
    }

    fn submit_for(&mut self, provider: Address, id: BatchId, record: ResultRecord) -> bool {
        let (now, number) = (self.now, self.number);
        let batch = self.batch(id);
        let holder = batch.stage == BatchStage::Leased && batch.provider == provider && number >= batch.active_block;
        let late = batch.previous == provider
            && (batch.stage == BatchStage::Open || batch.stage == BatchStage::Leased && number < batch.active_block);
        if !holder && !late {
            return false;
        }
        (batch.stage, batch.provider, batch.previous) = (BatchStage::Submitted, provider, Address::ZERO);
        (batch.deadline, batch.root, batch.fuel) = (now + WINDOW, record.root, record.fuel);
        true
    }

    /// Mines the transaction under way: all of it, or nothing if one part is refused.
    fn mine(&mut self) {
        let Some(action) = self.sending.take() else { return };
        self.number += 1;
        let before = self.index.clone();
        let done = match action {
            Action::Lease(job, numbers) => numbers.into_iter().all(|number| self.lease_for(ME, (job, number))),
            Action::Submit(job, results) => {
                results.into_iter().all(|(number, record)| self.submit_for(ME, (job, number), record))
            }
            Action::Release(job, numbers) => numbers.into_iter().all(|number| {
                let batch = self.batch((job, number)).clone();
                let early = self.now + u64::from(LEASE) <= batch.deadline + u64::from(LEASE / 4);
                let held = batch.stage == BatchStage::Leased && batch.provider == ME && early;
                if held {
                    self.reopen((job, number), batch.previous, batch.expiries);
                }
                held
            }),
            Action::Finalise(job, numbers) => numbers.into_iter().all(|number| {
                let batch = self.batch((job, number));
                let due = batch.stage == BatchStage::Submitted;
                batch.stage = BatchStage::Settled;
                due
            }),
            other => panic!("{other:?} is no transaction"),
        };
        // The core never wants more than it has: only a race can refuse a lease.
        assert!(self.index.locked_stake(ME) <= U256::from(self.stake));
        if !done {
            self.index = before;
        }
        self.look();
        self.step(if done { Event::Sent } else { Event::LostRace });
    }

    fn executed(&mut self, id: BatchId, done: bool) {
        if !self.executing.remove(&id) {
            return;
        }
        if done {
            // A program that answers differently each time: the journal keeps the first answer.
            self.executions += 1;
            let fresh = record(keccak256(self.executions.to_be_bytes()));
            let record = *self.journal.entry(id).or_insert(fresh);
            self.step(Event::Executed { batch: id, record, millis: 1_000 });
        } else {
            self.step(Event::NotExecuted(id, "the input is gone".to_owned()));
        }
    }

    fn prepared(&mut self, job: B256, how: u8) {
        if !self.preparing.remove(&job) {
            return;
        }
        match how % 4 {
            0 => self.step(Event::Unavailable(job, "nobody has it".to_owned())),
            1 => self.step(Event::Refused(job, "not WASI".to_owned())),
            _ => {
                self.prepared.insert(job);
                self.step(Event::Prepared(job));
            }
        }
    }

    /// Kills the agent, and starts it again over its journal and the chain.
    fn restart(&mut self) {
        self.core = Core::new(ME, POLICY);
        (self.sending, self.paused) = (None, false);
        self.executing.clear();
        self.preparing.clear();
        self.prepared.clear();
        for (id, record) in self.journal.clone() {
            let actions = self.core.step(&self.index, Event::Remembered(id, record));
            assert_eq!(actions, [], "acts before it has looked at the chain");
        }
        self.look();
    }
}

/// A world with a job that is prepared.
fn ready(batches: u32) -> (World, B256) {
    let mut world = World::new();
    let id = world.post(job(1, batches));
    world.prepared(id, 2);
    (world, id)
}

#[test]
fn the_first_lease_is_small_and_the_queue_grows_once_the_pace_is_known() {
    let (mut world, id) = ready(20);
    world.stake = 100_000;
    let Some(Action::Lease(_, first)) = world.sending.clone() else { panic!("{:?}", world.actions) };
    assert_eq!(first.len(), 2, "one for each worker");
    world.mine();
    assert_eq!(world.executing.len(), 2);
    let one = *world.executing.first().unwrap();
    world.executed(one, true);
    let Some(Action::Lease(_, next)) = world.sending.clone() else { panic!("{:?}", world.actions) };
    assert_eq!(next.len(), 3, "four in all, one of which is being executed");
    // A batch takes a second, a transaction takes three: the queue bridges that.
    world.now += 3;
    world.mine();
    let Some(Action::Lease(job, more)) = world.sending.clone() else { panic!("{:?}", world.actions) };
    assert_eq!((job, more.len()), (id, 4), "(1 + 3) x 2 in all");
}

#[test]
fn results_wait_a_little_for_each_other_but_not_for_nothing() {
    let (mut world, id) = ready(2);
    world.mine();
    let both: Vec<_> = world.executing.iter().copied().collect();
    world.executed(both[0], true);
    assert_eq!(world.sending, None, "the other one is on its way");
    world.executed(both[1], true);
    assert!(matches!(&world.sending, Some(Action::Submit(job, results)) if *job == id && results.len() == 2));

    let (mut world, _) = ready(2);
    world.mine();
    let one = *world.executing.first().unwrap();
    world.executed(one, true);
    world.now += 4;
    world.look();
    assert!(matches!(&world.sending, Some(Action::Submit(_, results)) if results.len() == 1), "it waited long enough");
}

#[test]
fn stake_is_left_for_a_result_that_comes_too_late() {
    let mut world = World::new();
    world.stake = 2_000;
    let id = world.post(job(1, 5));
    world.prepared(id, 2);
    world.mine();
    let late = *world.executing.first().unwrap();
    world.now += u64::from(LEASE) + 1;
    world.look();
    // Its lease is over and it takes another batch; that one's bond must not cost it the result that it is about to have.
    world.expire(late);
    world.look();
    world.mine();
    world.executed(late, true);
    assert!(
        matches!(&world.sending, Some(Action::Submit(_, results)) if results[0].0 == late.1),
        "{:?}",
        world.sending
    );
}

#[test]
fn a_job_whose_inputs_are_withheld_is_given_back_and_left_alone_for_longer_each_time() {
    let (mut world, id) = ready(2);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert!(matches!(world.sending, Some(Action::Lease(..))), "{:?}", world.sending);
        world.mine();
        world.executing.clone().into_iter().for_each(|id| world.executed(id, false));
        assert!(matches!(&world.sending, Some(Action::Release(..))), "{:?}", world.sending);
        while matches!(world.sending, Some(Action::Release(..))) {
            world.mine();
        }
        assert_eq!(world.sending, None);
        let skipped = world.core.overview(&world.index).skipped;
        assert!(matches!(&skipped[..], [(job, SkipReason::SetAside { .. })] if *job == id), "{skipped:?}");
        let before = world.now;
        while world.sending.is_none() {
            world.now += 1;
            world.look();
        }
        pauses.push(world.now - before);
    }
    assert_eq!(pauses, [10, 20, 40, 80]);
}

#[test]
fn a_batch_too_late_to_give_back_is_tried_again() {
    let (mut world, _) = ready(1);
    world.mine();
    let one = *world.executing.first().unwrap();
    world.now += u64::from(LEASE / 4) + 1;
    world.look();
    world.executed(one, false);
    assert_eq!((world.sending.clone(), world.executing.len()), (None, 0));
    world.now += breaker::REST;
    world.look();
    assert!(world.executing.contains(&one));
}

#[test]
fn a_result_that_the_chain_refuses_does_not_hold_up_the_others() {
    let (mut world, id) = ready(2);
    world.mine();
    for one in world.executing.clone() {
        world.executed(one, true);
    }
    // The first goes out alone; refuse it until the other had its turn.
    let mut tried = BTreeSet::new();
    for _ in 0..40 {
        if let Some(Action::Submit(_, results)) = world.sending.take() {
            tried.extend(results.iter().map(|(number, _)| *number));
            world.step(Event::NotSent("FreeStakeTooSmall".to_owned()));
        } else {
            world.look();
        }
    }
    assert_eq!(tried.len(), 2, "{tried:?} of job {id}");
}

#[test]
fn a_job_whose_batches_outlast_a_lease_is_left_to_others() {
    let (mut world, id) = ready(3);
    world.mine();
    for one in world.executing.clone() {
        world.executing.remove(&one);
        let record = record(B256::repeat_byte(5));
        world.step(Event::Executed { batch: one, record, millis: u64::from(LEASE) * 950 });
    }
    while world.sending.is_some() {
        world.mine();
    }
    let skipped = world.core.overview(&world.index).skipped;
    assert!(matches!(&skipped[..], [(job, SkipReason::TooSlow { millis: 95_000 })] if *job == id), "{skipped:?}");
}

#[test]
fn every_skip_has_its_reason() {
    let (base, fine) = (job(1, 1), spec(1));
    let unwelcome = Address::repeat_byte(0xbb);
    let policy = Policy { categories: [1].into(), blocked: [unwelcome].into(), ..POLICY };
    for (job, spec, reason) in [
        (Job { startPrice: 999, maxPrice: 999, ..base.clone() }, fine.clone(), SkipReason::Price),
        (base.clone(), Spec { memoryLimit: 2 << 20, ..fine.clone() }, SkipReason::Memory),
        (base.clone(), Spec { category: 2, ..fine.clone() }, SkipReason::Category),
        (Job { requester: unwelcome, ..base.clone() }, fine.clone(), SkipReason::Blocked),
        (Job { startPrice: 1_000_000, maxPrice: 1_000_000, ..base.clone() }, fine.clone(), SkipReason::Stake),
    ] {
        let mut world = World::new();
        world.core = Core::new(ME, policy.clone());
        let id = world.post_with(job, spec);
        world.prepared(id, 2);
        assert_eq!(world.core.overview(&world.index).skipped, [(id, reason)]);
        assert_eq!(world.sending, None);
    }
    let mut world = World::new();
    world.core = Core::new(ME, Policy { groups: [OTHER].into(), ..POLICY });
    let id = world.post(base.clone());
    assert_eq!(world.core.overview(&world.index).skipped, [(id, SkipReason::Group)]);
    let say = |world: &mut World, is_member| {
        world.step(Event::Members([(base.requester, is_member)].into()));
        world.look();
    };
    say(&mut world, true);
    assert_eq!(world.core.overview(&world.index).skipped, [(id, SkipReason::Checking)], "it may be of interest now");
    say(&mut world, false);
    world.prepared(id, 2);
    assert_eq!((&world.sending, world.core.overview(&world.index).skipped), (&None, vec![(id, SkipReason::Group)]));
    say(&mut world, true);
    assert!(matches!(world.sending, Some(Action::Lease(..))));
    let mut world = World::new();
    world.step(Event::Paused(true));
    let id = world.post(base.clone());
    assert_eq!(world.core.overview(&world.index).skipped, [(id, SkipReason::Paused)]);
    assert_eq!(world.core.verdicts(&world.index)[&id], Verdict::Skipped(SkipReason::Paused));
    // What kept it away is remembered when others have done it.
    world.batch((id, 0)).stage = BatchStage::Settled;
    assert_eq!(world.core.verdicts(&world.index)[&id], Verdict::Skipped(SkipReason::Paused));
    let mut world = World::new();
    let id = world.post(base);
    assert_eq!(world.core.overview(&world.index).skipped, [(id, SkipReason::Checking)]);
    world.prepared(id, 1);
    assert_eq!(world.core.overview(&world.index).skipped, [(id, SkipReason::Refused { text: "not WASI".to_owned() })]);

    let (mut world, id) = ready(3);
    world.mine();
    let taken = Verdict::Taken(Taken { held: 2, rest: Some(SkipReason::Busy), ..Taken::default() });
    assert_eq!(world.core.verdicts(&world.index)[&id], taken);
}

#[test]
fn what_is_fetched_ahead_is_what_is_executed_next() {
    let (mut world, _) = ready(20);
    world.stake = 100_000;
    world.mine();
    assert_eq!(world.core.next(&world.index), [], "both are being executed");
    let one = *world.executing.first().unwrap();
    world.executed(one, true);
    world.now += 3;
    world.mine();
    let next = world.core.next(&world.index);
    assert_eq!(next.len(), 2, "as many as there are workers");
    let running = *world.executing.first().unwrap();
    world.executed(running, true);
    assert!(world.executing.contains(&next[0]), "{next:?}, then {:?}", world.executing);
}

#[test]
fn providers_begin_at_different_batches() {
    let first = |me: u8| {
        let (mut world, id) = ready(64);
        world.sending = None;
        world.core = Core::new(Address::repeat_byte(me), Policy { workers: 1, ..POLICY });
        world.look();
        world.preparing.clear();
        world.core.step(&world.index, Event::Prepared(id)).into_iter().find_map(|action| match action {
            Action::Lease(_, batches) => batches.first().copied(),
            _ => None,
        })
    };
    let distinct: BTreeSet<_> = (1..=8).map(first).collect();
    assert!(distinct.len() >= 6, "{distinct:?}");
}
