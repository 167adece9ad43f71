//! What is accepted as a program.
//!
//! A module is first walked as one that may use all of WebAssembly, so that everything about it that is refused can be
//! told at once, each with its place and what to change (`walk`). What passes is then validated again with nothing but the
//! accepted features on: that is what decides.

mod effort;
mod features;
mod imports;
mod refusal;
mod walk;

use wasmparser::{Parser, Payload, ValidPayload, Validator, WasmFeatures};

pub use refusal::{Function, Refusal, function_names};

use crate::{
    error::Error,
    limits::{Limits, MAX_MEMORY_BYTES, MAX_PROGRAM_BYTES},
    machine::Code,
    prepare::prepare,
};

/// WebAssembly as of 2017 and what every tool chain now emits on top of it without being asked.
///
/// The overlong form of `call_indirect`'s table index is what LLVM 19 and later write; it means the same.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG);

/// What a module is to be accepted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A program, as jobs have them.
    Program,
    /// Any module in the profile: it may lack `_start` and a memory, import functions of any name, have a start section.
    /// For the official test suite and for fuzzing.
    Library,
}

/// How many functions a module has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Functions {
    pub(crate) imported: u32,
    pub(crate) defined: u32,
}

/// Whether a file is a program that providers accept. Compiles nothing; linear in the file's length.
///
/// Accepted is a core module of at most [`MAX_PROGRAM_BYTES`] that exports `_start` and `memory`, imports functions of
/// `wasi_snapshot_preview1` and `conun` only, and uses no more than mutable globals, sign extension, saturating
/// conversions and bulk memory operations beyond WebAssembly 1.0.
///
/// # Errors
///
/// The first reason to refuse it, with what to change; [`refusals`] has all.
pub fn check(wasm: &[u8]) -> Result<(), Error> {
    accept(wasm, Kind::Program)?;
    flattened(wasm)
}

/// Every reason to refuse a program, in the order of the file; empty if it is accepted.
///
/// A function that uses a refused feature many times is named once for it, and of many reasons the first
/// [`MOST_REFUSALS`] are told.
pub fn refusals(wasm: &[u8]) -> Vec<Refusal> {
    match examine(wasm, Kind::Program) {
        Ok(_) => flattened(wasm).err().map(|reason| Refusal { function: None, reason }).into_iter().collect(),
        Err(mut refusals) => {
            refusal::name_functions(wasm, &mut refusals);
            refusals
        }
    }
}

/// Most reasons that [`refusals`] tells.
pub const MOST_REFUSALS: usize = 100;

/// Whether a module is accepted as what it is to be.
///
/// # Errors
///
/// The first reason to refuse it.
pub(crate) fn accept(wasm: &[u8], kind: Kind) -> Result<Functions, Error> {
    examine(wasm, kind).map_err(|refusals| refusals.into_iter().next().expect("who refuses says why").reason)
}

/// Programs of at most so many bytes always have a place in both engines: a byte of code is never more than 32 of the step machine's
/// instructions, nor more than 13 bytes once it is prepared; locals, table and data are bounded by themselves.
const SURELY_FLAT: usize = 512 << 10;

/// Whether the engines have room for an accepted program once it is prepared.
///
/// # Errors
///
/// [`Error::TooMany`] if they have not.
fn flattened(wasm: &[u8]) -> Result<(), Error> {
    if wasm.len() <= SURELY_FLAT {
        return Ok(());
    }
    let most = Limits { memory_bytes: MAX_MEMORY_BYTES, ..Limits::default() };
    match prepare(wasm, &most) {
        Ok(prepared) => Code::flatten(prepared.as_bytes()).map(drop),
        // Some job's limit is another matter than whether the program is one.
        Err(Error::MemoryTooSmall { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// # Errors
///
/// At least one refusal, functions without names.
fn examine(wasm: &[u8], kind: Kind) -> Result<Functions, Vec<Refusal>> {
    let without_function = |reason| vec![Refusal { function: None, reason }];
    header(wasm).map_err(without_function)?;
    let functions = walk::walk(wasm, kind)?;
    validate(wasm).map_err(|error| {
        let advice = features::Feature::Other("").advice();
        without_function(Error::Unsupported { offset: error.offset(), reason: error.message().to_owned(), advice })
    })?;
    Ok(functions)
}

/// Tells what a file is by its first bytes, so that the commonest mistakes get the clearest answer.
fn header(wasm: &[u8]) -> Result<(), Error> {
    if wasm.len() > MAX_PROGRAM_BYTES {
        return Err(Error::TooBig { len: wasm.len() });
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Err(Error::Component),
        _ => {
            let text = wasm.trim_ascii_start();
            let is_text = text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;");
            Err(if is_text { Error::Text } else { Error::NotWasm })
        }
    }
}

/// Validates a module with the accepted features alone.
fn validate(wasm: &[u8]) -> Result<(), wasmparser::Error> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = wasmparser::FuncValidatorAllocations::default();
    // The parser, too, is told: other features change what encodings of the accepted ones there are.
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    for payload in parser.parse_all(wasm) {
        let payload: Payload<'_> = payload?;
        if let ValidPayload::Func(func, body) = validator.payload(&payload)? {
            let mut func = func.into_validator(std::mem::take(&mut allocations));
            func.validate(&body)?;
            allocations = func.into_allocations();
        }
    }
    Ok(())
}
