//! Speed of the native engine's own work: `cargo bench -p conun-vm --bench native`.
//!
//! - an empty task: a fresh instance, nothing executed, its result
//! - a compiled program of 1 MB: from the bytes on disk to its first task's result
//! - the input and the output: how fast large ones go in and out

use std::{hint::black_box, time::Duration};

use bytes::Bytes;
use conun_vm::{
    Limits, Task,
    native::{Cache, Program},
    prepare,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const LIMITS: Limits = Limits { memory_bytes: 256 << 20, output_bytes: 64 << 20 };

const IMPORTS: &str = r#"
    (import "conun" "input_read" (func $input_read (param i64 i64 i32) (result i32)))
    (import "conun" "output_write" (func $output_write (param i64 i32)))"#;

fn program(functions: &str, body: &str, pages: u32) -> Vec<u8> {
    let wat =
        format!(r#"(module {IMPORTS} (memory (export "memory") {pages}) {functions} (func (export "_start") {body}))"#);
    let wasm = wat::parse_str(wat).expect("the benchmark's module is well-formed");
    prepare(&wasm, &LIMITS).expect("the benchmark's module is accepted").into_bytes()
}

fn compile(prepared: &[u8]) -> Program {
    Program::from_prepared(prepared, LIMITS).expect("the benchmark's module compiles")
}

fn task(input: Bytes) -> Task {
    Task { input, fuel_limit: conun_vm::MAX_FUEL }
}

fn empty_tasks(criterion: &mut Criterion) {
    let program = compile(&program("", "", 1));
    let mut group = criterion.benchmark_group("empty task");
    group.throughput(Throughput::Elements(1));
    group.bench_function("in this process", |bencher| {
        bencher.iter(|| program.execute(&task(Bytes::new())).expect("it is empty"));
    });
}

/// A megabyte of functions, each different from the others.
fn megabyte() -> Vec<u8> {
    let mut functions = String::new();
    let mut seed = 1_u64;
    for _ in 0..9_000 {
        functions += "(func (param i32 i32) (result i32) (local i32 i64)";
        for _ in 0..10 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            functions += &format!(
                "(local.set 2 (i32.xor (i32.mul (local.get 0) (i32.const {})) (i32.load offset={} (local.get 1))))",
                seed >> 40,
                seed >> 50
            );
        }
        functions += "(local.get 2))";
    }
    program(&functions, "", 1)
}

fn cached_program(criterion: &mut Criterion) {
    let prepared = megabyte();
    eprintln!("the program: {} bytes prepared", prepared.len());
    let hash = *blake3::hash(&prepared).as_bytes();
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let cache = Cache::open(folder.path(), 1 << 30).expect("the folder is ours");
    let artifact = compile(&prepared).artifact().expect("it can be written down");
    eprintln!("its native code: {} bytes", artifact.len());
    cache.put(&hash, &artifact).expect("there is room");
    let mut group = criterion.benchmark_group("program of 1 MB");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    group.bench_function("from the cache to its first task", |bencher| {
        bencher.iter(|| {
            let artifact = cache.get(&hash).expect("it is there");
            // SAFETY: the cache vouches for it.
            #[expect(unsafe_code, reason = "loading is what is measured")]
            let program = unsafe { Program::load(artifact, LIMITS) }.expect("it is this machine's");
            program.execute(&task(Bytes::new())).expect("it does nothing")
        });
    });
    group.bench_function("read and verified", |bencher| bencher.iter(|| cache.get(&hash).expect("it is there")));
    group.bench_function("compiled", |bencher| bencher.iter(|| black_box(compile(&prepared))));
}

fn streams(criterion: &mut Criterion) {
    const BYTES: u32 = 16 << 20;
    let read = format!("(drop (call $input_read (i64.const 0) (i64.const 0) (i32.const {BYTES})))");
    let write = format!("(call $output_write (i64.const 0) (i32.const {BYTES}))");
    let input = Bytes::from(vec![7; BYTES as usize]);
    let mut group = criterion.benchmark_group("16 MiB");
    group.throughput(Throughput::Bytes(BYTES.into())).sample_size(20);
    for (name, body) in [("in", read), ("out", write)] {
        let program = compile(&program("", &body, BYTES >> 16));
        group.bench_function(name, |bencher| {
            bencher.iter(|| program.execute(&task(input.clone())).expect("it only copies"));
        });
    }
}

criterion_group!(benches, empty_tasks, cached_program, streams);
criterion_main!(benches);
