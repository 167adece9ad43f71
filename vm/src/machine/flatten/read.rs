//! The sections of a module, as far as flattening needs them.

use std::collections::HashMap;

use wasmparser::{
    DataKind, ElementItems, ElementKind, ExternalKind, FuncType, FunctionBody, Operator, Parser, Payload, TypeRef,
    ValType, Validator, WasmFeatures,
};

use super::{Export, InitialMemory};
use crate::Error;

/// What the machine executes. The rest of `BULK_MEMORY`, which changes tables, is refused where it stands.
fn features() -> WasmFeatures {
    WasmFeatures::FLOATS
        | WasmFeatures::MUTABLE_GLOBAL
        | WasmFeatures::SATURATING_FLOAT_TO_INT
        | WasmFeatures::SIGN_EXTENSION
        | WasmFeatures::BULK_MEMORY
        | WasmFeatures::CALL_INDIRECT_OVERLONG
        | WasmFeatures::MULTI_MEMORY
}

/// The functions of module `conun`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostFunction {
    InputLen,
    InputRead,
    OutputWrite,
    Exit,
    /// Of a test's module: takes its operands and does nothing.
    Ignored,
}

impl HostFunction {
    fn find(module: &str, name: &str, ty: &FuncType) -> Option<Self> {
        use ValType::{I32, I64};
        let (function, params, results): (_, &[ValType], &[ValType]) = match (module, name) {
            ("conun", "input_len") => (Self::InputLen, &[], &[I64]),
            ("conun", "input_read") => (Self::InputRead, &[I64, I64, I32], &[I32]),
            ("conun", "output_write") => (Self::OutputWrite, &[I64, I32], &[]),
            ("conun", "exit") => (Self::Exit, &[I32], &[]),
            _ => return None,
        };
        (ty.params() == params && ty.results() == results).then_some(function)
    }
}

/// Numbers of parameters and results, and a number that equal types share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signature {
    pub(super) params: usize,
    pub(super) results: usize,
    pub(super) id: u32,
}

/// A data segment.
pub(super) struct Segment<'a> {
    pub(super) data: &'a [u8],
    /// Copied into a memory before the first step, then dropped.
    pub(super) active: bool,
}

/// A validated module.
#[derive(Default)]
pub(super) struct Module<'a> {
    /// The file, for opcode bytes.
    pub(super) wasm: &'a [u8],
    pub(super) types: Vec<Signature>,
    /// Type of each function, the imported ones first.
    pub(super) function_types: Vec<u32>,
    pub(super) imports: Vec<HostFunction>,
    /// Function of each element of the table, `None` for null.
    pub(super) table: Vec<Option<u32>>,
    pub(super) memories: [InitialMemory; 2],
    /// Slots of S that hold globals, before the first step; slot 0 is fuel's.
    pub(super) globals: Vec<u64>,
    /// Slot of each global.
    pub(super) global_slots: Vec<u32>,
    pub(super) segments: Vec<Segment<'a>>,
    pub(super) exports: HashMap<String, Export>,
    pub(super) start: Option<u32>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
}

/// Refuses what the machine cannot hold.
pub(super) fn unsupported(offset: u64, reason: impl Into<String>) -> Error {
    Error::Unsupported {
        offset,
        reason: reason.into(),
        advice: "prepare the program first, or make it smaller: no step machine can execute it as it is",
    }
}

/// The value of an initializer, which is one instruction and `end`.
fn constant(expression: &wasmparser::ConstExpr<'_>, globals: &[u64]) -> Result<u64, Error> {
    let mut operators = expression.get_operators_reader();
    let offset = operators.original_position();
    Ok(match operators.read()? {
        Operator::I32Const { value } => u64::from(value.cast_unsigned()),
        Operator::I64Const { value } => value.cast_unsigned(),
        Operator::F32Const { value } => u64::from(value.bits()),
        Operator::F64Const { value } => value.bits(),
        Operator::GlobalGet { global_index } => globals[global_index as usize],
        _ => return Err(unsupported(offset, "an initializer that is no constant")),
    })
}

