//! The crate from outside: programs in, results out.

mod determinism;
mod examples;
mod execution;
mod metering;
mod mutation;
mod refusals;
mod streams;

use conun_vm::{Error, Execution, Limits, Outcome, Program, Task};

/// Plenty for every test that is not about fuel.
const FUEL: u64 = 1_000_000_000;

const OK: Outcome = Outcome::Ok { exit_code: 0 };

fn wasm(wat: &str) -> Vec<u8> {
    wasmer::wat2wasm(wat.as_bytes()).expect("the test's module is well-formed").into_owned()
}

/// A module with memory and `_start`, the body given, and optionally more around it.
fn command(around: &str, body: &str) -> Vec<u8> {
    wasm(&format!(r#"(module {around} (memory (export "memory") 1) (func $start (export "_start") {body}))"#))
}

/// The functions that most tests print and end with.
const WASI: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;

/// Writes `len` bytes from address `at` to a descriptor; uses the last bytes of the first page.
fn write(fd: u32, at: u32, len: u32) -> String {
    format!(
        "(i32.store (i32.const 65520) (i32.const {at})) (i32.store (i32.const 65524) (i32.const {len}))
         (drop (call $fd_write (i32.const {fd}) (i32.const 65520) (i32.const 1) (i32.const 65528)))"
    )
}

fn compile(wasm: &[u8]) -> Program {
    Program::compile(wasm, Limits::default()).expect("the test's program is accepted")
}

fn task(fuel_limit: u64) -> Task<'static> {
    Task { args: &[], stdin: &[], fuel_limit }
}

fn execute(wasm: &[u8]) -> Execution {
    compile(wasm).execute(&task(FUEL)).expect("this machine can execute the test's program")
}

fn refusal(wasm: &[u8]) -> Error {
    let refused = conun_vm::check(wasm).expect_err("the test's program is refused");
    assert!(refused.is_refusal());
    assert_eq!(Program::compile(wasm, Limits::default()).expect_err("compile refuses what check refuses"), refused);
    refused
}
