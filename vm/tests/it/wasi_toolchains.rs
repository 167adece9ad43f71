//! One program of each tool chain, unchanged as its compiler emits it: `tests/toolchains`, where the README says what
//! each of them does.

use std::{path::Path, process::Command};

use conun_vm::{Input, Outcome, Output};

use crate::{FUEL, engines::Engines, examples};

const PROGRAMS: [(&str, &[u8]); 5] = [
    ("c", include_bytes!("../toolchains/c/main.wasm")),
    ("cpp", include_bytes!("../toolchains/cpp/main.wasm")),
    ("zig", include_bytes!("../toolchains/zig/main.wasm")),
    ("rust", include_bytes!("../toolchains/rust/main.wasm")),
    ("assemblyscript", include_bytes!("../toolchains/assemblyscript/main.wasm")),
];

const EXPECTED: &str = "\
args: program greet Ada
MODE=loud
stdin: 2 lines, 14 bytes
data: a.txt b.txt
sum: 46
missing: yes
read-only: yes
year: 2000
time passes: yes
random: yes
copied: 3 bytes
";

fn input() -> Input<'static> {
    let mut input = Input {
        args: vec!["greet", "Ada"],
        env: vec![("HOME", "/"), ("MODE", "loud")],
        stdin: b"one two\nthree\n",
        ..Input::default()
    };
    input.files.extend([("data/a.txt", b"1\n2\n3\n".as_slice()), ("data/b.txt", b"40\n")]);
    input
}

#[test]
fn programs_of_five_tool_chains_run_unchanged() {
    for (name, wasm) in PROGRAMS {
        conun_vm::check(wasm).unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let input = input().encode().expect("the input is possible");
        let done = Engines::new(wasm).both(name, &input, FUEL);
        assert_eq!(
            (name, done.outcome, done.log.as_slice()),
            (name, Outcome::Ok { exit_code: 3 }, b"done\n".as_slice())
        );
        let output = Output::decode(&done.output).expect("a WASI program's output");
        assert_eq!(String::from_utf8_lossy(output.stdout), EXPECTED, "{name}");
        let files = [("report.txt", b"sum 46\nappended\n".as_slice()), ("sub/copy.txt", b"40\n")];
        assert_eq!(output.files, files, "{name}");
    }
}

/// Those that the one compiler makes that other tests need, too.
#[test]
fn checked_in_programs_of_zig_are_what_their_source_compiles_to() {
    if !examples::compiler_is_at_hand() {
        return;
    }
    for (name, checked_in) in &PROGRAMS[..3] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/toolchains").join(name);
        let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("toolchain-{name}.wasm"));
        let built = Command::new("sh").arg(folder.join("build.sh")).arg(&fresh).output().expect("sh runs");
        assert!(built.status.success(), "{name}: {}", String::from_utf8_lossy(&built.stderr));
        let fresh = std::fs::read(&fresh).expect("build.sh has written the program");
        assert!(fresh == *checked_in, "tests/toolchains/{name}/main.wasm is not what build.sh makes");
    }
}
