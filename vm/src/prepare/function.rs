//! One function, written anew: fuel, depth, canonical NaNs.
//!
//! Where the fuel is while a function runs depends on what the function can do:
//!
//! - without loops each unit takes its fuel off the global;
//! - with loops it is in a local, written back at each loop head (so that a trap bills the work done), before each call
//!   and at the end, and read again after each call.
//!
//! A function that writes back at its end, or has depth to give back, gets its body into one `block`, whose label takes
//! the place of the function's own: every way out then leads through the same code.

use wasm_encoder::{BlockType, Function, Instruction, InstructionSink, ValType, reencode::Reencode};
use wasmparser::{FunctionBody, Operator};

use super::{
    calls::Role,
    counted::Counted,
    helpers::{Globals, Helper},
    module::{Context, value_type},
    nan::{self, Float},
    runs::Run,
    source::count,
    units::{Liveness, Shape},
};
use crate::error::Error;

/// Locals that preparation adds to a function, behind its own.
#[derive(Clone, Copy, Debug)]
struct Scratch {
    /// i64: fuel left.
    fuel: u32,
    /// i64: depth left.
    depth: u32,
    f32: u32,
    f64: u32,
    /// Of a run of stores: the first of the locals for addresses, and for values of either width.
    addresses: u32,
    values_f32: u32,
    values_f64: u32,
}

/// What is added to one function.
#[derive(Debug)]
struct Plan {
    globals: Globals,
    scratch: Scratch,
    /// Slots on the depth account while it runs, if it is counted.
    frame: Option<i64>,
    /// Whether its fuel is in a local while it runs.
    fuel_in_local: bool,
    /// Whether fuel is checked at both ends.
    checked: bool,
    /// Whether fuel is checked behind calls.
    long: bool,
    /// Whether its callers pay.
    free: bool,
}

impl Plan {
    /// The local that keeps the value of the nth store of a run.
    fn value(&self, float: Float, nth: u32) -> u32 {
        match float {
            Float::F32 => self.scratch.values_f32 + nth,
            Float::F64 => self.scratch.values_f64 + nth,
        }
    }

    /// The local in which a value is looked at.
    fn sum(&self, float: Float) -> u32 {
        match float {
            Float::F32 => self.scratch.f32,
            Float::F64 => self.scratch.f64,
        }
    }

    fn has_epilogue(&self) -> bool {
        self.frame.is_some() || self.fuel_in_local || self.checked
    }
}

