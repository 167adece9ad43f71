//! One step: the only definition of what an instruction does.
//!
//! [`step`] is generic over a [`Bus`], its view of the five regions. Running, recording a proof and verifying one are
//! three buses under the same step, so that they cannot disagree on anything but the bytes they hold.

use std::borrow::Borrow;

use super::{
    alu::{self, copysign, f32, f64, i32, i64, max_32, max_64, min_32, min_64, of_f32, of_f64, of_i32, truncate, u32},
    bulk,
    flatten::CODE_DEPTH,
    op::{self, Form, Unit},
};
use crate::roots::{BLOB_DEPTH, LEAF};

/// Slots of region S, 64 bits each; a slot's number is taken modulo this.
pub const STACK_SLOTS: u32 = 1 << 20;

/// Fuel that a prepared module may burn beyond its limit before that is noticed, and more.
pub const STEPS_MARGIN: u64 = 1 << 21;

const _: () = assert!(STEPS_MARGIN > crate::fuel::OVERRUN);

/// Most steps of a prepared module under a fuel limit, so that a search for a step has an end.
pub const fn max_steps(fuel_limit: u64) -> u64 {
    fuel_limit.saturating_add(STEPS_MARGIN).saturating_mul(4)
}

/// Bytes of a page of WebAssembly memory.
pub(super) const PAGE: u64 = 65536;

/// A region of the machine's state: a tree of 32-byte leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Call table, code, data segments.
    Code,
    /// Global slots, then frames.
    Stack,
    /// The program's memory; the WASI layer's in the upper half.
    Memory,
    /// The input.
    Input,
    /// The output so far.
    Output,
}

impl Region {
    /// Depth of its tree.
    pub const fn depth(self) -> u32 {
        match self {
            Self::Code => CODE_DEPTH,
            Self::Stack => 18,
            Self::Memory => 28,
            Self::Input | Self::Output => BLOB_DEPTH,
        }
    }

    /// A leaf's number: what is beyond the region wraps around, which no flattened module makes happen.
    pub(super) fn wrap(self, index: u64) -> u64 {
        index % (1 << self.depth())
    }
}

/// The part of the state that is not in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Unit of region C that is executed next.
    pub pc: u32,
    /// Slot where the frame begins.
    pub fp: u32,
    /// Pages of both memories.
    pub pages: [u32; 2],
    /// Bytes that the present bulk instruction has moved.
    pub progress: u64,
    /// Bytes of output.
    pub output_len: u64,
}

/// What a task fixes, besides its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TaskLimits {
    /// Bytes of input.
    pub input_len: u64,
    /// Most bytes of output.
    pub output_limit: u64,
    /// Fuel that the task begins with.
    pub fuel_limit: u64,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Exit code, or `None` if the task failed.
    pub exit_code: Option<u32>,
    /// Fuel billed.
    pub fuel: u64,
}

/// The regions as one step sees them.
///
/// A bus implements reading and replacing a leaf; what the rest means follows from that and is written down here. A fast
/// bus may do the same in fewer moves.
pub(super) trait Bus {
    /// Why a leaf cannot be had: a proof is malformed, or the host out of memory.
    type Error;

    /// How a unit is handed out.
    type Unit: Borrow<Unit>;

    /// Whether this bus leaves instructions of the rare and long kind to another one.
    const DEFERS: bool = false;

    /// The leaf at `index`.
    fn leaf(&mut self, region: Region, index: u64) -> Result<[u8; LEAF], Self::Error>;

