//! The merger: a program that imports WASI functions becomes one that has them.
//!
//! Order of functions: imports, the program's functions, those of the layer that it can reach, and a new `_start` that
//! ends a task properly when the program's returns. Indices of types, globals, data segments and of the table stay what they
//! were; the layer's follow. The program's memory stays memory 0, so that no instruction of it can name the layer's.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
};

use wasm_encoder::{
    CodeSection, DataCountSection, DataSection, ElementSection, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, ImportSection, Instruction, MemorySection, Module, NameMap, NameSection,
    TableSection, TypeSection,
    reencode::{self, Reencode, RoundtripReencoder},
};
use wasmparser::{FuncType, KnownCustom, Operator, Parser, Payload};

use super::{
    LAYER_MEMORY, MODULE, PROGRAM_MEMORY,
    layer::{Imported, Layer, function_names},
};
use crate::error::Error;

/// The module of a task's four imports.
const TASK: &str = "conun";

/// Makes a checked program one that imports nothing but functions of `conun`. One that does so already stays as it is.
///
/// What remains of its exports is `_start` and `memory`; added are the layer's memory, `system`, and the address of what it
/// wrote to standard error, `log`. Of custom sections, names of functions remain. Linear in the program's length.
///
/// # Errors
///
/// [`Error::Invalid`] for what [`check`](crate::check()) would have refused.
pub fn merge(program: &[u8]) -> Result<Vec<u8>, Error> {
    let survey = Survey::read(program)?;
    if survey.imports.iter().all(|import| import.module == TASK) {
        return Ok(program.to_vec());
    }
    let layer = Layer::read();
    let plan = Plan::new(&survey, &layer)?;
    Sections::default().write(program, &survey, &layer, &plan)
}

/// What has to be known of a program before its sections are written.
#[derive(Debug, Default)]
struct Survey<'a> {
    types: Vec<FuncType>,
    imports: Vec<wasmparser::Import<'a>>,
    functions: u32,
    globals: u32,
    start: u32,
    names: BTreeMap<u32, &'a str>,
}

impl<'a> Survey<'a> {
    fn read(program: &'a [u8]) -> Result<Self, Error> {
        let mut survey = Self::default();
        for payload in Parser::new(0).parse_all(program) {
            match payload? {
                Payload::TypeSection(types) => {
                    survey.types = types.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(imports) => {
                    survey.imports = imports.into_imports().collect::<Result<_, _>>()?;
                }
                Payload::FunctionSection(functions) => survey.functions = functions.count(),
                Payload::GlobalSection(globals) => survey.globals = globals.count(),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.name == "_start" {
                            survey.start = export.index;
                        }
                    }
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(section) = section.as_known() {
                        survey.names = function_names(section);
                    }
                }
                _ => {}
            }
        }
        Ok(survey)
    }
}

