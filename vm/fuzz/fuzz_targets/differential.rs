//! Programs out of libFuzzer's bytes do the same in the native engine, in the step machine and in wasmi.
//!
//! From the repository's root, also with a stable compiler: `cargo fuzz run --fuzz-dir vm/fuzz --sanitizer none
//! differential -- -len_control=0 -max_len=8192` (short inputs make no programs).
//! Generator and oracle are those of the tests: `vm/tests/it/differential`.

#![no_main]

#[path = "../../tests/it/differential/generate.rs"]
mod generate;
#[path = "../../tests/it/differential/layered.rs"]
mod layered;
#[path = "../../tests/it/differential/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(program) = generate::program(bytes) {
        oracle::check(&program);
        oracle::check(&layered::layered(&program));
    }
});
