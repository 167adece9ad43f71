//! The regions of a running machine, as plain memory: the bus that it runs on.

use std::sync::Arc;

use super::{
    flatten::Code,
    op::Unit,
    step::{Bus, PAGE, Region, STACK_SLOTS},
};
use crate::{
    Error,
    roots::{LEAF, PAGE_BYTES, Page, Pages},
};

const _: () = assert!(usize::BITS >= 64, "addresses of both memories are computed in usize");

/// Bit of [`Memory::changed`]: the page has changed since the trees took it up.
pub(super) const UNHASHED: u8 = 1;
/// Bit of [`Memory::changed`]: the page has changed since the last snapshot.
pub(super) const UNSAVED: u8 = 2;

/// Tracked pages of a memory of 4 GiB.
pub(super) const TRACKED_PAGES: usize = 1 << 20;

/// All 64-bit slots of region S.
pub(super) type Stack = [u64; STACK_SLOTS as usize];

/// A linear memory.
pub(super) struct Memory {
    pub(super) bytes: Vec<u8>,
    /// A byte for each tracked page: bits of those who have not seen its last change.
    pub(super) changed: Box<[u8; TRACKED_PAGES]>,
}

impl Memory {
    fn new(initial: &[u8], pages: u32) -> Result<Self, Error> {
        let mut memory = Self { bytes: Vec::new(), changed: zeroed(0u8) };
        memory.grow(pages)?;
        memory.bytes[..initial.len()].copy_from_slice(initial);
        Ok(memory)
    }

    /// Adds zero bytes. A host that cannot is no reason for the program to learn of it.
    pub(super) fn grow(&mut self, pages: u32) -> Result<(), Error> {
        let len = u64::from(pages) * PAGE;
        let more = len as usize - self.bytes.len();
        self.bytes.try_reserve_exact(more).map_err(|error| Error::HostMemory(error.to_string()))?;
        self.bytes.resize(len as usize, 0);
        Ok(())
    }

    #[inline(always)]
    fn touch(&mut self, at: usize) {
        self.changed[at / PAGE_BYTES % TRACKED_PAGES] = UNHASHED | UNSAVED;
    }

    /// Forgets that pages have changed, for those who look at `bit`; answers which had, in ascending order, of the first
    /// `pages`.
    pub(super) fn take_changed(&mut self, bit: u8, pages: usize) -> Vec<usize> {
        let mut changed = Vec::new();
        for (index, flags) in self.changed[..pages.min(TRACKED_PAGES)].iter_mut().enumerate() {
            if *flags & bit != 0 {
                *flags &= !bit;
                changed.push(index);
            }
        }
        changed
    }
}

/// A large array without a detour over the stack.
fn zeroed<T: Copy + std::fmt::Debug, const N: usize>(zero: T) -> Box<[T; N]> {
    vec![zero; N].into_boxed_slice().try_into().expect("the vector has the array's length")
}

/// The five regions.
pub(super) struct Store {
    pub(super) units: Arc<[Unit]>,
    pub(super) stack: Box<Stack>,
    /// End of the slots that may be other than zero.
    pub(super) stack_end: u32,
    pub(super) memories: [Memory; 2],
    pub(super) input: Arc<[u8]>,
    /// Whole leaves; what is beyond the output's length is zero.
    pub(super) output: Vec<u8>,
}

impl Store {
    /// The regions before the first step.
    pub(super) fn new(code: &Code, input: Arc<[u8]>) -> Result<Self, Error> {
        let [first, second] = &code.memories;
        let mut stack: Box<Stack> = zeroed(0);
        stack[..code.globals.len()].copy_from_slice(&code.globals);
        Ok(Self {
            units: Arc::clone(&code.units),
            stack,
            stack_end: code.base,
            memories: [Memory::new(&first.bytes, first.pages)?, Memory::new(&second.bytes, second.pages)?],
            input,
            output: Vec::new(),
        })
    }
}

/// Units as the bytes of region C.
pub(super) struct Units<'s>(pub(super) &'s [Unit]);

impl Pages for Units<'_> {
    fn count(&self) -> usize {
        self.0.len().div_ceil(PAGE_BYTES / Unit::BYTES)
    }

    fn copy(&self, index: usize, page: &mut Page) {
        let units = self.0.get(index * (PAGE_BYTES / Unit::BYTES)..).unwrap_or_default();
        let units = units.iter().copied().chain(std::iter::repeat(Unit::default()));
        for (bytes, unit) in page.as_chunks_mut().0.iter_mut().zip(units) {
            *bytes = unit.to_bytes();
        }
    }
}

