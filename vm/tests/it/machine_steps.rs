//! Programs made to get many steps for little fuel.

use conun_vm::{
    Limits, Outcome,
    machine::{self, max_steps},
    prepare,
};

use crate::wasm;

/// Fuel so much that the margin is nothing.
const FUEL: u64 = 20_000_000;

/// Most steps for a fuel that are promised. The worst of them gets 3.998.
const MOST: f64 = 4.0;

fn steps_for_fuel(around: &str, locals: &str, body: &str) -> f64 {
    let program = wasm(&format!(
        r#"(module
        (import "conun" "input_len" (func $input_len (result i64)))
        (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $output_write (param i64 i32)))
        (memory (export "memory") 1 2)
        {around} (func (export "_start") {locals} (loop $again {body} (br $again))))"#
    ));
    let prepared = prepare(&program, &Limits::default()).expect("it is accepted");
    let run = machine::run(prepared.as_bytes(), &[0; 1_000], FUEL, 1 << 20).expect("it can be flattened");
    assert_eq!(run.outcome, Outcome::Failed, "it only ends when it has no fuel left");
    assert!(run.steps <= max_steps(run.fuel), "{} steps for {} fuel: {body}", run.steps, run.fuel);
    run.steps as f64 / run.fuel as f64
}

#[test]
fn no_program_takes_more_steps_than_its_fuel_allows() {
    let many = "(param i32) (result f64) (local i64 i64 i64 i64 i64 i64 i64 i64 i64)";
    let last = r#"(func $f99 (if (i32.const 0) (then (call $f0))))"#;
    let chain = (0..99).map(|n| format!("(func $f{n} (call $f{}))", n + 1)).collect::<String>() + last;
    let cases = [
        ("", "", ""),
        ("", "(local i32)", "(br_if $again (local.get 0))"),
        ("", "(local i32)", "(if (local.get 0) (then) (else (nop)))"),
        ("", "(local i32)", "(if (i32.eqz (local.get 0)) (then (local.set 0 (i32.const 0))) (else))"),
        ("", "(local i32)", "(block (block (block (br_table 0 1 2 (local.get 0)))))"),
        (
            "",
            "(local i32)",
            "(drop (block (result i32) (drop (block (result i32) (i32.const 1) (i32.const 2) (br_table 0 1 (local.get 0)))) (i32.const 0)))",
        ),
        ("", "(local i32)", "(drop (block (result i32) (i32.const 0) (br_if 0 (i32.const 1) (local.get 0)) (drop)))"),
        ("", "(local f64)", "(f64.store (i32.const 8) (f64.add (local.get 0) (local.get 0)))"),
        (
            "",
            "(local f64)",
            "(f64.store (i32.const 8) (f64.div (local.get 0) (local.get 0))) (f32.store (i32.const 8) (f32.demote_f64 (local.get 0)))",
        ),
        ("", "(local f64)", "(drop (i64.reinterpret_f64 (f64.div (local.get 0) (local.get 0))))"),
        ("", "", "(memory.fill (i32.const 0) (i32.const 0) (i32.const 0))"),
        ("", "", "(memory.fill (i32.const 1) (i32.const 0) (i32.const 7))"),
        ("", "", "(memory.fill (i32.const 31) (i32.const 0) (i32.const 2))"),
        ("", "", "(memory.copy (i32.const 31) (i32.const 30) (i32.const 7))"),
        ("", "", "(memory.copy (i32.const 31) (i32.const 16) (i32.const 1000))"),
        ("", "", "(memory.copy (i32.const 16) (i32.const 31) (i32.const 65000))"),
        (
            "(data $d \"0123456789abcdefghijklmnopqrstuvwxyz\")",
            "",
            "(memory.init $d (i32.const 31) (i32.const 30) (i32.const 3))",
        ),
        ("(data $d \"0123456789\")", "", "(data.drop $d)"),
        ("", "", "(drop (memory.size))"),
        ("", "", "(drop (memory.grow (i32.const 0)))"),
        ("", "", "(drop (call $input_len))"),
        ("", "", "(drop (call $input_read (i64.const 1) (i64.const 0) (i32.const 999)))"),
        ("", "", "(call $output_write (i64.const 1) (i32.const 0))"),
        ("(func $f)", "", "(call $f)"),
        ("(func $f (result i32) (i32.const 1))", "", "(drop (call $f))"),
        (&format!("(func $f {many} (f64.const 1))"), "", "(drop (call $f (i32.const 1)))"),
        (
            &format!("(func $f {many} (f64.add (f64.const 1) (f64.convert_i32_s (local.get 0))))"),
            "",
            "(drop (call $f (i32.const 1)))",
        ),
        (
            "(table 1 funcref) (elem (i32.const 0) $f) (func $f (if (i32.const 0) (then (call_indirect (i32.const 0)))))",
            "",
            "(call_indirect (i32.const 0))",
        ),
        (
            "(func $f (param i32) (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))))",
            "",
            "(call $f (i32.const 50))",
        ),
        ("", "(local i32 i32)", "(local.get 0) (local.get 1) (local.set 0) (local.set 1)"),
        // All on one cycle of calls, each with one instruction.
        (&chain, "", "(call $f0)"),
        // Not free, so that the fuel is written back before each and read behind it.
        ("(table 1 funcref) (elem (i32.const 0) $f) (func $f)", "", &"(block) (call $f)".repeat(1_000)),
        ("(table 1 funcref) (elem (i32.const 0) $f) (func $f nop)", "", &"(block) (call $f)".repeat(70_000)),
        (
            "(table 1 funcref) (elem (i32.const 0) $f) (func $f)",
            "",
            &"(block) (call_indirect (i32.const 0))".repeat(70_000),
        ),
        (&format!("(func $f (if (i32.const 0) (then {})))", "nop ".repeat(2_000)), "", "(call $f)"),
        (
            &format!("(func $f (if (i32.const 0) (then {} (loop (br 0)))))", "nop ".repeat(2_000)),
            "",
            "(block) (call $f) (block) (call $f)",
        ),
        ("(func $f (loop (br_if 0 (i32.const 0))))", "", "(call $f)"),
        (
            "",
            "(local i32)",
            "(local.set 0 (i32.const -2)) (loop $l (br_if $l (local.tee 0 (i32.add (local.get 0) (i32.const 2)))))",
        ),
        (
            "",
            "(local i32 i32)",
            "(local.set 0 (i32.const -4)) (loop $l (br_if $l (i32.ne (local.tee 0 (i32.add (local.get 0) (i32.const 4))) (local.get 1))))",
        ),
        ("", "(local f64)", "(local.set 0 (f64.reinterpret_i64 (i64.reinterpret_f64 (f64.sqrt (local.get 0)))))"),
        ("(func $f (param f64))", "(local f64)", "(call $f (f64.sqrt (f64.const -1)))"),
        ("(func $f (param f64) (result f64) (f64.sqrt (local.get 0)))", "", "(drop (call $f (f64.const -1)))"),
        (
            "",
            "(local f64)",
            "(local.set 0 (f64.sqrt (f64.const -1))) (f64.store (i32.const 0) (local.get 0)) (f64.store (i32.const 8) (local.get 0)) (f64.store (i32.const 16) (local.get 0))",
        ),
    ];
    for (around, locals, body) in cases {
        let ratio = steps_for_fuel(around, locals, body);
        assert!(ratio <= MOST, "{ratio} steps for a fuel: {around:.200} {body:.200}");
    }
}
