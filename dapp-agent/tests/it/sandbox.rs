//! Tasks in real worker processes: what they answer, how they end, and what they cannot reach.
#![cfg(target_os = "linux")]

use std::{
    io::{Read, Write},
    os::fd::AsRawFd,
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use conun_agent::sandbox::{Error, Program, Sandbox, Task, Worker};
use conun_vm::{Input, Outcome, Output, native::Cache};
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{HELLO, PATIENCE};

/// `(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))`
const ENDLESS: &[u8] = b"\0asm\x01\0\0\0\
    \x01\x04\x01\x60\0\0\
    \x03\x02\x01\0\
    \x05\x03\x01\0\x01\
    \x07\x13\x02\x06memory\x02\0\x06_start\0\0\
    \x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

const WORKER: &str = env!("CARGO_BIN_EXE_conun-worker");

fn sandbox() -> Sandbox {
    Sandbox::new(WORKER.into(), [""; 0])
}

fn program(wasm: &'static [u8]) -> Program {
    Program { wasm: wasm.into(), memory_bytes: 64 << 20, output_bytes: 1 << 20, input_bytes: 1 << 20, root: None }
}

async fn started(sandbox: &Sandbox, program: &Program) -> Result<Worker, Error> {
    let compiled = sandbox.compile(program, PATIENCE).await?;
    sandbox.start(&compiled, PATIENCE).await
}

async fn worker(wasm: &'static [u8]) -> Worker {
    started(&sandbox(), &program(wasm)).await.unwrap()
}

fn task(stdin: &[u8], fuel_limit: u64) -> Task {
    let input = Input { stdin, ..Input::default() }.encode().unwrap();
    Task { input: input.into(), fuel_limit }
}

fn endless() -> Task {
    task(b"", conun_vm::MAX_FUEL)
}

/// Whether a process is stopped: the state comes after the name, which ends with `)`.
fn is_stopped(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") T ")
}

/// Waits for the kernel, which stops and continues a process soon, not at once.
async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !holds() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never is so");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brake_stops_workers_in_the_middle_of_a_task_and_their_deadline_with_them() {
    let sandbox = sandbox();
    let brake = sandbox.brake().clone();
    let program = Program { memory_bytes: 256 << 20, ..program(HELLO) };
    let compiled = sandbox.compile(&program, PATIENCE).await.unwrap();
    let mut workers = Vec::new();
    for _ in 0..3 {
        workers.push(sandbox.start(&compiled, PATIENCE).await.unwrap());
    }
    let expected = workers[0].execute(task(b"Ada\n", 10_000_000), PATIENCE).await.unwrap();
    let pids: Vec<_> = workers.iter().map(|worker| worker.id().unwrap()).collect();

    // An idle worker is not stopped; one that gets a task is, before it has answered.
    brake.allow(0);
    assert!(brake.stopped().is_empty() && !pids.iter().any(|pid| is_stopped(*pid)));
    let deadline = Duration::from_secs(1);
    let working: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            tokio::spawn(async move {
                let done = worker.execute(task(b"Ada\n", 10_000_000), deadline).await;
                (worker, done)
            })
        })
        .collect();
    until(|| brake.stopped().len() == 3 && pids.iter().all(|pid| is_stopped(*pid))).await;
    // Far beyond the deadline.
    tokio::time::sleep(2 * deadline).await;
    assert!(!working.iter().any(|work| work.is_finished()));

    // The first goes on, then the second in its place.
    brake.allow(1);
    let mut workers = Vec::new();
    for work in working {
        let (worker, done) = work.await.unwrap();
        assert_eq!(done.unwrap(), expected);
        assert!(worker.stopped() >= 2 * deadline, "{:?}", worker.stopped());
        workers.push(worker);
    }
    assert!(brake.stopped().is_empty() && !pids.iter().any(|pid| is_stopped(*pid)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_that_is_given_up_ends_and_says_why() {
    let sandbox = sandbox();
    let brake = sandbox.brake().clone();
    assert!(!brake.give_up(), "nothing is stopped");
    let mut worker = started(&sandbox, &program(ENDLESS)).await.unwrap();
    let pid = worker.id().unwrap();
    brake.allow(0);
    let work = tokio::spawn(async move { worker.execute(endless(), PATIENCE).await });
    until(|| !brake.stopped().is_empty()).await;
    assert_eq!(brake.stopped(), [pid]);
    assert!(brake.give_up() && !brake.give_up() && brake.stopped().is_empty());
    assert!(matches!(work.await.unwrap(), Err(Error::GivenUp)));
    ended(pid).await;
}

/// Waits until a process has ended, whether or not somebody has asked for its exit status. Nothing tells of the end of a
/// process that is no child.
async fn ended(pid: u32) {
    let ending = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        // After the name, which ends with `)`: the state.
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("the process ends");
}

fn proc_file(pid: u32, name: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap()
}

#[tokio::test]
async fn a_worker_compiles_once_and_executes_many_tasks() {
    let mut worker = worker(HELLO).await;
    let mut fuels = Vec::new();
    for name in ["Ada Lovelace", "Grace Hopper", "Ada Lovelace"] {
        let done = worker.execute(task(format!("{name}\n").as_bytes(), 1_000_000), PATIENCE).await.unwrap();
        assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 });
        let output = Output::decode(&done.output).unwrap();
        assert_eq!(std::str::from_utf8(output.stdout).unwrap(), format!("Hello, {name}! (2 words)\n"));
        fuels.push(done.fuel);
    }
    assert_eq!(fuels[0], fuels[2], "nothing is left of the task before");
}

