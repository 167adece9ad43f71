//! Standard input, arguments and WASI's answers, seen from the program.

use conun_vm::{Limits, PROGRAM_NAME, Program, Task};

use crate::{FUEL, OK, WASI, command, compile, execute, write};

const BADF: u32 = 8;
const FAULT: u32 = 21;
const INVAL: u32 = 28;
const NOSYS: u32 = 52;
const SPIPE: u32 = 70;

/// Calls one WASI function with constants, with `setup` run before, and shows its answer and the first 64 bytes of
/// memory after it.
fn probe(name: &str, types: &str, values: &[&str], setup: &str) -> (u32, Vec<u8>) {
    let import =
        format!(r#"{WASI} (import "wasi_snapshot_preview1" "{name}" (func $probed (param {types}) (result i32)))"#);
    let values: String = types.split(' ').zip(values).map(|(ty, value)| format!("({ty}.const {value})")).collect();
    let body = format!("{setup} (i32.store (i32.const 64) (call $probed {values})) {}", write(1, 0, 68));
    let done = execute(&command(&import, &body));
    assert_eq!(done.outcome, OK, "{name}");
    let output = done.output;
    let start = output.len() - 68; // a probe of `fd_write` has written before
    let errno = u32::from_le_bytes(output[start + 64..].try_into().expect("four bytes"));
    (errno, output[start..start + 64].to_vec())
}

fn errno(name: &str, types: &str, values: &[&str]) -> u32 {
    probe(name, types, values, "").0
}

/// Puts one buffer of `len` bytes at `at` into the list at address 16.
fn buffer(at: &str, len: &str) -> String {
    format!("(i32.store (i32.const 16) (i32.const {at})) (i32.store (i32.const 20) (i32.const {len}))")
}

/// Copies standard input to standard output through two buffers, the first of three bytes.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $again
            (i32.store (i32.const 0) (i32.const 100)) (i32.store (i32.const 4) (i32.const 3))
            (i32.store (i32.const 8) (i32.const 103)) (i32.store (i32.const 12) (i32.const 1000))
            (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 16)) (then unreachable))
            (i32.store (i32.const 4) (i32.load (i32.const 16)))
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 20)) (then unreachable))
            (br_if $again (i32.load (i32.const 16))))))"#;

#[test]
fn standard_input_comes_back_whole_at_every_length() {
    let program = compile(&crate::wasm(CAT));
    for len in [0, 1, 3, 4, 1002, 1003, 1004, 10_000] {
        let stdin: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let done = program.execute(&Task { args: &[], stdin: &stdin, fuel_limit: FUEL }).expect("an ordinary task");
        assert_eq!((done.outcome, done.output), (OK, stdin), "{len} bytes");
    }
}

#[test]
fn bytes_are_not_text_to_the_streams() {
    let stdin: Vec<u8> = (0..=255).chain([0xff, 0xfe, 0, b'\r', b'\n']).collect();
    let program = compile(&crate::wasm(CAT));
    let done = program.execute(&Task { args: &[], stdin: &stdin, fuel_limit: FUEL }).expect("an ordinary task");
    assert_eq!(done.output, stdin);
}

#[test]
fn arguments_follow_the_program_name() {
    let import = format!(
        r#"{WASI}
        (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))"#
    );
    let body = format!(
        "(drop (call $sizes (i32.const 0) (i32.const 4))) (drop (call $args (i32.const 8) (i32.const 100)))
         {} {}",
        write(1, 0, 20),
        write(1, 100, 64)
    );
    let program = compile(&command(&import, &body));
    let args = ["--größe".to_owned(), String::new()];
    let done = program.execute(&Task { args: &args, stdin: &[], fuel_limit: FUEL }).expect("an ordinary task");
    let text = format!("{PROGRAM_NAME}\0--größe\0\0");
    let words: Vec<_> = done.output[..20].chunks(4).map(|w| u32::from_le_bytes(w.try_into().expect("4"))).collect();
    assert_eq!(words, [3, text.len() as u32, 100, 108, 118]);
    assert_eq!(&done.output[20..20 + text.len()], text.as_bytes());
}

#[test]
fn environment_is_empty() {
    let (errno, memory) =
        probe("environ_sizes_get", "i32 i32", &["0", "4"], "(i64.store (i32.const 0) (i64.const -1))");
    assert_eq!((errno, &memory[..8]), (0, &[0; 8][..]));
}

#[test]
fn pointers_out_of_memory_answer_efault() {
    let page = "65536";
    assert_eq!(errno("args_sizes_get", "i32 i32", &["0", "65533"]), FAULT);
    assert_eq!(errno("args_get", "i32 i32", &["65534", "0"]), FAULT);
    assert_eq!(errno("args_get", "i32 i32", &["0", "-1"]), FAULT);
    assert_eq!(errno("environ_sizes_get", "i32 i32", &["-1", "0"]), FAULT);
    assert_eq!(errno("clock_time_get", "i32 i64 i32", &["0", "0", "65529"]), FAULT);
    assert_eq!(errno("clock_res_get", "i32 i32", &["0", page]), FAULT);
    assert_eq!(errno("random_get", "i32 i32", &["65530", "7"]), FAULT);
    assert_eq!(errno("random_get", "i32 i32", &["1", "-1"]), FAULT);
    assert_eq!(errno("fd_fdstat_get", "i32 i32", &["1", "65513"]), FAULT);
    assert_eq!(errno("fd_filestat_get", "i32 i32", &["1", "65473"]), FAULT);
    for name in ["fd_read", "fd_write"] {
        let fd = if name == "fd_read" { "0" } else { "1" };
        let types = "i32 i32 i32 i32";
        assert_eq!(errno(name, types, &[fd, "65532", "1", "0"]), FAULT, "list half outside");
        assert_eq!(errno(name, types, &[fd, "-8", "1", "0"]), FAULT, "list at the end of addresses");
        assert_eq!(errno(name, types, &[fd, "0", "1", "65533"]), FAULT, "answer half outside");
        for (at, len) in [("65530", "7"), ("-1", "1"), ("-1", "-1"), ("0", "65537"), ("65537", "0")] {
            let answer = probe(name, types, &[fd, "16", "1", "0"], &buffer(at, len)).0;
            assert_eq!(answer, FAULT, "{name}: buffer of {len} bytes at {at}");
        }
        let last = probe(name, types, &[fd, "16", "1", "0"], &buffer(page, "0")).0;
        assert_eq!(last, 0, "an empty buffer at the very end is none outside");
    }
}

