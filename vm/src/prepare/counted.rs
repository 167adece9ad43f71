//! Loops whose number of rounds is known when they begin.
//!
//! An innermost loop without any other branch than the one back, which adds a constant to a local and goes on until that
//! is zero or equals something that the loop leaves alone, is paid as a whole before its first round. Then nothing is
//! counted in it. Compilers make most of their hot loops so.

use wasm_encoder::InstructionSink;
use wasmparser::Operator;

/// Fuel that no task has: what a loop costs that never ends.
const ENDLESS: i64 = 1 << 61;

/// What the local is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Constant(i32),
    Local(u32),
}

/// A loop that is paid as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted {
    /// Index of its operator.
    pub(crate) at: u32,
    /// Fuel of one round.
    pub(crate) round: u64,
    local: u32,
    step: i32,
    bound: Bound,
}

/// Watches the operators of a loop for as long as it may be one that can be counted.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    at: u32,
    /// Operators since it began that decide about its end.
    last: Vec<Operator<'a>>,
    /// Locals that it writes to.
    written: Vec<u32>,
}

/// Operators that the end of a counted loop consists of, at most.
const TAIL: usize = 7;
/// Most writes to locals that are kept in mind.
const MOST_WRITES: usize = 64;

impl<'a> Watch<'a> {
    pub(crate) fn new(at: u32) -> Self {
        Self { at, last: Vec::new(), written: Vec::new() }
    }

    /// Takes the next operator; answers whether the loop may still be counted.
    pub(crate) fn next(&mut self, operator: &Operator<'a>) -> bool {
        use Operator as O;
        if matches!(self.last.last(), Some(O::BrIf { .. })) {
            return matches!(operator, O::End);
        }
        match operator {
            O::LocalSet { local_index } | O::LocalTee { local_index } => self.written.push(*local_index),
            O::BrIf { relative_depth: 0 } => {}
            O::Block { .. } | O::Loop { .. } | O::If { .. } | O::Else | O::End => return false,
            O::Br { .. } | O::BrIf { .. } | O::BrTable { .. } | O::Return | O::Unreachable => return false,
            O::Call { .. } | O::CallIndirect { .. } => return false,
            O::MemoryGrow { .. } | O::MemoryFill { .. } | O::MemoryCopy { .. } | O::MemoryInit { .. } => return false,
            _ => {}
        }
        if self.last.len() == TAIL {
            self.last.remove(0);
        }
        self.last.push(operator.clone());
        self.written.len() <= MOST_WRITES
    }

    /// The loop, at its end.
    pub(crate) fn finish(self, round: u64) -> Option<Counted> {
        use Operator as O;
        let bound = |operator: &Operator<'_>| match operator {
            O::LocalGet { local_index } => Some(Bound::Local(*local_index)),
            O::I32Const { value } => Some(Bound::Constant(*value)),
            _ => None,
        };
        let added = |operators: &[Operator<'_>]| match operators {
            [O::LocalGet { local_index: from }, O::I32Const { value }, O::I32Add, O::LocalTee { local_index: to }]
                if from == to =>
            {
                Some((*to, *value))
            }
            _ => None,
        };
        let tail = self.last.strip_suffix(&[O::BrIf { relative_depth: 0 }])?;
        let ((local, step), bound) = match tail {
            [first, middle @ .., O::I32Ne] if middle.len() == 4 && added(middle).is_some() => {
                (added(middle)?, bound(first)?)
            }
            [middle @ .., last, O::I32Ne] if middle.len() == 4 && added(middle).is_some() => {
                (added(middle)?, bound(last)?)
            }
            _ => (added(&tail[tail.len().checked_sub(4)?..])?, Bound::Constant(0)),
        };
        let writes = |local| self.written.iter().filter(|written| **written == local).count();
        let stays = match bound {
            Bound::Local(other) => writes(other) == 0,
            Bound::Constant(_) => true,
        };
        let countable = step.unsigned_abs().is_power_of_two() && writes(local) == 1 && stays;
        countable.then_some(Counted { at: self.at, round, local, step, bound })
    }
}

impl Counted {
    /// Leaves the fuel of all rounds on the stack, an i64.
    pub(crate) fn price(&self, code: &mut InstructionSink<'_>) {
        let step = self.step.unsigned_abs().cast_signed();
        // How far it is to go, in the direction of the steps; zero is all the way around.
        let way = |code: &mut InstructionSink<'_>| {
            let end = |code: &mut InstructionSink<'_>| {
                match self.bound {
                    Bound::Constant(value) => code.i32_const(value),
                    Bound::Local(local) => code.local_get(local),
                };
            };
            if self.step > 0 {
                end(code);
                code.local_get(self.local).i32_sub();
            } else {
                code.local_get(self.local);
                end(code);
                code.i32_sub();
            }
        };
        if step != 1 {
            // A way that is no whole number of steps never ends.
            code.i64_const(ENDLESS);
        }
        way(code);
        code.i32_const(step).i32_sub().i32_const(self.step.trailing_zeros().cast_signed()).i32_shr_u();
        code.i64_extend_i32_u().i64_const(1).i64_add().i64_const(self.round.cast_signed()).i64_mul();
        if step != 1 {
            way(code);
            code.i32_const(step.wrapping_sub(1)).i32_and().select();
        }
    }
}
