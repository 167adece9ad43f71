//! Blocks and branches: where control flow joins or parts, every operand is at home.

use std::collections::HashMap;

use wasmparser::{BlockType, Operator};

use super::{Operand, Translator, WINDOW};
use crate::{
    Error,
    machine::{
        flatten::read::unsupported,
        op::{self, BRANCH, IMMEDIATE, Unit},
    },
};

/// A comparison that a jump can make itself.
#[derive(Clone, Copy)]
pub(super) struct Condition {
    pub(super) op: u16,
    pub(super) a: u16,
    pub(super) b: Against,
}

#[derive(Clone, Copy)]
pub(super) enum Against {
    Slot(u16),
    Immediate(u32),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    Block,
    Loop,
    If,
}

/// A block that is open.
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Operands below it.
    pub(super) height: usize,
    /// Results at its end.
    pub(super) results: usize,
    /// Where a branch to a loop goes.
    pub(super) start: u32,
    /// Jumps to its end.
    pub(super) to_end: Vec<usize>,
    /// The jump over the first arm of an `if` to the second.
    pub(super) to_else: Option<usize>,
}

impl<'a> Translator<'_, '_, 'a> {
    pub(super) fn open(&mut self, kind: Kind, results: usize) {
        let frame =
            Frame { kind, height: self.operands.len(), results, start: self.here(), to_end: Vec::new(), to_else: None };
        self.last = None;
        if kind == Kind::Loop {
            self.label();
        }
        self.frames.push(frame);
    }

    pub(super) fn block_results(&self, ty: BlockType) -> Result<usize, Error> {
        match ty {
            BlockType::Empty => Ok(0),
            BlockType::Type(_) => Ok(1),
            BlockType::FuncType(index) => {
                let signature = self.all.module.types[index as usize];
                if signature.params > 0 || signature.results > 1 {
                    return Err(unsupported(self.offset, "a block with parameters or more than one result"));
                }
                Ok(signature.results)
            }
        }
    }

    /// Takes the topmost operand as a condition, or its opposite: the comparison that made it, if that can be jumped by.
    pub(super) fn condition(&mut self, holds: bool) -> Condition {
        let top = self.pop();
        if let Some(at) = self.maker(top) {
            let unit = self.all.out.units[at];
            let op = unit.op & 0xff;
            let integer = op::COMPARE_I32.contains(&op) || op::COMPARE_I64.contains(&op);
            // An i64 constant fits if its low half says it all.
            let narrow = if op::COMPARE_I64.contains(&op) {
                i64::from(unit.imm as i32).cast_unsigned() == unit.imm
            } else {
                integer
            };
            let b = match unit.op & !0xff {
                0 if integer || holds && op::COMPARE_FLOAT.contains(&op) => Some((op, Against::Slot(unit.b))),
                0 if op == op::I32_EQZ => Some((op::I32_EQ, Against::Immediate(0))),
                0 if op == op::I64_EQZ => Some((op::I64_EQ, Against::Immediate(0))),
                IMMEDIATE if narrow => Some((op, Against::Immediate(unit.imm as u32))),
                _ => None,
            };
            if let Some((op, b)) = b {
                self.all.out.units.pop();
                return Condition { op: if holds { op } else { op::inverse(op) }, a: unit.a, b };
            }
        }
        let op = if holds { op::I32_NE } else { op::I32_EQ };
        Condition { op, a: self.slot(top), b: Against::Immediate(0) }
    }

    /// Jumps to `target` (to be filled in later by [`Self::land`]) if the condition holds.
    pub(super) fn jump_if(&mut self, condition: Condition, target: u32) -> usize {
        let Condition { op, a, b } = condition;
        let target = u64::from(target);
        self.emit(match b {
            Against::Slot(b) => Unit { op: op | BRANCH, a, b, d: 0, imm: target },
            Against::Immediate(b) => {
                Unit { op: op | BRANCH | IMMEDIATE, a, b: 0, d: 0, imm: target | u64::from(b) << 32 }
            }
        })
    }

    pub(super) fn jump(&mut self, target: u32) -> usize {
        self.emit(Unit { op: op::JUMP, imm: u64::from(target), ..Unit::default() })
    }

    pub(super) fn frame(&mut self, depth: u32) -> usize {
        self.frames.len() - 1 - depth as usize
    }

    /// Operands that a branch to this block takes along.
    pub(super) fn carried(&self, frame: usize) -> usize {
        if self.frames[frame].kind == Kind::Loop { 0 } else { self.frames[frame].results }
    }

    /// Remembers that unit `at` jumps to a block: to its beginning for a loop, else to its end.
    pub(super) fn goes_to(&mut self, frame: usize, at: usize) {
        if self.frames[frame].kind == Kind::Loop {
            let start = u64::from(self.frames[frame].start);
            let imm = &mut self.all.out.units[at].imm;
            *imm = *imm & !0xffff_ffff | start;
        } else {
            self.frames[frame].to_end.push(at);
        }
    }

    /// Leaves for a block, for good.
    pub(super) fn branch(&mut self, frame: usize) {
        if self.frames[frame].kind == Kind::Function {
            return self.leave();
        }
        if self.carried(frame) == 1 {
            let (operand, height) = self.pop();
            let d = self.home(self.frames[frame].height);
            self.put(d, operand, height);
        }
        let at = self.jump(0);
        self.goes_to(frame, at);
    }

