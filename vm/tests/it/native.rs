//! The engine by itself, on modules written as preparation would have left them.

use conun_vm::{Error, Execution, Limits, Outcome, Task, native::Program};

use crate::{OK, wasm};

/// A module with all that a prepared one has: two memories, fuel, a log.
pub(crate) fn prepared(body: &str) -> Vec<u8> {
    wasm(&format!(
        r#"(module
        (import "conun" "input_len" (func $input_len (result i64)))
        (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $output_write (param i64 i32)))
        (import "conun" "exit" (func $exit (param i32)))
        (memory $memory (export "memory") 1 2) (memory $system (export "system") 1 3)
        (global $fuel (export "fuel") (mut i64) (i64.const 0)) (global (export "log") i32 (i32.const 256))
        (func $burn (param i64) (global.set $fuel (i64.sub (global.get $fuel) (local.get 0))))
        (func (export "start") {body}))"#
    ))
}

fn compile(body: &str) -> Program {
    Program::from_prepared(&prepared(body), Limits { output_bytes: 100, ..Limits::default() }).expect("it is prepared")
}

fn execute(body: &str, input: &[u8]) -> Execution {
    try_execute(body, input).expect("this machine can execute it")
}

fn try_execute(body: &str, input: &[u8]) -> Result<Execution, Error> {
    compile(body).execute(&Task { input: input.to_vec().into(), fuel_limit: 1_000 })
}

/// Writes what is on the stack, an i64, to the output.
fn tell(value: &str) -> String {
    format!("(i64.store (i32.const 0) {value}) (call $output_write (i64.const 0) (i32.const 8))")
}

fn told(body: &str, input: &[u8]) -> Vec<i64> {
    let done = execute(body, input);
    assert_eq!(done.outcome, OK, "{body}");
    done.output.chunks(8).map(|value| i64::from_le_bytes(value.try_into().expect("eight bytes"))).collect()
}

#[test]
fn input_is_read_in_pieces_and_ends() {
    assert_eq!(told(&tell("(call $input_len)"), b"0123456789"), [10]);
    let read = |offset: &str, length: u32| {
        tell(&format!("(i64.extend_i32_s (call $input_read (i64.const {offset}) (i64.const 64) (i32.const {length})))"))
            + "(call $output_write (i64.const 64) (i32.const 4))"
    };
    for (offset, length, answer, bytes) in [
        ("0", 4, 4, b"0123"),
        ("8", 4, 2, b"89\0\0"),
        ("10", 4, 0, b"\0\0\0\0"),
        ("11", 4, 0, b"\0\0\0\0"),
        ("-1", 4, 0, b"\0\0\0\0"),
        ("7", 0, 0, b"\0\0\0\0"),
        ("6", u32::MAX, 4, b"6789"),
    ] {
        let done = execute(&read(offset, length), b"0123456789");
        assert_eq!(done.outcome, OK, "{offset} {length}");
        assert_eq!(done.output, [&i64::from(answer).to_le_bytes()[..], bytes].concat(), "{offset} {length}");
    }
}

#[test]
fn address_names_the_memory_by_its_bit_32() {
    let body = "(drop (call $input_read (i64.const 0) (i64.const 0x1_0000_0100) (i32.const 9)))
        (i64.store (i32.const 256) (i64.const -1))
        (call $output_write (i64.const 0x1_0000_0100) (i32.const 8)) (call $output_write (i64.const 0x100) (i32.const 2))";
    assert_eq!(execute(body, b"\x05\0\0\0hello").output, b"\x05\0\0\0hell\xff\xff");
}

#[test]
fn range_outside_its_memory_fails_the_task() {
    for address in ["65536", "0xffff_ffff", "0x1_0001_0000", "0x2_0000_0000", "-1", "0x4000_0000_0000_0000"] {
        for call in [
            format!("(call $output_write (i64.const {address}) (i32.const 1))"),
            format!("(drop (call $input_read (i64.const 0) (i64.const {address}) (i32.const 1)))"),
        ] {
            let done = execute(&call, b"x");
            assert_eq!((done.outcome, done.output.len()), (Outcome::Failed, 0), "{call}");
        }
    }
    // What is not copied needs no place, but one that there is.
    let beyond = |address: u32| format!("(drop (call $input_read (i64.const 9) (i64.const {address}) (i32.const 7)))");
    assert_eq!(execute(&beyond(65_536), b"x").outcome, OK);
    assert_eq!(execute(&beyond(65_537), b"x").outcome, Outcome::Failed);
}

#[test]
fn output_is_kept_up_to_its_limit() {
    let write = |times: usize, length: u32| {
        "(call $output_write (i64.const 0) (i32.const 10))".repeat(times)
            + &format!("(call $output_write (i64.const 0) (i32.const {length}))")
    };
    assert_eq!(execute(&write(9, 10), b"").output.len(), 100);
    assert_eq!(execute(&write(10, 0), b"").output.len(), 100);
    assert_eq!(execute(&write(9, 11), b"").outcome, Outcome::Failed);
}

