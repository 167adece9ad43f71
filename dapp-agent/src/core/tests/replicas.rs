//! Jobs with votes, on an index made by hand.

use conun_bindings::{abi::ReplicaRegistry::Assurance, replicas};

use super::*;
use crate::{
    chain::{Assured, Ballot, BallotStage, CaseEntry, Claim, ProviderEntry, Replica, ReplicaStage},
    core::replicas::STAGGER,
};

const POSTED: u64 = 10;
const RAMP: u64 = 1_100;
const WIDEN: u32 = 50;
const REVEAL: u32 = 60;
/// The hash of the block that decides the lot: this account is drawn neither first nor last.
const HASH: B256 = B256::repeat_byte(0x42);
const THIRD: Address = Address::repeat_byte(9);

pub(super) fn assurance(replicas: u8, limit: u8, audit_bps: u16) -> Assurance {
    Assurance {
        replicas,
        limit,
        target: 900_000_000,
        auditBps: audit_bps,
        minChecks: 0,
        widenSeconds: WIDEN,
        revealSeconds: REVEAL,
    }
}

pub(super) fn ballot() -> Ballot {
    Ballot {
        stage: BallotStage::Open,
        wanted: 0,
        time: 0,
        opened: 0,
        drawn: false,
        expiries: 0,
        replicas: BTreeMap::new(),
        best: (B256::ZERO, 0),
    }
}

pub(super) fn provider() -> ProviderEntry {
    ProviderEntry {
        payout: ME,
        contact: PeerContact { endpoint: [1; 32], hints: Vec::new() },
        stake: U256::from(STAKE),
        staked_block: 1,
        checks: 0,
        exit_at: None,
        registered: true,
        losses: Vec::new(),
    }
}

/// A job of one batch that is prepared, and the core that looks at it.
struct Poll {
    core: Core,
    index: Index,
    id: B256,
    number: u64,
    now: u64,
}

impl Poll {
    fn new(assurance: Assurance) -> Self {
        let mut index = Index::new(RULES);
        let id = B256::repeat_byte(0xaa);
        let entry = JobEntry {
            job: Job { rampStart: RAMP as u32, ..job(1, 1) },
            spec: spec(1),
            contact: PeerContact { endpoint: [1; 32], hints: Vec::new() },
            deposit: U256::ZERO,
            block: POSTED,
            changed: POSTED,
            batches: Batches::default(),
            assured: Some(Box::new(Assured::new(assurance, vec![ballot()]))),
            cancelled: false,
            refunded: U256::ZERO,
            burned: U256::ZERO,
            transactions: Vec::new(),
        };
        index.insert(id, entry);
        index.providers.extend([ME, OTHER, THIRD].map(|account| (account, provider())));
        let mut poll = Self { core: Core::new(ME, POLICY), index, id, number: POSTED + 1, now: RAMP };
        poll.look();
        let prepared = poll.core.step(&poll.index, Event::Prepared(id));
        assert!(!prepared.iter().any(|action| matches!(action, Action::Lease(..))), "the lot's block is to come");
        poll.number += 1;
        assert_eq!(poll.look(), [Action::BlockHash(POSTED + 1)]);
        poll
    }

    /// The same with this account's batch executed; what the ballot is like.
    fn executed(assurance: Assurance, stage: BallotStage, mine: ReplicaStage) -> Self {
        let mut poll = Self::new(assurance);
        poll.hash(POSTED + 1);
        let _ = poll.core.step(&poll.index, Event::LostRace);
        let ballot = poll.ballot();
        (ballot.stage, ballot.wanted, ballot.time) = (stage, 2, RAMP + 2 * u64::from(LEASE));
        poll.part(ME, mine);
        let _ = poll.core.step(&poll.index, Event::Remembered((poll.id, 0), mine_record()));
        poll
    }

    fn ballot(&mut self) -> &mut Ballot {
        let assured = self.index.change(&self.id).unwrap().assured.as_mut().unwrap();
        &mut assured.ballots[0]
    }

    fn part(&mut self, account: Address, stage: ReplicaStage) {
        self.ballot().replicas.insert(account, Replica { stage, price: 1_000, checks: 0 });
    }

    fn look(&mut self) -> Vec<Action> {
        let free_stake = U256::from(STAKE);
        self.core.step(&self.index, Event::Head { number: self.number, now: self.now, free_stake })
    }

    /// Blocks pass until it does something.
    fn until_acts(&mut self) -> Vec<Action> {
        for _ in 0..20 {
            let actions = self.look();
            if !actions.is_empty() {
                return actions;
            }
            self.number += 1;
        }
        Vec::new()
    }

