//! One step, and what it works on; `instructions` defines what each instruction does.
//!
//! [`step`] is generic over a [`Bus`], its view of the five regions. Running, recording a proof and verifying one are
//! three buses under the same instructions, so that they cannot disagree on anything but the bytes they hold.

use super::{
    alu::i64,
    bulk,
    flatten::CODE_DEPTH,
    instructions::{Flow, On, execute},
    op::Unit,
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

    /// The leaf at `index`.
    fn leaf(&mut self, region: Region, index: u64) -> Result<[u8; LEAF], Self::Error>;

    /// Has `change` replace bytes of the leaf at `index`.
    fn update(&mut self, region: Region, index: u64, change: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Self::Error>;

    /// Told before `registers.pages` change.
    fn grow(&mut self, memory: usize, pages: u32) -> Result<(), Self::Error>;

    /// Told of a frame that ends at this slot.
    fn frame(&mut self, end: u32);

    /// The unit of region C at `index`.
    fn unit(&mut self, index: u32) -> Result<Unit, Self::Error>;

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

    /// A slot of the frame that begins at `fp`.
    #[inline(always)]
    fn local(&mut self, fp: u32, index: u16) -> Result<u64, Self::Error> {
        self.slot(fp.wrapping_add(u32::from(index)))
    }

    /// Replaces a slot of the frame that begins at `fp`.
    #[inline(always)]
    fn set_local(&mut self, fp: u32, index: u16, value: u64) -> Result<(), Self::Error> {
        self.set_slot(fp.wrapping_add(u32::from(index)), value)
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

/// Executes one instruction. Answers the end, if it came to that; the machine then takes no further step.
///
/// # Errors
/// What the bus says. The registers are then of no use.
pub(super) fn step<B: Bus>(r: &mut Registers, limits: &TaskLimits, bus: &mut B) -> Result<Option<End>, B::Error> {
    let here = r.pc;
    let unit = bus.unit(here)?;
    r.pc = here.wrapping_add(1);
    match execute(On { unit: &unit, registers: r, limits, bus })? {
        Flow::Next => {}
        Flow::Jump(pc) => r.pc = pc,
        Flow::Frame { pc, fp } => (r.pc, r.fp) = (pc, fp),
        Flow::Bulk => match bulk::execute(*r, unit, limits, bus)? {
            Some(after) => *r = Registers { pc: if after.progress == 0 { r.pc } else { here }, ..after },
            None => return end(None, limits, bus).map(Some),
        },
        Flow::Trap => return end(None, limits, bus).map(Some),
        Flow::Exit(code) => return end(Some(code), limits, bus).map(Some),
    }
    Ok(None)
}

/// Reads the bill from the fuel slot. Who leaves with less than nothing has failed.
pub(super) fn end<B: Bus>(exit_code: Option<u32>, limits: &TaskLimits, bus: &mut B) -> Result<End, B::Error> {
    let left = i64(bus.slot(0)?);
    let fuel = limits.fuel_limit.saturating_sub(left.max(0).cast_unsigned());
    Ok(End { exit_code: exit_code.filter(|_| left >= 0), fuel })
}
