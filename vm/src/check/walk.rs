//! One pass over a module that finds all that is refused about it.

use wasmparser::{
    ConstExpr, DataKind, ElementItems, ElementKind, ExternalKind, FuncToValidate, FuncValidatorAllocations,
    FunctionBody, Operator, Parser, Payload, TypeRef, ValidPayload, Validator, ValidatorResources, WasmFeatures,
    types::TypesRef,
};

use super::{Function, Functions, Kind, MOST_REFUSALS, Refusal, effort::Effort, features::Feature, imports};
use crate::{
    error::Error,
    limits::{
        MAX_BR_TABLE, MAX_CODE_BYTES, MAX_EFFORT, MAX_EFFORT_TOGETHER, MAX_FUNCTION_BYTES, MAX_FUNCTIONS, MAX_GLOBALS,
        MAX_LOCALS, MAX_LOCALS_TOGETHER, MAX_NESTING, MAX_OPERANDS, MAX_PARAMETERS, MAX_SEGMENTS, MAX_TABLE_ELEMENTS,
        MAX_TYPES,
    },
};

/// # Errors
///
/// All refusals, in the order of the file; at least one.
pub(super) fn walk(wasm: &[u8], kind: Kind) -> Result<Functions, Vec<Refusal>> {
    let mut walk = Walk::new(kind);
    if let Err(error) = walk.module(wasm) {
        // Whatever comes behind what is broken has no meaning.
        walk.refuse(error.into());
    }
    if walk.refusals.is_empty() { Ok(walk.functions) } else { Err(walk.refusals) }
}

struct Walk {
    kind: Kind,
    refusals: Vec<Refusal>,
    /// The function whose body is looked at.
    function: Option<u32>,
    /// What has been refused in it.
    seen: Vec<Feature>,
    functions: Functions,
    /// Parameters and declared locals of all functions.
    locals: u64,
    /// Parameters of all types.
    parameters: u64,
    /// What compiling the functions takes that are accepted each, together, and the one of most: its effort, index, offset.
    effort: u64,
    hardest: (u64, u32, u64),
    memories: Vec<u64>,
    tables: Vec<u64>,
    start: bool,
    memory: bool,
}

