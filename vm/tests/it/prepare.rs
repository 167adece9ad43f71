//! What preparation makes of a program.

use std::fmt::Write as _;

use conun_vm::{Limits, Prepared, fuel, prepare, prepare_library};
use wasmer::Value as WasmerValue;

use crate::{
    command,
    spec::{
        Engine as _, FUEL as PLENTY, NoInstance, Value,
        wasmer::{Running, Wasmer},
    },
    wasm,
};

fn prepared(wasm: &[u8]) -> Prepared {
    prepare(wasm, &Limits::default()).expect("the test's program is accepted")
}

fn library(wasm: &[u8]) -> Vec<u8> {
    prepare_library(wasm, &Limits::default()).expect("the test's module is accepted").into_bytes()
}

/// What a function of a prepared module answers, and the fuel that it burns.
fn run(running: &mut Running, function: &str, args: &[Value]) -> (Option<Vec<Value>>, i64) {
    let results = Wasmer::default().call(running, function, args);
    (results, PLENTY - fuel_left(running))
}

fn fuel_left(running: &mut Running) -> i64 {
    match Wasmer::default().global(running, "conun:fuel") {
        Value::I64(left) => left.cast_signed(),
        other => panic!("{other:?} is no fuel"),
    }
}

fn instance(prepared: &[u8]) -> Running {
    match Wasmer::default().instantiate(prepared) {
        Ok(running) => running,
        Err(NoInstance::Failed | NoInstance::Imports) => panic!("the test's module can be instantiated"),
    }
}

#[test]
fn prepared_module_is_valid_and_has_the_names_that_engines_look_for() {
    let prepared = prepared(&command("", "(local f64) (loop (br_if 0 (memory.grow (i32.const 1))))"));
    let features = wasmparser::WasmFeatures::WASM1 | wasmparser::WasmFeatures::BULK_MEMORY;
    wasmparser::Validator::new_with_features(features).validate_all(prepared.as_bytes()).expect("it is valid");
    let engine = wasmer::Engine::default();
    let module = wasmer::Module::new(&engine, prepared.as_bytes()).expect("it is valid");
    let names: Vec<_> = module.exports().map(|export| export.name().to_owned()).collect();
    assert_eq!(names, ["start", "memory", "fuel"]);
}

#[test]
fn preparation_is_a_function_of_its_input() {
    let wasm = command("(func $f (param f64) (result f64) (f64.sqrt (local.get 0)))", "(drop (call $f (f64.const 2)))");
    let first = prepared(&wasm);
    assert_eq!(prepared(&wasm), first);
    let smaller = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    assert_ne!(prepare(&wasm, &smaller).expect("it fits").as_bytes(), first.as_bytes(), "the limit is part of it");
}

#[test]
fn functions_are_found_again_by_their_index() {
    let wasm = wasm(
        r#"(module
        (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
        (import "conun" "exit" (func (param i32)))
        (memory (export "memory") 1)
        (func (export "_start")) (func))"#,
    );
    let prepared = prepared(&wasm);
    assert_eq!((prepared.function(0), prepared.function(1), prepared.function(4)), (None, None, None));
    for index in [2, 3] {
        let there = prepared.function(index).expect("the program defines it");
        assert_eq!(prepared.origin(there), Some(index));
    }
    assert_eq!(prepared.origin(prepared.function(3).expect("just found") + 1), None, "not the program's");
}

/// Rounds of a loop that is counted, by the way that it counts: start, step, end.
#[test]
fn counted_loops_burn_what_their_rounds_do() {
    let cases: [(u32, i32, u32); 12] = [
        (0, 1, 10),
        (0, 1, 1),
        (7, -1, 0),
        (10, -1, 3),
        (0, 8, 80),
        (0, 8, 8),
        (64, -16, 0),
        (u32::MAX - 1, 1, 3),
        (2, -2, u32::MAX - 3),
        (0, i32::MIN, 0),
        (0, 1 << 20, 0),
        (5, 1 << 30, 5),
    ];
    for (from, step, to) in cases {
        let rounds = (1_u64..).find(|n| from.wrapping_add(step.cast_unsigned().wrapping_mul(*n as u32)) == to);
        let rounds = rounds.expect("each of these gets there");
        let tails = [
            format!("(i32.ne (local.tee $i (i32.add (local.get $i) (i32.const {step}))) (local.get $to))"),
            format!("(i32.ne (local.get $to) (local.tee $i (i32.add (local.get $i) (i32.const {step}))))"),
            format!("(i32.ne (local.tee $i (i32.add (local.get $i) (i32.const {step}))) (i32.const {to}))"),
            // Not counted: what it adds comes first.
            format!("(i32.ne (local.tee $i (i32.add (i32.const {step}) (local.get $i))) (local.get $to))"),
        ];
        for tail in tails {
            let wat = format!(
                r#"(module (func (export "f") (param $i i32) (param $to i32) (result i64) (local $n i64)
                (loop $again (local.set $n (i64.add (local.get $n) (i64.const 1))) (br_if $again {tail}))
                (local.get $n)))"#
            );
            let mut running = instance(&library(&wasm(&wat)));
            let (results, burned) = run(&mut running, "f", &[Value::I32(from), Value::I32(to)]);
            assert_eq!(results, Some(vec![Value::I64(rounds)]), "{tail}");
            // A declared local, `local.get`; each round four for $n and seven for the tail.
            assert_eq!(burned.cast_unsigned(), 2 + 11 * rounds, "{from} {tail}");
        }
    }
}

