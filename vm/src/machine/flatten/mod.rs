//! From a WebAssembly module to the step machine's regions as they are before the first step.
//!
//! Region C is: the call table (a unit per element), the code of all functions, three units that begin and end a task, and
//! the data segments that `memory.init` uses, each at the beginning of a leaf. Region S begins with the global slots:
//! slot 0 is the global that is exported as `fuel` (unused if there is none), then the other globals in their order, then
//! the remaining length of each such data segment; frames follow, from a multiple of four on.

mod assembler;
mod function;
mod read;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, OnceLock},
};

use super::{
    fast::{Decoded, decode},
    op::{self, Unit},
    step::STACK_SLOTS,
};
use crate::{
    Error,
    fuel::{DEPTH_SLOTS, FRAME_SLOTS, NAN_SLOTS, UNCOUNTED_SLOTS},
    roots::{Hash, Tree},
};

/// Depth of region C's tree: 2^24 leaves are 32 Mi instructions, or 512 MiB.
pub const CODE_DEPTH: u32 = 24;

/// Most slots of a frame: instructions name slots by 16 bits.
pub const MAX_FRAME_SLOTS: u32 = u16::MAX as u32;

/// Most global slots: what preparation lets the frames of a program take still fits behind them, so that region S never
/// overflows where a native stack would not. A few frames that preparation adds are allowed for.
pub const MAX_GLOBAL_SLOTS: u32 = STACK_SLOTS - DEPTH_SLOTS - UNCOUNTED_SLOTS - 4_096;

/// A function of the module, as the machine runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its units of region C, the entry first.
    pub code: Range<u32>,
    /// Slots of its frame.
    pub frame: u16,
    /// Its parameters.
    pub params: u16,
    /// Its results, 0 or 1.
    pub results: u16,
}

/// A memory before the first step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialMemory {
    /// The bytes up to the last that an active segment sets; the rest is zero.
    pub bytes: Vec<u8>,
    /// Pages of 64 KiB.
    pub pages: u32,
    /// Most pages it may grow to.
    pub maximum: u32,
}

/// What an export is, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// A function of this module, by its index.
    Function(u32),
    /// A global, by its slot.
    Global(u32),
}

/// A module as the step machine runs it: the same bytes of wasm give the same code everywhere.
#[derive(Clone, Debug)]
pub struct Code {
    /// Region C.
    pub(super) units: Arc<[Unit]>,
    /// Global slots before the first step.
    pub(super) globals: Vec<u64>,
    /// Both memories before the first step.
    pub(super) memories: [InitialMemory; 2],
    /// All functions, the imported ones first.
    pub(super) functions: Vec<Function>,
    /// Exported functions and globals.
    pub(super) exports: HashMap<String, Export>,
    /// Function of the start section, for tests: a program has none.
    pub(super) start: Option<u32>,
    /// Where a task begins, if the module exports a `start`.
    pub(super) entry: Option<u32>,
    /// The unit that ends a task, to return to.
    pub(super) halt: u32,
    /// First frame.
    pub(super) base: u32,
    /// The code as the loop wants it, once a machine has run.
    pub(super) decoded: OnceLock<Arc<[Decoded]>>,
    /// The tree over region C, once it was asked for.
    pub(super) tree: OnceLock<Arc<Tree>>,
    /// Roots of C, S and M before the first step, once they were asked for.
    pub(super) roots: OnceLock<[Hash; 3]>,
}

/// Most units of region C.
const MAX_UNITS: u64 = 2 << CODE_DEPTH;

// What `check` accepts has no larger frames: parameters (at most 1,000), locals, operands, and what preparation adds.
const _: () = assert!(
    1_000 + crate::MAX_LOCALS + crate::MAX_OPERANDS + (FRAME_SLOTS + NAN_SLOTS) as u64 <= MAX_FRAME_SLOTS as u64
);
// Nor more globals and segments, the WASI layer's and preparation's included.
const _: () = assert!(crate::MAX_GLOBALS + crate::MAX_SEGMENTS + 1_000 <= MAX_GLOBAL_SLOTS as u64);

/// # Errors
/// [`Error::TooMany`] if region C has no room for so many.
fn room_for(units: usize) -> Result<(), Error> {
    let found = units as u64;
    if found > MAX_UNITS {
        return Err(Error::TooMany { what: "instructions of the step machine (or more)", found, most: MAX_UNITS });
    }
    Ok(())
}

