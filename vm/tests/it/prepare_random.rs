//! Preparation of random modules: they do what they did, and every engine sees the same bits.

use arbitrary::Unstructured;
use conun_vm::{Error, Limits, prepare_library};
use wasm_smith::{Config, Module as Random};
use wasmer::{ExternType, Module, Value as WasmerValue};

use crate::{
    differential::generate::accepted,
    spec::{
        Engine as _, Value,
        wasmer::{Running, Wasmer},
    },
};

/// Modules in one run of the test.
const MODULES: u64 = 300;

/// Bytes that one module is made of.
const BYTES: usize = 4_096;

fn config(floats: bool) -> Config {
    Config {
        min_funcs: 4,
        max_funcs: 8,
        max_imports: 0,
        max_memories: 1,
        max_memory32_bytes: 1 << 20,
        memory_max_size_required: true,
        max_tables: 1,
        max_table_elements: 1_000,
        max_data_segments: 2,
        export_everything: true,
        allow_floats: floats,
        bulk_memory_enabled: true,
        ..accepted()
    }
}

/// A module for each number, always the same.
fn module(number: u64, floats: bool) -> Option<Vec<u8>> {
    let mut bytes = vec![0; BYTES];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    let module = Random::new(config(floats), &mut Unstructured::new(&bytes)).ok()?;
    Some(module.to_bytes())
}

/// What all of a module's functions answer, called one after the other, and what globals hold and memory has in the end.
#[derive(Debug, PartialEq)]
struct Seen {
    answers: Vec<Option<Vec<Value>>>,
    globals: Vec<Value>,
    memory: Option<blake3::Hash>,
}

/// Most fuel of one call of a random function.
const FUEL: i64 = 1 << 20;

/// Runs a module; `None` if fuel or depth did not suffice. A module that counts neither must end by itself.
fn see(engine: &mut Wasmer, wasm: &[u8]) -> Option<Seen> {
    let module = Module::new(&wasmer::Engine::default(), wasm).expect("the module is valid");
    let mut running = engine.instantiate(wasm).ok()?;
    let mut seen = Seen { answers: Vec::new(), globals: Vec::new(), memory: None };
    for export in module.exports().filter(|export| !export.name().starts_with("conun:")) {
        if let ExternType::Function(ty) = export.ty() {
            let args: Vec<_> = ty.params().iter().map(|ty| argument(*ty)).collect();
            let counted = set(&mut running, "conun:fuel", FUEL);
            set(&mut running, "conun:depth", 8_192);
            let function = running.instance.exports.get_function(export.name()).expect("it is exported").clone();
            let results = function.call(&mut running.store, &args).ok();
            if counted && (left(&mut running, "conun:fuel") < 0 || left(&mut running, "conun:depth") < 0) {
                return None;
            }
            seen.answers.push(results.map(|results| results.iter().map(crate::spec::wasmer::taken).collect()));
        }
    }
    for export in module.exports().filter(|export| !export.name().starts_with("conun:")) {
        match export.ty() {
            ExternType::Global(_) => seen.globals.push(engine.global(&mut running, export.name())),
            ExternType::Memory(_) => {
                let memory = running.instance.exports.get_memory(export.name()).expect("it is exported").clone();
                let bytes = memory.view(&running.store).copy_to_vec().expect("it is in bounds");
                seen.memory = Some(blake3::hash(&bytes));
            }
            _ => {}
        }
    }
    Some(seen)
}

fn argument(ty: wasmer::Type) -> WasmerValue {
    match ty {
        wasmer::Type::I32 => WasmerValue::I32(-7),
        wasmer::Type::I64 => WasmerValue::I64(1 << 40),
        wasmer::Type::F32 => WasmerValue::F32(f32::NEG_INFINITY),
        wasmer::Type::F64 => WasmerValue::F64(-2.5),
        other => panic!("{other:?} is no number"),
    }
}

fn set(running: &mut Running, global: &str, value: i64) -> bool {
    let global = running.instance.exports.get_global(global).ok().cloned();
    global.is_some_and(|global| global.set(&mut running.store, WasmerValue::I64(value)).is_ok())
}

fn left(running: &mut Running, global: &str) -> i64 {
    let global = running.instance.exports.get_global(global).expect("a prepared module counts").clone();
    match global.get(&mut running.store) {
        WasmerValue::I64(value) => value,
        other => panic!("{other:?} is no count"),
    }
}

fn prepared(wasm: &[u8]) -> Option<Vec<u8>> {
    match prepare_library(wasm, &Limits::default()) {
        Ok(prepared) => Some(prepared.into_bytes()),
        // Random segments lie anywhere, and bulk memory brings changes of tables along.
        Err(Error::SegmentOutside { .. } | Error::Unsupported { .. }) => None,
        Err(error) => panic!("a module of the accepted features is refused: {error}"),
    }
}

/// Without floats, every bit of a module and of what was prepared of it must agree.
#[test]
fn prepared_modules_do_what_they_did_before() {
    let mut compared = 0;
    for number in 0..MODULES {
        let Some(wasm) = module(number, false) else { continue };
        let Some(prepared) = prepared(&wasm) else { continue };
        let mut engine = Wasmer::default();
        // Whatever ends within its fuel as prepared ends without it, too.
        let Some(after) = see(&mut engine, &prepared) else { continue };
        assert_eq!(see(&mut engine, &wasm).as_ref(), Some(&after), "module {number}");
        compared += 1;
    }
    assert!(compared > MODULES / 4, "only {compared} modules could be compared");
}

/// An engine that makes all NaNs canonical and one that makes none must not be told apart by a prepared module.
#[test]
fn bits_of_nans_do_not_depend_on_the_engine() {
    let mut compared = 0;
    for number in 0..MODULES {
        let Some(prepared) = module(number, true).as_deref().and_then(prepared) else { continue };
        let Some(plain) = see(&mut Wasmer::new(false), &prepared) else { continue };
        assert_eq!(see(&mut Wasmer::new(true), &prepared).as_ref(), Some(&plain), "module {number}");
        compared += 1;
    }
    assert!(compared > MODULES / 4, "only {compared} modules could be compared");
}
