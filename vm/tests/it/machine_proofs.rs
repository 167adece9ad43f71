//! States, proofs and snapshots of the step machine.

use std::sync::{Arc, LazyLock};

use conun_vm::{
    Error,
    machine::{After, Code, History, MAX_SNAPSHOTS, Machine, Region, State, StepProof, TaskLimits, verify_step},
    roots::{BLOB_DEPTH, LEAF, climb, halted_hash, keccak, region_root, zeros},
};
use proptest::prelude::*;

use crate::{machine_roots::hex, native::prepared};

const FUEL: u64 = 1_000_000;
const OUTPUT_LIMIT: u64 = 5_000;

/// A bit of everything: loops, calls, a table, floats, both memories, stores across leaves and pages, bulk moves both ways,
/// input and output longer than a leaf.
const EVERYTHING: &str = r#"
    (local $i i32) (local $x f64) (local $a i32) (local $b i32) (local $c i32) (local $d i64)
    (drop (call $input_read (i64.const 3) (i64.const 4070) (i32.const 90)))
    (local.set $x (f64.const 0.1))
    (loop $again
        (local.set $x (f64.add (f64.mul (local.get $x) (f64.const 3.9)) (f64.sqrt (local.get $x))))
        (f64.store offset=29 (i32.mul (local.get $i) (i32.const 321)) (local.get $x))
        (i64.store $system (i32.add (local.get $i) (i32.const 4091)) (i64.trunc_sat_f64_s (local.get $x)))
        (i32.store16 (i32.const 63) (local.get $i))
        (call $burn (i64.extend_i32_u (local.get $i)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 20))))
    (memory.copy (i32.const 41) (i32.const 30) (i32.const 200))
    (memory.copy (i32.const 30) (i32.const 41) (i32.const 200))
    (memory.copy $system $memory (i32.const 5) (i32.const 7) (i32.const 100))
    (memory.fill (i32.const 8190) (i32.const 7) (i32.const 70))
    (drop (memory.grow (i32.const 1)))
    (drop (memory.grow (i32.const 1)))
    (i32.store8 (i32.const 131071) (i32.const 1))
    (call $output_write (i64.const 33) (i32.const 100))
    (call $output_write (i64.const 8100) (i32.const 900))
    (block (block (block (br_table 0 1 2 (i32.wrap_i64 (call $input_len))))))
    (call $exit (select (local.get $i) (i32.const 5) (memory.size)))"#;

fn machine(body: &str, input: &[u8]) -> Machine {
    let code = Code::flatten(&prepared(body)).expect("it can be flattened");
    Machine::new(Arc::new(code), input.into(), FUEL, OUTPUT_LIMIT).expect("there is memory")
}

fn input() -> Vec<u8> {
    (0..200).map(|byte: u8| byte.wrapping_mul(37)).collect()
}

/// [`EVERYTHING`], proved once.
static PROOFS: LazyLock<(Vec<StepProof>, [u8; 32])> = LazyLock::new(|| proofs(machine(EVERYTHING, &input())));

/// All states of a run, by proving every step.
fn proofs(mut machine: Machine) -> (Vec<StepProof>, [u8; 32]) {
    let mut proofs = Vec::new();
    while let Some(proof) = machine.prove_step().expect("there is memory") {
        proofs.push(proof);
    }
    (proofs, machine.state_hash())
}

