//! Instructions that move bytes by length, or change how much memory there is.
//!
//! Each step of one checks its whole range again, then moves the bytes of at most one source leaf to at most one
//! destination leaf, so that a single step is cheap to prove. [`Registers::progress`] counts what is done; the pc stays
//! until it is all. `memory.copy` to a higher place goes from the end, as if all bytes had been read first.

use super::{
    alu::{of_i32, u32},
    op::{self, Unit},
    step::{Bus, PAGE, Region, Registers, TaskLimits, place},
};
use crate::roots::LEAF;

/// The registers after a step of a bulk instruction, `progress` zero when it is done; `None` if it trapped.
type Done = Option<Registers>;

/// Executes one step of instruction `unit`.
#[inline(never)]
pub(super) fn execute<B: Bus>(r: Registers, unit: Unit, limits: &TaskLimits, bus: &mut B) -> Result<Done, B::Error> {
    match unit.op {
        op::MEMORY_GROW => grow(r, unit, bus),
        op::MEMORY_COPY => copy(r, unit, bus),
        op::MEMORY_FILL => fill(r, unit, bus),
        op::MEMORY_INIT => init(r, unit, bus),
        op::INPUT_READ => input_read(r, unit, limits, bus),
        op::OUTPUT_WRITE => output_write(r, unit, limits, bus),
        _ => Ok(None),
    }
}

/// Slot `index` of the frame.
fn slot<B: Bus>(r: &Registers, bus: &mut B, index: u16) -> Result<u64, B::Error> {
    bus.slot(r.fp.wrapping_add(u32::from(index)))
}

/// The three operands, in neighbouring slots.
fn operands<B: Bus>(r: &Registers, bus: &mut B, unit: &Unit) -> Result<[u64; 3], B::Error> {
    Ok([slot(r, bus, unit.a)?, slot(r, bus, unit.a.wrapping_add(1))?, slot(r, bus, unit.a.wrapping_add(2))?])
}

/// Whether a memory has all these bytes.
fn inside(r: &Registers, memory: usize, address: u64, len: u64) -> bool {
    address + len <= u64::from(r.pages[memory]) * PAGE
}

/// Memory and place of an address as the `conun` imports take it: bit 32 is the memory, what is above must be zero.
fn address(slot: u64) -> Option<(usize, u64)> {
    (slot >> 33 == 0).then_some(((slot >> 32) as usize, slot & 0xffff_ffff))
}

/// Registers after `moved` more of `len` bytes.
fn moved(mut r: Registers, moved: u64, len: u64) -> Registers {
    r.progress += moved;
    if r.progress >= len {
        r.progress = 0;
    }
    r
}

/// How many of `left` bytes lie in the leaf of each of the places.
fn within(left: u64, places: [u64; 2]) -> u64 {
    places.into_iter().fold(left, |least, place| least.min(LEAF as u64 - place % LEAF as u64))
}

/// Copies `len` bytes, which do not leave the two leaves.
fn transfer<B: Bus>(
    bus: &mut B,
    from: (Region, u64, usize),
    to: (Region, u64, usize),
    len: u64,
) -> Result<(), B::Error> {
    if len == 0 {
        return Ok(());
    }
    let source = bus.leaf(from.0, from.1)?;
    let (from, at, len) = (from.2, to.2, len as usize);
    bus.update(to.0, to.1, |leaf| leaf[at..at + len].copy_from_slice(&source[from..from + len]))
}

fn grow<B: Bus>(mut r: Registers, unit: Unit, bus: &mut B) -> Result<Done, B::Error> {
    let memory = unit.imm as usize & 1;
    let had = r.pages[memory];
    let asked = u64::from(had) + u64::from(u32(slot(&r, bus, unit.a)?));
    let answer = if asked <= unit.imm >> 32 {
        bus.grow(memory, asked as u32)?;
        r.pages[memory] = asked as u32;
        u64::from(had)
    } else {
        of_i32(-1)
    };
    bus.set_slot(r.fp.wrapping_add(u32::from(unit.d)), answer)?;
    r.progress = 0;
    Ok(Some(r))
}

