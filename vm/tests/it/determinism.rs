//! Nothing of the machine shows in a result.

use std::thread;

use conun_vm::Input;

use crate::{CONUN, FUEL, OK, WASI, command, compile, execute, given, put, stdout, task, write};

const CLOCK: &str =
    r#"(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))"#;
const RANDOM: &str = r#"(import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))"#;

/// Standard output under a seed.
fn seeded(wasm: &[u8], seed: u8) -> Vec<u8> {
    let task = given(&Input { seed: [seed; 32], ..Input::default() }, FUEL);
    stdout(&compile(wasm).execute(&task).expect("an ordinary task")).to_vec()
}

#[test]
fn clock_starts_with_the_seed_and_advances_with_each_reading() {
    let read = |clock: u32, at: u32| format!("(drop (call $clock (i32.const {clock}) (i64.const 1) (i32.const {at})))");
    let body = format!("{}{}{}{}", read(0, 0), read(0, 8), read(1, 16), write(1, 0, 24));
    let wasm = command(&format!("{WASI}{CLOCK}"), &body);
    let first = seeded(&wasm, 1);
    let nanos: Vec<_> = first.chunks(8).map(|t| u64::from_le_bytes(t.try_into().expect("eight bytes"))).collect();
    assert!(nanos[0] < nanos[1], "{nanos:?}");
    assert_eq!(seeded(&wasm, 1), first);
}

#[test]
fn waiting_for_time_to_pass_ends() {
    let body = "(loop $wait (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 0)))
        (br_if $wait (i64.lt_u (i64.load (i32.const 0)) (i64.const 1000000000))))";
    let done = execute(&command(CLOCK, body));
    assert_eq!(done.outcome, OK);
    assert!(done.fuel < 1_000_000, "{}", done.fuel);
}

#[test]
fn random_bytes_follow_from_the_seed_alone_and_differ_within_an_execution() {
    let body = format!(
        "(drop (call $random (i32.const 0) (i32.const 16))) (drop (call $random (i32.const 16) (i32.const 16))) {}",
        write(1, 0, 32)
    );
    let wasm = command(&format!("{WASI}{RANDOM}"), &body);
    let first = seeded(&wasm, 1);
    assert_eq!(first.len(), 32);
    assert_ne!(first[..16], first[16..]);
    assert_eq!(seeded(&wasm, 1), first);
    assert_ne!(seeded(&wasm, 2), first);
}

#[test]
fn not_a_number_made_by_arithmetic_has_one_form() {
    let zero = "(f64.load (i32.const 2048))"; // loaded, so that nothing is folded while compiling
    let one = "(f32.load (i32.const 2048))";
    let doubles = [
        format!("(f64.div {zero} {zero})"),
        format!("(f64.sqrt (f64.sub {zero} (f64.const 1)))"),
        format!("(f64.mul {zero} (f64.const inf))"),
        format!("(f64.min (f64.const -nan:0x8000000000001) {zero})"),
        format!("(f64.add (f64.const -nan) {zero})"),
        format!("(f64.ceil (f64.add (f64.const nan:0xc000000000001) {zero}))"),
        format!("(f64.promote_f32 (f32.div {one} {one}))"),
    ];
    let singles = [
        format!("(f32.div {one} {one})"),
        format!("(f32.demote_f64 (f64.div {zero} {zero}))"),
        format!("(f32.max {one} (f32.const -nan))"),
    ];
    let mut body = String::new();
    for (i, value) in doubles.iter().enumerate() {
        body += &format!("(f64.store (i32.const {}) {value})", i * 8);
    }
    for (i, value) in singles.iter().enumerate() {
        body += &format!("(f32.store (i32.const {}) {value})", doubles.len() * 8 + i * 4);
    }
    let len = (doubles.len() * 8 + singles.len() * 4) as u32;
    let output = execute(&command(CONUN, &(body + &put(0, len)))).output;
    let (wide, narrow) = output.split_at(doubles.len() * 8);
    for (value, bits) in doubles.iter().zip(wide.chunks(8)) {
        assert_eq!(bits, 0x7ff8_0000_0000_0000_u64.to_le_bytes(), "{value}");
    }
    for (value, bits) in singles.iter().zip(narrow.chunks(4)) {
        assert_eq!(bits, 0x7fc0_0000_u32.to_le_bytes(), "{value}");
    }
}

#[test]
fn not_a_number_that_is_only_moved_keeps_its_bits() {
    let bits = 0xfff4_dead_beef_0001_u64;
    let body = format!(
        "(local $v f64) (i64.store (i32.const 0) (i64.const {})) (local.set $v (f64.load (i32.const 0)))
         (f64.store (i32.const 8) (local.get $v)) {}",
        bits.cast_signed(),
        put(8, 8)
    );
    assert_eq!(execute(&command(CONUN, &body)).output, bits.to_le_bytes());
}

#[test]
fn one_program_serves_threads_at_the_same_time() {
    let body = format!(
        "(local $i i32) (loop (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (local.get $i)))
         (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000)))) {}",
        write(1, 0, 4)
    );
    let program = compile(&command(WASI, &body));
    let alone = program.execute(&task(FUEL)).expect("an ordinary task");
    let all: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| program.execute(&task(FUEL)))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for done in all {
        assert_eq!(done.expect("an ordinary task"), alone);
    }
}
