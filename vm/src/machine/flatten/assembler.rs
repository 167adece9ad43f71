//! All functions of a module, one behind the other.

use std::collections::HashMap;

use wasmparser::FunctionBody;

use super::{
    Function, MAX_FRAME_SLOTS,
    function::Translator,
    read::{HostFunction, Module, unsupported},
    room_for,
};
use crate::{
    Error,
    machine::op::{self, Unit},
};

/// All functions of a module.
pub(super) struct Assembler<'m, 'a> {
    pub(super) module: &'m Module<'a>,
    pub(super) out: Assembled,
    /// Slot of the length of each data segment that `memory.init` uses.
    segment_slots: HashMap<u32, u32>,
}

/// What becomes of them.
pub(super) struct Assembled {
    /// Room for the call table, then the code.
    pub(super) units: Vec<Unit>,
    /// Where each function is.
    pub(super) functions: Vec<Function>,
    /// Data segments that `memory.init` uses, in the order of their slots.
    pub(super) segments: Vec<u32>,
    /// Calls whose target is to be filled in: unit, and the function's index.
    pub(super) calls: Vec<(usize, u32)>,
}

impl<'m, 'a> Assembler<'m, 'a> {
    /// Begins with a function for each import, so that it may be in the table.
    pub(super) fn new(module: &'m Module<'a>) -> Self {
        let mut units = vec![Unit::default(); module.table.len()];
        let mut functions = Vec::new();
        for (import, index) in module.imports.iter().zip(0..) {
            let signature = module.signature(index);
            let (params, start) = (signature.params as u16, units.len() as u32);
            units.extend(host(*import, params + 1, 0));
            units.push(Unit {
                op: if signature.results == 0 { op::RETURN } else { op::RETURN_VALUE },
                a: params,
                b: params + 1,
                ..Unit::default()
            });
            let (code, results) = (start..units.len() as u32, signature.results as u16);
            functions.push(Function { code, frame: params + 2, params, results });
        }
        let out = Assembled { units, functions, segments: Vec::new(), calls: Vec::new() };
        Self { module, out, segment_slots: HashMap::new() }
    }

    pub(super) fn function(&mut self, body: &FunctionBody<'a>, index: u32) -> Result<(), Error> {
        let signature = self.module.signature(index);
        let offset = body.range().start;
        if signature.results > 1 {
            return Err(unsupported(offset, format!("function {index} with more than one result")));
        }
        let start = self.out.units.len() as u32;
        let mut locals = 0;
        for group in body.get_locals_reader()? {
            locals += u64::from(group?.0);
        }
        let base = signature.params as u64 + 1 + locals;
        let base = u16::try_from(base).map_err(|_| too_large(offset, index))?;
        let frame = Translator::new(self, signature, base, index, offset).translate(body)?;
        // Here and not at the end: a few bytes of wasm may be a large frame to set to zero.
        room_for(self.out.units.len())?;
        let (code, params, results) =
            (start..self.out.units.len() as u32, signature.params as u16, signature.results as u16);
        self.out.functions.push(Function { code, frame, params, results });
        Ok(())
    }

    pub(super) fn finish(self) -> Assembled {
        self.out
    }

    /// Slot of the length of a data segment.
    pub(super) fn segment_slot(&mut self, segment: u32) -> u32 {
        let next = (self.module.globals.len() + self.out.segments.len()) as u32;
        *self.segment_slots.entry(segment).or_insert_with(|| {
            self.out.segments.push(segment);
            next
        })
    }
}

pub(super) fn too_large(offset: u64, function: u32) -> Error {
    unsupported(offset, format!("function {function} with a frame of more than {} slots", MAX_FRAME_SLOTS))
}

/// The instruction for a host function with its operands from slot `a` on.
pub(super) fn host(function: HostFunction, d: u16, a: u16) -> Option<Unit> {
    let op = match function {
        HostFunction::InputLen => op::INPUT_LEN,
        HostFunction::InputRead => op::INPUT_READ,
        HostFunction::OutputWrite => op::OUTPUT_WRITE,
        HostFunction::Exit => op::EXIT,
        HostFunction::Ignored => return None,
    };
    Some(Unit { op, d, a, ..Unit::default() })
}
