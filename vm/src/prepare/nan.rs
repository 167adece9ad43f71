//! Where bits of a NaN that the engine chose could be seen, and where they are made canonical instead.
//!
//! Only arithmetic makes such a NaN. Its bits show where a float becomes bytes or an integer, or leaves its function:
//! these are the *escapes*. Everything else (comparing, further arithmetic, converting) cannot tell one NaN from another.
//! Moved bits must stay as they are, also those of a NaN: language runtimes hide pointers in them.
//!
//! The analysis follows for each float whether it may be a fresh NaN of arithmetic ([`FRESH`]), and whether it may be a
//! NaN that was only moved ([`MOVED`]):
//!
//! - what is fresh only is made canonical at its escape. A sum that a loop builds up in a local costs nothing until it
//!   is stored; a local is made canonical in place, so that storing it again is free.
//! - what may be either, because control joins, cannot be mended there. The local it came from is then *eager*: it gets
//!   every fresh value already canonical.
//!
//! What a function gets (parameters, results of calls, globals, memory) is moved: whoever made it has made it canonical.
//! So the analysis looks at one function at a time. It repeats until what it assumed at loop heads holds, and if that
//! takes too long, it makes every local eager, which is always right.

use std::collections::{BTreeSet, HashMap, HashSet};

use wasmparser::{
    BlockType, ContType, FrameKind, FuncType, FunctionBody, MemArg, ModuleArity, Operator, RefType, SubType, ValType,
};

use super::{
    runs::{Run, Runs, Store},
    source::{Source, count},
    units::Liveness,
};
use crate::error::Error;

/// The only NaN of 32 bits that arithmetic is seen to make.
pub(crate) const CANONICAL_F32: u32 = 0x7fc0_0000;
/// The only NaN of 64 bits that arithmetic is seen to make.
pub(crate) const CANONICAL_F64: u64 = 0x7ff8_0000_0000_0000;

/// The value may be a NaN that arithmetic has made.
const FRESH: u8 = 1;
/// The value may be a NaN whose bits the program has chosen.
const MOVED: u8 = 2;

/// Times that one function is looked at before every local is made eager.
const MOST_PASSES: usize = 16;
/// Work that one byte of code may cause, and that a function of any length may: float locals times branches and
/// constructs, at each of which what all of them hold is joined. Beyond that every local is made eager at once.
const WORK_PER_BYTE: u64 = 256;
const WORK_PER_FUNCTION: u64 = 1 << 14;

/// A float's width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Float {
    F32,
    F64,
}

/// Where a function's values are to be made canonical.
#[derive(Debug, Default)]
pub(crate) struct Nans {
    /// Index of the operator whose result is to be made canonical right behind it, and the result's width. Ascending.
    places: Vec<(u32, Float)>,
    /// Which widths need a local to do so.
    scratch: HashSet<Float>,
    /// Stores that are looked at together, in the order of the code.
    runs: Vec<Run>,
}

impl Nans {
    /// Analyses a function of the module.
    ///
    /// # Errors
    ///
    /// None for a module that has been validated.
    pub(crate) fn of(source: &Source<'_>, function: u32, body: &FunctionBody<'_>) -> Result<Self, Error> {
        let mut flow = Flow::new(source, function, body)?;
        for _ in 0..if flow.lazy { MOST_PASSES } else { 0 } {
            flow.reset();
            flow.pass(body)?;
            if flow.settled {
                return Ok(flow.finish());
            }
        }
        flow.lazy = false;
        flow.reset();
        flow.pass(body)?;
        Ok(flow.finish())
    }

    /// Operators whose result is to be made canonical, ascending by index.
    pub(crate) fn places(&self) -> &[(u32, Float)] {
        &self.places
    }

    /// Runs of stores, in the order of the code.
    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Whether a local of that width is needed.
    pub(crate) fn needs_scratch(&self, float: Float) -> bool {
        self.scratch.contains(&float)
    }
}

