//! The step machine by itself, and against the native engine.

use std::sync::Arc;

use conun_vm::{
    Limits, Outcome,
    machine::{self, Code, Export, Machine},
    native,
};

use crate::{OK, engines::Engines, native::prepared, wasm};

const FUEL: u64 = 1_000_000_000;
const OUTPUT_LIMIT: u64 = 100;

/// The body in both engines, which must agree.
fn both(body: &str, input: &[u8]) -> machine::Run {
    let prepared = prepared(body);
    let limits = Limits { output_bytes: OUTPUT_LIMIT, ..Limits::default() };
    let program = native::Program::from_prepared(&prepared, limits).expect("it is prepared");
    let task = conun_vm::Task { input: input.to_vec().into(), fuel_limit: FUEL };
    let theirs = program.execute(&task).expect("this machine can execute it");
    let ours = machine::run(&prepared, input, FUEL, OUTPUT_LIMIT).expect("it can be flattened");
    assert_eq!((ours.outcome, &ours.output, ours.fuel), (theirs.outcome, &theirs.output, theirs.fuel), "{body}");
    assert_eq!(ours.log, theirs.stderr, "{body}");
    ours
}

/// A module's function with these arguments: its result, or `None` for a trap.
pub(crate) fn invoke(wat: &str, arguments: &[u64]) -> Option<u64> {
    let code = Code::flatten(&wasm(wat)).expect("the test's module can be flattened");
    let mut machine = Machine::instance(Arc::new(code), Arc::from([])).expect("there is memory");
    let Some(Export::Function(function)) = machine.exports().get("f").copied() else { panic!("it exports `f`") };
    machine.invoke(function, arguments).expect("there is memory").map(|result| result.expect("`f` has a result"))
}

fn function(signature: &str, body: &str) -> String {
    format!(r#"(module (memory 1) (func (export "f") {signature} {body}))"#)
}

#[test]
fn a_local_read_before_it_changes_keeps_its_value() {
    let body = "local.get 0 (local.set 0 (i32.const 7)) local.get 0 i32.sub";
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[10]), Some(3));
    let body = "local.get 0 (local.tee 0 (i32.add (local.get 0) (i32.const 1))) i32.mul";
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[10]), Some(110));
}

#[test]
fn frames_at_the_very_end_of_the_stack_are_like_others() {
    // Three slots a call: the last 2^16 of the 2^20 slots are used, too, and what has none is a trap.
    let sum = r#"(module (func $f (export "f") (param i32) (result i32)
        (if (result i32) (local.get 0)
            (then (i32.add (local.get 0) (call $f (i32.sub (local.get 0) (i32.const 1)))))
            (else (i32.const 0)))))"#;
    let deep = 345_000_u32;
    assert_eq!(invoke(sum, &[deep.into()]), Some(u64::from((0..=deep).fold(0, u32::wrapping_add))));
    assert_eq!(invoke(sum, &[350_000]), None);
}

#[test]
fn operands_below_a_block_survive_it() {
    let body = "local.get 0 i32.const 5
        (block (br_if 0 (i32.eqz (local.get 0))) (local.set 0 (i32.const 100)))
        i32.add local.get 0 i32.add";
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[0]), Some(5));
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[1]), Some(106));
}

#[test]
fn branches_take_their_result_along() {
    let body = "(i32.add (i32.const 1000) (block (result i32)
        i32.const 1 i32.const 2 (br_if 0 (i32.const 40) (i32.lt_s (local.get 0) (i32.const 3))) i32.add i32.add))";
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[0]), Some(1040));
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[3]), Some(1043));
    let body = "(i32.add (i32.const 1000) (block (result i32) i32.const 9 (block (result i32)
        i32.const 8 (br_table 0 1 1 (i32.const 5) (local.get 0))) i32.add))";
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[0]), Some(1014));
    assert_eq!(invoke(&function("(param i32) (result i32)", body), &[7]), Some(1005));
}

#[test]
fn a_counter_that_something_jumps_into_is_no_counter() {
    let wat = r#"(module (global $g (export "g") (mut i64) (i64.const 5)) (func (export "f") (param i32) (result i64)
        (global.set $g (i64.add (block (result i64) (br_if 0 (i64.const 70) (local.get 0)) drop (global.get $g))
            (i64.const 1))) (global.get $g)))"#;
    assert_eq!(invoke(wat, &[0]), Some(6));
    assert_eq!(invoke(wat, &[1]), Some(71));
}

