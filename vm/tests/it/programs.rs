//! The programs of `vm/programs`: the same output from every engine as from the C compiler of this machine, the same fuel
//! in every engine, and both as they were before.

#[allow(dead_code, reason = "the sizes for benchmarks")]
#[path = "../../programs/table.rs"]
mod table;

use std::{
    path::{Path, PathBuf},
    process::{self, Command},
};

use conun_vm::{MAX_FUEL, Outcome, Output, PROFILE, machine::Code, roots};
pub(crate) use table::SAMPLES;
use table::Sample;

use crate::{
    OK,
    engines::{Done, Engines, arguments},
};

/// The compiler that made the checked-in programs; `build.sh` names the same.
const ZIG: &str = "0.17.1";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("programs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the programs print text")
}

fn success(what: &str, done: process::Output) -> Vec<u8> {
    assert!(done.status.success(), "{what}: {}, {}", done.status, String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// What the program prints when this machine's C compiler has built it.
fn native(sample: &Sample, size: &str) -> Vec<u8> {
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("native-{}", sample.name));
    let flags = ["-std=c11", "-O2", "-ffp-contract=off", "-o"];
    let source = folder().join(format!("{}.c", sample.name));
    let built = Command::new("cc").args(flags).args([&binary, &source]).arg("-lm").output();
    success("cc", built.expect("a C compiler, as the whole project needs it"));
    success(sample.name, Command::new(&binary).arg(size).output().expect("what cc has built runs"))
}

/// Standard output, out of what a WASI program gives: see SPEC.md, section 3.
fn stdout(done: &Done) -> &str {
    text(Output::decode(&done.output).expect("the WASI layer has written it").stdout)
}

#[test]
fn programs_do_the_same_in_both_engines_as_natively() {
    for sample in SAMPLES {
        let engines = Engines::new(sample.wasm);
        let done = engines.both(sample.name, &arguments(&[sample.small]), MAX_FUEL);
        assert_eq!(done.outcome, OK, "{}: {}", sample.name, text(&done.log));
        assert_eq!(stdout(&done), text(&native(sample, sample.small)), "{}", sample.name);
    }
}

/// One unit of fuel decides: with what a run burned it succeeds, with less it fails, with more it is the same.
#[test]
fn fuel_decides_alike_in_both_engines_to_the_last_unit() {
    for sample in SAMPLES {
        let engines = Engines::new(sample.wasm);
        let input = arguments(&["1"]);
        let done = engines.both(sample.name, &input, MAX_FUEL);
        assert_eq!(done.outcome, OK, "{}: {}", sample.name, text(&done.log));
        for limit in [done.fuel, done.fuel + 1] {
            assert_eq!(engines.both(sample.name, &input, limit), done, "{}", sample.name);
        }
        for limit in [done.fuel - 1, done.fuel / 2, 1, 0] {
            let failed = engines.both(sample.name, &input, limit);
            assert_eq!((failed.outcome, failed.output.len()), (Outcome::Failed, 0), "{} with {limit}", sample.name);
        }
    }
}

fn hex(hash: &roots::Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a provider commits to for one program, a value a line.
fn golden(sample: &Sample) -> String {
    let engines = Engines::new(sample.wasm);
    let input = arguments(&[sample.small]);
    let done = engines.native(&input, MAX_FUEL);
    let Outcome::Ok { exit_code } = done.outcome else { panic!("{} fails", sample.name) };
    let code = Code::flatten(&engines.prepared).expect("a prepared module");
    let lines = [
        format!("{} {}", sample.name, sample.small),
        format!("  wasm {}", blake3::hash(sample.wasm)),
        format!("  prepared {}", blake3::hash(&engines.prepared)),
        format!("  program root {}", hex(&code.program_root().expect("a prepared module has a start"))),
        format!("  input root {}", hex(&roots::region_root(&input))),
        format!("  fuel {}", done.fuel),
        format!("  output root {}", hex(&roots::region_root(&done.output))),
        format!("  halted hash {}", hex(&roots::halted_hash(Some(exit_code), done.fuel, &done.output))),
    ];
    lines.join("\n") + "\n"
}

/// A change here means that providers of the old and the new version disagree: it needs a new `PROFILE`.
/// `UPDATE_VECTORS=1 cargo test -p conun-vm frozen` writes the file anew.
#[test]
fn what_providers_commit_to_is_frozen() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/programs.txt");
    let now: String = [format!("{PROFILE}\n")].into_iter().chain(SAMPLES.iter().map(golden)).collect();
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &now).expect("the file can be written");
    }
    let frozen = std::fs::read_to_string(&path).expect("the file is checked in");
    for (now, frozen) in now.lines().zip(frozen.lines()) {
        assert_eq!(now, frozen, "see above for what to do when this is meant");
    }
    assert_eq!(now.len(), frozen.len(), "the file has as many lines as there are programs");
}

#[test]
fn every_source_is_in_the_table() {
    let mut sources: Vec<_> = std::fs::read_dir(folder())
        .expect("the folder of the programs")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".c")?.to_owned()))
        .collect();
    sources.sort();
    assert_eq!(sources, SAMPLES.iter().map(|sample| sample.name).collect::<Vec<_>>());
}

#[test]
fn checked_in_samples_are_what_their_sources_compile_to() {
    let found = Command::new("python3").args(["-m", "ziglang", "version"]).output();
    let version = found.ok().filter(|out| out.status.success()).map(|out| text(&out.stdout).trim().to_owned());
    if version.as_deref() != Some(ZIG) {
        let found = version.as_deref().unwrap_or("none");
        eprintln!("skipped: needs `python3 -m pip install ziglang=={ZIG}`, found {found}");
        return;
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&fresh).expect("cargo's folder for tests can be written to");
    let built = Command::new("sh").arg(folder().join("build.sh")).arg(&fresh).output().expect("sh runs");
    success("build.sh", built);
    for sample in SAMPLES {
        let name = format!("{}.wasm", sample.name);
        let made = std::fs::read(fresh.join(&name)).expect("build.sh has written the program");
        assert!(made == sample.wasm, "vm/programs/{name} is not what build.sh makes; run it and check it in");
    }
}
