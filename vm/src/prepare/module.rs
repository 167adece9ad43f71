//! The sections of a prepared module.

use std::convert::Infallible;

use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, EntityType, ExportKind, ExportSection,
    FunctionSection, GlobalSection, GlobalType, ImportSection, MemorySection, MemoryType, Module, StartSection,
    TableSection, TypeSection, ValType,
    reencode::{self, Reencode, utils},
};
use wasmparser::{ExternalKind, TypeRef};

use super::{
    FUEL, LOG, MEMORY, PAGE, START, SYSTEM, function,
    helpers::{Globals, Helper, Helpers, HostCall},
    source::{Source, count},
};
use crate::{
    check::Kind,
    error::Error,
    fuel::DEPTH_SLOTS,
    limits::{Limits, MAX_FUEL, MAX_PREPARED_FUNCTION_BYTES},
};

/// Exports of what is left of fuel and depth in a module that keeps its own exports, both mutable i64 globals.
const LIBRARY_FUEL: &str = "conun:fuel";
const LIBRARY_DEPTH: &str = "conun:depth";

/// The module `conun`, whose functions are charged.
const HOST: &str = "conun";

/// Puts the program's indices right: whoever calls a host function calls what charges for it.
#[derive(Debug)]
pub(crate) struct Indices {
    /// Of each imported function: what takes its place.
    imported: Vec<u32>,
}

impl Reencode for Indices {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        Ok(self.imported.get(function as usize).copied().unwrap_or(function))
    }
}

/// What the parts of a module need to know of each other.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) source: &'a Source<'a>,
    pub(crate) indices: Indices,
    pub(crate) helpers: Helpers,
    pub(crate) globals: Globals,
    /// Most pages of each memory.
    pub(crate) max_pages: Vec<u32>,
}

/// Writes the prepared module.
///
/// # Errors
///
/// [`Error::MemoryTooSmall`]; [`Error::TooMany`] for a function that becomes too large.
pub(crate) fn write(source: &Source<'_>, limits: &Limits, kind: Kind) -> Result<Vec<u8>, Error> {
    let limit = limits.memory_bytes / PAGE;
    let needs: u64 = source.memories.iter().map(|memory| memory.initial).sum();
    let Some(spare) = limit.checked_sub(needs) else {
        return Err(Error::MemoryTooSmall { needs: needs * PAGE, limit: limits.memory_bytes });
    };
    let pages = |pages: u64| u32::try_from(pages).expect("no limit is beyond 2^16 pages");

    let own = count(source.globals.len());
    let mut helpers = Helpers::new(count(source.functions.len()));
    let mut imported = Vec::new();
    for (index, import) in (0..).zip(&source.imports) {
        let call = match import.name {
            _ if import.module != HOST => None,
            "input_len" => Some(HostCall::InputLen),
            "input_read" => Some(HostCall::InputRead),
            "output_write" => Some(HostCall::OutputWrite),
            "exit" => Some(HostCall::Exit),
            _ => None,
        };
        imported.push(call.map_or(index, |call| helpers.index(Helper::Host { call, import: index })));
    }
    let mut context = Context {
        source,
        indices: Indices { imported },
        helpers,
        globals: Globals { fuel: own, depth: own + 1, pages: own + 2 },
        max_pages: source.memories.iter().map(|m| pages(m.maximum.unwrap_or(limit).min(limit))).collect(),
    };

    // The code first: only it knows which helpers there are.
    let mut code = CodeSection::new();
    for (index, (body, shape)) in (source.imported()..).zip(&source.bodies) {
        let function = function::write(&mut context, index, body, shape)?;
        let found = function.byte_len() as u64;
        if found > MAX_PREPARED_FUNCTION_BYTES {
            let what = "bytes of one function, with what preparation adds";
            return Err(Error::TooMany { what, found, most: MAX_PREPARED_FUNCTION_BYTES });
        }
        code.function(&function);
    }
    for helper in context.helpers.all() {
        code.function(&helper.body(context.globals));
    }

    let mut module = Module::new();
    let helper_types = declare_functions(&mut module, &context)?;
    declare_memories(&mut module, &mut context)?;
    // Only a library can have a start section, which runs before anybody could set the fuel.
    let fuel = if kind == Kind::Library { MAX_FUEL } else { 0 };
    module.section(&globals(&mut context, fuel, pages(spare))?);
    module.section(&exports(&mut context, kind)?);
    if let Some(start) = source.start {
        module.section(&StartSection { function_index: context.indices.function_index(start)? });
    }
    if let Some(elements) = source.elements.clone() {
        let mut section = ElementSection::new();
        utils::parse_element_section(&mut context.indices, &mut section, elements)?;
        module.section(&section);
    }
    if let Some(count) = source.data_count {
        module.section(&DataCountSection { count });
    }
    if !code.is_empty() {
        module.section(&code);
    }
    if let Some(data) = source.data.clone() {
        let mut section = DataSection::new();
        utils::parse_data_section(&mut context.indices, &mut section, data)?;
        module.section(&section);
    }
    debug_assert_eq!(helper_types, context.helpers.all().len());
    Ok(module.finish())
}

