//! Roots of real programs, frozen: another root is another program for the court, whatever it computes.

use std::fmt::Write as _;

use conun_vm::{
    Limits, MAX_FUEL,
    machine::{Code, History, Machine, max_steps, verify_step},
    prepare,
    roots::region_root,
};

use crate::{engines::arguments, programs::SAMPLES};

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[test]
fn roots_and_steps_of_real_programs_are_frozen() {
    let mut table = String::new();
    for sample in SAMPLES {
        let prepared = prepare(sample.wasm, &Limits::default()).expect("the program is accepted");
        let code = Code::flatten(prepared.as_bytes()).expect("it can be flattened");
        let input = arguments(&[sample.small]);
        let program = code.program_root().expect("it has a start");
        let mut machine = Machine::new(code.into(), input.clone().into(), MAX_FUEL, 1 << 20).expect("there is memory");
        let end = machine.run().expect("there is memory");
        assert!(
            machine.steps() <= max_steps(end.fuel),
            "{}: {} steps, {} fuel",
            sample.name,
            machine.steps(),
            end.fuel
        );
        let (program, input, halted) = (hex(&program), hex(&region_root(&input)), hex(&machine.state_hash()));
        writeln!(table, "{} program {program} input {input} halted {halted} steps {}", sample.name, machine.steps())
            .expect("a string takes everything");
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/machine_roots.txt");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&path, &table).expect("the file can be written");
    }
    let frozen = std::fs::read_to_string(&path).expect("the file is checked in");
    assert!(table == frozen, "these are not the roots of `machine_roots.txt`:\n{table}");
}

#[test]
fn steps_of_real_programs_are_proved() {
    let mut seed = 1u64;
    for sample in SAMPLES {
        let prepared = prepare(sample.wasm, &Limits::default()).expect("the program is accepted");
        let code = Code::flatten(prepared.as_bytes()).expect("it can be flattened");
        let machine = Machine::new(code.into(), arguments(&[sample.small]).into(), MAX_FUEL, 1 << 20);
        let mut history = History::new(machine.expect("there is memory")).expect("there is memory");
        for _ in 0..6 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let steps = (seed >> 11) % history.steps();
            let proof = history.prove(steps).expect("there is memory").expect("it is before the end");
            let after = verify_step(&proof.state, &proof.accesses).expect("the proof is well-formed");
            assert_eq!(
                after.hash(),
                history.state_hash(steps + 1).expect("there is memory"),
                "{} {steps}",
                sample.name
            );
        }
    }
}