#[tokio::test]
async fn a_worker_answers_as_the_engine_in_this_process_does() {
    let mut worker = worker(HELLO).await;
    let limits = conun_vm::Limits { memory_bytes: 64 << 20, output_bytes: 1 << 20 };
    let here = conun_vm::Program::compile(HELLO, limits).unwrap();
    for fuel_limit in [0, 1, 1_000, 1_000_000] {
        let task = task(b"one two three\n", fuel_limit);
        let there = worker.execute(task.clone(), PATIENCE).await.unwrap();
        assert_eq!(there, here.execute(&task).unwrap());
    }
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_fuel_and_the_worker_goes_on() {
    let mut worker = worker(ENDLESS).await;
    for fuel_limit in [1_000_000, 7] {
        let done = worker.execute(task(b"", fuel_limit), PATIENCE).await.unwrap();
        assert_eq!((done.outcome, done.fuel), (Outcome::Failed, fuel_limit));
        assert!(done.output.is_empty());
    }
}

#[tokio::test]
async fn a_task_beyond_its_deadline_is_killed_and_has_no_outcome() {
    let mut worker = worker(ENDLESS).await;
    let pid = worker.id().unwrap();
    let start = Instant::now();
    let deadline = Duration::from_millis(200);
    let error = worker.execute(endless(), deadline).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow(after) if after == deadline), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    ended(pid).await;
    // It stays dead.
    assert!(worker.execute(task(b"", 1), PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_worker_that_somebody_kills_has_no_outcome() {
    let mut worker = worker(ENDLESS).await;
    let pid = worker.id().unwrap();
    let (executed, ()) = tokio::join!(worker.execute(endless(), PATIENCE), async {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    });
    let error = executed.unwrap_err();
    assert!(matches!(&error, Error::Died { how, .. } if how.contains("signal: 9")), "{error}");
}

/// A figure of a process's `status` that is in kB, bytes.
fn memory_of(pid: u32, name: &str) -> u64 {
    let status = proc_file(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test]
async fn memory_bombs_get_what_their_job_has_and_the_worker_little_more() {
    /// What a worker may take beside its job's memory, inputs and outputs.
    const BESIDE: u64 = 64 << 20;
    let memory_bytes = 64 << 20;
    let from_text = |text: &str| Program { wasm: wat::parse_str(text).unwrap().into(), memory_bytes, ..program(b"") };
    // All pages that there are, one after the other, each written to.
    let linear = from_text(
        r#"(module (memory (export "memory") 0) (func (export "_start") (local $at i32)
            (loop $more
                (if (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)) (then
                    (memory.fill (local.get $at) (i32.const 1) (i32.const 65536))
                    (local.set $at (i32.add (local.get $at) (i32.const 65536)))
                    (br $more))))))"#,
    );
    // The WASI layer's: one file that grows until there is no more room.
    let layers = from_text(
        r#"(module (import "wasi_snapshot_preview1" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 2) (data (i32.const 0) "tmp/x") (data (i32.const 16) "\00\00\01\00\00\00\01\00")
        (func (export "_start")
            (if (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 1) (i64.const -1)
                (i64.const 0) (i32.const 0) (i32.const 32)) (then unreachable))
            (loop $more
                (br_if $more (i32.eqz (call $write (i32.load (i32.const 32)) (i32.const 16) (i32.const 1) (i32.const 36)))))))"#,
    );
    // The native stack: as many frames as the depth allows.
    let frames = from_text(
        r#"(module (memory (export "memory") 0) (func $f (param i64) (result i64)
            (i64.mul (local.get 0) (call $f (i64.add (local.get 0) (i64.const 1)))))
        (func (export "_start") (drop (call $f (i64.const 0)))))"#,
    );
    let ok = Outcome::Ok { exit_code: 0 };
    for (what, bomb, outcome) in [("memory", linear, ok), ("files", layers, ok), ("frames", frames, Outcome::Failed)] {
        let compiled = sandbox().compile(&bomb, PATIENCE).await.unwrap();
        let mut worker = sandbox().start(&compiled, PATIENCE).await.unwrap();
        let pid = worker.id().unwrap();
        for _ in 0..2 {
            let done = worker.execute(endless(), PATIENCE).await.unwrap();
            assert_eq!(done.outcome, outcome, "{what}");
        }
        let most = memory_of(pid, "VmHWM:");
        assert!(most <= memory_bytes + BESIDE, "{what}: {most} bytes");
        // What bombs of other kinds would run into: the kernel gives the process no more.
        let limits = proc_file(pid, "limits");
        let line = limits.lines().find(|line| line.starts_with("Max data size")).unwrap();
        let limit: u64 = line["Max data size".len()..].split_whitespace().next().unwrap().parse().unwrap();
        assert!((memory_bytes..=memory_bytes + (128 << 20)).contains(&limit), "{what}: {limit} bytes");
        // It did get at what it was to have.
        assert!(what == "frames" || most >= memory_bytes - (2 << 20), "{what}: {most} bytes");
    }
}

