//! Programs made to do more than their fuel pays for: what happens between two checks is bounded, in steps of the machine.

use std::fmt::Write as _;

use conun_vm::{
    Limits, Outcome, Program, Task, fuel,
    machine::{self, max_steps},
    prepare,
};

use crate::wasm;

/// Hardly any.
const FUEL: u64 = 1_000;

/// Steps that the machine needs for one fuel at most, see `machine_steps`.
const STEPS: u64 = 4;

/// Runs out of its fuel in both engines, having burned at most `over` more.
fn ends(what: &str, around: &str, body: &str, input: &[u8], fuel_limit: u64, over: u64) {
    let program = wasm(&format!(
        r#"(module
        (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $output_write (param i64 i32)))
        (memory (export "memory") 256)
        {around} (func (export "_start") (local $i i32) {body}))"#
    ));
    let limits = Limits::default();
    let prepared = prepare(&program, &limits).unwrap_or_else(|refused| panic!("{what}: {refused}"));
    let run = machine::run(prepared.as_bytes(), input, fuel_limit, 1 << 20).expect("it can be flattened");
    assert_eq!((run.outcome, run.fuel), (Outcome::Failed, fuel_limit), "{what}");
    assert!(run.steps <= STEPS * (fuel_limit + over), "{what}: {} steps", run.steps);
    assert!(run.steps <= max_steps(run.fuel), "{what}: {} steps", run.steps);
    let program = Program::from_prepared(prepared.as_bytes(), limits).expect("it compiles");
    let done = program.execute(&Task { input: input.to_vec().into(), fuel_limit }).expect("it is the program's fault");
    assert_eq!((done.outcome, done.fuel), (Outcome::Failed, fuel_limit), "{what}");
}

fn repeated(text: &str, times: usize) -> String {
    text.repeat(times)
}

/// A thousand fuel, and as many steps or nearly so: a `nop` has none.
fn thousand() -> String {
    repeated("(i32.store (i32.const 0) (i32.popcnt (i32.const 1)))", 250)
}

#[test]
fn calls_through_tables_are_checked_like_others() {
    // Each level calls the one below through a type of its own: no cycle, and no function that burns much by itself.
    const LEVELS: usize = 3;
    let mut around = format!("(table {} funcref)", LEVELS + 1);
    for level in 0..=LEVELS {
        let params = repeated("i32 ", level);
        let code = match level {
            0 => thousand(),
            _ => {
                let arguments = repeated("(i32.const 1)", level - 1);
                repeated(&format!("(call_indirect (type {}) {arguments} (i32.const {}))", level - 1, level - 1), 150)
            }
        };
        let _ = write!(
            around,
            "(type (func (param {params}))) (elem (i32.const {level}) $f{level})
            (func $f{level} (type {level}) {code})"
        );
    }
    let body = "(call_indirect (type 3) (i32.const 1) (i32.const 1) (i32.const 1) (i32.const 3))";
    ends("tables", &around, body, &[], FUEL, 4 * fuel::UNCHECKED);
}

#[test]
fn many_calls_in_a_row_are_checked() {
    let unchecked = format!("(func $f (if (i32.const 1) (then {})))", thousand());
    let free = format!("(func $f {})", thousand());
    let table = format!("{unchecked} (table 1 funcref) (elem (i32.const 0) $f)");
    let calls = repeated("(call $f)", 20_000);
    ends("calls", &unchecked, &calls, &[], FUEL, 2 * fuel::LONG);
    ends("free calls", &free, &calls, &[], FUEL, 2 * fuel::LONG);
    ends("indirect", &table, &repeated("(call_indirect (i32.const 0))", 20_000), &[], FUEL, 2 * fuel::LONG);
    // One that the table leads back to is checked where it begins; what else the table leads to counts all the same.
    let cycle = format!(
        "{unchecked} (table 2 funcref) (elem (i32.const 0) $f $g)
        (func $g (if (i32.const 0) (then (call_indirect (i32.const 1)))) {})",
        repeated("(call_indirect (i32.const 0))", 20_000)
    );
    ends("indirect, on a cycle", &cycle, "(call $g)", &[], 50_000, 2 * fuel::LONG);
    // The same where the fuel is in a local.
    let in_loop = format!("(loop $l {calls} (br_if $l (i32.const 1)))");
    ends("calls in a loop", &unchecked, &in_loop, &[], 1 << 30, 2 * fuel::LONG);
    ends("free calls in a loop", &free, &in_loop, &[], 1 << 30, 2 * fuel::LONG);
}

