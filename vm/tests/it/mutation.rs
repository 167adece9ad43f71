//! Broken files: refused or executed, never a panic.

use conun_vm::{Error, Limits, Program, check};
use proptest::{collection::vec, prelude::*};

use crate::{WASI, command, task, write};

const HELLO: &[u8] = include_bytes!("../../../examples/hello/hello.wasm");

/// A small program with one of everything, which compiles fast.
fn small() -> Vec<u8> {
    let around = format!(
        r#"{WASI} (table 2 funcref) (elem (i32.const 0) $f) (data $d "text") (global $g (mut i32) (i32.const 3))
        (func $f (param i32) (result i32) (block (result i32) (br_if 0 (i32.const 4) (local.get 0)) drop (i32.const 2)))"#
    );
    let body = format!(
        "(local i64 f32) (memory.init $d (i32.const 0) (i32.const 0) (i32.const 4))
         (global.set $g (call_indirect (param i32) (result i32) (global.get $g) (i32.const 0)))
         (loop (br_if 0 (i32.eqz (memory.grow (i32.const 0))))) {}",
        write(1, 0, 4)
    );
    command(&around, &body)
}

/// Bytes overwritten, a piece cut out, a piece repeated.
fn mutate(mut bytes: Vec<u8>, changes: &[(u16, u8)], cut: (u16, u8), repeat: (u16, u8)) -> Vec<u8> {
    for &(at, value) in changes {
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
    }
    let piece = |bytes: &[u8], (at, len): (u16, u8)| {
        let at = usize::from(at) % bytes.len();
        at..(at + usize::from(len)).min(bytes.len())
    };
    bytes.drain(piece(&bytes, cut));
    if !bytes.is_empty() {
        let range = piece(&bytes, repeat);
        let copy = bytes[range.clone()].to_vec();
        bytes.splice(range.start..range.start, copy);
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn check_never_panics_on_a_mutated_program(
        changes in vec(any::<(u16, u8)>(), 0..6), cut in any::<(u16, u8)>(), repeat in any::<(u16, u8)>(),
    ) {
        if let Err(error) = check(&mutate(HELLO.to_vec(), &changes, cut, repeat)) {
            prop_assert!(error.is_refusal());
        }
    }

    #[test]
    fn check_never_panics_on_noise(noise in vec(any::<u8>(), 0..200)) {
        let with_header = [b"\0asm\x01\0\0\0", &noise[..]].concat();
        prop_assert!(check(&noise).is_err());
        if let Err(error) = check(&with_header) {
            prop_assert!(error.is_refusal());
        }
    }

    #[test]
    fn mutated_program_is_refused_or_ends_within_its_fuel(changes in vec(any::<(u16, u8)>(), 1..3)) {
        let mutated = mutate(small(), &changes, (0, 0), (0, 0));
        let limits = Limits { memory_bytes: 16 << 20, output_bytes: 1 << 16 };
        match Program::compile(&mutated, limits) {
            Ok(program) => {
                let done = program.execute(&task(100_000)).expect("a small program asks for nothing a host has not");
                prop_assert!(done.fuel <= 100_000);
                prop_assert_eq!(program.execute(&task(100_000)).expect("the same again"), done);
            }
            Err(error) => prop_assert!(error.is_refusal() && !matches!(error, Error::TooBig { .. }), "{}", error),
        }
    }
}
