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

use std::{io, num::NonZero};

use bytes::Bytes;
use wasmer::{Engine, Module};

pub use cache::Cache;
pub use engine::engine_id;

use crate::{
    error::Error,
    input::MAX_INPUT_BYTES,
    limits::{Limits, MAX_FUEL, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES},
    task::{Execution, Outcome, Source, Task},
};
use memory::HostFailures;

/// A prepared program as native code of this machine, ready for any number of tasks, also at the same time.
#[derive(Clone, Debug)]
pub struct Program {
    module: Module,
    engine: Engine,
    output_bytes: u64,
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
    /// ([`Error::is_refusal`]). Everything that the program does wrong is [`Outcome::Failed`].
    pub fn execute(&self, task: &Task) -> Result<Execution, Error> {
        let done = self.execute_into(task.input.clone(), Collected(Vec::new()), task.fuel_limit)?;
        let Execution { outcome, output, fuel, stderr } = done;
        let output = if outcome == Outcome::Failed { Vec::new() } else { output.0 };
        Ok(Execution { outcome, output, fuel, stderr })
    }

    /// Executes one task whose input and output need not be in memory. What the program writes goes to `output` at once, at most the
    /// job's limit; when the task fails, what it has written by then is no part of its result.
    ///
    /// # Errors
    ///
    /// As [`Program::execute`]. That `input` cannot be read, or `output` not be written to, is no verdict on the task.
    pub fn execute_into<W: io::Write + Send + 'static>(
        &self,
        input: impl Source,
        output: W,
        fuel_limit: u64,
    ) -> Result<Execution<W>, Error> {
        if fuel_limit > MAX_FUEL {
            return Err(Error::FuelLimit { asked: fuel_limit });
        }
        if input.length() > MAX_INPUT_BYTES {
            return Err(Error::InputTooLong { len: input.length() });
        }
        run::run(self, input, output, fuel_limit)
    }
}

/// An output in memory. A vector's own way to be written to ends the process when there is no memory left.
struct Collected(Vec<u8>);

impl io::Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_reserve(bytes.len())?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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

fn check(limits: Limits) -> Result<u64, Error> {
    if limits.memory_bytes > MAX_MEMORY_BYTES {
        return Err(Error::MemoryLimit { asked: limits.memory_bytes });
    }
    if limits.output_bytes > MAX_OUTPUT_BYTES {
        return Err(Error::OutputLimit { asked: limits.output_bytes });
    }
    Ok(limits.output_bytes)
}
