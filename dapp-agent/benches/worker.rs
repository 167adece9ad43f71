//! What a worker process holds on to: `cargo bench -p conun-agent --bench worker [-- killing [competing] | memory]`.
//!
//! - from killing a worker to its letting go of its memory, and to its process being gone, when all of that is free; also of one that the
//!   brake has stopped; `competing`: not as guests, which on a busy machine do not get to fill their memory
//! - memory of a worker at its worst beside what its job may have
//!
//! Each worker is measured for itself and once or a few times: criterion would average away the worst, which is what counts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use conun_agent::sandbox::{Error, Program, Sandbox, Task, Worker};

const PATIENCE: Duration = Duration::from_secs(600);
const MIB: u64 = 1 << 20;

/// Workers killed in each case.
const KILLS: usize = 10;

fn main() {
    // `cargo test` runs benchmarks, too: without its own flag it is only built.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        if !only("memory") {
            killings().await;
        }
        if !only("killing") {
            memories().await;
        }
    });
}

fn only(part: &str) -> bool {
    std::env::args().any(|arg| arg == part)
}

async fn killings() {
    println!(
        "killing a worker, milliseconds until it has let go of its memory: median, worst; until it is gone: median, worst"
    );
    kill("in an endless loop", &program("", "(loop (br 0))", MIB, MIB), Stopped::No).await;
    for mib in [256, 2_048] {
        kill(&format!("with {mib} MiB of memory"), &holding(mib * MIB), Stopped::No).await;
    }
    kill("stopped, with 256 MiB of memory", &holding(256 * MIB), Stopped::Yes).await;
}

async fn memories() {
    println!("a worker, MiB: before a task, at most, and the latter without its job's memory");
    let fill = "(memory.fill (i32.const 0) (i32.const 1) (i32.const 67108864))";
    let read = "(drop (call $read (i64.const 0) (i64.const 0) (i32.const 67108864)))";
    let write = "(call $write (i64.const 0) (i32.const 67108864))";
    memory("nothing", &program("", "", 64 * MIB, MIB), 0).await;
    memory("memory", &program("", fill, 64 * MIB, MIB), 0).await;
    memory("memory, input", &program("", &format!("{fill} {read}"), 64 * MIB, 64 * MIB), 64 * MIB).await;
    memory("memory, output", &program("", &format!("{fill} {write}"), 64 * MIB, 64 * MIB), 0).await;
    memory("all three", &program("", &format!("{fill} {read} {write}"), 64 * MIB, 64 * MIB), 64 * MIB).await;
    memory("memory, deep calls", &deep(fill), 0).await;
}

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0])
}

/// A program that may have so much memory, and inputs and outputs of so many bytes.
fn program(around: &str, body: &str, memory: u64, streams: u64) -> Program {
    let pages = memory / 65_536;
    let wat = format!(
        r#"(module (import "conun" "input_read" (func $read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $write (param i64 i32))) {around}
        (memory (export "memory") {pages}) (func (export "_start") {body}))"#
    );
    let wasm = wat::parse_str(wat).expect("the benchmark's module is well-formed");
    Program { wasm: wasm.into(), memory_bytes: memory, output_bytes: streams, input_bytes: streams, root: None }
}

/// Writes to all of its memory, and never ends.
fn holding(memory: u64) -> Program {
    let fill = format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {}))", memory.cast_signed());
    program("", &format!("{fill} (loop (br 0))"), memory, MIB)
}

/// Calls itself until the depth is used up: as much of the native stack as a program with a small frame gets at.
fn deep(fill: &str) -> Program {
    let around =
        "(func $f (param i32) (result i32) (i32.add (call $f (i32.add (local.get 0) (i32.const 1))) (local.get 0)))";
    program(around, &format!("{fill} (drop (call $f (i32.const 0)))"), 64 * MIB, MIB)
}

fn task(input: u64) -> Task {
    let input = vec![7; usize::try_from(input).expect("a small input")];
    Task { input: Bytes::from(input), fuel_limit: conun_vm::MAX_FUEL }
}

async fn started(sandbox: &Sandbox, program: &Program) -> Worker {
    let compiled = sandbox.compile(program, PATIENCE).await.expect("it is accepted");
    sandbox.start(&compiled, PATIENCE).await.expect("this machine can")
}

fn read(pid: u32, file: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

/// A figure of a process's `status`, bytes.
fn status(pid: u32, name: &str) -> Option<u64> {
    let status = read(pid, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    Yes,
}

/// Kills workers in the middle of a task, once they have their memory.
async fn kill(name: &str, program: &Program, stopped: Stopped) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..KILLS {
        let sandbox = if only("competing") { sandbox() } else { sandbox().as_guest() };
        let mut worker = started(&sandbox, program).await;
        let pid = worker.id().expect("it lives");
        let holds = async {
            while status(pid, "VmRSS:").is_none_or(|resident| resident < program.memory_bytes) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let begin = match stopped {
            Stopped::No => {
                tokio::select! {
                    () = holds => {}
                    done = worker.execute(task(0), PATIENCE) => panic!("it never ends: {done:?}"),
                }
                let begin = Instant::now();
                drop(worker);
                begin
            }
            Stopped::Yes => {
                let give_up = async {
                    holds.await;
                    sandbox.brake().allow(0);
                    while !read(pid, "stat").is_some_and(|stat| stat.contains(") T ")) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let begin = Instant::now();
                    assert!(sandbox.brake().give_up(), "it is stopped");
                    begin
                };
                let (begin, done) = tokio::join!(give_up, worker.execute(task(0), PATIENCE));
                assert!(matches!(done, Err(Error::GivenUp)), "{done:?}");
                begin
            }
        };
        let since = || begin.elapsed().as_secs_f64() * 1e3;
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                std::thread::sleep(Duration::from_micros(200));
            }
            since()
        };
        // A process that is about to be gone has no such line any more.
        times[0].push(until(&|| status(pid, "VmRSS:").is_none_or(|resident| resident < 16 * MIB)));
        // One that has ended and was not waited for yet holds nothing.
        times[1].push(until(&|| read(pid, "stat").is_none_or(|stat| stat.contains(") Z "))));
    }
    let [free, gone] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        format!("{:.1}, {:.1}", times[times.len() / 2], times[times.len() - 1])
    });
    println!("  {name}: {free}; {gone}");
}

/// Executes a few tasks in one worker, each with `input` bytes.
async fn memory(name: &str, program: &Program, input: u64) {
    let mut worker = started(&sandbox(), program).await;
    let pid = worker.id().expect("it lives");
    let before = status(pid, "VmRSS:").expect("it lives");
    for _ in 0..3 {
        worker.execute(task(input), PATIENCE).await.expect("this machine can");
    }
    let most = status(pid, "VmHWM:").expect("it lives");
    let own = most.saturating_sub(program.memory_bytes);
    println!("  {name}: {}, {}, {}", before / MIB, most / MIB, own / MIB);
}