/// Where everything goes.
#[derive(Debug)]
struct Plan {
    /// Functions of `conun` that remain imported, with their index among the layer's types.
    imports: Vec<(&'static str, u32)>,
    /// The layer's functions that are taken, by their index in the layer.
    taken: Vec<u32>,
    /// Types behind the program's.
    types: Vec<FuncType>,
    /// New index of each type of the layer.
    layer_types: Vec<u32>,
    /// New index of each function of the program, and of each of the layer that is taken or imported.
    program_functions: Vec<u32>,
    layer_functions: BTreeMap<u32, u32>,
    /// Type of the new `_start`, and its index.
    start_type: u32,
    start: u32,
}

impl Plan {
    fn new(survey: &Survey<'_>, layer: &Layer) -> Result<Self, Error> {
        let served = survey.imports.iter().map(|import| serve(layer, import)).collect::<Result<Vec<_>, _>>()?;
        let roots: BTreeSet<u32> = served.iter().copied().chain([layer.finish]).collect();
        let reachable = layer.reachable(&roots)?;
        let mut imports = Vec::new();
        let mut layer_functions = BTreeMap::new();
        for (index, import) in (0..).zip(&layer.imports) {
            if let Imported::Task(name, ty) = import
                && reachable.contains(&index)
            {
                layer_functions.insert(index, count(imports.len()));
                imports.push((*name, *ty));
            }
        }
        let first_defined = count(layer.imports.len());
        let taken: Vec<u32> = reachable.range(first_defined..).copied().collect();
        let first_taken = count(imports.len()) + survey.functions;
        layer_functions.extend(taken.iter().copied().zip(first_taken..));

        let mut types = Vec::new();
        let mut place = |ty: &FuncType| {
            let known = survey.types.iter().chain(&types).position(|known| known == ty);
            count(known.unwrap_or_else(|| {
                types.push(ty.clone());
                survey.types.len() + types.len() - 1
            }))
        };
        let layer_types = layer.types.iter().map(&mut place).collect();
        let start_type = place(&FuncType::new([], []));
        let program_functions =
            served.iter().map(|served| layer_functions[served]).chain(count(imports.len())..first_taken).collect();
        let start = first_taken + count(taken.len());
        Ok(Self { imports, taken, types, layer_types, program_functions, layer_functions, start_type, start })
    }
}

/// The layer's function that a program gets for what it imports.
fn serve(layer: &Layer, import: &wasmparser::Import<'_>) -> Result<u32, Error> {
    let own = format!("{TASK}.{}", import.name);
    let name = if import.module == MODULE { import.name } else { &own };
    layer
        .export(name)
        .ok_or_else(|| Error::Invalid { offset: 0, reason: format!("no task has `{}`", name.escape_debug()) })
}

/// Writes the program's sections with its functions at their new places.
struct ProgramWriter<'a>(&'a Plan);

impl Reencode for ProgramWriter<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        let new = self.0.program_functions.get(function as usize);
        new.copied().ok_or(reencode::Error::InvalidConstExpr)
    }
}

/// Writes the layer's sections behind them.
struct LayerWriter<'a> {
    plan: &'a Plan,
    layer: &'a Layer,
    first_global: u32,
}

impl Reencode for LayerWriter<'_> {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        Ok(self.plan.layer_functions[&function])
    }

    fn type_index(&mut self, ty: u32) -> Result<u32, reencode::Error> {
        Ok(self.plan.layer_types[ty as usize])
    }

    fn global_index(&mut self, global: u32) -> Result<u32, reencode::Error> {
        Ok(self.first_global + global)
    }

    fn memory_index(&mut self, _memory: u32) -> Result<u32, reencode::Error> {
        Ok(LAYER_MEMORY)
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, reencode::Error> {
        if let Operator::Call { function_index } = operator
            && let Some(Imported::Guest(instruction)) = self.layer.imports.get(function_index as usize)
        {
            return Ok(instruction.clone());
        }
        reencode::utils::instruction(self, operator)
    }
}

/// All sections of the new module, filled by the program first and by the layer then.
#[derive(Default)]
struct Sections {
    types: TypeSection,
    imports: ImportSection,
    functions: FunctionSection,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    exports: ExportSection,
    elements: ElementSection,
    data_count: Option<u32>,
    code: CodeSection,
    data: DataSection,
}

impl Sections {
    fn write(mut self, program: &[u8], survey: &Survey<'_>, layer: &Layer, plan: &Plan) -> Result<Vec<u8>, Error> {
        for (name, ty) in &plan.imports {
            self.imports.import(TASK, name, EntityType::Function(plan.layer_types[*ty as usize]));
        }
        self.program(program, plan)?;
        self.layer(survey, layer, plan)?;
        Ok(self.assemble(&names(survey, layer, plan)))
    }

