//! Which instructions are paid together: the units of one function.
//!
//! A unit is a set of instructions that is charged when control enters it. At first it has those of which either all are
//! executed or none, traps apart. A straight run of code is one, and so is what comes after a nested construct that no branch inside
//! leaves to farther away: whoever enters `block … end` comes out at its end, so that the code behind is paid together
//! with the code before. Small pieces that a condition decides about are paid with what comes before it, too: to count
//! them one by one would cost more than they do. SPEC.md, section 5, has the rule.

use wasmparser::{FuncValidator, FunctionBody, Operator, ValidatorResources};

use super::{
    counted::{Counted, Watch},
    source::count,
};
use crate::{error::Error, fuel};

/// What one pass over a function's body finds.
#[derive(Debug)]
pub(crate) struct Shape {
    /// Index of the operator behind which each unit begins, and its fuel. Ascending; the first begins with the function,
    /// and has its declared locals in it.
    pub(crate) units: Vec<(u32, u64)>,
    /// Direct calls of functions: the function and the unit that the call is in.
    pub(crate) sites: Vec<(u32, u32)>,
    /// Types of indirect calls.
    pub(crate) indirect: Vec<u32>,
    /// Indices of the `loop`s to whose head a branch leads. Ascending.
    pub(crate) heads: Vec<u32>,
    /// Loops that are paid as a whole; they are not among `heads`, and their rounds not among `units`. Ascending.
    pub(crate) counted: Vec<Counted>,
    /// Parameters and declared locals.
    pub(crate) locals: u32,
    /// Greatest height of the operand stack.
    pub(crate) height: u32,
    /// Operators that are kept.
    pub(crate) operators: u32,
    /// Whether it does something that a helper charges for.
    pub(crate) helped: bool,
    /// Whether it computes with floats, so that there may be NaNs of the engine's choice.
    pub(crate) arithmetic: bool,
}

/// Says of each operator whether control can get to it, as far as the structure of the code tells.
///
/// What follows an unconditional branch, up to the end of the construct, is left out of a prepared module: it has no
/// meaning, and its operand stack has no height.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// While in dead code: constructs opened in it.
    dead: Option<u32>,
}

impl Liveness {
    /// Whether the operator is to be kept. The `else` or `end` that closes a construct always is.
    pub(crate) fn keep(&mut self, operator: &Operator<'_>) -> bool {
        let ends = matches!(
            operator,
            Operator::Br { .. } | Operator::BrTable { .. } | Operator::Return | Operator::Unreachable
        );
        match &mut self.dead {
            None => {
                if ends {
                    self.dead = Some(0);
                }
                true
            }
            Some(nested) => match operator {
                Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                    *nested += 1;
                    false
                }
                Operator::Else | Operator::End if *nested == 0 => {
                    self.dead = None;
                    true
                }
                Operator::End => {
                    *nested -= 1;
                    false
                }
                _ => false,
            },
        }
    }

    /// Whether control gets behind the operator last kept.
    pub(crate) fn falls_through(&self) -> bool {
        self.dead.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A `block`, and the function itself: its label is at its end.
    Block,
    Loop,
    If,
}

#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Index of the operator that opened it.
    opened: u32,
    /// The unit in which it was opened.
    outer: usize,
    /// The outermost frame that a branch inside leads to.
    reaches: usize,
    /// Whether a branch leads to its own label.
    targeted: bool,
}

#[derive(Debug)]
struct Builder {
    /// Of each unit: the operator after which it begins, fuel.
    units: Vec<(u32, u64)>,
    /// Of each unit: the one that must have been entered before; itself for a function's first and a loop's.
    before: Vec<usize>,
    current: usize,
    frames: Vec<Frame>,
}

impl Builder {
    /// Begins a unit that is entered at most once for each time that the unit `before` is.
    fn begin(&mut self, after: u32, before: usize) {
        self.current = self.units.len();
        self.units.push((after, 0));
        self.before.push(before);
    }

    /// Lets small units be paid with those before them, whether control gets to them or not. Answers which unit each is
    /// paid with.
    fn merge(&mut self) -> Vec<usize> {
        let mut paid_with: Vec<usize> = (0..self.units.len()).collect();
        let mut taken_in = vec![0; self.units.len()];
        for unit in (0..self.units.len()).rev() {
            let (before, (_, fuel)) = (self.before[unit], self.units[unit]);
            if before != unit && fuel <= fuel::SMALL_UNIT && taken_in[before] + fuel <= fuel::TAKEN_IN {
                taken_in[before] += fuel;
                self.units[before].1 += fuel;
                self.units[unit].1 = 0;
                paid_with[unit] = before;
            }
        }
        // A unit comes behind the one before it, so that chains resolve in one pass.
        for unit in 0..paid_with.len() {
            paid_with[unit] = paid_with[paid_with[unit]];
        }
        paid_with
    }

    fn open(&mut self, kind: Kind, opened: u32) {
        self.frames.push(Frame { kind, opened, outer: self.current, reaches: usize::MAX, targeted: false });
    }

    fn branch(&mut self, depth: u32) {
        let target = self.frames.len() - 1 - depth as usize;
        self.frames[target].targeted = true;
        let inner = self.frames.last_mut().expect("code is inside the function's frame");
        inner.reaches = inner.reaches.min(target);
    }