/// Whether an instruction may make a NaN whose bits the engine chooses.
pub(crate) fn is_arithmetic(operator: &Operator<'_>) -> bool {
    arithmetic(operator).is_some()
}

fn arithmetic(operator: &Operator<'_>) -> Option<Float> {
    use Operator as O;
    match operator {
        O::F32Add | O::F32Sub | O::F32Mul | O::F32Div | O::F32Sqrt | O::F32Min | O::F32Max => Some(Float::F32),
        O::F32Ceil | O::F32Floor | O::F32Trunc | O::F32Nearest | O::F32DemoteF64 => Some(Float::F32),
        O::F64Add | O::F64Sub | O::F64Mul | O::F64Div | O::F64Sqrt | O::F64Min | O::F64Max => Some(Float::F64),
        O::F64Ceil | O::F64Floor | O::F64Trunc | O::F64Nearest | O::F64PromoteF32 => Some(Float::F64),
        _ => None,
    }
}

/// A value on the operand stack.
#[derive(Clone, Copy, Debug)]
struct Value {
    taint: u8,
    /// Where it can be made canonical, if it may be fresh.
    made: u32,
    float: Float,
    /// The local that it was read from or has just been written to, and how often that was written to before.
    local: Option<(u32, u32)>,
    /// The local that it came from, if that may hold either kind of NaN.
    mixed: Option<u32>,
    /// The load that gave it, if that may have read what an open run has stored.
    raw: Option<u32>,
}

/// An integer, or a float that is not fresh. Nothing depends on which.
const PLAIN: Value = Value { taint: MOVED, made: 0, float: Float::F64, local: None, mixed: None, raw: None };
/// A float that is no NaN, or the canonical one.
const NEUTRAL: Value = Value { taint: 0, ..PLAIN };

/// What each float local may hold, at one place of the code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State(Vec<u8>);

impl State {
    /// Takes in what may hold on another way here; answers whether that is news.
    fn join(&mut self, other: &Self) -> bool {
        let mut news = false;
        for (mine, others) in self.0.iter_mut().zip(&other.0) {
            news |= *mine | others != *mine;
            *mine |= others;
        }
        news
    }
}

#[derive(Debug)]
struct Frame {
    kind: FrameKind,
    ty: BlockType,
    /// The operator that opened it.
    opened: u32,
    /// Height of the operand stack below its own values.
    base: usize,
    /// What locals may hold where its label is; for an `if` whose `else` has not come, also what they held before.
    label: Option<State>,
    before: Option<State>,
}

#[derive(Debug)]
struct Flow<'a> {
    source: &'a Source<'a>,
    signature: &'a FuncType,
    /// Of each local: its width, and its place in a [`State`], if it is a float.
    locals: Vec<Option<(Float, u32)>>,
    /// What each float local holds when the function begins.
    initial: State,
    /// How often each float local has been written to, in the order of the code.
    versions: Vec<u32>,
    /// Whether locals may hold fresh values at all.
    lazy: bool,
    /// Locals that get fresh values only when they are canonical.
    eager: HashSet<u32>,
    /// What is assumed at each loop head; grows until it holds.
    heads: HashMap<u32, State>,
    /// Whether the pass has found its assumptions to hold.
    settled: bool,
    places: HashMap<u32, Float>,
    scratch: HashSet<Float>,
    runs: Runs,
    stack: Vec<Value>,
    frames: Vec<Frame>,
    state: State,
}