    pub(super) fn branch_if(&mut self, frame: usize) {
        let height = self.operands.len().saturating_sub(2);
        if self.carried(frame) == 1 && height != self.frames[frame].height {
            let not = self.condition(false);
            let over = self.jump_if(not, 0);
            let top = self.operands.len() - 1;
            let d = self.home(self.frames[frame].height);
            self.put(d, self.operands[top], top);
            let at = self.jump(0);
            self.goes_to(frame, at);
            self.land(over);
        } else {
            let condition = self.condition(true);
            if self.carried(frame) == 1 {
                self.go_home_top(1);
            }
            let at = self.jump_if(condition, 0);
            self.goes_to(frame, at);
        }
    }

    pub(super) fn branch_table(&mut self, targets: &wasmparser::BrTable<'_>) -> Result<(), Error> {
        let a = self.pop_slot();
        let default = self.frame(targets.default());
        let carried = self.carried(default);
        self.go_home_top(carried);
        self.emit(Unit { op: op::JUMP_TABLE, a, imm: u64::from(targets.len()), ..Unit::default() });
        // Jumps whose result must move first, by block.
        let mut moving: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut order = Vec::new();
        let all = targets.targets().chain([Ok(targets.default())]);
        for depth in all {
            let frame = self.frame(depth?);
            let at = self.jump(0);
            if carried == 1 && self.frames[frame].height + 1 != self.operands.len() {
                let jumps = moving.entry(frame).or_default();
                if jumps.is_empty() {
                    order.push(frame);
                }
                jumps.push(at);
            } else {
                self.goes_to(frame, at);
            }
        }
        for frame in order {
            for at in &moving[&frame] {
                self.land(*at);
            }
            let d = self.home(self.frames[frame].height);
            self.put(d, Operand::Home, self.operands.len() - 1);
            let at = self.jump(0);
            self.goes_to(frame, at);
        }
        Ok(())
    }

    /// Returns from the function.
    pub(super) fn leave(&mut self) {
        let a = self.params;
        if self.results == 0 {
            self.emit(Unit { op: op::RETURN, a, ..Unit::default() });
        } else {
            let b = self.pop_slot();
            self.emit(Unit { op: op::RETURN_VALUE, a, b, ..Unit::default() });
        }
    }

    pub(super) fn open_if(&mut self, results: usize) {
        let not = self.condition(false);
        self.go_home_top(WINDOW + 1);
        let over = self.jump_if(not, 0);
        self.open(Kind::If, results);
        self.frames.last_mut().expect("just opened").to_else = Some(over);
    }

    /// Ends the first arm of an `if`; `reached` if control flow can come here.
    pub(super) fn arm(&mut self, reached: bool) {
        let index = self.frames.len() - 1;
        if reached {
            if self.frames[index].results == 1 {
                self.go_home_top(1);
            }
            let at = self.jump(0);
            self.goes_to(index, at);
        }
        self.operands.truncate(self.frames[index].height);
        let over = self.frames[index].to_else.take().expect("an `else` belongs to an `if`");
        self.land(over);
    }

    /// Ends a block; `reached` if control flow can come here.
    pub(super) fn close(&mut self, reached: bool) -> Result<(), Error> {
        let frame = self.frames.pop().expect("validated code closes only what is open");
        if frame.kind == Kind::Function && frame.to_end.is_empty() {
            if reached {
                self.leave();
            }
            return Ok(());
        }
        if !reached && self.checked(&frame) {
            return Ok(());
        }
        if reached && frame.results == 1 {
            self.go_home_top(1);
        }
        if let Some(over) = frame.to_else {
            self.land(over);
        }
        for at in frame.to_end {
            self.land(at);
        }
        self.operands.truncate(frame.height);
        if frame.results == 1 {
            self.push(Operand::Home)?;
        }
        if frame.kind == Kind::Function {
            self.leave();
        }
        Ok(())
    }

    /// If this was `if (counter < 0) unreachable` right behind a [`op::CHARGE`] of that counter: makes one instruction of
    /// it all.
    pub(super) fn checked(&mut self, frame: &Frame) -> bool {
        let units = &mut self.all.out.units;
        let Some([charge, branch, trap]) = units.last_chunk::<3>().copied() else { return false };
        let at = units.len() - 3;
        let matches = frame.to_else == Some(at + 1)
            && frame.to_end.is_empty()
            && self.landed as usize <= at
            && charge.op == op::CHARGE
            && branch.op == op::I64_GE_S | BRANCH | IMMEDIATE
            && branch.a == charge.d
            && branch.imm >> 32 == 0
            && trap.op == op::TRAP;
        if matches {
            units.truncate(at + 1);
            units[at].op = op::CHARGE_OR_TRAP;
            self.last = None;
            self.operands.truncate(frame.height);
        }
        matches
    }

    /// Reads on where no control flow comes, up to where it may again.
    pub(super) fn skip(&mut self, operator: &Operator<'a>) -> Result<(), Error> {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => self.skipping += 1,
            Operator::Else if self.skipping == 1 => {
                self.skipping = 0;
                self.arm(false);
            }
            Operator::End => {
                self.skipping -= 1;
                if self.skipping == 0 {
                    self.close(false)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
