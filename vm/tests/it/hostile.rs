//! Modules made to hurt: each is refused, or ends within its limit, with a reason.
//!
//! Memory and time of whole processes are looked at where there are processes: in the agent's tests of the same name.

use std::fmt::Write as _;

use conun_vm::{Error, Input, Limits, Outcome, Program};

use crate::{CONUN, FUEL, WASI, command, compile, execute, given, task, wasm, write};

/// Fails within the fuel limit.
fn fails(around: &str, body: &str, fuel: u64) {
    let done = compile(&command(around, body)).execute(&task(fuel)).expect("nothing of it is this machine's fault");
    assert_eq!((done.outcome, done.output.len()), (Outcome::Failed, 0), "{body}");
    assert!(done.fuel <= fuel, "{body}");
}

#[test]
fn endless_loops_burn_their_fuel() {
    for body in [
        "(loop (br 0))",
        "(loop (br_if 0 (i32.const 1)))",
        "(loop (loop (br 1)))",
        "(block (loop (br_table 0 0 (i32.const 7))))",
        "(loop (if (i32.const 1) (then (br 1))))",
    ] {
        fails("", body, 10_000_000);
    }
    fails("(func $f (call $g)) (func $g)", "(loop (call $f) (br 0))", 10_000_000);
}

#[test]
fn recursion_ends_whatever_the_frames_hold() {
    let locals = "i64 ".repeat(usize::try_from(conun_vm::MAX_LOCALS).expect("a small number"));
    for around in [
        "(func $f (call $f))".to_owned(),
        "(func $f (call $g)) (func $g (call $f))".to_owned(),
        format!("(func $f (local {locals}) (call $f))"),
        "(table 1 funcref) (elem (i32.const 0) $f) (func $f (call_indirect (i32.const 0)))".to_owned(),
    ] {
        fails(&around, "(call $f)", FUEL);
    }
}

#[test]
fn memory_grows_to_the_limit_and_growing_on_burns_fuel() {
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    for pages in [0, 1, 7, 65_536] {
        let body = format!("(loop (drop (memory.grow (i32.const {pages}))) (br 0))");
        let program = Program::compile(&command("", &body), limits).expect("an ordinary program");
        let done = program.execute(&task(10_000_000)).expect("8 MiB are little");
        assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 10_000_000), "{pages} pages");
    }
}

#[test]
fn program_that_begins_with_4_gib_is_refused_by_a_smaller_job() {
    let wasm = wasm(r#"(module (memory (export "memory") 65536) (func (export "_start")))"#);
    let refused = Program::compile(&wasm, Limits::default()).expect_err("4 GiB are more than 256 MiB");
    assert!(matches!(refused, Error::MemoryTooSmall { needs, .. } if needs == 4 << 30));
}

#[test]
fn bulk_operations_are_paid_before_they_run() {
    let limits = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    for operation in [
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864))",
        "(memory.copy (i32.const 0) (i32.const 1) (i32.const 67108863))",
    ] {
        let module =
            format!(r#"(module (memory (export "memory") 1024) (func (export "_start") (loop {operation} (br 0))))"#);
        let program = Program::compile(&wasm(&module), limits).expect("it just fits");
        let done = program.execute(&task(100_000_000)).expect("64 MiB are little");
        assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 100_000_000), "{operation}");
    }
}

#[test]
fn floods_of_output_and_log_end() {
    fails(WASI, &format!("(loop {} (br 0))", write(1, 0, 65_000)), FUEL);
    fails(CONUN, "(loop (call $output_write (i64.const 0) (i32.const 65536)) (br 0))", FUEL);
    let done = compile(&command(WASI, &format!("(loop {} (br 0))", write(2, 0, 65_000))));
    let done = done.execute(&task(100_000_000)).expect("a log is bounded");
    assert_eq!((done.outcome, done.stderr.len()), (Outcome::Failed, conun_vm::MAX_STDERR_BYTES));
}

