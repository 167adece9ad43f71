//! The layer as it was compiled: `layer.wasm`, taken apart for the merger.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::Instruction;
use wasmparser::{
    BinaryReaderError, Data, ExternalKind, FuncType, FunctionBody, Global, KnownCustom, MemoryType, Name, Operator,
    Parser, Payload, TypeRef,
};

/// Built from the C files in `layer/` by `layer/build.sh`; a test compares the two.
const LAYER: &[u8] = include_bytes!("layer.wasm");

/// What the layer exports to be called when `_start` has returned.
const FINISH: &str = "finish";

/// The variable in which the layer keeps standard error.
const LOG: &str = "task_log";

/// The layer's functions and what belongs to them.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) types: Vec<FuncType>,
    /// What it imports, by function index; the functions it defines follow.
    pub(super) imports: Vec<Imported>,
    /// Type of each function it defines.
    pub(super) functions: Vec<u32>,
    pub(super) bodies: Vec<FunctionBody<'static>>,
    pub(super) globals: Vec<Global<'static>>,
    /// Index of the global with the log's address.
    pub(super) log: u32,
    pub(super) memory: MemoryType,
    pub(super) data: Vec<Data<'static>>,
    /// Index of the function that ends a task like `proc_exit(0)`.
    pub(super) finish: u32,
    /// Functions that programs may import.
    exports: BTreeMap<&'static str, u32>,
    names: BTreeMap<u32, &'static str>,
}

/// What stands behind a function that the layer imports.
#[derive(Clone, Debug)]
pub(super) enum Imported {
    /// One of a task's four, by name, and its type.
    Task(&'static str, u32),
    /// An instruction on the program's memory.
    Guest(Instruction<'static>),
}

impl Layer {
    /// Takes the checked-in file apart.
    pub(super) fn read() -> Self {
        Self::parse(LAYER).expect("the checked-in layer is a valid module: every test that merges depends on it")
    }

    fn parse(wasm: &'static [u8]) -> Result<Self, BinaryReaderError> {
        let (mut types, mut imports, mut functions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bodies, mut globals, mut data) = (Vec::new(), Vec::new(), Vec::new());
        let (mut exports, mut names) = (BTreeMap::new(), BTreeMap::new());
        let (mut memory, mut log) = (None, None);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    types = section.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let TypeRef::Func(ty) = import.ty else { unreachable!("the layer imports functions only") };
                        imports.push(match import.module {
                            "conun" => Imported::Task(import.name, ty),
                            "guest" => Imported::Guest(instruction(import.name)),
                            other => unreachable!("the layer imports nothing from {other}"),
                        });
                    }
                }
                Payload::FunctionSection(section) => functions = section.into_iter().collect::<Result<_, _>>()?,
                Payload::MemorySection(section) => {
                    for declared in section {
                        memory = Some(declared?);
                    }
                }
                Payload::GlobalSection(section) => globals = section.into_iter().collect::<Result<_, _>>()?,
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        match export.kind {
                            ExternalKind::Func => drop(exports.insert(export.name, export.index)),
                            ExternalKind::Global if export.name == LOG => log = Some(export.index),
                            _ => {}
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => bodies.push(body),
                Payload::DataSection(section) => data = section.into_iter().collect::<Result<_, _>>()?,
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(section) = section.as_known() {
                        names = function_names(section);
                    }
                }
                Payload::ElementSection(_) => unreachable!("the layer takes no function's address"),
                _ => {}
            }
        }
        let memory = memory.expect("the layer has a memory");
        let log = log.expect("the layer keeps a log");
        let finish = exports.remove(FINISH).expect("the layer ends tasks");
        Ok(Self { types, imports, functions, bodies, globals, log, memory, data, finish, exports, names })
    }

    /// The function behind a WASI function, by its name.
    pub(super) fn export(&self, name: &str) -> Option<u32> {
        self.exports.get(name).copied()
    }

    /// A function's name in its source.
    pub(super) fn name(&self, function: u32) -> Option<&'static str> {
        self.names.get(&function).copied()
    }

    /// All functions that can be called from these, imported ones too.
    pub(super) fn reachable(&self, roots: &BTreeSet<u32>) -> Result<BTreeSet<u32>, BinaryReaderError> {
        let mut found = roots.clone();
        let mut open: Vec<u32> = roots.iter().copied().collect();
        while let Some(function) = open.pop() {
            let Some(defined) = (function as usize).checked_sub(self.imports.len()) else { continue };
            for operator in self.bodies[defined].get_operators_reader()? {
                if let Operator::Call { function_index } = operator?
                    && found.insert(function_index)
                {
                    open.push(function_index);
                }
            }
        }
        Ok(found)
    }
}

/// Names of functions; those that are unreadable are nobody's loss.
pub(super) fn function_names(section: wasmparser::NameSectionReader<'_>) -> BTreeMap<u32, &str> {
    let functions = section.into_iter().flatten().filter_map(|name| match name {
        Name::Function(names) => Some(names),
        _ => None,
    });
    functions.flatten().flatten().map(|naming| (naming.index, naming.name)).collect()
}

/// What a call of a function in the module `guest` means: see `layer/guest.h`.
fn instruction(name: &str) -> Instruction<'static> {
    let at = wasm_encoder::MemArg { offset: 0, align: 0, memory_index: super::PROGRAM_MEMORY };
    match name {
        "size" => Instruction::MemorySize(super::PROGRAM_MEMORY),
        "load8" => Instruction::I32Load8U(at),
        "load32" => Instruction::I32Load(at),
        "load64" => Instruction::I64Load(at),
        "store8" => Instruction::I32Store8(at),
        "store16" => Instruction::I32Store16(at),
        "store32" => Instruction::I32Store(at),
        "store64" => Instruction::I64Store(at),
        "fill" => Instruction::MemoryFill(super::PROGRAM_MEMORY),
        "copy_in" => Instruction::MemoryCopy { src_mem: super::PROGRAM_MEMORY, dst_mem: super::LAYER_MEMORY },
        "copy_out" => Instruction::MemoryCopy { src_mem: super::LAYER_MEMORY, dst_mem: super::PROGRAM_MEMORY },
        other => unreachable!("the layer has no instruction {other}"),
    }
}