#[test]
fn every_step_is_proved_from_its_state_alone() {
    for (body, input) in [
        (EVERYTHING, input()),
        ("unreachable", vec![]),
        ("(i32.store (i32.const 65533) (i32.const 1))", vec![]),
        ("(call $burn (i64.const 1000001))", vec![]),
        (
            "(call $output_write (i64.const 0) (i32.const 5000)) (call $output_write (i64.const 0) (i32.const 1))",
            vec![],
        ),
    ] {
        let (proofs, end) = proofs(machine(body, &input));
        let mut fast = machine(body, &input);
        for (steps, proof) in proofs.iter().enumerate() {
            fast.run_to(steps as u64).expect("there is memory");
            // The loop's state, hashed incrementally, is the recorder's state before the step.
            assert_eq!(fast.state(), Some(proof.state), "step {steps}");
            let after = verify_step(&proof.state, &proof.accesses).expect("the proof is well-formed");
            let next = proofs.get(steps + 1).map_or(end, |next| next.state.hash());
            assert_eq!(after.hash(), next, "step {steps}");
            // Code and input stay as they were.
            if let After::Running(after) = after {
                assert_eq!(after.root(Region::Code), proof.state.root(Region::Code));
                assert_eq!(after.root(Region::Input), proof.state.root(Region::Input));
            }
        }
        fast.run().expect("there is memory");
        assert_eq!(fast.steps(), proofs.len() as u64);
        assert_eq!(fast.state_hash(), end);
        let run = fast.into_run().expect("it is at its end");
        let exit_code = match run.outcome {
            conun_vm::Outcome::Ok { exit_code } => Some(exit_code),
            conun_vm::Outcome::Failed => None,
        };
        assert_eq!(halted_hash(exit_code, run.fuel, &run.output), end);
    }
}

#[test]
fn a_run_may_stop_anywhere_however_many_steps_it_takes_at_once() {
    let (proofs, _) = &*PROOFS;
    for stride in [3, 100, 255, 256, 257, 600] {
        let mut machine = machine(EVERYTHING, &input());
        for (steps, proof) in proofs.iter().enumerate().step_by(stride) {
            machine.run_to(steps as u64).expect("there is memory");
            assert_eq!(machine.steps(), steps as u64);
            assert_eq!(machine.state(), Some(proof.state), "step {steps}, {stride} at once");
        }
    }
}

#[test]
fn a_state_hashed_incrementally_is_as_hashed_from_scratch() {
    let mut incremental = machine(EVERYTHING, &input());
    let mut steps = 0;
    while incremental.end().is_none() {
        steps += 17;
        incremental.run_to(steps).expect("there is memory");
        let mut scratch = machine(EVERYTHING, &input());
        scratch.run_to(steps).expect("there is memory");
        assert_eq!(incremental.state_hash(), scratch.state_hash(), "step {steps}");
    }
}

#[test]
fn the_first_state_follows_from_program_and_input_alone() {
    let code = Code::flatten(&prepared(EVERYTHING)).expect("it can be flattened");
    let limits = TaskLimits { input_len: 200, output_limit: OUTPUT_LIMIT, fuel_limit: FUEL };
    let start = State::start(&code, region_root(&input()), limits).expect("it has a start");
    assert_eq!(machine(EVERYTHING, &input()).state(), Some(start));
    assert_eq!(State::from_words(&start.words()), Some(start));
}

#[test]
fn a_state_at_its_end_stays_as_it_is() {
    let mut machine = machine("(call $exit (i32.const 3))", &[]);
    machine.run().expect("there is memory");
    let (steps, hash) = (machine.steps(), machine.state_hash());
    machine.run_to(steps + 1_000).expect("there is memory");
    assert_eq!((machine.steps(), machine.state_hash()), (steps, hash));
    assert_eq!(machine.prove_step(), Ok(None));
}

#[test]
fn a_proof_with_a_byte_more_or_less_is_malformed() {
    for proof in PROOFS.0.iter().step_by(7) {
        let mut longer = proof.accesses.clone();
        longer.push(0);
        assert_eq!(verify_step(&proof.state, &longer), Err(Error::ProofTooLong { left: 1 }));
        let shorter = &proof.accesses[..proof.accesses.len() - 1];
        assert!(matches!(verify_step(&proof.state, shorter), Err(Error::ProofTooShort { .. })));
        assert!(matches!(verify_step(&proof.state, &[]), Err(Error::ProofTooShort { .. })));
        assert!(verify_step(&proof.state, &[]).is_err_and(|error| error.is_refusal()), "no machine takes it");
    }
}