    fn program(&mut self, program: &[u8], plan: &Plan) -> Result<(), Error> {
        let mut writer = ProgramWriter(plan);
        for payload in Parser::new(0).parse_all(program) {
            match payload? {
                Payload::TypeSection(section) => writer.parse_type_section(&mut self.types, section)?,
                Payload::FunctionSection(section) => writer.parse_function_section(&mut self.functions, section)?,
                Payload::TableSection(section) => writer.parse_table_section(&mut self.tables, section)?,
                Payload::MemorySection(section) => writer.parse_memory_section(&mut self.memories, section)?,
                Payload::GlobalSection(section) => writer.parse_global_section(&mut self.globals, section)?,
                Payload::ElementSection(section) => writer.parse_element_section(&mut self.elements, section)?,
                Payload::DataCountSection { count, .. } => self.data_count = Some(count),
                Payload::CodeSectionEntry(body) => writer.parse_function_body(&mut self.code, body)?,
                Payload::DataSection(section) => writer.parse_data_section(&mut self.data, section)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn layer(&mut self, survey: &Survey<'_>, layer: &Layer, plan: &Plan) -> Result<(), Error> {
        let mut writer = LayerWriter { plan, layer, first_global: survey.globals };
        for ty in &plan.types {
            self.types.ty().func_type(&RoundtripReencoder.func_type(ty.clone())?);
        }
        for index in &plan.taken {
            let defined = *index as usize - layer.imports.len();
            self.functions.function(plan.layer_types[layer.functions[defined] as usize]);
            writer.parse_function_body(&mut self.code, layer.bodies[defined].clone())?;
        }
        self.memories.memory(writer.memory_type(layer.memory)?);
        for global in &layer.globals {
            writer.parse_global(&mut self.globals, global.clone())?;
        }
        for data in &layer.data {
            writer.parse_data(&mut self.data, data.clone())?;
        }
        self.data_count = self.data_count.map(|count| count + layer.data.len() as u32);

        self.functions.function(plan.start_type);
        let mut start = Function::new([]);
        start.instruction(&Instruction::Call(plan.program_functions[survey.start as usize]));
        start.instruction(&Instruction::Call(plan.layer_functions[&layer.finish]));
        start.instruction(&Instruction::End);
        self.code.function(&start);
        self.exports.export("_start", ExportKind::Func, plan.start);
        self.exports.export(crate::MEMORY, ExportKind::Memory, PROGRAM_MEMORY);
        self.exports.export(crate::SYSTEM, ExportKind::Memory, LAYER_MEMORY);
        self.exports.export(crate::LOG, ExportKind::Global, survey.globals + layer.log);
        Ok(())
    }

    fn assemble(&self, names: &NameSection) -> Vec<u8> {
        let mut module = Module::new();
        module.section(&self.types).section(&self.imports).section(&self.functions);
        if !self.tables.is_empty() {
            module.section(&self.tables);
        }
        module.section(&self.memories).section(&self.globals).section(&self.exports);
        if !self.elements.is_empty() {
            module.section(&self.elements);
        }
        if let Some(count) = self.data_count {
            module.section(&DataCountSection { count });
        }
        module.section(&self.code).section(&self.data).section(names);
        module.finish()
    }
}

/// Names of all functions that have one: the program's, and the layer's as its source calls them.
fn names(survey: &Survey<'_>, layer: &Layer, plan: &Plan) -> NameSection {
    let imported = survey.imports.len();
    let program = survey.names.iter().filter(|(old, _)| **old as usize >= imported);
    let mut all: BTreeMap<u32, &str> =
        program.filter_map(|(old, name)| Some((*plan.program_functions.get(*old as usize)?, *name))).collect();
    all.extend(plan.taken.iter().filter_map(|old| Some((plan.layer_functions[old], layer.name(*old)?))));
    let mut functions = NameMap::new();
    for (index, name) in all {
        functions.append(index, name);
    }
    let mut section = NameSection::new();
    section.functions(&functions);
    section
}

/// An index space's size: what the checked program and the layer have is far below 2^32.
fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a checked module has fewer than 2^32 items")
}
