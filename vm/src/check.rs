//! What is accepted as a program: one pass over the module, before anything is compiled.

use wasmer::wasmparser::{
    BinaryReaderError, ExternalKind, FuncType, FuncValidatorAllocations, Import, Operator, Parser, Payload, TypeRef,
    ValType, ValidPayload, Validator, WasmFeatures,
};

use crate::{
    error::Error,
    limits::{MAX_PROGRAM_BYTES, MAX_TABLE_ELEMENTS},
    wasi::{self, MODULE, Signature},
};

/// WebAssembly as of 2017 and what every tool chain now emits on top of it without being asked.
///
/// The overlong form of `call_indirect`'s table index is what LLVM 19 and later write; it means the same.
const FEATURES: WasmFeatures = WasmFeatures::MVP
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::CALL_INDIRECT_OVERLONG);

/// What compiling and executing need to know of an accepted module.
#[derive(Debug)]
pub(crate) struct Analysis {
    /// Values that each of the module's own functions may hold at once: parameters, locals, operands.
    pub(crate) frames: Vec<u32>,
    /// Functions imported; they come first in the index space.
    pub(crate) imported: u32,
    /// Memory at the beginning, in pages of 64 KiB.
    pub(crate) min_pages: u64,
}

/// Whether a file is a program that providers accept. Compiles nothing; linear in the file's length.
///
/// Accepted is a core module of at most [`MAX_PROGRAM_BYTES`] that exports `_start` and `memory`, imports functions of
/// `wasi_snapshot_preview1` only, and uses no more than mutable globals, sign extension, saturating conversions and
/// bulk memory operations beyond WebAssembly 1.0.
///
/// # Errors
///
/// The first reason found to refuse it, with what to change.
pub fn check(wasm: &[u8]) -> Result<(), Error> {
    analyse(wasm).map(drop)
}

pub(crate) fn analyse(wasm: &[u8]) -> Result<Analysis, Error> {
    header(wasm)?;
    walk(wasm).map_err(|refusal| match refusal {
        Refusal::Reason(error) => error,
        Refusal::Malformed(error) => explain(wasm, &error),
    })
}

/// Tells what a file is by its first bytes, so that the commonest mistakes get the clearest answer.
fn header(wasm: &[u8]) -> Result<(), Error> {
    if wasm.len() > MAX_PROGRAM_BYTES {
        return Err(Error::TooBig { len: wasm.len() });
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Err(Error::Component),
        _ => {
            let text = wasm.trim_ascii_start();
            let is_text = text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;");
            Err(if is_text { Error::Text } else { Error::NotWasm })
        }
    }
}

enum Refusal {
    Reason(Error),
    Malformed(BinaryReaderError),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Reason(error)
    }
}

impl From<BinaryReaderError> for Refusal {
    fn from(error: BinaryReaderError) -> Self {
        Self::Malformed(error)
    }
}

fn walk(wasm: &[u8]) -> Result<Analysis, Refusal> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut allocations = FuncValidatorAllocations::default();
    let mut analysis = Analysis { frames: Vec::new(), imported: 0, min_pages: 0 };
    let (mut start, mut memory) = (false, false);

    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        let types = validator.types(0);
        match &payload {
            Payload::ImportSection(imports) => {
                let types = types.expect("a validated section belongs to a module");
                for import in imports.clone().into_imports() {
                    let import = import?;
                    let TypeRef::Func(index) = import.ty else {
                        return Err(forbidden(&import).into());
                    };
                    let ty = types[types.core_type_at_in_module(index)].unwrap_func();
                    check_import(&import, ty)?;
                    analysis.imported += 1;
                }
            }
            Payload::TableSection(tables) => {
                for table in tables.clone() {
                    let elements = table?.ty.initial;
                    if elements > MAX_TABLE_ELEMENTS {
                        return Err(Error::TableTooLarge { elements }.into());
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories.clone() {
                    analysis.min_pages = memory?.initial;
                }
            }
            Payload::ExportSection(exports) => {
                let types = types.expect("a validated section belongs to a module");
                for export in exports.clone() {
                    let export = export?;
                    match (export.name, export.kind) {
                        ("_start", ExternalKind::Func) => {
                            let ty = types[types.core_function_at(export.index)].unwrap_func();
                            start = ty.params().is_empty() && ty.results().is_empty();
                        }
                        ("memory", ExternalKind::Memory) => memory = true,
                        _ => {}
                    }
                }
            }
            Payload::StartSection { range, .. } => return Err(Error::StartSection { offset: range.start }.into()),
            _ => {}
        }
        if let ValidPayload::Func(func, body) = valid {
            let mut func = func.into_validator(std::mem::take(&mut allocations));
            let mut operators = body.get_binary_reader();
            func.read_locals(&mut operators)?;
            let mut operators = body.get_operators_reader()?;
            let mut height = 0;
            while !operators.eof() {
                let (operator, offset) = operators.read_with_offset()?;
                refuse_operator(&operator, offset)?;
                func.op(offset, &operator)?;
                height = height.max(func.operand_stack_height());
            }
            operators.finish()?;
            analysis.frames.push(func.len_locals().saturating_add(height));
            allocations = func.into_allocations();
        }
    }
    match (start, memory) {
        (false, _) => Err(Error::NoStart.into()),
        (_, false) => Err(Error::NoMemory.into()),
        _ => Ok(analysis),
    }
}