#[test]
fn a_program_counter_beyond_the_code_fails_the_task() {
    let (proofs, _) = proofs(machine("nop", &[]));
    let mut state = proofs[1].state;
    for pc in [1 << 25, u32::MAX] {
        state.registers.pc = pc;
        // The fuel slot is all that the step reads.
        let accesses = &proofs.last().expect("there are steps").accesses;
        let fuel = &accesses[accesses.len() - LEAF * 19..];
        state.roots = proofs.last().expect("there are steps").state.roots;
        match verify_step(&state, fuel) {
            Ok(After::Halted(halt)) => assert_eq!(halt.end.exit_code, None),
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_byte_of_a_proof_can_change_unnoticed(at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (proofs, end) = &*PROOFS;
        let step = at.index(proofs.len());
        let proof = &proofs[step];
        let next = proofs.get(step + 1).map_or(*end, |next| next.state.hash());
        let mut accesses = proof.accesses.clone();
        accesses[byte.index(proof.accesses.len())] ^= 1u8 << bit;
        if let Ok(after) = verify_step(&proof.state, &accesses) {
            prop_assert_ne!(after.hash(), next);
        }
        // Another state has another hash, so that a verifier who knows the hash refuses it.
        let mut words = proof.state.words();
        let flipped = byte.index(words.len() * 32);
        words[flipped / 32][flipped % 32] ^= 1u8 << bit;
        if let Some(other) = State::from_words(&words) {
            prop_assert_ne!(other.hash(), proof.state.hash());
        }
    }

    #[test]
    fn snapshots_give_back_every_state(distance in 1..40u64, order in prop::collection::vec(any::<prop::sample::Index>(), 1..12)) {
        let mut history = History::with_distance(machine(EVERYTHING, &input()), distance).expect("there is memory");
        prop_assert!(history.snapshots().count() <= MAX_SNAPSHOTS + 1);
        for steps in order {
            let steps = steps.index(history.steps() as usize + 2) as u64;
            let mut fresh = machine(EVERYTHING, &input());
            fresh.run_to(steps).expect("there is memory");
            prop_assert_eq!(history.state_hash(steps).expect("there is memory"), fresh.state_hash());
            prop_assert_eq!(history.prove(steps).expect("there is memory"), fresh.prove_step().expect("there is memory"));
        }
    }

    #[test]
    fn running_in_two_parts_is_running_through(first in 0..2_000u64) {
        let mut parts = machine(EVERYTHING, &input());
        parts.run_to(first).expect("there is memory");
        parts.run().expect("there is memory");
        let mut whole = machine(EVERYTHING, &input());
        whole.run().expect("there is memory");
        prop_assert_eq!(parts.into_run(), whole.into_run());
    }
}

#[test]
fn a_region_is_a_tree_over_raw_leaves() {
    assert_eq!(region_root(&[]), *zeros(BLOB_DEPTH));
    let bytes: Vec<u8> = (0..10_000u32).map(|n| (n * n) as u8).collect();
    for len in [1, 31, 32, 33, 64, 4_095, 4_096, 4_097, 8_192, 10_000] {
        let mut level: Vec<[u8; 32]> = bytes[..len]
            .chunks(32)
            .map(|chunk| std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(0)))
            .collect();
        for height in 0..BLOB_DEPTH {
            if level.len() % 2 == 1 {
                level.push(*zeros(height));
            }
            level = level.chunks(2).map(|two| keccak(two.as_flattened())).collect();
        }
        assert_eq!(region_root(&bytes[..len]), level[0], "{len} bytes");
    }
    assert_eq!(
        climb(&[0; 32], 5, &(0..BLOB_DEPTH).map(|height| *zeros(height)).collect::<Vec<_>>()),
        *zeros(BLOB_DEPTH)
    );
}

/// The same values are asserted of `region_root` in the `conun-bindings` crate.
#[test]
fn roots_of_regions_are_those_that_contracts_know() {
    let bytes: Vec<u8> = (0..5_000u32).map(|n| (n * n) as u8).collect();
    for (bytes, root) in [
        (&b""[..], "838c5655cb21c6cb83313b5a631175dff4963772cce9108188b34ac87c81c41e"),
        (b"abc", "8e083581dbe505c3e7c7871c298afd62b3136200af240db1ceb5f0a849c5ac88"),
        (&bytes, "f32c815734c3eec977e69eee70e837b3468b33a111979f3c93095d194064696e"),
    ] {
        assert_eq!(hex(&region_root(bytes)), root);
    }
}