    /// Its transaction was mined; what it does next.
    fn sent(&mut self) -> Vec<Action> {
        self.core.step(&self.index, Event::Sent)
    }

    fn hash(&mut self, block: u64) -> Vec<Action> {
        self.core.step(&self.index, Event::BlockHash(block, Some(HASH)))
    }

    fn at(&mut self, now: u64) -> Vec<Action> {
        self.now = now;
        self.until_acts()
    }

    fn turn(&self) -> u64 {
        let who = (ME, U256::from(STAKE));
        RAMP - u64::from(WIDEN) + replicas::turn(replicas::seed(HASH), (self.id, 0), POSTED, who, WIDEN, &RULES)
    }
}

fn mine_record() -> ResultRecord {
    ResultRecord { fuel: 5, ..record(B256::repeat_byte(0x11)) }
}

fn leased(deadline: u64) -> ReplicaStage {
    ReplicaStage::Leased { deadline, active_block: None, rival: None }
}

fn committed(public: bool) -> ReplicaStage {
    ReplicaStage::Committed { block: POSTED + 1, public }
}

fn revealed(root: u8) -> ReplicaStage {
    ReplicaStage::Revealed { root: B256::repeat_byte(root), fuel: 5, outputs: [3; 32] }
}

const DEADLINE: u64 = RAMP + LEASE as u64;
const ROUND_END: u64 = RAMP + 2 * LEASE as u64;

#[test]
fn a_slot_is_leased_from_ones_turn_on_and_not_before() {
    let mut poll = Poll::new(assurance(2, 3, 0));
    let turn = poll.turn();
    assert!(turn > RAMP - u64::from(WIDEN) && turn < RAMP, "{turn}");
    poll.now = turn - 1;
    assert_eq!(poll.look(), []);
    let unread = SkipReason::NotDrawnYet { opens_at: 0 };
    assert_eq!(poll.core.overview(&poll.index).skipped, [(poll.id, unread)], "its block is not read yet");
    assert_eq!(poll.hash(POSTED + 1), []);
    let drawn = SkipReason::NotDrawnYet { opens_at: turn };
    assert_eq!(poll.core.overview(&poll.index).skipped, [(poll.id, drawn)]);
    poll.now = turn;
    assert_eq!(poll.look(), [Action::Lease(poll.id, vec![0])]);
    // After a race that was lost the hash is read anew: a re-org may have changed it.
    assert_eq!(poll.core.step(&poll.index, Event::LostRace), [Action::BlockHash(POSTED + 1)]);
}

#[test]
fn stake_that_came_after_the_post_has_its_turn_when_everybody_has() {
    let mut poll = Poll::new(assurance(2, 3, 0));
    poll.index.providers.get_mut(&ME).unwrap().staked_block = POSTED;
    poll.now = RAMP - 1;
    assert_eq!(poll.look(), []);
    assert_eq!(poll.hash(POSTED + 1), []);
    assert_eq!(poll.at(RAMP), [Action::Lease(poll.id, vec![0])]);
}

#[test]
fn who_has_too_small_a_record_or_leaves_takes_nothing() {
    let mut poll = Poll::new(assurance(2, 3, 0));
    let job = poll.index.change(&poll.id).unwrap().assured.as_mut().unwrap();
    job.assurance.minChecks = 3;
    assert_eq!(poll.at(RAMP), []);
    let skipped = |poll: &Poll| poll.core.overview(&poll.index).skipped[0].1.clone();
    assert_eq!(skipped(&poll), SkipReason::Record { have: 0, need: 3 });
    let me = poll.index.providers.get_mut(&ME).unwrap();
    (me.checks, me.exit_at) = (3, Some(5_000));
    assert_eq!(poll.at(RAMP), [Action::BlockHash(POSTED + 1)], "its lot matters now");
    assert_eq!(poll.hash(POSTED + 1), []);
    assert_eq!(skipped(&poll), SkipReason::Exiting);
    poll.index.providers.get_mut(&ME).unwrap().exit_at = None;
    let _ = poll.core.step(&poll.index, Event::Draining(true));
    assert_eq!(skipped(&poll), SkipReason::Draining);
    assert_eq!(poll.at(RAMP), []);
    assert_eq!(poll.core.step(&poll.index, Event::Draining(false)), [Action::Lease(poll.id, vec![0])]);
}