#[test]
fn a_million_files_end_at_a_limit() {
    let around = format!(
        r#"{WASI} (data (i32.const 0) "out/aaaaaaaa") (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))"#
    );
    // Counts up in the name's last bytes until no more can be made; exits with how that was said.
    let body = "(local $i i32) (local $errno i32)
        (loop $again
            (i32.store (i32.const 8) (i32.add (i32.const 0x61616161) (i32.and (local.get $i) (i32.const 0x0f0f0f0f))))
            (i32.store8 (i32.const 4) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $i) (i32.const 4)) (i32.const 15))))
            (i32.store8 (i32.const 5) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $i) (i32.const 12)) (i32.const 15))))
            (i32.store8 (i32.const 6) (i32.add (i32.const 65) (i32.and (i32.shr_u (local.get $i) (i32.const 20)) (i32.const 15))))
            (local.set $errno (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 12) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32)))
            (if (local.get $errno) (then (call $proc_exit (local.get $errno))))
            (drop (call $fd_close (i32.load (i32.const 32))))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))";
    let limits = Limits { memory_bytes: 32 << 20, ..Limits::default() };
    let program = Program::compile(&command(&around, body), limits).expect("an ordinary program");
    let done = program.execute(&task(20_000_000_000)).expect("32 MiB are little");
    // The names repeat before there are a million: either all of them have room, or their maker is told that there is none.
    assert!(done.fuel <= 20_000_000_000 && done.output.len() <= 16 << 20);
    if done.outcome == crate::OK {
        let output = conun_vm::Output::decode(&done.output).expect("the layer leaves a well-formed output");
        assert!(output.files.len() > 10_000, "{}", output.files.len());
    }
}

#[test]
fn input_that_is_none_is_the_programs_matter() {
    let program = compile(&command(WASI, &write(1, 0, 4)));
    let good = given(&Input { stdin: b"x", ..Input::default() }, FUEL).input;
    for cut in [0, 1, 8, 39, 71, good.len() - 1] {
        let task = conun_vm::Task { input: good.slice(..cut), fuel_limit: FUEL };
        let done = program.execute(&task).expect("a blob that is none fails no host");
        assert_eq!(program.execute(&task).expect("the same again"), done, "{cut} bytes");
    }
    for at in 0..72 {
        let mut input = good.to_vec();
        input[at] ^= 0xff;
        let task = conun_vm::Task { input: input.into(), fuel_limit: FUEL };
        program.execute(&task).expect("a blob that is none fails no host");
    }
}

#[test]
fn bombs_of_structure_are_refused_or_compiled() {
    let many = |count: usize, one: &str| one.repeat(count);
    let nested = |count: usize| format!("{} {}", many(count, "(block "), many(count, ")"));
    let mut table = "(block (br_table".to_owned();
    for _ in 0..50_000 {
        table += " 0";
    }
    table += " (i32.const 3)))";
    let mut types = String::new();
    for number in 0..5_000 {
        let bits = (0..13).map(|bit| if number >> bit & 1 == 0 { "i32 " } else { "i64 " }).collect::<String>();
        let _ = write!(types, "(type (func (param {bits})))");
    }
    for (what, around, body) in [
        ("functions", many(20_000, "(func)"), String::new()),
        ("types", types, String::new()),
        ("locals", format!("(func (local {}))", many(49_000, "i64 ")), String::new()),
        ("nesting", String::new(), nested(5_000)),
        ("branches", String::new(), table),
        ("operators", String::new(), many(100_000, "(drop (i32.const 1))")),
        (
            "exports",
            (0..5_000).map(|n| format!(r#"(global (export "g{n}") i32 (i32.const 0))"#)).collect(),
            String::new(),
        ),
    ] {
        let module = command(&around, &body);
        match Program::compile(&module, Limits::default()) {
            Ok(program) => {
                let done = program.execute(&task(FUEL)).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(done.outcome, crate::OK, "{what}");
            }
            Err(error) => assert!(error.is_refusal(), "{what}: {error}"),
        }
    }
    let overfull = refused_locals();
    assert!(overfull.is_refusal(), "{overfull}");
}

/// 2^32 - 1 locals in ten bytes.
fn refused_locals() -> Error {
    let mut module = command("(func (local i64))", "");
    let at = module.windows(3).position(|bytes| bytes == [1, 1, 0x7e]).expect("one group of one i64");
    module.splice(at + 1..at + 2, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    // The body and the section that hold it are four bytes longer.
    module[at - 1] += 4;
    let section = module[..at].iter().rposition(|byte| *byte == 10).expect("the code section");
    module[section + 1] += 4;
    Program::compile(&module, Limits::default()).expect_err("no function has that many locals")
}

#[test]
fn exit_in_the_middle_of_everything_is_an_exit() {
    let done = execute(&command(CONUN, "(block (loop (call $exit (i32.const 9)) (br 0)))"));
    assert_eq!(done.outcome, Outcome::Ok { exit_code: 9 });
}
