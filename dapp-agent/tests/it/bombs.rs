//! Modules made to hurt a machine: each is refused, or ends within its limit; the agent lives on, and no process takes more memory
//! than it may. What such modules do to the engine itself is in the VM's tests.
#![cfg(target_os = "linux")]

use std::{fmt::Write as _, time::Duration};

use conun_agent::{
    fabric::linux::resident_bytes,
    sandbox::{Error, Program, Sandbox, Task, Worker},
};
use conun_vm::{Input, MAX_FUEL, Outcome};

use crate::world::PATIENCE;

const MEMORY: u64 = 64 << 20;

const OK: Outcome = Outcome::Ok { exit_code: 0 };

/// What a worker may have beside its job's memory.
const OWN: u64 = 64 << 20;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_conun-worker").into(), [""; 0])
}

fn program(around: &str, body: &str) -> Program {
    let wat = format!(
        r#"(module (import "conun" "output_write" (func $write (param i64 i32))) {around}
        (memory (export "memory") 1) (func $start (export "_start") {body}))"#
    );
    let wasm = wat::parse_str(wat).unwrap().into();
    Program { wasm, memory_bytes: MEMORY, output_bytes: 1 << 20, input_bytes: 1 << 20, root: None }
}

async fn worker(program: &Program) -> Worker {
    let compiled = sandbox().compile(program, PATIENCE).await.unwrap();
    sandbox().start(&compiled, PATIENCE).await.unwrap()
}

fn task(fuel_limit: u64) -> Task {
    Task { input: Input::default().encode().unwrap().into(), fuel_limit }
}

/// Most memory that a living worker ever had, bytes.
fn peak(worker: &Worker) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn no_task_takes_more_than_its_memory_and_a_little() {
    let flood = "(loop (call $write (i64.const 0) (i32.const 65536)) (br 0))";
    let grow = "(drop (memory.grow (i32.const 1022))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 67043328))";
    let deep = "(func $f (param i64 i64 i64) (result i64)
        (i64.add (call $f (local.get 1) (local.get 2) (i64.add (local.get 0) (i64.const 1)))
            (i64.mul (local.get 0) (i64.add (local.get 1) (local.get 2)))))";
    for (what, around, body) in [
        ("loop", "", "(loop (br 0))".to_owned()),
        ("memory", "", format!("{grow} (loop (br 0))")),
        ("growing on and on", "", "(loop (drop (memory.grow (i32.const 1))) (br 0))".to_owned()),
        ("recursion", deep, "(drop (call $f (i64.const 1) (i64.const 2) (i64.const 3)))".to_owned()),
        ("output", "", flood.to_owned()),
        (
            "all of it",
            deep,
            format!(
                "{grow} (call $write (i64.const 0) (i32.const 1048576)) (drop (call $f (i64.const 1) (i64.const 2) (i64.const 3)))"
            ),
        ),
    ] {
        let mut worker = worker(&program(around, &body)).await;
        for _ in 0..2 {
            let done = worker.execute(task(500_000_000), PATIENCE).await.unwrap();
            assert_eq!((done.outcome, done.output.len()), (Outcome::Failed, 0), "{what}");
        }
        let peak = peak(&worker);
        assert!(peak <= MEMORY + OWN, "{what}: {} MiB", peak >> 20);
    }
}

#[tokio::test]
async fn long_inputs_and_outputs_are_not_in_a_workers_memory() {
    let long = usize::try_from(conun_vm::MAX_OUTPUT_BYTES).unwrap();
    let bytes: Vec<u8> = (0..long).map(|at| (at * 7 % 251) as u8).collect();
    let whole = "(drop (memory.grow (i32.const 1023)))
        (drop (call $read (i64.const 0) (i64.const 0) (i32.const 67108864)))
        (call $write (i64.const 0) (i32.const 67108864))";
    let bit_by_bit = "(local $at i64) (local $n i32) (loop $more
        (local.set $n (call $read (local.get $at) (i64.const 0) (i32.const 1000)))
        (call $write (i64.const 0) (local.get $n))
        (local.set $at (i64.add (local.get $at) (i64.extend_i32_u (local.get $n))))
        (br_if $more (local.get $n)))";
    let import = r#"(import "conun" "input_read" (func $read (param i64 i64 i32) (result i32)))"#;
    for (what, body) in [("whole", whole), ("bit by bit", bit_by_bit)] {
        // The imports come first.
        let wat = format!(
            r#"(module {import} (import "conun" "output_write" (func $write (param i64 i32)))
            (memory (export "memory") 1) (func (export "_start") {body}))"#
        );
        let (output_bytes, input_bytes) = (long as u64, long as u64);
        let wasm = wat::parse_str(wat).unwrap().into();
        let mut worker = worker(&Program { wasm, memory_bytes: MEMORY, output_bytes, input_bytes, root: None }).await;
        let task = |fuel_limit| Task { input: bytes.clone().into(), fuel_limit };
        let done = worker.execute_all([task(MAX_FUEL), task(MAX_FUEL)], PATIENCE, |_| {}).await.unwrap();
        assert!(done.iter().all(|done| done.outcome == OK && done.output == bytes), "{what}");
        // Neither do they stay: not those of a task that fails before its end.
        let failed = worker.execute(task(done[0].fuel - 1), PATIENCE).await.unwrap();
        assert_eq!((failed.outcome, failed.output.len()), (Outcome::Failed, 0), "{what}");
        let peak = peak(&worker);
        assert!(peak <= MEMORY + OWN, "{what}: {} MiB", peak >> 20);
        let resident = resident_bytes(worker.id().unwrap());
        assert!(resident <= OWN, "{what}: {} MiB", resident >> 20);
    }
}