    /// Has `change` replace bytes of the leaf at `index`.
    fn update(&mut self, region: Region, index: u64, change: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Self::Error>;

    /// Told before `registers.pages` change.
    fn grow(&mut self, memory: usize, pages: u32) -> Result<(), Self::Error>;

    /// Told of a frame that ends at this slot.
    fn frame(&mut self, end: u32);

    /// The unit of region C at `index`.
    fn unit(&mut self, index: u32) -> Result<Self::Unit, Self::Error>;

    /// A slot of region S.
    #[inline(always)]
    fn slot(&mut self, index: u32) -> Result<u64, Self::Error> {
        let index = index % STACK_SLOTS;
        let leaf = self.leaf(Region::Stack, u64::from(index / 4))?;
        Ok(u64::from_le_bytes(part(&leaf, index as usize % 4 * 8)))
    }

    /// Replaces a slot of region S.
    #[inline(always)]
    fn set_slot(&mut self, index: u32, value: u64) -> Result<(), Self::Error> {
        let index = index % STACK_SLOTS;
        let at = index as usize % 4 * 8;
        self.update(Region::Stack, u64::from(index / 4), |leaf| {
            leaf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        })
    }

    /// `N` bytes, at most 8, of a memory of `pages`, or `None` if they are not all inside.
    #[inline(always)]
    fn load<const N: usize>(
        &mut self,
        memory: usize,
        pages: u32,
        address: u64,
    ) -> Result<Option<[u8; N]>, Self::Error> {
        if address + N as u64 > u64::from(pages) * PAGE {
            return Ok(None);
        }
        let (index, at) = place(memory, address);
        let mut two = [0; 2 * LEAF];
        two[..LEAF].copy_from_slice(&self.leaf(Region::Memory, index)?);
        if at + N > LEAF {
            two[LEAF..].copy_from_slice(&self.leaf(Region::Memory, index + 1)?);
        }
        Ok(Some(part(&two, at)))
    }

    /// Stores `N` bytes, at most 8, into a memory of `pages`, or answers `false` if they are not all inside.
    #[inline(always)]
    fn store<const N: usize>(
        &mut self,
        memory: usize,
        pages: u32,
        address: u64,
        bytes: [u8; N],
    ) -> Result<bool, Self::Error> {
        if address + N as u64 > u64::from(pages) * PAGE {
            return Ok(false);
        }
        let (index, at) = place(memory, address);
        let first = N.min(LEAF - at);
        self.update(Region::Memory, index, |leaf| leaf[at..at + first].copy_from_slice(&bytes[..first]))?;
        if first < N {
            self.update(Region::Memory, index + 1, |leaf| leaf[..N - first].copy_from_slice(&bytes[first..]))?;
        }
        Ok(true)
    }
}

/// The unit at `index` from its leaf.
pub(super) fn unit_of(leaf: &[u8; LEAF], index: u32) -> Unit {
    Unit::from_bytes(part(leaf, index as usize % 2 * Unit::BYTES))
}

/// `N` bytes of `from`, which has them.
#[inline(always)]
pub(super) fn part<const N: usize>(from: &[u8], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&from[at..at + N]);
    bytes
}

/// Leaf of region M, and place in it, of a byte of a memory.
#[inline(always)]
pub(super) fn place(memory: usize, address: u64) -> (u64, usize) {
    (((memory as u64) << 27) + address / LEAF as u64, (address % LEAF as u64) as usize)
}

/// How a step leaves the machine.
pub(super) enum Flow {
    /// It goes on.
    Next,
    /// The task has failed.
    Trap,
    /// The program has ended itself.
    Exit(u32),
    /// Nothing has happened: the bus defers this instruction.
    Deferred,
}

/// Executes one instruction. Answers the end, if it came to that; the machine then takes no further step.
///
/// # Errors
/// What the bus says. The registers are then of no use.
#[inline(always)]
pub(super) fn step<B: Bus>(
    registers: &mut Registers,
    limits: &TaskLimits,
    bus: &mut B,
) -> Result<Option<End>, B::Error> {
    match execute(registers, limits, bus)? {
        Flow::Next | Flow::Deferred => Ok(None),
        Flow::Trap => end(None, limits, bus).map(Some),
        Flow::Exit(code) => end(Some(code), limits, bus).map(Some),
    }
}

/// Reads the bill from the fuel slot. Who leaves with less than nothing has failed.
pub(super) fn end<B: Bus>(exit_code: Option<u32>, limits: &TaskLimits, bus: &mut B) -> Result<End, B::Error> {
    let left = i64(bus.slot(0)?);
    let fuel = limits.fuel_limit.saturating_sub(left.max(0).cast_unsigned());
    Ok(End { exit_code: exit_code.filter(|_| left >= 0), fuel })
}

