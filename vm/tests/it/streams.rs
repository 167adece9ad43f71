//! Standard streams, arguments, environment and files, as a program of the native engine finds them.

use std::{
    io,
    sync::{Arc, Mutex},
};

use conun_vm::{Error, Input, Limits, Outcome, Output, PROGRAM_NAME, Program, Source};

use crate::{CONUN, FUEL, OK, WASI, command, compile, execute, given, put, stdout, write};

const BADF: u32 = 8;

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
        let done =
            program.execute(&given(&Input { stdin: &stdin, ..Input::default() }, FUEL)).expect("an ordinary task");
        assert_eq!((done.outcome, stdout(&done)), (OK, &stdin[..]), "{len} bytes");
    }
}

#[test]
fn bytes_are_not_text_to_the_streams() {
    let stdin: Vec<u8> = (0..=255).chain([0xff, 0xfe, 0, b'\r', b'\n']).collect();
    let program = compile(&crate::wasm(CAT));
    let done = program.execute(&given(&Input { stdin: &stdin, ..Input::default() }, FUEL)).expect("an ordinary task");
    assert_eq!(stdout(&done), stdin);
}

/// Prints what `NAME_sizes_get` and `NAME_get` answer.
fn strings(name: &str) -> Vec<u8> {
    let import = format!(
        r#"{WASI}
        (import "wasi_snapshot_preview1" "{name}_sizes_get" (func $sizes (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "{name}_get" (func $get (param i32 i32) (result i32)))"#
    );
    let body = format!(
        "(drop (call $sizes (i32.const 0) (i32.const 4))) (drop (call $get (i32.const 8) (i32.const 100)))
         {} {}",
        write(1, 0, 20),
        write(1, 100, 64)
    );
    command(&import, &body)
}

#[test]
fn arguments_follow_the_program_name() {
    let input = Input { args: vec!["--größe", ""], ..Input::default() };
    let done = compile(&strings("args")).execute(&given(&input, FUEL)).expect("an ordinary task");
    let (output, text) = (stdout(&done), format!("{PROGRAM_NAME}\0--größe\0\0"));
    let words: Vec<_> = output[..20].chunks(4).map(|w| u32::from_le_bytes(w.try_into().expect("4"))).collect();
    assert_eq!(words, [3, text.len() as u32, 100, 108, 118]);
    assert_eq!(&output[20..20 + text.len()], text.as_bytes());
}

#[test]
fn environment_is_what_the_job_gives() {
    let input = Input { env: vec![("LANG", "C"), ("EMPTY", "")], ..Input::default() };
    let done = compile(&strings("environ")).execute(&given(&input, FUEL)).expect("an ordinary task");
    let (output, text) = (stdout(&done), "LANG=C\0EMPTY=\0");
    let words: Vec<_> = output[..16].chunks(4).map(|w| u32::from_le_bytes(w.try_into().expect("4"))).collect();
    assert_eq!(words, [2, text.len() as u32, 100, 107]);
    assert_eq!(&output[20..20 + text.len()], text.as_bytes());
}

#[test]
fn file_made_under_out_is_part_of_the_output() {
    // `path_open` below the first directory that is given, with O_CREAT and the right to write.
    let import = format!(
        r#"{WASI} (data (i32.const 0) "out/answer42") (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#
    );
    let open = "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 10) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32))";
    let body = format!(
        "(if {open} (then unreachable))
         (i32.store (i32.const 40) (i32.const 10)) (i32.store (i32.const 44) (i32.const 2))
         (if (call $fd_write (i32.load (i32.const 32)) (i32.const 40) (i32.const 1) (i32.const 48)) (then unreachable))
         {}",
        write(1, 0, 3)
    );
    let done = execute(&command(&import, &body));
    assert_eq!(done.outcome, OK, "{}", String::from_utf8_lossy(&done.stderr));
    let output = Output::decode(&done.output).expect("the layer leaves a well-formed output");
    assert_eq!((output.stdout, output.files), (&b"out"[..], vec![("answer", &b"42"[..])]));
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
    assert_eq!(stdout(&done), [0; 3], "what was written before stays");
}

#[test]
fn host_reads_and_writes_memory_that_has_grown() {
    let body = format!(
        "(drop (memory.grow (i32.const 3))) (i32.store8 (i32.const 250000) (i32.const 77)) {}",
        write(1, 250_000, 1)
    );
    let limits = Limits { memory_bytes: 64 * 65536, ..Limits::default() };
    let program = Program::compile(&command(WASI, &body), limits).expect("an ordinary program");
    assert_eq!(stdout(&program.execute(&crate::task(FUEL)).expect("an ordinary task")), [77]);
}

/// An input of so many bytes, each the low byte of its place, that cannot be read beyond a place.
struct Torn {
    length: u64,
    whole: u64,
}

impl Source for Torn {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if offset + into.len() as u64 > self.whole {
            return Err(io::Error::other("the disk is on fire"));
        }
        into.iter_mut().zip(offset..).for_each(|(byte, at)| *byte = at as u8);
        Ok(())
    }
}

/// An output that others see while it is written, and that has no room beyond a length.
#[derive(Clone, Debug)]
struct Seen(Arc<Mutex<Vec<u8>>>, usize);

impl io::Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut seen = self.0.lock().expect("no test panics with it");
        let fit = bytes.len().min(self.1 - seen.len());
        seen.extend_from_slice(&bytes[..fit]);
        Ok(fit)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn input_and_output_need_not_be_in_memory() {
    let body = format!("(drop (call $input_read (i64.const 5000000000) (i64.const 8) (i32.const 100))) {}", put(0, 20));
    let program = compile(&command(CONUN, &body));
    // Longer than any, at its longest, and one that ends in the middle of what is asked for.
    let run = |length, whole, room| program.execute_into(Torn { length, whole }, Seen(Arc::default(), room), FUEL);
    assert!(matches!(run(1 << 33, 1 << 33, 20), Err(Error::InputTooLong { len }) if len == 1 << 33));
    let done = run(1 << 32, 0, 20).expect("nothing is read beyond its end");
    assert_eq!((done.outcome, &done.output.0.lock().expect("it is over")[..]), (OK, &[0; 20][..]));

    let body = format!("(drop (call $input_read (i64.const 1000) (i64.const 8) (i32.const 100))) {}", put(0, 20));
    let program = compile(&command(CONUN, &body));
    let run = |whole, room| program.execute_into(Torn { length: 1_006, whole }, Seen(Arc::default(), room), FUEL);
    let done = run(1_006, 20).expect("all of it can be read");
    let expected: Vec<u8> = [0; 8].into_iter().chain((1000..1006).map(|at| at as u8)).chain([0; 6]).collect();
    assert_eq!((done.outcome, &done.output.0.lock().expect("it is over")[..]), (OK, &expected[..]));
    // What this machine cannot read or write is no verdict.
    for (whole, room, why) in [(1_005, 20, "on fire"), (1_006, 19, "write")] {
        let error = run(whole, room).expect_err("there is no result");
        assert!(matches!(&error, Error::Host(reason) if reason.contains(why)) && !error.is_refusal(), "{error}");
    }
}

#[test]
fn what_is_written_is_seen_before_the_end_and_never_beyond_the_limit() {
    let body = format!("{} {} unreachable", put(0, 20), put(0, 20));
    let seen = Seen(Arc::default(), 1_000);
    let program = |output_bytes| {
        let limits = Limits { output_bytes, ..Limits::default() };
        Program::compile(&command(CONUN, &body), limits).expect("an ordinary program")
    };
    for (limit, written) in [(40, 40), (39, 20)] {
        seen.0.lock().expect("no test panics with it").clear();
        let input = bytes::Bytes::new();
        let done = program(limit).execute_into(input, seen.clone(), FUEL).expect("this machine can");
        assert_eq!((done.outcome, seen.0.lock().expect("it is over").len()), (Outcome::Failed, written));
    }
}
