//! How much time a program can take for its fuel: `cargo bench -p conun-vm --bench worst`.
//!
//! - nanoseconds for one fuel of programs that are made to be slow, and of an ordinary one
//! - how long a program goes on whose fuel is gone
//! - what is done before a program begins, which costs nothing

use std::time::Instant;

use conun_vm::{Limits, Task, native::Program, prepare};

const LIMITS: Limits = Limits { memory_bytes: 1 << 30, output_bytes: 64 << 20 };

fn module(around: &str, body: &str) -> Vec<u8> {
    let wat = format!(
        r#"(module
        (import "conun" "input_len" (func $input_len (result i64)))
        (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $output_write (param i64 i32)))
        {around} (func (export "_start") (local $i i32) (local $j i32) (local $x i64) (local $f f64) {body}))"#
    );
    wat::parse_str(wat).expect("the benchmark's module is well-formed")
}

/// The least of three times of an execution, in nanoseconds, and its fuel.
fn time(wasm: &[u8], fuel_limit: u64, input: &[u8]) -> (f64, u64) {
    let prepared = prepare(wasm, &LIMITS).expect("the benchmark's module is accepted");
    let program = Program::from_prepared(prepared.as_bytes(), LIMITS).expect("the benchmark's module compiles");
    let once = || {
        let task = Task { input: input.to_vec().into(), fuel_limit };
        let begin = Instant::now();
        let done = program.execute(&task).expect("this machine can");
        (begin.elapsed().as_secs_f64() * 1e9, done.fuel)
    };
    (0..3).map(|_| once()).min_by(|a, b| a.0.total_cmp(&b.0)).expect("three times")
}

fn main() {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let memory = r#"(memory (export "memory") 1)"#;
    let large = r#"(memory (export "memory") 16384)"#;
    let many = |text: &str| text.repeat(32);
    // The next place from the last one's content, which is zero, so that no two loads overlap.
    let scattered =
        "(local.set $i (i32.and (i32.add (i32.mul (local.get $i) (i32.const 1664525)) (i32.add (i32.const 1013904223)
        (i32.load (local.get $i)))) (i32.const 0x3ffffffc)))";
    let pages = "(i32.store8 (local.get $i) (i32.const 1)) (local.set $i (i32.add (local.get $i) (i32.const 4096)))";
    let chain = (0..99).map(|n| format!("(func $f{n} (call $f{}))", n + 1)).collect::<String>();
    let cycle = format!("{memory} {chain} (func $f99 (if (i32.const 0) (then (call $f0))))");
    let data = format!(r#"{memory} (data $d "{}")"#, "0123456789abcdef".repeat(4_000));
    let table = format!("{memory} (table 1 funcref) (elem (i32.const 0) $f) (func $f)");
    println!("nanoseconds for one fuel");
    for (name, around, code) in [
        (
            "additions, one after the other",
            memory,
            many("(local.set $x (i64.add (i64.const 7) (i64.rotl (local.get $x) (i64.const 3))))"),
        ),
        (
            "i64 division",
            memory,
            many("(local.set $x (i64.div_s (i64.const -1) (i64.or (local.get $x) (i64.const 1))))"),
        ),
        ("square roots", memory, many("(local.set $f (f64.sqrt (f64.add (local.get $f) (f64.const 2))))")),
        ("rounding", memory, many("(local.set $f (f64.nearest (local.get $f)))")),
        ("conversions", memory, many("(local.set $f (f64.convert_i64_u (i64.trunc_sat_f64_u (local.get $f))))")),
        ("loads all over 1 GiB", large, scattered.to_owned()),
        ("first writes to pages", large, pages.to_owned()),
        ("memory.size", memory, many("(drop (memory.size))")),
        ("memory.grow of nothing", memory, many("(drop (memory.grow (i32.const 0)))")),
        ("memory.fill of nothing", memory, many("(memory.fill (i32.const 0) (i32.const 0) (i32.const 0))")),
        ("memory.fill of 7 bytes", memory, many("(memory.fill (i32.const 0) (i32.const 0) (i32.const 7))")),
        ("memory.copy of nothing", memory, many("(memory.copy (i32.const 0) (i32.const 1) (i32.const 0))")),
        ("memory.copy of 7 bytes", memory, many("(memory.copy (i32.const 0) (i32.const 1) (i32.const 7))")),
        ("memory.init of 7 bytes", &data, many("(memory.init $d (i32.const 0) (i32.const 1) (i32.const 7))")),
        ("data.drop", &data, many("(data.drop $d)")),
        ("memory.fill of 64 KiB", memory, "(memory.fill (i32.const 0) (i32.const 0) (i32.const 65536))".to_owned()),
        ("input_len", memory, many("(drop (call $input_len))")),
        ("input_read of 7 bytes", memory, many("(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const 7)))")),
        ("output_write of 1 byte", memory, many("(call $output_write (i64.const 0) (i32.const 1))")),
        ("indirect calls", &table, many("(call_indirect (i32.const 0))")),
        ("calls on a cycle", &cycle, "(call $f0)".to_owned()),
    ] {
        let (nanoseconds, fuel) = time(&module(around, &format!("(loop $l {code} (br $l))")), 100_000_000, &[7; 8]);
        println!("  {name}: {:.2}", nanoseconds / fuel as f64);
    }
    println!("milliseconds for a fuel of 1,000");
    let calls = format!(
        "{memory} (func $f (if (i32.const 1) (then {})))",
        "(i32.store (i32.const 0) (i32.const 1))".repeat(300)
    );
    let loads = format!("{scattered} {scattered}").repeat(12_000);
    for (name, around, code) in [
        ("200,000 additions", memory, "(local.set $x (i64.add (local.get $x) (i64.const 7)))".repeat(50_000)),
        ("24,000 loads all over 1 GiB", large, loads),
        ("100,000 calls of 1,000 fuel", &calls, "(call $f)".repeat(100_000)),
        ("an input of 1 GiB", large, "(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const -1)))".to_owned()),
    ] {
        let input = if name.contains("input") { vec![7; 1 << 30] } else { Vec::new() };
        let (nanoseconds, _) = time(&module(around, &code), 1_000, &input);
        println!("  {name}: {:.3}", nanoseconds / 1e6);
    }
    println!("milliseconds for nothing");
    let elements =
        format!("{memory} (table 1048576 funcref) (elem (i32.const 0) func {}) (func $f)", "$f ".repeat(1 << 20));
    let bytes =
        format!(r#"(memory (export "memory") 1000) (data (i32.const 0) "{}")"#, "0123456789abcdef".repeat(3_900_000));
    for (name, around) in [
        ("nothing", memory),
        ("a memory of 1 GiB", large),
        ("a table of 2^20 null elements", &format!("{memory} (table 1048576 funcref)")),
        ("a table of 2^20 functions", &elements),
        ("60 MiB of data", &bytes),
    ] {
        let (nanoseconds, _) = time(&module(around, ""), 1 << 40, &[]);
        println!("  {name}: {:.3}", nanoseconds / 1e6);
    }
}