/// The function that an element expression names.
fn element(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<u32>, Error> {
    let mut operators = expression.get_operators_reader();
    let offset = operators.original_position();
    match operators.read()? {
        Operator::RefFunc { function_index } => Ok(Some(function_index)),
        Operator::RefNull { .. } => Ok(None),
        _ => Err(unsupported(offset, "an element that is no function")),
    }
}

impl<'a> Module<'a> {
    /// Reads a module; functions without results of the module `ignored` do nothing.
    pub(super) fn read(wasm: &'a [u8], ignored: Option<&str>) -> Result<Self, Error> {
        Validator::new_with_features(features()).validate_all(wasm)?;
        let mut module = Self { wasm, ..Self::default() };
        let mut types = Vec::new();
        let mut globals = Vec::new();
        let mut memories = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    let mut ids = HashMap::new();
                    for ty in section.into_iter_err_on_gc_types() {
                        let ty = ty?;
                        // Zero is no type: an empty element of the call table.
                        let next = ids.len() as u32 + 1;
                        let id = *ids.entry(ty.clone()).or_insert(next);
                        module.types.push(Signature { params: ty.params().len(), results: ty.results().len(), id });
                        types.push(ty);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports_with_offsets() {
                        let (offset, import) = import?;
                        let TypeRef::Func(ty) = import.ty else {
                            return Err(unsupported(offset, format!("import `{}` of no function", import.name)));
                        };
                        let signature = &types[ty as usize];
                        let function = if Some(import.module) == ignored && signature.results().is_empty() {
                            Some(HostFunction::Ignored)
                        } else {
                            HostFunction::find(import.module, import.name, signature)
                        };
                        module.imports.push(function.ok_or_else(|| Error::ForbiddenImport {
                            module: import.module.escape_default().take(64).collect(),
                            name: import.name.escape_default().take(64).collect(),
                        })?);
                        module.function_types.push(ty);
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        module.function_types.push(ty?);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        let elements = table?.ty.initial;
                        if elements > crate::MAX_TABLE_ELEMENTS {
                            return Err(Error::TableTooLarge { elements });
                        }
                        module.table = vec![None; elements as usize];
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section.into_iter_with_offsets() {
                        let (offset, memory) = memory?;
                        let slot = module.memories.get_mut(memories);
                        let slot = slot.ok_or_else(|| unsupported(offset, "more than two memories"))?;
                        slot.pages = memory.initial as u32;
                        slot.maximum = memory.maximum.unwrap_or(65536) as u32;
                        memories += 1;
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        globals.push(constant(&global?.init_expr, &globals)?);
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let what = match export.kind {
                            ExternalKind::Func => Export::Function(export.index),
                            ExternalKind::Global => Export::Global(export.index),
                            _ => continue,
                        };
                        module.exports.insert(export.name.to_owned(), what);
                    }
                }
                Payload::StartSection { func, .. } => module.start = Some(func),
                Payload::ElementSection(section) => {
                    for segment in section {
                        module.place_elements(segment?, &globals)?;
                    }
                }
                Payload::DataSection(section) => {
                    for segment in section {
                        module.place_data(segment?, &globals)?;
                    }
                }
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                _ => {}
            }
        }
        module.place_globals(&globals);
        Ok(module)
    }

    fn place_elements(&mut self, segment: wasmparser::Element<'a>, globals: &[u64]) -> Result<(), Error> {
        let ElementKind::Active { offset_expr, .. } = segment.kind else { return Ok(()) };
        let functions = match segment.items {
            ElementItems::Functions(functions) => functions.into_iter().map(|f| Ok(Some(f?))).collect(),
            ElementItems::Expressions(_, all) => all.into_iter().map(|e| element(&e?)).collect::<Result<Vec<_>, _>>(),
        }?;
        let first = constant(&offset_expr, globals)? as usize;
        let room = self.table.get_mut(first..).and_then(|rest| rest.get_mut(..functions.len()));
        let room = room.ok_or_else(|| unsupported(segment.range.start, "elements outside of the table"))?;
        room.copy_from_slice(&functions);
        Ok(())
    }

    fn place_data(&mut self, segment: wasmparser::Data<'a>, globals: &[u64]) -> Result<(), Error> {
        let active = match segment.kind {
            DataKind::Passive => false,
            DataKind::Active { memory_index, offset_expr } => {
                let memory = &mut self.memories[memory_index as usize];
                let first = constant(&offset_expr, globals)? as usize;
                let end = first + segment.data.len();
                if end > memory.pages as usize * 65536 {
                    return Err(unsupported(segment.range.start, "data outside of the memory"));
                }
                if !segment.data.is_empty() {
                    memory.bytes.resize(memory.bytes.len().max(end), 0);
                    memory.bytes[first..end].copy_from_slice(segment.data);
                }
                true
            }
        };
        self.segments.push(Segment { data: segment.data, active });
        Ok(())
    }

    /// Gives each global its slot: the one exported as `fuel` slot 0, the others from 1 on, and makes slots of exports'
    /// indices.
    fn place_globals(&mut self, values: &[u64]) {
        let fuel = match self.exports.get("fuel") {
            Some(Export::Global(index)) => Some(*index),
            _ => None,
        };
        self.globals = vec![0];
        for (index, value) in values.iter().enumerate() {
            if Some(index as u32) == fuel {
                self.global_slots.push(0);
                self.globals[0] = *value;
            } else {
                self.global_slots.push(self.globals.len() as u32);
                self.globals.push(*value);
            }
        }
        for export in self.exports.values_mut() {
            if let Export::Global(index) = export {
                *index = self.global_slots[*index as usize];
            }
        }
    }

    pub(super) fn imported_functions(&self) -> u32 {
        self.imports.len() as u32
    }

    pub(super) fn signature(&self, function: u32) -> Signature {
        self.types[self.function_types[function as usize] as usize]
    }

    pub(super) fn function_type_id(&self, function: u32) -> u32 {
        self.signature(function).id
    }
}
