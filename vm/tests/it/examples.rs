//! The programs under `examples/`: C as it comes out of the compiler.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use conun_vm::{Execution, Input, MAX_FUEL, Outcome};

use crate::{OK, compile, given, stdout};

const HELLO: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");
const PATHTRACER: &[u8] = include_bytes!("../../../examples/pathtracer/pathtracer.wasm");

/// The compiler that made the checked-in programs; `build.sh` and README name the same.
const ZIG: &str = "0.17.1";

fn run(wasm: &[u8], args: &[&str], stdin: &str) -> Execution {
    let task = given(&Input { args: args.to_vec(), stdin: stdin.as_bytes(), ..Input::default() }, MAX_FUEL);
    compile(wasm).execute(&task).expect("this machine can execute an example")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the example prints text")
}

#[test]
fn hello_greets_and_counts_words() {
    let done = run(HELLO, &[], "Ada Lovelace\n");
    assert_eq!((done.outcome, text(stdout(&done))), (OK, "Hello, Ada Lovelace! (2 words)\n"));
    assert_eq!(text(stdout(&run(HELLO, &["Ahoy"], "Grace"))), "Ahoy, Grace! (1 word)\n");
}

#[test]
fn hello_without_a_name_exits_with_one_and_says_why() {
    let done = run(HELLO, &[], " \n");
    assert_eq!((done.outcome, stdout(&done)), (Outcome::Ok { exit_code: 1 }, &b""[..]));
    assert_eq!(text(&done.stderr), "hello: write a name to standard input\n");
}

#[test]
fn picture_is_the_same_however_it_is_cut() {
    let (width, height) = (40, 22);
    let whole = run(PATHTRACER, &[], &format!("{width} {height} 0 0 {width} {height} 3\n"));
    let whole = stdout(&whole);
    assert_eq!(whole.len(), width * height * 3);
    let program = compile(PATHTRACER);
    for (columns, rows) in [(1, 5), (3, 1), (4, 3)] {
        let mut cut = vec![0; whole.len()];
        for tile in 0..columns * rows {
            let (column, row) = (tile % columns, tile / columns);
            let (x0, x1) = (column * width / columns, (column + 1) * width / columns);
            let (y0, y1) = (row * height / rows, (row + 1) * height / rows);
            let stdin = format!("{width} {height} {x0} {y0} {x1} {y1} 3");
            let task = given(&Input { stdin: stdin.as_bytes(), ..Input::default() }, MAX_FUEL);
            let done = program.execute(&task).expect("a small tile");
            let part = stdout(&done);
            assert_eq!(part.len(), (x1 - x0) * (y1 - y0) * 3);
            for (line, y) in part.chunks((x1 - x0) * 3).zip(y0..) {
                cut[(y * width + x0) * 3..][..line.len()].copy_from_slice(line);
            }
        }
        assert!(cut == whole, "{columns} x {rows} tiles");
    }
}

#[test]
fn pathtracer_refuses_bad_requests_with_a_sentence() {
    for bad in
        ["", "40 22 0 0 40", "40 22 0 0 41 22 1", "40 22 5 5 5 9 1", "0 0 0 0 0 0 1", "40 22 0 0 40 22 0", "1 2 x"]
    {
        let done = run(PATHTRACER, &[], bad);
        assert_eq!((done.outcome, stdout(&done)), (Outcome::Ok { exit_code: 2 }, &b""[..]), "{bad:?}");
        assert!(text(&done.stderr).starts_with("pathtracer: "), "{bad:?}");
    }
}

/// FNV-1a, 64 bits: enough to notice a change.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A change here means that providers of the old and the new version disagree: it needs a new `PROFILE`.
#[test]
fn results_of_the_profile_are_frozen() {
    assert_eq!(conun_vm::PROFILE, "conun-2/wasmer-7.4.2/cranelift-speed/nan-2/fuel-3/depth-3/wasi-2");
    assert_eq!(run(HELLO, &[], "Ada Lovelace\n").fuel, 30_627);
    let tile = run(PATHTRACER, &[], "64 36 10 5 50 30 4");
    assert_eq!((tile.fuel, fingerprint(stdout(&tile))), (78_628_549, 0xab0a_e4ee_e622_7dc0));
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// Whether the compiler that made the checked-in files is installed. Without it, what would compare them is skipped.
pub(crate) fn compiler_is_at_hand() -> bool {
    let found = Command::new("python3").args(["-m", "ziglang", "version"]).output();
    let version = found.ok().filter(|out| out.status.success()).map(|out| text(&out.stdout).trim().to_owned());
    if version.as_deref() != Some(ZIG) {
        eprintln!(
            "skipped: needs `python3 -m pip install ziglang=={ZIG}`, found {}",
            version.as_deref().unwrap_or("none")
        );
    }
    version.as_deref() == Some(ZIG)
}

#[test]
fn checked_in_programs_are_what_their_source_compiles_to() {
    if !compiler_is_at_hand() {
        return;
    }
    for (name, checked_in) in [("hello", HELLO), ("pathtracer", PATHTRACER)] {
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.wasm"));
        let built = Command::new("sh").arg(folder(name).join("build.sh")).arg(&fresh).output().expect("sh runs");
        assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
        let fresh = std::fs::read(&fresh).expect("build.sh has written the program");
        assert!(fresh == checked_in, "examples/{name}/{name}.wasm is not what build.sh makes; run it and check it in");
    }
}
