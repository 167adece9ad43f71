//! Programs out of libFuzzer's bytes do the same in the native engine, in the step machine and in wasmi.
//!
//! `scripts/long fuzz-vm --minutes N` runs it and keeps its corpus and its count. Generator and oracle are those of the tests:
//! `vm/tests/it/differential`.

#![no_main]

use std::sync::atomic::{AtomicU64, Ordering};

#[path = "../../tests/it/differential/generate.rs"]
mod generate;
#[path = "../../tests/it/differential/layered.rs"]
mod layered;
#[path = "../../tests/it/differential/oracle.rs"]
mod oracle;

/// Of libFuzzer's inputs, those that made a program which is not refused.
static PROGRAMS: AtomicU64 = AtomicU64::new(0);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(program) = generate::program(bytes) else { return };
    if oracle::check(&program) != oracle::Verdict::Refused {
        let programs = PROGRAMS.fetch_add(1, Ordering::Relaxed) + 1;
        if programs.is_multiple_of(100) {
            eprintln!("differential: {programs} programs");
        }
    }
    oracle::check(&layered::layered(&program));
});
