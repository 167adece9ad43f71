//! Fuel and depth, to the last unit.

use conun_vm::{Outcome, Program, fuel};

use crate::{CONUN, FUEL, OK, WASI, command, compile, engines::Engines, execute, put, task, wasm, write};

fn burned(around: &str, body: &str) -> u64 {
    let done = execute(&command(around, body));
    assert_eq!(done.outcome, OK, "{body}");
    done.fuel
}

#[test]
fn every_instruction_costs_one_and_structure_nothing() {
    assert_eq!(burned("", ""), 0);
    assert_eq!(burned("", "nop nop nop"), 3);
    assert_eq!(burned("", "(drop (i32.add (i32.const 1) (i32.const 2)))"), 4);
    assert_eq!(burned("", "(block (loop nop))"), 1);
    assert_eq!(burned("(func $f nop)", "(call $f)"), 2);
    // On a cycle, so that it is accounted for.
    assert_eq!(burned("(func $f (if (i32.const 0) (then (call $f))))", "(call $f)"), 1 + 3 + fuel::ACCOUNTED);
}

#[test]
fn locals_cost_one_for_each_four_begun() {
    for (locals, fuel) in [(0, 0), (1, 1), (4, 1), (5, 2), (9, 3)] {
        assert_eq!(burned(&format!("(func $f (local {}))", "i64 ".repeat(locals)), "(call $f)"), 1 + fuel, "{locals}");
    }
}

#[test]
fn only_the_branch_taken_is_charged_but_small_ones_always() {
    let body = |condition, yes: usize, no: usize| {
        format!("(if (i32.const {condition}) (then {}) (else {}))", "nop ".repeat(yes), "nop ".repeat(no))
    };
    let small = usize::try_from(fuel::SMALL_UNIT).expect("it is small");
    assert_eq!(burned("", &body(1, 30, 20)), 2 + 30); // const, if, nops
    assert_eq!(burned("", &body(0, 30, 20)), 2 + 20);
    assert_eq!(burned("", &body(1, 30, small)), 2 + 30 + fuel::SMALL_UNIT);
    assert_eq!(burned("", &body(0, 30, small + 1)), 2 + fuel::SMALL_UNIT + 1);
    assert_eq!(burned("", &body(0, small, small)), 2 + fuel::TAKEN_IN);
}

#[test]
fn loop_is_charged_by_the_round() {
    let rounds = |n: u64| {
        let body = format!(
            "(local $i i64) (loop $again
             (br_if $again (i64.lt_u (local.tee $i (i64.add (local.get $i) (i64.const 1))) (i64.const {n}))))"
        );
        burned("", &body)
    };
    assert_eq!(rounds(1), 1 + 7); // the local; get, const, add, tee, const, lt, br_if
    assert_eq!(rounds(1_000), 1 + 7 * 1_000);
}

#[test]
fn fuel_is_the_same_each_time() {
    let body = format!(
        "(local $i i32) (loop $again {} (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const 50))))",
        write(1, 0, 33)
    );
    let program = compile(&command(WASI, &body));
    let first = program.execute(&task(FUEL)).expect("an ordinary task");
    for _ in 0..5 {
        assert_eq!(program.execute(&task(FUEL)).expect("an ordinary task"), first);
    }
    assert_eq!(execute(&command(WASI, &body)), first, "nor does it depend on the compiled copy");
}

#[test]
fn limit_of_exactly_the_need_suffices_and_one_less_fails() {
    for body in [
        "nop nop",
        "(local $i i32) (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i)
        (i32.const 1))) (i32.const 9))))",
        &put(0, 80),
        "(drop (memory.grow (i32.const 1)))",
    ] {
        let program = compile(&command(CONUN, body));
        let need = program.execute(&task(FUEL)).expect("an ordinary task");
        assert_eq!(need.outcome, OK, "{body}");
        for (limit, outcome, fuel) in [
            (need.fuel + 1, OK, need.fuel),
            (need.fuel, OK, need.fuel),
            (need.fuel - 1, Outcome::Failed, need.fuel - 1),
        ] {
            let done = program.execute(&task(limit)).expect("an ordinary task");
            assert_eq!((done.outcome, done.fuel), (outcome, fuel), "limit {limit} for {body}");
        }
    }
}

