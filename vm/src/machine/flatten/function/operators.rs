//! What becomes of each operator.

use wasmparser::{MemArg, Operator};

use super::{Operand, Translator, WINDOW, control::Kind};
use crate::{
    Error,
    machine::{
        flatten::{assembler::host, read::unsupported},
        op::{self, IMMEDIATE, Unit},
    },
};

impl<'a> Translator<'_, '_, 'a> {
    pub(super) fn operator(&mut self, operator: &Operator<'a>) -> Result<(), Error> {
        match *operator {
            Operator::Nop => {}
            Operator::Unreachable => {
                self.emit(Unit { op: op::TRAP, ..Unit::default() });
                self.skipping = 1;
            }
            Operator::Block { blockty } => {
                let results = self.block_results(blockty)?;
                self.go_home_top(WINDOW + 1);
                self.open(Kind::Block, results);
            }
            Operator::Loop { blockty } => {
                let results = self.block_results(blockty)?;
                self.go_home_top(WINDOW + 1);
                self.open(Kind::Loop, results);
            }
            Operator::If { blockty } => {
                let results = self.block_results(blockty)?;
                self.open_if(results);
            }
            Operator::Else => self.arm(true),
            Operator::End => self.close(true)?,
            Operator::Br { relative_depth } => {
                let frame = self.frame(relative_depth);
                self.branch(frame);
                self.skipping = 1;
            }
            Operator::BrIf { relative_depth } => {
                let frame = self.frame(relative_depth);
                self.branch_if(frame);
            }
            Operator::BrTable { ref targets } => {
                self.branch_table(targets)?;
                self.skipping = 1;
            }
            Operator::Return => {
                self.leave();
                self.skipping = 1;
            }
            Operator::Call { function_index } => self.call(function_index)?,
            Operator::CallIndirect { type_index, table_index: 0 } => self.call_indirect(type_index)?,
            Operator::Drop => {
                self.pop();
            }
            Operator::Select | Operator::TypedSelect { .. } => {
                let condition = self.pop_slot();
                let (b, a) = (self.pop(), self.pop());
                let (b, a) = (self.slot(b), self.slot(a));
                self.emit_result(Unit { op: op::SELECT, d: 0, a, b, imm: u64::from(condition) })?;
            }
            Operator::LocalGet { local_index } => {
                self.push(Operand::Local(self.local(local_index)))?;
            }
            Operator::LocalSet { local_index } => self.set_local(self.local(local_index)),
            Operator::LocalTee { local_index } => {
                let slot = self.local(local_index);
                self.set_local(slot);
                self.push(Operand::Local(slot))?;
            }
            Operator::GlobalGet { global_index } => {
                let imm = u64::from(self.all.module.global_slots[global_index as usize]);
                self.emit_result(Unit { op: op::GLOBAL_GET, imm, ..Unit::default() })?;
            }
            Operator::GlobalSet { global_index } => self.set_global(global_index),
            Operator::I32Const { value } => {
                self.push(Operand::Constant(u64::from(value.cast_unsigned())))?;
            }
            Operator::I64Const { value } => {
                self.push(Operand::Constant(value.cast_unsigned()))?;
            }
            Operator::F32Const { value } => {
                self.push(Operand::Constant(u64::from(value.bits())))?;
            }
            Operator::F64Const { value } => {
                self.push(Operand::Constant(value.bits()))?;
            }
            _ => self.memory_or_number(operator)?,
        }
        Ok(())
    }

    pub(super) fn call(&mut self, function: u32) -> Result<(), Error> {
        let signature = self.all.module.signature(function);
        self.go_home_top(signature.params);
        let d = self.operands.len() - signature.params;
        self.operands.truncate(d);
        if let Some(host_function) = self.all.module.imports.get(function as usize) {
            if let Some(unit) = host(*host_function, self.home(d), self.home(d)) {
                self.emit(unit);
            }
        } else {
            let unit = Unit { op: op::CALL, d: self.home(d), a: signature.params as u16, ..Unit::default() };
            let at = self.emit(unit);
            self.all.out.calls.push((at, function));
        }
        if signature.results > 0 {
            self.push(Operand::Home)?;
        }
        Ok(())
    }

    pub(super) fn call_indirect(&mut self, type_index: u32) -> Result<(), Error> {
        let signature = self.all.module.types[type_index as usize];
        if signature.results > 1 {
            return Err(unsupported(self.offset, "an indirect call with more than one result"));
        }
        let b = self.pop_slot();
        self.go_home_top(signature.params);
        let d = self.operands.len() - signature.params;
        self.operands.truncate(d);
        let imm = u64::from(signature.id) | (self.all.module.table.len() as u64) << 32;
        let unit = Unit { op: op::CALL_INDIRECT, d: self.home(d), a: signature.params as u16, b, imm };
        self.emit(unit);
        if signature.results > 0 {
            self.push(Operand::Home)?;
        }
        Ok(())
    }