impl Walk {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            refusals: Vec::new(),
            function: None,
            seen: Vec::new(),
            functions: Functions::default(),
            locals: 0,
            parameters: 0,
            effort: 0,
            hardest: (0, 0, 0),
            memories: Vec::new(),
            tables: Vec::new(),
            start: false,
            memory: false,
        }
    }

    fn refuse(&mut self, reason: Error) {
        if self.refusals.len() < MOST_REFUSALS {
            let function = self.function.map(|index| Function { index, name: None });
            self.refusals.push(Refusal { function, reason });
        }
    }

    fn feature(&mut self, feature: Feature, offset: u64) {
        if self.function.is_none() || !self.seen.contains(&feature) {
            self.seen.push(feature);
            let reason = feature.name().to_owned();
            self.refuse(Error::Unsupported { offset, reason, advice: feature.advice() });
        }
    }

    fn bound(&mut self, what: &'static str, found: u64, most: u64) {
        if found > most {
            self.refuse(Error::TooMany { what, found, most });
        }
    }

    fn module(&mut self, wasm: &[u8]) -> Result<(), wasmparser::Error> {
        // Everything that is known, so that it can be named; what is broken in every version stops here.
        let mut validator = Validator::new_with_features(WasmFeatures::all());
        let mut allocations = FuncValidatorAllocations::default();
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match validator.payload(&payload)? {
                ValidPayload::Func(func, body) => allocations = self.body(func, &body, allocations)?,
                _ => self.section(&payload, validator.types(0))?,
            }
            if self.refusals.len() == MOST_REFUSALS {
                break;
            }
        }
        let (effort, index, offset) = self.hardest;
        if self.effort > MAX_EFFORT_TOGETHER {
            self.function = Some(index);
            self.refuse(Error::TooHard { offset, effort, together: self.effort });
            self.function = None;
        }
        if self.kind == Kind::Program && self.refusals.len() < MOST_REFUSALS {
            if !self.start {
                self.refuse(Error::NoStart);
            }
            if !self.memory {
                self.refuse(Error::NoMemory);
            }
        }
        Ok(())
    }

    fn section(&mut self, payload: &Payload<'_>, types: Option<TypesRef<'_>>) -> Result<(), wasmparser::Error> {
        match payload {
            Payload::TypeSection(section) => {
                self.bound("types", section.count().into(), MAX_TYPES);
                for ty in section.clone().into_iter_with_offsets() {
                    let (offset, group) = ty?;
                    self.types(&group, offset);
                }
                self.bound("parameters of all types", self.parameters, MAX_PARAMETERS);
            }
            Payload::ImportSection(section) => {
                let types = types.expect("a validated section belongs to a module");
                for import in section.clone().into_imports() {
                    let import = import?;
                    let (TypeRef::Func(index) | TypeRef::FuncExact(index)) = import.ty else {
                        self.refuse(imports::forbidden(&import));
                        continue;
                    };
                    self.functions.imported += 1;
                    let ty = types[types.core_type_at_in_module(index)].unwrap_func();
                    if self.kind == Kind::Program
                        && let Err(error) = imports::check(&import, ty)
                    {
                        self.refuse(error);
                    }
                }
            }
            Payload::FunctionSection(section) => {
                self.functions.defined = section.count();
                self.bound("functions", section.count().into(), MAX_FUNCTIONS);
            }
            Payload::TableSection(section) => {
                if section.count() > 1 {
                    self.feature(Feature::ReferenceTypes, section.range().start);
                }
                for table in section.clone() {
                    let ty = table?.ty;
                    self.tables.push(ty.initial);
                    if ty.table64 {
                        self.feature(Feature::Memory64, section.range().start);
                    }
                    if ty.shared {
                        self.feature(Feature::Threads, section.range().start);
                    }
                    if ty.initial > MAX_TABLE_ELEMENTS {
                        self.refuse(Error::TableTooLarge { elements: ty.initial });
                    }
                }
            }
            Payload::MemorySection(section) => {
                if section.count() > 1 {
                    self.feature(Feature::MultiMemory, section.range().start);
                }
                for memory in section.clone() {
                    let ty = memory?;
                    self.memories.push(ty.initial);
                    if ty.memory64 {
                        self.feature(Feature::Memory64, section.range().start);
                    }
                    if ty.shared {
                        self.feature(Feature::Threads, section.range().start);
                    }
                }
            }
            Payload::TagSection(section) => self.feature(Feature::Exceptions, section.range().start),
            Payload::GlobalSection(section) => {
                self.bound("globals", section.count().into(), MAX_GLOBALS);
                for global in section.clone() {
                    let global = global?;
                    if let Some(feature) = Feature::of_type(global.ty.content_type) {
                        self.feature(feature, section.range().start);
                    } else {
                        self.constant(&global.init_expr)?;
                    }
                }
            }
            Payload::ExportSection(section) => {
                let types = types.expect("a validated section belongs to a module");
                for export in section.clone() {
                    let export = export?;
                    match (export.name, export.kind) {
                        ("_start", ExternalKind::Func) => {
                            let ty = types[types.core_function_at(export.index)].unwrap_func();
                            self.start = ty.params().is_empty() && ty.results().is_empty();
                        }
                        ("memory", ExternalKind::Memory) => self.memory = true,
                        _ => {}
                    }
                }
            }
            Payload::StartSection { range, .. } if self.kind == Kind::Program => {
                self.refuse(Error::StartSection { offset: range.start });
            }
            Payload::ElementSection(section) => {
                self.bound("element segments", section.count().into(), MAX_SEGMENTS);
                for element in section.clone() {
                    let element = element?;
                    let len = match &element.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => {
                            for expression in expressions.clone() {
                                self.constant(&expression?)?;
                            }
                            expressions.count()
                        }
                    };
                    if let ElementKind::Active { table_index, offset_expr } = &element.kind {
                        let table = self.tables.get(table_index.unwrap_or(0) as usize).copied();
                        self.active("element", offset_expr, len.into(), table, 1)?;
                    }
                }
            }
            Payload::CodeSectionStart { size, .. } => self.bound("bytes of code", (*size).into(), MAX_CODE_BYTES),
            Payload::DataSection(section) => {
                self.bound("data segments", section.count().into(), MAX_SEGMENTS);
                for data in section.clone() {
                    let data = data?;
                    if let DataKind::Active { memory_index, offset_expr } = &data.kind {
                        let memory = self.memories.get(*memory_index as usize).copied();
                        self.active("data", offset_expr, data.data.len() as u64, memory, crate::prepare::PAGE)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn types(&mut self, group: &wasmparser::RecGroup, offset: u64) {
        if group.is_explicit_rec_group() {
            self.feature(Feature::Other("garbage collection"), offset);
        }
        for ty in group.types() {
            let wasmparser::CompositeInnerType::Func(ty) = &ty.composite_type.inner else {
                self.feature(Feature::Other("garbage collection"), offset);
                continue;
            };
            self.parameters += ty.params().len() as u64;
            if ty.results().len() > 1 {
                self.feature(Feature::MultiValue, offset);
            }
            for feature in ty.params().iter().chain(ty.results()).filter_map(|ty| Feature::of_type(*ty)) {
                self.feature(feature, offset);
            }
        }
    }

    /// An initial value: one constant.
    fn constant(&mut self, expression: &ConstExpr<'_>) -> Result<(), wasmparser::Error> {
        let mut operators = expression.get_operators_reader();
        let mut instructions = 0;
        while !operators.is_end_then_eof() {
            let (operator, offset) = operators.read_with_offset()?;
            instructions += 1;
            match operator {
                Operator::RefFunc { .. } => {}
                operator => {
                    if let Some(feature) = Feature::of(&operator) {
                        self.feature(feature, offset);
                    } else if instructions > 1 || matches!(operator, Operator::GlobalGet { .. }) {
                        self.feature(Feature::ExtendedConst, offset);
                    }
                }
            }
        }
        Ok(())
    }

    /// A segment that is copied before the program begins must fit into what that begins with.
    fn active(
        &mut self,
        what: &'static str,
        offset: &ConstExpr<'_>,
        len: u64,
        have: Option<u64>,
        unit: u64,
    ) -> Result<(), wasmparser::Error> {
        self.constant(offset)?;
        let mut operators = offset.get_operators_reader();
        let (operator, at) = operators.read_with_offset()?;
        if let (Operator::I32Const { value }, Some(have)) = (operator, have) {
            let end = u64::from(value.cast_unsigned()) + len;
            let have = have.saturating_mul(unit);
            if end > have {
                self.refuse(Error::SegmentOutside { what, offset: at, end, have });
            }
        }
        Ok(())
    }

    /// Bounds the effort of compiling one function; that of all is looked at when all are known.
    fn hard(&mut self, effort: u64, function: u32, offset: u64) {
        if effort > MAX_EFFORT {
            self.refuse(Error::TooHard { offset, effort, together: effort });
        } else {
            self.effort = self.effort.saturating_add(effort);
            self.hardest = self.hardest.max((effort, function, offset));
        }
    }

    fn body(
        &mut self,
        func: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
        allocations: FuncValidatorAllocations,
    ) -> Result<FuncValidatorAllocations, wasmparser::Error> {
        self.function = Some(func.index);
        self.seen.clear();
        self.bound("bytes of one function", body.as_bytes().len() as u64, MAX_FUNCTION_BYTES);
        let mut declared = 0;
        for run in body.get_locals_reader()? {
            let (count, ty) = run?;
            declared += u64::from(count);
            if let Some(feature) = Feature::of_type(ty) {
                self.feature(feature, body.range().start);
            }
        }
        self.bound("locals of one function", declared, MAX_LOCALS);
        if declared > MAX_LOCALS {
            // Not worth making room for.
            self.function = None;
            return Ok(allocations);
        }
        let mut func = func.into_validator(allocations);
        let mut reader = body.get_binary_reader();
        func.read_locals(&mut reader)?;
        self.locals += u64::from(func.len_locals());
        let mut operators = body.get_operators_reader()?;
        let (mut height, mut nesting, mut targets) = (0, 0, 0);
        let mut effort = Effort::default();
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            if let Some(feature) = Feature::of(&operator) {
                self.feature(feature, offset);
            }
            if let Operator::BrTable { targets: table } = &operator {
                targets = targets.max(table.len());
            }
            func.op(offset, &operator)?;
            height = height.max(func.operand_stack_height());
            nesting = nesting.max(func.control_stack_height());
            effort.next(&operator, func.operand_stack_height())?;
        }
        operators.finish()?;
        self.bound("operands at once in one function", height.into(), MAX_OPERANDS);
        self.bound("constructs within one another", nesting.into(), MAX_NESTING);
        self.bound("targets of one `br_table`", targets.into(), MAX_BR_TABLE);
        // Of features that are refused it understands nothing.
        if self.seen.is_empty() {
            self.hard(effort.of(func.len_locals()), func.index(), body.range().start);
        }
        self.function = None;
        if self.locals > MAX_LOCALS_TOGETHER {
            self.bound("locals of all functions", self.locals, MAX_LOCALS_TOGETHER);
            self.locals = 0;
        }
        Ok(func.into_allocations())
    }
}
