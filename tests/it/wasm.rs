//! `conun wasm`: programs without a chain.

use std::path::Path;

use crate::support::Home;

fn example(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path).to_str().expect("a path of UTF-8").to_owned()
}

#[test]
fn a_program_is_checked_and_every_refusal_told() {
    let home = Home::new();
    let hello = example("hello/hello.wasm");
    assert_eq!(home.json(&["wasm", "check", &hello])["accepted"], true);
    // A module with nothing in it.
    std::fs::write(home.path("empty.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let ran = home.run(&["wasm", "check", "empty.wasm", "--json"]);
    let refused: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(refused["accepted"], false);
    let reasons: Vec<_> =
        refused["refusals"].as_array().unwrap().iter().map(|each| each["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("`_start`") && reasons[1].contains("`memory`"), "{reasons:?}");
    home.run(&["wasm", "check", "nothing.wasm"]).refused(1, &["cannot read nothing.wasm"]);
}

#[test]
fn both_engines_run_a_program_to_the_same_result() {
    let home = Home::new();
    let hello = example("hello/hello.wasm");
    std::fs::write(home.path("name"), "Ada Lovelace\n").unwrap();
    let run = |engine: &str| {
        home.json(&["wasm", "run", &hello, "--stdin", "name", "--engine", engine, "--out", engine, "--fuel", "1000000"])
    };
    let (native, step) = (run("wasmer"), run("step"));
    assert_eq!(native["outcome"], "ok");
    for field in ["outcome", "exitCode", "fuel", "outputRoot", "outputBytes", "stdoutBytes", "stderr"] {
        assert_eq!(native[field], step[field], "{field}");
    }
    let kept = |engine: &str| std::fs::read(home.path(engine).join("stdout")).unwrap();
    assert!(String::from_utf8(kept("wasmer")).unwrap().contains("Ada Lovelace"));
    assert_eq!(kept("wasmer"), kept("step"));

    // Standard output is the program's.
    let ran = home.run(&["wasm", "run", &hello, "--stdin", "name"]).succeeded();
    assert_eq!(ran.stdout.as_bytes(), kept("wasmer"));
    assert!(
        ran.stderr.contains("outcome      ok, exit code 0") && ran.stderr.contains("output root  0x"),
        "{}",
        ran.stderr
    );

    home.run(&["wasm", "run", &hello, "--fuel", "10"]).refused(1, &["all 10 fuel burned", "--fuel"]);
    home.run(&["wasm", "run", &hello, "--dir", "data"]).refused(2, &["NAME=PATH"]);
    home.run(&["wasm", "run", &hello, "--dir", "data=nowhere"]).refused(1, &["cannot read nowhere"]);
}

#[test]
fn a_profile_names_functions() {
    let home = Home::new();
    std::fs::write(home.path("name"), "Ada Lovelace\n").unwrap();
    let ran = home.json(&["wasm", "run", &example("hello/hello.wasm"), "--stdin", "name", "--profile"]);
    let profile = ran["profile"].as_array().unwrap();
    let steps: u64 = profile.iter().map(|entry| entry["steps"].as_u64().unwrap()).sum();
    // What comes before the first instruction is no function's.
    let outside = ran["steps"].as_u64().unwrap() - steps;
    assert!(outside < 10 && steps > 1_000, "{steps}, {outside}");
    assert!(profile.iter().all(|entry| !entry["function"].as_str().unwrap().is_empty()));
}

#[test]
fn a_prepared_module_has_the_root_that_is_told() {
    let home = Home::new();
    let hello = example("hello/hello.wasm");
    let prepared = home.json(&["wasm", "prepare", &hello, "-o", "prepared.wasm"]);
    assert_eq!(prepared["root"], home.json(&["wasm", "root", &hello])["root"]);
    assert_ne!(
        prepared["root"],
        home.json(&["wasm", "root", &hello, "--memory", "64MiB"])["root"],
        "the cap is in its code"
    );
    assert_eq!(std::fs::read(home.path("prepared.wasm")).unwrap().len() as u64, prepared["bytes"].as_u64().unwrap());
}