/// Writes a function of the program or of the WASI layer.
///
/// # Errors
///
/// None for a module that has been validated.
pub(crate) fn write(
    context: &mut Context<'_>,
    index: u32,
    body: &FunctionBody<'_>,
    shape: &Shape,
) -> Result<Function, Error> {
    let nans = if shape.arithmetic { nan::Nans::of(context.source, index, body)? } else { nan::Nans::default() };

    let mut locals = Vec::new();
    for run in body.get_locals_reader()? {
        let (count, ty) = run?;
        locals.push((count, value_type(ty)));
    }
    let role = context.source.roles[index as usize];
    let fuel_in_local = !shape.heads.is_empty();
    let frame = role.frame.map(i64::from);
    let mut next = shape.locals;
    let mut scratches = |needed: u32, ty| {
        let first = next;
        if needed > 0 {
            locals.push((needed, ty));
            next += needed;
        }
        first
    };
    let longest = |width: Option<Float>| {
        let runs = nans.runs().iter().filter(|run| width.is_none_or(|width| run.stores[0].float == width));
        runs.map(|run| count(run.stores.len())).max().unwrap_or(0)
    };
    let addresses = scratches(longest(None), ValType::I32);
    let values_f32 = scratches(longest(Some(Float::F32)), ValType::F32);
    let values_f64 = scratches(longest(Some(Float::F64)), ValType::F64);
    let mut scratch = |needed: bool, ty| scratches(u32::from(needed), ty);
    let scratch = Scratch {
        fuel: scratch(fuel_in_local || role.checked || frame.is_some(), ValType::I64),
        depth: scratch(frame.is_some(), ValType::I64),
        f32: scratch(nans.needs_scratch(Float::F32), ValType::F32),
        f64: scratch(nans.needs_scratch(Float::F64), ValType::F64),
        addresses,
        values_f32,
        values_f64,
    };
    let Role { checked, long, free, .. } = role;
    let plan = Plan { globals: context.globals, scratch, frame, fuel_in_local, checked, long, free };

    let mut writer = Writer {
        function: Function::new(locals),
        plan: &plan,
        live: Liveness::default(),
        nesting: 0,
        synced: true,
        units: &shape.units[1..],
        heads: &shape.heads,
        counted: &shape.counted,
        nans: nans.places(),
        runs: nans.runs(),
        stored: 0,
    };
    writer.prologue(shape.units[0].1);
    if plan.has_epilogue() {
        let result = context.source.signature(index).results().first();
        writer.code().block(result.map_or(BlockType::Empty, |ty| BlockType::Result(value_type(*ty))));
    }
    let mut operators = body.get_operators_reader()?;
    for at in 0.. {
        if operators.eof() {
            break;
        }
        let operator = operators.read()?;
        if writer.live.keep(&operator) {
            writer.operator(context, at, operator)?;
        }
    }
    if plan.has_epilogue() {
        writer.epilogue();
    }
    Ok(writer.function)
}

struct Writer<'p> {
    function: Function,
    plan: &'p Plan,
    live: Liveness,
    /// Constructs open.
    nesting: u32,
    /// Whether the global is known to have the same fuel as the local.
    synced: bool,
    /// What of the plan is still ahead, each ascending by position.
    units: &'p [(u32, u64)],
    heads: &'p [u32],
    counted: &'p [Counted],
    nans: &'p [(u32, Float)],
    runs: &'p [Run],
    /// Stores already done of the first of these runs.
    stored: u32,
}