#[test]
fn write_with_a_bad_answer_pointer_writes_nothing() {
    let setup = buffer("0", "5");
    let import = WASI.to_string();
    let body = format!("{setup} (drop (call $fd_write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const -1)))");
    assert_eq!(execute(&command(&import, &body)).output, b"");
}

#[test]
fn too_many_buffers_answer_einval_and_overlong_totals_too() {
    for name in ["fd_read", "fd_write"] {
        let fd = if name == "fd_read" { "0" } else { "1" };
        assert_eq!(errno(name, "i32 i32 i32 i32", &[fd, "0", "1024", "16384"]), 0);
        assert_eq!(errno(name, "i32 i32 i32 i32", &[fd, "0", "1025", "16384"]), INVAL);
        assert_eq!(errno(name, "i32 i32 i32 i32", &[fd, "0", "-1", "16384"]), INVAL);
    }
    // 1,024 buffers of 64 MiB each are 2^36 bytes.
    let body = "(local $i i32) (drop (memory.grow (i32.const 1023)))
        (loop $again
            (i32.store offset=4 (local.get $i) (i32.const 67108864))
            (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 8))) (i32.const 8192))))
        (call $proc_exit (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1024) (i32.const 16384)))";
    let done = execute(&command(WASI, body));
    assert_eq!(done.outcome, conun_vm::Outcome::Ok { exit_code: INVAL });
}

#[test]
fn descriptors_other_than_the_three_streams_do_not_exist() {
    for fd in ["3", "4", "-1"] {
        assert_eq!(errno("fd_write", "i32 i32 i32 i32", &[fd, "0", "0", "0"]), BADF);
        assert_eq!(errno("fd_read", "i32 i32 i32 i32", &[fd, "0", "0", "0"]), BADF);
        assert_eq!(errno("fd_close", "i32", &[fd]), BADF);
        assert_eq!(errno("fd_seek", "i32 i64 i32 i32", &[fd, "0", "0", "0"]), BADF);
        assert_eq!(errno("fd_prestat_get", "i32 i32", &[fd, "0"]), BADF);
        assert_eq!(
            errno("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32", &[fd, "0", "0", "0", "0", "0", "0", "0", "0"]),
            BADF
        );
    }
    assert_eq!(errno("fd_write", "i32 i32 i32 i32", &["0", "0", "0", "0"]), BADF, "input cannot be written");
    assert_eq!(errno("fd_read", "i32 i32 i32 i32", &["1", "0", "0", "0"]), BADF, "output cannot be read");
}

#[test]
fn streams_neither_seek_nor_look_like_a_terminal() {
    for fd in ["0", "1", "2"] {
        assert_eq!(errno("fd_seek", "i32 i64 i32 i32", &[fd, "0", "1", "0"]), SPIPE);
        assert_eq!(errno("fd_tell", "i32 i32", &[fd, "0"]), SPIPE);
        let (errno, stat) = probe("fd_fdstat_get", "i32 i32", &[fd, "0"], "");
        assert_eq!((errno, stat[0]), (0, 0), "2 would be a terminal");
    }
}

#[test]
fn closed_stream_is_gone() {
    let around =
        format!(r#"{WASI} (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))"#);
    let body = format!(
        "{} (drop (call $fd_close (i32.const 1)))
         (call $proc_exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0)))",
        write(1, 0, 3)
    );
    let done = execute(&command(&around, &body));
    assert_eq!(done.outcome, conun_vm::Outcome::Ok { exit_code: BADF });
    assert_eq!(done.output, [0; 3], "what was written before stays");
}

#[test]
fn what_a_task_does_not_have_answers_enosys() {
    assert_eq!(errno("poll_oneoff", "i32 i32 i32 i32", &["0", "0", "1", "0"]), NOSYS);
    assert_eq!(errno("proc_raise", "i32", &["6"]), NOSYS);
    assert_eq!(errno("fd_sync", "i32", &["1"]), NOSYS);
    assert_eq!(errno("sock_shutdown", "i32 i32", &["1", "0"]), NOSYS);
    assert_eq!(errno("clock_time_get", "i32 i64 i32", &["9", "0", "0"]), INVAL);
}

#[test]
fn host_reads_and_writes_memory_that_has_grown() {
    let body = format!(
        "(drop (memory.grow (i32.const 3))) (i32.store8 (i32.const 250000) (i32.const 77)) {}",
        write(1, 250_000, 1)
    );
    let limits = Limits { memory_bytes: 4 * 65536, ..Limits::default() };
    let program = Program::compile(&command(WASI, &body), limits).expect("an ordinary program");
    assert_eq!(program.execute(&crate::task(FUEL)).expect("an ordinary task").output, [77]);
}