/// Types, imports, and the types of functions; answers how many functions were added.
fn declare_functions(module: &mut Module, context: &Context<'_>) -> Result<usize, Error> {
    let mut types = TypeSection::new();
    for ty in &context.source.types {
        let values = |types: &[wasmparser::ValType]| types.iter().map(|ty| value_type(*ty)).collect::<Vec<_>>();
        types.ty().function(values(ty.params()), values(ty.results()));
    }
    let mut functions = FunctionSection::new();
    for ty in context.source.functions.iter().skip(context.source.imports.len()) {
        functions.function(*ty);
    }
    for helper in context.helpers.all() {
        let (params, results) = helper.signature();
        functions.function(types.len());
        types.ty().function(params.iter().copied(), results.iter().copied());
    }
    let mut imports = ImportSection::new();
    for import in &context.source.imports {
        if let TypeRef::Func(ty) = import.ty {
            imports.import(import.module, import.name, EntityType::Function(ty));
        }
    }
    if !types.is_empty() {
        module.section(&types);
    }
    if !imports.is_empty() {
        module.section(&imports);
    }
    if !functions.is_empty() {
        module.section(&functions);
    }
    Ok(context.helpers.all().len())
}

fn declare_memories(module: &mut Module, context: &mut Context<'_>) -> Result<(), Error> {
    if let Some(tables) = context.source.tables.clone() {
        let mut section = TableSection::new();
        for table in tables {
            let mut ty = table?.ty;
            // Nothing makes a table grow, and nobody else sees it: no host needs to reserve what it may have.
            ty.maximum = Some(ty.initial);
            section.table(context.indices.table_type(ty)?);
        }
        module.section(&section);
    }
    let mut memories = MemorySection::new();
    for (memory, max_pages) in context.source.memories.iter().zip(&context.max_pages) {
        memories.memory(MemoryType {
            minimum: memory.initial,
            maximum: Some(u64::from(*max_pages)),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
    }
    if !memories.is_empty() {
        module.section(&memories);
    }
    Ok(())
}

fn globals(context: &mut Context<'_>, fuel: u64, spare: u32) -> Result<GlobalSection, Error> {
    let mut section = GlobalSection::new();
    for (ty, init) in &context.source.globals {
        section.global(context.indices.global_type(*ty)?, &context.indices.const_expr(init.clone())?);
    }
    let mutable = |val_type| GlobalType { val_type, mutable: true, shared: false };
    section.global(mutable(ValType::I64), &ConstExpr::i64_const(fuel.cast_signed()));
    section.global(mutable(ValType::I64), &ConstExpr::i64_const(i64::from(DEPTH_SLOTS)));
    section.global(mutable(ValType::I32), &ConstExpr::i32_const(spare.cast_signed()));
    Ok(section)
}

fn exports(context: &mut Context<'_>, kind: Kind) -> Result<ExportSection, Error> {
    let mut section = ExportSection::new();
    let fuel = context.globals.fuel;
    if kind == Kind::Library {
        for export in &context.source.exports {
            utils::parse_export(&mut context.indices, &mut section, *export)?;
        }
        section.export(LIBRARY_FUEL, ExportKind::Global, fuel);
        section.export(LIBRARY_DEPTH, ExportKind::Global, context.globals.depth);
        return Ok(section);
    }
    for export in &context.source.exports {
        match (export.name, export.kind) {
            ("_start", ExternalKind::Func) => {
                let start = context.indices.function_index(export.index)?;
                section.export(START, ExportKind::Func, start);
            }
            (LOG, ExternalKind::Global) if context.source.memories.len() > 1 => {
                section.export(LOG, ExportKind::Global, export.index);
            }
            _ => {}
        }
    }
    section.export(MEMORY, ExportKind::Memory, 0);
    if context.source.memories.len() > 1 {
        section.export(SYSTEM, ExportKind::Memory, 1);
    }
    section.export(FUEL, ExportKind::Global, fuel);
    Ok(section)
}

/// The type of a value; only numbers are accepted.
pub(crate) fn value_type(ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 | wasmparser::ValType::Ref(_) => {
            unreachable!("`check` refuses vectors and references")
        }
    }
}