impl<'a> Flow<'a> {
    fn new(source: &'a Source<'a>, function: u32, body: &FunctionBody<'_>) -> Result<Self, Error> {
        let signature = source.signature(function);
        let mut locals = Vec::new();
        let mut initial = Vec::new();
        let mut add = |ty: ValType, taint: u8| {
            let float = match ty {
                ValType::F32 => Some(Float::F32),
                ValType::F64 => Some(Float::F64),
                _ => None,
            };
            locals.push(float.map(|float| (float, count(initial.len()))));
            if float.is_some() {
                initial.push(taint);
            }
        };
        for ty in signature.params() {
            add(*ty, MOVED);
        }
        for run in body.get_locals_reader()? {
            let (count, ty) = run?;
            (0..count).for_each(|_| add(ty, 0));
        }
        let mut joins = 0;
        for operator in body.get_operators_reader()? {
            joins += match operator? {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => 3,
                Operator::Br { .. } | Operator::BrIf { .. } => 1,
                Operator::BrTable { targets } => u64::from(targets.len()) + 1,
                _ => 0,
            };
        }
        let work = (initial.len() as u64).saturating_mul(joins);
        let lazy = work <= WORK_PER_FUNCTION.max(WORK_PER_BYTE * body.as_bytes().len() as u64);
        Ok(Self {
            source,
            signature,
            locals,
            state: State(Vec::new()),
            initial: State(if lazy { initial } else { Vec::new() }),
            lazy,
            eager: HashSet::new(),
            heads: HashMap::new(),
            versions: Vec::new(),
            settled: false,
            places: HashMap::new(),
            scratch: HashSet::new(),
            runs: Runs::default(),
            stack: Vec::new(),
            frames: Vec::new(),
        })
    }

    fn reset(&mut self) {
        self.settled = true;
        self.places.clear();
        self.scratch.clear();
        self.runs.clear();
        self.stack.clear();
        self.frames.clear();
        if !self.lazy {
            self.initial.0.clear();
        }
        self.versions.clear();
        self.versions.resize(self.initial.0.len(), 0);
        self.state = self.initial.clone();
    }

    fn finish(mut self) -> Nans {
        let (runs, alone) = self.runs.finish();
        for store in alone {
            self.places.insert(store.made, store.float);
            if store.scratch {
                self.scratch.insert(store.float);
            }
        }
        // The sum of a run is kept in one.
        self.scratch.extend(runs.iter().map(|run| run.stores[0].float));
        let mut places: Vec<_> = self.places.into_iter().collect();
        places.sort_unstable();
        Nans { places, scratch: self.scratch, runs }
    }

    fn pass(&mut self, body: &FunctionBody<'_>) -> Result<(), Error> {
        self.open(FrameKind::Block, BlockType::Empty, 0);
        let mut live = Liveness::default();
        let mut operators = body.get_operators_reader()?;
        for at in 0.. {
            if operators.eof() {
                break;
            }
            let operator = operators.read()?;
            let falls_through = live.falls_through();
            if live.keep(&operator) {
                self.operator(&operator, at, falls_through)?;
            }
        }
        Ok(())
    }

    /// Notes that the value's bits will be seen, or that it meets another that may have been moved.
    fn escape(&mut self, value: Value) {
        self.kept(value);
        if value.taint & FRESH == 0 {
            return;
        }
        if let Some(local) = value.mixed {
            self.eager.insert(local);
            self.settled = false;
            return;
        }
        self.places.insert(value.made, value.float);
        match value.local {
            // It is made canonical in the local itself, whoever reads it next.
            Some((local, version)) => {
                if let Some((_, place)) = self.locals[local as usize]
                    && self.versions[place as usize] == version
                {
                    self.state.0[place as usize] = 0;
                }
            }
            None => {
                self.scratch.insert(value.float);
            }
        }
    }

    /// Notes that the value is put where its bits count, or where it is lost from sight.
    fn kept(&mut self, value: Value) {
        if let Some(load) = value.raw {
            self.runs.end_at_load(load);
        }
    }

    /// A store: at once canonical, or together with others.
    fn store(&mut self, at: u32, place: MemArg) {
        let value = self.pop();
        self.pop();
        if value.taint & FRESH == 0 || value.mixed.is_some() {
            self.runs.end(at);
            self.escape(value);
        } else {
            let Value { made, float, local, .. } = value;
            self.runs.store(Store { at, made, scratch: local.is_none(), float, place });
        }
    }

