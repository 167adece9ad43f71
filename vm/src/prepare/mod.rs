//! Preparation: an accepted program becomes a module that counts its own fuel and depth, and that says the same on every
//! machine.
//!
//! Pure bytes to bytes; what is added, and why, is SPEC.md, section 5. In the order of the work:
//!
//! - [`source`] reads the module and validates it once more;
//! - [`units`] divides each function into what is paid together;
//! - [`counted`] finds loops that can be paid before they begin;
//! - [`calls`] looks who calls whom, so that little is counted that need not be;
//! - [`nan`] finds where bits of a NaN that the engine chose could be seen;
//! - [`runs`] looks at stores of floats together where that is possible;
//! - [`function`] writes each function anew with all that added;
//! - [`helpers`] are the functions that preparation adds: what is charged by length goes through them;
//! - [`module`] puts the sections together.

mod calls;
mod counted;
mod function;
mod helpers;
mod module;
mod nan;
mod runs;
mod source;
mod units;

use std::borrow::Cow;

pub(crate) use units::Liveness;

use crate::{
    check::{self, Functions, Kind},
    error::Error,
    limits::{Limits, MAX_MEMORY_BYTES},
    wasi,
};

/// Name of the exported function that runs the program.
pub const START: &str = "start";
/// Name of the exported memory of the program.
pub const MEMORY: &str = "memory";
/// Name of the exported memory of the WASI layer, if there is one.
pub const SYSTEM: &str = "system";
/// Name of the exported mutable i64 global with the fuel left.
pub const FUEL: &str = "fuel";
/// Name of the exported i32 global with the address of the log in the memory [`SYSTEM`], if there is a WASI layer.
pub const LOG: &str = "log";

/// Bytes of a page of linear memory.
pub(crate) const PAGE: u64 = 65_536;

/// A prepared module: what every engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    bytes: Vec<u8>,
    /// Functions of the program.
    program: Functions,
    /// Functions that the prepared module imports; the program's own come right behind them.
    imported: u32,
}

impl Prepared {
    /// The module's bytes, in WebAssembly's binary format.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The module's bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The index in the prepared module of a function that the program has under `index`, for a profile that names
    /// functions. `None` for what the program imports or does not have.
    pub fn function(&self, index: u32) -> Option<u32> {
        let own = index.checked_sub(self.program.imported)?;
        (own < self.program.defined).then(|| self.imported + own)
    }

    /// The index in the program of a function of the prepared module; `None` for all that the program did not bring.
    pub fn origin(&self, prepared: u32) -> Option<u32> {
        let own = prepared.checked_sub(self.imported)?;
        (own < self.program.defined).then(|| self.program.imported + own)
    }
}

/// Prepares a program for execution under a job's limits. Linear in the program's length.
///
/// # Errors
///
/// All of [`check`](crate::check())'s; [`Error::MemoryLimit`]; [`Error::MemoryTooSmall`] if the program begins with more
/// memory than `limits` allow.
pub fn prepare(wasm: &[u8], limits: &Limits) -> Result<Prepared, Error> {
    of_kind(wasm, limits, Kind::Program)
}

/// Prepares a module that is no program: it need not have `_start` nor a memory, may import functions of any name, and
/// keeps its exports, to which `conun:fuel` and `conun:depth` are added. For the official test suite and for fuzzing.
///
/// # Errors
///
/// As [`prepare`].
#[doc(hidden)]
pub fn prepare_library(wasm: &[u8], limits: &Limits) -> Result<Prepared, Error> {
    of_kind(wasm, limits, Kind::Library)
}

fn of_kind(wasm: &[u8], limits: &Limits, kind: Kind) -> Result<Prepared, Error> {
    if limits.memory_bytes > MAX_MEMORY_BYTES {
        return Err(Error::MemoryLimit { asked: limits.memory_bytes });
    }
    let program = check::accept(wasm, kind)?;
    let merged = match kind {
        Kind::Program => Cow::Owned(wasi::merge(wasm)?),
        Kind::Library => Cow::Borrowed(wasm),
    };
    let source = source::Source::read(&merged)?;
    let bytes = module::write(&source, limits, kind)?;
    Ok(Prepared { bytes, program, imported: source.imported() })
}
