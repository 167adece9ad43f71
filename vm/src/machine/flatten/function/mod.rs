//! From the stack code of a function to instructions on the slots of its frame.
//!
//! A frame is: parameters, the way back, declared locals, operands. Validation fixes the height of the operand stack at
//! every instruction, so that an operand has a *home*, the slot of its height. While code is read, an operand is often
//! somewhere else yet: a local that was read is named by the instruction that uses it, a constant becomes part of it, and
//! a result goes straight to the local that it is put in. So most of `local.get`, `local.set` and `const` costs no step.
//!
//! Three rules keep that right. Before a local changes, operands that name it go home ([`Translator::release`]). Before
//! control flow joins or parts, all operands go home, so that every way to a place leaves them alike. Only the topmost
//! [`WINDOW`] operands may be elsewhere, so that the first rule is cheap however a hostile program is made.
//!
//! Here are the operands; `control` has blocks and branches, `operators` the rest.

mod control;
mod operators;

use control::{Frame, Kind};
use wasmparser::FunctionBody;

use super::{
    assembler::{Assembler, too_large},
    read::Signature,
};
use crate::{
    Error,
    machine::op::{self, IMMEDIATE, Unit},
};

/// How many of the topmost operands may be elsewhere than at home.
const WINDOW: usize = 16;

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    /// In the slot of its height.
    Home,
    /// In the slot of a local, which has not changed since.
    Local(u16),
    /// A local that has not changed since, and a constant more, as i32: an address, most often.
    Sum(u16, u32),
    /// Nowhere: it is this constant.
    Constant(u64),
}

impl Operand {
    /// The local that it depends on.
    fn local(self) -> Option<u16> {
        match self {
            Self::Local(slot) | Self::Sum(slot, _) => Some(slot),
            Self::Home | Self::Constant(_) => None,
        }
    }
}

/// One function on its way.
pub(super) struct Translator<'t, 'm, 'a> {
    all: &'t mut Assembler<'m, 'a>,
    params: u16,
    results: usize,
    /// Home of the lowest operand.
    base: u16,
    index: u32,
    /// Of the operator being read.
    offset: u64,
    operands: Vec<Operand>,
    frames: Vec<Frame>,
    /// Blocks open in code that no control flow reaches, plus one; 0 outside of such code.
    skipping: usize,
    /// The last unit, if all it did was to compute an operand, and nothing jumps behind it.
    last: Option<usize>,
    /// Unit that something jumped to last.
    landed: u32,
    /// Most operands at a time.
    greatest: u16,
}

impl<'t, 'm, 'a> Translator<'t, 'm, 'a> {
    /// Begins function `index`, found at `offset`, whose operands have their homes from slot `base` on.
    pub(super) fn new(
        all: &'t mut Assembler<'m, 'a>,
        signature: Signature,
        base: u16,
        index: u32,
        offset: u64,
    ) -> Self {
        Self {
            landed: all.out.units.len() as u32,
            all,
            params: signature.params as u16,
            results: signature.results,
            base,
            index,
            offset,
            operands: Vec::new(),
            frames: Vec::new(),
            skipping: 0,
            last: None,
            greatest: 0,
        }
    }
}

impl<'a> Translator<'_, '_, 'a> {
    /// Emits the whole function; answers how many slots its frame has.
    pub(super) fn translate(mut self, body: &FunctionBody<'a>) -> Result<u16, Error> {
        let mut zero = self.params + 1;
        while zero < self.base {
            let count = (self.base - zero).min(4);
            self.emit(Unit { op: op::ZERO, d: zero, a: count, ..Unit::default() });
            zero += count;
        }
        self.open(Kind::Function, self.results);
        for operator in body.get_operators_reader()?.into_iter_with_offsets() {
            let (operator, offset) = operator?;
            self.offset = offset;
            if self.skipping > 0 {
                self.skip(&operator)?;
            } else {
                self.operator(&operator)?;
            }
        }
        // `push` has proved that it fits.
        Ok(self.base + self.greatest)
    }

    // Units.

    fn here(&self) -> u32 {
        self.all.out.units.len() as u32
    }

    fn emit(&mut self, unit: Unit) -> usize {
        self.last = None;
        self.all.out.units.push(unit);
        self.all.out.units.len() - 1
    }

    /// Emits a unit with the topmost operand as its result.
    fn emit_result(&mut self, unit: Unit) -> Result<(), Error> {
        let d = self.push(Operand::Home)?;
        let at = self.emit(Unit { d, ..unit });
        self.last = Some(at);
        Ok(())
    }