    fn escape_top(&mut self) {
        let value = self.pop();
        self.escape(value);
    }

    fn pop(&mut self) -> Value {
        self.stack.pop().expect("validated code has its operands")
    }

    fn push(&mut self, value: Value) {
        self.stack.push(value);
    }

    fn open(&mut self, kind: FrameKind, ty: BlockType, at: u32) {
        let base = self.stack.len();
        self.frames.push(Frame { kind, ty, opened: at, base, label: None, before: None });
    }

    /// What locals may hold now also holds at a label.
    fn branch(&mut self, depth: u32) {
        let index = self.frames.len() - 1 - depth as usize;
        let frame = &mut self.frames[index];
        if frame.kind == FrameKind::Loop {
            let head = self.heads.get_mut(&frame.opened).expect("a head is entered before it is branched to");
            self.settled &= !head.join(&self.state);
        } else {
            join(&mut frame.label, &self.state);
        }
    }

    /// The values that a branch to a label takes along, which it finds on top of the stack: there they meet others.
    fn carry(&mut self, depth: u32) {
        let index = self.frames.len() - 1 - depth as usize;
        if self.arity(index) && self.frames[index].kind != FrameKind::Loop {
            let value = *self.stack.last().expect("validated code has its operands");
            self.escape(value);
        }
    }

    /// Whether a label takes a value; the function's own takes its result.
    fn arity(&self, index: usize) -> bool {
        if index == 0 { !self.signature.results().is_empty() } else { self.frames[index].ty != BlockType::Empty }
    }

    fn operator(&mut self, operator: &Operator<'_>, at: u32, falls_through: bool) -> Result<(), Error> {
        use Operator as O;
        if self.runs.is_open() && ends_run(operator) {
            self.runs.end(at);
        }
        if let Some(float) = arithmetic(operator) {
            let (pops, _) = fixed_arity(operator);
            self.drop(pops);
            self.push(Value { taint: FRESH, made: at, float, ..PLAIN });
            return Ok(());
        }
        match *operator {
            O::F32Store { memarg } | O::F64Store { memarg } => self.store(at, memarg),
            O::F32Load { .. } | O::F64Load { .. } => {
                self.pop();
                let raw = self.runs.is_open().then_some(at);
                self.push(Value { raw, ..PLAIN });
            }
            O::I32ReinterpretF32 | O::I64ReinterpretF64 | O::GlobalSet { .. } => {
                self.escape_top();
                if !matches!(operator, O::GlobalSet { .. }) {
                    self.push(PLAIN);
                }
            }
            O::F32Neg | O::F32Abs | O::F64Neg | O::F64Abs => {
                let value = self.pop();
                let passed = self.passed(value, at);
                self.push(passed);
            }
            O::F32Copysign | O::F64Copysign => {
                self.escape_top();
                let value = self.pop();
                let passed = self.passed(value, at);
                self.push(passed);
            }
            O::F32Const { value } => self.constant(value.bits() & 0x7fff_ffff > 0x7f80_0000),
            O::F64Const { value } => self.constant(value.bits() & (u64::MAX >> 1) > 0x7ff0_0000_0000_0000),
            O::F32ConvertI32S | O::F32ConvertI32U | O::F32ConvertI64S | O::F32ConvertI64U => self.converted(),
            O::F64ConvertI32S | O::F64ConvertI32U | O::F64ConvertI64S | O::F64ConvertI64U => self.converted(),
            O::Select | O::TypedSelect { .. } => self.select(at),
            O::LocalGet { local_index } => self.local_get(local_index, at),
            O::LocalSet { local_index } => {
                let value = self.pop();
                self.local_set(local_index, value);
            }
            O::LocalTee { local_index } => {
                let value = self.pop();
                self.local_set(local_index, value);
                if self.locals[local_index as usize].is_some() {
                    self.local_get(local_index, at);
                } else {
                    self.push(value);
                }
            }
            O::Block { blockty } => self.open(FrameKind::Block, blockty, at),
            O::Loop { blockty } => {
                self.open(FrameKind::Loop, blockty, at);
                let head = self.heads.entry(at).or_insert_with(|| self.state.clone());
                head.join(&self.state);
                self.state = head.clone();
            }
            O::If { blockty } => {
                self.pop();
                self.open(FrameKind::If, blockty, at);
                self.innermost().before = Some(self.state.clone());
            }
            O::Else => {
                self.arm_ends(falls_through);
                let before = self.innermost().before.take().expect("an `else` comes once");
                let frame = self.innermost();
                frame.kind = FrameKind::Else;
                let base = frame.base;
                self.stack.truncate(base);
                self.state = before;
            }
            O::End => self.close(falls_through),
            O::Br { relative_depth } => {
                self.carry(relative_depth);
                self.branch(relative_depth);
            }
            O::BrIf { relative_depth } => {
                self.pop();
                self.carry(relative_depth);
                self.branch(relative_depth);
            }
            O::BrTable { ref targets } => {
                self.pop();
                let mut seen = BTreeSet::from([targets.default()]);
                for target in targets.targets() {
                    seen.insert(target?);
                }
                for target in seen {
                    self.carry(target);
                    self.branch(target);
                }
            }
            O::Return => {
                if !self.signature.results().is_empty() {
                    self.escape_top();
                }
            }
            O::Call { function_index } => self.call(self.source.signature(function_index)),
            O::CallIndirect { type_index, .. } => {
                self.pop();
                self.call(&self.source.types[type_index as usize]);
            }
            _ => {
                let (pops, pushes) = fixed_arity(operator);
                self.drop(pops);
                (0..pushes).for_each(|_| self.push(PLAIN));
            }
        }
        Ok(())
    }

