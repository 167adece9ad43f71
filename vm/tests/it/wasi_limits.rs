//! Where memory, descriptors and patience end: an errno, never a trap.

use conun_vm::Input;

use crate::{
    wasi_errno::*,
    wasi_host::{Done, End, Script, functions, run_capped},
};

/// A program with all functions of WASI, numbers written as names into the path at 16, and a loop around `body` that ends
/// with the first errno other than zero. Exit code: that errno; standard output: how often it went well.
fn repeat(setup: &str, body: &str, limit: u32) -> Vec<u8> {
    let imports: String = functions()
        .iter()
        .map(|(name, params)| {
            let params = params.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let result = if name == "proc_exit" { "" } else { "(result i32)" };
            format!(r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) {result}))"#)
        })
        .collect();
    let module = format!(
        r#"(module {imports} (memory (export "memory") 2 2)
            (data (i32.const 16) "00000000") (data (i32.const 32) "f") (data (i32.const 64) "\00\80\00\00\00\10\00\00")
            (func $name (param $n i32) (local $i i32) ;; the number's letters, at 16
                (loop $more
                    (i32.store8 offset=16 (local.get $i)
                        (i32.add (i32.const 97) (i32.and (local.get $n) (i32.const 15))))
                    (local.set $n (i32.shr_u (local.get $n) (i32.const 4)))
                    (br_if $more (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 8)))))
            (func (export "_start") (local $n i32) (local $errno i32)
                {setup}
                (block $end (loop $again
                    (br_if $end (i32.eq (local.get $n) (i32.const {limit})))
                    (call $name (local.get $n))
                    (br_if $end (local.tee $errno {body}))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br $again)))
                (i32.store (i32.const 0) (i32.const 8)) (i32.store (i32.const 4) (i32.const 4))
                (i32.store (i32.const 8) (local.get $n))
                (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
                (call $proc_exit (local.get $errno))))"#
    );
    wat::parse_str(module).expect("the test's module is well-formed")
}

fn run(program: &[u8], pages: u32) -> (i32, u32, Done) {
    let done = run_capped(program, &Input::default().encode().expect("nothing is possible"), pages);
    let End::Exit(errno) = done.end else { panic!("it ended with {:?}", done.end) };
    let times = u32::from_le_bytes(done.output().stdout.try_into().expect("a number"));
    (errno, times, done)
}

const OPEN_F: &str = "(call $path_open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 1)
    (i64.const 66) (i64.const 0) (i32.const 0) (i32.const 40))";
const WRITE_4_KIB: &str = "(call $fd_write (i32.const 4) (i32.const 64) (i32.const 1) (i32.const 72))";
const MKDIR: &str = "(call $path_create_directory (i32.const 3) (i32.const 16) (i32.const 8))";

#[test]
fn a_file_that_fills_memory_ends_in_enospc_and_is_written_as_far_as_it_came() {
    let (errno, times, _) = run(&repeat(&format!("(drop {OPEN_F})"), WRITE_4_KIB, u32::MAX), 100);
    assert_eq!(errno, ENOSPC);
    assert!((1_400..1_600).contains(&times), "{times} blocks in less than 100 pages");
}

#[test]
fn space_of_removed_files_is_used_again() {
    let body = format!(
        "(i32.or (i32.or {OPEN_F} {WRITE_4_KIB}) (i32.or {WRITE_4_KIB} (i32.or
            (call $path_unlink_file (i32.const 3) (i32.const 32) (i32.const 1)) (call $fd_close (i32.const 4)))))"
    );
    let (errno, times, _) = run(&repeat("", &body, 20_000), 10);
    assert_eq!((errno, times), (SUCCESS, 20_000));
}

#[test]
fn names_that_fill_memory_end_in_enospc() {
    let (errno, times, _) = run(&repeat("", MKDIR, u32::MAX), 20);
    assert_eq!(errno, ENOSPC);
    assert!(times > 5_000, "{times} directories in 20 pages");
    let link = "(call $path_symlink (i32.const 16) (i32.const 8) (i32.const 3) (i32.const 16) (i32.const 8))";
    assert_eq!(run(&repeat("", link, u32::MAX), 20).0, ENOSPC);
    let file = OPEN_F.replace("(i32.const 32) (i32.const 1)", "(i32.const 16) (i32.const 8)");
    let body = format!("(i32.or {file} (call $fd_close (i32.const 4)))");
    assert_eq!(run(&repeat("", &body, u32::MAX), 20).0 & !EBADF, ENOSPC & !EBADF);
}

#[test]
fn descriptors_end_at_65536() {
    let (errno, times, _) = run(&repeat("", OPEN_F, u32::MAX), 200);
    assert_eq!((errno, times), (EMFILE, 65_532));
    assert_eq!(run(&repeat("", OPEN_F, u32::MAX), 10).0, ENOMEM);
}

/// A tree as deep as memory goes: neither making it nor writing it out needs a stack.
#[test]
fn a_deep_tree_is_written_out() {
    let into = "(i32.or (call $path_create_directory (i32.const 4) (i32.const 32) (i32.const 1))
        (i32.or (call $path_open (i32.const 4) (i32.const 0) (i32.const 32) (i32.const 1) (i32.const 2)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 40))
            (call $fd_renumber (i32.const 5) (i32.const 4))))";
    let out = r#"(i32.store (i32.const 48) (i32.const 0x74756f))
        (drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 48) (i32.const 3) (i32.const 2)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 40)))"#;
    // At the very bottom, a file.
    let file =
        "(i32.ne (i32.const 0) (call $path_open (i32.const 4) (i32.const 0) (i32.const 16) (i32.const 8) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 40)))";
    let body = format!("(if (result i32) (i32.eq (local.get $n) (i32.const 2999)) (then {file}) (else {into}))");
    let done = run_capped(&repeat(out, &body, 3_000), &Input::default().encode().expect("nothing is possible"), 100);
    let output = done.output();
    assert_eq!(output.files, [(("f/".repeat(2_999) + "hllaaaaa").as_str(), b"".as_slice())]);
}

/// A million names: made, found again and removed.
#[test]
fn a_million_files_work() {
    let file = OPEN_F.replace("(i32.const 32) (i32.const 1)", "(i32.const 16) (i32.const 8)");
    let body = format!("(i32.or {file} (call $fd_close (i32.const 4)))");
    let (errno, times, _) = run(&repeat("", &body, 1_000_000), 4_000);
    assert_eq!((errno, times), (SUCCESS, 1_000_000));
}

/// A million files of the input: found, or too many for the memory, but never a trap.
#[test]
fn a_million_input_files_work_or_are_refused() {
    let paths: Vec<String> = (0..1_000_000).map(|n| format!("d{}/{n}", n % 10)).collect();
    let mut input = Input::default();
    input.files.extend(paths.iter().map(|path| (path.as_str(), b"".as_slice())));
    let blob = input.encode().expect("the input is possible");
    let mut script = Script::new();
    script.call(SUCCESS, "path_filestat_get", &[&[3, 0], &[16, 9], &[0x9000]]);
    script.bytes(b"d9/999999");
    assert_eq!(run_capped(&script.wasm(), &blob, 4_000).end, End::Returned);
    let mut script = Script::new();
    script.bytes(b"d9/999999");
    script.call(ENOMEM, "path_filestat_get", &[&[3, 0], &[16, 9], &[0x9000]]);
    script.call(ENOMEM, "path_create_directory", &[&[3], &[16, 1]]);
    assert_eq!(run_capped(&script.wasm(), &blob, 100).end, End::Returned);
}
