//! Compiling a program once and executing tasks with it.

use std::sync::Arc;

use wasmer::{
    AsStoreMut, Engine, FunctionEnv, Global, Instance, InstantiationError, LinkError, Module, Pages, RuntimeError,
    Store, TypedFunction, Value, WASM_PAGE_SIZE,
    sys::{CompilerConfig, Cranelift, CraneliftOptLevel, EngineBuilder, Features, NativeEngineExt, vm::TrapCode},
};

use crate::{
    check::{Analysis, analyse},
    error::Error,
    limits::{Limits, MAX_ARGS_BYTES, MAX_FUEL, MAX_MEMORY_BYTES, MAX_OUTPUT_BYTES},
    memory::{Capped, HostFailures},
    meter::{FUEL_EXPORT, Meter},
    task::{Execution, Outcome, Task},
    wasi::{self, Host, Stop},
};

/// A program, checked and compiled for this machine, ready for any number of tasks, also at the same time.
#[derive(Clone, Debug)]
pub struct Program {
    engine: Engine,
    module: Module,
    limits: Limits,
    host_failures: HostFailures,
}

impl Program {
    /// Checks and compiles a program. Takes some 0.1 s per 100 kB of wasm; a hostile program can make it take longer, so
    /// that strangers' programs belong into a process with a time limit.
    ///
    /// # Errors
    ///
    /// All of [`check`](crate::check)'s; limits beyond the highest; a program that begins with more memory than
    /// `limits` allow; [`Error::Compile`].
    pub fn compile(wasm: &[u8], limits: Limits) -> Result<Self, Error> {
        if limits.memory_bytes > MAX_MEMORY_BYTES {
            return Err(Error::MemoryLimit { asked: limits.memory_bytes });
        }
        if limits.output_bytes > MAX_OUTPUT_BYTES {
            return Err(Error::OutputLimit { asked: limits.output_bytes });
        }
        let analysis = Arc::new(analyse(wasm)?);
        let page = WASM_PAGE_SIZE as u64;
        let cap = limits.memory_bytes / page;
        if analysis.min_pages > cap {
            return Err(Error::MemoryTooSmall { needs: analysis.min_pages * page, limit: limits.memory_bytes });
        }
        let host_failures = HostFailures::default();
        let pages = Pages(u32::try_from(cap).expect("at most 2^32 bytes are 2^16 pages"));
        let engine = engine(analysis, Capped::new(pages, host_failures.clone()));
        let module = Module::from_binary(&engine, wasm).map_err(|e| Error::Compile(e.to_string()))?;
        Ok(Self { engine, module, limits, host_failures })
    }

    /// The caps that the program was compiled with.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Executes one task from a fresh memory. Blocks the calling thread until the program ends or its fuel does.
    ///
    /// # Errors
    ///
    /// Arguments or a fuel limit that no program can get; or this machine could not execute the task, which is no
    /// verdict on it ([`Error::is_refusal`]). Everything that the program does wrong is [`Outcome::Failed`].
    pub fn execute(&self, task: &Task<'_>) -> Result<Execution, Error> {
        let fuel_limit = validate(task)?;
        let failures_before = self.host_failures.count();

        let mut store = Store::new(self.engine.clone());
        let env = FunctionEnv::new(&mut store, Host::new(task, self.limits.output_bytes));
        let imports = wasi::imports(&mut store, &env, &self.module);
        let ending = match Instance::new(&mut store, &self.module, &imports) {
            Ok(instance) => run(&mut store, &instance, &env, fuel_limit)?,
            Err(error) => Ending { outcome: instantiation_failed(error)?, fuel: 0 },
        };

        if self.host_failures.count() != failures_before {
            return Err(Error::HostMemory("it could not grow the task's memory".to_owned()));
        }
        let host = env.as_mut(&mut store);
        let output = match ending.outcome {
            Outcome::Ok { .. } => std::mem::take(&mut host.stdout),
            Outcome::Failed => Vec::new(),
        };
        let stderr = std::mem::take(&mut host.stderr);
        Ok(Execution { outcome: ending.outcome, output, fuel: ending.fuel, stderr })
    }
}