    fn call(&mut self, signature: &FuncType) {
        signature.params().iter().for_each(|_| self.escape_top());
        signature.results().iter().for_each(|_| self.push(PLAIN));
    }

    fn drop(&mut self, values: u32) {
        let height = self.stack.len().checked_sub(values as usize).expect("validated code has its operands");
        self.stack.truncate(height);
    }

    fn innermost(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("code is inside the function's frame")
    }

    fn constant(&mut self, is_nan: bool) {
        self.push(if is_nan { PLAIN } else { NEUTRAL });
    }

    fn converted(&mut self) {
        self.pop();
        self.push(NEUTRAL);
    }

    /// A value whose sign alone has changed: still as fresh, and to be made canonical here instead.
    fn passed(&mut self, value: Value, at: u32) -> Value {
        self.kept(value);
        Value { made: at, local: None, raw: None, ..value }
    }

    fn select(&mut self, at: u32) {
        self.pop();
        let (second, first) = (self.pop(), self.pop());
        self.kept(first);
        self.kept(second);
        let taint = first.taint | second.taint;
        let result = if taint & FRESH == 0 {
            Value { taint, ..PLAIN }
        } else if taint & MOVED == 0 {
            let float = if first.taint & FRESH != 0 { first.float } else { second.float };
            Value { taint, made: at, float, ..PLAIN }
        } else {
            self.escape(first);
            self.escape(second);
            PLAIN
        };
        self.push(result);
    }

    fn is_eager(&self, local: u32) -> bool {
        !self.lazy || self.eager.contains(&local)
    }

    fn local_get(&mut self, local: u32, at: u32) {
        let value = match self.locals[local as usize] {
            Some((float, place)) if !self.is_eager(local) => {
                let taint = self.state.0[place as usize];
                let mixed = (taint == FRESH | MOVED).then_some(local);
                Value { taint, made: at, float, local: Some((local, self.versions[place as usize])), mixed, raw: None }
            }
            _ => PLAIN,
        };
        self.push(value);
    }