/// Executes one instruction, but for the accounts of an end.
#[inline(always)]
pub(super) fn execute<B: Bus>(r: &mut Registers, limits: &TaskLimits, bus: &mut B) -> Result<Flow, B::Error> {
    let unit = bus.unit(r.pc)?;
    let unit: &Unit = unit.borrow();
    let here = r.pc;
    r.pc = here.wrapping_add(1);

    macro_rules! get {
        ($index:expr) => {
            bus.slot(r.fp.wrapping_add(u32::from($index)))?
        };
    }
    macro_rules! set {
        ($index:expr, $value:expr) => {{
            let value = $value;
            bus.set_slot(r.fp.wrapping_add(u32::from($index)), value)?
        }};
    }
    // A trapping instruction reads its operands and writes nothing.
    macro_rules! set_or_trap {
        ($value:expr) => {
            match $value {
                Some(value) => set!(unit.d, value),
                None => return Ok(Flow::Trap),
            }
        };
    }
    // The high half of `imm` as an operand: i64 comparisons (0x51 to 0x5A) see it sign-extended.
    macro_rules! high_operand {
        ($op:literal) => {
            if $op >= 0x51 && $op <= 0x5A { (i64(unit.imm) >> 32).cast_unsigned() } else { unit.imm >> 32 }
        };
    }
    macro_rules! address {
        () => {
            u64::from(u32(get!(unit.a)).wrapping_add((unit.imm >> 32) as u32)) + (unit.imm & 0xffff_ffff)
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
            match unit.op {
                $(
                    Form::<$c>::SLOTS => {
                        let ($ca, $cb) = (get!(unit.a), get!(unit.b));
                        set!(unit.d, u64::from($compare));
                    }
                    Form::<$c>::IMMEDIATE => {
                        let ($ca, $cb) = (get!(unit.a), unit.imm);
                        set!(unit.d, u64::from($compare));
                    }
                    Form::<$c>::BRANCH => {
                        let ($ca, $cb) = (get!(unit.a), get!(unit.b));
                        if $compare {
                            r.pc = unit.imm as u32;
                        }
                    }
                    Form::<$c>::BRANCH_IMMEDIATE => {
                        let ($ca, $cb) = (get!(unit.a), high_operand!($c));
                        if $compare {
                            r.pc = unit.imm as u32;
                        }
                    }
                )*
                $(
                    Form::<$b>::SLOTS => {
                        let ($ba, $bb) = (get!(unit.a), get!(unit.b));
                        set_or_trap!($binary);
                    }
                    Form::<$b>::IMMEDIATE => {
                        let ($ba, $bb) = (get!(unit.a), unit.imm);
                        set_or_trap!($binary);
                    }
                )*
                $(
                    $u => {
                        let $ua = get!(unit.a);
                        set_or_trap!($unary);
                    }
                )*
                $(
                    Form::<$l>::SLOTS => {
                        let address = address!();
                        set_or_trap!(bus.load::<$size>(0, r.pages[0], address)?.map(|$bytes| $load));
                    }
                    Form::<$l>::SYSTEM => {
                        let address = address!();
                        set_or_trap!(bus.load::<$size>(1, r.pages[1], address)?.map(|$bytes| $load));
                    }
                )*
                $(
                    Form::<$s>::SLOTS => {
                        let ($slot, address) = (get!(unit.b), address!());
                        if !bus.store(0, r.pages[0], address, $store)? {
                            return Ok(Flow::Trap);
                        }
                    }
                    Form::<$s>::SYSTEM => {
                        let ($slot, address) = (get!(unit.b), address!());
                        if !bus.store(1, r.pages[1], address, $store)? {
                            return Ok(Flow::Trap);
                        }
                    }
                )*
                op::MOVE => set!(unit.d, get!(unit.a)),
                op::MOVE_TWO => {
                    set!(unit.d, get!(unit.a));
                    set!(unit.b, get!(unit.imm as u16));
                }
                op::CHARGE | op::CHARGE_OR_TRAP => {
                    let left = get!(unit.a).wrapping_sub(unit.imm);
                    set!(unit.d, left);
                    bus.set_slot(u32::from(unit.b), left)?;
                    if unit.op == op::CHARGE_OR_TRAP && i64(left) < 0 {
                        return Ok(Flow::Trap);
                    }
                }
                op::CONST => set!(unit.d, unit.imm),
                op::SELECT => {
                    let chosen = if u32(get!(unit.imm as u16)) == 0 { unit.b } else { unit.a };
                    set!(unit.d, get!(chosen));
                }
                op::ZERO => {
                    for slot in 0..unit.a.min(4) {
                        set!(unit.d.wrapping_add(slot), 0);
                    }
                }
                op::JUMP => r.pc = unit.imm as u32,
                op::JUMP_TABLE => r.pc = r.pc.wrapping_add(u32(get!(unit.a)).min(unit.imm as u32)),
                op::CALL => {
                    if !enter(r, bus, unit, unit.imm)? {
                        return Ok(Flow::Trap);
                    }
                }
                op::CALL_INDIRECT => {
                    let entry = u32(get!(unit.b));
                    if u64::from(entry) >= unit.imm >> 32 {
                        return Ok(Flow::Trap);
                    }
                    // Entry pc, type; the frame's slots are in `d`.
                    let callee = bus.unit(entry)?;
                    let callee: &Unit = callee.borrow();
                    let target = callee.imm & 0xffff_ffff | u64::from(callee.d) << 32;
                    if callee.imm >> 32 != unit.imm & 0xffff_ffff || !enter(r, bus, unit, target)? {
                        return Ok(Flow::Trap);
                    }
                }
                op::RETURN => {
                    let back = get!(unit.a);
                    (r.pc, r.fp) = (back as u32, (back >> 32) as u32);
                }
                op::RETURN_VALUE => {
                    let (back, value) = (get!(unit.a), get!(unit.b));
                    set!(0u16, value);
                    (r.pc, r.fp) = (back as u32, (back >> 32) as u32);
                }
                op::GLOBAL_GET => set!(unit.d, bus.slot(unit.imm as u32)?),
                op::GLOBAL_SET => {
                    let value = get!(unit.a);
                    bus.set_slot(unit.imm as u32, value)?;
                }
                op::GLOBAL_ADD => {
                    let sum = bus.slot(u32::from(unit.d))?.wrapping_add(unit.imm);
                    bus.set_slot(u32::from(unit.d), sum)?;
                }
                op::DROP => bus.set_slot(unit.imm as u32, 0)?,
                op::MEMORY_SIZE => set!(unit.d, u64::from(r.pages[unit.imm as usize & 1])),
                op::HALT => return Ok(Flow::Exit(0)),
                op::EXIT => return Ok(Flow::Exit(u32(get!(unit.a)))),
                op::SET_FUEL => bus.set_slot(0, limits.fuel_limit)?,
                op::INPUT_LEN => set!(unit.d, limits.input_len),
                op::MEMORY_GROW..=op::OUTPUT_WRITE => {
                    if B::DEFERS {
                        r.pc = here;
                        return Ok(Flow::Deferred);
                    }
                    let (flow, after) = bulk::execute(*r, *unit, limits, bus)?;
                    *r = Registers { pc: if after.progress == 0 { r.pc } else { here }, ..after };
                    return Ok(flow);
                }
                _ => return Ok(Flow::Trap),
            }
        };
    }
    alu::with_tables!(rows);
    Ok(Flow::Next)
}

/// Begins the frame of a callee: `target` is its pc and, in the high half, its slots.
#[inline(always)]
fn enter<B: Bus>(r: &mut Registers, bus: &mut B, call: &Unit, target: u64) -> Result<bool, B::Error> {
    let fp = r.fp.wrapping_add(u32::from(call.d));
    let end = u64::from(fp) + (target >> 32);
    if end > u64::from(STACK_SLOTS) {
        return Ok(false);
    }
    bus.frame(end as u32);
    bus.set_slot(fp + u32::from(call.a), u64::from(r.pc) | u64::from(r.fp) << 32)?;
    (r.pc, r.fp) = (target as u32, fp);
    Ok(true)
}