#[test]
fn what_is_executed_is_committed_to_and_shown_when_all_have_committed() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Committing, leased(DEADLINE));
    let commit = Action::Commit(poll.id, vec![(0, mine_record())]);
    assert_eq!(poll.until_acts(), [commit]);
    poll.part(ME, committed(false));
    poll.part(OTHER, leased(DEADLINE));
    assert_eq!((poll.sent(), poll.until_acts()), (vec![], vec![]), "the other one is still at it");
    poll.part(OTHER, committed(false));
    (poll.ballot().stage, poll.ballot().time) = (BallotStage::Revealing, RAMP + 90);
    assert_eq!(poll.until_acts(), [Action::Reveal(poll.id, vec![(0, mine_record())])]);
    // Past the end nothing can be shown.
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Revealing, committed(false));
    assert_eq!(poll.at(ROUND_END + 1), [Action::Finalise(poll.id, vec![0])]);
}

#[test]
fn a_commit_made_when_roots_were_public_is_shown_with_its_drawn_leaf() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Revealing, committed(true));
    poll.part(OTHER, revealed(0x22));
    assert_eq!(poll.until_acts(), [Action::RevealOpened((poll.id, 0), mine_record())]);
}

#[test]
fn the_only_commit_of_an_audited_job_is_drawn_or_shown_as_its_block_decides() {
    for (audit_bps, all) in [(10_000, true), (1, false)] {
        let mut poll = Poll::executed(assurance(1, 2, audit_bps), BallotStage::Drawing, committed(false));
        poll.ballot().time = poll.now + 60;
        assert_eq!(poll.until_acts(), [Action::BlockHash(POSTED + 2)]);
        let action = poll.hash(POSTED + 2);
        if all {
            assert_eq!(action, [Action::Draw((poll.id, 0))]);
        } else {
            assert_eq!(action, [Action::Reveal(poll.id, vec![(0, mine_record())])]);
        }
    }
}

#[test]
fn the_block_after_the_last_commit_decides_about_a_vote_and_the_first_voter_draws() {
    let second = Address::repeat_byte(1);
    for (audit_bps, other, wait) in [(10_000, OTHER, 0), (10_000, second, STAGGER), (1, OTHER, 0)] {
        let mut poll = Poll::executed(assurance(2, 3, audit_bps), BallotStage::Drawing, committed(false));
        poll.part(other, ReplicaStage::Committed { block: POSTED + 4, public: false });
        poll.ballot().time = poll.now + 60;
        assert_eq!(poll.until_acts(), [Action::BlockHash(POSTED + 5)]);
        let mut actions = poll.hash(POSTED + 5);
        if wait != 0 {
            assert_eq!((actions, poll.at(RAMP + wait - 1)), (vec![], vec![]), "the other is first");
            actions = poll.at(RAMP + wait);
        }
        let drawn = Action::Draw((poll.id, 0));
        let shown = Action::Reveal(poll.id, vec![(0, mine_record())]);
        assert_eq!(actions, [if audit_bps == 1 { shown } else { drawn }]);
    }
}

#[test]
fn a_first_round_that_lacks_commits_is_drawn_before_anything_is_shown() {
    let mut poll = Poll::executed(assurance(2, 3, 1), BallotStage::Committing, committed(false));
    assert_eq!(poll.at(ROUND_END), [], "others may still commit");
    assert_eq!(poll.at(ROUND_END + 1), [Action::Draw((poll.id, 0))]);
    // The audit's own round, which found nobody.
    (poll.ballot().opened, poll.ballot().drawn) = (poll.number, true);
    poll.ballot().time = ROUND_END + 100;
    assert_eq!(poll.sent(), []);
    assert_eq!(poll.at(ROUND_END + 101), [Action::Reveal(poll.id, vec![(0, mine_record())])]);
}

#[test]
fn a_round_that_others_let_run_out_is_ended_and_what_was_committed_shown() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Committing, committed(false));
    poll.part(OTHER, leased(DEADLINE));
    assert_eq!(poll.at(ROUND_END), [], "it may still commit");
    assert_eq!(poll.at(ROUND_END + 1), [Action::Expire((poll.id, 0), OTHER)]);
    poll.part(OTHER, ReplicaStage::Done);
    assert_eq!(poll.sent(), [Action::Reveal(poll.id, vec![(0, mine_record())])]);
}

#[test]
fn outputs_are_published_once_the_vote_is_believed_and_never_before() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Revealing, revealed(0x11));
    poll.part(OTHER, committed(false));
    assert_eq!(poll.until_acts(), []);
    // Against one that says something else nothing is believed.
    poll.part(OTHER, revealed(0x22));
    assert_eq!(poll.until_acts(), [Action::Finalise(poll.id, vec![0])], "at once: no window for what is not believed");
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Revealing, revealed(0x11));
    poll.part(OTHER, revealed(0x11));
    assert_eq!(poll.until_acts(), [Action::Publish((poll.id, 0))]);
    assert_eq!(poll.until_acts(), [], "once");
    assert_eq!(poll.at(ROUND_END), [Action::Finalise(poll.id, vec![0])]);
    // What a crash had lost is published when it is here again.
    let again = poll.core.step(&poll.index, Event::Restored((poll.id, 0)));
    assert_eq!(again, [Action::Publish((poll.id, 0))]);

    // The one who voted otherwise has nothing to publish.
    let mut poll = Poll::executed(assurance(3, 3, 0), BallotStage::Revealing, revealed(0x33));
    [OTHER, THIRD].iter().for_each(|account| poll.part(*account, revealed(0x22)));
    let job = poll.index.change(&poll.id).unwrap().assured.as_mut().unwrap();
    job.assurance.target = 700_000_000;
    assert_eq!(poll.until_acts(), []);
}