#[test]
fn fuel_is_what_the_module_counts() {
    let done = execute("(call $burn (i64.const 400))", b"");
    assert_eq!((done.outcome, done.fuel), (OK, 400));
    let done = execute("(call $burn (i64.const 400)) unreachable", b"");
    assert_eq!((done.outcome, done.fuel), (Outcome::Failed, 400));
    for end in ["", "(call $exit (i32.const 0))", "unreachable"] {
        let done = execute(&format!("(call $burn (i64.const 1000)) {end}"), b"");
        assert_eq!(done.outcome, if end == "unreachable" { Outcome::Failed } else { OK });
        let done = execute(&format!("(call $burn (i64.const 1001)) {end}"), b"");
        assert_eq!(
            (done.outcome, done.fuel),
            (Outcome::Failed, 1_000),
            "below zero is a failure, however it ends: {end}"
        );
    }
}

#[test]
fn exit_ends_at_once_with_its_code() {
    for code in [0_u32, 1, 255, u32::MAX] {
        let body = format!("{} (call $exit (i32.const {code})) unreachable", tell("(i64.const 7)"));
        let done = execute(&body, b"");
        assert_eq!((done.outcome, &done.output[..]), (Outcome::Ok { exit_code: code }, &7_i64.to_le_bytes()[..]));
    }
}

#[test]
fn log_is_read_after_every_end() {
    let log = "(drop (call $input_read (i64.const 0) (i64.const 0x1_0000_0100) (i32.const 100)))";
    for end in ["", "unreachable", "(call $exit (i32.const 3))", "(call $burn (i64.const 5000))"] {
        assert_eq!(execute(&format!("{log} {end}"), b"\x03\0\0\0why?").stderr, b"why", "{end}");
    }
    // A length that the memory does not have.
    assert_eq!(execute(log, b"\xff\xff\xff\xff").stderr, b"");
}

#[test]
fn memories_grow_to_their_own_maximum() {
    let body = tell("(i64.extend_i32_s (memory.grow $memory (i32.const 1)))")
        + &tell("(i64.extend_i32_s (memory.grow $memory (i32.const 1)))")
        + &tell("(i64.extend_i32_s (memory.grow $system (i32.const 2)))")
        + &tell("(i64.extend_i32_s (memory.grow $system (i32.const 1)))");
    assert_eq!(told(&body, b""), [1, -1, 1, -1]);
}

#[test]
fn nothing_is_left_for_the_next_task() {
    let program = compile(
        "(call $output_write (i64.const 0) (i32.const 8)) (i64.store (i32.const 0) (i64.const 1))
         (call $output_write (i64.const 0x1_0000_0100) (i32.const 8)) (i64.store $system (i32.const 256) (i64.const 1))",
    );
    for _ in 0..3 {
        let done = program.execute(&Task { input: b"".to_vec().into(), fuel_limit: 10 }).expect("a tiny task");
        assert_eq!((done.outcome, done.output), (OK, vec![0; 16]));
    }
}

#[test]
fn loaded_code_does_what_the_compiled_does() {
    let limits = Limits { output_bytes: 100, ..Limits::default() };
    let body = tell("(call $input_len)") + "(call $burn (i64.const 5))";
    let compiled = compile(&body);
    // SAFETY: this process has just compiled it.
    #[expect(unsafe_code, reason = "loading is what is tested")]
    let loaded = unsafe { Program::load(compiled.artifact().expect("it can be written down"), limits) };
    let task = Task { input: b"abc".to_vec().into(), fuel_limit: 1_000 };
    assert_eq!(loaded.expect("it is this machine's").execute(&task), compiled.execute(&task));
}

#[test]
fn native_code_can_lie_at_any_address() {
    let artifact = compile("").artifact().expect("it can be written down");
    for offset in 0..17 {
        let moved = bytes::Bytes::from([&vec![0; offset][..], &artifact].concat()).slice(offset..);
        // SAFETY: this process has just compiled it.
        #[expect(unsafe_code, reason = "loading is what is tested")]
        let loaded = unsafe { Program::load(moved, Limits::default()) };
        loaded.expect("it is this machine's");
    }
}

#[test]
fn native_stack_overflow_is_no_outcome() {
    let error = {
        let module = wasm(
            r#"(module (memory (export "memory") 1 1) (global (export "fuel") (mut i64) (i64.const 0))
            (func $f (export "start") (call $f) (call $f)))"#,
        );
        let program = Program::from_prepared(&module, Limits::default()).expect("it compiles");
        program.execute(&Task { input: b"".to_vec().into(), fuel_limit: 1 }).expect_err("it has no depth counter")
    };
    assert_eq!(error, Error::NativeStack);
    assert!(!error.is_refusal());
}

#[test]
fn what_is_not_prepared_is_not_executed() {
    let program = Program::from_prepared(&wasm("(module)"), Limits::default()).expect("it compiles");
    let error = program.execute(&Task { input: b"".to_vec().into(), fuel_limit: 1 }).expect_err("it has no exports");
    assert!(matches!(&error, Error::Host(reason) if reason.contains("no prepared module")), "{error}");
}

#[test]
fn what_preparation_refuses_does_not_compile_either() {
    for module in [
        "(module (func (param v128)))",
        "(module (memory 1 1 shared))",
        "(module (func (result i32 i32) (i32.const 1) (i32.const 2)))",
        "(module (memory i64 1))",
        "(module (func $f (return_call $f)))",
    ] {
        let refused = Program::from_prepared(&wasm(module), Limits::default());
        assert!(matches!(refused, Err(Error::Compile(_))), "{module}");
    }
}