struct Ending {
    outcome: Outcome,
    fuel: u64,
}

/// One engine serves one module: the meter is made for it.
fn engine(analysis: Arc<Analysis>, tunables: Capped) -> Engine {
    let mut compiler = Cranelift::new();
    compiler.canonicalize_nans(true).opt_level(CraneliftOptLevel::Speed);
    compiler.push_middleware(Arc::new(Meter::new(analysis)));
    // Reference types only for the long form of `call_indirect`; `check` has refused their operators.
    let mut features = Features::none();
    features.bulk_memory(true).reference_types(true);
    let mut engine: Engine = EngineBuilder::new(compiler).set_features(Some(features)).engine().into();
    engine.set_tunables(tunables);
    engine
}

fn validate(task: &Task<'_>) -> Result<i64, Error> {
    if task.fuel_limit > MAX_FUEL {
        return Err(Error::FuelLimit { asked: task.fuel_limit });
    }
    let len = task.args.iter().map(|arg| arg.len() + 1).sum();
    if len > MAX_ARGS_BYTES {
        return Err(Error::ArgsTooLong { len });
    }
    if let Some(index) = task.args.iter().position(|arg| arg.contains('\0')) {
        return Err(Error::ArgWithNul { index });
    }
    Ok(i64::try_from(task.fuel_limit).expect("the highest fuel limit is below 2^63"))
}

fn run(store: &mut Store, instance: &Instance, env: &FunctionEnv<Host>, fuel_limit: i64) -> Result<Ending, Error> {
    let missing = |e: wasmer::ExportError| Error::Host(format!("an export of the checked program is gone: {e}"));
    let fuel = instance.exports.get_global(FUEL_EXPORT).map_err(missing)?.clone();
    let memory = instance.exports.get_memory("memory").map_err(missing)?.clone();
    let start: TypedFunction<(), ()> = instance.exports.get_typed_function(store, "_start").map_err(missing)?;
    fuel.set(store, Value::I64(fuel_limit)).map_err(|e| Error::Host(e.to_string()))?;
    env.as_mut(store).attach(memory, fuel.clone());

    let result = start.call(store);
    let left = fuel_left(&fuel, store)?;
    let outcome = match result {
        _ if left < 0 => Outcome::Failed,
        Ok(()) => Outcome::Ok { exit_code: 0 },
        Err(error) => ended(error)?,
    };
    let burned = fuel_limit - left.max(0);
    Ok(Ending { outcome, fuel: burned.cast_unsigned() })
}

pub(crate) fn fuel_left(fuel: &Global, store: &mut impl AsStoreMut) -> Result<i64, Error> {
    match fuel.get(store) {
        Value::I64(left) => Ok(left),
        other => Err(Error::Host(format!("the fuel left is {other:?}"))),
    }
}

/// What an ending other than a return means.
fn ended(error: RuntimeError) -> Result<Outcome, Error> {
    match error.downcast_ref::<Stop>() {
        Some(Stop::Exit(exit_code)) => return Ok(Outcome::Ok { exit_code: *exit_code }),
        Some(Stop::OutputFull | Stop::OutOfFuel) => return Ok(Outcome::Failed),
        Some(Stop::Host(reason)) => return Err(Error::Host(reason.clone())),
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

/// A data or element segment that does not fit traps before the first operator; all else is the host's.
fn instantiation_failed(error: InstantiationError) -> Result<Outcome, Error> {
    match error {
        InstantiationError::Start(trap) | InstantiationError::Link(LinkError::Trap(trap)) => ended(trap),
        InstantiationError::Link(LinkError::Resource(reason)) => Err(Error::HostMemory(reason)),
        other => Err(Error::Host(other.to_string())),
    }
}
