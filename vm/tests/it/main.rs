//! The crate from outside: programs in, results out.

mod blobs;
mod cache;
mod determinism;
mod differential;
mod effort;
mod engines;
mod examples;
mod execution;
mod hostile;
mod machine;
mod machine_opcodes;
mod machine_proofs;
mod machine_roots;
mod machine_steps;
mod metering;
mod mutation;
mod native;
mod overrun;
mod prepare;
mod prepare_random;
mod programs;
mod refusals;
mod spec;
mod streams;
mod wasi_calls;
mod wasi_errno;
mod wasi_files;
mod wasi_host;
mod wasi_limits;
#[cfg(target_os = "linux")]
mod wasi_linux;
mod wasi_merge;
mod wasi_paths;
mod wasi_toolchains;

use conun_vm::{Error, Execution, Input, Limits, Outcome, Output, Program, Task};

/// Plenty for every test that is not about fuel.
const FUEL: u64 = 1_000_000_000;

const OK: Outcome = Outcome::Ok { exit_code: 0 };

fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("the test's module is well-formed")
}

/// A module with memory and `_start`, the body given, and optionally more around it.
fn command(around: &str, body: &str) -> Vec<u8> {
    wasm(&format!(r#"(module {around} (memory (export "memory") 1) (func $start (export "_start") {body}))"#))
}

/// The functions that most tests print and end with.
const WASI: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;

/// The functions of tests that are about a task and not about WASI.
const CONUN: &str = r#"
    (import "conun" "input_len" (func $input_len (result i64)))
    (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
    (import "conun" "output_write" (func $output_write (param i64 i32)))
    (import "conun" "exit" (func $exit (param i32)))"#;

/// Writes `len` bytes from address `at` to a descriptor; uses the last bytes of the first page.
fn write(fd: u32, at: u32, len: u32) -> String {
    format!(
        "(i32.store (i32.const 65520) (i32.const {at})) (i32.store (i32.const 65524) (i32.const {len}))
         (drop (call $fd_write (i32.const {fd}) (i32.const 65520) (i32.const 1) (i32.const 65528)))"
    )
}

/// Writes `len` bytes from address `at` to the output of a program that has [`CONUN`].
fn put(at: u32, len: u32) -> String {
    format!("(call $output_write (i64.const {at}) (i32.const {len}))")
}

fn compile(wasm: &[u8]) -> Program {
    Program::compile(wasm, Limits::default()).expect("the test's program is accepted")
}

/// A task with that input.
fn given(input: &Input<'_>, fuel_limit: u64) -> Task {
    Task { input: input.encode().expect("the test's input is possible").into(), fuel_limit }
}

fn task(fuel_limit: u64) -> Task {
    given(&Input::default(), fuel_limit)
}

fn execute(wasm: &[u8]) -> Execution {
    compile(wasm).execute(&task(FUEL)).expect("this machine can execute the test's program")
}

/// Standard output of a WASI program that ended by itself.
fn stdout(done: &Execution) -> &[u8] {
    assert_ne!(done.outcome, Outcome::Failed, "{}", String::from_utf8_lossy(&done.stderr));
    Output::decode(&done.output).expect("the layer leaves a well-formed output").stdout
}

fn refusal(wasm: &[u8]) -> Error {
    let refused = conun_vm::check(wasm).expect_err("the test's program is refused");
    assert!(refused.is_refusal());
    assert_eq!(Program::compile(wasm, Limits::default()).expect_err("compile refuses what check refuses"), refused);
    refused
}