fn check_import(import: &Import<'_>, ty: &FuncType) -> Result<(), Error> {
    if import.module != MODULE {
        return Err(forbidden(import));
    }
    let Some((name, expected)) = wasi::signature(import.name) else {
        return Err(forbidden(import));
    };
    let found = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let found = Signature { params: found(ty.params()), results: found(ty.results()) };
    if found == expected {
        Ok(())
    } else {
        Err(Error::ImportType { name, found: found.to_string(), expected: expected.to_string() })
    }
}

fn forbidden(import: &Import<'_>) -> Error {
    // Names come from a stranger and end up on terminals.
    let show = |name: &str| name.chars().take(64).flat_map(char::escape_default).collect();
    Error::ForbiddenImport { module: show(import.module), name: show(import.name) }
}

/// Operators that validation lets through with the accepted features, but that the profile leaves out.
fn refuse_operator(operator: &Operator<'_>, offset: u64) -> Result<(), Error> {
    let name = match operator {
        Operator::TableInit { .. } => "table.init",
        Operator::TableCopy { .. } => "table.copy",
        Operator::ElemDrop { .. } => "elem.drop",
        _ => return Ok(()),
    };
    Err(Error::Unsupported {
        offset,
        reason: format!("`{name}` changes a table while the program runs"),
        advice: "link statically, without dynamic loading of code",
    })
}

/// Decides whether a module is broken, or good WebAssembly beyond the profile.
fn explain(wasm: &[u8], error: &BinaryReaderError) -> Error {
    let (offset, reason) = (error.offset(), error.message().to_owned());
    let elsewhere = Validator::new_with_features(WasmFeatures::default()).validate_all(wasm).err();
    if elsewhere.is_some_and(|other| other.offset() <= offset) {
        Error::Invalid { offset, reason }
    } else {
        let advice = advice(&reason.to_ascii_lowercase());
        Error::Unsupported { offset, reason, advice }
    }
}

fn advice(reason: &str) -> &'static str {
    const RULES: [(&str, &str); 9] = [
        ("simd", "build without `-msimd128` and `-mrelaxed-simd` (Rust: `-C target-feature=-simd128`)"),
        ("thread", "build without `-pthread` and `-matomics`: a task has one thread"),
        ("shared", "build without `-pthread` and `-matomics`: a task has one thread"),
        ("atomic", "build without `-pthread` and `-matomics`: a task has one thread"),
        ("exception", "build with `-fno-exceptions` and without `-fwasm-exceptions`"),
        ("tail call", "build without `-mtail-call`"),
        ("memory64", "build for `wasm32`, not `wasm64`"),
        ("multi-value", "build without `-mmultivalue` and `-Xclang -target-abi -Xclang experimental-mv`"),
        ("reference types", "build without `-mreference-types`"),
    ];
    let found = RULES.iter().find(|(word, _)| reason.contains(word));
    found.map_or("build for plain wasm32 (`-mcpu=lime1` or `-mcpu=mvp` in clang and zig)", |(_, advice)| advice)
}
