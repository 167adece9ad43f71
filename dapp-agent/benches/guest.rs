//! What the owner notices of busy workers: `cargo bench -p conun-agent --bench guest`.
//!
//! The owner's work is sorting, in this process, at normal priority: on one processor, and on all at once. It is measured alone and beside
//! as many busy workers as there are processors, in turn, the workers stopped and continued by the brake; first with workers as they are by
//! default, then with those that compete (`suspend-cpu-usage = 0`). Criterion would measure one
//! after the other; on a machine with other work only neighbours can be compared.

use std::time::{Duration, Instant};

use conun_agent::sandbox::{Program, Sandbox, Task};

const PATIENCE: Duration = Duration::from_secs(3_600);

/// Numbers sorted in one go: about a quarter of a second.
const NUMBERS: u64 = 3_000_000;

/// Pairs of measurements.
const ROUNDS: usize = 40;

const PROGRAM: &[u8] = include_bytes!("../../examples/pathtracer/pathtracer.wasm");

/// Seconds that one piece of the owner's work takes on each of `threads` processors: the slowest counts.
fn work(threads: usize) -> f64 {
    let sort = || {
        let mut state = 1u64;
        let mut numbers: Vec<u64> = (0..NUMBERS)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 20
            })
            .collect();
        let start = Instant::now();
        numbers.sort_unstable();
        std::hint::black_box(numbers);
        start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(sort)).collect();
        threads.into_iter().map(|thread| thread.join().expect("sorting does not fail")).fold(0.0, f64::max)
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let sandbox = || Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
    measure("guests", &runtime, sandbox().as_guest(), processors);
    measure("competing", &runtime, sandbox(), processors);
}

fn measure(kind: &str, runtime: &tokio::runtime::Runtime, sandbox: Sandbox, processors: usize) {
    let brake = sandbox.brake().clone();
    let input = conun_vm::Input { stdin: b"192 128 0 0 192 128 4000\n", ..conun_vm::Input::default() };
    let task = Task { input: input.encode().expect("a short input").into(), fuel_limit: conun_vm::MAX_FUEL };
    let program = Program {
        wasm: PROGRAM.into(),
        memory_bytes: 256 << 20,
        output_bytes: 1 << 20,
        input_bytes: 1 << 20,
        root: None,
    };
    let workers: Vec<_> = runtime.block_on(async {
        let compiled = sandbox.compile(&program, PATIENCE).await.expect("it is accepted");
        let mut workers = Vec::new();
        for _ in 0..processors {
            let mut worker = sandbox.start(&compiled, PATIENCE).await.expect("this machine can");
            let task = task.clone();
            workers.push(tokio::spawn(async move {
                loop {
                    worker.execute(task.clone(), PATIENCE).await.expect("it ends");
                }
            }));
        }
        workers
    });
    for threads in [1, processors] {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..2 * ROUNDS {
            // Alone, beside, beside, alone: a slow change of the machine falls on both.
            let busy = matches!(round % 4, 1 | 2);
            brake.allow(if busy { usize::MAX } else { 0 });
            if busy { &mut beside } else { &mut alone }.push(work(threads));
        }
        let least = |values: &[f64]| values.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = least(&beside) / least(&alone);
        println!(
            "{threads} of {processors} processors sorting, {processors} busy workers ({kind}): alone {:.1} ms, beside {:.1} ms (least); \
             slow-down {:+.1} % by the least, {:+.1} % by the medians",
            least(&alone) * 1e3,
            least(&beside) * 1e3,
            (ratio - 1.0) * 100.0,
            (median(beside) / median(alone) - 1.0) * 100.0,
        );
    }
    for worker in workers {
        worker.abort();
    }
}
