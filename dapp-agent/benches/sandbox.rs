//! What the process boundary costs: `cargo bench -p conun-agent --bench sandbox`.
//!
//! - an empty task in a worker process, one at a time and many at once
//! - starting a worker with a program that is compiled already, to its first task's result
//! - inputs and outputs: how fast large ones go to a worker and back, also read bit by bit

use std::time::Duration;

use bytes::Bytes;
use conun_agent::sandbox::{Program, Sandbox, Task};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const PATIENCE: Duration = Duration::from_secs(60);

/// Tasks given at once, as the provider does.
const AT_ONCE: u64 = 64;

/// Bytes of a large input or output.
const LARGE: u64 = 16 << 20;

fn program(wat: &str) -> Program {
    let wasm = Bytes::from(wat::parse_str(wat).expect("the benchmark's module is well-formed"));
    Program { wasm, memory_bytes: 256 << 20, output_bytes: LARGE, input_bytes: LARGE, root: None }
}

fn task() -> Task {
    let input = conun_vm::Input::default().encode().expect("an empty input");
    Task { input: input.into(), fuel_limit: 1_000_000 }
}

fn tasks(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
    let plain = program(r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let wasi = program(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 0))))"#,
    );
    for (name, program) in [("empty task", plain), ("empty WASI task", wasi)] {
        let compiled = runtime.block_on(sandbox.compile(&program, PATIENCE)).expect("it is accepted");
        let mut worker = runtime.block_on(sandbox.start(&compiled, PATIENCE)).expect("this machine can");
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        group.bench_function("one at a time", |bencher| {
            bencher.iter(|| runtime.block_on(worker.execute(task(), PATIENCE)).expect("it is empty"));
        });
        group.throughput(Throughput::Elements(AT_ONCE));
        group.bench_function("64 at once", |bencher| {
            bencher.iter(|| {
                let tasks = (0..AT_ONCE).map(|_| task());
                runtime.block_on(worker.execute_all(tasks, PATIENCE, |_| {})).expect("they are empty")
            });
        });
        group.throughput(Throughput::Elements(1)).sample_size(20);
        group.bench_function("a new worker", |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let mut worker = sandbox.start(&compiled, PATIENCE).await.expect("this machine can");
                    worker.execute(task(), PATIENCE).await.expect("it is empty")
                })
            });
        });
    }
}

fn streams(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let sandbox = Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
    let large = Bytes::from(vec![7; usize::try_from(LARGE).expect("it is less than 4 GiB")]);
    let read = format!("(drop (call $read (i64.const 0) (i64.const 0) (i32.const {LARGE})))");
    let bits = "(local $at i64) (local $n i32) (loop $more
        (local.set $n (call $read (local.get $at) (i64.const 0) (i32.const 1024)))
        (local.set $at (i64.add (local.get $at) (i64.extend_i32_u (local.get $n))))
        (br_if $more (local.get $n)))";
    let write = format!("(call $write (i64.const 0) (i32.const {LARGE}))");
    let mut group = criterion.benchmark_group("16 MiB");
    group.throughput(Throughput::Bytes(LARGE)).sample_size(20);
    for (name, body, input) in
        [("in", &*read, large.clone()), ("in, 1 KiB at a time", bits, large), ("out", &*write, Bytes::new())]
    {
        let program = program(&format!(
            r#"(module (import "conun" "input_read" (func $read (param i64 i64 i32) (result i32)))
            (import "conun" "output_write" (func $write (param i64 i32)))
            (memory (export "memory") 256) (func (export "_start") {body}))"#
        ));
        let compiled = runtime.block_on(sandbox.compile(&program, PATIENCE)).expect("it is accepted");
        let mut worker = runtime.block_on(sandbox.start(&compiled, PATIENCE)).expect("this machine can");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let task = Task { input: input.clone(), fuel_limit: conun_vm::MAX_FUEL };
                runtime.block_on(worker.execute(task, PATIENCE)).expect("it only copies")
            });
        });
    }
}

criterion_group!(benches, tasks, streams);
criterion_main!(benches);