#[tokio::test]
async fn a_refusal_carries_the_engines_reason_and_a_missing_executable_is_not_one() {
    let Program { wasm, .. } = program(b"no program at all");
    let engine = conun_vm::check(&wasm).unwrap_err().to_string();
    let refused = sandbox().compile(&program(b"no program at all"), PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(reason) if *reason == engine), "{refused}");

    let small = Program { memory_bytes: 65_536, ..program(HELLO) };
    let refused = sandbox().compile(&small, PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(reason) if reason.contains("65536")), "{refused}");

    let nobody = Sandbox::new("/nonexistent/conun".into(), [""; 0]);
    let error = nobody.compile(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Spawn { program, .. } if program.ends_with("conun")), "{error}");
    // Something that is no worker.
    let error = Sandbox::new("/bin/true".into(), [""; 0]).compile(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Died { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_longer_than_any_honest_one_is_not_read() {
    // An empty frame is no answer either.
    let liar = Sandbox::new("/bin/cat".into(), ["/dev/zero"]);
    let error = liar.compile(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("malformed")), "{error}");
    let liar =
        Sandbox::new("/bin/sh".into(), ["-c", "while :; do printf '\\377\\377\\377\\377\\377\\377\\377\\377'; done"]);
    let error = liar.compile(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("18446744073709551615 bytes")), "{error}");
}