#[tokio::test]
async fn what_a_worker_holds_of_an_input_counts_as_its_memory() {
    let Program { wasm, .. } = program("", "(loop (br 0))");
    let input_bytes = 64 << 20;
    let endless = Program { wasm, memory_bytes: MEMORY, output_bytes: 1, input_bytes, root: None };
    let mut worker = worker(&endless).await;
    let pid = worker.id().unwrap();
    let task = Task { input: vec![7; 64 << 20].into(), fuel_limit: MAX_FUEL };
    let holds = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while resident_bytes(pid) < input_bytes {
            ticks.tick().await;
        }
    };
    tokio::select! {
        held = tokio::time::timeout(PATIENCE, holds) => held.expect("it holds its input"),
        done = worker.execute(task, PATIENCE) => panic!("it never ends: {done:?}"),
    }
}

#[tokio::test]
async fn memories_of_32_mib_and_more_ask_for_large_pages() {
    if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
        return;
    }
    for (what, begin, grow, asks) in
        [("small", 511, 0, false), ("large", 512, 0, true), ("grows to be large", 1, 511, true)]
    {
        let wat = format!(
            r#"(module (memory (export "memory") {begin}) (func (export "_start")
            (if (i32.ne (memory.grow (i32.const {grow})) (i32.const {begin})) (then unreachable))
            (memory.fill (i32.const 0) (i32.const 1) (i32.const {})) (loop (br 0))))"#,
            (begin + grow) << 16
        );
        let wasm = wat::parse_str(wat).unwrap().into();
        let endless = Program { wasm, memory_bytes: MEMORY, output_bytes: 1, input_bytes: 1 << 10, root: None };
        let mut worker = worker(&endless).await;
        let pid = worker.id().unwrap();
        let fills = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            while resident_bytes(pid) < (begin + grow) << 16 {
                ticks.tick().await;
            }
        };
        tokio::select! {
            filled = tokio::time::timeout(PATIENCE, fills) => filled.expect("it fills its memory"),
            done = worker.execute(task(MAX_FUEL), PATIENCE) => panic!("it never ends: {done:?}"),
        }
        let maps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
        let asked = maps.lines().any(|line| line.starts_with("VmFlags:") && line.contains(" hg"));
        assert_eq!(asked, asks, "{what}");
    }
}

#[tokio::test]
async fn a_worker_whose_memory_the_system_refuses_has_no_verdict() {
    // The program is told -1, and would go on; on another machine it would have been given the memory.
    let small = program("", "(drop (memory.grow (i32.const 1000)))");
    let mut worker = worker(&small).await;
    let pid = rustix::process::Pid::from_raw(worker.id().unwrap().cast_signed()).unwrap();
    let limit = rustix::process::Rlimit { current: Some(1 << 20), maximum: Some(1 << 20) };
    rustix::process::prlimit(Some(pid), rustix::process::Resource::Data, limit).unwrap();
    let error = worker.execute(task(MAX_FUEL), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(_) | Error::Died { .. }), "{error}");
}

#[tokio::test]
async fn a_task_beyond_its_time_is_killed_at_once() {
    let mut worker = worker(&program("", "(loop (br 0))")).await;
    let error = worker.execute(task(MAX_FUEL), Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow(_)), "{error}");
}

/// As much code as a compiler can be given with little text: each function computes with all that it has computed.
fn heavy(functions: usize, operators: usize) -> Program {
    let mut around = String::new();
    for function in 0..functions {
        let _ = write!(around, "(func (param i64 i64) (result i64) (local.get 0)");
        for operator in 0..operators {
            let _ = write!(around, "(i64.mul (i64.add (local.get 1) (i64.const {})))", function * operators + operator);
        }
        around += ")";
    }
    program(&around, "")
}

#[tokio::test]
async fn a_compiler_without_enough_memory_ends_and_says_so() {
    let small = sandbox().with_compile_memory(24 << 20);
    let error = small.compile(&heavy(2_000, 100), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Died { compiling: true, .. }), "{error}");
    assert!(error.to_string().contains("limits of memory"), "{error}");
    // The next program is another process's.
    sandbox().compile(&program("", ""), PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_compiler_that_takes_too_long_is_killed() {
    let error = sandbox().compile(&heavy(5_000, 100), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow(_)), "{error}");
}

#[tokio::test]
async fn bombs_of_structure_end_within_the_compilers_limits() {
    let nested = format!("{}{}", "(block ".repeat(3_000), ")".repeat(3_000));
    let table = format!("(block (br_table{} (i32.const 1)))", " 0".repeat(65_000));
    let locals: String = (0..50).map(|_| format!("(func (local {}))", "i64 ".repeat(40_000))).collect();
    for (what, around, body) in [
        ("functions", "(func)".repeat(50_000), String::new()),
        ("nesting", String::new(), nested),
        ("branches", String::new(), table),
        ("locals", locals, String::new()),
        ("one large function", String::new(), "(drop (i32.const 1))".repeat(200_000)),
    ] {
        match sandbox().compile(&program(&around, &body), PATIENCE).await {
            Ok(compiled) => {
                let mut worker = sandbox().start(&compiled, PATIENCE).await.unwrap();
                let done = worker.execute(task(1_000_000), PATIENCE).await.unwrap();
                assert_eq!(done.outcome, OK, "{what}");
            }
            Err(Error::Refused(_) | Error::Died { compiling: true, .. } | Error::TooSlow(_)) => {}
            Err(error) => panic!("{what}: {error}"),
        }
    }
}