fn copy<B: Bus>(r: Registers, unit: Unit, bus: &mut B) -> Result<Done, B::Error> {
    let (to_memory, from_memory) = (unit.imm as usize & 1, unit.imm as usize >> 1 & 1);
    let [to, from, len] = operands(&r, bus, &unit)?.map(|slot| u64::from(u32(slot)));
    if !inside(&r, to_memory, to, len) || !inside(&r, from_memory, from, len) {
        return Ok(None);
    }
    let left = len.saturating_sub(r.progress);
    let (to, from, n) = if to_memory == from_memory && to > from {
        let n = |end: u64| (end.wrapping_sub(1)) % LEAF as u64 + 1;
        let n = left.min(n(to + left)).min(n(from + left));
        (to + left - n, from + left - n, n)
    } else {
        let (to, from) = (to + r.progress, from + r.progress);
        (to, from, within(left, [to, from]))
    };
    let ((from, from_at), (to, to_at)) = (place(from_memory, from), place(to_memory, to));
    transfer(bus, (Region::Memory, from, from_at), (Region::Memory, to, to_at), n)?;
    Ok(Some(moved(r, n, len)))
}

fn fill<B: Bus>(r: Registers, unit: Unit, bus: &mut B) -> Result<Done, B::Error> {
    let memory = unit.imm as usize & 1;
    let [to, value, len] = operands(&r, bus, &unit)?.map(|slot| u64::from(u32(slot)));
    if !inside(&r, memory, to, len) {
        return Ok(None);
    }
    let to = to + r.progress;
    let n = within(len.saturating_sub(r.progress), [to, to]);
    if n > 0 {
        let (index, at) = place(memory, to);
        bus.update(Region::Memory, index, |leaf| leaf[at..at + n as usize].fill(value as u8))?;
    }
    Ok(Some(moved(r, n, len)))
}

fn init<B: Bus>(r: Registers, unit: Unit, bus: &mut B) -> Result<Done, B::Error> {
    let memory = unit.imm as usize & 1;
    let [to, from, len] = operands(&r, bus, &unit)?.map(|slot| u64::from(u32(slot)));
    // What is left of the segment: zero once it is dropped.
    let segment = bus.slot((unit.imm as u32) >> 1)?;
    if !inside(&r, memory, to, len) || from + len > segment {
        return Ok(None);
    }
    let (to, from) = (to + r.progress, from + r.progress);
    let n = within(len.saturating_sub(r.progress), [to, from]);
    let first = unit.imm >> 32;
    let (index, at) = place(memory, to);
    let source = (Region::Code, first + from / LEAF as u64, from as usize % LEAF);
    transfer(bus, source, (Region::Memory, index, at), n)?;
    Ok(Some(moved(r, n, len)))
}

fn input_read<B: Bus>(r: Registers, unit: Unit, limits: &TaskLimits, bus: &mut B) -> Result<Done, B::Error> {
    let [offset, to, len] = operands(&r, bus, &unit)?;
    let len = u64::from(u32(len)).min(limits.input_len.saturating_sub(offset));
    let Some((memory, to)) = address(to).filter(|(memory, to)| inside(&r, *memory, *to, len)) else {
        return Ok(None);
    };
    let (to, from) = (to + r.progress, offset.wrapping_add(r.progress));
    let n = within(len.saturating_sub(r.progress), [to, from]);
    let (index, at) = place(memory, to);
    let source = (Region::Input, from / LEAF as u64, from as usize % LEAF);
    transfer(bus, source, (Region::Memory, index, at), n)?;
    let after = moved(r, n, len);
    if after.progress == 0 {
        bus.set_slot(r.fp.wrapping_add(u32::from(unit.d)), len)?;
    }
    Ok(Some(after))
}

fn output_write<B: Bus>(mut r: Registers, unit: Unit, limits: &TaskLimits, bus: &mut B) -> Result<Done, B::Error> {
    let from = slot(&r, bus, unit.a)?;
    let len = u64::from(u32(slot(&r, bus, unit.a.wrapping_add(1))?));
    let room = limits.output_limit.saturating_sub(r.output_len.saturating_sub(r.progress));
    let Some((memory, from)) = address(from).filter(|(memory, from)| inside(&r, *memory, *from, len)) else {
        return Ok(None);
    };
    if len > room {
        return Ok(None);
    }
    let (to, from) = (r.output_len, from + r.progress);
    let n = within(len.saturating_sub(r.progress), [to, from]);
    let (index, at) = place(memory, from);
    let target = (Region::Output, to / LEAF as u64, to as usize % LEAF);
    transfer(bus, (Region::Memory, index, at), target, n)?;
    r.output_len += n;
    Ok(Some(moved(r, n, len)))
}