#[test]
fn every_limit_below_the_need_fails_with_the_limit_billed_and_no_output() {
    let program = compile(&command(CONUN, &put(0, 8).repeat(3)));
    let need = program.execute(&task(FUEL)).expect("an ordinary task").fuel;
    for limit in 0..need {
        let done = program.execute(&task(limit)).expect("an ordinary task");
        assert_eq!((done.outcome, done.fuel, done.output.len()), (Outcome::Failed, limit, 0));
    }
}

#[test]
fn endless_loop_ends_at_its_limit() {
    for body in ["(loop (br 0))", "(loop nop nop (br 0))", "(loop (br_table 0 0 (i32.const 5)))"] {
        let done = compile(&command("", body)).execute(&task(100_000_007)).expect("an ordinary task");
        assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 100_000_007), "{body}");
    }
}

#[test]
fn trap_pays_for_its_whole_unit() {
    let done = execute(&command("", "nop (drop (i32.load (i32.const -1))) nop nop"));
    assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 6));
}

#[test]
fn bulk_operations_are_charged_by_length() {
    let base = burned("", "(memory.fill (i32.const 0) (i32.const 1) (i32.const 0))");
    assert_eq!(base, 4 + fuel::BULK);
    for len in [1, 7, 8, 65_528, 65_536] {
        let fill = format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {len}))");
        assert_eq!(burned("", &fill), base + len / fuel::BYTES_PER_FUEL);
        let copy = format!("(memory.copy (i32.const 0) (i32.const 0) (i32.const {len}))");
        assert_eq!(burned("", &copy), base + len / fuel::BYTES_PER_FUEL);
    }
    let init = "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 16))";
    assert_eq!(burned(r#"(data $d "0123456789abcdef")"#, init), base + 2);
}

#[test]
fn bulk_operation_beyond_the_fuel_left_does_not_run() {
    let endless = "(loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br 0))";
    let done = compile(&command("", endless)).execute(&task(1_000_000)).expect("an ordinary task");
    assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 1_000_000));
}

#[test]
fn growing_memory_is_dear_by_the_page() {
    let grow = |pages: u32| burned("", &format!("(drop (memory.grow (i32.const {pages})))"));
    for pages in [0, 1, 10] {
        assert_eq!(grow(pages), 3 + fuel::MEMORY_GROW + u64::from(pages) * fuel::MEMORY_GROW_PAGE);
    }
    assert_eq!(grow(65_536), 3 + fuel::MEMORY_GROW, "what the limit does not allow costs no pages");
}

#[test]
fn host_calls_are_charged_by_call_and_byte() {
    for len in [0, 8, 80, 65_536] {
        assert_eq!(burned(CONUN, &put(0, len)), 3 + fuel::HOST_CALL + fuel::OUTPUT_BYTE * u64::from(len));
    }
    assert_eq!(burned(CONUN, "(drop (call $input_len))"), 2 + fuel::HOST_CALL);
    assert_eq!(burned(CONUN, "(call $exit (i32.const 0))"), 2 + fuel::HOST_CALL);
    let read = |len: u32| {
        let body = format!("(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const {len})))");
        burned(CONUN, &body)
    };
    // An empty input has a header and the program's name.
    for (len, given) in [(0, 0), (7, 7), (8, 8), (65_536, task(0).input.len() as u64)] {
        assert_eq!(read(len), 5 + fuel::HOST_CALL + given / fuel::BYTES_PER_FUEL, "{len}");
    }
}

#[test]
fn wasi_costs_what_its_instructions_cost() {
    let print = |len: u32| burned(WASI, &write(1, 0, len));
    assert!(print(800) >= print(0) + 800 * fuel::OUTPUT_BYTE);
    assert!(print(0) < 20_000, "{}", print(0));
}

#[test]
fn endless_recursion_fails_at_the_depth_limit_on_any_frame() {
    // Frames of many shapes: the account must end before the native stack does, which would be an error.
    for values in [0_usize, 1, 10, 100, 1_000, 10_000] {
        let loads: String = (0..values).map(|i| format!("(i64.load (i32.const {}))", i * 6)).collect();
        let sums = "i64.add ".repeat(values);
        let around = format!("(func $f (result i64) {loads} (call $f) {sums})");
        let done = execute(&command(&around, "(drop (call $f))"));
        assert_eq!(done.outcome, Outcome::Failed, "{values} values held over the call");
        assert!(done.fuel < FUEL);
    }
}

