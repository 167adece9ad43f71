//! A module taken apart into its sections.

use wasmparser::{
    DataKind, DataSectionReader, ElementSectionReader, Export, ExternalKind, FuncType, FuncValidatorAllocations,
    FunctionBody, GlobalType, Import, MemoryType, Parser, Payload, TableSectionReader, TypeRef, TypeSectionReader,
    ValidPayload, Validator,
};

use super::{
    calls::{self, Role},
    units::Shape,
};
use crate::{check::FEATURES, error::Error, fuel};

/// A valid module, its sections not yet read where they are copied.
#[derive(Debug, Default)]
pub(crate) struct Source<'a> {
    pub(crate) types: Vec<FuncType>,
    pub(crate) imports: Vec<Import<'a>>,
    /// Type index of each function, imported ones first.
    pub(crate) functions: Vec<u32>,
    pub(crate) tables: Option<TableSectionReader<'a>>,
    pub(crate) memories: Vec<MemoryType>,
    pub(crate) globals: Vec<(GlobalType, wasmparser::ConstExpr<'a>)>,
    pub(crate) exports: Vec<Export<'a>>,
    pub(crate) elements: Option<ElementSectionReader<'a>>,
    pub(crate) data_count: Option<u32>,
    pub(crate) data: Option<DataSectionReader<'a>>,
    pub(crate) start: Option<u32>,
    pub(crate) bodies: Vec<(FunctionBody<'a>, Shape)>,
    /// What is known of each function; filled in once all are read.
    pub(crate) roles: Vec<Role>,
}

impl<'a> Source<'a> {
    /// Reads a module that [`check`](crate::check()) has accepted, or that the merger made of one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is not valid after all.
    pub(crate) fn read(wasm: &'a [u8]) -> Result<Self, Error> {
        let mut source = Self::default();
        let mut validator = Validator::new_with_features(FEATURES | wasmparser::WasmFeatures::MULTI_MEMORY);
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            if let ValidPayload::Func(func, body) = validator.payload(&payload)? {
                let mut func = func.into_validator(std::mem::take(&mut allocations));
                let shape = Shape::of(&body, &mut func)?;
                source.bodies.push((body, shape));
                allocations = func.into_allocations();
            } else {
                source.section(payload)?;
            }
        }
        source.roles = calls::assign(&mut source)?;
        source.charge_beginning()?;
        Ok(source)
    }

    /// Lets `_start` pay for what each new instance does before it begins.
    fn charge_beginning(&mut self) -> Result<(), Error> {
        let start = self.exports.iter().find(|export| export.name == "_start" && export.kind == ExternalKind::Func);
        let defined = start.and_then(|start| (start.index as usize).checked_sub(self.imports.len()));
        let Some((_, shape)) = defined.and_then(|defined| self.bodies.get_mut(defined)) else { return Ok(()) };
        let mut bytes = 0;
        for segment in self.data.clone().into_iter().flatten() {
            let segment = segment?;
            if matches!(segment.kind, DataKind::Active { .. }) {
                bytes += segment.data.len() as u64;
            }
        }
        let mut elements = 0;
        for table in self.tables.clone().into_iter().flatten() {
            elements += table?.ty.initial;
        }
        shape.units[0].1 += bytes / fuel::DATA_BYTES_PER_FUEL + elements * fuel::TABLE_ELEMENT;
        Ok(())
    }

    fn section(&mut self, payload: Payload<'a>) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(types) => self.types = function_types(types)?,
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if let TypeRef::Func(index) = import.ty {
                        self.functions.push(index);
                    }
                    self.imports.push(import);
                }
            }
            Payload::FunctionSection(functions) => {
                for function in functions {
                    self.functions.push(function?);
                }
            }
            Payload::TableSection(tables) => self.tables = Some(tables),
            Payload::MemorySection(memories) => self.memories = memories.into_iter().collect::<Result<_, _>>()?,
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.globals.push((global.ty, global.init_expr));
                }
            }
            Payload::ExportSection(exports) => self.exports = exports.into_iter().collect::<Result<_, _>>()?,
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(elements) => self.elements = Some(elements),
            Payload::DataCountSection { count, .. } => self.data_count = Some(count),
            Payload::DataSection(data) => self.data = Some(data),
            // Custom sections mean nothing; the rest has been refused or is the module's frame.
            _ => {}
        }
        Ok(())
    }

    /// Functions imported: all that is imported.
    pub(crate) fn imported(&self) -> u32 {
        count(self.imports.len())
    }

    /// The type of a function.
    pub(crate) fn signature(&self, function: u32) -> &FuncType {
        &self.types[self.functions[function as usize] as usize]
    }
}

fn function_types(types: TypeSectionReader<'_>) -> Result<Vec<FuncType>, Error> {
    Ok(types.into_iter_err_on_gc_types().collect::<Result<_, _>>()?)
}

/// An index space's size: the validator has bounded it far below 2^32.
pub(crate) fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a validated module has fewer than 2^32 items")
}
