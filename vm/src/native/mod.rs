//! The native engine: prepared modules as machine code, by wasmer and Cranelift.
//!
//! - [`Program`]: compile once, execute any number of tasks
//! - `host`: the four imports; `memory`: what is the host's fault and not the program's
//! - [`Cache`]: compiled programs on disk, for this machine and nobody else's

mod cache;
mod engine;
mod host;
mod memory;
mod run;

use std::num::NonZero;

use bytes::Bytes;
use wasmer::{Engine, Module};

pub use cache::Cache;
pub use engine::engine_id;

use crate::{
    error::Error,
    input::MAX_INPUT_BYTES,
    limits::{Limits, MAX_FUEL, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES},
    task::{Execution, Task},
};
use memory::HostFailures;

/// A prepared program as native code of this machine, ready for any number of tasks, also at the same time.
#[derive(Clone, Debug)]
pub struct Program {
    module: Module,
    engine: Engine,
    output_bytes: usize,
    failures: HostFailures,
}

impl Program {
    /// Prepares and compiles a program.
    ///
    /// # Errors
    ///
    /// All of [`prepare`](crate::prepare())'s and [`Program::from_prepared`]'s.
    pub fn compile(wasm: &[u8], limits: Limits) -> Result<Self, Error> {
        Self::from_prepared(crate::prepare(wasm, &limits)?.as_bytes(), limits)
    }

    /// Compiles a prepared module, on all processors. Takes some 0.1 s per 100 kB of wasm; a hostile program can make it take
    /// longer, so that strangers' programs belong into a process with limits.
    ///
    /// # Errors
    ///
    /// An output limit beyond the highest; [`Error::Compile`].
    pub fn from_prepared(prepared: &[u8], limits: Limits) -> Result<Self, Error> {
        let output_bytes = check(limits)?;
        let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let failures = HostFailures::default();
        let engine = engine::compiling(threads, failures.clone());
        let module = Module::from_binary(&engine, prepared).map_err(|error| Error::Compile(error.to_string()))?;
        Ok(Self { module, engine, output_bytes, failures })
    }

    /// The native code, for [`Program::load`] on this very machine.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] if the engine cannot write it down.
    pub fn artifact(&self) -> Result<Bytes, Error> {
        self.module.serialize().map_err(|error| Error::Host(error.to_string()))
    }

    /// Takes native code up again, without a compiler.
    ///
    /// # Errors
    ///
    /// An output limit beyond the highest; [`Error::Host`] if the bytes are no artifact of this engine.
    ///
    /// # Safety
    ///
    /// `artifact` must be what [`Program::artifact`] gave for a prepared module under the same [`engine_id`] and
    /// [`PROFILE`](crate::PROFILE), unchanged. It is native code: whoever can choose these bytes can do all that this process can.
    #[expect(unsafe_code, reason = "native code from bytes; the caller vouches for them")]
    pub unsafe fn load(artifact: Bytes, limits: Limits) -> Result<Self, Error> {
        let output_bytes = check(limits)?;
        let failures = HostFailures::default();
        let engine = engine::headless(failures.clone());
        // SAFETY: the caller vouches for the bytes.
        let module = unsafe { Module::deserialize(&engine, aligned(artifact)) };
        let module = module.map_err(|error| Error::Host(format!("the compiled program cannot be loaded: {error}")))?;
        Ok(Self { module, engine, output_bytes, failures })
    }

    /// Executes one task from a fresh memory. Blocks the calling thread until the program ends or its fuel does.
    ///
    /// # Errors
    ///
    /// A fuel limit or input beyond the highest; or this machine could not execute the task, which is no verdict on it
    /// ([`Error::is_refusal`]). Everything that the program does wrong is [`Outcome::Failed`](crate::Outcome::Failed).
    pub fn execute(&self, task: &Task) -> Result<Execution, Error> {
        if task.fuel_limit > MAX_FUEL {
            return Err(Error::FuelLimit { asked: task.fuel_limit });
        }
        if task.input.len() as u64 > MAX_INPUT_BYTES {
            return Err(Error::InputTooLong { len: task.input.len() as u64 });
        }
        run::run(self, task)
    }
}

/// The same bytes where the engine can read them in place: its tables must begin at a multiple of their alignment.
fn aligned(bytes: Bytes) -> Bytes {
    const ALIGNMENT: usize = 16;
    if bytes.as_ptr().addr().is_multiple_of(ALIGNMENT) {
        return bytes;
    }
    let mut copy: Vec<u8> = Vec::with_capacity(bytes.len() + ALIGNMENT);
    // The vector has all its room: it does not move any more.
    copy.resize(copy.as_ptr().addr().wrapping_neg() % ALIGNMENT, 0);
    let start = copy.len();
    copy.extend_from_slice(&bytes);
    Bytes::from(copy).slice(start..)
}

fn check(limits: Limits) -> Result<usize, Error> {
    if limits.memory_bytes > MAX_MEMORY_BYTES {
        return Err(Error::MemoryLimit { asked: limits.memory_bytes });
    }
    if limits.output_bytes > MAX_OUTPUT_BYTES {
        return Err(Error::OutputLimit { asked: limits.output_bytes });
    }
    Ok(usize::try_from(limits.output_bytes).expect("the highest limit is below 2^32"))
}