#[tokio::test]
async fn many_tasks_at_once_are_answered_in_their_order() {
    let mut worker = worker(HELLO).await;
    let tasks = (0..200).map(|number| task(format!("Person {number}\n").as_bytes(), 1_000_000));
    let done = worker.execute_all(tasks, PATIENCE, |_| {}).await.unwrap();
    for (number, done) in done.iter().enumerate() {
        let output = Output::decode(&done.output).unwrap();
        assert_eq!(output.stdout, format!("Hello, Person {number}! (2 words)\n").as_bytes());
    }
    assert_eq!(done.len(), 200);
    assert!(worker.execute_all([], PATIENCE, |_| {}).await.unwrap().is_empty());
}

#[tokio::test]
async fn large_inputs_and_outputs_pass_each_other_on_the_pipes() {
    // Copies its input to its output.
    let wasm = wat::parse_str(
        r#"(module (import "conun" "input_len" (func $len (result i64)))
        (import "conun" "input_read" (func $read (param i64 i64 i32) (result i32)))
        (import "conun" "output_write" (func $write (param i64 i32)))
        (memory (export "memory") 100)
        (func (export "_start")
            (call $write (i64.const 0) (call $read (i64.const 0) (i64.const 0) (i32.wrap_i64 (call $len))))))"#,
    )
    .unwrap();
    let limit = 4 << 20;
    let program =
        Program { wasm: wasm.into(), memory_bytes: 64 << 20, output_bytes: limit, input_bytes: limit, root: None };
    let mut worker = started(&sandbox(), &program).await.unwrap();
    let inputs: Vec<_> = (1..9_u8).map(|byte| Bytes::from(vec![byte; 3 << 20])).collect();
    let tasks = inputs.iter().map(|input| Task { input: input.clone(), fuel_limit: 1 << 40 });
    let done = worker.execute_all(tasks, PATIENCE, |_| {}).await.unwrap();
    for (done, input) in done.iter().zip(&inputs) {
        assert!(done.outcome == Outcome::Ok { exit_code: 0 } && done.output == *input);
    }
}

#[tokio::test]
async fn a_verdict_about_a_program_not_seen_is_none() {
    // A refusal, in answer to the first request, which only says what to be.
    let liar = Sandbox::new("/bin/sh".into(), ["-c", r"printf '\2\0\0\0\0\0\0\0\5x'; exec cat >/dev/null"]);
    let error = liar.compile(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("out of turn")), "{error}");
}

#[tokio::test]
async fn a_program_is_compiled_once_for_all_workers_to_come() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = || sandbox().with_cache(Cache::open(folder.path(), 1 << 30).unwrap());
    let entry = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.ends_with("key")).collect::<Vec<_>>()
    };
    let greeting = async |sandbox: Sandbox| {
        let done = started(&sandbox, &program(HELLO)).await.unwrap().execute(task(b"Ada\n", 1_000_000), PATIENCE).await;
        Output::decode(&done.unwrap().output).unwrap().stdout.to_vec()
    };
    assert_eq!(greeting(sandbox()).await, b"Hello, Ada! (1 word)\n");
    let [path] = &entry()[..] else { panic!("one program") };
    let written = std::fs::metadata(path).unwrap().len();
    // Another agent with the same folder takes it; one that is cut short is made anew.
    assert_eq!(greeting(sandbox()).await, b"Hello, Ada! (1 word)\n");
    std::fs::File::options().write(true).open(path).unwrap().set_len(written / 2).unwrap();
    assert_eq!(greeting(sandbox()).await, b"Hello, Ada! (1 word)\n");
    assert_eq!(std::fs::metadata(path).unwrap().len(), written);
}