    pub(super) fn set_global(&mut self, global: u32) {
        let slot = self.all.module.global_slots[global as usize];
        let last = self.last;
        let top = self.pop();
        if let Some(at) = self.maker(top)
            && let Some(add) = self.counted(at, slot)
        {
            self.all.out.units.truncate(at - 1);
            self.emit(add);
            return;
        }
        let a = self.slot(top);
        if let Some(at) = last.filter(|at| *at + 1 == self.all.out.units.len())
            && let unit = &mut self.all.out.units[at]
            && unit.d == a
            && let Some(less) = subtracted(unit)
            && let Ok(b) = u16::try_from(slot)
        {
            *unit = Unit { op: op::CHARGE, b, imm: less, ..*unit };
            self.last = None;
        } else {
            self.emit(Unit { op: op::GLOBAL_SET, a, imm: u64::from(slot), ..Unit::default() });
        }
    }

    /// A counter's pattern, `g = g + constant`, in one step instead of three: if the units at `at` and before it are its
    /// first two, and nothing jumps between them.
    pub(super) fn counted(&self, at: usize, slot: u32) -> Option<Unit> {
        let add = self.all.out.units[at];
        let get = self.all.out.units[at.checked_sub(1)?];
        let expected = Unit { op: op::GLOBAL_GET, d: add.d, imm: u64::from(slot), ..Unit::default() };
        if get != expected || add.a != add.d || self.landed as usize == at {
            return None;
        }
        let imm = subtracted(&add)?.wrapping_neg();
        Some(Unit { op: op::GLOBAL_ADD, d: u16::try_from(slot).ok()?, imm, ..Unit::default() })
    }

    pub(super) fn memory_or_number(&mut self, operator: &Operator<'a>) -> Result<(), Error> {
        let maximum = |memory: u32| u64::from(self.all.module.memories[memory as usize].maximum);
        match *operator {
            Operator::MemorySize { mem } => {
                self.emit_result(Unit { op: op::MEMORY_SIZE, imm: u64::from(mem), ..Unit::default() })
            }
            Operator::MemoryGrow { mem } => {
                let imm = u64::from(mem) | maximum(mem) << 32;
                let a = self.pop_slot();
                self.emit_result(Unit { op: op::MEMORY_GROW, a, imm, ..Unit::default() })?;
                self.last = None;
                Ok(())
            }
            Operator::MemoryCopy { dst_mem, src_mem } => self.bulk(op::MEMORY_COPY, u64::from(dst_mem | src_mem << 1)),
            Operator::MemoryFill { mem } => self.bulk(op::MEMORY_FILL, u64::from(mem)),
            Operator::MemoryInit { data_index, mem } => {
                let slot = self.all.segment_slot(data_index);
                self.bulk(op::MEMORY_INIT, u64::from(mem | slot << 1))
            }
            Operator::DataDrop { data_index } => {
                let slot = self.all.segment_slot(data_index);
                self.emit(Unit { op: op::DROP, imm: u64::from(slot), ..Unit::default() });
                Ok(())
            }
            Operator::I32ReinterpretF32
            | Operator::I64ReinterpretF64
            | Operator::F32ReinterpretI32
            | Operator::F64ReinterpretI64
            | Operator::I64ExtendI32U => Ok(()),
            Operator::I32TruncSatF32S => self.unary(0xC5),
            Operator::I32TruncSatF32U => self.unary(0xC6),
            Operator::I32TruncSatF64S => self.unary(0xC7),
            Operator::I32TruncSatF64U => self.unary(0xC8),
            Operator::I64TruncSatF32S => self.unary(0xC9),
            Operator::I64TruncSatF32U => self.unary(0xCA),
            Operator::I64TruncSatF64S => self.unary(0xCB),
            Operator::I64TruncSatF64U => self.unary(0xCC),
            _ => {
                // What is left has a single byte, which is the instruction's number, too.
                let byte = self.all.module.wasm[self.offset as usize];
                match u16::from(byte) {
                    op @ 0x28..=0x3E => match memory_argument(operator) {
                        Some(memory) => self.access(op, memory),
                        None => Err(self.refuse(operator)),
                    },
                    op @ (0x46..=0x4F | 0x51..=0x66 | 0x6A..=0x78 | 0x7C..=0x8A | 0x92..=0x98 | 0xA0..=0xA6) => {
                        self.binary(op)
                    }
                    op @ (0x45 | 0x50 | 0x67..=0x69 | 0x79..=0x7B | 0x8B..=0x91 | 0x99..=0x9F | 0xA7..=0xC4) => {
                        self.unary(op)
                    }
                    _ => Err(self.refuse(operator)),
                }
            }
        }
    }

