//! What each operator does to the values that the analysis follows.

use std::collections::BTreeSet;

use wasmparser::{BlockType, ContType, FrameKind, FuncType, ModuleArity, Operator, RefType, SubType};

use super::{FRESH, Flow, MOVED, NEUTRAL, PLAIN, Value, arithmetic};
use crate::error::Error;

impl Flow<'_> {
    pub(super) fn operator(&mut self, operator: &Operator<'_>, at: u32, falls_through: bool) -> Result<(), Error> {
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
