//! What the owner notices of busy workers: `cargo bench -p conun-agent --bench guest`.
//!
//! The owner's work is sorting, in this process, at normal priority: on one processor, and on all at once. It is measured alone and beside
//! as many busy workers as there are processors, in turn, the workers stopped and continued by the brake; first with workers as they are by
//! default, then with those that compete (`suspend-cpu-usage = 0`). Criterion would measure one after the other; on a machine with other
//! work only neighbours can be compared.
//!
//! Last comes (with the argument `long`: alone) what an owner with the default preferences has of it: half a minute of sorting on all
//! processors, or as many pieces as a number after `long` says, in a process of its own, which the sensors see and the workers are stopped for.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use conun_agent::{
    fabric::{self, Day, Judge, Moment, Preferences, Sensors},
    sandbox::{Brake, Program, Sandbox, Task},
};

const PATIENCE: Duration = Duration::from_secs(3_600);

/// Numbers sorted in one go: about a quarter of a second.
const NUMBERS: u64 = 3_000_000;

/// Pairs of measurements.
const ROUNDS: usize = 40;

/// Pairs of measurements of long work, and pieces that each sorts if nothing is said.
const LONG_ROUNDS: usize = 5;
const LONG_PIECES: usize = 600;

/// The argument without which short work is measured, too.
const LONG_ONLY: &str = "long";

/// The argument with which this program is its owner's.
const OWNER: &str = "--sort-as-owner";

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

/// Seconds that long work on all processors takes in a process of its own, which is not this one's child: the sensors take children for
/// workers.
fn long_work(pieces: usize) -> f64 {
    let myself = std::env::current_exe().expect("this program has a file");
    let said = tempfile::NamedTempFile::new().expect("a temporary file");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$0\" \"$1\" \"$2\" > \"$3\" &"])
        .arg(myself)
        .arg(OWNER)
        .arg(pieces.to_string())
        .arg(said.path());
    assert!(shell.status().expect("a shell starts").success());
    loop {
        std::thread::sleep(Duration::from_millis(100));
        let text = std::fs::read_to_string(said.path()).expect("it is here");
        if let Some(seconds) = text.strip_suffix('\n') {
            return seconds.parse().expect("a number");
        }
    }
}

fn main() {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let pieces = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(LONG_PIECES);
    if std::env::args().any(|arg| arg == OWNER) {
        let start = Instant::now();
        (0..pieces).for_each(|_| {
            work(processors);
        });
        println!("{}", start.elapsed().as_secs_f64());
        return;
    }
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let sandbox = || Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0]);
    if std::env::args().all(|arg| arg != LONG_ONLY) {
        measure("guests", &runtime, sandbox().as_guest(), processors);
        measure("competing", &runtime, sandbox(), processors);
    }
    measure_by_default(&runtime, sandbox().as_guest(), processors, pieces);
}

/// As many busy workers as there are processors.
fn start(runtime: &tokio::runtime::Runtime, sandbox: &Sandbox, processors: usize) -> Vec<tokio::task::JoinHandle<()>> {
    let input = conun_vm::Input { stdin: b"192 128 0 0 192 128 4000\n", ..conun_vm::Input::default() };
    let task = Task { input: input.encode().expect("a short input").into(), fuel_limit: conun_vm::MAX_FUEL };
    let program = Program {
        wasm: PROGRAM.into(),
        memory_bytes: 256 << 20,
        output_bytes: 1 << 20,
        input_bytes: 1 << 20,
        root: None,
    };
    runtime.block_on(async {
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
    })
}

fn measure(kind: &str, runtime: &tokio::runtime::Runtime, sandbox: Sandbox, processors: usize) {
    let brake = sandbox.brake().clone();
    let workers = start(runtime, &sandbox, processors);
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

/// Has the work stop and go on as the default preferences say, as an agent does; tells whether it may go on.
async fn attend(brake: Brake, processors: u32, tell: tokio::sync::watch::Sender<bool>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut sensors, mut judge) = (fabric::sensors(folder.path()), Judge::default());
    let moment = Moment { day: Day::Mon, minute: 0, network_bytes: 0 };
    loop {
        let readings = sensors.read().await;
        let verdict = judge.judge(&Preferences::default(), &readings, &moment, processors);
        brake.allow(verdict.limits().map_or(0, |limits| limits.workers as usize));
        tell.send_replace(verdict.limits().is_some());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn measure_by_default(runtime: &tokio::runtime::Runtime, sandbox: Sandbox, processors: usize, pieces: usize) {
    let brake = sandbox.brake().clone();
    let workers = start(runtime, &sandbox, processors);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 0..2 * LONG_ROUNDS {
        let busy = matches!(round % 4, 1 | 2);
        let attendant = busy.then(|| {
            let (tell, mut runs) = tokio::sync::watch::channel(false);
            let attendant = runtime.spawn(attend(brake.clone(), processors as u32, tell));
            // The workers are at work when the owner begins.
            runtime.block_on(async { drop(runs.wait_for(|runs| *runs).await) });
            std::thread::sleep(Duration::from_secs(2));
            attendant
        });
        if !busy {
            brake.allow(0);
        }
        if busy { &mut beside } else { &mut alone }.push(long_work(pieces));
        attendant.inspect(tokio::task::JoinHandle::abort);
    }
    println!(
        "{processors} of {processors} processors sorting for long, {processors} busy workers (default preferences): alone {:.1} s, \
         beside {:.1} s (medians of {LONG_ROUNDS}); slow-down {:+.1} %",
        median(alone.clone()),
        median(beside.clone()),
        (median(beside) / median(alone) - 1.0) * 100.0,
    );
    workers.iter().for_each(tokio::task::JoinHandle::abort);
}
