//! The only definition of what an instruction does.
//!
//! Each is a type of its own, [`Do`] with its number, so that the loop can have a function for each (`fast.rs`), made of the
//! very same lines.

use super::{
    alu::{self, copysign, f32, f64, i32, i64, max_32, max_64, min_32, min_64, of_f32, of_f64, of_i32, truncate, u32},
    op::{self, Form, Unit},
    step::{Bus, Registers, STACK_SLOTS, TaskLimits},
};

/// How an instruction leaves the machine.
pub(super) enum Flow {
    /// It goes on behind it.
    Next,
    /// It goes on there.
    Jump(u32),
    /// It goes on there, in another frame.
    Frame {
        /// Where.
        pc: u32,
        /// Slot where the frame begins.
        fp: u32,
    },
    /// The task has failed.
    Trap,
    /// The program has ended itself.
    Exit(u32),
    /// Nothing has happened: the instruction is one of [`bulk`](super::bulk)'s.
    Bulk,
}

/// What an instruction finds.
pub(super) struct On<'x, B> {
    /// Itself.
    pub(super) unit: &'x Unit,
    /// With the pc behind the instruction.
    pub(super) registers: &'x Registers,
    pub(super) limits: &'x TaskLimits,
    pub(super) bus: &'x mut B,
}

impl<B: Bus> On<'_, B> {
    /// A slot of the frame.
    #[inline(always)]
    fn get(&mut self, index: u16) -> Result<u64, B::Error> {
        self.bus.local(self.registers.fp, index)
    }

    /// Operand a.
    #[inline(always)]
    fn a(&mut self) -> Result<u64, B::Error> {
        self.get(self.unit.a)
    }

    /// Operand b.
    #[inline(always)]
    fn b(&mut self) -> Result<u64, B::Error> {
        self.get(self.unit.b)
    }

    #[inline(always)]
    fn set(&mut self, index: u16, value: u64) -> Result<(), B::Error> {
        self.bus.set_local(self.registers.fp, index, value)
    }

    /// Ends with a result.
    #[inline(always)]
    fn result(&mut self, value: u64) -> Result<Flow, B::Error> {
        self.set(self.unit.d, value)?;
        Ok(Flow::Next)
    }

    /// A trapping instruction reads its operands and writes nothing.
    #[inline(always)]
    fn result_or_trap(&mut self, value: Option<u64>) -> Result<Flow, B::Error> {
        match value {
            Some(value) => self.result(value),
            None => Ok(Flow::Trap),
        }
    }

    #[inline(always)]
    fn jump_if(&self, holds: bool) -> Flow {
        if holds { Flow::Jump(self.unit.imm as u32) } else { Flow::Next }
    }

    /// The high half of `imm` as an operand: i64 comparisons see it sign-extended.
    #[inline(always)]
    fn high_operand(&self, op: u16) -> u64 {
        let imm = self.unit.imm;
        if op::COMPARE_I64.contains(&op) { (i64(imm) >> 32).cast_unsigned() } else { imm >> 32 }
    }

    /// Address of a load or store.
    #[inline(always)]
    fn address(&mut self) -> Result<u64, B::Error> {
        let imm = self.unit.imm;
        Ok(u64::from(u32(self.a()?).wrapping_add((imm >> 32) as u32)) + (imm & 0xffff_ffff))
    }

    #[inline(always)]
    fn load<const MEMORY: usize, const N: usize>(
        &mut self,
        loaded: impl FnOnce([u8; N]) -> u64,
    ) -> Result<Flow, B::Error> {
        let address = self.address()?;
        let bytes = self.bus.load(MEMORY, self.registers.pages[MEMORY], address)?;
        self.result_or_trap(bytes.map(loaded))
    }

    #[inline(always)]
    fn store<const MEMORY: usize, const N: usize>(
        &mut self,
        stored: impl FnOnce(u64) -> [u8; N],
    ) -> Result<Flow, B::Error> {
        let bytes = stored(self.b()?);
        let address = self.address()?;
        let inside = self.bus.store(MEMORY, self.registers.pages[MEMORY], address, bytes)?;
        Ok(if inside { Flow::Next } else { Flow::Trap })
    }

    /// Slot a less the constant, also into global slot b.
    #[inline(always)]
    fn charge(&mut self) -> Result<i64, B::Error> {
        let left = self.a()?.wrapping_sub(self.unit.imm);
        self.set(self.unit.d, left)?;
        self.bus.set_slot(u32::from(self.unit.b), left)?;
        Ok(i64(left))
    }

    /// Begins the frame of a callee: `target` is its pc and, in the high half, its slots.
    #[inline(always)]
    fn enter(&mut self, target: u64) -> Result<Flow, B::Error> {
        let fp = self.registers.fp.wrapping_add(u32::from(self.unit.d));
        let end = u64::from(fp) + (target >> 32);
        if end > u64::from(STACK_SLOTS) {
            return Ok(Flow::Trap);
        }
        self.bus.frame(end as u32);
        let back = u64::from(self.registers.pc) | u64::from(self.registers.fp) << 32;
        self.bus.set_slot(fp + u32::from(self.unit.a), back)?;
        Ok(Flow::Frame { pc: target as u32, fp })
    }

    /// Goes back by what slot a keeps.
    #[inline(always)]
    fn back(&mut self) -> Result<Flow, B::Error> {
        let back = self.a()?;
        Ok(Flow::Frame { pc: back as u32, fp: (back >> 32) as u32 })
    }
}