impl Code {
    /// Flattens a module: validates it, and turns it into instructions and initial regions.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no valid module of the accepted features, [`Error::Unsupported`] or
    /// [`Error::TooMany`] if it is beyond what the machine holds: [`MAX_FRAME_SLOTS`], [`MAX_GLOBAL_SLOTS`], region C of
    /// depth [`CODE_DEPTH`].
    pub fn flatten(wasm: &[u8]) -> Result<Self, Error> {
        Self::of(&read::Module::read(wasm, None)?)
    }

    /// The same for a test's module: functions that it imports from `ignored` do nothing.
    ///
    /// # Errors
    /// As [`Code::flatten`].
    #[doc(hidden)]
    pub fn flatten_ignoring(wasm: &[u8], ignored: &str) -> Result<Self, Error> {
        Self::of(&read::Module::read(wasm, Some(ignored))?)
    }

    fn of(module: &read::Module<'_>) -> Result<Self, Error> {
        let mut assembler = assembler::Assembler::new(module);
        for (body, index) in module.bodies.iter().zip(module.imported_functions()..) {
            assembler.function(body, index)?;
        }
        let assembler::Assembled { mut units, functions, segments, calls } = assembler.finish();

        // Calls and table entries name functions that may come later.
        for (at, callee) in calls {
            let callee = &functions[callee as usize];
            units[at].imm = u64::from(callee.code.start) | u64::from(callee.frame) << 32;
        }
        for (at, element) in module.table.iter().enumerate() {
            let Some(function) = element else { continue };
            let entry = &functions[*function as usize];
            units[at] = Unit {
                op: op::TRAP,
                d: entry.frame,
                a: entry.params,
                b: 0,
                imm: u64::from(entry.code.start) | u64::from(module.function_type_id(*function)) << 32,
            };
        }

        let start = match module.exports.get("start") {
            Some(Export::Function(index)) => Some(*index),
            _ => None,
        };
        let entry = start.map(|index| {
            let callee = &functions[index as usize];
            let entry = units.len() as u32;
            units.push(Unit { op: op::SET_FUEL, ..Unit::default() });
            units.push(Unit {
                op: op::CALL,
                a: callee.params,
                imm: u64::from(callee.code.start) | u64::from(callee.frame) << 32,
                ..Unit::default()
            });
            entry
        });
        let halt = units.len() as u32;
        units.push(Unit { op: op::HALT, ..Unit::default() });

        let mut globals = module.globals.clone();
        let mut first_leaf = HashMap::new();
        for segment in &segments {
            if units.len() % 2 == 1 {
                units.push(Unit::default());
            }
            let segment = &module.segments[*segment as usize];
            first_leaf.insert(globals.len() as u32, units.len() as u64 / 2);
            globals.push(if segment.active { 0 } else { segment.data.len() as u64 });
            units.extend(segment.data.chunks(Unit::BYTES).map(|chunk| {
                let mut bytes = [0; Unit::BYTES];
                bytes[..chunk.len()].copy_from_slice(chunk);
                Unit::from_bytes(bytes)
            }));
        }
        for function in &functions {
            for unit in &mut units[function.code.start as usize..function.code.end as usize] {
                if unit.op == op::MEMORY_INIT {
                    unit.imm |= first_leaf[&(unit.imm as u32 >> 1)] << 32;
                }
            }
        }
        room_for(units.len())?;

        let base = globals.len().next_multiple_of(4) as u32;
        if base > MAX_GLOBAL_SLOTS {
            return Err(read::unsupported(0, "more globals and data segments than the step machine has slots for"));
        }
        Ok(Self {
            units: units.into(),
            globals,
            memories: module.memories.clone(),
            functions,
            exports: module.exports.clone(),
            start: module.start,
            entry,
            halt,
            base,
            decoded: OnceLock::new(),
            tree: OnceLock::new(),
            roots: OnceLock::new(),
        })
    }

    /// Region C as the loop wants it.
    pub(super) fn decoded(&self) -> &[Decoded] {
        self.decoded.get_or_init(|| decode(&self.units).into())
    }

    /// Instructions and other units of region C, 16 bytes each.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// All functions by their index; an imported one is two units, for calls through the table.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }
}