#[test]
fn the_first_of_several_voters_finalises_and_the_next_only_if_it_does_not() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Revealing, revealed(0x11));
    poll.part(Address::repeat_byte(1), revealed(0x11));
    assert_eq!(poll.until_acts(), [Action::Publish((poll.id, 0))]);
    assert_eq!(poll.at(ROUND_END + 4), []);
    assert_eq!(poll.at(ROUND_END + 5), [Action::Finalise(poll.id, vec![0])]);
}

#[test]
fn a_straggler_is_backed_up_and_a_slot_that_is_lost_given_back() {
    let mut poll = Poll::new(assurance(2, 3, 0));
    poll.hash(POSTED + 1);
    let ballot = poll.ballot();
    (ballot.stage, ballot.wanted, ballot.time) = (BallotStage::Committing, 2, ROUND_END);
    poll.part(OTHER, leased(DEADLINE));
    poll.part(THIRD, committed(false));
    assert_eq!(poll.core.step(&poll.index, Event::LostRace), [Action::BlockHash(POSTED + 1)]);
    // As long after half of the lease as its turn is after the begin of the lot.
    let half = DEADLINE - u64::from(LEASE) / 2;
    let turn = half + poll.turn() - (RAMP - u64::from(WIDEN));
    assert_eq!(poll.hash(POSTED + 1), []);
    assert_eq!(poll.at(turn - 1), []);
    assert_eq!(poll.at(turn), [Action::BackUp((poll.id, 0), OTHER)]);

    let active_block = Some(poll.number + 20);
    poll.part(ME, ReplicaStage::Leased { deadline: ROUND_END, active_block, rival: Some(OTHER) });
    poll.part(OTHER, ReplicaStage::Leased { deadline: DEADLINE, active_block: None, rival: Some(ME) });
    assert_eq!(poll.sent(), [Action::Execute((poll.id, 0))]);
    let done = Event::Executed { batch: (poll.id, 0), record: mine_record(), millis: 1 };
    assert_eq!(poll.core.step(&poll.index, done), [], "the straggler's turn until it is active");
    poll.number += 20;
    assert_eq!(poll.look(), [Action::Commit(poll.id, vec![(0, mine_record())])]);
    poll.part(OTHER, committed(false));
    assert_eq!(poll.core.step(&poll.index, Event::LostRace), []);
    assert_eq!(poll.until_acts(), [Action::Release(poll.id, vec![0])]);
}

#[test]
fn what_is_demanded_of_ones_result_is_answered_in_time() {
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Frozen, revealed(0x11));
    poll.part(OTHER, revealed(0x11));
    let case = B256::repeat_byte(0xca);
    let claim = Claim::Withheld(3);
    let (open, won, concluded, claimed) = (true, false, false, false);
    let (job, deadline) = (poll.id, ROUND_END);
    let entry = CaseEntry { job, batch: 0, task: 0, claim, deadline, open, won, concluded, claimed };
    poll.index.insert_case(case, entry);
    let actions = poll.until_acts();
    assert_eq!(actions, [Action::Publish((poll.id, 0)), Action::Answer(case)]);
    poll.index.cases.get_mut(&case).unwrap().open = false;
    assert_eq!(poll.sent(), []);
    assert_eq!(poll.at(ROUND_END - 1), []);
    assert_eq!(poll.at(ROUND_END), [Action::Resolve((poll.id, 0))], "the window is over, and nothing is open");

    // An open case may be ruled or answered until its deadline.
    let mut poll = Poll::executed(assurance(2, 3, 0), BallotStage::Frozen, revealed(0x11));
    poll.part(OTHER, revealed(0x11));
    let claim = Claim::Wrong(OTHER);
    poll.index.insert_case(case, CaseEntry { claim, deadline: ROUND_END + 100, ..entry });
    assert_eq!(poll.until_acts(), [Action::Publish((poll.id, 0))]);
    assert_eq!(poll.at(ROUND_END + 100), []);
    assert_eq!(poll.at(ROUND_END + 101), [Action::Resolve((poll.id, 0))]);
}