#[tokio::test]
async fn a_worker_has_nothing_of_its_host() {
    let (file, socket) = (tempfile::NamedTempFile::new().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let open = [file.as_file().as_raw_fd(), socket.as_raw_fd()]
        .map(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap());
    let worker = worker(HELLO).await;
    let pid = worker.id().unwrap();
    assert_eq!(proc_file(pid, "environ"), "");
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap().to_str(), Some("/"));
    let status = proc_file(pid, "status");
    assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
    // After the name, which ends with `)`: state, parent, process group, session; niceness is field 19 of the file.
    let stat = proc_file(pid, "stat");
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[2], fields[3]), (&*pid.to_string(), &*pid.to_string()), "a session of its own");
    assert_eq!(fields[16], "19");
    let limits = proc_file(pid, "limits");
    // Of a file, as much as an input may have.
    for (name, limit) in [("Max core file size", "0"), ("Max file size", "1048576"), ("Max open files", "0")] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [limit, limit], "{name}");
    }
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap();
        assert!(!open.contains(&target), "{target:?} was the agent's");
        let target = target.to_str().unwrap();
        assert!(
            target.starts_with("pipe:") || target.starts_with("/memfd:conun-input"),
            "{target:?} is neither a pipe to the agent nor the place of its inputs"
        );
    }
}

#[tokio::test]
async fn what_keeps_a_worker_in_is_told() {
    let confinement = sandbox().as_guest().confinement(PATIENCE).await.unwrap();
    let missing: Vec<_> = confinement.layers.iter().filter_map(|layer| layer.missing.as_ref()).collect();
    assert_eq!(confinement.layers.len(), 7, "{confinement:?}");
    assert_eq!(confinement.is_complete(), missing.is_empty());
    // What every Linux has that this project runs on; landlock may be off.
    for layer in &confinement.layers {
        assert!(layer.missing.is_none() || layer.name.contains("landlock"), "{layer:?}");
    }
    let mut worker = worker(HELLO).await;
    worker.execute(task(b"x\n", 1_000_000), PATIENCE).await.unwrap();
    let status = proc_file(worker.id().unwrap(), "status");
    assert!(status.contains("Seccomp:\t2\n"), "{status}");
}

#[tokio::test]
async fn a_worker_ends_with_its_handle() {
    let mut running = worker(ENDLESS).await;
    let pid = running.id().unwrap();
    {
        let mut task = std::pin::pin!(running.execute(endless(), PATIENCE));
        let started = tokio::time::timeout(Duration::from_millis(50), &mut task).await;
        assert!(started.is_err(), "it burns for hours");
    }
    drop(running);
    ended(pid).await;
}

#[tokio::test]
async fn a_worker_ends_with_its_agent_even_if_the_pipe_stays_open() {
    // The shell is the agent; it tells the worker's process id, and then nothing until it is killed.
    let script = r#"exec 3<&0; "$0" <&3 & echo $!; wait"#;
    let mut agent = std::process::Command::new("/bin/sh")
        .args(["-c", script, WORKER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (agent.stdin.take().unwrap(), agent.stdout.take().unwrap());
    // Its answer to the first request shows that the worker has confined itself.
    let mut frame = 26_u64.to_le_bytes().to_vec();
    frame.extend([0, 1]);
    frame.extend([u64::MAX.to_le_bytes(); 3].concat());
    to.write_all(&frame).unwrap();
    let pid = tokio::task::spawn_blocking(move || {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            from.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        from.read_exact(&mut [0]).unwrap();
        String::from_utf8(line).unwrap().trim().parse().unwrap()
    });
    let pid: u32 = tokio::time::timeout(PATIENCE, pid).await.expect("the worker answers").unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    ended(pid).await;
    drop(to);
}