#[test]
fn recursion_over_tables_fails_at_the_depth_limit() {
    let around = "(table 1 funcref) (elem (i32.const 0) $f)
        (func $f (param f64 f64 f64) (result f64)
            (f64.add (local.get 0) (call_indirect (param f64 f64 f64) (result f64)
                (f64.add (local.get 0) (f64.const 1)) (local.get 2) (local.get 1) (i32.const 0))))";
    let body = "(drop (call $f (f64.const 0) (f64.const 1) (f64.const 2)))";
    assert_eq!(execute(&command(around, body)).outcome, Outcome::Failed);
}

#[test]
fn depth_limit_is_exact() {
    // $f holds its parameter and at most two operands; $start holds one operand and no locals.
    let frame = u64::from(fuel::FRAME_SLOTS) + 1 + 2;
    let first = u64::from(fuel::FRAME_SLOTS) + 1;
    let deepest = (u64::from(fuel::DEPTH_SLOTS) - first) / frame;
    let around = "(func $f (param i32)
        (if (local.get 0) (then (call $f (i32.sub (local.get 0) (i32.const 1))))))";
    // The last call of $f, which calls nothing any more, still has a frame: it could call.
    for (calls, outcome) in [(deepest - 1, OK), (deepest, Outcome::Failed)] {
        assert_eq!(execute(&command(around, &format!("(call $f (i32.const {calls}))"))).outcome, outcome);
    }
}

#[test]
fn depth_is_given_back_on_return() {
    let around = "(func $leaf) (func $f (call $leaf) (call $leaf))";
    let body = "(local $i i32) (loop (call $f)
        (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 300000))))";
    assert_eq!(execute(&command(around, body)).outcome, OK);
}

#[test]
fn programs_cannot_name_the_meter() {
    // Globals are added behind the program's own; a program that names the first of them is not valid.
    let mut wasm = command("(global $g (mut i64) (i64.const 0))", "(global.set $g (i64.const 64))");
    let at = wasm.windows(3).rposition(|w| w == [0x24, 0, 0x0b]).expect("global.set 0, end");
    wasm[at + 1] = 1;
    assert!(Program::compile(&wasm, conun_vm::Limits::default()).is_err());

    for name in ["fuel", "conun:fuel", "log", "system", "start"] {
        let export = format!(r#"(global (export "{name}") (mut i64) (i64.const 1152921504606846976))"#);
        let done = compile(&command(&export, "(loop (br 0))")).execute(&task(1_000)).expect("an ordinary task");
        assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 1_000), "{name}");
    }
}

/// A compiler keeps the value of an expression that comes twice: each of these frames has some thousand values, and no locals for them.
#[test]
fn frames_that_a_compiler_makes_large_end_with_the_depth_and_not_with_the_native_stack() {
    let products = |count: i32| -> String {
        let product = |nth: i32| format!("(i32.mul (local.get 0) (i32.const {}))", 1_000_003 + nth * 7_919);
        let add = |nth| format!("(local.set 1 (i32.rotl (i32.add (local.get 1) {}) (i32.const 1)))", product(nth));
        (0..count).map(add).collect()
    };
    // One operator for each value, and four to use it: as little as it takes.
    let chain = |count: usize| {
        let (links, uses) =
            ("(i32.popcnt) ".repeat(count), "(i32.popcnt) (local.tee 1) (i32.const 0) (local.get 1) (i32.store) ");
        (format!("(local.get 0) {links} (local.set 1)"), format!("(local.get 0) {} (drop)", uses.repeat(count)))
    };
    let (links, uses) = chain(3_000);
    let cases = [300, 4_000].map(|count| (products(count), products(count))).into_iter().chain([(links, uses)]);
    for (before, after) in cases {
        let text = format!(
            r#"(module (memory (export "memory") 1) (func $f (param i32) (result i32) (local i32)
            {before} (local.set 1 (i32.add (local.get 1) (call $f (i32.add (local.get 0) (i32.const 1))))) {after} (local.get 1))
            (func (export "_start") (drop (call $f (i32.const 3)))))"#
        );
        let engines = Engines::new(&wasm(&text));
        let done = engines.both("large frames", &[], 1 << 40);
        assert!(done.outcome == Outcome::Failed && done.fuel < 1 << 40, "{} fuel", done.fuel);
    }
}