#[test]
fn one_function_burns_no_more_than_it_has_bytes() {
    let straight = repeated("(local.set $i (i32.popcnt (local.get $i)))", 200_000);
    ends("straight", "", &straight, &[], FUEL, fuel::OVERRUN);
    // Past each check there is a way around it.
    let skipped =
        repeated("(if (i32.const 0) (then (loop $l (br_if $l (i32.const 0))))) (local.set $i (i32.const 1))", 4_000);
    ends("skipped", "", &skipped, &[], FUEL, fuel::OVERRUN);
}

#[test]
fn counted_loops_are_paid_before_they_begin() {
    let counted = |rounds: i64| {
        format!(
            "(local.set $i (i32.const {rounds}))
            (loop $l (br_if $l (local.tee $i (i32.add (local.get $i) (i32.const -1)))))"
        )
    };
    ends("all the way around", "", &counted(0), &[], 1 << 34, 0);
    ends("the longest", "", &counted(-1), &[], 1 << 34, 0);
    ends("never", "", &counted(1).replace("(i32.const -1)", "(i32.const -2)"), &[], fuel_most(), 0);
    ends("many", "", &format!("(loop $o {} (br $o))", counted(20_000)), &[], 1 << 20, 0);
    // What traps in its first round has been paid for all, and for no more than there was.
    let traps = format!(
        "(loop $o {} (br $o))",
        counted(1 << 30).replace("(br_if $l", "(drop (i32.div_u (i32.const 1) (i32.const 0))) (br_if $l")
    );
    ends("trap", "", &traps, &[], 1 << 20, 0);
}

fn fuel_most() -> u64 {
    conun_vm::MAX_FUEL
}

#[test]
fn bytes_that_the_fuel_does_not_pay_for_are_not_moved() {
    let input = vec![7; 16 << 20];
    for (what, body) in [
        ("input", "(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const -1)))"),
        ("input to its end", "(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const 16777216)))"),
        ("output", "(call $output_write (i64.const 0) (i32.const 1048576))"),
        ("fill", "(memory.fill (i32.const 0) (i32.const 1) (i32.const 16777216))"),
        ("copy", "(memory.copy (i32.const 1) (i32.const 0) (i32.const 16777215))"),
    ] {
        ends(what, "", body, &input, FUEL, 100);
    }
}

#[test]
fn what_an_instance_begins_with_is_paid_by_the_program() {
    let fuel = |around: &str| {
        let done = crate::execute(&crate::command(around, "nop"));
        assert_eq!(done.outcome, crate::OK);
        done.fuel
    };
    assert_eq!(fuel("(table 1000 funcref)"), 1 + 1_000 * fuel::TABLE_ELEMENT);
    let data = r#"(data (i32.const 0) "0123456789") (data (i32.const 0) "01") (data "0123456789")"#;
    assert_eq!(fuel(data), 1 + 12 / fuel::DATA_BYTES_PER_FUEL);
    ends("table", "(table 1000000 funcref)", "", &[], FUEL, 0);
}

#[test]
fn dropping_data_is_dearer_than_other_instructions() {
    let done = crate::execute(&crate::command(r#"(data $d "0")"#, "(data.drop $d) (data.drop $d)"));
    assert_eq!((done.outcome, done.fuel), (crate::OK, 2 * fuel::DATA_DROP));
}

#[test]
fn reading_input_costs_the_same_however_little_fuel_is_left() {
    // 800 bytes given: 100 fuel, and what asking costs.
    let body = "(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const 0x7fffffff)))";
    let need = 5 + fuel::HOST_CALL + 100;
    let program = wasm(&format!(
        r#"(module (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
        (memory (export "memory") 1) (func (export "_start") {body}))"#
    ));
    let prepared = prepare(&program, &Limits::default()).expect("it is accepted");
    for length in 800..808 {
        let input = vec![7; length];
        for (limit, outcome) in
            [(need, crate::OK), (need + 1, crate::OK), (need - 1, Outcome::Failed), (need - 90, Outcome::Failed)]
        {
            let run = machine::run(prepared.as_bytes(), &input, limit, 0).expect("it can be flattened");
            assert_eq!((run.outcome, run.fuel), (outcome, limit.min(need)), "{length} bytes, limit {limit}");
        }
    }
}