#[test]
fn the_engines_agree_on_the_four_imports() {
    let read = |offset: &str, address: &str, length: &str| {
        format!(
            "(i64.store (i32.const 0) (i64.extend_i32_s
                (call $input_read (i64.const {offset}) (i64.const {address}) (i32.const {length}))))
             (call $output_write (i64.const 0) (i32.const 8)) (call $output_write (i64.const 61) (i32.const 80))"
        )
    };
    let input: Vec<u8> = (0..200).collect();
    for offset in ["0", "3", "199", "200", "201", "-1"] {
        for address in ["64", "65", "65536", "65535", "4294967296", "4295032832", "4295032830", "8589934592", "-1"] {
            for length in ["0", "1", "2", "33", "70", "-1"] {
                both(&read(offset, address, length), &input);
            }
        }
    }
    for (address, length) in [("0", "100"), ("0", "101"), ("65536", "0"), ("65537", "0"), ("-1", "0"), ("65535", "2")] {
        let write = format!("(call $output_write (i64.const {address}) (i32.const {length}))");
        both(&write, &input);
        both(&format!("(call $output_write (i64.const 7) (i32.const 50)) {write}"), &input);
    }
    assert_eq!(both("(call $exit (i32.const 7)) unreachable", &[]).outcome, Outcome::Ok { exit_code: 7 });
    assert_eq!(both("", &[]).outcome, OK);
    assert_eq!(both("(call $burn (i64.const 1000000000))", &[]).outcome, OK);
    assert_eq!(both("(call $burn (i64.const 1000000001))", &[]).outcome, Outcome::Failed);
    let told =
        both("(i64.store (i32.const 0) (call $input_len)) (call $output_write (i64.const 0) (i32.const 8))", &input);
    assert_eq!(told.output, 200u64.to_le_bytes());
}

#[test]
fn the_engines_agree_on_bulk_memory() {
    let fill = "(i64.store (i32.const 100) (i64.const 0x0807060504030201))
        (i64.store (i32.const 108) (i64.const 0x100f0e0d0c0b0a09))
        (memory.copy (i32.const 116) (i32.const 100) (i32.const 90))";
    for (to, from, len) in
        [(100, 103, 80), (103, 100, 80), (100, 101, 33), (101, 100, 33), (100, 132, 64), (132, 100, 64), (100, 100, 9)]
    {
        let copy = format!("(memory.copy (i32.const {to}) (i32.const {from}) (i32.const {len}))");
        both(&format!("{fill} {copy} (call $output_write (i64.const 100) (i32.const 100))"), &[]);
    }
    for (to, len) in [(100, 0), (101, 31), (101, 32), (65536, 0), (65535, 2), (65537, 0)] {
        let set = format!("(memory.fill (i32.const {to}) (i32.const 0x1ff) (i32.const {len}))");
        both(&format!("{fill} {set} (call $output_write (i64.const 100) (i32.const 100))"), &[]);
        let copy = format!("(memory.copy $system $memory (i32.const {to}) (i32.const 99) (i32.const {len}))");
        both(&format!("{fill} {copy} (call $output_write (i64.const 0x100000060) (i32.const 100))"), &[]);
    }
    both(
        "(call $output_write (i64.const 0) (memory.grow (i32.const 1))) (call $output_write (i64.const 0) (memory.grow $system (i32.const 9)))",
        &[],
    );
}

#[test]
fn a_profile_counts_every_step_where_it_is_taken() {
    let code =
        Code::flatten(&prepared("(call $burn (i64.const 1)) (call $burn (i64.const 1))")).expect("it can be flattened");
    let new = || Machine::new(Arc::new(code.clone()), Arc::from([]), FUEL, OUTPUT_LIMIT).expect("there is memory");
    let mut machine = new();
    let profile = machine.profile().expect("there is memory");
    // Four imports, `burn`, `start`; the rest are the steps that begin and end a task.
    assert_eq!(profile.len(), 6);
    assert_eq!(profile[..4], [0; 4]);
    assert!(profile[4] >= 2 && profile[5] >= 3, "{profile:?}");
    assert_eq!(profile.iter().sum::<u64>() + 3, machine.steps());
    let mut plain = new();
    plain.run().expect("there is memory");
    assert_eq!((plain.steps(), plain.end()), (machine.steps(), machine.end()));
}

#[test]
fn the_stack_is_deep_enough_for_all_that_preparation_allows() {
    // Frames of very different kinds, each to the end of depth: no engine may find its own end first.
    for locals in [0, 1, 100, 10_000] {
        let (declared, operands) = ("i64 ".repeat(locals), "(local.get 0) ".repeat(200));
        let sum = "i32.add ".repeat(200);
        let body = format!(
            r#"(module (memory (export "memory") 1)
            (func $f (param i32) (result i32) (local {declared})
                {operands} (call $f (i32.add (local.get 0) (i32.const 1))) {sum})
            (func (export "_start") (drop (call $f (i32.const 0)))))"#
        );
        let engines = Engines::new(&wasm(&body));
        let done = engines.both("recursion", &[], FUEL);
        assert_eq!(done.outcome, Outcome::Failed);
        assert!(done.fuel < FUEL, "depth ended it, not fuel");
    }
}