    /// At the end of a loop that was watched: takes its rounds out of the units if they can be counted before.
    fn count(&mut self, watch: Watch<'_>) -> Option<Counted> {
        let frame = self.frames.last().expect("a loop is open");
        // The loop's own unit is the one that was begun first in it.
        let own = self.units.iter().rposition(|(after, _)| *after == frame.opened)?;
        let counted = watch.finish(self.units[own].1)?;
        self.units[own].1 = 0;
        Some(counted)
    }

    /// Closes a construct: the unit that goes on behind it. Answers the loop's position if it is one that repeats.
    fn close(&mut self, at: u32, falls_through: bool) -> Option<u32> {
        let frame = self.frames.pop().expect("validated code closes what it opened");
        let index = self.frames.len();
        if let Some(outer) = self.frames.last_mut() {
            outer.reaches = outer.reaches.min(frame.reaches);
        }
        if frame.reaches >= index {
            self.current = frame.outer;
        } else if frame.kind == Kind::If || !falls_through || (frame.kind == Kind::Block && frame.targeted) {
            self.begin(at, frame.outer);
        }
        (frame.kind == Kind::Loop && frame.targeted).then_some(frame.opened)
    }
}

impl Shape {
    /// Validates a body and divides it into units.
    ///
    /// # Errors
    ///
    /// What the validator finds; a merged module has none.
    pub(crate) fn of(body: &FunctionBody<'_>, func: &mut FuncValidator<ValidatorResources>) -> Result<Self, Error> {
        let parameters = func.len_locals();
        let mut reader = body.get_binary_reader();
        func.read_locals(&mut reader)?;
        let declared = func.len_locals() - parameters;

        let entry = u64::from(declared.div_ceil(fuel::LOCALS_PER_FUEL));
        let mut builder = Builder { units: vec![(0, entry)], before: vec![0], current: 0, frames: Vec::new() };
        builder.open(Kind::Block, 0);
        let mut shape = Self {
            units: Vec::new(),
            sites: Vec::new(),
            indirect: Vec::new(),
            heads: Vec::new(),
            counted: Vec::new(),
            locals: func.len_locals(),
            height: 0,
            operators: 0,
            helped: false,
            arithmetic: false,
        };
        let mut live = Liveness::default();
        let mut operators = body.get_operators_reader()?;
        let mut watch: Option<Watch<'_>> = None;
        let mut at = 0;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            func.op(offset, &operator)?;
            let falls_through = live.falls_through();
            if live.keep(&operator) {
                if watch.as_mut().is_some_and(|watch| !watch.next(&operator)) {
                    watch = None;
                }
                match operator {
                    Operator::Loop { .. } => watch = Some(Watch::new(at)),
                    Operator::End => shape.counted.extend(watch.take().and_then(|watch| builder.count(watch))),
                    _ => {}
                }
                shape.add(&mut builder, &operator, at, falls_through)?;
                shape.height = shape.height.max(func.operand_stack_height());
                shape.operators += 1;
            }
            at += 1;
        }
        operators.finish()?;

        shape.heads.sort_unstable();
        shape.heads.retain(|head| shape.counted.binary_search_by_key(head, |counted| counted.at).is_err());
        let paid_with = builder.merge();
        for (_, unit) in &mut shape.sites {
            *unit = count(paid_with[*unit as usize]);
        }
        shape.units = builder.units;
        Ok(shape)
    }

    fn add(
        &mut self,
        builder: &mut Builder,
        operator: &Operator<'_>,
        at: u32,
        falls_through: bool,
    ) -> Result<(), Error> {
        builder.units[builder.current].1 += fuel::of(operator);
        match operator {
            Operator::Block { .. } => builder.open(Kind::Block, at),
            Operator::Loop { .. } => {
                builder.open(Kind::Loop, at);
                builder.begin(at, builder.units.len());
            }
            Operator::If { .. } => {
                builder.open(Kind::If, at);
                builder.begin(at, builder.current);
            }
            Operator::Else => {
                let outer = builder.frames.last().expect("an `else` is in an `if`").outer;
                builder.begin(at, outer);
            }
            Operator::End => self.heads.extend(builder.close(at, falls_through)),
            Operator::Br { relative_depth } => builder.branch(*relative_depth),
            Operator::BrIf { relative_depth } => {
                builder.branch(*relative_depth);
                builder.begin(at, builder.current);
            }
            Operator::BrTable { targets } => {
                for target in targets.targets() {
                    builder.branch(target?);
                }
                builder.branch(targets.default());
            }
            Operator::Return => {
                let outermost = u32::try_from(builder.frames.len() - 1).expect("a body has fewer than 2^32 bytes");
                builder.branch(outermost);
            }
            Operator::Call { function_index } => self.sites.push((*function_index, count(builder.current))),
            Operator::CallIndirect { type_index, .. } => self.indirect.push(*type_index),
            Operator::MemoryGrow { .. }
            | Operator::MemoryFill { .. }
            | Operator::MemoryCopy { .. }
            | Operator::MemoryInit { .. } => self.helped = true,
            _ => self.arithmetic |= super::nan::is_arithmetic(operator),
        }
        Ok(())
    }
}
