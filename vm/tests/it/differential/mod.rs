//! Differential fuzzing: random programs do the same in the native engine, in the step machine and in wasmi.
//!
//! A bounded run is part of the tests; `scripts/long differential` goes on with other seeds, and `vm/fuzz` lets libFuzzer look
//! for them.

pub(crate) mod generate;
mod layered;
mod oracle;

use std::{collections::BTreeMap, env, panic};

use oracle::Verdict;

/// Programs in a run of the tests.
const PROGRAMS: u64 = 1000;

/// One program of so many runs with the WASI layer, too.
const LAYERED: u64 = 4;

/// Random bytes for one program.
const BYTES: usize = 4096;

/// The bytes of one seed.
fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new_derive_key("CONUN 2026-11 differential")
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn number(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// `DIFFERENTIAL_FIRST` and `DIFFERENTIAL_COUNT` choose other seeds.
#[test]
fn random_programs_do_the_same_in_every_engine() {
    let first = number("DIFFERENTIAL_FIRST", 0);
    let count = number("DIFFERENTIAL_COUNT", PROGRAMS);
    let mut verdicts = BTreeMap::<_, u64>::new();
    for seed in first..first + count {
        let wasm = generate::program(&bytes(seed)).expect("the bytes suffice");
        let verdict = panic::catch_unwind(|| {
            let verdict = oracle::check(&wasm);
            if seed % LAYERED == 0 {
                let layered = oracle::check(&layered::layered(&wasm));
                assert_eq!(
                    layered == Verdict::Refused,
                    verdict == Verdict::Refused,
                    "the layer is no reason to refuse"
                );
            }
            verdict
        });
        let verdict = verdict.unwrap_or_else(|_| panic!("the engines disagree about the program of seed {seed}"));
        *verdicts.entry(format!("{verdict:?}")).or_default() += 1;
    }
    let told: Vec<_> = verdicts.iter().map(|(verdict, count)| format!("{verdict} {count}")).collect();
    println!("differential: {count} programs from seed {first}: {}", told.join(", "));
    let ended = verdicts.get(&format!("{:?}", Verdict::Ended)).copied().unwrap_or_default();
    assert!(count < 100 || ended * 2 > count, "most programs end by themselves: {told:?}");
}

/// If this fails, wasmi has been mended, and `oracle::Detour` can go.
#[test]
fn wasmi_takes_a_wrong_operand_without_the_detour() {
    let module = crate::wasm(
        "(module (global (mut i32) (i32.const 9)) (func (export \"f\") (param i32) (result i32)
            (global.set 0 (i32.sub (global.get 0) (i32.const 1)))
            (select (i32.const 1) (local.get 0) (i32.eqz (local.get 0)))))",
    );
    let chosen = |module: &[u8]| {
        let engine = wasmi::Engine::default();
        let module = wasmi::Module::new(&engine, module).expect("the test's module is valid");
        let mut store = wasmi::Store::new(&engine, ());
        let instance = wasmi::Instance::new(&mut store, &module, &[]).expect("it imports nothing");
        instance.get_typed_func::<i32, i32>(&store, "f").expect("`f`").call(&mut store, 0).expect("no trap")
    };
    assert_eq!((chosen(&module), chosen(&oracle::Detour::of(&module))), (0, 1));
}
