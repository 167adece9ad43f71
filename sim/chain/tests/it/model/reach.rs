//! A check that cannot fail is none: the moves that are tried do reach everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};
use proptest_state_machine::ReferenceStateMachine;

use super::{
    Model,
    ballots::{Phase, Stage},
    jobs::Batch,
    reference::{Outcome, State},
};

fn state_of(batch: &Batch) -> &'static str {
    match batch {
        Batch::Open { .. } => "Open",
        Batch::Leased { former: None, .. } => "Leased",
        Batch::Leased { .. } => "Leased by a successor",
        Batch::Submitted(_) => "Submitted",
        Batch::Frozen(_) => "Frozen",
        Batch::Settled(_) => "Settled",
        Batch::Cancelled => "Cancelled",
    }
}

/// What a number of runs of the model reach.
#[derive(Debug, Default)]
struct Reached {
    /// How often.
    done: BTreeMap<String, u32>,
    refused: BTreeMap<&'static str, u32>,
    batches: BTreeSet<&'static str>,
    phases: BTreeSet<Phase>,
    rare: BTreeSet<&'static str>,
    concluded: BTreeSet<&'static str>,
}

impl Reached {
    fn note(&mut self, state: &State) {
        self.batches.extend(state.jobs.iter().flat_map(|job| &job.batches).map(state_of));
        self.concluded.extend(
            state
                .disputes
                .iter()
                .filter_map(|dispute| dispute.concluded)
                .map(|share| if share > 0 { "Wrong" } else { "not wrong" }),
        );
        let ballots = || state.polls.iter().flat_map(|poll| &poll.ballots);
        self.phases.extend(ballots().map(|ballot| ballot.phase));
        for ballot in ballots() {
            let has = |seen: bool, name| seen.then_some(name);
            let beaten = ballot.replicas.keys().any(|who| ballot.is_beaten(*who));
            let late = ballot.replicas.values().any(|replica| matches!(replica.at, Stage::Revealed { late: true, .. }));
            let done = ballot.replicas.values().filter(|replica| replica.at == Stage::Done).count();
            let settled = ballot.phase == Phase::Settled;
            self.rare.extend(has(beaten, "beaten to a slot"));
            self.rare.extend(has(late && settled, "settled with a late voter"));
            self.rare.extend(has(settled && ballot.audited, "settled after an audit"));
            self.rare.extend(has(settled && ballot.audited && ballot.committed() == 1, "settled without the auditor"));
            self.rare.extend(has(settled && ballot.committed() > ballot.revealed(), "settled without the silent"));
            let silent = ballot.committed() > ballot.revealed();
            self.rare.extend(has(silent && ballot.phase == Phase::Overturned, "overturned without the silent"));
            self.rare.extend(has(ballot.phase == Phase::Open && done > 0, "open again"));
            self.rare.extend(has(ballot.expiries > 1, "expired more than once"));
        }
        self.rare.extend(state.books.iter().any(|book| book.checks > 1).then_some("two checks"));
        if state.books.iter().any(|book| book.withheld > 0) {
            self.concluded.insert("Withheld");
        }
    }

    fn of(cases: usize) -> Self {
        let mut reached = Self::default();
        let mut runner = TestRunner::new_with_rng(
            Config::default(),
            proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
        );
        for _ in 0..cases {
            let runs = Model::sequential_strategy(30..150);
            let (mut state, steps, _) = runs.new_tree(&mut runner).expect("a run can be made").current();
            for step in steps {
                state = state.after(&step);
                match &state.last {
                    Outcome::Refused(faults) => {
                        faults.0.iter().for_each(|fault| *reached.refused.entry(fault).or_default() += 1);
                    }
                    Outcome::Done | Outcome::Waited => *reached.done.entry(step.name()).or_default() += 1,
                }
                reached.note(&state);
            }
        }
        reached
    }
}

#[test]
fn every_call_state_and_refusal_is_reached() {
    let reached = Reached::of(1_000);
    println!("{reached:#?}");
    let calls = "Wait Approve Donate Deposit Withdraw Burn Register SetEndpoint SetPayout AddStake RequestExit CancelExit Exit PayOut Post \
                 SetContact Cancel Amend Lease Release Submit Accept Finalise Expire Reject Resolve Challenge Demand Rule Answer Claim \
                 PostPoll PollSetContact PollCancel PollAmend PollLease PollBackUp PollRelease PollExpire PollCommit PollDraw PollReveal \
                 PollRevealOpened PollAccept PollRevealAndAccept PollFinalise PollResolve PollChallenge PollDemand";
    let missing: Vec<_> = calls.split_whitespace().filter(|call| !reached.done.contains_key(*call)).collect();
    assert!(missing.is_empty(), "calls that never succeed: {missing:?}");
    assert_eq!(reached.batches.len(), 7, "only {:?}", reached.batches);
    assert_eq!(reached.concluded.len(), 3, "only {:?}", reached.concluded);
    assert_eq!(reached.phases.len(), 10, "only {:?}", reached.phases);
    assert_eq!(reached.rare.len(), 9, "only {:?}", reached.rare);
    let refusals = "AlreadyRegistered BalanceTooSmall CaseExists EmptyRoot ERC20InsufficientAllowance ERC20InsufficientBalance ExitTooEarly \
                    Exiting FreeStakeTooSmall FuelAboveLimit HasArbiter InvalidJob JobExists JobIsCancelled LeaseRunning NoArbiter \
                    NoSuchBatch NoSuchTask NotArbiter NotConcluded NotDisputes NotExiting NotHolder NotPayout NotRegistered NotRegistry \
                    NotRequester NotYetActive NothingGiven OtherWork StakeHeld StakeTooSmall TooEarly TooLate TooLateToRelease UnknownJob \
                    WindowOpen WindowOver WrongAnswer WrongCaseState WrongResult WrongState WrongSubmission ZeroEndpoint ZeroPayout \
                    BlockToCome LeasesToExpire NoBackupNeeded NoFreeSlot NotAccepted NotDrawnYet RecordTooSmall SlotTaken \
                    WrongCommitment WrongOpening WrongReplicaState WrongReveal WrongVotes";
    let missing: Vec<_> = refusals.split_whitespace().filter(|name| !reached.refused.contains_key(name)).collect();
    assert!(missing.is_empty(), "rules that nobody breaks: {missing:?}");
}