    pub(super) fn refuse(&self, operator: &Operator<'_>) -> Error {
        unsupported(self.offset, format!("the instruction {operator:?}"))
    }

    pub(super) fn unary(&mut self, op: u16) -> Result<(), Error> {
        let top = self.pop();
        if op == op::I32_EQZ
            && let Some(at) = self.maker(top)
        {
            // The opposite of an integer comparison is another one.
            let unit = &mut self.all.out.units[at];
            let number = unit.op & 0xff;
            if op::COMPARE_I32.contains(&number) || op::COMPARE_I64.contains(&number) {
                unit.op = op::inverse(number) | unit.op & !0xff;
                self.push(Operand::Home)?;
                self.last = Some(at);
                return Ok(());
            }
        }
        let a = self.slot(top);
        self.emit_result(Unit { op, a, ..Unit::default() })
    }

    pub(super) fn binary(&mut self, op: u16) -> Result<(), Error> {
        let (b, a) = (self.pop(), self.pop());
        if let (op::I32_ADD | op::I32_SUB, Operand::Constant(addend)) = (op, b.0) {
            let addend = if op == op::I32_ADD { addend as u32 } else { (addend as u32).wrapping_neg() };
            let sum = match a.0 {
                Operand::Local(slot) => Some(Operand::Sum(slot, addend)),
                Operand::Sum(slot, more) => Some(Operand::Sum(slot, addend.wrapping_add(more))),
                _ => None,
            };
            if let Some(sum) = sum {
                return self.push(sum).map(drop);
            }
        }
        let a = self.slot(a);
        match b.0 {
            Operand::Constant(imm) => self.emit_result(Unit { op: op | IMMEDIATE, d: 0, a, b: 0, imm }),
            _ => {
                let b = self.slot(b);
                self.emit_result(Unit { op, d: 0, a, b, imm: 0 })
            }
        }
    }

    pub(super) fn access(&mut self, op: u16, memory: MemArg) -> Result<(), Error> {
        let op = if memory.memory == 0 { op } else { op | IMMEDIATE };
        if op & 0xff >= 0x36 {
            let (b, address) = (self.pop(), self.pop());
            let (a, addend) = self.address(address);
            let b = self.slot(b);
            self.emit(Unit { op, d: 0, a, b, imm: memory.offset | addend << 32 });
            Ok(())
        } else {
            let address = self.pop();
            let (a, addend) = self.address(address);
            self.emit_result(Unit { op, a, imm: memory.offset | addend << 32, ..Unit::default() })
        }
    }

    /// The slot of an address, and the constant to be added to it.
    pub(super) fn address(&mut self, operand: (Operand, usize)) -> (u16, u64) {
        if let Operand::Sum(slot, addend) = operand.0 {
            return (slot, u64::from(addend));
        }
        if let Some(at) = self.maker(operand) {
            let unit = self.all.out.units[at];
            if unit.op == op::I32_ADD | IMMEDIATE {
                self.all.out.units.pop();
                return (unit.a, unit.imm & 0xffff_ffff);
            }
        }
        (self.slot(operand), 0)
    }

    pub(super) fn bulk(&mut self, op: u16, imm: u64) -> Result<(), Error> {
        self.go_home_top(3);
        self.operands.truncate(self.operands.len() - 3);
        let a = self.home(self.operands.len());
        self.emit(Unit { op, a, imm, ..Unit::default() });
        Ok(())
    }
}

/// What an i64 instruction with a constant subtracts.
fn subtracted(unit: &Unit) -> Option<u64> {
    match unit.op {
        op if op == op::I64_ADD | IMMEDIATE => Some(unit.imm.wrapping_neg()),
        op if op == op::I64_SUB | IMMEDIATE => Some(unit.imm),
        _ => None,
    }
}

/// Memory and offset of a load or store.
fn memory_argument(operator: &Operator<'_>) -> Option<MemArg> {
    use Operator::*;
    match *operator {
        I32Load { memarg }
        | I64Load { memarg }
        | F32Load { memarg }
        | F64Load { memarg }
        | I32Load8S { memarg }
        | I32Load8U { memarg }
        | I32Load16S { memarg }
        | I32Load16U { memarg }
        | I64Load8S { memarg }
        | I64Load8U { memarg }
        | I64Load16S { memarg }
        | I64Load16U { memarg }
        | I64Load32S { memarg }
        | I64Load32U { memarg }
        | I32Store { memarg }
        | I64Store { memarg }
        | F32Store { memarg }
        | F64Store { memarg }
        | I32Store8 { memarg }
        | I32Store16 { memarg }
        | I64Store8 { memarg }
        | I64Store16 { memarg }
        | I64Store32 { memarg } => Some(memarg),
        _ => None,
    }
}