    fn local_set(&mut self, local: u32, value: Value) {
        self.kept(value);
        let Some((_, place)) = self.locals[local as usize] else {
            return;
        };
        if self.is_eager(local) {
            self.escape(value);
        } else {
            self.state.0[place as usize] = value.taint;
            self.versions[place as usize] += 1;
        }
    }

    /// The values that fall out of a construct meet those that branches bring along.
    fn arm_ends(&mut self, falls_through: bool) {
        if falls_through {
            self.carry(0);
            let state = self.state.clone();
            join(&mut self.innermost().label, &state);
        }
    }

    fn close(&mut self, falls_through: bool) {
        if self.innermost().kind == FrameKind::Loop {
            // A loop's label is its head; behind its end comes only who falls through, with the values as they are.
            let frame = self.frames.pop().expect("validated code closes what it opened");
            if !falls_through {
                self.stack.truncate(frame.base);
                self.state.0.fill(0);
                (frame.ty != BlockType::Empty).then(|| self.push(PLAIN));
            }
            return;
        }
        self.arm_ends(falls_through);
        let has_result = self.arity(self.frames.len() - 1);
        let frame = self.frames.pop().expect("validated code closes what it opened");
        self.stack.truncate(frame.base);
        if has_result {
            self.push(PLAIN);
        }
        let mut label = frame.label;
        if let Some(before) = frame.before {
            // An `if` without `else`: the condition may not have held.
            join(&mut label, &before);
        }
        match label {
            Some(state) => self.state = state,
            // Nothing gets here.
            None => self.state.0.fill(0),
        }
    }
}

fn join(label: &mut Option<State>, state: &State) {
    match label {
        Some(label) => {
            label.join(state);
        }
        None => *label = Some(state.clone()),
    }
}

/// Whether a run of stores ends before an operator: control may go elsewhere, or it may see or change what was stored.
fn ends_run(operator: &Operator<'_>) -> bool {
    use Operator as O;
    let is_control = matches!(
        operator,
        O::Block { .. }
            | O::Loop { .. }
            | O::If { .. }
            | O::Else
            | O::End
            | O::Br { .. }
            | O::BrIf { .. }
            | O::BrTable { .. }
            | O::Return
            | O::Unreachable
            | O::Call { .. }
            | O::CallIndirect { .. }
    );
    // Of all that accesses memory, loads and stores of floats alone stay in a run.
    let accesses_others = matches!(
        operator,
        O::I32Load { .. }
            | O::I64Load { .. }
            | O::I32Load8S { .. }
            | O::I32Load8U { .. }
            | O::I32Load16S { .. }
            | O::I32Load16U { .. }
            | O::I64Load8S { .. }
            | O::I64Load8U { .. }
            | O::I64Load16S { .. }
            | O::I64Load16U { .. }
            | O::I64Load32S { .. }
            | O::I64Load32U { .. }
            | O::I32Store { .. }
            | O::I64Store { .. }
            | O::I32Store8 { .. }
            | O::I32Store16 { .. }
            | O::I64Store8 { .. }
            | O::I64Store16 { .. }
            | O::I64Store32 { .. }
            | O::MemoryGrow { .. }
            | O::MemoryFill { .. }
            | O::MemoryCopy { .. }
            | O::MemoryInit { .. }
    );
    is_control || accesses_others
}

/// Values that an operator takes and gives, if that is the same wherever it stands.
fn fixed_arity(operator: &Operator<'_>) -> (u32, u32) {
    operator.operator_arity(&Nowhere).expect("calls and control are handled one by one")
}

/// No module: nothing that is asked for here depends on one.
struct Nowhere;

impl ModuleArity for Nowhere {
    fn sub_type_at(&self, _: u32) -> Option<&SubType> {
        None
    }

    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, _: u32) -> Option<u32> {
        None
    }

    fn func_type_of_cont_type(&self, _: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        0
    }

    fn label_block(&self, _: u32) -> Option<(BlockType, FrameKind)> {
        None
    }
}
