//! Tasks in real worker processes: what they answer, how they end, and what they cannot reach.
#![cfg(target_os = "linux")]

use std::{
    io::{Read, Write},
    os::fd::AsRawFd,
    process::Stdio,
    time::{Duration, Instant},
};

use conun_agent::sandbox::{Error, Program, Sandbox, Worker};
use conun_vm::Outcome;
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
    Program { wasm: wasm.into(), memory_bytes: 64 << 20, output_bytes: 1 << 20, args: Vec::new() }
}

async fn worker(wasm: &'static [u8]) -> Worker {
    sandbox().start(&program(wasm), PATIENCE).await.unwrap()
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
        let done = worker.execute(format!("{name}\n").as_bytes(), 1_000_000, PATIENCE).await.unwrap();
        assert_eq!(done.outcome, Outcome::Ok { exit_code: 0 });
        assert_eq!(String::from_utf8(done.output).unwrap(), format!("Hello, {name}! (2 words)\n"));
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
        let stdin = b"one two three\n";
        let there = worker.execute(stdin, fuel_limit, PATIENCE).await.unwrap();
        assert_eq!(there, here.execute(&conun_vm::Task { args: &[], stdin, fuel_limit }).unwrap());
    }
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_fuel_and_the_worker_goes_on() {
    let mut worker = worker(ENDLESS).await;
    for fuel_limit in [1_000_000, 7] {
        let done = worker.execute(b"", fuel_limit, PATIENCE).await.unwrap();
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
    let error = worker.execute(b"", conun_vm::MAX_FUEL, deadline).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow(after) if after == deadline), "{error}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    ended(pid).await;
    // It stays dead.
    assert!(worker.execute(b"", 1, PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_worker_that_somebody_kills_has_no_outcome() {
    let mut worker = worker(ENDLESS).await;
    let pid = worker.id().unwrap();
    let (executed, ()) = tokio::join!(worker.execute(b"", conun_vm::MAX_FUEL, PATIENCE), async {
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
    });
    let error = executed.unwrap_err();
    assert!(matches!(&error, Error::Died(how) if how.contains("signal: 9")), "{error}");
}

#[tokio::test]
async fn a_refusal_carries_the_engines_reason_and_a_missing_executable_is_not_one() {
    let Program { wasm, .. } = program(b"no program at all");
    let engine = conun_vm::check(&wasm).unwrap_err().to_string();
    let refused = sandbox().start(&program(b"no program at all"), PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(reason) if *reason == engine), "{refused}");

    let small = Program { memory_bytes: 65_536, ..program(HELLO) };
    let refused = sandbox().start(&small, PATIENCE).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused(reason) if reason.contains("65536")), "{refused}");

    let nobody = Sandbox::new("/nonexistent/conun".into(), [""; 0]);
    let error = nobody.start(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Spawn { program, .. } if program.ends_with("conun")), "{error}");
    // Something that is no worker.
    let error = Sandbox::new("/bin/true".into(), [""; 0]).start(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Died(_)), "{error}");
}

#[tokio::test]
async fn an_answer_longer_than_any_honest_one_is_not_read() {
    // An empty frame is no answer either.
    let liar = Sandbox::new("/bin/cat".into(), ["/dev/zero"]);
    let error = liar.start(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("malformed")), "{error}");
    let liar =
        Sandbox::new("/bin/sh".into(), ["-c", "while :; do printf '\\377\\377\\377\\377\\377\\377\\377\\377'; done"]);
    let error = liar.start(&program(HELLO), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("18446744073709551615 bytes")), "{error}");
}

#[tokio::test]
async fn an_input_longer_than_any_task_may_have_is_an_error_that_says_so() {
    let mut worker = worker(HELLO).await;
    let error = worker.execute(&vec![0; 80 << 20], 1, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, Error::Host(reason) if reason.contains("83886097 bytes")), "{error}");
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
    for (name, limit) in [("Max core file size", "0"), ("Max file size", "0"), ("Max open files", "64")] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let values: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(values, [limit, limit], "{name}");
    }
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let target = std::fs::read_link(entry.unwrap().path()).unwrap();
        assert!(!open.contains(&target), "{target:?} was the agent's");
    }
}

#[tokio::test]
async fn a_worker_ends_with_its_handle() {
    let mut running = worker(ENDLESS).await;
    let pid = running.id().unwrap();
    {
        let mut task = std::pin::pin!(running.execute(b"", conun_vm::MAX_FUEL, PATIENCE));
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
    // Any answer shows that the worker has confined itself: here to a task before there is a program.
    let mut frame = 17_u64.to_le_bytes().to_vec();
    frame.push(1);
    frame.extend([0; 16]);
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