    /// Has the jump at `unit` go to the next unit.
    fn land(&mut self, unit: usize) {
        let here = self.here();
        let imm = &mut self.all.out.units[unit].imm;
        *imm = *imm & !0xffff_ffff | u64::from(here);
        self.label();
    }

    /// Something jumps to the next unit.
    fn label(&mut self) {
        self.last = None;
        self.landed = self.here();
    }

    /// The unit that computed the operand at `height` and may still be changed: it was the last one, and put it home.
    fn maker(&mut self, (operand, height): (Operand, usize)) -> Option<usize> {
        let home = self.home(height);
        self.last.take().filter(|at| operand == Operand::Home && self.all.out.units[*at].d == home)
    }

    // Operands.

    fn home(&self, height: usize) -> u16 {
        // `push` has proved that it fits.
        self.base + height as u16
    }

    fn push(&mut self, operand: Operand) -> Result<u16, Error> {
        let height = self.operands.len();
        let top = u64::from(self.base) + height as u64 + 1;
        u16::try_from(top).map_err(|_| too_large(self.offset, self.index))?;
        if let Some(leaving) = height.checked_sub(WINDOW) {
            self.go_home(leaving);
        }
        self.operands.push(operand);
        self.greatest = self.greatest.max(height as u16 + 1);
        Ok(self.home(height))
    }

    /// The topmost operand, and where its home is. Validation has seen that there is one.
    fn pop(&mut self) -> (Operand, usize) {
        let operand = self.operands.pop().expect("validated code has the operands it uses");
        (operand, self.operands.len())
    }

    /// A slot that holds an operand.
    fn slot(&mut self, (operand, height): (Operand, usize)) -> u16 {
        let home = self.home(height);
        match operand {
            Operand::Home => home,
            Operand::Local(slot) => slot,
            Operand::Sum(..) | Operand::Constant(_) => {
                self.put(home, operand, height);
                home
            }
        }
    }

    fn pop_slot(&mut self) -> u16 {
        let top = self.pop();
        self.slot(top)
    }

    /// Puts an operand into slot `d`.
    fn put(&mut self, d: u16, operand: Operand, height: usize) {
        match operand {
            Operand::Home => self.copy(d, self.home(height)),
            Operand::Local(a) => self.copy(d, a),
            Operand::Sum(a, addend) => {
                self.emit(Unit { op: op::I32_ADD | IMMEDIATE, d, a, b: 0, imm: u64::from(addend) });
            }
            Operand::Constant(imm) => {
                self.emit(Unit { op: op::CONST, d, imm, ..Unit::default() });
            }
        }
    }

    fn copy(&mut self, d: u16, a: u16) {
        if a == d {
            return;
        }
        let here = self.here();
        match self.all.out.units.last_mut() {
            // Two moves are one step, if nothing jumps between them.
            Some(first) if first.op == op::MOVE && self.landed != here => {
                *first = Unit { op: op::MOVE_TWO, b: d, imm: u64::from(a), ..*first };
                self.last = None;
            }
            _ => {
                self.emit(Unit { op: op::MOVE, d, a, ..Unit::default() });
            }
        }
    }

    fn go_home(&mut self, height: usize) {
        if self.operands[height] != Operand::Home {
            self.put(self.home(height), self.operands[height], height);
            self.operands[height] = Operand::Home;
        }
    }

    /// Sends the topmost operands home, all if there are fewer.
    fn go_home_top(&mut self, count: usize) {
        for height in self.operands.len().saturating_sub(count)..self.operands.len() {
            self.go_home(height);
        }
    }

    /// Before local `slot` changes: operands that name it go home. Answers whether there were any.
    fn release(&mut self, slot: u16) -> bool {
        let mut any = false;
        for height in self.operands.len().saturating_sub(WINDOW)..self.operands.len() {
            if self.operands[height].local() == Some(slot) {
                self.go_home(height);
                any = true;
            }
        }
        any
    }

    fn local(&self, index: u32) -> u16 {
        let index = index as u16;
        if index < self.params { index } else { index + 1 }
    }

    fn set_local(&mut self, slot: u16) {
        let (operand, height) = self.pop();
        let maker = self.maker((operand, height));
        if self.release(slot) {
            return self.put(slot, operand, height);
        }
        match maker {
            Some(at) => {
                self.all.out.units[at].d = slot;
                self.last = Some(at);
            }
            None => self.put(slot, operand, height),
        }
    }
}