/// An instruction.
pub(super) trait Instruction {
    /// Does it.
    ///
    /// # Errors
    /// What the bus says.
    fn execute<B: Bus>(on: On<'_, B>) -> Result<Flow, B::Error>;
}

/// The instruction with the number `OP`.
pub(super) struct Do<const OP: u16>;

/// Who wants the instruction of a number.
pub(super) trait Visitor {
    /// What comes of it.
    type Out;

    /// Called with the instruction.
    fn visit<I: Instruction>(self) -> Self::Out;
}

/// Defines instructions, in each an [`On`] by the name between the bars.
macro_rules! define {
    ($($op:expr => |$on:ident| $does:expr;)*) => {
        $(
            impl Instruction for Do<{ $op }> {
                #[inline(always)]
                #[allow(unused_mut, reason = "some read nothing")]
                fn execute<B: Bus>(mut $on: On<'_, B>) -> Result<Flow, B::Error> {
                    $does
                }
            }
        )*
    };
}

macro_rules! rows {
    (
        comparisons { $($c:literal |$ca:ident, $cb:ident| $compare:expr;)* }
        binary { $($b:literal |$ba:ident, $bb:ident| $binary:expr;)* }
        unary { $($u:literal |$ua:ident| $unary:expr;)* }
        loads { $($l:literal $size:literal |$bytes:ident| $load:expr;)* }
        stores { $($s:literal |$slot:ident| $store:expr;)* }
    ) => {
        define! {
            $(
                Form::<$c>::SLOTS => |on| {
                    let ($ca, $cb) = (on.a()?, on.b()?);
                    on.result(u64::from($compare))
                };
                Form::<$c>::IMMEDIATE => |on| {
                    let ($ca, $cb) = (on.a()?, on.unit.imm);
                    on.result(u64::from($compare))
                };
                Form::<$c>::BRANCH => |on| {
                    let ($ca, $cb) = (on.a()?, on.b()?);
                    Ok(on.jump_if($compare))
                };
                Form::<$c>::BRANCH_IMMEDIATE => |on| {
                    let ($ca, $cb) = (on.a()?, on.high_operand($c));
                    Ok(on.jump_if($compare))
                };
            )*
            $(
                Form::<$b>::SLOTS => |on| {
                    let ($ba, $bb) = (on.a()?, on.b()?);
                    on.result_or_trap($binary)
                };
                Form::<$b>::IMMEDIATE => |on| {
                    let ($ba, $bb) = (on.a()?, on.unit.imm);
                    on.result_or_trap($binary)
                };
            )*
            $(
                $u => |on| {
                    let $ua = on.a()?;
                    on.result_or_trap($unary)
                };
            )*
            $(
                Form::<$l>::SLOTS => |on| on.load::<0, $size>(|$bytes| $load);
                Form::<$l>::SYSTEM => |on| on.load::<1, $size>(|$bytes| $load);
            )*
            $(
                Form::<$s>::SLOTS => |on| on.store::<0, _>(|$slot| $store);
                Form::<$s>::SYSTEM => |on| on.store::<1, _>(|$slot| $store);
            )*
        }

        /// Hands the visitor the instruction that has this number; what has none fails the task.
        #[inline(always)]
        pub(super) fn visit<V: Visitor>(op: u16, visitor: V) -> V::Out {
            match op {
                $(
                    Form::<$c>::SLOTS => visitor.visit::<Do<{ Form::<$c>::SLOTS }>>(),
                    Form::<$c>::IMMEDIATE => visitor.visit::<Do<{ Form::<$c>::IMMEDIATE }>>(),
                    Form::<$c>::BRANCH => visitor.visit::<Do<{ Form::<$c>::BRANCH }>>(),
                    Form::<$c>::BRANCH_IMMEDIATE => visitor.visit::<Do<{ Form::<$c>::BRANCH_IMMEDIATE }>>(),
                )*
                $(
                    Form::<$b>::SLOTS => visitor.visit::<Do<{ Form::<$b>::SLOTS }>>(),
                    Form::<$b>::IMMEDIATE => visitor.visit::<Do<{ Form::<$b>::IMMEDIATE }>>(),
                )*
                $($u => visitor.visit::<Do<$u>>(),)*
                $(
                    Form::<$l>::SLOTS => visitor.visit::<Do<{ Form::<$l>::SLOTS }>>(),
                    Form::<$l>::SYSTEM => visitor.visit::<Do<{ Form::<$l>::SYSTEM }>>(),
                )*
                $(
                    Form::<$s>::SLOTS => visitor.visit::<Do<{ Form::<$s>::SLOTS }>>(),
                    Form::<$s>::SYSTEM => visitor.visit::<Do<{ Form::<$s>::SYSTEM }>>(),
                )*
                op => visit_other(op, visitor),
            }
        }
    };
}
alu::with_tables!(rows);

macro_rules! others {
    ($($op:ident => |$on:ident| $does:expr;)*) => {
        define! { $(op::$op => |$on| $does;)* }

        /// The instructions that are in no table.
        #[inline(always)]
        fn visit_other<V: Visitor>(op: u16, visitor: V) -> V::Out {
            match op {
                $(op::$op => visitor.visit::<Do<{ op::$op }>>(),)*
                op::MEMORY_GROW..=op::OUTPUT_WRITE => visitor.visit::<Bulk>(),
                _ => visitor.visit::<Do<{ op::TRAP }>>(),
            }
        }
    };
}
others! {
    MOVE => |on| {
        let value = on.a()?;
        on.result(value)
    };
    MOVE_TWO => |on| {
        let first = on.a()?;
        on.set(on.unit.d, first)?;
        let second = on.get(on.unit.imm as u16)?;
        on.set(on.unit.b, second)?;
        Ok(Flow::Next)
    };
    CHARGE => |on| {
        on.charge()?;
        Ok(Flow::Next)
    };
    CHARGE_OR_TRAP => |on| Ok(if on.charge()? < 0 { Flow::Trap } else { Flow::Next });
    CONST => |on| on.result(on.unit.imm);
    SELECT => |on| {
        let chosen = if u32(on.get(on.unit.imm as u16)?) == 0 { on.unit.b } else { on.unit.a };
        let value = on.get(chosen)?;
        on.result(value)
    };
    ZERO => |on| {
        for slot in 0..on.unit.a.min(4) {
            on.set(on.unit.d.wrapping_add(slot), 0)?;
        }
        Ok(Flow::Next)
    };
    JUMP => |on| Ok(Flow::Jump(on.unit.imm as u32));
    JUMP_TABLE => |on| {
        let chosen = u32(on.a()?).min(on.unit.imm as u32);
        Ok(Flow::Jump(on.registers.pc.wrapping_add(chosen)))
    };
    CALL => |on| on.enter(on.unit.imm);
    CALL_INDIRECT => |on| {
        let entry = u32(on.b()?);
        if u64::from(entry) >= on.unit.imm >> 32 {
            return Ok(Flow::Trap);
        }
        // Entry pc, type; the frame's slots are in `d`.
        let callee = on.bus.unit(entry)?;
        let target = callee.imm & 0xffff_ffff | u64::from(callee.d) << 32;
        if callee.imm >> 32 != on.unit.imm & 0xffff_ffff {
            return Ok(Flow::Trap);
        }
        on.enter(target)
    };
    RETURN => |on| on.back();
    RETURN_VALUE => |on| {
        let back = on.back()?;
        let value = on.b()?;
        on.set(0, value)?;
        Ok(back)
    };
    GLOBAL_GET => |on| {
        let value = on.bus.slot(on.unit.imm as u32)?;
        on.result(value)
    };
    GLOBAL_SET => |on| {
        let value = on.a()?;
        on.bus.set_slot(on.unit.imm as u32, value)?;
        Ok(Flow::Next)
    };
    GLOBAL_ADD => |on| {
        let sum = on.bus.slot(u32::from(on.unit.d))?.wrapping_add(on.unit.imm);
        on.bus.set_slot(u32::from(on.unit.d), sum)?;
        Ok(Flow::Next)
    };
    DROP => |on| {
        on.bus.set_slot(on.unit.imm as u32, 0)?;
        Ok(Flow::Next)
    };
    MEMORY_SIZE => |on| on.result(u64::from(on.registers.pages[on.unit.imm as usize & 1]));
    HALT => |_on| Ok(Flow::Exit(0));
    EXIT => |on| Ok(Flow::Exit(u32(on.a()?)));
    SET_FUEL => |on| {
        on.bus.set_slot(0, on.limits.fuel_limit)?;
        Ok(Flow::Next)
    };
    INPUT_LEN => |on| on.result(on.limits.input_len);
    TRAP => |_on| Ok(Flow::Trap);
}

/// The instructions that move bytes by length, or memories.
pub(super) struct Bulk;

impl Instruction for Bulk {
    #[inline(always)]
    fn execute<B: Bus>(_: On<'_, B>) -> Result<Flow, B::Error> {
        Ok(Flow::Bulk)
    }
}

impl<B: Bus> Visitor for On<'_, B> {
    type Out = Result<Flow, B::Error>;

    #[inline(always)]
    fn visit<I: Instruction>(self) -> Self::Out {
        I::execute(self)
    }
}

/// Executes the instruction, but for [`Flow::Bulk`] and the accounts of an end.
///
/// # Errors
/// What the bus says.
pub(super) fn execute<B: Bus>(on: On<'_, B>) -> Result<Flow, B::Error> {
    visit(on.unit.op, on)
}
