//! The contracts against a model of them that was written from their documents, in another language: both are given the same moves, and
//! each has to say what the other says.
//!
//! | part | what it is |
//! |---|---|
//! | [`reference`], [`jobs`], [`ballots`], [`replicas`], [`disputes`] | the model: what the interfaces and `contracts/README.md` say, in plain enums and integers |
//! | [`calls`], [`moves`], [`voting`] | what can be tried, rightly and wrongly, and which of it is tried next |
//! | [`world`], [`encode`], [`encode_polls`], [`region`] | the deployed contracts, and the moves as they take them |
//! | [`compare`], [`compare_polls`], [`ending`] | what has to hold after each move, and at the end of a run |
//!
//! The model foretells for each call whether it succeeds, or else which errors it may name. After each that succeeds the contracts' whole
//! state is read and compared: tokens, allowances, Escrow balances and records, registrations, jobs, batches, cases.
//!
//! `PROPTEST_CASES=2000 cargo test --release -p conun-chain --test it model` runs more of it; a failing run is kept in
//! `tests/proptest-regressions` and tried first the next time.

mod ballots;
mod calls;
mod compare;
mod compare_polls;
mod disputes;
mod encode;
mod encode_polls;
mod ending;
mod jobs;
mod moves;
mod reach;
mod reference;
mod region;
mod replicas;
mod voting;
mod world;

use proptest::{prelude::*, test_runner::Config};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use calls::{Call, Move};
use reference::State;
use world::World;

/// The model as proptest drives it.
#[derive(Debug)]
struct Model;

impl ReferenceStateMachine for Model {
    type State = State;
    type Transition = Move;

    fn init_state() -> BoxedStrategy<State> {
        // With an arbiter results are challenged, without one they are rejected.
        let kinds = prop_oneof![2 => Just((true, false)), 1 => Just((false, false)), 3 => Just((true, true))];
        let begun = |state: State| voting::beginning(&state).iter().fold(state, State::after);
        kinds.prop_map(move |(has_arbiter, has_polls)| begun(State::new(has_arbiter, has_polls))).boxed()
    }

    fn transitions(state: &State) -> BoxedStrategy<Move> {
        moves::moves(state)
    }

    fn preconditions(state: &State, step: &Move) -> bool {
        match step {
            Move::Call(_, Call::Job { job, .. }) => *job < state.jobs.len(),
            Move::Call(_, Call::Poll { poll, .. }) => *poll < state.polls.len() && !voting::is_chance(state, step),
            _ => true,
        }
    }

    fn apply(state: State, step: &Move) -> State {
        state.after(step)
    }
}

/// The contracts, and the state that they were in before the last move.
#[derive(Debug)]
struct Contracts {
    world: World,
    before: State,
}

impl Contracts {
    /// Makes a move on both sides and checks everything.
    fn make(&mut self, step: &Move, after: &State) {
        self.world.make(&self.before, step, after);
        if after.last == reference::Outcome::Done {
            compare::agree(&self.world, after);
            compare::is_conserved(&self.world, after);
            compare::is_accounted(after);
            compare::is_fair(&self.before, step, after);
        }
        self.before = after.clone();
    }
}

struct Machine;

impl StateMachineTest for Machine {
    type SystemUnderTest = Contracts;
    type Reference = Model;

    fn init_test(state: &State) -> Contracts {
        let before = State::new(state.has_arbiter, state.has_polls);
        let mut contracts = Contracts { world: World::new(state.has_arbiter), before };
        compare::agree(&contracts.world, &contracts.before);
        for step in voting::beginning(state) {
            let after = contracts.before.clone().after(&step);
            contracts.make(&step, &after);
        }
        contracts
    }

    fn apply(mut contracts: Contracts, after: &State, step: Move) -> Contracts {
        contracts.make(&step, after);
        contracts
    }

    fn teardown(mut contracts: Contracts, _: State) {
        ending::everybody_leaves(&mut contracts);
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 60, max_shrink_iters: 5_000, ..Config::default() })]

    #[test]
    fn contracts_do_what_the_documents_say(sequential 30..150 => Machine);
}
