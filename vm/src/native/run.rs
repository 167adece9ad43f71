//! One execution, from a fresh instance to its result.

use std::io;

use wasmer::{
    FunctionEnv, Global, Instance, InstantiationError, LinkError, Memory, RuntimeError, Store, TypedFunction, Value,
    sys::vm::TrapCode,
};

use super::{
    Program,
    host::{self, Host, Sink, Stop},
};
use crate::{
    error::Error,
    limits::MAX_STDERR_BYTES,
    task::{Execution, Outcome, Source},
};

/// Executes one task whose terms have been checked.
pub(super) fn run<W: Sink>(
    program: &Program,
    input: impl Source,
    output: W,
    fuel_limit: u64,
) -> Result<Execution<W>, Error> {
    let failures_before = program.failures.count();
    let mut store = Store::new(program.engine.clone());
    let env = FunctionEnv::new(&mut store, Host::new(input, output, program.output_bytes));
    let imports = host::imports(&mut store, &env);
    let instance = Instance::new(&mut store, &program.module, &imports).map_err(not_instantiated)?;
    let exports = Exports::of(&instance, &store)?;
    env.as_mut(&mut store).attach([Some(exports.memory.clone()), exports.system.clone()]);

    let limit = fuel_limit.cast_signed();
    exports.fuel.set(&mut store, Value::I64(limit)).map_err(|error| Error::Host(error.to_string()))?;
    let ended = exports.start.call(&mut store);
    let left = match exports.fuel.get(&mut store) {
        Value::I64(left) => left,
        other => return Err(Error::Host(format!("the fuel left is {other:?}"))),
    };
    let outcome = match ended {
        // The stack of the host first: where it ends is the machine's matter, and so is whatever came of it.
        Err(error) => outcome_of(error)?,
        Ok(()) => Outcome::Ok { exit_code: 0 },
    };
    // A program that was told -1 by a host without memory would have gone another way on another machine.
    if program.failures.count() != failures_before {
        return Err(Error::HostMemory("it could not grow the task's memory".to_owned()));
    }
    let outcome = if left < 0 { Outcome::Failed } else { outcome };
    let stderr = log(&exports, &mut store).unwrap_or_default();
    let output =
        env.as_mut(&mut store).output.take().ok_or_else(|| Error::Host("a bug: the output is gone".to_owned()))?;
    Ok(Execution { outcome, output, fuel: (limit - left.max(0)).cast_unsigned(), stderr })
}

/// The exports of a prepared module.
struct Exports {
    start: TypedFunction<(), ()>,
    memory: Memory,
    system: Option<Memory>,
    fuel: Global,
    log: Option<Global>,
}

impl Exports {
    fn of(instance: &Instance, store: &Store) -> Result<Self, Error> {
        let missing = |error: wasmer::ExportError| Error::Host(format!("this is no prepared module: {error}"));
        Ok(Self {
            start: instance.exports.get_typed_function(store, "start").map_err(missing)?,
            memory: instance.exports.get_memory("memory").map_err(missing)?.clone(),
            system: instance.exports.get_memory("system").ok().cloned(),
            fuel: instance.exports.get_global("fuel").map_err(missing)?.clone(),
            log: instance.exports.get_global("log").ok().cloned(),
        })
    }
}

/// What the WASI layer has kept of standard error: a length, then the bytes. `None` if there is no layer.
fn log(exports: &Exports, store: &mut Store) -> Option<Vec<u8>> {
    let Value::I32(address) = exports.log.as_ref()?.get(store) else { return None };
    let memory = exports.system.as_ref()?.view(store);
    let at = u64::from(address.cast_unsigned());
    let mut length = [0; 4];
    memory.read(at, &mut length).ok()?;
    let mut bytes = vec![0; (u32::from_le_bytes(length) as usize).min(MAX_STDERR_BYTES)];
    memory.read(at + 4, &mut bytes).ok()?;
    Some(bytes)
}

/// What an ending other than a return means.
fn outcome_of(error: RuntimeError) -> Result<Outcome, Error> {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(exit_code)) => return Ok(Outcome::Ok { exit_code: *exit_code }),
        Some(Stop::Failed) => return Ok(Outcome::Failed),
        Some(Stop::Stream(error)) if error.kind() == io::ErrorKind::OutOfMemory => {
            return Err(Error::HostMemory(error.to_string()));
        }
        Some(Stop::Stream(error)) => return Err(Error::Host(format!("its input or output: {error}"))),
        None => {}
    }
    match error.clone().to_trap() {
        Some(
            TrapCode::HeapAccessOutOfBounds
            | TrapCode::TableAccessOutOfBounds
            | TrapCode::IndirectCallToNull
            | TrapCode::BadSignature
            | TrapCode::IntegerOverflow
            | TrapCode::IntegerDivisionByZero
            | TrapCode::BadConversionToInteger
            | TrapCode::UnreachableCodeReached,
        ) => Ok(Outcome::Failed),
        Some(TrapCode::StackOverflow) => Err(Error::NativeStack),
        _ => Err(Error::Host(error.message())),
    }
}

/// Preparation has seen to it that all segments fit, so that only the host can be at fault.
fn not_instantiated(error: InstantiationError) -> Error {
    match error {
        InstantiationError::Link(LinkError::Resource(reason)) => Error::HostMemory(reason),
        other => Error::Host(other.to_string()),
    }
}
