//! How executions end.

use conun_vm::{Execution, Limits, Outcome, Program};

use crate::{CONUN, FUEL, OK, WASI, command, compile, execute, put, stdout, task, wasm, write};

fn failed(done: &Execution) -> bool {
    done.outcome == Outcome::Failed && done.output.is_empty()
}

#[test]
fn return_from_start_is_exit_code_zero() {
    assert_eq!(execute(&command("", "")).outcome, OK);
}

#[test]
fn proc_exit_ends_at_once_with_its_code() {
    for code in [0, 1, 42, 255, u32::MAX] {
        let body = format!("(call $proc_exit (i32.const {code})) unreachable");
        assert_eq!(execute(&command(WASI, &body)).outcome, Outcome::Ok { exit_code: code });
    }
}

#[test]
fn failing_exit_code_keeps_its_output() {
    let body = format!("{} (call $proc_exit (i32.const 7))", write(1, 0, 2));
    let done = execute(&command(&format!(r#"{WASI} (data (i32.const 0) "hi")"#), &body));
    assert_eq!((done.outcome, stdout(&done)), (Outcome::Ok { exit_code: 7 }, &b"hi"[..]));
}

#[test]
fn every_trap_is_failed_and_drops_the_output() {
    let traps = [
        "unreachable",
        "(drop (i32.div_s (i32.const 1) (i32.const 0)))",
        "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))",
        "(drop (i64.rem_u (i64.const 1) (i64.const 0)))",
        "(drop (i32.trunc_f64_s (f64.const nan)))",
        "(drop (i32.trunc_f32_u (f32.const -1)))",
        "(drop (i32.load (i32.const 65536)))",
        "(drop (i32.load offset=0xffffffff (i32.const 0xffffffff)))",
        "(i64.store8 (i32.const -1) (i64.const 0))",
        "(memory.fill (i32.const 65530) (i32.const 0) (i32.const 7))",
        "(memory.copy (i32.const 0) (i32.const 65530) (i32.const 7))",
        "(call_indirect (i32.const 1))",
        "(call_indirect (i32.const 9))",
        "(call_indirect (param i32) (i32.const 0) (i32.const 0))",
    ];
    let around = format!("{WASI} (table 4 funcref) (elem (i32.const 0) $start)");
    for trap in traps {
        let done = execute(&command(&around, &format!("{} {trap}", write(1, 0, 4))));
        assert!(failed(&done), "{trap}: {done:?}");
        assert!(done.fuel > 0 && done.fuel < 100_000, "{trap} is billed what it burned: {}", done.fuel);
    }
}

#[test]
fn memory_grows_to_the_cap_and_not_a_page_further() {
    // Output: what `memory.grow` answers for all the rest, and then for one page more.
    let body = format!(
        "(i32.store (i32.const 0) (memory.grow (i32.const 4)))
         (i32.store (i32.const 4) (memory.grow (i32.const 1)))
         (i32.store8 (i32.const 327679) (i32.const 1))
         {}",
        put(0, 8)
    );
    let limits = Limits { memory_bytes: 5 * 65536, ..Limits::default() };
    for maximum in ["", "100"] {
        let module =
            format!(r#"(module {CONUN} (memory (export "memory") 1 {maximum}) (func (export "_start") {body}))"#);
        let program = Program::compile(&wasm(&module), limits).expect("one page is less than five");
        let done = program.execute(&task(FUEL)).expect("five pages are little");
        assert_eq!(done.outcome, OK);
        assert_eq!(done.output, [1i32.to_le_bytes(), (-1i32).to_le_bytes()].concat());
    }
}

#[test]
fn memory_of_the_layer_counts_towards_the_cap() {
    let body = format!(
        "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
         (i32.store (i32.const 0) (memory.size)) {}",
        write(1, 0, 4)
    );
    let limits = Limits { memory_bytes: 64 * 65536, ..Limits::default() };
    let program = Program::compile(&command(WASI, &body), limits).expect("64 pages are enough for both");
    let done = program.execute(&task(FUEL)).expect("64 pages are little");
    let pages = u32::from_le_bytes(stdout(&done).try_into().expect("four bytes"));
    assert!(pages > 32 && pages < 64, "{pages} of 64 pages");
}

#[test]
fn own_maximum_below_the_cap_still_counts() {
    let body = format!("(i32.store (i32.const 0) (memory.grow (i32.const 2))) {}", put(0, 4));
    let module = format!(r#"(module {CONUN} (memory (export "memory") 1 2) (func (export "_start") {body}))"#);
    assert_eq!(execute(&wasm(&module)).output, (-1i32).to_le_bytes());
}

#[test]
fn memory_at_the_cap_reads_and_writes_to_its_last_byte() {
    let body = format!("(i32.store8 (i32.const 131071) (i32.const 9)) {}", put(131_071, 1));
    let module = format!(r#"(module {CONUN} (memory (export "memory") 2) (func (export "_start") {body}))"#);
    let limits = Limits { memory_bytes: 2 * 65536, ..Limits::default() };
    let program = Program::compile(&wasm(&module), limits).expect("two pages are two pages");
    assert_eq!(program.execute(&task(FUEL)).expect("little memory").output, [9]);
}

#[test]
fn memory_of_one_task_is_not_seen_by_the_next() {
    let body = format!("{} (i32.store8 (i32.const 0) (i32.const 7))", write(1, 0, 1));
    let program = compile(&command(WASI, &body));
    for _ in 0..3 {
        assert_eq!(stdout(&program.execute(&task(FUEL)).expect("a tiny task")), [0]);
    }
}

#[test]
fn output_up_to_the_cap_is_kept_and_a_byte_more_fails() {
    let limits = Limits { output_bytes: 1000, ..Limits::default() };
    // The end of a WASI program's output belongs to it.
    let end = conun_vm::OUTPUT_FOOTER_BYTES as u32;
    for (last, outcome) in [(100 - end, OK), (101 - end, Outcome::Failed)] {
        let body = format!("{}{}", write(1, 0, 100).repeat(9), write(1, 0, last));
        let program = Program::compile(&command(WASI, &body), limits).expect("an ordinary program");
        let done = program.execute(&task(FUEL)).expect("an ordinary task");
        assert_eq!(done.outcome, outcome);
        assert_eq!(done.output.len(), if outcome == OK { 1000 } else { 0 });
    }
}

#[test]
fn output_flood_fails_long_before_its_fuel_ends() {
    for (imports, write) in [(WASI, write(1, 0, 60_000)), (CONUN, put(0, 60_000))] {
        let done = execute(&command(imports, &format!("(loop $again {write} (br $again))")));
        assert!(failed(&done));
        assert!(done.fuel < FUEL * 6 / 10, "32 for each of 16 MiB, and a little: {}", done.fuel);
    }
}

#[test]
fn standard_error_is_kept_in_part_and_never_fails() {
    let flood = format!(
        "(local $i i32) (loop $again {}
         (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))",
        write(2, 0, 1000)
    );
    let done = execute(&command(&format!(r#"{WASI} (data (i32.const 0) "log")"#), &flood));
    assert_eq!((done.outcome, stdout(&done)), (OK, &b""[..]));
    assert_eq!(done.stderr.len(), conun_vm::MAX_STDERR_BYTES);
    assert!(done.stderr.starts_with(b"log"));
}

#[test]
fn log_of_a_failed_task_is_kept() {
    let body = format!("{} unreachable", write(2, 0, 3));
    let done = execute(&command(&format!(r#"{WASI} (data (i32.const 0) "why")"#), &body));
    assert!(failed(&done));
    assert_eq!(done.stderr, b"why");
}
