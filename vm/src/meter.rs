//! The meter: fuel and depth counted by the program's own code, inserted while it is compiled.
//!
//! Three globals are added behind the module's own; validation has happened before, so that no operator of the program
//! can name them.

use std::{
    mem,
    sync::{Arc, OnceLock},
};

use wasmer::{
    ExportIndex, GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type,
    sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware},
    wasmparser::{BlockType, Operator},
};

use crate::{
    check::Analysis,
    fuel::{BYTES_PER_FUEL_LOG2, DEPTH_SLOTS, FRAME_SLOTS, MEMORY_GROW},
};

/// Export under which the host finds the fuel left; below zero once it did not suffice.
pub(crate) const FUEL_EXPORT: &str = "conun:fuel";

/// Compiles metering into one module.
#[derive(Debug)]
pub(crate) struct Meter {
    analysis: Arc<Analysis>,
    globals: OnceLock<Globals>,
}

#[derive(Clone, Copy, Debug)]
struct Globals {
    /// i64: fuel left.
    fuel: u32,
    /// i32: slots of all callers.
    depth: u32,
    /// i32: length of the bulk operation about to run.
    length: u32,
}

impl Meter {
    /// The meter of the one module that `analysis` describes.
    pub(crate) fn new(analysis: Arc<Analysis>) -> Self {
        Self { analysis, globals: OnceLock::new() }
    }
}

impl ModuleMiddleware for Meter {
    fn generate_function_middleware<'a>(&self, function: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let values = self.analysis.frames[function.as_u32() as usize];
        Box::new(FunctionMeter {
            globals: *self.globals.get().expect("the engine describes a module before it compiles functions"),
            imported: self.analysis.imported,
            // A caller too large for the account must stop at its first call, not wrap around.
            frame: values.saturating_add(FRAME_SLOTS).min(DEPTH_SLOTS + 1),
            run: Vec::new(),
            cost: 0,
        })
    }

    fn transform_module_info(&self, module: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let mut add = |ty, init| {
            let index = module.globals.push(GlobalType::new(ty, Mutability::Var));
            module.global_initializers.push(init);
            index
        };
        let fuel = add(Type::I64, GlobalInit::I64Const(0));
        let depth = add(Type::I32, GlobalInit::I32Const(0));
        let length = add(Type::I32, GlobalInit::I32Const(0));
        module.exports.insert(FUEL_EXPORT.to_owned(), ExportIndex::Global(fuel));
        self.globals
            .set(Globals { fuel: fuel.as_u32(), depth: depth.as_u32(), length: length.as_u32() })
            .map_err(|_| MiddlewareError::new("conun meter", "one meter serves one module"))
    }
}

/// Meters one function. Holds a straight run back until its end is known, so that its charge comes first.
#[derive(Debug)]
struct FunctionMeter<'a> {
    globals: Globals,
    imported: u32,
    frame: u32,
    run: Vec<Operator<'a>>,
    cost: u64,
}

impl<'a> FunctionMeter<'a> {
    /// Fails the task unless the condition on top of the stack is zero.
    fn trap_if() -> [Operator<'a>; 3] {
        [Operator::If { blockty: BlockType::Empty }, Operator::Unreachable, Operator::End]
    }

    /// Takes the i64 that `amount` leaves on the stack off the fuel.
    fn charge(&mut self, amount: impl IntoIterator<Item = Operator<'a>>) -> impl Iterator<Item = Operator<'a>> {
        let fuel = self.globals.fuel;
        [Operator::GlobalGet { global_index: fuel }]
            .into_iter()
            .chain(amount.into_iter().collect::<Vec<_>>())
            .chain([
                Operator::I64Sub,
                Operator::GlobalSet { global_index: fuel },
                Operator::GlobalGet { global_index: fuel },
                Operator::I64Const { value: 0 },
                Operator::I64LtS,
            ])
            .chain(Self::trap_if())
    }

    /// Charges the run collected so far, then lets it go.
    fn flush(&mut self, state: &mut MiddlewareReaderState<'a>) {
        let cost = mem::take(&mut self.cost);
        if cost > 0 {
            let value = i64::try_from(cost).expect("a function has fewer than 2^23 operators");
            state.extend(self.charge([Operator::I64Const { value }]));
        }
        state.extend(self.run.drain(..));
    }

    /// A bulk operation, charged by the length on top of the stack.
    fn bulk(&mut self, operator: Operator<'a>) {
        let global_index = self.globals.length;
        let amount = [
            Operator::GlobalGet { global_index },
            Operator::I64ExtendI32U,
            Operator::I64Const { value: i64::from(BYTES_PER_FUEL_LOG2) },
            Operator::I64ShrU,
        ];
        let charge: Vec<_> = self.charge(amount).collect();
        self.run.push(Operator::GlobalSet { global_index });
        self.run.extend(charge);
        self.run.push(Operator::GlobalGet { global_index });
        self.run.push(operator);
    }

    /// A call, with the caller's frame on the account while it lasts.
    fn call(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) {
        let global_index = self.globals.depth;
        let frame = Operator::I32Const { value: self.frame.cast_signed() };
        state.extend([
            Operator::GlobalGet { global_index },
            frame.clone(),
            Operator::I32Add,
            Operator::GlobalSet { global_index },
            Operator::GlobalGet { global_index },
            Operator::I32Const { value: DEPTH_SLOTS.cast_signed() },
            Operator::I32GtU,
        ]);
        state.extend(Self::trap_if());
        state.extend([
            operator,
            Operator::GlobalGet { global_index },
            frame,
            Operator::I32Sub,
            Operator::GlobalSet { global_index },
        ]);
    }
}

/// Whether a run of operators ends with this one: control may leave or enter right after it.
fn ends_run(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::Else
            | Operator::End
            | Operator::Br { .. }
            | Operator::BrIf { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable
            | Operator::Call { .. }
            | Operator::CallIndirect { .. }
    )
}

impl<'a> FunctionMiddleware<'a> for FunctionMeter<'a> {
    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        self.cost += 1;
        match operator {
            Operator::MemoryGrow { .. } => {
                self.cost += MEMORY_GROW;
                self.run.push(operator);
            }
            Operator::MemoryFill { .. } | Operator::MemoryCopy { .. } | Operator::MemoryInit { .. } => {
                self.bulk(operator)
            }
            Operator::CallIndirect { .. } => {
                self.flush(state);
                self.call(operator, state);
            }
            Operator::Call { function_index } if function_index >= self.imported => {
                self.flush(state);
                self.call(operator, state);
            }
            operator => {
                let last = ends_run(&operator);
                self.run.push(operator);
                if last {
                    self.flush(state);
                }
            }
        }
        Ok(())
    }
}