/// Slots as the bytes of region S.
pub(super) struct Slots<'s>(pub(super) &'s [u64]);

/// Slots of a page.
pub(super) const PAGE_SLOTS: usize = PAGE_BYTES / 8;

impl Pages for Slots<'_> {
    fn count(&self) -> usize {
        self.0.len().div_ceil(PAGE_SLOTS)
    }

    fn copy(&self, index: usize, page: &mut Page) {
        let slots = self.0.get(index * PAGE_SLOTS..).unwrap_or_default();
        let slots = slots.iter().copied().chain(std::iter::repeat(0));
        for (bytes, slot) in page.as_chunks_mut().0.iter_mut().zip(slots) {
            *bytes = slot.to_le_bytes();
        }
    }
}

/// The leaf of `bytes` at `index`, padded with zeros.
pub(super) fn padded(bytes: &[u8], index: u64) -> [u8; LEAF] {
    let mut leaf = [0; LEAF];
    let rest = bytes.get(index as usize * LEAF..).unwrap_or_default();
    let len = rest.len().min(LEAF);
    leaf[..len].copy_from_slice(&rest[..len]);
    leaf
}

impl Bus for Store {
    type Error = Error;

    fn leaf(&mut self, region: Region, index: u64) -> Result<[u8; LEAF], Error> {
        let index = region.wrap(index);
        Ok(match region {
            Region::Code => {
                let mut leaf = [0; LEAF];
                for (unit, bytes) in leaf.chunks_exact_mut(Unit::BYTES).enumerate() {
                    let at = index as usize * 2 + unit;
                    bytes.copy_from_slice(&self.units.get(at).copied().unwrap_or_default().to_bytes());
                }
                leaf
            }
            Region::Stack => {
                let mut leaf = [0; LEAF];
                for (slot, bytes) in leaf.chunks_exact_mut(8).enumerate() {
                    bytes.copy_from_slice(&self.slot(index as u32 * 4 + slot as u32)?.to_le_bytes());
                }
                leaf
            }
            Region::Memory => padded(&self.memories[(index >> 27) as usize & 1].bytes, index & 0x7ff_ffff),
            Region::Input => padded(&self.input, index),
            Region::Output => padded(&self.output, index),
        })
    }

    fn update(&mut self, region: Region, index: u64, change: impl FnOnce(&mut [u8; LEAF])) -> Result<(), Error> {
        let index = region.wrap(index);
        let mut leaf = self.leaf(region, index)?;
        change(&mut leaf);
        match region {
            Region::Memory => {
                let memory = &mut self.memories[(index >> 27) as usize & 1];
                let at = (index & 0x7ff_ffff) as usize * LEAF;
                memory.bytes[at..at + LEAF].copy_from_slice(&leaf);
                memory.touch(at);
            }
            Region::Stack => {
                for (slot, bytes) in leaf.chunks_exact(8).enumerate() {
                    let value = u64::from_le_bytes(bytes.try_into().expect("a slot has eight bytes"));
                    self.set_slot(index as u32 * 4 + slot as u32, value)?;
                }
            }
            Region::Output => {
                let at = index as usize * LEAF;
                let end = at + LEAF;
                if end > self.output.len() {
                    let more = end - self.output.len();
                    self.output.try_reserve(more).map_err(|error| Error::HostMemory(error.to_string()))?;
                    self.output.resize(end, 0);
                }
                self.output[at..end].copy_from_slice(&leaf);
            }
            Region::Code | Region::Input => unreachable!("no instruction writes to code or input"),
        }
        Ok(())
    }

    fn grow(&mut self, memory: usize, pages: u32) -> Result<(), Error> {
        self.memories[memory].grow(pages)
    }

    fn frame(&mut self, end: u32) {
        self.stack_end = self.stack_end.max(end);
    }

    fn unit(&mut self, index: u32) -> Result<Unit, Error> {
        Ok(self.units.get(index as usize).copied().unwrap_or_default())
    }

    fn slot(&mut self, index: u32) -> Result<u64, Error> {
        Ok(self.stack[(index % STACK_SLOTS) as usize])
    }

    fn set_slot(&mut self, index: u32, value: u64) -> Result<(), Error> {
        self.stack[(index % STACK_SLOTS) as usize] = value;
        Ok(())
    }
}
