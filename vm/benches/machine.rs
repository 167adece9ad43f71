//! Speed of the step machine: `cargo bench -p conun-vm --bench machine`. Against the native engine, on whole programs, it is in
//! the benchmark `programs`.
//!
//! - loops of a few instructions each, in steps a second
//! - the hash of a state with 64 MiB of memory: the first, and after one in a hundred pages has changed
//! - flattening a program; a proof of one step, and its verification

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use conun_vm::{
    Limits, MAX_FUEL,
    machine::{Code, Machine, verify_step},
    prepare,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A real program, for its size.
const SORT: &[u8] = include_bytes!("../programs/sort.wasm");

/// Steps of a measurement.
const STEPS: u64 = 10_000_000;

/// Pages of 64 KiB of the memory that is hashed: 64 MiB.
const PAGES: u32 = 1024;

fn machine(functions: &str, body: &str) -> Machine {
    let wat = format!(
        r#"(module (memory (export "memory") {PAGES}) {functions}
            (func (export "_start") (local $i i32) (local $j i32) (local $x f64) {body}))"#
    );
    let wasm = wat::parse_str(wat).expect("the benchmark's module is well-formed");
    let prepared = prepare(&wasm, &Limits::default()).expect("the benchmark's module is accepted");
    let code = Code::flatten(prepared.as_bytes()).expect("a prepared module can be flattened");
    Machine::new(Arc::new(code), Arc::from([]), MAX_FUEL, 0).expect("there is memory")
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("steps");
    group.throughput(Throughput::Elements(STEPS)).sample_size(10);
    let cases = [
        ("integers", "", "(local.set $i (i32.add (i32.mul (local.get $i) (i32.const 5)) (i32.const 1)))"),
        ("floats", "", "(local.set $x (f64.add (f64.mul (local.get $x) (f64.const 0.5)) (f64.const 1)))"),
        (
            "memory",
            "",
            "(i32.store (local.tee $j (i32.and (local.get $i) (i32.const 0xfffc))) (i32.load offset=64 (local.get $j)))
             (local.set $i (i32.add (local.get $i) (i32.const 68)))",
        ),
        (
            "calls",
            "(func $f (param i32) (result i32) (if (local.get 0) (then (drop (call $f (i32.const 0))))) (i32.const 7))",
            "(local.set $i (call $f (i32.const 1)))",
        ),
    ];
    for (name, functions, body) in cases {
        let mut machine = machine(functions, &format!("(loop $again {body} (br $again))"));
        group.bench_function(name, |bencher| {
            bencher.iter(|| machine.run_to(machine.steps() + STEPS).expect("there is memory"));
        });
    }
    group.finish();
}

/// Fills the memory with what has no pattern, then for ever changes a page in a hundred.
fn filled() -> (Machine, u64) {
    let body = format!(
        "(loop $fill
            (i64.store (local.get $i) (i64.mul (i64.extend_i32_u (local.get $i)) (i64.const 0x9e3779b97f4a7c15)))
            (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const {end}))))
         (loop $round
            (local.set $i (i32.const 0))
            (loop $touch
                (i64.store (local.get $i) (i64.add (i64.load (local.get $i)) (i64.const 1)))
                (br_if $touch (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 409600))) (i32.const {end}))))
            (br $round))",
        end = u64::from(PAGES) << 16
    );
    let mut machine = machine("", &body);
    // Eight million rounds of the first loop, none of which is one step.
    machine.run_to(100_000_000).expect("there is memory");
    (machine, 10_000)
}

fn hashes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state hash of 64 MiB");
    group.sample_size(10);
    group.bench_function("first", |bencher| {
        bencher.iter_custom(|times| {
            (0..times).fold(Duration::ZERO, |sum, _| {
                let (mut machine, _) = filled();
                let begin = Instant::now();
                black_box(machine.state_hash());
                sum + begin.elapsed()
            })
        });
    });
    let (mut machine, round) = filled();
    machine.state_hash();
    group.bench_function("after a page in a hundred", |bencher| {
        bencher.iter_custom(|times| {
            (0..times).fold(Duration::ZERO, |sum, _| {
                machine.run_to(machine.steps() + round).expect("there is memory");
                let begin = Instant::now();
                black_box(machine.state_hash());
                sum + begin.elapsed()
            })
        });
    });
    group.finish();
}

fn rest(criterion: &mut Criterion) {
    let prepared = prepare(SORT, &Limits::default()).expect("the program is accepted");
    let mut group = criterion.benchmark_group("flatten");
    group.throughput(Throughput::Bytes(prepared.as_bytes().len() as u64));
    group.bench_function("sort", |bencher| {
        bencher.iter(|| Code::flatten(black_box(prepared.as_bytes())).expect("a prepared module can be flattened"));
    });
    group.finish();

    let (mut machine, _) = filled();
    let proof = machine.prove_step().expect("there is memory").expect("it is not at its end");
    criterion.bench_function("proof of a step", |bencher| {
        bencher.iter(|| machine.prove_step().expect("there is memory").expect("it is not at its end"));
    });
    criterion.bench_function("verification of a step", |bencher| {
        bencher.iter(|| verify_step(&proof.state, black_box(&proof.accesses)).expect("the proof is well-formed"));
    });
}

criterion_group!(benches, steps, hashes, rest);
criterion_main!(benches);
