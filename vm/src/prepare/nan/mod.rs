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

mod operators;

use std::collections::{HashMap, HashSet};

use wasmparser::{BlockType, FrameKind, FuncType, FunctionBody, MemArg, Operator, ValType};

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

    fn innermost(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("code is inside the function's frame")
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