impl Writer<'_> {
    fn code(&mut self) -> InstructionSink<'_> {
        self.function.instructions()
    }

    /// Charges the first unit, takes the frame, and checks both at once: below zero either way, and the task fails.
    fn prologue(&mut self, cost: u64) {
        let Plan { globals, scratch, frame, fuel_in_local, checked, free, .. } = *self.plan;
        let cost = cost.cast_signed();
        let mut code = self.code();
        if free {
            return;
        }
        if checked || frame.is_some() {
            code.global_get(globals.fuel).i64_const(cost).i64_sub().local_tee(scratch.fuel).global_set(globals.fuel);
            code.local_get(scratch.fuel);
            if let Some(frame) = frame {
                code.global_get(globals.depth).i64_const(frame).i64_sub().local_tee(scratch.depth);
                code.global_set(globals.depth).local_get(scratch.depth).i64_or();
            }
            code.i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
        } else if fuel_in_local {
            code.global_get(globals.fuel).i64_const(cost).i64_sub().local_set(scratch.fuel);
            self.synced = false;
        } else if cost > 0 {
            code.global_get(globals.fuel).i64_const(cost).i64_sub().global_set(globals.fuel);
        }
    }

    fn epilogue(&mut self) {
        let Plan { globals, scratch, frame, fuel_in_local, checked, .. } = *self.plan;
        if fuel_in_local {
            self.code().local_get(scratch.fuel).global_set(globals.fuel);
        }
        if checked {
            self.code().global_get(globals.fuel).i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
        }
        if let Some(frame) = frame {
            self.code().local_get(scratch.depth).i64_const(frame).i64_add().global_set(globals.depth);
        }
        self.code().end();
    }

    fn operator(&mut self, context: &mut Context<'_>, at: u32, operator: Operator<'_>) -> Result<(), Error> {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => self.nesting += 1,
            Operator::End => self.nesting = self.nesting.saturating_sub(1),
            _ => {}
        }
        if let Some((run, rest)) = self.runs.split_first()
            && run.end == at
        {
            self.look_at(context, run)?;
            self.runs = rest;
            self.stored = 0;
        }
        if let Some(run) = self.runs.first()
            && let Some(store) = run.stores.get(self.stored as usize)
            && store.at == at
        {
            let (address, value) =
                (self.plan.scratch.addresses + self.stored, self.plan.value(store.float, self.stored));
            self.stored += 1;
            self.code().local_set(value).local_tee(address).local_get(value);
        }
        if let Some((counted, rest)) = self.counted.split_first()
            && counted.at == at
        {
            self.pay(counted);
            self.counted = rest;
        }
        let labels = matches!(operator, Operator::Loop { .. } | Operator::Else | Operator::End);
        let helper = helper(context, &operator);
        let float = match self.nans.split_first() {
            Some(((position, float), rest)) if *position == at => {
                self.nans = rest;
                Some(*float)
            }
            _ => None,
        };
        match (operator, helper, float) {
            (Operator::Return, ..) if self.plan.has_epilogue() => {
                let out = self.nesting;
                self.code().br(out);
            }
            (operator @ Operator::Call { function_index }, ..) => {
                let callee = context.source.roles[function_index as usize];
                let call = context.indices.instruction(operator)?;
                if callee.free {
                    self.function.instruction(&call);
                } else {
                    self.around_call(&call);
                }
                if self.plan.long && callee.burns {
                    self.check();
                }
            }
            (operator @ Operator::CallIndirect { .. }, ..) => {
                let call = context.indices.instruction(operator)?;
                self.around_call(&call);
                if self.plan.long {
                    self.check();
                }
            }
            (_, Some(index), _) => {
                self.around_call(&Instruction::Call(index));
            }
            (Operator::LocalGet { local_index }, _, Some(float)) => {
                self.canonical_local(local_index, float);
                self.code().local_get(local_index);
            }
            (Operator::LocalTee { local_index }, _, Some(float)) => {
                self.code().local_set(local_index);
                self.canonical_local(local_index, float);
                self.code().local_get(local_index);
            }
            (operator, ..) => {
                self.function.instruction(&context.indices.instruction(operator)?);
                if let Some(float) = float {
                    let local = self.plan.sum(float);
                    self.code().local_set(local);
                    self.canonical_local(local, float);
                    self.code().local_get(local);
                }
            }
        }
        if labels {
            self.synced = false;
        }
        self.charge(at);
        Ok(())
    }

    /// Charges the unit that begins behind the operator, if one does; at a loop's head also checks.
    fn charge(&mut self, at: u32) {
        let mut cost = 0;
        while let Some(((position, more), rest)) = self.units.split_first()
            && *position == at
        {
            self.units = rest;
            cost += more.cast_signed();
        }
        let Plan { globals, scratch, fuel_in_local, .. } = *self.plan;
        let head = self.heads.first() == Some(&at);
        let mut code = self.code();
        if head {
            code.local_get(scratch.fuel).i64_const(cost).i64_sub().local_tee(scratch.fuel).global_set(globals.fuel);
            code.local_get(scratch.fuel).i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
            self.heads = &self.heads[1..];
            self.synced = true;
        } else if cost > 0 && fuel_in_local {
            code.local_get(scratch.fuel).i64_const(cost).i64_sub().local_set(scratch.fuel);
            self.synced = false;
        } else if cost > 0 {
            code.global_get(globals.fuel).i64_const(cost).i64_sub().global_set(globals.fuel);
        }
    }

    /// Pays for all rounds of a loop before it begins, and checks.
    fn pay(&mut self, counted: &Counted) {
        let Plan { globals, scratch, fuel_in_local, .. } = *self.plan;
        let mut code = self.code();
        if fuel_in_local {
            code.local_get(scratch.fuel);
            counted.price(&mut code);
            code.i64_sub().local_tee(scratch.fuel).global_set(globals.fuel).local_get(scratch.fuel);
        } else {
            code.global_get(globals.fuel);
            counted.price(&mut code);
            code.i64_sub().global_set(globals.fuel).global_get(globals.fuel);
        }
        code.i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    }

    /// Fails the task if its fuel has not sufficed.
    fn check(&mut self) {
        let Plan { globals, scratch, fuel_in_local, .. } = *self.plan;
        let mut code = self.code();
        if fuel_in_local {
            code.local_get(scratch.fuel);
        } else {
            code.global_get(globals.fuel);
        }
        code.i64_const(0).i64_lt_s().if_(BlockType::Empty).unreachable().end();
    }

    /// A call, with the fuel where the callee takes it from, and read again afterwards.
    fn around_call(&mut self, call: &Instruction<'_>) {
        let Plan { globals, scratch, fuel_in_local, .. } = *self.plan;
        if fuel_in_local && !self.synced {
            self.code().local_get(scratch.fuel).global_set(globals.fuel);
        }
        self.function.instruction(call);
        if fuel_in_local {
            self.code().global_get(globals.fuel).local_set(scratch.fuel);
            self.synced = true;
        }
    }

    /// Behind a run of stores: if any of them may have been a NaN, does all of them again.
    fn look_at(&mut self, context: &mut Context<'_>, run: &Run) -> Result<(), Error> {
        let float = run.stores[0].float;
        let (values, sum) = (self.plan.value(float, 0), self.plan.sum(float));
        let addresses = self.plan.scratch.addresses;
        let mut code = self.code();
        code.block(BlockType::Empty).local_get(values);
        for value in (values + 1..).take(run.stores.len() - 1) {
            code.local_get(value);
            match float {
                Float::F32 => code.f32_add(),
                Float::F64 => code.f64_add(),
            };
        }
        code.local_tee(sum).local_get(sum);
        match float {
            Float::F32 => code.f32_ge(),
            Float::F64 => code.f64_ge(),
        };
        code.br_if(0);
        for (nth, store) in (0..).zip(&run.stores) {
            self.canonical_local(values + nth, float);
            let place = context.indices.mem_arg(store.place)?;
            let mut code = self.code();
            code.local_get(addresses + nth).local_get(values + nth);
            match float {
                Float::F32 => code.f32_store(place),
                Float::F64 => code.f64_store(place),
            };
        }
        self.code().end();
        Ok(())
    }

    /// Makes a NaN in a local the canonical one. A branch that is nearly never taken costs less than a `select`, which
    /// lengthens every chain of computations that it is in.
    fn canonical_local(&mut self, local: u32, float: Float) {
        let mut code = self.code();
        code.block(BlockType::Empty).local_get(local).local_get(local);
        match float {
            Float::F32 => {
                code.f32_ge().br_if(0).f32_const(f32::from_bits(nan::CANONICAL_F32).into());
            }
            Float::F64 => {
                code.f64_ge().br_if(0).f64_const(f64::from_bits(nan::CANONICAL_F64).into());
            }
        }
        code.local_set(local).end();
    }
}

/// The helper that takes an instruction's place.
fn helper(context: &mut Context<'_>, operator: &Operator<'_>) -> Option<u32> {
    let helper = match *operator {
        Operator::MemoryGrow { mem } => Helper::Grow { memory: mem, max_pages: context.max_pages[mem as usize] },
        Operator::MemoryFill { mem } => Helper::Fill { memory: mem },
        Operator::MemoryCopy { dst_mem, src_mem } => Helper::Copy { to: dst_mem, from: src_mem },
        Operator::MemoryInit { data_index, mem } => Helper::Init { memory: mem, segment: data_index },
        _ => return None,
    };
    Some(context.helpers.index(helper))
}