#[test]
fn counted_loop_that_never_ends_fails_before_it_begins() {
    let wat = r#"(module (func (export "f") (param $i i32)
        (loop $again (br_if $again (local.tee $i (i32.add (local.get $i) (i32.const -2)))))))"#;
    let mut running = instance(&library(&wasm(wat)));
    assert_eq!(run(&mut running, "f", &[Value::I32(4)]).0, Some(vec![]));
    assert_eq!(run(&mut running, "f", &[Value::I32(5)]).0, None);
    assert!(fuel_left(&mut running) < 0, "it is the fuel that does not suffice");
}

/// Calls that double at each of 60 levels, without a loop and without recursion.
#[test]
fn calls_without_loops_end_at_the_fuel_limit() {
    let mut wat = String::from(r#"(module (func $f0 nop) "#);
    for level in 1..60 {
        let below = level - 1;
        write!(wat, "(func $f{level} (call $f{below}) (call $f{below}))").expect("a string takes everything");
    }
    wat.push_str(r#"(func (export "f") (call $f59)))"#);
    let mut running = instance(&library(&wasm(&wat)));
    set_fuel(&mut running, 1_000_000);
    let function = running.instance.exports.get_function("f").expect("it is exported").clone();
    function.call(&mut running.store, &[]).expect_err("2^60 calls are too many");
    let left = fuel_left(&mut running);
    assert!(left < 0 && left > -2 * fuel::UNCHECKED.cast_signed(), "checked soon: {left}");
}

fn set_fuel(running: &mut Running, fuel: i64) {
    let global = running.instance.exports.get_global("conun:fuel").expect("a prepared module counts").clone();
    global.set(&mut running.store, WasmerValue::I64(fuel)).expect("the global is mutable");
}

/// Functions that make NaNs and let their bits be seen, each in its own way.
const NANS: &str = r#"(module (memory (export "memory") 1) (global $g (export "g") (mut f64) (f64.const 0))
    (func $nan (param f64) (result f64) (f64.sub (local.get 0) (local.get 0)))
    (func (export "result") (param f64) (result f64) (f64.div (local.get 0) (f64.const 0)))
    (func (export "reinterpret") (param f64) (result i64) (i64.reinterpret_f64 (f64.mul (local.get 0) (f64.const 0))))
    (func (export "sign") (param f64) (result f64) (f64.copysign (f64.const 1) (f64.sqrt (local.get 0))))
    (func (export "negated") (param f64) (result f64) (f64.neg (f64.sqrt (local.get 0))))
    (func (export "global") (param f64) (result f64) (global.set $g (f64.sqrt (local.get 0))) (global.get $g))
    (func $pass (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
    (func (export "argument") (param f64) (result i64) (call $pass (f64.sqrt (local.get 0))))
    (func (export "accumulated") (param f64) (result i64) (local $sum f64) (local $i i32)
        (loop $again
            (local.set $sum (f64.add (local.get $sum) (f64.sqrt (local.get 0))))
            (br_if $again (i32.ne (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))))
        (i64.reinterpret_f64 (local.get $sum)))
    (func (export "either") (param f64) (param i32) (result i64) (local $x f64)
        (local.set $x (local.get 0))
        (if (local.get 1) (then (local.set $x (f64.sqrt (local.get 0)))))
        (i64.reinterpret_f64 (local.get $x)))
    (func (export "stores") (param f64) (result i64)
        (f64.store (i32.const 0) (f64.sqrt (local.get 0)))
        (f64.store (i32.const 8) (f64.add (f64.load (i32.const 0)) (f64.const 1)))
        (f64.store (i32.const 4) (f64.sqrt (local.get 0)))
        (i64.add (i64.load (i32.const 0)) (i64.load (i32.const 8))))
    (func (export "reloaded") (param f64) (result i64) (local $x f64)
        (f64.store (i32.const 0) (f64.sqrt (local.get 0)))
        (local.set $x (f64.load (i32.const 0)))
        (f64.store (i32.const 8) (f64.sqrt (local.get 0)))
        (i64.reinterpret_f64 (local.get $x)))
    (func (export "narrow") (param f64) (result i32)
        (f32.store (i32.const 16) (f32.demote_f64 (f64.sqrt (local.get 0))))
        (f32.store (i32.const 20) (f32.demote_f64 (f64.sqrt (local.get 0))))
        (i32.or (i32.load (i32.const 16)) (i32.load (i32.const 20)))))"#;

#[test]
fn fresh_nans_are_canonical_wherever_their_bits_show() {
    const CANONICAL: u64 = 0x7ff8_0000_0000_0000;
    let mut running = instance(&library(&wasm(NANS)));
    // A square root of a negative number is a NaN, and 0 / 0, and infinity times 0.
    let negative = Value::F64((-4.0_f64).to_bits());
    let mut answer = |function, args: &[Value]| run(&mut running, function, args).0.expect("it does not fail")[0];
    for function in ["negated", "global"] {
        assert_eq!(answer(function, &[negative]), Value::F64(CANONICAL), "{function}");
    }
    assert_eq!(answer("result", &[Value::F64(0)]), Value::F64(CANONICAL));
    assert_eq!(answer("reinterpret", &[Value::F64(f64::INFINITY.to_bits())]), Value::I64(CANONICAL));
    assert_eq!(answer("sign", &[negative]), Value::F64(1.0_f64.to_bits()), "the canonical NaN is positive");
    for function in ["argument", "accumulated", "reloaded"] {
        assert_eq!(answer(function, &[negative]), Value::I64(CANONICAL), "{function}");
    }
    assert_eq!(answer("either", &[negative, Value::I32(1)]), Value::I64(CANONICAL));
    assert_eq!(answer("narrow", &[negative]), Value::I32(0x7fc0_0000));
    // Overlapping stores: the last one's lower half lies over the first one's upper half, and its upper half over the second's lower.
    let (low, high) = (CANONICAL & 0xffff_ffff, CANONICAL >> 32);
    assert_eq!(answer("stores", &[negative]), Value::I64((low << 32).wrapping_add(high | (high << 32))));
}

#[test]
fn bits_of_nans_that_are_only_moved_stay() {
    let wat = r#"(module (memory 1) (global $g (mut f64) (f64.const 0))
        (func $same (param f64) (result f64) (local.get 0))
        (func (export "around") (param f64) (result f64) (local $x f64)
            (f64.store (i32.const 0) (f64.add (f64.const 1) (f64.const 2)))
            (f64.store (i32.const 8) (local.get 0))
            (f64.store (i32.const 16) (f64.add (f64.const 1) (f64.const 2)))
            (local.set $x (f64.load (i32.const 8)))
            (global.set $g (call $same (local.get $x)))
            (f64.neg (f64.neg (select (global.get $g) (f64.const 1) (i32.const 1)))))
        (func (export "either") (param f64) (param i32) (result f64) (local $x f64)
            (local.set $x (local.get 0))
            (if (local.get 1) (then (local.set $x (f64.sqrt (local.get 0)))))
            (local.get $x))
        (func (export "boxed") (param i64) (result i64) (i64.reinterpret_f64 (f64.reinterpret_i64 (local.get 0)))))"#;
    let mut running = instance(&library(&wasm(wat)));
    for payload in [0x7ff8_dead_beef_0001, 0xfff8_0000_0000_1234, 0x7ff0_0000_0000_0001, u64::MAX] {
        let around = run(&mut running, "around", &[Value::F64(payload)]).0;
        assert_eq!(around, Some(vec![Value::F64(payload)]), "{payload:x}");
        let either = run(&mut running, "either", &[Value::F64(payload), Value::I32(0)]).0;
        assert_eq!(either, Some(vec![Value::F64(payload)]), "{payload:x}");
        assert_eq!(run(&mut running, "boxed", &[Value::I64(payload)]).0, Some(vec![Value::I64(payload)]));
    }
}
